# -*- test-case-name: tests.net.test_relay -*-
"""
The short way through a tunnel, for messages that are small and many (WebSocket).

Between the event that says that a message came and the call that sends it on there is nothing to decide, as long as
nothing is unusual: the event says no more than that, the message fits into one small read, and the other side has
nothing unsent.  Of thousands of tunnels hardly anything stays in the processor's caches from one message to the next,
so what counts is how much memory each message touches, and how many calls of Python are made for it.  So a hub keeps a
table of ways: for the number of a socket whose messages may go the short way, the direction of the tunnel that they
go.  Such sockets are read in one row, and what they brought is sent in another.

In every other case the transport gets the event, as if there was no such way: it closes the way when something unusual
begins, and opens it again when that is over (L{SocketTransport.divert
<twistproxy.net.transport.SocketTransport.divert>}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import read, write
from typing import Any, Protocol

#: The largest message that goes the short way is a byte smaller, in bytes.  A read of a few pages would leave holes in
#: the heap behind it.
SMALL_READ = 2048


class IDirection(Protocol):
    """
    One direction of a tunnel, as its transport sees it.

    @ivar passed: the bytes that have gone this way.
    @ivar moved: to be called whenever some did, or C{None}.
    @ivar to: the number of the socket that they go to, while the short way is open.
    """

    passed: int
    moved: Callable[[], None] | None
    to: int

    def write(self, data: bytes) -> None:
        """
        Count C{data} and send it on.
        """


def relay(
    numbers: Sequence[int], ways: Sequence[IDirection | None], sockets: Sequence[Any], failed: Callable[[Any], None]
) -> None:
    """
    Pass on what has come.

    @param numbers: of the sockets on which something did, and nothing else happened.
    @param ways: by number; C{None} for one whose way was closed meanwhile.
    @param sockets: by number, the transports.
    @param failed: called with a transport for which something raised, while that is being handled.
    """
    messages = []
    for number in numbers:
        try:
            way = ways[number]
            if way is None:
                if sockets[number] is not None:
                    sockets[number].inputCame()
                continue
            try:
                data = read(number, SMALL_READ)
            except BlockingIOError:
                continue
            except OSError:
                sockets[number].readFailed()
                continue
            size = len(data)
            if 0 < size < SMALL_READ:
                way.passed += size
                if way.moved is not None:
                    way.moved()
                messages.append((way.to, data))
            else:
                sockets[number].wasRead(data)
        except BaseException:
            failed(sockets[number])
    for number, data in messages:
        try:
            try:
                sent = write(number, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sockets[number].sendingFailed()
                continue
            if sent != len(data):
                sockets[number].sentInPart(data, sent)
        except BaseException:
            failed(sockets[number])
