"""
The transport that leaves upstreams alone which keep failing.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.support.flow import Transport, upstreamResponse
from tests.upstream.test_transport import outboundTo
from twistproxy import TargetDirector
from twistproxy.errors import ClientError, HookFailed, Sent, Stage, Unavailable, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import ICallbackTransport, IRoundTripReceiver, ITransport
from twistproxy.policy import breakertransport as module
from twistproxy.policy.breaker import BreakerSettings, State
from twistproxy.policy.breakertransport import BreakerTransport
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryProxy, httpResponse
from twistproxy.upstreams import Cluster

A, B = parseTarget("http://a.test"), parseTarget("http://b.test")
REFUSED = UpstreamError("refused", Stage.CONNECT)
BUSY = frozenset((503,))


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def informationalReceived(self, response: Any) -> None:
        self.told.append(response.status)

    def responseReceived(self, response: Any) -> None:
        self.told.append(response.status)

    def roundTripFailed(self, error: Any) -> None:
        self.told.append(error)


class Broken:
    """A breaker transport over a scripted one."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.below = Transport()
        self.transport = BreakerTransport(self.below, BreakerSettings(**settings), clock=self.clock.seconds)

    def ask(self, outcome: Any = None, target: Any = A) -> list[Any]:
        """
        @param outcome: a status or an error, which comes at once; C{None} for none.
        @return: what the receiver was told.
        """
        receiver, before = Told(), len(self.below.begun)
        self.transport.begin(outboundTo(target), receiver)
        if outcome is not None and len(self.below.begun) > before:
            self.end(outcome)
        return receiver.told

    def end(self, outcome: Any, number: int = -1) -> None:
        """Let a request that is under way end."""
        _, receiver = self.below.begun[number]
        if isinstance(outcome, int):
            receiver.responseReceived(upstreamResponse(outcome))
        else:
            receiver.roundTripFailed(outcome)

    @property
    def state(self) -> State:
        """What the breaker of A does."""
        return self.transport.breakers.of(A).state


def test_interfaces() -> None:
    """It is both kinds of transport, and what stands between is told what there is to tell."""
    broken = Broken(failures=1)
    assert verifyObject(ICallbackTransport, broken.transport)
    assert verifyObject(ITransport, broken.transport)
    for outcome in (REFUSED, 200):
        broken.ask()
        _, receiver = broken.below.begun[-1]
        assert verifyObject(IRoundTripReceiver, receiver)
        broken.end(outcome)
        broken.clock.advance(1)


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (REFUSED, True),
        (UpstreamError("handshake", Stage.TLS), True),
        (UpstreamError("reset", Stage.WAIT, Sent.ALL), True),
        (UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL), True),
        (503, True),
        (500, False),
        (200, False),
        (Unavailable("the line is full"), False),
        (ClientError("a body too large", 413, Stage.SEND), False),
        (HookFailed("request body", "ValueError", Sent.SOME), False),
    ],
)
def test_counts(outcome: Any, counts: bool) -> None:
    """What the upstream is to blame for counts, and the statuses that are asked for; nothing else."""
    broken = Broken(failures=2, statuses=BUSY)
    for _ in range(2):
        assert broken.ask(outcome) == [outcome]
    assert (broken.state is State.OPEN) == counts


def test_clientLeaves() -> None:
    """B7.1: clients that leave say nothing of the upstream, however many they are."""
    broken = Broken(failures=1)
    for _ in range(10):
        broken.ask()
        outbound, _ = broken.below.begun[-1]
        outbound.carrier.abort()
    assert broken.state is State.CLOSED


def test_refuses() -> None:
    """B7.2: an open breaker is a 503, and nothing is sent; other targets do not feel it."""
    broken = Broken(failures=1)
    broken.ask(REFUSED)
    [error] = broken.ask()
    assert (type(error), error.status, error.sent, len(broken.below.begun)) == (Unavailable, 503, Sent.NOTHING, 1)
    assert broken.ask(200, B) == [200]


@pytest.mark.parametrize(
    ("outcome", "state"), [(200, State.CLOSED), (503, State.OPEN), (REFUSED, State.OPEN), (Unavailable("x"), State.HALF_OPEN)]
)
def test_trial(outcome: Any, state: State) -> None:
    """When the pause is over one request goes, and what becomes of it decides."""
    broken = Broken(failures=1, statuses=BUSY)
    broken.ask(REFUSED)
    broken.clock.advance(1.0)
    trial = broken.ask()
    assert type(broken.ask()[0]) is Unavailable
    broken.end(outcome)
    assert trial == [outcome]
    assert broken.state is state


def test_trialThatToldNothing() -> None:
    """A trial that fails for a reason of ours leaves its place to the next request."""
    broken = Broken(failures=1)
    broken.ask(REFUSED)
    broken.clock.advance(1.0)
    broken.ask(HookFailed("transport", "a bug"))
    assert broken.ask(200) == [200]
    assert broken.state is State.CLOSED


def test_trialIsAbandoned() -> None:
    """B7.1: a trial whose client leaves does not keep the breaker half open for ever."""
    broken = Broken(failures=1)
    broken.ask(REFUSED)
    broken.clock.advance(1.0)
    broken.ask()
    broken.below.begun[-1][0].carrier.abort()
    assert type(broken.ask()[0]) is Unavailable
    broken.clock.advance(1.0)
    assert broken.ask(200) == [200]
    assert broken.state is State.CLOSED


