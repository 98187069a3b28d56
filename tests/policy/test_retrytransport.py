"""
The transport that tries again what came to nothing.
"""

from __future__ import annotations

import gc
from asyncio import CancelledError as AsyncioCancelledError
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body, Taker, Transport, request, upstreamResponse
from tests.upstream.test_transport import ONE, outboundTo, outcome
from twistproxy import TargetDirector, Timeouts
from twistproxy.core.exchange import Exchange
from twistproxy.errors import ClientError, HookFailed, Sent, Stage, Unavailable, UpstreamError
from twistproxy.interfaces import IBody, ICallbackTransport, ICarrier, IRoundTripReceiver, ITransport
from twistproxy.net.wheel import Wheel
from twistproxy.policy.balance import BalancingTransport
from twistproxy.policy.retry import Retries, RetryBudget
from twistproxy.policy.retrytransport import RetryTransport
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryProxy, echo, httpResponse
from twistproxy.upstreams import Cluster

REFUSED = UpstreamError("refused", Stage.CONNECT)
RESET = UpstreamError("reset", Stage.WAIT, Sent.ALL)
POST = b"POST / HTTP/1.1\r\nHost: front.test"


class Retried(Bench):
    """
    A flow that tries again over a scripted transport.

    @ivar outcomes: what becomes of the tries: errors, statuses, or C{None} for nothing yet.
    """

    def __init__(self, *outcomes: Any, policy: Any = None, director: Any = None, **options: Any) -> None:
        self.outcomes = list(outcomes)
        self.below = Transport(self._end)
        self.heads: list[Any] = []
        clock = Clock()
        self.retry = RetryTransport(self.below, policy, wheel=Wheel(clock), **options)
        super().__init__(director=director, transport=self.retry)
        # one clock for both
        self.retry._wheel = self.wheel

    def _end(self, outbound: Any, receiver: Any) -> None:
        self.heads.append((outbound.method, outbound.target, outbound.host, tuple(outbound.lines), outbound.upstream))
        self.end(receiver, self.outcomes.pop(0) if self.outcomes else None)

    def end(self, receiver: Any, outcome: Any) -> None:
        """Let a try end."""
        if isinstance(outcome, int):
            receiver.responseReceived(upstreamResponse(outcome))
        elif isinstance(outcome, Exception):
            receiver.roundTripFailed(outcome)

    @property
    def tries(self) -> int:
        """How often the request was begun."""
        return len(self.below.begun)

    @property
    def statuses(self) -> list[int]:
        """What the clients got."""
        return [record.status for record in self.records]


AT_ONCE = Retries(most=2, statuses=(503,), pause=0.0)


def test_interfaces() -> None:
    """It is both kinds of transport; what holds a request between two tries can be aborted; its body is a body."""
    bench = Retried(REFUSED)
    assert verifyObject(ICallbackTransport, bench.retry)
    assert verifyObject(ITransport, bench.retry)
    exchange = bench.start(request(POST, Body()))
    assert exchange.outbound is not None
    assert verifyObject(ICarrier, exchange.outbound.carrier)
    assert verifyObject(IRoundTripReceiver, exchange.outbound.carrier)
    assert verifyObject(IBody, exchange.outbound.body)
    exchange.clientLeft()


@pytest.mark.parametrize(
    ("outcomes", "tries", "status"),
    [
        ([200], 1, 200),
        ([REFUSED, 200], 2, 200),
        ([REFUSED, RESET, 200], 3, 200),
        ([REFUSED, RESET, REFUSED, 200], 3, 502),
        ([503, 200], 2, 200),
        ([503, 503, 503, 200], 3, 503),
        ([500, 200], 1, 500),
        ([ClientError("too large", 413, Stage.SEND), 200], 1, 413),
        ([HookFailed("transport", "a bug"), 200], 1, 500),
    ],
)
def test_tries(outcomes: list[Any], tries: int, status: int) -> None:
    """What comes to nothing on the upstream's side is tried again, as often as was asked for; the last outcome counts."""
    bench = Retried(*outcomes, policy=AT_ONCE)
    bench.start()
    assert (bench.tries, bench.statuses) == (tries, [status])


