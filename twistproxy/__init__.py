"""
twistproxy: a reverse-proxy framework for Twisted.
"""
