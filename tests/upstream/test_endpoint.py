"""
Upstreams behind Twisted's endpoints: when they count as connected, and what becomes of them when they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, INegotiated, IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.peers import until
from tests.support.certificates import Authority
from tests.upstream.conftest import Page
from twistproxy.errors import Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IDialer
from twistproxy.upstream.endpoint import EndpointDialer, EndpointTarget, _Entrance
from twistproxy.upstreams import Target


class Line:
    """An endpoint's transport."""

    def __init__(self) -> None:
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


@implementer(INegotiated)
class TLSLine(Line):
    """The same with TLS."""

    negotiatedProtocol = None


class Endpoint:
    """An endpoint whose connection comes when the test says so."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.protocol: Any = None
        self.cancelled = False

        def cancel(_: object) -> None:
            self.cancelled = True

        self.connecting: Deferred[Any] = Deferred(cancel)

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.doStart()
        self.protocol = factory.buildProtocol(None)
        return self.connecting

    def connected(self) -> None:
        """The connection stands."""
        self.protocol.makeConnection(self.line)
        self.connecting.callback(self.protocol)


@implementer(IProtocol)
class Heard:
    """
    Notes what it hears.
    """

    factory = None

    def __init__(self) -> None:
        self.told: list[Any] = []

    def makeConnection(self, transport: Any) -> None:
        self.told.append("made")

    def connectionMade(self) -> None:
        """Called by nobody."""

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    def readConnectionLost(self) -> None:
        self.told.append("read")

    def writeConnectionLost(self) -> None:
        self.told.append("write")

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append("lost")


class Other:
    """A dialer for other targets."""

    def dial(self, target: Target, protocol: Any, handshaking: Any = None) -> Deferred[Any]:
        return succeed(target)


class Dialed:
    """One attempt."""

    def __init__(self, line: Line) -> None:
        self.endpoint = Endpoint(line)
        self.protocol = Heard()
        self.outcome: list[Any] = []
        target = EndpointTarget("http", "app", 80, endpoint=self.endpoint)
        self.dialing = EndpointDialer(Other()).dial(target, self.protocol)  # type: ignore[arg-type]
        self.dialing.addBoth(lambda result: self.outcome.append(getattr(result, "value", result)))


def test_interfaces() -> None:
    """It is a dialer."""
    assert verifyObject(IDialer, EndpointDialer(Other()))
    entrance = _Entrance(Heard(), Dialed(Line()))  # type: ignore[arg-type]
    for interface in (IProtocol, IHalfCloseableProtocol, IHandshakeListener):
        assert verifyObject(interface, entrance)


def test_otherTargets() -> None:
    """Other targets are another dialer's."""
    found: list[Any] = []
    target = Target("http", "app", 80)
    EndpointDialer(Other()).dial(target, Heard()).addCallback(found.append)  # type: ignore[arg-type]
    assert found == [target]


def test_keys() -> None:
    """B8.2: targets share connections if they share an endpoint, or the name they are kept under."""
    one, two = object(), object()
    made = [
        EndpointTarget("http", "app", 80, b"/base", endpoint=one),
        EndpointTarget("http", "app", 80, endpoint=one),
        EndpointTarget("http", "app", 80, endpoint=two),
        EndpointTarget("http", "app", 80, endpoint=one, pooledAs="x"),
        EndpointTarget("http", "app", 80, endpoint=two, pooledAs="x"),
        Target("http", "app", 80),
    ]
    numbers = [[other.key for other in made].index(target.key) for target in made]
    assert numbers == [0, 0, 2, 3, 3, 5]
    assert (made[0].name, made[0].authority) == ("app:80", b"app")


def test_connects() -> None:
    """The protocol is connected, and hears everything from then on."""
    dialed = Dialed(Line())
    assert dialed.outcome == []
    dialed.endpoint.connected()
    assert (dialed.outcome, dialed.protocol.told) == ([None], ["made"])
    entrance = dialed.endpoint.protocol
    entrance.dataReceived(b"a")
    entrance.writeConnectionLost()
    entrance.readConnectionLost()
    entrance.connectionLost(Failure(ConnectionDone()))
    assert dialed.protocol.told == ["made", b"a", "write", "read", "lost"]


def test_waitsForHandshake() -> None:
    """With TLS the connection does not stand before the handshake is done."""
    dialed = Dialed(TLSLine())
    dialed.endpoint.connected()
    assert dialed.outcome == []
    dialed.endpoint.protocol.handshakeCompleted()
    assert (dialed.outcome, dialed.protocol.told) == ([None], ["made"])


def test_handshakeFirst() -> None:
    """Nor before the endpoint has fired, should that come later."""
    dialed = Dialed(TLSLine())
    dialed.endpoint.protocol.makeConnection(dialed.endpoint.line)
    dialed.endpoint.protocol.handshakeCompleted()
    assert dialed.outcome == []
    dialed.endpoint.connecting.callback(None)
    assert (dialed.outcome, dialed.protocol.told) == ([None], ["made"])


