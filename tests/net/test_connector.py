"""
The promises of an outgoing connection: exactly one outcome, and one that says why.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    NotConnectingError,
    ServiceNameUnknownError,
)
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from tests.net.peers import Ports, RawPeer, Recorder, Recorders, turn, until
from twistproxy.net.binding import TCPBinding
from twistproxy.net.connector import TCPConnector
from twistproxy.net.reactor import HubReactor


@pytest.fixture
def target() -> Iterator[socket.socket]:
    """A bare listening socket, which the kernel connects clients to without anybody's help."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def unusedPort() -> int:
    """
    @return: a port at which nobody listens.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listening socket that takes no more connections."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            waiting.append(sock)
        yield listening
        for sock in waiting:
            sock.close()


@ensureDeferred
async def test_connects(anyReactor: Any, target: socket.socket) -> None:
    """A connection comes about, and the factory hears what Twisted's factories hear."""
    factory = Recorders()
    host, port = target.getsockname()
    connector = anyReactor.connectTCP(host, port, factory)
    assert verifyObject(IConnector, connector)
    assert connector.getDestination() == IPv4Address("TCP", host, port)
    assert (connector.state, factory.events, factory.made) == ("connecting", ["start", "connecting"], [])
    protocol = await factory.first()
    assert connector.state == "connected"
    assert protocol.transport.getPeer() == IPv4Address("TCP", host, port)
    accepted, name = target.accept()
    with RawPeer(accepted) as peer:
        assert protocol.transport.getHost() == IPv4Address("TCP", *name)
        await peer.send(b"hello")
        await until(lambda: protocol.received)
        connector.disconnect()
        assert await peer.readAll() == b""
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionDone")]
    assert factory.events == ["start", "connecting", ("lost", "ConnectionDone"), "stop"]
    assert connector.state == "disconnected"


@ensureDeferred
async def test_noDelay(hubReactor: HubReactor, target: socket.socket) -> None:
    """Small segments are sent at once."""
    factory = Recorders()
    connector = hubReactor.connectTCP(*target.getsockname(), factory)
    protocol = await factory.first()
    assert protocol.transport.getTcpNoDelay() is True
    connector.disconnect()
    await until(lambda: protocol.lost)


@ensureDeferred
async def test_serverSpeaksFirst(hubReactor: HubReactor) -> None:
    """Bytes, and the end, that come together with the connection are not missed."""
    for ending in (False, True):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            factory = Recorders()
            connector = hubReactor.connectTCP(*listening.getsockname(), factory)
            # On the loopback interface it is connected by now, and the reactor has not turned.
            accepted, _ = listening.accept()
            accepted.send(b"220 ready")
            if ending:
                accepted.close()
            protocol = await factory.first()
            await until(lambda protocol=protocol: protocol.received)
            assert bytes(protocol.received) == b"220 ready"
            if not ending:
                connector.disconnect()
            await until(lambda protocol=protocol: protocol.lost)
            accepted.close()


@ensureDeferred
async def test_refused(anyReactor: Any) -> None:
    """Where nobody listens the connection is refused, told only after the connector is known."""
    factory = Recorders()
    connector = anyReactor.connectTCP("127.0.0.1", unusedPort(), factory)
    assert factory.events == ["start", "connecting"]
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "ConnectionRefusedError"), "stop"]
    assert connector.state == "disconnected"
    with pytest.raises(NotConnectingError):
        connector.stopConnecting()
    connector.disconnect()


@ensureDeferred
async def test_unreachable(anyReactor: Any) -> None:
    """An address to which there is no way fails with what the kernel says."""
    factory = Recorders()
    anyReactor.connectTCP("255.255.255.255", 80, factory)
    await until(lambda: "stop" in factory.events)
    [kind] = [event[1] for event in factory.events if event[0] == "failed"]
    # EACCES or ENETUNREACH, as the network is.
    assert kind in ("ConnectError", "NoRouteError")


@ensureDeferred
async def test_timeout(anyReactor: Any, full: socket.socket) -> None:
    """B9: connecting takes at most as long as it may."""
    factory = Recorders()
    anyReactor.connectTCP(*full.getsockname(), factory, timeout=0.05)
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "TimeoutError"), "stop"]


