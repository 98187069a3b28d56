"""
Policies around each other, and around any transport.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import permutations
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Transport, request, upstreamResponse
from tests.support.memory import MemoryNetwork
from tests.upstream.test_transport import ONE, outboundTo, outcome
from twistproxy import Response, ReverseProxy
from twistproxy.agents import AgentTransport, ProxyAgent
from twistproxy.errors import Sent, Stage, UpstreamError
from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.message import OutboundRequest
from twistproxy.net.wheel import Wheel
from twistproxy.policy.balance import BalancingTransport, LeastRequests
from twistproxy.policy.breakertransport import BreakerTransport
from twistproxy.policy.layer import Layer
from twistproxy.policy.retry import Retries
from twistproxy.policy.retrytransport import RetryTransport
from twistproxy.rules.target import parseTarget
from twistproxy.testing import FaultyTransport, MemoryProxy, httpResponse
from twistproxy.upstreams import Cluster

REFUSED = UpstreamError("refused", Stage.CONNECT)

LAYERS: dict[str, Any] = {
    "retry": lambda below, wheel: RetryTransport(below, Retries(most=2, pause=0.0), wheel=wheel),
    "balance": lambda below, wheel: BalancingTransport(below, LeastRequests()),
    "breaker": lambda below, wheel: BreakerTransport(below, clock=lambda: 0.0),
}
ORDERS = list(permutations(LAYERS))


def stack(names: Any, below: Any, wheel: Any = None) -> Any:
    """@return: layers around a transport, the last name innermost."""
    for name in reversed(names):
        below = LAYERS[name](below, wheel or Wheel(Clock()))
    return below


def cluster() -> Cluster:
    """@return: two members."""
    return Cluster([parseTarget("http://a.test"), parseTarget("http://b.test")])


def test_nothing() -> None:
    """A layer that decides nothing is a transport as the one below; what is none is an error at once."""
    below = Transport()
    layer = Layer(below)
    assert verifyObject(ICallbackTransport, layer)
    assert verifyObject(ITransport, layer)
    layer.begin(outboundTo(ONE), None)
    layer.close()
    layer.cut()
    assert (len(below.begun), layer.pools, layer.breakers) == (1, {}, None)
    assert "Layer on" in repr(layer)
    with pytest.raises(TypeError, match="nor is callable"):
        Layer("http://origin.test")


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_anyOrder(names: Any) -> None:
    """In whatever order they stand: a request gets through past a member that fails once, and nothing is left of it."""
    outcomes: list[Any] = [REFUSED, None, None]

    def script(outbound: OutboundRequest, receiver: Any) -> None:
        failure = outcomes.pop(0)
        if failure is not None:
            receiver.roundTripFailed(failure)
        elif len(outcomes) == 1:
            receiver.informationalReceived(upstreamResponse(103))
            receiver.responseReceived(upstreamResponse(200))

    group = cluster()
    bench = Bench(script, transport=None, director=lambda asked: asked.setTarget(group))
    bench.flow._begin = stack(names, bench.transport, bench.wheel).begin
    bench.start(request(b"POST / HTTP/1.1\r\nHost: front.test"))
    assert bench.downstream.told == [("interim", 103), ("head", 200, 5, b"hello", True), "ended"]
    left, aborted = bench.start(request()), bench.transport.carrier.aborted
    left.clientLeft()
    assert bench.transport.carrier.aborted == aborted + 1
    assert [member.active for member in group.members] == [0, 0]
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_closes(names: Any) -> None:
    """The outermost closes and cuts what is at the bottom, and shows its pools."""
    network = MemoryNetwork()
    agent = ProxyAgent.default(network)
    transport = stack(names, agent, network.wheel)
    found = outcome(transport.roundTrip(outboundTo(ONE)))
    network.run()
    [connection] = network.dialed
    assert [pool.connections for pool in transport.pools.values()] == [1]
    transport.close()
    connection.send(httpResponse(200))
    assert (found[0].status, connection.ended) == (200, "reset")
    assert [pool.connections for pool in transport.pools.values()] == [0]
    transport.cut()
    network.end()


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_cut(names: Any) -> None:
    """Whoever waits when it is cut is told, once; nothing is connected to again."""
    network = MemoryNetwork()
    transport = stack(names, ProxyAgent.default(network), network.wheel)
    found = outcome(transport.roundTrip(outboundTo(cluster())))
    network.run()
    transport.cut()
    network.run()
    assert [type(error) for error in found] == [UpstreamError]
    assert len(network.dialed) == 1
    network.end()


def test_deferreds() -> None:
    """Each is a transport with Deferreds too: a response, an error, interim responses."""
    below = Transport()
    transport = stack(LAYERS, below)
    outbound = outboundTo(cluster())
    interims: list[Any] = []
    outbound.onInformational = interims.append
    found = outcome(transport.roundTrip(outbound))
    _, receiver = below.begun[-1]
    receiver.informationalReceived(upstreamResponse(103))
    receiver.responseReceived(upstreamResponse(204))
    assert ([each.status for each in interims], found[0].status) == ([103], 204)
    assert outbound.carrier is None


# -- over what users bring


@implementer(ITransport)
class Mine:
    """A transport of a user's, which fails now and then."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[str] = []

    def roundTrip(self, outbound: OutboundRequest) -> Any:
        self.asked.append(outbound.upstream.name)  # type: ignore[union-attr]
        found = self.outcomes.pop(0)
        return fail(found) if isinstance(found, Exception) else succeed(found)


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_overDeferreds(names: Any) -> None:
    """A transport that answers by Deferreds is as good as one that calls back."""
    mine = Mine(REFUSED, Response(200, body=b"hello"))
    group = cluster()
    bench = Bench(director=lambda asked: asked.setTarget(group), transport=stack(names, mine))
    bench.start()
    assert bench.downstream.told == [("head", 200, 5, b"hello", True), "ended"]
    # below a retry the next member is picked, above it there is only the same one
    assert (mine.asked[1] == mine.asked[0]) == (names.index("balance") < names.index("retry"))


