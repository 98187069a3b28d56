"""
The promises of the facade: endpoints and protocols of any kind run on a hub and cannot tell.
"""

from __future__ import annotations

import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import interfaces
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import providedBy

from tests.net.peers import RawPeer, Recorder, Recorders, turn, until
from twistproxy.net import reactor as reactorModule
from twistproxy.net.hub import Hub
from twistproxy.net.listener import Listener
from twistproxy.net.reactor import HubReactor, networkReactor


@pytest.fixture
def reactor() -> Any:
    """The reactor that runs."""
    from twisted.internet import reactor

    return reactor


def test_provides(reactor: Any, hubReactor: HubReactor) -> None:
    """The facade provides all that the reactor does, and passes on what it does not do itself."""
    assert list(providedBy(hubReactor)) == list(providedBy(reactor))
    assert interfaces.IReactorTCP.providedBy(hubReactor)
    assert hubReactor.seconds == reactor.seconds
    assert hubReactor.nameResolver is reactor.nameResolver
    with pytest.raises(AttributeError):
        _ = hubReactor.noSuchThing
    assert repr(reactor) in repr(hubReactor)


def test_networkReactor(reactor: Any) -> None:
    """All proxies in a reactor share one hub, whatever they are given."""
    facade = networkReactor(reactor)
    assert isinstance(facade, HubReactor)
    assert networkReactor(reactor) is facade
    assert networkReactor(facade) is facade


def test_noHub(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a hub cannot run, the reactor's own transports do: without epoll, and in a reactor of a test."""
    memory = MemoryReactorClock()
    assert interfaces.IReactorFDSet.providedBy(memory)
    assert networkReactor(memory) is memory
    monkeypatch.setattr(Hub, "available", staticmethod(lambda: False))
    assert networkReactor(reactor) is reactor


def test_module() -> None:
    """The reactor is a parameter: importing the layer installs none."""
    assert not hasattr(reactorModule, "reactor")


class Echo(Recorder):
    """Answers and stays."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)  # type: ignore[union-attr]


@ensureDeferred
async def test_strings(hubReactor: HubReactor, tmp_path: Path) -> None:
    """B10.1: servers and clients from descriptions, for TCP of both versions and UNIX sockets."""
    path = tmp_path / "app.sock"
    for server, client in (
        ("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{0.port}"),
        ("tcp:0:interface=127.0.0.1:backlog=7", "tcp:localhost:{0.port}"),
        ("tcp6:0:interface=\\:\\:1", "tcp:\\:\\:1:{0.port}"),
        (f"unix:{path}", f"unix:{path}"),
        (f"unix:{path}:mode=600:lockfile=0", f"unix:{path}"),
    ):
        factory = Recorders(Echo)
        port = await serverFromString(hubReactor, server).listen(factory)
        assert isinstance(port, Listener)
        endpoint = clientFromString(hubReactor, client.format(port.getHost()))
        protocol = await endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
        protocol.transport.write(b"hello")
        await until(lambda protocol=protocol: protocol.received)
        assert bytes(protocol.received) == b"hello"
        protocol.transport.loseConnection()
        await until(lambda factory=factory: factory.made[0].lost)
        await port.stopListening()


@ensureDeferred
async def test_adoptedByEndpoint(hubReactor: HubReactor) -> None:
    """B10.1: a socket of the service manager is served on the hub, too."""
    mine = socket.socket()
    mine.bind(("127.0.0.1", 0))
    mine.listen()
    factory = Recorders(Echo)
    # The endpoint closes the descriptor that it is given.
    endpoint = AdoptedStreamServerEndpoint(hubReactor, mine.detach(), socket.AF_INET)
    port = await endpoint.listen(factory)
    assert isinstance(port, Listener)
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
    await until(lambda: factory.made[0].lost)
    await port.stopListening()


@pytest.mark.filterwarnings("ignore:Using readBody with a transport")  # Agent's own body transport
@ensureDeferred
async def test_webOnAHub(hubReactor: HubReactor) -> None:
    """A stock Site and a stock Agent work on the hub, bodies of megabytes included."""

    class Body(Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            return request.content.read()[::-1]  # type: ignore[no-any-return]

    site = Site(Body())
    site.noisy = False  # type: ignore[attr-defined]
    port = hubReactor.listenTCP(0, site, interface="127.0.0.1")
    data = bytes(range(256)) * 8192
    response = await Agent(hubReactor).request(
        b"POST", b"http://127.0.0.1:%d/" % port.getHost().port, None, FileBodyProducer(BytesIO(data))
    )
    assert (response.code, await readBody(response)) == (200, data[::-1])
    await port.stopListening()
    # The site's channel notices the end of the connection.
    await turn(0.01)


@ensureDeferred
async def test_stockAndHubTogether(reactor: Any, hubReactor: HubReactor) -> None:
    """Both kinds of ports live in one reactor side by side."""
    ports = []
    for each in (reactor, hubReactor):
        factory = Recorders(Echo)
        port = each.listenTCP(0, factory, interface="127.0.0.1")
        ports.append(port)
        with RawPeer.connect(port.getHost()) as peer:
            await peer.send(b"hello")
            assert await peer.read(5) == b"hello"
        await until(lambda factory=factory: factory.made[0].lost)
    for port in ports:
        await port.stopListening()
