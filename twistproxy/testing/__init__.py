# -*- test-case-name: tests.test_testing -*-
"""
For the tests of whoever builds on this package, and for our own: a whole proxy in memory, without a socket or
a sleep.

Begin with L{MemoryProxy}: it connects L{MemoryClient}s to a proxy and the proxy to L{ScriptedUpstream}s, over
L{MemoryTransport}s that stall, break or crawl at the byte that a test chooses, under a clock that a test moves.
L{FaultyTransport} does the like to a proxy that runs: it wraps any transport.

Nothing here needs a test runner.
"""

from twistproxy.testing.faults import FaultyTransport
from twistproxy.testing.memory import MemoryTransport
from twistproxy.testing.messages import Message, MessageReader, httpRequest, httpResponse
from twistproxy.testing.network import LiveTimer, MemoryNetwork
from twistproxy.testing.proxy import MemoryClient, MemoryProxy
from twistproxy.testing.streams import MemoryStream
from twistproxy.testing.upstream import ScriptedUpstream, echo

__all__ = [
    "FaultyTransport",
    "LiveTimer",
    "MemoryClient",
    "MemoryNetwork",
    "MemoryProxy",
    "MemoryStream",
    "MemoryTransport",
    "Message",
    "MessageReader",
    "ScriptedUpstream",
    "echo",
    "httpRequest",
    "httpResponse",
]
