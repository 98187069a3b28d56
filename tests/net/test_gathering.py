"""
What is written in a batch of events is sent at its end, in order, and nothing of it is lost on the way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.hubs import Turns, arrived
from twistproxy.net.hub import BATCH, Hub
from twistproxy.net.output import HELD
from twistproxy.net.transport import SocketTransport

Reaction = Callable[[bytes], Any]


class End(Protocol):
    """One end of a socket pair on a hub; C{react} is what its protocol does with what it reads."""

    transport: Any

    def __init__(self, hub: Hub, react: Reaction) -> None:
        self.react = react
        self.hub = hub
        self.lost: list[Any] = []
        ours, self.other = socket.socketpair()
        for each in (ours, self.other):
            each.setblocking(False)
        self.sends: list[int] = []
        transport = SocketTransport(hub, ours, UNIXAddress(None), self)
        hub.add(ours.fileno(), transport)
        send = transport._send
        transport._send = lambda data: (self.sends.append(len(data)), send(data))[1]
        self.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.react(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.type)

    def arrived(self) -> bytes:
        """@return: what the peer has got by now; C{b"EOF"} behind it if that is all."""
        return arrived(self.other)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub whose reactor does nothing by itself."""
    if not Hub.available():
        pytest.skip("no epoll on this platform")
    hub = Hub(Turns())
    hub.ends = []  # type: ignore[attr-defined]
    yield hub
    hub.connectionLost(Failure(ConnectionError()))
    for end in hub.ends:  # type: ignore[attr-defined]
        end.other.close()


@pytest.fixture
def connect(hub: Hub) -> Callable[[Reaction], End]:
    """Makes ends."""

    def make(react: Reaction = lambda data: None) -> End:
        end = End(hub, react)
        hub.ends.append(end)  # type: ignore[attr-defined]
        return end

    return make


def test_sentTogether(hub: Hub, connect: Any) -> None:
    """Whoever reads later in a batch does so before anything that was written in it is sent; then all of it is."""
    seen: list[bytes] = []
    ends: list[End] = []

    def react(data: bytes) -> None:
        seen.extend(end.arrived() for end in ends)
        for end in ends:
            end.transport.write(data)

    ends += [connect(react), connect(react)]
    for end in ends:
        end.other.send(b"x")
    hub.doRead()
    assert seen == [b""] * 4
    assert [end.arrived() for end in ends] == [b"xx", b"xx"]
    assert [end.sends for end in ends] == [[2], [2]]


def test_outsideOfEvents(hub: Hub, connect: Any) -> None:
    """What is written at any other time is sent at once."""
    end = connect()
    end.transport.write(b"now")
    assert end.arrived() == b"now"


@pytest.mark.parametrize("sizes", [(HELD, 1), (1, HELD), (HELD + 1,), (1, HELD + 1, 1), (3, HELD * 20, HELD, 5)])
def test_many(hub: Hub, connect: Any, sizes: tuple[int, ...]) -> None:
    """No more than a few bytes of each connection wait, and all bytes keep their order."""
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]

    def react(data: bytes) -> None:
        for piece in pieces:
            end.transport.write(piece)
            assert len(end.transport._held or b"") <= HELD

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    got = end.arrived()
    while len(got) < sum(sizes):
        hub.doRead()
        got += end.arrived()
    assert got == b"".join(pieces)


def test_listedOnce(hub: Hub, connect: Any) -> None:
    """A connection that is written to byte by byte stands in the hub's list once, not once for each byte."""
    listed: list[int] = []

    def react(data: bytes) -> None:
        for _ in range(1000):
            end.transport.write(b"y")
        listed.append(len(hub._held))

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    assert listed == [1]
    assert (end.arrived(), end.sends) == (b"y" * 1000, [1000])


def test_changedAfterwards(hub: Hub, connect: Any) -> None:
    """Bytes that can be changed are taken as they were when they were written."""

    def react(data: bytes) -> None:
        buffer = bytearray(b"before")
        end.transport.write(buffer)
        buffer[:] = b"behind"

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    assert end.arrived() == b"before"


@pytest.mark.parametrize("close", ["loseConnection", "loseWriteConnection"])
def test_closing(hub: Hub, connect: Any, close: str) -> None:
    """What was written before closing arrives before the end."""

    def react(data: bytes) -> None:
        end.transport.write(b"last")
        getattr(end.transport, close)()

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    assert end.arrived() == b"lastEOF"


def test_failing(hub: Hub, connect: Any, loggedErrors: list[Any]) -> None:
    """What was written before a protocol failed arrives, as it would without any waiting."""

    def react(data: bytes) -> None:
        end.transport.write(b"last")
        raise ZeroDivisionError

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    assert end.arrived() == b"lastEOF"
    assert end.lost == [ZeroDivisionError]
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()


def test_aborting(hub: Hub, connect: Any) -> None:
    """Aborting loses nothing that would have been sent before it without any waiting."""

    def react(data: bytes) -> None:
        end.transport.write(b"last")
        end.transport.abortConnection()

    end = connect(react)
    end.other.send(b"x")
    hub.doRead()
    assert end.arrived() == b"lastEOF"


def test_gone(hub: Hub, connect: Any) -> None:
    """A peer that has gone by the end of the batch costs its own connection, and no other."""

    def react(data: bytes) -> None:
        for end in (one, two):
            end.transport.write(b"x")
        one.other.close()

    one, two = connect(react), connect(react)
    two.other.send(b"x")
    hub.doRead()
    hub.doRead()
    assert [end.lost != [] for end in (one, two)] == [True, False]
    assert two.arrived() == b"x"


def test_producer(hub: Hub, connect: Any) -> None:
    """A producer that is asked for more while a batch is sent is heard, and what it writes then is sent as well."""

    class Pull:
        asked = 0

        def resumeProducing(self) -> None:
            self.asked += 1
            end.transport.write(b"%d" % self.asked)
            if self.asked == 3:
                end.transport.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    def react(data: bytes) -> None:
        end.transport.write(b"first ")
        end.transport.registerProducer(Pull(), False)

    end = connect(react)
    end.other.send(b"x")
    for _ in range(4):
        hub.doRead()
    assert end.arrived() == b"first 123"


def test_bounded(hub: Hub, connect: Any) -> None:
    """However many have something to read, an answer waits for no more than a batch of others."""
    heads: list[int] = []

    def react(data: bytes) -> None:
        heads.append(len(hub._held))
        ends[len(heads) - 1].transport.write(data)

    ends = [connect(react) for _ in range(BATCH + 5)]
    for end in ends:
        end.other.send(b"x")
    hub.doRead()
    hub.doRead()
    assert len(heads) == BATCH + 5
    assert max(heads) == BATCH - 1
