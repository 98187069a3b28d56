# -*- test-case-name: tests.net.test_relay -*-
"""
The short way through a tunnel, for messages that are small and many (WebSocket).

Between the event that says that a message came and the call that sends it on there is nothing to decide, as long as
nothing is unusual: the event says no more than that, the message fits into one small read, and the other side has
nothing unsent.  Then a L{Relay}, which takes its transport's place on the hub, reads it and leaves it with the other
transport, whose turn to send comes at the end of the batch.  Of thousands of tunnels hardly anything stays in the
processor's caches from one message to the next, so what counts is how many objects each message touches: this way a
sixth less time is spent on one than by the transports' own (measured with a thousand).

In every other case the transport gets the event, as if no relay was there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from twistproxy.net.hub import EPOLLIN, EPOLLOUT, HubSocket

if TYPE_CHECKING:
    from twistproxy.net.transport import SocketTransport

#: The largest message that goes the short way is a byte smaller, in bytes.  A read of a few pages would leave holes in
#: the heap behind it.
SMALL_READ = 2048

# Bytes came, there is room to send as almost always, and nobody hung up.
_ONLY_INPUT = EPOLLIN | EPOLLOUT


class IDirection(Protocol):
    """
    One direction of a tunnel, as its transport sees it.

    @ivar passed: the bytes that have gone this way; a relay adds to it.
    @ivar moved: to be called whenever some did, or C{None}.
    """

    passed: int
    moved: Callable[[], None] | None

    def write(self, data: bytes) -> None:
        """
        Count C{data} and send it on.
        """


class Relay(HubSocket):
    """
    Takes a transport's place on the hub while a tunnel goes through it.
    """

    __slots__ = ("_direction", "_hold", "_peer", "_recv", "_transport")

    def __init__(self, transport: SocketTransport, peer: SocketTransport, direction: IDirection) -> None:
        """
        @param transport: whose events these are.
        @param peer: where its bytes go, on the same hub.
        @param direction: is told how many they were.
        """
        super().__init__()
        self._transport = transport
        self._peer = peer
        self._direction = direction
        self._recv = transport._recv
        self._hold = transport._hub.hold

    def __repr__(self) -> str:
        return f"<Relay from {self._transport} to {self._peer}>"

    def socketEvent(self, events: int) -> None:
        """
        See L{HubSocket.socketEvent}.
        """
        transport, peer = self._transport, self._peer
        if (
            events != _ONLY_INPUT
            or peer._unsent is not None
            or peer._held is not None
            or transport._unsent is not None
            or not transport._reading
        ):
            transport.socketEvent(events)
            return
        try:
            data = self._recv(SMALL_READ)
        except BlockingIOError:
            return
        except OSError:
            transport._lose(ConnectionLost())
            return
        if not data:
            transport._endOfInput()
            return
        direction = self._direction
        if len(data) == SMALL_READ:
            transport._readable = True
            direction.write(data)
            if transport._reading:
                transport._readOn()
            return
        direction.passed += len(data)
        if direction.moved is not None:
            direction.moved()
        peer._held = data
        self._hold(peer)

    def crashed(self, reason: Failure) -> None:
        """
        See L{HubSocket.crashed}.
        """
        self._transport.crashed(reason)

    def hubLost(self, reason: Failure) -> None:
        """
        See L{HubSocket.hubLost}.
        """
        self._transport.hubLost(reason)