@ensureDeferred
async def test_stopConnecting(anyReactor: Any, full: socket.socket) -> None:
    """Who gives up is told so at once, and nothing is left."""
    for how in ("stopConnecting", "disconnect"):
        factory = Recorders()
        connector = anyReactor.connectTCP(*full.getsockname(), factory)
        await turn(0.01)
        getattr(connector, how)()
        assert factory.events == ["start", "connecting", ("failed", "UserError"), "stop"]


@ensureDeferred
async def test_stopAtOnce(hubReactor: HubReactor, target: socket.socket) -> None:
    """Giving up before the loop has turned gives one outcome only."""
    factory = Recorders()
    connector = hubReactor.connectTCP(*target.getsockname(), factory)
    connector.stopConnecting()
    connector.connect()
    with pytest.raises(RuntimeError):
        connector.connect()
    connector.stopConnecting()
    await turn(0.02)
    assert factory.events == ["start", "connecting", ("failed", "UserError"), "stop"] * 2


@ensureDeferred
async def test_stopInStartedConnecting(hubReactor: HubReactor, target: socket.socket) -> None:
    """A factory may give up as soon as it hears of the connector, even where the outcome is known already."""

    class Fickle(Recorders):
        def startedConnecting(self, connector: Any) -> None:
            super().startedConnecting(connector)
            connector.stopConnecting()

    for port in (target.getsockname()[1], unusedPort()):
        factory = Fickle()
        hubReactor.connectTCP("127.0.0.1", port, factory)
        await turn(0.01)
        assert factory.events == ["start", "connecting", ("failed", "UserError"), "stop"]


@ensureDeferred
async def test_reconnect(hubReactor: HubReactor, target: socket.socket) -> None:
    """A factory that connects again when a connection is lost, or failed, is not stopped between."""

    class Persistent(Recorders):
        def clientConnectionLost(self, connector: Any, reason: Any) -> None:
            super().clientConnectionLost(connector, reason)
            if len(self.made) < 3:
                connector.connect()

    factory = Persistent()
    hubReactor.connectTCP(*target.getsockname(), factory)
    for number in range(3):
        await until(lambda number=number: len(factory.made) > number and factory.made[number].transport)
        factory.made[number].transport.loseConnection()
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", *["connecting", ("lost", "ConnectionDone")] * 3, "stop"]


@ensureDeferred
async def test_factoryDeclines(anyReactor: Any, target: socket.socket) -> None:
    """A factory without a protocol hears that the connection is lost."""
    factory = Recorders(lambda: None)
    anyReactor.connectTCP(*target.getsockname(), factory)
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("lost", "ConnectionDone"), "stop"]


@ensureDeferred
async def test_factoryFails(hubReactor: HubReactor, target: socket.socket, loggedErrors: list[Any]) -> None:
    """B7.4: an error in buildProtocol is the reason of a failed connection, and one in connectionMade of a
    lost one."""

    def fails() -> Any:
        raise ZeroDivisionError

    class Fails(Recorder):
        def connectionMade(self) -> None:
            raise ValueError

    for make, outcome in ((fails, ("failed", "ZeroDivisionError")), (Fails, ("lost", "ValueError"))):
        factory = Recorders(make)
        hubReactor.connectTCP(*target.getsockname(), factory)
        await until(lambda factory=factory: "stop" in factory.events)
        assert factory.events == ["start", "connecting", outcome, "stop"]
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError, ValueError]
    loggedErrors.clear()


@ensureDeferred
async def test_givesUpWhileBuilding(hubReactor: HubReactor, target: socket.socket) -> None:
    """A factory may give up from inside buildProtocol."""

    def giveUp() -> Any:
        connector.stopConnecting()

    factory = Recorders(giveUp)
    connector = hubReactor.connectTCP(*target.getsockname(), factory)
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "UserError"), "stop"]


