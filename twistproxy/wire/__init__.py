"""
Bytes to messages and back: HTTP/1.1, both sides.  Protocols without sockets of their own; they run on any Twisted byte
transport.
"""