def test_handshakeFails() -> None:
    """A connection that is lost in the handshake never was one: stage TLS, and the protocol hears nothing."""
    dialed = Dialed(TLSLine())
    dialed.endpoint.connected()
    dialed.endpoint.protocol.connectionLost(Failure(ConnectionLost()))
    [error] = dialed.outcome
    assert (type(error), error.stage, dialed.protocol.told) == (UpstreamError, Stage.TLS, [])


@pytest.mark.parametrize("what", ["dataReceived", "readConnectionLost"])
def test_talksTooEarly(what: str) -> None:
    """Whoever speaks, or hangs up, before the handshake is done is hung up on."""
    dialed = Dialed(TLSLine())
    dialed.endpoint.connected()
    getattr(dialed.endpoint.protocol, what)(*([b"x"] if what == "dataReceived" else []))
    dialed.endpoint.protocol.writeConnectionLost()
    assert (dialed.endpoint.line.aborted, dialed.protocol.told) == (True, [])


@pytest.mark.parametrize("connected", [False, True])
def test_cancel(connected: bool) -> None:
    """Cancelling gives up the attempt, or the connection that is in its handshake."""
    dialed = Dialed(TLSLine())
    if connected:
        dialed.endpoint.connected()
    dialed.dialing.cancel()
    assert (dialed.endpoint.cancelled, dialed.endpoint.line.aborted) == (not connected, connected)
    if connected:
        dialed.endpoint.protocol.connectionLost(Failure(ConnectionDone()))
    assert (len(dialed.outcome), dialed.protocol.told) == (1, [])


class SecureOrigin:
    """A stock Site over TLS."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates
        from twisted.web.server import Site

        authority = Authority(folder)
        certificate, key = authority.certificate("localhost", "DNS:localhost,IP:127.0.0.1")
        self.trust = trustRootFromCertificates([Certificate.loadPEM(authority.file.read_bytes())])
        server = PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
        self.site = Site(Page(b"secret"), reactor=reactor)
        self.site.noisy = False  # type: ignore[attr-defined]
        self.port = reactor.listenSSL(0, self.site, server.options(), interface="127.0.0.1")
        self.url = b"https://127.0.0.1:%d/" % self.port.getHost().port


@pytest.fixture
def secureOrigin(warmReactor: Any, tmp_path: Path) -> Iterator[SecureOrigin]:
    """A stock Site over TLS."""
    origin = SecureOrigin(warmReactor, tmp_path)
    yield origin
    pytest_twisted.blockon(origin.port.stopListening())


@pytest_twisted.ensureDeferred
async def test_stockAgentWithTLS(warmReactor: Any, proxyAgent: Any, secureOrigin: SecureOrigin) -> None:
    """B8.4: a stock Agent on our pool decides itself whom to trust; who does not trust the origin sends it nothing."""
    from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseNeverReceived, readBody

    pool = proxyAgent().pool
    with pytest.raises(ResponseNeverReceived) as caught:
        await Agent(warmReactor, pool=pool).request(b"GET", secureOrigin.url)
    assert caught.value.reasons[0].value.stage is Stage.TLS
    trusting = Agent(warmReactor, BrowserLikePolicyForHTTPS(secureOrigin.trust), pool=pool)
    for _ in range(2):
        assert await readBody(await trusting.request(b"GET", secureOrigin.url)) == b"secret"
    [connections] = pool.transport.pools.values()
    assert (connections.connections, len(connections.idle)) == (1, 1)
    await pool.closeCachedConnections()


@pytest_twisted.ensureDeferred
async def test_muteTLSPeer(warmReactor: Any, proxyAgent: Any) -> None:
    """B9: a peer that does not take part in the handshake is given up, where a stock Agent would wait for ever."""
    from twisted.internet.error import TimeoutError as ConnectTimeoutError
    from twisted.web.client import Agent

    from twistproxy.deadlines import Timeouts

    mute = Factory.forProtocol(MuteProtocol)
    mute.noisy = False  # type: ignore[misc]
    port = warmReactor.listenTCP(0, mute, interface="127.0.0.1")
    pool = proxyAgent(timeouts=Timeouts(connect=0.2)).pool
    with pytest.raises(ConnectTimeoutError) as caught:
        await Agent(warmReactor, pool=pool).request(b"GET", b"https://127.0.0.1:%d/" % port.getHost().port)
    assert isinstance(caught.value.__cause__, UpstreamTimeout)
    await port.stopListening()
    await until(lambda: not any(each.connections for each in pool.transport.pools.values()), "the end of it")


class MuteProtocol(Heard):
    """Says nothing."""
