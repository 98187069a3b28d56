"""
Serving: a factory for listening ports, and how one goes down without losing anything.
"""