@ensureDeferred
async def test_bindAddress(anyReactor: Any, target: socket.socket) -> None:
    """This end may be chosen, and an impossible choice fails."""
    factory = Recorders()
    mine = unusedPort()
    anyReactor.connectTCP(*target.getsockname(), factory, bindAddress=("127.0.0.2", mine))
    protocol = await factory.first()
    assert protocol.transport.getHost() == IPv4Address("TCP", "127.0.0.2", mine)
    protocol.transport.abortConnection()
    await until(lambda: protocol.lost)
    factory = Recorders()
    anyReactor.connectTCP(*target.getsockname(), factory, bindAddress=("192.0.2.1", 0))
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "ConnectBindError"), "stop"]


@ensureDeferred
async def test_bindingAsBindAddress(hubReactor: HubReactor, target: socket.socket) -> None:
    """A binding says more about this end than host and port can."""
    binding = TCPBinding(interface="127.0.0.2", port=unusedPort(), reusePort=True)
    made = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for listening in (target, other):
            factory = Recorders()
            hubReactor.connectTCP(*listening.getsockname(), factory, bindAddress=binding)
            made.append(await factory.first())
        hosts = [protocol.transport.getHost() for protocol in made]
        assert hosts == [IPv4Address("TCP", "127.0.0.2", binding.port)] * 2
        for protocol in made:
            protocol.transport.abortConnection()
        await until(lambda: all(protocol.lost for protocol in made))


@ensureDeferred
async def test_ipv6(hubReactor: HubReactor) -> None:
    """B8.4: IPv6 literals."""
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(("::1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        factory = Recorders()
        connector = hubReactor.connectTCP("::1", port, factory)
        protocol = await factory.first()
        assert connector.getDestination() == protocol.transport.getPeer() == IPv6Address("TCP", "::1", port)
        connector.disconnect()
        await until(lambda: protocol.lost)


@ensureDeferred
async def test_selfConnect(hubReactor: HubReactor) -> None:
    """A connection that the kernel made from a port to that same port is nobody's, and refused."""
    port = unusedPort()
    factory = Recorders()
    hubReactor.connectTCP("127.0.0.1", port, factory, bindAddress=("127.0.0.1", port))
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "ConnectionRefusedError"), "stop"]


def test_serviceName(hubReactor: HubReactor) -> None:
    """A port may be named; a name that nobody knows is an error at once."""
    assert TCPConnector(hubReactor.hub, "127.0.0.1", "http", Recorders()).getDestination().port == 80
    with pytest.raises(ServiceNameUnknownError):
        hubReactor.connectTCP("127.0.0.1", "no such service", Recorders())  # type: ignore[arg-type]


class Resolver:
    """A reactor whose resolver answers what the test says."""

    def __init__(self, reactor: Any, answer: Deferred[str]) -> None:
        self.reactor = reactor
        self.answer = answer

    def resolve(self, name: str) -> Deferred[str]:
        return self.answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


@ensureDeferred
async def test_names(target: socket.socket) -> None:
    """B8.4: a name goes through the reactor's resolver, and both its outcomes are passed on."""
    from twisted.internet import reactor

    port = target.getsockname()[1]
    factory = Recorders()
    found = HubReactor(Resolver(reactor, succeed("127.0.0.1")))
    connector = found.connectTCP("app.example", port, factory)
    protocol = await factory.first()
    assert protocol.transport.getPeer() == IPv4Address("TCP", "127.0.0.1", port)
    connector.disconnect()
    await until(lambda: protocol.lost)
    factory = Recorders()
    HubReactor(Resolver(reactor, fail(DNSLookupError()))).connectTCP("app.example", port, factory)
    assert factory.events == ["start", "connecting"]
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "DNSLookupError"), "stop"]


@ensureDeferred
async def test_stopWhileResolving() -> None:
    """Who gives up during the resolution cancels it."""
    from twisted.internet import reactor

    cancelled = []
    factory = Recorders()
    slow = HubReactor(Resolver(reactor, Deferred(cancelled.append)))
    slow.connectTCP("app.example", 80, factory, timeout=0.02)
    await until(lambda: "stop" in factory.events)
    assert factory.events == ["start", "connecting", ("failed", "TimeoutError"), "stop"]
    assert len(cancelled) == 1


# -- by endpoints ----------------------------------------------------------------------------------