def test_fromTheHead() -> None:
    """B2.2: a retry begins again from the head as the director left it, and the director is not asked again."""
    asked: list[Any] = []

    def director(given: Any) -> None:
        asked.append(given)
        given.setTarget("http://origin.test/base")
        given.outbound.headers.set("X-Mine", "1")

    bench = Retried(director=director, policy=AT_ONCE)
    exchange = bench.start(request(b"GET /x HTTP/1.1\r\nHost: front.test\r\nUpgrade: any\r\nConnection: upgrade"))
    for _ in range(2):
        outbound, receiver = bench.below.begun[-1]
        outbound.method, outbound.target, outbound.host, outbound.upgrade = b"PUT", b"/other", b"other", None
        outbound.upstream, outbound.replayed, outbound.timeouts = ONE, True, Timeouts()
        outbound.acceptsTrailers = outbound.chunked = True
        outbound.headers.set("X-Mine", "spoiled")
        outbound.lines.append(b"X-Spoiled: 1")
        receiver.roundTripFailed(RESET)
    outbound, _ = bench.below.begun[-1]
    assert (len(asked), bench.tries) == (1, 3)
    assert bench.heads[0] == bench.heads[1] == bench.heads[2]
    assert (outbound.upgrade, outbound.replayed, outbound.timeouts) == (b"any", False, None)
    assert (outbound.acceptsTrailers, outbound.chunked, outbound.headers.get("X-Mine")) == (False, False, b"1")
    exchange.clientLeft()


def test_told() -> None:
    """The record tells of every try, and the explanation too."""
    bench = Retried(REFUSED, 503, 200, policy=AT_ONCE)
    exchange = bench.start()
    assert bench.records[0].retried == (("origin.test:80", "refused"), ("origin.test:80", "answered with 503"))
    assert exchange.explain()["retried"][1] == {"upstream": "origin.test:80", "why": "answered with 503"}
    assert "  tried before: origin.test:80, refused" in exchange.explain().lines()


def test_plainPolicy() -> None:
    """A callable is a policy; it is asked of failures, and of no status."""
    asked: list[Any] = []

    def policy(attempt: Any) -> float | None:
        asked.append((attempt.number, attempt.error, attempt.status, attempt.elsewhere))
        return 0.0 if attempt.number < 2 else None

    for outcomes in ([RESET, RESET], [503]):
        Retried(*outcomes, policy=policy).start()
    assert asked == [(1, RESET, None, False), (2, RESET, None, False)]


def _cancelled(*arguments: Any) -> Any:
    raise AsyncioCancelledError


@pytest.mark.parametrize(
    "policy",
    [
        lambda attempt: 1 // 0,
        lambda attempt: -1,
        lambda attempt: "soon",
        lambda attempt: False,
        lambda attempt: True,
        _cancelled,
    ],
)
def test_badPolicy(policy: Any, loggedErrors: Any) -> None:
    """B7.4: a policy that fails is logged, and the client gets what the try came to."""
    bench = Retried(RESET, 200, policy=policy)
    bench.start()
    assert (bench.tries, bench.statuses, len(loggedErrors)) == (1, [502], 1)
    loggedErrors.clear()


def test_patientPolicy() -> None:
    """A policy that never says no does not keep a request for ever, nor the proxy busy with it."""
    bench = Retried(*[REFUSED] * 1000, policy=lambda attempt: 0.0)
    bench.start()
    assert (bench.tries, bench.statuses) == (31, [502])


