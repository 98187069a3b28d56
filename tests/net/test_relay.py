"""
Small messages of a tunnel take a short way; nothing that happens on it may differ from the long one.

Each test runs on both: with two transports of one hub, between which the way is open, and with two of different hubs,
between which there is none.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.hubs import Turns, arrived
from twistproxy.net.hub import BATCH, TUNNEL_BATCH, Hub, HubSocket
from twistproxy.net.relay import SMALL_READ, relay
from twistproxy.net.transport import SocketTransport


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One side of a tunnel: a transport, and the peer at the other end of its socket."""

    transport: Any

    def __init__(self, hub: Hub) -> None:
        self.told: list[Any] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        listener.close()
        ours.setblocking(False)
        self.peer.setblocking(False)
        transport = SocketTransport(hub, ours, UNIXAddress(None), self)
        hub.add(ours.fileno(), transport)
        self.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    def readConnectionLost(self) -> None:
        self.told.append("read")

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.told.append(reason.type)

    def arrived(self) -> bytes:
        """@return: what the peer has got by now; C{b"EOF"} behind it if that is all."""
        return arrived(self.peer)


class Direction:
    """What a tunnel knows of one way through it."""

    def __init__(self, other: Side) -> None:
        self.passed = self.moves = 0
        self.to = -1
        self.other = other
        self.moved: Callable[[], None] | None = self.move

    def move(self) -> None:
        self.moves += 1

    def write(self, data: bytes) -> None:
        self.passed += len(data)
        self.move()
        self.other.transport.write(data)


class Tunnel:
    """Two sides whose bytes go past their protocols."""

    def __init__(self, relayed: bool) -> None:
        self.hubs = [Hub(Turns())] if relayed else [Hub(Turns()), Hub(Turns())]
        self.left, self.right = Side(self.hubs[0]), Side(self.hubs[-1])
        self.up, self.down = Direction(self.right), Direction(self.left)
        self.left.transport.divert(self.up, self.right.transport)
        self.right.transport.divert(self.down, self.left.transport)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            select.select([hub for hub in self.hubs if hub.fileno() >= 0], [], [], 0.05)
            for hub in self.hubs:
                hub.doRead()
                for call in hub.reactor.getDelayedCalls():
                    call.reset(0)
                hub.reactor.advance(0)

    def ways(self) -> list[Any]:
        """@return: the ways that are open."""
        return [way for hub in self.hubs for way in hub.ways if way is not None]

    def inputOnTheLeft(self) -> None:
        """Say that something has come from the left, and nothing else, whether it has or not."""
        hub = self.hubs[0]
        number = self.left.transport._fd
        if hub.ways[number] is None:
            self.left.transport.socketEvent(select.EPOLLIN | select.EPOLLOUT)
        else:
            relay([number], hub.ways, hub._sockets, hub.clientFailed)


@pytest.fixture(params=[True, False], ids=["short way", "long way"])
def tunnel(request: Any) -> Iterator[Tunnel]:
    """A tunnel."""
    if not Hub.available():
        pytest.skip("no epoll on this platform")
    tunnel = Tunnel(request.param)
    assert len(tunnel.ways()) == (2 if request.param else 0)
    yield tunnel
    for hub in tunnel.hubs:
        hub.connectionLost(Failure(ConnectionError()))
    for side in (tunnel.left, tunnel.right):
        side.peer.close()


def test_thereAndBack(tunnel: Tunnel) -> None:
    """B6.1: messages go both ways, are counted, and keep the tunnel awake; the protocols see none of them."""
    for number in range(3):
        tunnel.left.peer.send(b"ping %d" % number)
        tunnel.turn()
        assert tunnel.right.arrived() == b"ping %d" % number
        tunnel.right.peer.send(b"pong")
        tunnel.turn()
        assert tunnel.left.arrived() == b"pong"
    assert (tunnel.up.passed, tunnel.down.passed) == (18, 12)
    assert (tunnel.up.moves, tunnel.down.moves) == (3, 3)
    assert tunnel.left.told == tunnel.right.told == []


