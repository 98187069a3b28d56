"""
The policies of delivery, put together.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.support.flow import Transport
from twistproxy import ReverseProxy, ReverseProxyResource, Router, TargetDirector
from twistproxy.agents import ProxyAgent
from twistproxy.delivery import deliver
from twistproxy.policy.balance import BalancingTransport, LeastRequests, RoundRobin
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.breakertransport import BreakerTransport
from twistproxy.policy.retry import Retries
from twistproxy.policy.retrytransport import RetryTransport
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryNetwork, MemoryProxy, httpResponse
from twistproxy.upstreams import Cluster

TWO = ("http://a.test", "http://b.test")


def layers(transport: Any) -> list[type]:
    """@return: what stands around each other, the outermost first."""
    found = []
    while transport is not None:
        found.append(type(transport))
        transport = getattr(transport, "transport", None)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"balance": None, "retries": 0, "breaker": False}, []),
        ({"balance": "random"}, [BalancingTransport]),
        ({"retries": 2}, [RetryTransport]),
        ({"breaker": True}, [BreakerTransport]),
        (
            {"balance": "round-robin", "retries": 1, "breaker": BreakerSettings()},
            [RetryTransport, BalancingTransport, BreakerTransport],
        ),
    ],
)
def test_deliver(options: Any, expected: Any) -> None:
    """What was asked for stands around the transport, in the order that makes sense, and nothing else."""
    assert layers(deliver(Transport(), reactor=MemoryReactorClock(), **options)) == [*expected, Transport]


def test_given() -> None:
    """Balancers, policies and thresholds of one's own are used."""
    balancer, policy, settings = LeastRequests(), Retries(most=7), BreakerSettings(failures=9)
    made = deliver(Transport(), reactor=MemoryReactorClock(), balance=balancer, retries=policy, breaker=settings)
    assert (made.policy, made.transport.balancer, made.breakers.settings) == (policy, balancer, settings)
    assert deliver(Transport(), reactor=MemoryReactorClock(), retries=3).policy == Retries(most=3)


def test_noSuchBalancer() -> None:
    """A balancer that is not there is an error at once, and says which are."""
    with pytest.raises(ValueError, match="write round-robin, least-requests, random"):
        ReverseProxy.to(TWO, reactor=MemoryReactorClock(), balance="fastest")


@pytest.mark.parametrize("breaker", ["on", "off", 5])
def test_noSuchBreaker(breaker: Any) -> None:
    """What is no breaker is an error at once, and not one of every request."""
    with pytest.raises(TypeError, match=f"{breaker!r} is no breaker"):
        ReverseProxy.to(TWO, reactor=MemoryReactorClock(), breaker=breaker)


@pytest.mark.parametrize("make", [ReverseProxy.to, lambda *a, **k: ReverseProxyResource.to(*a, **k).proxy])
def test_to(make: Any) -> None:
    """One target is as it always was; several come with what a careful operator would want, unless told otherwise."""
    reactor = MemoryReactorClock()
    assert layers(make("http://a.test", reactor=reactor).transport) == [ProxyAgent]
    assert layers(make(["http://a.test"], reactor=reactor).transport) == [ProxyAgent]
    proxy = make(TWO, reactor=reactor)
    assert layers(proxy.transport)[:3] == [RetryTransport, BalancingTransport, BreakerTransport]
    assert isinstance(proxy.transport.transport.balancer, RoundRobin)
    proxy = make(TWO, reactor=reactor, balance="least-requests", retries=0, breaker=False)
    assert layers(proxy.transport) == [BalancingTransport, ProxyAgent]
    proxy = make(Cluster(map(parseTarget, TWO)), reactor=reactor)
    assert layers(proxy.transport)[:3] == [RetryTransport, BalancingTransport, BreakerTransport]


def test_toWithATransport() -> None:
    """A transport of one's own carries what the policies decide."""
    transport = Transport()
    proxy = ReverseProxy.to(TWO, transport=transport, reactor=MemoryReactorClock())
    assert layers(proxy.transport)[-1] is Transport
    proxy.close()


def test_severalInTurn() -> None:
    """Without policies several targets are used in turn, by any transport, as before."""
    with MemoryProxy(TargetDirector(TWO)) as proxy:
        upstreams = [proxy.addUpstream(target) for target in TWO]
        for _ in range(4):
            proxy.client().request()
        assert [len(upstream.requests) for upstream in upstreams] == [2, 2]


def test_anyDirector() -> None:
    """A director of one's own names a cluster, edits the head, and all policies hold for it."""
    group = Cluster(map(parseTarget, ("http://a.test/x", "http://b.test/y")))
    asked: list[Any] = []

    def director(request: Any) -> None:
        asked.append(request)
        request.setTarget(group)
        request.outbound.headers.set("X-Mine", "1")
        request.outbound.target += b"?mine"

    with MemoryProxy(director, balance="round-robin", retries=1, breaker=True) as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        good = proxy.addUpstream("http://b.test")
        assert proxy.client().request("POST", "/p").status == 200  # type: ignore[union-attr]
        assert (good.request.target, good.request.headers.get("x-mine"), len(asked)) == (b"/y/p?mine", b"1", 1)


def test_mapsBack() -> None:
    """What a member says of its own address is mapped to the public one behind a mount, whichever member it is."""
    network = MemoryNetwork(strict=True)
    group = Cluster(map(parseTarget, ("http://a.test/x", "http://b.test/y")))
    router = Router(reactor=network, balance="round-robin", retries=1).add(group, path="/api", stripPrefix=True)
    with MemoryProxy(responder=router, network=network) as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        proxy.addUpstream("http://b.test", httpResponse(302, {"Location": "http://b.test/y/there", "Content-Length": "0"}))
        response = proxy.client().request(target="/api/here")
        assert response is not None
        assert (response.status, response.headers.get("location")) == (302, b"/api/there")


def test_router() -> None:
    """The branches of a router share one transport with one set of policies."""
    network = MemoryNetwork(strict=True)
    router = Router(reactor=network, balance="round-robin", retries=1)
    for path in ("/one", "/two", ""):
        router.add(Cluster(map(parseTarget, TWO)), path=path)
    with MemoryProxy(responder=router, network=network) as proxy:
        proxy.addUpstream(TWO[0]).refusing = True
        good = proxy.addUpstream(TWO[1])
        for path in ("/one", "/two", "/three"):
            assert proxy.client().request(target=path).status == 200  # type: ignore[union-attr]
        assert len(good.requests) == 3
        found = {id(each.transport): each.transport for each in router._proxies.values()}
        assert [layers(transport)[:2] for transport in found.values()] == [[RetryTransport, BalancingTransport]]
        [shared] = found.values()
        assert layers(shared).count(RetryTransport) == 1
        for connection in proxy.network.dialed:
            connection.sendReset()