def test_betweenCopies() -> None:
    """A transport between retry and balance that sends a copy leaves it open who has failed: not taken for elsewhere."""
    group = Cluster([parseTarget("http://a.test"), parseTarget("http://b.test")])
    balancing = BalancingTransport(Transport(lambda outbound, receiver: receiver.roundTripFailed(REFUSED)))
    asked: list[Any] = []

    def policy(attempt: Any) -> float | None:
        asked.append((attempt.number, attempt.elsewhere))
        return 0.0 if attempt.number < 2 else None

    retry = RetryTransport(balancing.roundTrip, policy, wheel=Wheel(Clock()))
    bench = Bench(director=lambda given: given.setTarget(group), transport=retry)
    bench.start()
    assert asked == [(1, False), (2, False)]
    assert bench.records[0].retried == (("a.test:80", "refused"),)


def test_noPolicy() -> None:
    """What is no policy is an error at once."""
    with pytest.raises(TypeError, match="IRetryPolicy"):
        RetryTransport(Transport(), 3, wheel=Wheel(Clock()))


# -- bodies


def test_wholeBody() -> None:
    """A body that is all here goes again with its request."""
    bench = Retried(REFUSED, RESET, 200, policy=AT_ONCE)
    bench.start(request(b"PUT / HTTP/1.1\r\nHost: front.test\r\nContent-Length: 4", b"body"))
    assert bench.statuses == [200]
    assert [outbound.upstream is not None for outbound, _ in bench.below.begun] == [True] * 3


@pytest.mark.parametrize("touch", ["deliver", "stopProducing"])
def test_streamedBody(touch: str) -> None:
    """A body that streams goes again until somebody has asked for it, or given it up; whatever the error says then."""
    body = Body(9)
    bench = Retried(REFUSED, None, policy=AT_ONCE)
    bench.start(request(POST + b"\r\nContent-Length: 9", body))
    outbound, receiver = bench.below.begun[-1]
    assert (bench.tries, outbound.body.length) == (2, 9)
    getattr(outbound.body, touch)(*([Taker()] if touch == "deliver" else []))
    receiver.roundTripFailed(REFUSED)
    assert (bench.tries, bench.statuses) == (2, [502])


def test_bodyPasses() -> None:
    """B4.2: a body that streams is paused, resumed and given up through it."""
    body = Body(9)
    bench = Retried(None)
    exchange = bench.start(request(POST + b"\r\nContent-Length: 9", body))
    [(outbound, _)] = bench.below.begun
    outbound.body.pauseProducing()
    outbound.body.resumeProducing()
    outbound.body.stopProducing()
    assert body.told == ["pause", "resume", "stop"]
    exchange.clientLeft()


# -- time, and clients that leave


def test_pause() -> None:
    """The same upstream is tried again after a pause, under the exchange's own limits."""
    bench = Retried(REFUSED, 200, policy=Retries(pause=1.0, random=lambda: 0.999))
    exchange = bench.start()
    assert (bench.tries, exchange.stage()) == (1, Stage.QUEUE)
    assert [each["side"] for each in exchange.explain()["timers"]] == ["upstream"]
    bench.clock.pump([0.1] * 9)
    assert bench.tries == 1
    bench.clock.pump([0.1] * 4)
    assert (bench.tries, bench.statuses) == (2, [200])
    assert bench.clock.getDelayedCalls() == []


def test_noPlaceInAPause() -> None:
    """What waits for another try is under way nowhere."""
    group = Cluster([parseTarget("http://a.test")])
    with MemoryProxy(group, balance=lambda candidates, outbound: candidates[0], retries=1) as proxy:
        upstream = proxy.addUpstream("http://a.test")
        upstream.refusing = upstream.holding = True
        client = proxy.client()
        client.request()
        [member] = group.members
        assert member.active == 1
        upstream.holding = False
        proxy.run()
        assert member.active == 0
        upstream.refusing = False
        proxy.advance(1.0)
        assert (client.response.status, member.active) == (200, 0)


@pytest.mark.parametrize("leave", [Exchange.clientLeft, Exchange.cutOff])
def test_leftInAPause(leave: Callable[[Exchange], None]) -> None:
    """B7.1: nothing is tried for a client that has left, and nothing is left of it."""
    bench = Retried(REFUSED, 200)
    leave(bench.start())
    assert bench.clock.getDelayedCalls() == []
    bench.clock.pump([0.1] * 20)
    assert bench.tries == 1
    assert bench.retry._waiting == set()


