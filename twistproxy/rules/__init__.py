"""
The rules of HTTP that a proxy lives by, as pure functions over values: no reactor, no I/O, no state.
"""