@ensureDeferred
async def test_endpoint(ports: Ports) -> None:
    """Endpoints connect through a hub without knowing."""
    factory, port = ports.listen()
    where = port.getHost()
    for endpoint in (
        TCP4ClientEndpoint(ports.reactor, where.host, where.port),
        HostnameEndpoint(ports.reactor, "localhost", where.port),
    ):
        client = await endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
        client.transport.write(b"hello")
        await until(lambda: factory.made[-1].received)
        assert bytes(factory.made[-1].received) == b"hello"
        client.transport.loseConnection()
        await until(lambda: factory.made[-1].lost)


@ensureDeferred
async def test_endpointFails(hubReactor: HubReactor, full: socket.socket) -> None:
    """A refused or cancelled endpoint fails, and leaves nothing."""
    endpoint = TCP4ClientEndpoint(hubReactor, "127.0.0.1", unusedPort())
    with pytest.raises(ConnectError):
        await endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
    endpoint = TCP4ClientEndpoint(hubReactor, *full.getsockname())
    connecting = endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
    connecting.cancel()
    with pytest.raises(ConnectingCancelledError):
        await connecting


# -- UNIX sockets ----------------------------------------------------------------------------------


@ensureDeferred
async def test_unix(anyReactor: Any, tmp_path: Path) -> None:
    """A UNIX socket is connected to, and by an endpoint too."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        factory = Recorders()
        connector = anyReactor.connectUNIX(path, factory)
        assert connector.getDestination() == UNIXAddress(path)
        protocol = await factory.first()
        assert protocol.transport.getPeer() == UNIXAddress(path)
        accepted, _ = listening.accept()
        with RawPeer(accepted) as peer:
            protocol.transport.write(b"hello")
            assert await peer.read(5) == b"hello"
            connector.disconnect()
            assert await peer.readAll() == b""
        await until(lambda: protocol.lost)
        endpoint = UNIXClientEndpoint(anyReactor, path)
        client = await endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
        client.transport.abortConnection()
        await until(lambda: client.lost)


@ensureDeferred
async def test_unixFails(anyReactor: Any, tmp_path: Path) -> None:
    """No socket, nobody behind it, and no lock where one is asked for: each fails with its reason."""
    dead = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(dead)
    for path, checkPID, reason in (
        (str(tmp_path / "none.sock"), False, "ConnectError"),
        (dead, False, "ConnectionRefusedError"),
        (dead, True, "BadFileError"),
    ):
        factory = Recorders()
        anyReactor.connectUNIX(path, factory, checkPID=checkPID)
        await until(lambda factory=factory: "stop" in factory.events)
        assert factory.events == ["start", "connecting", ("failed", reason), "stop"]


@ensureDeferred
async def test_unixBacklogFull(hubReactor: HubReactor, tmp_path: Path) -> None:
    """A UNIX socket whose backlog is full is tried again until it has room, or time is up."""
    path = str(tmp_path / "busy.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            impatient, patient = Recorders(), Recorders()
            hubReactor.connectUNIX(path, impatient, timeout=0.05)
            connector = hubReactor.connectUNIX(path, patient)
            await until(lambda: "stop" in impatient.events)
            assert impatient.events == ["start", "connecting", ("failed", "TimeoutError"), "stop"]
            assert patient.events == ["start", "connecting"]
            listening.accept()[0].close()
            protocol = await patient.first()
            connector.disconnect()
            await until(lambda: protocol.lost)


@ensureDeferred
async def test_reactorStops(hubReactor: HubReactor, full: socket.socket) -> None:
    """When the reactor drops everything, whoever is connecting hears of it."""
    from twisted.internet import reactor
    from twisted.internet.main import CONNECTION_LOST
    from twisted.python.failure import Failure

    factory = Recorders()
    hubReactor.connectTCP(*full.getsockname(), factory)
    reactor.removeReader(hubReactor.hub)  # type: ignore[attr-defined]
    hubReactor.hub.connectionLost(Failure(CONNECTION_LOST))
    assert factory.events == ["start", "connecting", ("failed", "ConnectionLost"), "stop"]


def test_repr(hubReactor: HubReactor) -> None:
    """A connector says where it leads."""
    connector = TCPConnector(hubReactor.hub, "127.0.0.1", 80, Recorders())
    assert repr(connector) == f"<TCPConnector disconnected {connector.getDestination()}>"