def test_leftInATry() -> None:
    """B7.1: a client that leaves ends the try that runs, and there is no other."""
    bench = Retried(REFUSED, None, policy=AT_ONCE)
    bench.start().clientLeft()
    assert (bench.tries, bench.below.carrier.aborted) == (2, 1)


def test_wholeTime() -> None:
    """B9: the limit on the exchange ends a pause too."""
    policy = Retries(pause=5.0, longest=5.0, random=lambda: 0.999)
    with MemoryProxy("http://a.test", retries=policy, timeouts=Timeouts(exchange=2.0)) as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        client = proxy.client()
        client.request()
        proxy.advance(2.5)
        assert client.response.status == 504


# -- ends


@pytest.mark.parametrize("end", ["close", "cut"])
def test_closed(end: str) -> None:
    """Nothing is tried again once it is closed."""
    bench = Retried(policy=AT_ONCE)
    bench.start()
    getattr(bench.retry, end)()
    bench.end(bench.below.begun[-1][1], RESET)
    assert (bench.tries, bench.statuses) == (1, [502])


def test_cutInAPause() -> None:
    """What waits for another try when it is cut fails at once; so does who waits for it without a proxy."""
    bench = Retried(REFUSED)
    found = outcome(bench.retry.roundTrip(outboundTo(ONE)))
    assert found == []
    bench.retry.cut()
    assert [type(error) for error in found] == [Unavailable]
    assert bench.clock.getDelayedCalls() == []


def test_cancelled() -> None:
    """Without a proxy, cancelling ends a try and a pause alike."""
    for outcomes, aborted in (([None], 1), ([REFUSED], 0)):
        bench = Retried(*outcomes)
        asking = bench.retry.roundTrip(outboundTo(ONE))
        found = outcome(asking)
        asking.cancel()
        assert [type(error) for error in found] == [CancelledError]
        assert (bench.below.carrier.aborted, bench.clock.getDelayedCalls()) == (aborted, [])


def test_noGarbage() -> None:
    """Requests that were tried again leave nothing for the garbage collector."""
    bench = Retried(*[REFUSED, 503, 200] * 20, policy=AT_ONCE, budget=RetryBudget(1.0))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            bench.start()
            bench.below.begun.clear()
        assert bench.statuses == [200] * 20
        assert gc.collect() == 0
    finally:
        gc.enable()


# -- with connections


CLUSTER = ("http://a.test", "http://b.test/base")


def both(**options: Any) -> MemoryProxy:
    """@return: a proxy for two targets, as an operator gets it, without breakers."""
    director = TargetDirector(CLUSTER, balanced=True)
    return MemoryProxy(director, **{"balance": "round-robin", "retries": 1, **options})


def test_refusedElsewhere() -> None:
    """A request that could not be sent goes to the other target, with its Host and its base path, whatever its method."""
    with both() as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        good = proxy.addUpstream("http://b.test")
        for _ in range(6):
            assert proxy.client().request("POST", "/x", body=b"once").status == 200  # type: ignore[union-attr]
        assert [(each.target, each.headers.get("host"), each.body) for each in good.requests] == [
            (b"/base/x", b"b.test", b"once")
        ] * 6
        assert [record.tries for record in proxy.records] == [1] * 6


def test_streamElsewhere() -> None:
    """B4.1: so does one whose body is still coming."""
    with both() as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        good = proxy.addUpstream("http://b.test")
        client = proxy.client()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        client.send(b"def")
        assert client.response.status == 200
        assert good.request.body == b"abcdef"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502)])
def test_resetElsewhere(method: str, status: int) -> None:
    """What was sent goes again only if that does no harm: a POST is sent at most once."""
    with both() as proxy:
        bad, good = proxy.addUpstream("http://a.test"), proxy.addUpstream("http://b.test")
        bad.onConnection = lambda connection: connection.outgoing.closeAt(0)
        body = None if method == "GET" else b"body"
        statuses = [proxy.client().request(method, body=body).status for _ in range(4)]  # type: ignore[union-attr]
        assert sorted(statuses) == sorted([status, 200] * 2)
        if method == "POST":
            assert len(good.requests) == 2


