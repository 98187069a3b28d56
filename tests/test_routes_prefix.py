"""
Routers whose branches do not see the prefix that led to them.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.resource import Resource
from twisted.web.server import Site

from twistproxy import (
    Explained,
    PoolSettings,
    ProxySettings,
    Response,
    ReverseProxy,
    Router,
    TargetDirector,
    Timeouts,
    chain,
)
from twistproxy.agents import ProxyAgent
from twistproxy.routes import comparable
from twistproxy.rules.forwarded import networks
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryClient, MemoryNetwork, MemoryProxy, ScriptedUpstream, httpResponse
from twistproxy.web.resource import ReverseProxyResource

BACK = {
    "Location": "http://origin.test/base/there?q",
    "Content-Location": "/base/here",
    "Set-Cookie": "a=1; Path=/base/x; Domain=origin.test",
    "Content-Length": "0",
}


def routed(asResponder: bool, *, base: str = "http://origin.test/base", proxy: Any = None, **options: Any) -> MemoryProxy:
    """@return: a proxy with a mount at /api, whose router is the responder or a director."""
    network = MemoryNetwork()
    proxyOptions = proxy or {}
    if asResponder:
        router = Router(reactor=network, **proxyOptions).add(base, path="/api", stripPrefix=True, **options)
        return MemoryProxy(network=network, responder=router)
    router = Router().add(base, path="/api", stripPrefix=True, **options)
    return MemoryProxy(network=network, responder=ReverseProxy(router, reactor=network, **proxyOptions))


both = pytest.mark.parametrize("asResponder", [True, False], ids=["responder", "director"])


@both
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/api/x/y?q=1", "/base/x/y?q=1"),
        ("/api", "/base/"),
        ("/api/", "/base/"),
        ("/api?q", "/base/?q"),
        ("/%61pi/x%2Fy", "/base/x%2Fy"),
        ("/api/x//y/", "/base/x//y/"),
        ("/api/x/../y", "/base/x/../y"),
    ],
)
def test_stripped(asResponder: bool, asked: str, sent: str) -> None:
    """B2.6: the upstream sees the path behind the prefix, escaped as it came, and is told of the prefix as it was written."""
    with routed(asResponder) as proxy:
        upstream = proxy.addUpstream()
        response = proxy.client().request(target=asked)
        assert response.status == 200
        assert upstream.request.target.decode() == sent
        assert upstream.request.headers.getAll("X-Forwarded-Prefix") == [b"/%61pi" if "%61" in asked else b"/api"]
        assert proxy.records[0].target.decode() == asked


@both
@pytest.mark.parametrize("asked", ["//api/x", "/a/../api/x", "/api/x/../../api/y", "/./api", "/api/.%2e/api/x"])
def test_cannotBeTaken(asResponder: bool, asked: str) -> None:
    """B2.6: a path that is below the prefix but does not begin with it is refused: nothing climbs out of a mount."""
    with routed(asResponder) as proxy:
        upstream = proxy.addUpstream()
        assert proxy.client().request(target=asked).status == 400
        assert upstream.requests == []
        assert "cannot be taken" in proxy.records[0].error.reason


@both
def test_back(asResponder: bool) -> None:
    """What the upstream says of its own addresses is mapped to the public ones."""
    with routed(asResponder) as proxy:
        proxy.addUpstream(answer=httpResponse(302, BACK))
        headers = proxy.client().request(target="/api/x").headers
        assert headers.get("Location") == b"/api/there?q"
        assert headers.get("Content-Location") == b"/api/here"
        assert headers.get("Set-Cookie") == b"a=1; Path=/api/x; Domain=front.test"


@both
def test_knobs(asResponder: bool) -> None:
    """Both are switched off by knobs."""
    with routed(asResponder, forwardPrefix=False, mapBack=False) as proxy:
        upstream = proxy.addUpstream(answer=httpResponse(302, BACK))
        response = proxy.client().request(target="/api/x")
        assert response.headers.get("Location") == BACK["Location"].encode()
        assert upstream.request.headers.get("X-Forwarded-Prefix") is None
        assert upstream.request.target == b"/base/x"


@both
def test_claims(asResponder: bool) -> None:
    """B2.4: a client's own claim does not reach the upstream; a trusted one's stays beside ours."""
    for trusted, expected in (((), [b"/api"]), (networks(["192.0.2.1"]), [b"/outer", b"/api"])):
        with routed(asResponder, proxy={"settings": ProxySettings(trustedProxies=trusted)}) as proxy:
            upstream = proxy.addUpstream()
            proxy.client().request(target="/api/x", headers={"X-Forwarded-Prefix": "/outer"})
            assert upstream.request.headers.getAll("X-Forwarded-Prefix") == expected


@both
def test_nested(asResponder: bool) -> None:
    """A router in a router: each takes its own prefix; the upstream is told of both as one, and mapped back through both."""
    network = MemoryNetwork()
    options = {"reactor": network} if asResponder else {}
    inner = Router(**options).add("http://origin.test/base", path="/b", stripPrefix=True)
    outer: Any = Router(**options).add(inner, path="/a", stripPrefix=True)
    with MemoryProxy(network=network, responder=outer if asResponder else ReverseProxy(outer, reactor=network)) as proxy:
        upstream = proxy.addUpstream(answer=httpResponse(302, BACK))
        response = proxy.client().request(target="/a/b/x")
        assert upstream.request.target == b"/base/x"
        assert upstream.request.headers.getAll("X-Forwarded-Prefix") == [b"/a/b"]
        assert response.headers.get("Location") == b"/a/b/there?q"


def test_insideOfAResource() -> None:
    """A router below a resource: what was taken off before counts as well, there and back."""
    network = MemoryNetwork()
    router = Router(reactor=network).add("http://origin.test/base", path="/b", stripPrefix=True)
    root = Resource()
    root.putChild(b"a", ReverseProxyResource(router, network.clock.seconds))
    upstream = ScriptedUpstream(network, "origin.test:80", httpResponse(302, BACK))
    network.listening[parseTarget("http://origin.test").key] = upstream
    client = MemoryClient(network.connect(Site(root, reactor=network.clock)))
    response = client.request(target="/a/b/x")
    assert upstream.request.target == b"/base/x"
    assert upstream.request.headers.getAll("X-Forwarded-Prefix") == [b"/a/b"]
    assert response.headers.get("Location") == b"/a/b/there?q"
    network.end()


def test_sameHeadAgain() -> None:
    """A head that comes again on its connection is not taken for one whose prefix is gone, or told of twice."""
    with routed(True) as proxy:
        upstream = proxy.addUpstream()
        client = proxy.client()
        for _ in range(3):
            client.request(target="/api/x")
        assert [each.target for each in upstream.requests] == [b"/base/x"] * 3
        assert [each.headers.getAll("X-Forwarded-Prefix") for each in upstream.requests] == [[b"/api"]] * 3


def test_default() -> None:
    """Without being asked, a router leaves paths whole."""
    network = MemoryNetwork()
    router = Router(reactor=network).add("http://origin.test/base", path="/api")
    with MemoryProxy(network=network, responder=router) as proxy:
        upstream = proxy.addUpstream(answer=httpResponse(302, BACK))
        assert proxy.client().request(target="/api/x").headers.get("Location") == BACK["Location"].encode()
        assert upstream.request.target == b"/base/api/x"
        assert upstream.request.headers.get("X-Forwarded-Prefix") is None


def test_chained() -> None:
    """As a link of a chain: who comes behind sees the whole inbound path, and nothing is forwarded twice."""
    seen: list[bytes] = []

    def last(request: Any) -> None:
        seen.append(request.inbound.target)
        request.setXForwarded()

    network = MemoryNetwork()
    router = Router().add(TargetDirector("http://origin.test"), path="/api", stripPrefix=True)
    with MemoryProxy(network=network, responder=ReverseProxy(chain(router, last), reactor=network)) as proxy:
        upstream = proxy.addUpstream()
        proxy.client().request(target="/api/x")
        assert seen == [b"/api/x"]
        assert upstream.request.headers.getAll("X-Forwarded-Proto") == [b"http"]
        assert len(upstream.request.headers.getAll("X-Forwarded-Host")) == 1


def test_response() -> None:
    """A ready response is a branch like any other, and is not mapped: it is ours."""
    router = Router(reactor=MemoryNetwork()).add(
        Response(302, {"Location": "/x"}), path="/api", stripPrefix=True
    )
    with MemoryProxy(responder=router) as proxy:
        assert proxy.client().request(target="/api/x").headers.get("Location") == b"/x"


def test_noPath() -> None:
    """There must be something to take off."""
    with pytest.raises(ValueError, match="stripPrefix needs a path"):
        Router().add("http://a", stripPrefix=True)


def test_explained() -> None:
    """B9: an explanation tells what the client asked, and what went upstream."""
    network = MemoryNetwork()
    router = Router(reactor=network).add("http://origin.test/base", path="/api", stripPrefix=True)
    with MemoryProxy(network=network, responder=Explained(router)) as proxy:
        proxy.addUpstream(answer=httpResponse(302, BACK))
        assert proxy.client().request(target="/api/x").headers.get("Location") == b"/api/there?q"
        [explanation] = proxy.explanations
        assert explanation["request"]["target"] == "/api/x"
        assert explanation["sent"]["target"] == "/base/x"
        assert "x-forwarded-prefix" in explanation["added"]


segments = st.lists(st.sampled_from(["api", "x", "..", ".", "", "%61pi", "%2e%2E", "%2F", "y"]), max_size=7)


@given(segments)
def test_neverOutside(parts: list[str]) -> None:
    """B2.6: however a path is written, what passes means the same below the mount as it did below the prefix."""
    asked = "/api/" + "/".join(parts)
    with routed(True, base="http://origin.test") as proxy:
        upstream = proxy.addUpstream()
        proxy.client().request(target=asked)
        for each in upstream.requests:
            whole = (b"/api" + comparable(each.target)).rstrip(b"/")
            assert whole == comparable(asked.encode()).rstrip(b"/")


def test_defaultTransport() -> None:
    """B4: the transport that a proxy makes itself can be had without a proxy, with the same bounds; two can share it."""
    network = MemoryNetwork()
    transport = ProxyAgent.default(network, timeouts=Timeouts(responseHead=2.0), pool=PoolSettings(maxConnections=1))
    assert type(ReverseProxy.to("http://origin.test", reactor=network).transport) is type(transport)
    one, other = (ReverseProxy.to(f"http://origin.test/{n}", transport=transport, reactor=network) for n in "ab")
    router = Router().add(one, path="/a").add(other, path="/b")
    with MemoryProxy(network=network, responder=router) as proxy:
        upstream = proxy.addUpstream()
        client = proxy.client()
        assert [client.request(target=target).status for target in ("/a", "/b")] == [200, 200]
        assert len(upstream.connections) == 1
        upstream.answer = None
        client.request(target="/a")
        proxy.advance(2.5)
        assert client.response.status == 504
        transport.close()
