"""
Each step of a request by itself, in this process, beside the budget it was given.

The figures are the smallest of many rounds: whatever else happens on the machine can only make one longer. Steps are
the package's own functions, called with what they are called with in the middle of an exchange. One that cannot
be set up any more, because the code has moved on, stays in the table with the reason.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from benchmarks.inprocess import KINDS, InProcess, Kind, NullTransport
from twistproxy.core.draft import completeOutbound, draftOutbound
from twistproxy.core.request import ProxyRequest
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timed
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.message import Peer, Request
from twistproxy.net.wheel import Wheel
from twistproxy.observe.access import AccessLog, CombinedFormat
from twistproxy.observe.counters import Counters
from twistproxy.wire.h1head import RequestParser, ResponseParser, parseRequest

#: Calls in one round; a multiple of the batches of log, counters and request ids.
CALLS = 1024
SMALL, BROWSER, CHANGING = KINDS[:3]


@dataclass(frozen=True)
class Step:
    """
    One step of an exchange.

    @ivar name: what it does.
    @ivar budget: microseconds that it may take, or C{None} if it shares one with another.
    @ivar prepare: makes the function to be timed, which does it L{CALLS} times; gives the stack what is to be closed.
    """

    name: str
    budget: float | None
    prepare: Callable[[ExitStack], Callable[[], None]]


@dataclass(frozen=True)
class Timing:
    """
    What a step took.

    @ivar step: the step.
    @ivar microseconds: the least that one call took; C{None} if it could not be set up.
    @ivar failure: why not.
    """

    step: Step
    microseconds: float | None
    failure: str = ""


def _each(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Callable[[], None]:
    """
    @return: what calls a function L{CALLS} times, with these arguments in turn.
    """
    turns = [arguments[number % len(arguments)] for number in range(CALLS)]

    def calls() -> None:
        for argument in turns:
            function(argument)

    return calls


def _heads(kind: Kind) -> list[bytes]:
    return [request.partition(b"\r\n\r\n")[0] for request in kind.requests]


def _peer() -> Peer:
    proxy = InProcess(Path(os.devnull))
    peer: Peer = proxy.connect().peer
    proxy.close()
    return peer


def _proxy(stack: ExitStack) -> InProcess:
    proxy = InProcess(Path(os.devnull))
    stack.callback(proxy.close)
    return proxy


def _request(kind: Kind) -> Request:
    return parseRequest(_heads(kind)[0], _peer(), 100)


def _requestHead(kind: Kind) -> Callable[[], None]:
    peer = _peer()
    parser = RequestParser(100)

    def read(data: bytes) -> Request:
        # as a connection does with what it has read
        return parser.again(peer) if data == parser.whole else parser.parse(data.partition(b"\r\n\r\n")[0], peer)

    return _each(read, kind.requests)


def _responseHead(stack: ExitStack) -> Callable[[], None]:
    parser = ResponseParser(100)
    head = SMALL.answer[0].partition(b"\r\n\r\n")[0]
    return _each(lambda head: parser.parse(head, b"GET", None), [head])


def _draft(kind: Kind) -> Callable[[], None]:
    request, settings = _request(kind), ProxySettings()
    record = ExchangeRecord(Clock().seconds, request)
    return _each(lambda request: draftOutbound(request, settings, record), [request])


def _direct(stack: ExitStack) -> Callable[[], None]:
    """
    Let the ready-made director at a draft, and look at what it has made of it.
    """
    request = _request(SMALL)
    direct = TargetDirector("http://127.0.0.1:9").direct
    draft = draftOutbound(request, ProxySettings(), ExchangeRecord(Clock().seconds, request))
    lines = draft.lines
    exchange: Any = None

    def once(_: object) -> None:
        draft.lines = lines.copy()
        direct(ProxyRequest(request, draft, exchange, False))
        completeOutbound(draft, request)

    return _each(once, [None])


def _serialise(stack: ExitStack) -> Callable[[], None]:
    """
    Write a request to an upstream: pick its connection, set its deadline, join its head.
    """
    proxy = _proxy(stack)
    proxy.run(SMALL, 2)
    connection = proxy.network.dialed[0].protocol
    request = _request(SMALL)
    record = ExchangeRecord(Clock().seconds, request)
    draft = draftOutbound(request, ProxySettings(), record)
    TargetDirector("http://127.0.0.1:9").direct(ProxyRequest(request, draft, None, False))  # type: ignore[arg-type]
    return _each(lambda _: connection.begin(draft, None), [None])


def _settled(observer: Any) -> Callable[[], None]:
    request = _request(BROWSER)
    record = ExchangeRecord(Clock().seconds, request)
    record.status, record.client, record.upstream = 200, "127.0.0.1", "127.0.0.1:9"
    record.requestID = b"0123456789ab00000001"
    record.ended = record.started
    return _each(observer.exchangeSettled, [record])


def _accessLog(stack: ExitStack) -> Callable[[], None]:
    log = AccessLog(os.devnull, CombinedFormat(), Clock())
    stack.callback(log.close)
    return _settled(log)


def _wheel(stack: ExitStack) -> Callable[[], None]:
    """
    Move the deadlines of both connections, as often as an exchange does.
    """
    wheel = Wheel(Clock())
    timed = [Timed(), Timed()]
    schedule = wheel.schedule
    for each in timed:
        schedule(each, 600)

    def once(_: object) -> None:
        schedule(timed[0], 600)
        schedule(timed[1], 600)

    return _each(once, [None])


def _protocol(stack: ExitStack) -> Callable[[], None]:
    proxy = _proxy(stack)

    def once(_: object) -> None:
        protocol = proxy.connect()
        assert type(protocol.transport) is NullTransport
        protocol.transport.drop()

    return _each(once, [IPv4Address("TCP", "127.0.0.1", 1)])


def _whole(stack: ExitStack, kind: Kind) -> Callable[[], None]:
    proxy = _proxy(stack)
    proxy.check(kind)
    return lambda: proxy.run(kind, CALLS)


# The budgets were set from a prototype that was faster than Go's proxy with everything on. The sums leave out what it
# gave to the kernel and to transports.
STEPS = (
    Step("request head, Host only", 1.5, lambda _: _requestHead(SMALL)),
    Step("request head, twelve headers of a browser", 3.0, lambda _: _requestHead(BROWSER)),
    Step("request head, twelve of which each differs from the last", 7.0, lambda _: _requestHead(CHANGING)),
    Step("response head", 1.2, _responseHead),
    Step("draft: strip, Via, request id", 1.1, lambda _: _draft(SMALL)),
    Step("director, X-Forwarded-*, checks of its work", 1.2, _direct),
    Step("request to the upstream: serialise, deadline", 1.5, _serialise),
    Step("access log", 0.8, _accessLog),
    Step("counters", 0.4, lambda _: _settled(Counters())),
    Step("wheel: two deadlines moved", 0.1, _wheel),
    Step("connection made and lost", None, _protocol),
    Step("whole exchange, small", 7.8, lambda stack: _whole(stack, SMALL)),
    Step("whole exchange, browser", 9.3, lambda stack: _whole(stack, BROWSER)),
    Step("whole exchange, changing", 13.3, lambda stack: _whole(stack, CHANGING)),
    Step("whole exchange, 64 KiB", None, lambda stack: _whole(stack, KINDS[3])),
    Step("whole exchange, POST of 4 KiB", None, lambda stack: _whole(stack, KINDS[4])),
)


def measureSteps(steps: Sequence[Step] = STEPS, rounds: int = 15) -> list[Timing]:
    """
    Time the steps, in turns, so that a bad moment of the machine does not fall on one alone.

    @param rounds: of how many the best counts.
    """
    best: dict[str, float] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        prepared = []
        for step in steps:
            try:
                calls = step.prepare(stack)
                calls()
                prepared.append((step.name, calls))
            except Exception as error:
                failures[step.name] = f"{type(error).__name__}: {error}"
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            for name, calls in prepared:
                start = time.perf_counter()
                calls()
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
        gc.unfreeze()
    return [
        Timing(step, None, failures[step.name])
        if step.name in failures
        else Timing(step, best[step.name] / CALLS * 1e6)
        for step in steps
    ]


def table(timings: Iterable[Timing]) -> str:
    """
    Lay the timings out.
    """
    rows = []
    for timing in timings:
        budget, took = timing.step.budget, timing.microseconds
        shown = "-" if budget is None else f"{budget:.1f}"
        if took is None:
            rows.append((timing.step.name, "-", shown, f"cannot be set up: {timing.failure}"))
        else:
            over = budget is not None and took > budget
            rows.append((timing.step.name, f"{took:.2f}", shown, f"over by {took / budget - 1:.0%}" if over else ""))  # type: ignore[operator]
    width = max(len(row[0]) for row in rows)
    lines = [f"{'step':{width}}      us  budget"]
    lines += [f"{name:{width}}  {took:>6}  {budget:>6}  {note}".rstrip() for name, took, budget, note in rows]
    return "\n".join(lines)