variable: ContextVar[str] = ContextVar("variable")


def test_overCallables() -> None:
    """B3: a callable is a transport, and runs in the context of its exchange also below policies."""

    def director(asked: Any) -> None:
        variable.set("the director's")
        asked.setTarget(cluster())

    async def look(outbound: OutboundRequest) -> Response:
        return Response(200, body=variable.get("nobody's"))

    bench = Bench(director=director, transport=stack(LAYERS, look))
    bench.start()
    assert bench.downstream.told[0][3] == b"the director's"


def test_refusedBodyOfUsers() -> None:
    """The body of a response that somebody else made is given up when the response is refused."""
    stopped: list[str] = []

    class Endless:
        length = None

        def deliver(self, consumer: Any) -> None:
            raise AssertionError("nobody wants it")

        def pauseProducing(self) -> None: ...

        def resumeProducing(self) -> None: ...

        def stopProducing(self) -> None:
            stopped.append("stopped")

    mine = Mine(Response(503, body=Endless()), Response(200))
    transport = RetryTransport(mine, Retries(statuses=(503,), pause=0.0), wheel=Wheel(Clock()))
    bench = Bench(transport=transport)
    bench.start()
    assert (stopped, bench.records[0].status) == (["stopped"], 200)


def test_overFaults() -> None:
    """Faults on purpose stand below policies as anything else, and are made good."""
    with MemoryProxy(cluster(), transport=None) as proxy:
        faulty = FaultyTransport(proxy.responder.transport, proxy.clock, resetAt=-1, resetRate=0.3, seed=1)  # type: ignore[attr-defined]
        transport = stack(("retry", "balance"), faulty, proxy.network.wheel)
        flow = ReverseProxy(lambda asked: asked.setTarget(group), transport, reactor=proxy.network)
        group = cluster()
        proxy.site._replaceResponder(flow.respond)
        for name in "ab":
            proxy.addUpstream(f"http://{name}.test")
        statuses = [proxy.client().request().status for _ in range(30)]  # type: ignore[union-attr]
        assert statuses.count(200) >= 29
        assert faulty.injected["reset"] > 5


@implementer(IAgent)
class Unlucky:
    """An agent that reaches nobody."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        self.asked.append(uri)
        return fail(ConnectionRefusedError())


def test_overAnAgent() -> None:
    """An agent of Twisted's below them: what it could not send goes elsewhere, whatever the method."""
    agent, group = Unlucky(), cluster()
    outbound = outboundTo(group, b"body")
    outbound.method = b"POST"
    found = outcome(stack(LAYERS, AgentTransport(agent)).roundTrip(outbound))
    assert [(error.stage, error.sent) for error in found] == [(Stage.CONNECT, Sent.NOTHING)]
    assert agent.asked[:2] == [b"http://a.test/", b"http://b.test/"]
    assert len(agent.asked) == 3
    assert [member.active for member in group.members] == [0, 0]


def test_roundTripIsCancelled() -> None:
    """B7.1: cancelling reaches a transport with Deferreds below all of them."""
    cancelled: list[str] = []

    def never(outbound: OutboundRequest) -> Any:
        return Deferred(lambda deferred: cancelled.append("cancelled"))

    transport = stack(LAYERS, never)
    asking = transport.roundTrip(outboundTo(cluster()))
    found = outcome(asking)
    asking.cancel()
    assert (cancelled, len(found)) == (["cancelled"], 1)
