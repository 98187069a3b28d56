"""
The heart: one exchange, the twelve steps it is taken through, and what becomes of it after a 101.
"""
