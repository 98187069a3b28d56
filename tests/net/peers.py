"""
The other end of a connection, for the tests of the transport layer.

L{RawPeer} is a bare socket that the test itself reads and writes, so that nothing of ours can agree with
itself about a mistake, and so that it can do what no decent transport does: read slowly, reset, close half.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

#: How long a test waits for something that has to happen, in seconds.  Only a failing test waits that long.
PATIENCE = 15.0


async def turn(seconds: float = 0.0) -> None:
    """Let the reactor turn."""
    from twisted.internet import reactor

    await deferLater(reactor, seconds)  # type: ignore[arg-type]


async def until(condition: Callable[[], Any], what: str = "") -> Any:
    """
    Turn the reactor until a condition holds.

    @return: what the condition returned.
    """
    from twisted.internet import reactor

    end = reactor.seconds() + PATIENCE  # type: ignore[attr-defined]
    while not (result := condition()):
        assert reactor.seconds() < end, f"waited in vain: {what or condition}"  # type: ignore[attr-defined]
        await turn(0.001)
    return result


class RawPeer:
    """A socket that the test reads and writes while the reactor turns."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    @classmethod
    def connect(cls, address: Any, receiveBuffer: int | None = None) -> RawPeer:
        """
        @param address: a port of the loopback interface, or an address of Twisted's.
        @param receiveBuffer: how much the kernel may hold for it, in bytes.
        """
        if isinstance(address, int):
            family, name = socket.AF_INET, ("127.0.0.1", address)
        elif hasattr(address, "host"):
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            name = (address.host, address.port)
        else:
            family, name = socket.AF_UNIX, address.name
        sock = socket.socket(family, socket.SOCK_STREAM)
        if receiveBuffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
        try:
            sock.connect(name)  # the kernel alone completes it, nobody needs to accept
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await turn(0.001)

    async def read(self, size: int) -> bytes:
        """
        @return: that many bytes, or what came before the end of the stream.
        """
        found = bytearray()
        while len(found) < size:
            wanted = min(65536, size - len(found))
            [piece] = await until(lambda wanted=wanted: self._receive(wanted), f"{size} bytes")
            if not piece:
                break
            found += piece
        return bytes(found)

    def _receive(self, size: int) -> list[bytes]:
        try:
            return [self.socket.recv(size)]
        except BlockingIOError:
            return []

    async def readAll(self) -> bytes:
        """
        @return: everything until the end of the stream.
        """
        return await self.read(1 << 40)

    def halfClose(self) -> None:
        """Close the sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close both sides."""
        self.socket.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Recorder(Protocol):
    """
    Writes down what happens to it.

    @ivar events: names and arguments in order, bytes left out.
    """

    factory: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[Any] = []
        self.lost: Failure | None = None
        self.onData: Callable[[bytes], Any] = lambda data: None

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        assert self.lost is None
        self.received += data
        self.onData(data)

    def connectionLost(self, reason: Any = None) -> None:
        assert self.lost is None, "told twice"
        self.lost = reason
        self.events.append(("lost", reason.type.__name__))


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """A L{Recorder} that outlives the end of one direction."""

    def readConnectionLost(self) -> None:
        self.events.append("readLost")

    def writeConnectionLost(self) -> None:
        self.events.append("writeLost")


class Attentive(Recorder):
    """A L{Recorder} that wants to hear that its peer has hung up."""

    def peerHungUp(self, reset: bool) -> None:
        self.events.append(("hungUp", reset))


class Recorders(ServerFactory, ClientFactory):
    """
    A factory for either side that keeps its protocols, and its own events.
    """

    noisy = False

    def __init__(self, protocol: Callable[[], Any] = Recorder) -> None:
        self.make = protocol
        self.made: list[Any] = []
        self.events: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self.make()
        if protocol is not None:
            protocol.factory = self
            self.made.append(protocol)
        return protocol

    def doStart(self) -> None:
        self.events.append("start")

    def doStop(self) -> None:
        self.events.append("stop")

    def startedConnecting(self, connector: Any) -> None:
        self.events.append("connecting")

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.events.append(("failed", reason.type.__name__))

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self.events.append(("lost", reason.type.__name__))

    async def first(self) -> Any:
        """
        @return: the first protocol, connected.
        """
        await until(lambda: self.made and self.made[0].transport, "a connection")
        return self.made[0]


class Ports:
    """Listens for a test, and clears up behind it."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.ports: list[Any] = []
        self.factories: list[Recorders] = []

    def listen(self, protocol: Callable[[], Any] = Recorder, interface: str = "127.0.0.1") -> tuple[Any, Any]:
        """
        @return: factory and port.
        """
        factory = Recorders(protocol)
        port = self.reactor.listenTCP(0, factory, interface=interface)
        self.keep(factory, port)
        return factory, port

    def keep(self, factory: Recorders, port: Any) -> None:
        """Clear up a port which the test opened itself, too."""
        self.factories.append(factory)
        self.ports.append(port)

    async def pair(
        self, protocol: Callable[[], Any] = Recorder, receiveBuffer: int | None = None
    ) -> tuple[Any, RawPeer]:
        """
        @return: a connected protocol and its peer.
        """
        factory, port = self.listen(protocol)
        peer = RawPeer.connect(port.getHost(), receiveBuffer)
        return await factory.first(), peer

    async def close(self) -> None:
        """Abort whatever still stands, and stop listening."""
        for factory in self.factories:
            for protocol in factory.made:
                if protocol.transport is not None and protocol.lost is None:
                    protocol.transport.abortConnection()
        for port in self.ports:
            stopped = port.stopListening()
            if isinstance(stopped, Deferred):
                await stopped
        for factory in self.factories:
            await until(
                lambda made=factory.made: all(p.lost or p.transport is None for p in made), "all lost"
            )