def test_statusElsewhere() -> None:
    """A status that was asked for goes to the other target, and the refused response leaves its connection free."""
    with both(retries=Retries(statuses=(503,))) as proxy:
        busy = proxy.addUpstream("http://a.test", httpResponse(503, {"Content-Length": "4"}, b"busy"))
        proxy.addUpstream("http://b.test")
        client = proxy.client()
        assert [client.request().status for _ in range(6)] == [200] * 6  # type: ignore[union-attr]
        assert client.request("POST", body=b"x").status == 503  # type: ignore[union-attr]
        assert (len(busy.connections), len(busy.requests)) == (1, 4)


def test_refusedResponseThatStreams() -> None:
    """The body of a refused response that is still coming is given up, and its connection with it."""
    with both(retries=Retries(statuses=(503,))) as proxy:
        busy = proxy.addUpstream("http://a.test", b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\nbu")
        proxy.addUpstream("http://b.test")
        assert proxy.client().request().status == 200  # type: ignore[union-attr]
        assert busy.connection.ended == "reset"


def test_bothFail() -> None:
    """B7.2: if neither does, the client gets what the last one came to, and the log all of it."""
    with both() as proxy:
        for name in ("a", "b"):
            proxy.addUpstream(f"http://{name}.test").refusing = True
        assert proxy.client().request().status == 502  # type: ignore[union-attr]
        [record] = proxy.records
        assert (record.upstream, record.retried) == ("b.test:80", (("a.test:80", "refused"),))


def test_interims() -> None:
    """B5.6: interim responses of a try that came to nothing were relayed, and do not hinder another."""
    with both() as proxy:
        first, second = proxy.addUpstream("http://a.test", None), proxy.addUpstream("http://b.test", None)
        client = proxy.client()
        client.request()
        first.connection.send(b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n")
        first.connection.sendEOF()
        second.connection.send(b"HTTP/1.1 103 Early Hints\r\nX: 2\r\n\r\n" + httpResponse(200))
        assert ([each.status for each in client.interims], client.response.status) == ([103, 103], 200)


def test_afterTheHead() -> None:
    """B5.5: behind a head that was passed on there is no other try: the client is cut off."""
    with both() as proxy:
        first = proxy.addUpstream("http://a.test", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        second = proxy.addUpstream("http://b.test")
        client = proxy.client()
        client.request()
        first.connection.sendReset()
        assert (client.ended, client.response.complete, second.requests) == ("closed", False, [])


def test_hostile() -> None:
    """Upstreams that take every request and answer none get at most a fifth more than clients have sent."""
    with both(retries=Retries(most=5, pause=0.0)) as proxy:
        upstreams = [proxy.addUpstream(f"http://{name}.test") for name in "ab"]
        for upstream in upstreams:
            upstream.onConnection = lambda connection: connection.outgoing.closeAt(0)
        for _ in range(300):
            assert proxy.client().request().status == 502  # type: ignore[union-attr]
        got = sum(len(upstream.connections) for upstream in upstreams)
        assert 300 < got <= 300 * 1.2 + 10


def test_hostileKept() -> None:
    """B8.3: nor do those that serve one request of a connection and close under the next multiply anything."""

    def once(message: Any) -> bytes | None:
        if message.connection.outgoing.count:
            message.connection.outgoing.closeAt(0)
            return None
        return echo(message)

    with both(retries=Retries(most=5, pause=0.0)) as proxy:
        upstreams = [proxy.addUpstream(f"http://{name}.test", once) for name in "ab"]
        client = proxy.client()
        assert [client.request().status for _ in range(200)] == [200] * 200  # type: ignore[union-attr]
        assert sum(len(upstream.requests) for upstream in upstreams) <= 2 * 200
