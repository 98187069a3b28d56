"""
What users write, as type checkers see it.  Nothing here runs: C{mypy --strict} reads it, and so does whoever wonders how
something is annotated.

The mistakes are on purpose.  Each is marked with the error that it must give, and a mark that is not needed any more is
an error itself: an annotation that gets lost does not go unnoticed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, assert_type

import treq.client
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.web.client import Agent, RedirectAgent
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from twistproxy import (
    Explained,
    Headers,
    Limits,
    PoolSettings,
    ProxyError,
    ProxyRequest,
    ProxySettings,
    ProxySite,
    Refused,
    Response,
    ReverseProxy,
    ReverseProxyResource,
    Router,
    StreamingRequest,
    Target,
    TargetDirector,
    Timeouts,
    TLSSettings,
    chain,
)
from twistproxy.agents import AgentTransport, ProxyAgent, ProxyConnectionPool
from twistproxy.core.exchange import Exchange
from twistproxy.core.explain import Explanation
from twistproxy.delivery import deliver
from twistproxy.errors import Sent, Side, Stage
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import (
    IBalancer,
    IBodyConsumer,
    IBodyFilter,
    IDirector,
    IErrorHandler,
    IObserver,
    IResponder,
    IResponseModifier,
    ITransport,
)
from twistproxy.message import OutboundRequest, Request, UpstreamResponse
from twistproxy.policy.balance import BalancingTransport, LeastRequests
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.breakertransport import BreakerTransport
from twistproxy.policy.retry import Attempt, Retries
from twistproxy.policy.retrytransport import RetryTransport
from twistproxy.testing import FaultyTransport, MemoryClient, MemoryNetwork, MemoryProxy, Message, ScriptedUpstream
from twistproxy.upstreams import Cluster, Member

# -- directors


def direct(request: ProxyRequest) -> None:
    assert_type(request.inbound, Request)
    assert_type(request.outbound, OutboundRequest)
    assert_type(request.exchange, Exchange)
    assert_type(request.inbound.path, bytes)
    assert_type(request.outbound.headers.get("Cookie"), bytes | None)
    assert_type(request.outbound.headers.getAll(b"Cookie"), list[bytes])
    request.setTarget("http://origin.test", preserveHost=True)
    request.setTarget(Target("http", "origin.test", 80))
    request.setXForwarded()
    request.setForwarded()
    request.setTarget(b"http://origin.test")  # type: ignore[arg-type]
    request.inbound.headers.set("A", 1)  # type: ignore[arg-type]


def directSometimes(request: ProxyRequest) -> Response | None:
    if request.inbound.method == b"PUT":
        raise Refused(405, "read only")
    return Response(404, {"Content-Type": "text/plain"}, "nothing here\n")


async def directAsync(request: ProxyRequest) -> Response | None:
    return None


async def directAway(request: ProxyRequest) -> None:
    request.setTarget("http://origin.test")


def directLater(request: ProxyRequest) -> Deferred[Response]:
    return succeed(Response(204))


def directNonsense(request: ProxyRequest) -> str:
    return "http://origin.test"


@implementer(IDirector)
class Chooser:
    def direct(self, request: ProxyRequest) -> Response | None:
        return None


ReverseProxy(direct)
ReverseProxy(directSometimes)
ReverseProxy(directAsync)
ReverseProxy(directAway)
ReverseProxy(directLater)
ReverseProxy(Chooser())
ReverseProxy(TargetDirector("http://origin.test"))
ReverseProxy(directNonsense)  # type: ignore[arg-type]
ReverseProxy("http://origin.test")  # type: ignore[arg-type]
ReverseProxy(chain(direct, directAsync, Chooser()))
chain(directNonsense)  # type: ignore[arg-type]


# -- policies


def pick(candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
    assert_type(candidates[0].target, Target)
    assert_type(candidates[0].active, int)
    return candidates[0]


def again(attempt: Attempt) -> float | None:
    assert_type(attempt.outbound, OutboundRequest)
    assert_type(attempt.error, ProxyError | None)
    return 0.0 if attempt.number < 2 and not attempt.delivered else None


def pickNonsense(candidates: Sequence[Member], outbound: OutboundRequest) -> str:
    return "the first"


@implementer(IBalancer)
class First:
    counts = False

    def pick(self, candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
        return candidates[0]


def deliveries(network: MemoryNetwork, clock: Clock) -> None:
    cluster = Cluster([Target("http", "origin.test", 80)])
    assert_type(cluster.members, tuple[Member, ...])
    ReverseProxy.to(["http://a.test", "http://b.test"], balance="random", retries=2, breaker=True)
    ReverseProxy.to(cluster, balance=pick, retries=again, breaker=BreakerSettings(failures=3))
    ReverseProxyResource.to(["http://a.test", cluster], balance=First(), retries=Retries(statuses={503}), breaker=False)
    ReverseProxy(direct, balance=LeastRequests(), retries=0)
    Router(balance="round-robin").add(cluster)
    transport = RetryTransport(ProxyAgent.default(), again, wheel=network.wheel)
    BalancingTransport(BreakerTransport(transport, clock=clock.seconds), pick)
    ReverseProxy(direct, deliver(transport, balance=pick))
    ReverseProxy.to("http://a.test", balance=pickNonsense)  # type: ignore[arg-type]
    ReverseProxy.to("http://a.test", retries="2")  # type: ignore[arg-type]
    BreakerSettings(failure=3)  # type: ignore[call-arg]


# -- transports


@implementer(ITransport)
class Wrapping:
    def __init__(self, transport: ProxyAgent) -> None:
        self._transport = transport

    async def roundTrip(self, outbound: OutboundRequest) -> Response:
        try:
            response = await self._transport.roundTrip(outbound)
            assert_type(response, UpstreamResponse)
            return response
        except ProxyError as error:
            assert_type((error.stage, error.side, error.sent), tuple[Stage, Side, Sent])
            return Response(503)


async def ready(outbound: OutboundRequest) -> Response:
    return Response(200, body=b"ready")


def notWaiting(outbound: OutboundRequest) -> Response:
    return Response(200)


transport = ProxyAgent.default(
    None, timeouts=Timeouts(connect=1.0), limits=Limits(), pool=PoolSettings(maxConnections=8), tls=TLSSettings()
)
assert_type(transport, ProxyAgent)
ReverseProxy(direct, transport)
ReverseProxy(direct, Wrapping(transport))
ReverseProxy(direct, ready)
ReverseProxy(direct, FaultyTransport(transport, None, statusRate=0.01))
ReverseProxy(direct, notWaiting)  # type: ignore[arg-type]
ReverseProxy(direct, AgentTransport(RedirectAgent(transport)))
ProxyAgent.default(pools=PoolSettings())  # type: ignore[call-arg]
Timeouts(connect="1")  # type: ignore[arg-type]


def agents(reactor: Any) -> None:
    agent: IAgent = ProxyAgent(reactor, pool=ProxyConnectionPool(reactor, settings=PoolSettings()))
    treq.client.HTTPClient(agent)
    AgentTransport(Agent(reactor))


# -- the other hooks


def modify(response: UpstreamResponse) -> None:
    assert_type(response.status, int)
    assert_type(response.headers, Headers)
    response.headers.removeAll(["Server"])


async def modifyLater(response: UpstreamResponse) -> None:
    response.status = 201


def modifyNonsense(response: UpstreamResponse) -> Response:
    return response


def handle(error: ProxyError, exchange: Exchange) -> Response | None:
    assert_type(error.timeout, str | None)
    assert_type(exchange.record, ExchangeRecord)
    explanation = exchange.explain()
    assert_type(explanation, Explanation)
    assert_type(explanation.lines(), list[str])
    return None


async def handleLater(error: ProxyError, exchange: Exchange) -> Response:
    return Response(error.status)


def handleNonsense(error: ProxyError) -> Response:
    return Response(500)


async def upper(chunks: AsyncIterator[bytes], message: OutboundRequest) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.upper()


async def lower(chunks: AsyncIterator[bytes], message: UpstreamResponse) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.lower()


async def either(chunks: AsyncIterator[bytes], message: OutboundRequest | UpstreamResponse) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def texts(chunks: AsyncIterator[bytes], message: UpstreamResponse) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk.decode()


def passing(consumer: IBodyConsumer, message: UpstreamResponse) -> IBodyConsumer:
    return consumer


@implementer(IBodyFilter)
class Filter:
    def filterBody(self, consumer: IBodyConsumer, message: Any) -> IBodyConsumer:
        return consumer


@implementer(IResponseModifier)
class Modifier:
    def modifyResponse(self, response: UpstreamResponse) -> None: ...


@implementer(IErrorHandler)
class ErrorHandler:
    def handleError(self, error: ProxyError, exchange: Exchange) -> None: ...


@implementer(IObserver)
class Observer:
    def exchangeSettled(self, record: ExchangeRecord) -> None: ...


def told(record: ExchangeRecord) -> None:
    assert_type((record.status, record.total, record.error), tuple[int, float, ProxyError | None])


ReverseProxy(direct, modifyResponse=modify, errorHandler=handle, requestFilters=[upper], responseFilters=[lower])
ReverseProxy(direct, modifyResponse=modifyLater, errorHandler=handleLater, requestFilters=[either, Filter()])
ReverseProxy(direct, modifyResponse=Modifier(), errorHandler=ErrorHandler(), responseFilters=[either, passing])
ReverseProxy(direct, modifyResponse=modifyNonsense)  # type: ignore[arg-type]
ReverseProxy(direct, errorHandler=handleNonsense)  # type: ignore[arg-type]
ReverseProxy(direct, requestFilters=[lower])  # type: ignore[list-item]
ReverseProxy(direct, responseFilters=[texts])  # type: ignore[list-item]
ReverseProxy(direct, onError=handle)  # type: ignore[call-arg]

proxy = ReverseProxy.to("http://origin.test", transport=transport, settings=ProxySettings(via=None))
assert_type(proxy, ReverseProxy)
ReverseProxy.to("http://origin.test", timeout=Timeouts())  # type: ignore[call-arg]
ReverseProxy.to("http://origin.test", settings=Timeouts())  # type: ignore[arg-type]


class Mine(ReverseProxy):
    pass


assert_type(Mine.to(Target("http", "origin.test", 80)), Mine)


# -- responders and sites


def respond(exchange: Exchange) -> None:
    exchange.answer(Response(200, body=b"me"))
    exchange.answer("me")  # type: ignore[arg-type]


async def respondLater(exchange: Exchange) -> None:
    proxy.respond(exchange)


@implementer(IResponder)
class Responder:
    def respond(self, exchange: Exchange) -> None: ...


site = ProxySite(proxy, timeouts=Timeouts(), limits=Limits(), observers=[told, Observer()])
assert_type(site.listen("tcp:8080"), Deferred[IListeningPort])
assert_type(site.drain(), Deferred[None])
assert_type(site.exchanges, set[Exchange])
ProxySite(respond)
ProxySite(Responder())
ProxySite(respondLater)
ProxySite(Explained(proxy, always=False, trusted=["127.0.0.1"]))
ProxySite(proxy, observers=[handle])  # type: ignore[list-item]
ProxySite(direct)  # type: ignore[arg-type]
Explained(3)  # type: ignore[arg-type]

router = Router(transport, timeouts=Timeouts()).add(proxy, host="*.example.com").add("http://a.test", path="/a")
assert_type(router, Router)
router.add(direct, method=["GET", "HEAD"]).add(Responder(), headers={"X-A": None}).add(Response(204), path="/alive")
router.add(Chooser(), path="/b", stripPrefix=True, mapBack=False).add(Target("http", "origin.test", 80))
router.add(7)  # type: ignore[arg-type]
router.add(proxy, host=b"a.test")  # type: ignore[arg-type]
router.add(proxy, path=b"/a")  # type: ignore[arg-type]
Router(director=direct)  # type: ignore[call-arg]
ProxySite(router)
ReverseProxy(router)

root = Resource()
leaf = ReverseProxyResource.to("http://origin.test", observers=[told], mapBack=False)
assert_type(leaf, ReverseProxyResource)
assert_type(leaf.close(cut=True), Deferred[None])
root.putChild(b"api", leaf)
root.putChild(b"app", ReverseProxyResource(direct, transport, modifyResponse=modify, timeouts=Timeouts()))
ReverseProxyResource(directNonsense)  # type: ignore[arg-type]
ReverseProxyResource(direct, mapback=False)  # type: ignore[call-arg]
Site(root, requestFactory=StreamingRequest)


# -- tests


def test_mine() -> None:
    with MemoryProxy(direct, timeouts=Timeouts(responseHead=1.0), modifyResponse=modify) as memory:
        upstream = memory.addUpstream("http://origin.test", lambda message: message.body)
        assert_type(upstream, ScriptedUpstream)
        client = memory.client()
        assert_type(client, MemoryClient)
        assert_type(client.request("GET", "/"), Message | None)
        assert_type(client.response.status, int)
        assert_type(memory.explanations[0], Explanation)
        memory.advance(1.5)
        memory.advance("1")  # type: ignore[arg-type]
    MemoryProxy("http://origin.test", network=MemoryNetwork(), responseFilters=[lower])
    MemoryProxy(responder=router, network=MemoryNetwork())
    MemoryProxy(direct, responder=direct)  # type: ignore[arg-type]
    MemoryProxy(directNonsense)  # type: ignore[arg-type]
