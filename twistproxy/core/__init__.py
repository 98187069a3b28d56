"""
The heart: one exchange, the twelve steps it is taken through, and what becomes of it after a 101.

L{twistproxy.core.proxy} is the steps, read it first.  L{twistproxy.core.exchange} is what they are taken for, and
L{twistproxy.core.flowdriver} what takes it from one to the next.
"""