@pytest.mark.parametrize("size", [1, SMALL_READ - 1, SMALL_READ, SMALL_READ + 1, 5 * SMALL_READ, 200_000])
def test_sizes(tunnel: Tunnel, size: int) -> None:
    """Messages of all sizes come through whole, in order, with small ones before and behind."""
    message = bytes(range(256)) * (size // 256 + 1)
    for piece in (b"<", message[:size], b">"):
        tunnel.left.peer.send(piece)
    got = b""
    for _ in range(50):
        tunnel.turn()
        got += tunnel.right.arrived()
        if len(got) == size + 2:
            break
    assert got == b"<" + message[:size] + b">"
    assert tunnel.up.passed == size + 2


def test_order(tunnel: Tunnel) -> None:
    """What was written to the other side before, in whatever way, goes out before what the tunnel brings."""
    tunnel.right.transport.pauseProducing()
    tunnel.right.transport.write(b"before ")
    tunnel.left.peer.send(b"behind")
    tunnel.turn(2)
    assert tunnel.right.arrived() == b"before behind"


def test_orderOfWhatIsHeld(tunnel: Tunnel) -> None:
    """What was written between two batches waits for the end of the next, and goes out before what that one brings."""
    tunnel.turn()

    class Writer(HubSocket):
        def runAgain(self) -> None:
            tunnel.right.transport.write(b"before ")
            tunnel.left.peer.send(b"behind")

    tunnel.hubs[-1].queue(Writer())
    tunnel.turn(2)
    assert tunnel.right.arrived() == b"before behind"


def test_full(tunnel: Tunnel) -> None:
    """B6.4: when one side does not read, small messages wait in order and are bounded by what pauses their sender."""
    tunnel.right.transport.registerProducer(tunnel.left.transport, True)
    sent = 0
    message = b"%06d " * 100 % tuple(range(100))
    for _ in range(20_000):
        try:
            sent += tunnel.left.peer.send(message)
        except BlockingIOError:
            break
        if tunnel.left.transport._reading:
            tunnel.turn()
    assert not tunnel.left.transport._reading
    assert tunnel.right.transport.unsentBytes <= 512 * 1024
    got = b""
    while len(got) < sent:
        got += tunnel.right.arrived()
        tunnel.turn()
    assert got == (message * (sent // len(message) + 1))[:sent]
    tunnel.right.transport.unregisterProducer()
    tunnel.left.peer.send(b"again")
    tunnel.turn(2)
    assert tunnel.right.arrived() == b"again"


def test_paused(tunnel: Tunnel) -> None:
    """A side that is paused is not read; what came meanwhile follows when it is resumed."""
    tunnel.left.transport.pauseProducing()
    tunnel.left.peer.send(b"later")
    tunnel.turn(2)
    assert tunnel.right.arrived() == b""
    tunnel.left.transport.resumeProducing()
    tunnel.turn(2)
    assert tunnel.right.arrived() == b"later"


def test_pausedAndSending(tunnel: Tunnel) -> None:
    """A side that is paused is not read either when what was sent to it meanwhile is through."""
    tunnel.left.transport.pauseProducing()
    tunnel.left.transport.write(bytes(8_000_000))
    got = 0
    for _ in range(1000):
        got += len(tunnel.left.arrived())
        if got == 8_000_000:
            break
        tunnel.turn()
    tunnel.turn()
    tunnel.left.peer.send(b"later")
    tunnel.turn(2)
    assert (got, tunnel.right.arrived()) == (8_000_000, b"")
    tunnel.left.transport.resumeProducing()
    tunnel.turn(2)
    assert tunnel.right.arrived() == b"later"


def test_endOfOneSide(tunnel: Tunnel) -> None:
    """B6.3: the last message comes through, then its protocol hears of the end; the other way goes on."""
    tunnel.left.peer.send(b"last")
    tunnel.left.peer.shutdown(socket.SHUT_WR)
    tunnel.turn(2)
    assert (tunnel.right.arrived(), tunnel.left.told) == (b"last", ["read"])
    tunnel.right.peer.send(b"still")
    tunnel.turn()
    assert tunnel.left.arrived() == b"still"


def test_endBehindTheEvent(tunnel: Tunnel) -> None:
    """The end of a side is noticed, too, when it comes between the event of a message and its being read."""
    tunnel.left.peer.send(b"x")
    tunnel.turn()
    tunnel.left.peer.shutdown(socket.SHUT_WR)
    tunnel.inputOnTheLeft()
    assert tunnel.left.told == ["read"]


def test_reset(tunnel: Tunnel) -> None:
    """A reset reaches the protocol of its side as a lost connection, and nothing that came before is sent twice."""
    tunnel.left.peer.send(b"x")
    tunnel.turn()
    tunnel.left.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tunnel.left.peer.close()
    tunnel.turn(2)
    assert tunnel.left.told == [ConnectionLost]
    assert tunnel.right.arrived() == b"x"


def test_resetBehindTheEvent(tunnel: Tunnel) -> None:
    """The same where it is the read that finds out."""
    tunnel.left.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tunnel.left.peer.close()
    tunnel.inputOnTheLeft()
    tunnel.turn(2)
    assert tunnel.left.told == [ConnectionLost]


def test_nothingThere(tunnel: Tunnel) -> None:
    """An event behind which there is nothing any more does nothing."""
    tunnel.inputOnTheLeft()
    assert (tunnel.left.told, tunnel.right.arrived(), tunnel.up.passed) == ([], b"", 0)


def test_otherSideGone(tunnel: Tunnel) -> None:
    """What comes for a side that is lost goes nowhere, and harms nobody."""
    tunnel.right.transport.abortConnection()
    tunnel.turn(2)
    tunnel.left.peer.send(b"too late")
    tunnel.turn(2)
    assert tunnel.left.told == []
    assert len(tunnel.right.told) == 1


def test_over(tunnel: Tunnel) -> None:
    """When the tunnel is over, bytes go to the protocols again."""
    tunnel.left.transport.divert(None)
    tunnel.right.transport.divert(None)
    assert tunnel.ways() == []
    tunnel.left.peer.send(b"plain")
    tunnel.turn()
    assert (tunnel.left.told, tunnel.right.arrived()) == ([b"plain"], b"")


def test_overWhenLost(tunnel: Tunnel) -> None:
    """A side that is closed already leaves its number alone: another socket may have it by now."""
    number = tunnel.left.transport._fd
    tunnel.left.transport.loseConnection()
    tunnel.turn(2)
    assert tunnel.left.told == [ConnectionDone]
    tunnel.left.transport.divert(None)
    assert tunnel.hubs[0]._sockets[number] is None


def test_crash(tunnel: Tunnel, loggedErrors: list[Any]) -> None:
    """What a tunnel raises costs its own connection, and no other."""

    def crash() -> None:
        raise RuntimeError("a bug")

    tunnel.up.moved = tunnel.up.move = crash  # type: ignore[method-assign]
    tunnel.left.peer.send(b"x")
    tunnel.turn(2)
    assert tunnel.left.told == [RuntimeError]
    assert tunnel.right.told == []
    assert [event["log_failure"].type for event in loggedErrors] == [RuntimeError]
    loggedErrors.clear()


def test_unusual(tunnel: Tunnel) -> None:
    """The way is closed while either side has something unsent, and opens again when that is through."""
    both = len(tunnel.ways())
    left, right = tunnel.left, tunnel.right
    right.transport.write(bytes(8_000_000))
    assert tunnel.ways() == []
    left.peer.send(b"behind")
    right.peer.send(b"meanwhile")
    got, answered = 0, b""
    for _ in range(1000):
        tunnel.turn()
        answered += left.arrived()
        got += len(right.arrived())
        if got == 8_000_006:
            break
    assert (got, answered) == (8_000_006, b"meanwhile")
    for side, other in ((left, right), (right, left)):
        side.peer.send(b"x")
        tunnel.turn(2)
        assert other.arrived() == b"x"
    assert len(tunnel.ways()) == both


def test_roomAndInput(tunnel: Tunnel) -> None:
    """An event that tells of room to send and of a message at once is good for both."""
    left, right = tunnel.left, tunnel.right
    right.transport.write(bytes(8_000_000))
    got = sent = 0
    answered = b""
    while got < 8_000_000 and sent < 1000:
        sent += right.peer.send(b"m")
        tunnel.turn()
        answered += left.arrived()
        got += len(right.arrived())
    tunnel.turn()
    assert (got, answered + left.arrived()) == (8_000_000, b"m" * sent)


def test_pausedInTheSameBatch(tunnel: Tunnel) -> None:
    """A way that is closed by what another event of the same batch did brings nothing, and loses nothing."""
    left, right = tunnel.left, tunnel.right
    tunnel.turn()
    left.peer.send(b"x")
    if tunnel.ways():
        hub, number = tunnel.hubs[0], left.transport._fd
        # taken from the kernel, which tells of it once only
        assert hub._epoll.poll(1) == [(number, select.EPOLLIN | select.EPOLLOUT)]
        left.transport.pauseProducing()
        relay([number], hub.ways, hub._sockets, hub.clientFailed)
        assert right.arrived() == b""
        left.transport.resumeProducing()
    tunnel.turn(2)
    assert right.arrived() == b"x"


def test_goneInTheSameBatch(tunnel: Tunnel) -> None:
    """The same for a socket that is not there any more."""
    if tunnel.ways():
        hub = tunnel.hubs[0]
        number = tunnel.left.transport._fd
        tunnel.left.transport.abortConnection()
        tunnel.turn(2)
        relay([number], hub.ways, hub._sockets, hub.clientFailed)
    assert tunnel.right.told == []


def test_numberTakenOver(tunnel: Tunnel) -> None:
    """A side that is left behind has nothing to do with the ways of whoever got the number of the one that is lost."""
    hub, number = tunnel.hubs[0], tunnel.left.transport._fd
    ours, peer = socket.socketpair()
    tunnel.left.transport.abortConnection()
    tunnel.turn(2)
    os.dup2(ours.fileno(), number)
    ours.close()
    ours = socket.socket(fileno=number)
    ours.setblocking(False)
    newcomer = SocketTransport(hub, ours, UNIXAddress(None), Protocol())
    hub.add(number, newcomer)
    other = Side(hub)
    newcomer.divert(Direction(other), other.transport)
    assert hub.ways[number] is not None
    tunnel.right.transport.pauseProducing()
    assert hub.ways[number] is not None
    peer.close()
    other.peer.close()


def test_sendingBroke(tunnel: Tunnel) -> None:
    """What cannot be sent, because the other side is reset, ends that side, once it has been read to its end."""
    left, right = tunnel.left, tunnel.right
    right.transport.pauseProducing()
    right.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    right.peer.close()
    left.peer.send(b"x")
    if tunnel.ways():
        tunnel.inputOnTheLeft()
    tunnel.turn(2)
    right.transport.resumeProducing()
    tunnel.turn(3)
    assert right.told == [ConnectionLost]
    assert left.told == []


def test_hubLost(tunnel: Tunnel) -> None:
    """When the reactor stops, both sides are told."""
    for hub in tunnel.hubs:
        hub.connectionLost(Failure(ConnectionError()))
    assert tunnel.left.told == tunnel.right.told == [ConnectionError]


class Asked:
    """An epoll that notes how many events it is asked for at a time."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll
        self.most: list[int] = []

    def poll(self, timeout: float, most: int) -> Any:
        self.most.append(most)
        return self._epoll.poll(timeout, most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


class Crowd:
    """Many tunnels on one hub, and many other connections."""

    def __init__(self, tunnels: int, others: int) -> None:
        self.hub = Hub(Turns())
        self.lefts = [Side(self.hub) for _ in range(tunnels)]
        self.rights = [Side(self.hub) for _ in range(tunnels)]
        self.others = [Side(self.hub) for _ in range(others)]
        for left, right in zip(self.lefts, self.rights, strict=True):
            left.transport.divert(Direction(right), right.transport)
        self.hub.doRead()  # that there is room to send is an event, too
        while self.hub._epoll.poll(0):
            pass
        self.epoll = self.hub._epoll = Asked(self.hub._epoll)

    def turn(self, tunnels: int, others: int) -> list[int]:
        """
        Let so many of each have something to say.

        @return: how many events the kernel was asked for, time after time.
        """
        for side in [*self.lefts[:tunnels], *self.others[:others]]:
            side.peer.send(b"hello")
        self.epoll.most.clear()
        self.hub.doRead()
        assert [side.arrived() for side in self.rights] == [b"hello"] * tunnels + [b""] * (len(self.rights) - tunnels)
        assert [side.told for side in self.others] == [[b"hello"]] * others + [[]] * (len(self.others) - others)
        for side in self.others:
            side.told.clear()
        return self.epoll.most.copy()

    def close(self) -> None:
        self.hub.connectionLost(Failure(ConnectionError()))
        for side in [*self.lefts, *self.rights, *self.others]:
            side.peer.close()


def test_longBatches() -> None:
    """Where all that happens is messages in tunnels batches are longer, and shorter again as soon as it is not."""
    if not Hub.available():
        pytest.skip("no epoll on this platform")
    crowd = Crowd(tunnels=100, others=40)
    try:
        assert crowd.turn(tunnels=100, others=0) == [BATCH, TUNNEL_BATCH, TUNNEL_BATCH]
        assert crowd.turn(tunnels=20, others=0) == [TUNNEL_BATCH]
        assert crowd.turn(tunnels=BATCH - 1, others=0) == [TUNNEL_BATCH]
        assert crowd.turn(tunnels=BATCH - 1, others=0) == [BATCH]
        assert crowd.turn(tunnels=0, others=40) == [BATCH, BATCH, BATCH]
        assert crowd.turn(tunnels=20, others=0) == [BATCH, TUNNEL_BATCH]
        assert crowd.turn(tunnels=0, others=40) == [BATCH, BATCH, BATCH]
        assert crowd.turn(tunnels=100, others=0)[-1] == TUNNEL_BATCH
        assert crowd.turn(tunnels=40, others=30) == [TUNNEL_BATCH, BATCH]
    finally:
        crowd.close()
