"""
The public proxy with its default parts.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from tests.net.peers import until
from tests.support.peers import Client, Origin
from twistproxy import (
    Limits,
    PoolSettings,
    ProxySettings,
    ProxySite,
    Response,
    ReverseProxy,
    TargetDirector,
    Timeouts,
    TLSSettings,
)
from twistproxy.agents import ProxyAgent
from twistproxy.interfaces import IResponder
from twistproxy.net.network import Network


def test_interface() -> None:
    """It is a responder."""
    assert verifyObject(IResponder, ReverseProxy.to(":8081", reactor=MemoryReactorClock()))


def test_defaultReactor(warmReactor: Any) -> None:
    """As everywhere in Twisted the global reactor is the default; a network made before will do as well."""
    network = Network.of(warmReactor)
    assert ProxySite(ReverseProxy.to(":8081")).network is network
    assert ProxySite(ReverseProxy.to(":8081", reactor=network), reactor=network).network is network


def test_to() -> None:
    """B8.5: a proxy for one target; what could mean two things is an error at once."""
    proxy = ReverseProxy.to("http://o.test/base", preserveHost=True, reactor=MemoryReactorClock())
    assert isinstance(proxy.director, TargetDirector)
    assert proxy.director.targets[0].name == "o.test:80"
    with pytest.raises(ValueError, match="ambiguous"):
        ReverseProxy.to("o.test")


def test_parts() -> None:
    """What it is given goes to the parts that use it."""
    pool, limits, timeouts = PoolSettings(maxIdle=1), Limits(head=1000), Timeouts(connect=1.0)
    tls = TLSSettings(serverName="other.test")
    proxy = ReverseProxy(
        lambda request: None,
        reactor=MemoryReactorClock(),
        settings=ProxySettings(via=None),
        pool=pool,
        limits=limits,
        timeouts=timeouts,
        tls=tls,
    )
    assert isinstance(proxy.transport, ProxyAgent)
    transport = proxy.transport.pool.transport
    dialer: Any = transport._dialer._dialer
    assert (transport.settings, transport._context.limits, dialer._tls) == (pool, limits, tls)
    assert (transport.timeouts, dialer._timeout, proxy.settings.via) == (timeouts, 1.0, None)


def test_close() -> None:
    """Closing closes the transport's connections, if it has a way to do that."""
    proxy = ReverseProxy.to(":8081", reactor=MemoryReactorClock())
    proxy.close()
    assert proxy.transport.pool.transport._closed is True
    ReverseProxy(lambda request: None, lambda outbound: Response(200), reactor=MemoryReactorClock()).close()


@pytest_twisted.ensureDeferred
async def test_inFiveLines(warmReactor: Any) -> None:
    """What the documentation begins with: a proxy on loopback, with hooks on both sides."""
    seen: list[Any] = []

    def director(request: Any) -> None:
        request.setTarget(origin.target)
        request.outbound.headers.set("X-Mine", "1")

    def mark(response: Any) -> None:
        response.headers.set("X-Marked", "yes")

    origin = Origin()
    proxy = ReverseProxy(director, modifyResponse=mark)
    site = ProxySite(proxy, observers=[seen.append])
    port = site.network.reactor.listenTCP(0, site, interface="127.0.0.1")
    asking = Client.connect(port.getHost().port)
    assert isinstance(asking, Client)
    try:
        await asking.ask("POST", "/up", body=b"hello")
        connection = await origin.acceptRequest()
        request = await connection.request()
        assert (request.method, request.target, request.body, request[b"x-mine"]) == (b"POST", b"/up", b"hello", b"1")
        await connection.answer(b"world")
        response = await asking.response()
        assert (response.status, response.body, response[b"x-marked"]) == (200, b"world", b"yes")
        await until(lambda: seen)
        assert (seen[0].status, seen[0].requestBytes, seen[0].responseBytes) == (200, 5, 5)
    finally:
        asking.close()
        origin.close()
        await port.stopListening()
        proxy.close()
        await until(lambda: not site.connections)
        await until(lambda: not any(pool.connections for pool in proxy.transport.pools.values()))
