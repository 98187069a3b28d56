"""
What each knob costs: a whole exchange in this process with one thing changed, beside one with everything as it comes.

Both take turns, a few milliseconds of CPU time each, so that what else happens on the machine falls on both alike, and
only their ratio is told. There are no sockets here and no kernel: over a network a ratio is nearer to 1, and how
much nearer only a comparison of two candidates tells.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource

from benchmarks.inprocess import KINDS, InProcess, Kind, NullNetwork
from twistproxy import ProxySite, ReverseProxy, ReverseProxyResource
from twistproxy.core.explained import Explained
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.observe.access import FORMATS, AccessLog
from twistproxy.observe.counters import Counters
from twistproxy.routes import Router
from twistproxy.rules.forwarded import networks

TARGET = "http://127.0.0.1:9"
#: Exchanges in a turn; a multiple of the batches of log, counters and request ids.
TURN = 512
SMALL, BROWSER = KINDS[0], KINDS[1]
FORWARDED = Kind(
    "forwarded",
    [SMALL.requests[0].replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n")],
    SMALL.answer,
)


class Tuned(InProcess):
    """
    A proxy in this process, one part of which may be another than usual.
    """

    def __init__(
        self,
        director: Any = None,
        *,
        access: str | None = "combined",
        around: Callable[[ReverseProxy, NullNetwork], Any] = lambda proxy, network: proxy,
        later: bool = False,
        **options: Any,
    ) -> None:
        """
        @param director: makes the director, from the network; the ready-made one by default.
        @param access: the format of the access log, if there is one.
        @param around: makes what the site serves, from the proxy and the network.
        @param later: whether something waits for the next turn of the reactor.
        @param options: the proxy's.
        """
        self.network = network = NullNetwork()
        self._later = later
        self._proxy = ReverseProxy(
            TargetDirector(TARGET) if director is None else director(network), reactor=network, **options
        )
        self._access = AccessLog(
            os.devnull, FORMATS[access or "combined"](), network.reactor, wallClock=lambda: 1_800_000_000.0
        )
        observers: list[Any] = [Counters()] if access is None else [Counters(), self._access]
        self._site = ProxySite(around(self._proxy, network), reactor=network, observers=observers)
        self._clients = 0

    def exchange(self, client: Any, request: bytes, answer: Sequence[bytes]) -> None:
        """
        See L{InProcess.exchange}.
        """
        client.dataReceived(request)
        if self._later:
            self.network.reactor.advance(0)
        upstream = self.network.dialed[-1].protocol
        for piece in answer:
            upstream.dataReceived(piece)


    def check(self, kind: Kind) -> None:
        """
        See L{InProcess.check}.  A filter has the body sent in chunks, so its end does not look as it came.
        """
        client = self.connect()
        self.exchange(client, kind.requests[0], kind.answer)
        if client.transport.count < sum(map(len, kind.answer)) - kind.answer[0].index(b"\r\n\r\n"):
            raise RuntimeError(f"the proxy in this process does not answer {kind.name!r} rightly")


@dataclass(frozen=True)
class Knob:
    """
    Something to change.

    @ivar name: what.
    @ivar make: makes a proxy with it.
    @ivar base: makes one without.
    @ivar kind: the exchanges that are compared.
    """

    name: str
    make: Callable[[], Tuned]
    base: Callable[[], Tuned] = Tuned
    kind: Kind = SMALL


def _cluster(network: NullNetwork) -> TargetDirector:
    return TargetDirector([TARGET, TARGET], balanced=True)


_POLICIES: dict[str, Any] = {"balance": "round-robin", "retries": 1, "breaker": True}


def _settings(**fields: Any) -> Callable[[], Tuned]:
    return lambda: Tuned(settings=ProxySettings(**fields))


def _callable(network: Any) -> Any:
    def direct(request: Any) -> None:
        request.setTarget(TARGET)
        request.setXForwarded()

    return direct


def _coroutine(network: Any) -> Any:
    async def direct(request: Any) -> None:
        request.setTarget(TARGET)
        request.setXForwarded()

    return direct


def _waiting(network: Any) -> Any:
    async def direct(request: Any) -> None:
        await deferLater(network.reactor, 0)
        request.setTarget(TARGET)
        request.setXForwarded()

    return direct


def _deferred(network: Any) -> Any:
    def direct(request: Any) -> Deferred[None]:
        request.setTarget(TARGET)
        request.setXForwarded()
        return deferLater(network.reactor, 0)

    return direct


def _headerRead(network: Any) -> Any:
    def direct(request: Any) -> None:
        request.inbound.headers.get("Accept-Language")
        request.setTarget(TARGET)
        request.setXForwarded()

    return direct


def _looks(response: Any) -> None:
    response.headers.get("Content-Type")


def _sets(response: Any) -> None:
    response.headers.set("X-Frame-Options", "DENY")


async def _same(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


def _routed(proxy: ReverseProxy, network: NullNetwork) -> Any:
    router = Router()
    for number in range(20):
        router.add(proxy, host=f"host{number}.example")
    router.add(proxy)
    return router


def _tree(proxy: ReverseProxy, network: NullNetwork) -> Any:
    return ReverseProxyResource(TargetDirector(TARGET), reactor=network)


def _deep(proxy: ReverseProxy, network: NullNetwork) -> Any:
    root = Resource()
    root.putChild(b"small", _tree(proxy, network))
    return root


TRUSTED = tuple(networks(["10.0.0.0/8", "192.168.0.0/16", "127.0.0.0/8"]))

KNOBS = (
    Knob("nothing (how far chance goes)", Tuned),
    Knob("no access log", lambda: Tuned(access=None)),
    Knob("access log as JSON", lambda: Tuned(access="json")),
    Knob("--explain", lambda: Tuned(around=lambda proxy, network: Explained(proxy))),
    Knob("a function as director", lambda: Tuned(_callable)),
    Knob("the same, reads a header", lambda: Tuned(_headerRead), lambda: Tuned(_callable), BROWSER),
    Knob("async director that does not wait", lambda: Tuned(_coroutine), lambda: Tuned(_callable)),
    Knob("async director that waits a turn", lambda: Tuned(_waiting, later=True), lambda: Tuned(_callable)),
    Knob("director that returns a Deferred", lambda: Tuned(_deferred, later=True), lambda: Tuned(_callable)),
    Knob("modifyResponse that reads a header", lambda: Tuned(modifyResponse=_looks)),
    Knob("modifyResponse that sets a header", lambda: Tuned(modifyResponse=_sets)),
    Knob("response filter, async generator", lambda: Tuned(responseFilters=[_same])),
    Knob("the same, 64 KiB", lambda: Tuned(responseFilters=[_same]), kind=KINDS[3]),
    Knob("client not among trusted proxies", lambda: Tuned(settings=ProxySettings(trustedProxies=TRUSTED[:2]))),
    Knob("client is a trusted proxy", _settings(trustedProxies=TRUSTED), kind=FORWARDED),
    Knob("strict paths", _settings(strictPaths=True)),
    Knob("flush interval", _settings(flushInterval=0.05), kind=KINDS[3]),
    Knob("limit on request bodies", _settings(maxRequestBody=1 << 20), kind=KINDS[4]),
    Knob("limit on exchanges", lambda: Tuned(timeouts=Timeouts(exchange=60.0))),
    Knob("two targets in turn", lambda: Tuned(lambda network: TargetDirector([TARGET, TARGET]))),
    Knob("two targets, balanced, retries and breaker", lambda: Tuned(_cluster, **_POLICIES)),
    Knob("the same, least-requests", lambda: Tuned(_cluster, **{**_POLICIES, "balance": "least-requests"})),
    Knob("Router with 21 routes", lambda: Tuned(around=_routed)),
    Knob("as the root of a resource tree", lambda: Tuned(around=_tree)),
    Knob("one level down a resource tree", lambda: Tuned(around=_deep)),
)


@dataclass(frozen=True)
class Cost:
    """
    What a knob costs.

    @ivar knob: the knob.
    @ivar ratio: the median of all pairs of turns.
    @ivar low: a quarter of them lies below.
    @ivar high: a quarter of them lies above.
    """

    knob: Knob
    ratio: float
    low: float
    high: float


def _turn(proxy: Tuned, kind: Kind, count: int) -> float:
    started = time.thread_time()
    proxy.run(kind, count)
    proxy.flush()
    return time.thread_time() - started


def measure(knobs: Sequence[Knob] = KNOBS, pairs: int = 40, count: int = TURN) -> list[Cost]:
    """
    Measure.

    @param pairs: turns of each, at least 2.
    @param count: exchanges in a turn.
    """
    costs = []
    for knob in knobs:
        base, tuned = knob.base(), knob.make()
        try:
            for proxy in (base, tuned):
                proxy.check(knob.kind)
                proxy.run(knob.kind, count)
            ratios = []
            for number in range(pairs):
                # who comes second finds other caches
                if number % 2:
                    first = _turn(base, knob.kind, count)
                    ratios.append(_turn(tuned, knob.kind, count) / first)
                else:
                    first = _turn(tuned, knob.kind, count)
                    ratios.append(first / _turn(base, knob.kind, count))
            low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
            costs.append(Cost(knob, ratio, low, high))
        finally:
            base.close()
            tuned.close()
    return costs


def table(costs: Sequence[Cost]) -> str:
    """
    Lay them out.
    """
    width = max(len(cost.knob.name) for cost in costs)
    lines = [f"{'knob':{width}}  {'ratio':>5}  middle half"]
    lines += [f"{cost.knob.name:{width}}  {cost.ratio:5.2f}  {cost.low:.2f} to {cost.high:.2f}" for cost in costs]
    return "\n".join(lines)


def run(pairs: int) -> str:
    """
    Do C{knobs}.

    @return: the table.
    """
    if pairs < 2:
        raise ValueError("--pairs is at least 2")
    with open(os.devnull, "w") as nowhere:
        # explanations are written out as in a service
        globalLogBeginner.beginLoggingTo([textFileLogObserver(nowhere)], discardBuffer=True, redirectStandardIO=False)
        return table(measure(pairs=pairs))