@pytest.mark.parametrize("retries", [0, 1])
def test_clientsThatLeave(retries: int) -> None:
    """B7.1: clients that leave while theirs are the trials do not keep anybody from noticing that upstreams are back."""
    names = ["http://a.test", "http://b.test"]
    settings = BreakerSettings(failures=1, pause=30.0)
    options: Any = {"balance": "least-requests", "retries": retries, "breaker": settings}
    with MemoryProxy(TargetDirector(names, balanced=True), **options) as proxy:
        upstreams = [proxy.addUpstream(name, lambda message: None) for name in names]
        for upstream in upstreams:
            upstream.refusing = True
        for _ in names:
            proxy.client().request()
        assert proxy.responder.transport.breakers.troubled == 2
        for upstream in upstreams:
            upstream.refusing = False
        leaving = [proxy.client() for _ in range(4)]
        for client in leaving:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [[response.status for response in client.responses] for client in leaving] == [[], [], [503], [503]]
        for client in leaving:
            client.connection.sendReset()
        proxy.advance(0.1)
        for upstream in upstreams:
            upstream.answer = httpResponse(200)
        assert proxy.client().request().status == 200  # type: ignore[union-attr]


def test_interims() -> None:
    """Interim responses pass."""
    broken = Broken()
    told = broken.ask()
    broken.below.begun[-1][1].informationalReceived(upstreamResponse(103))
    broken.end(200)
    assert told == [103, 200]


def test_noTarget() -> None:
    """A request that names no upstream is the business of what is below."""
    assert Broken().ask(200, None) == [200]


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A director that makes up targets does not fill the memory; those in trouble are remembered longest."""
    monkeypatch.setattr(module, "MAX_BREAKERS", 3)
    broken = Broken(failures=1)
    breakers = broken.transport.breakers
    broken.ask(REFUSED)
    for number in range(20):
        broken.ask(200, parseTarget(f"http://x{number}.test"))
    assert (len(breakers), broken.state, breakers.troubled) == (3, State.OPEN, 1)
    for number in range(20):
        broken.ask(REFUSED, parseTarget(f"http://y{number}.test"))
        assert (len(breakers), breakers.troubled) <= (3, 3)
    assert breakers.get(A) is None


def test_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker that was forgotten with a request under way counts for nothing any more."""
    monkeypatch.setattr(module, "MAX_BREAKERS", 1)
    broken = Broken(failures=1)
    broken.ask()
    broken.ask(200, B)
    broken.end(REFUSED, 0)
    assert broken.transport.breakers.troubled == 0


def test_log() -> None:
    """An upstream that is left alone, and one that is back, are said once each."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        broken = Broken(failures=2)
        for outcome in (REFUSED, REFUSED, None, None):
            broken.ask(outcome)
        broken.clock.advance(1)
        broken.ask(REFUSED)
        broken.clock.advance(2)
        broken.ask(200)
    finally:
        globalLogPublisher.removeObserver(events.append)
    told = [(event["log_level"].name, event["log_format"].format(**event)) for event in events]
    assert told == [
        ("warn", "a.test:80 keeps failing: left alone for 1 s (2 failures in a row)"),
        ("info", "a.test:80 answers again"),
    ]


# -- with several upstreams


def cluster(**options: Any) -> MemoryProxy:
    """@return: a proxy for A and B, without retries."""
    settings = BreakerSettings(failures=1, **options)
    return MemoryProxy(Cluster([A, B]), balance="round-robin", breaker=settings)


def test_leftOut() -> None:
    """A member whose breaker is open gets nothing while another one is there, and one request when its pause is over."""
    with cluster() as proxy:
        bad, good = proxy.addUpstream("http://a.test"), proxy.addUpstream("http://b.test")
        bad.refusing = True
        client = proxy.client()
        statuses = [client.request().status for _ in range(6)]  # type: ignore[union-attr]
        assert statuses == [502, 200, 200, 200, 200, 200]
        proxy.advance(1.1)
        statuses = [client.request().status for _ in range(4)]  # type: ignore[union-attr]
        assert sorted(statuses) == [200, 200, 200, 502]
        bad.refusing = False
        proxy.advance(2.1)
        for _ in range(6):
            client.request()
        assert (len(bad.requests), len(good.requests)) == (3, 11)


def test_allOpen() -> None:
    """If all are open, one request at a time goes to each, and the first success is known at once."""
    with cluster() as proxy:
        upstreams = [proxy.addUpstream("http://a.test", None), proxy.addUpstream("http://b.test", None)]
        for upstream in upstreams:
            upstream.refusing = True
        client = proxy.client()
        assert [client.request().status for _ in range(8)] == [502] * 8  # type: ignore[union-attr]
        for upstream in upstreams:
            upstream.refusing = False
        trials = [proxy.client(), proxy.client()]
        for trial in trials:
            trial.request()
        assert [len(upstream.requests) for upstream in upstreams] == [1, 1]
        assert [proxy.client().request().status for _ in range(3)] == [503] * 3  # type: ignore[union-attr]
        assert [record.error.status for record in proxy.records[-3:] if record.error] == [503] * 3
        upstreams[1].connection.send(httpResponse(200))
        upstreams[1].answer = httpResponse(200)
        assert [proxy.client().request().status for _ in range(3)] == [200] * 3  # type: ignore[union-attr]
        assert len(upstreams[0].requests) == 1
        for client in trials:
            client.connection.sendReset()


def test_oneUpstream() -> None:
    """With one upstream an open breaker refuses, whatever stands above it."""
    settings = BreakerSettings(failures=2, pause=60.0, longest=60.0)
    with MemoryProxy(TargetDirector("http://a.test"), breaker=settings, retries=3, balance="random") as proxy:
        proxy.addUpstream("http://a.test").refusing = True
        client = proxy.client()
        client.request()
        proxy.advance(2.0)
        assert client.response.status == 503
        assert client.request().status == 503  # type: ignore[union-attr]
        assert [str(record.error) for record in proxy.records] == ["the breaker of a.test:80 is open"] * 2
