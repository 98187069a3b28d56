"""
The rules that a proxy lives by, most of them those of HTTP, as pure functions over values: no reactor, no I/O, no
state.
"""
