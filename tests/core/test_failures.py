"""
The flow: failures and what becomes of them (B7), and what the settings do.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body, Taker, request, upstreamResponse
from tests.support.world import World, readResponses
from twistproxy.core.request import ProxyRequest
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.errors import (
    ClientError,
    ClientLeft,
    HookFailed,
    ProxyError,
    Refused,
    Sent,
    Side,
    Stage,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from twistproxy.interfaces import IErrorHandler
from twistproxy.message import Response
from twistproxy.rules.forwarded import networks
from twistproxy.upstream.pool import PoolSettings

GET = b"GET /p HTTP/1.1\r\nHost: front.test\r\n\r\n"


def plainly(given: ProxyRequest) -> None:
    """A director that adds nothing."""
    given.setTarget("http://origin.test")


def got(world: World, raw: bytes = GET) -> Any:
    """@return: the response to a request."""
    client = world.client()
    client.send(raw)
    [response] = readResponses(client.take(), ended=client.ended == "closed")
    return response


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """What the flow logs."""
    found: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        if event.get("log_namespace") == "twistproxy.core.proxy.ProxyFlow":
            found.append(event)

    globalLogPublisher.addObserver(observer)
    yield found
    globalLogPublisher.removeObserver(observer)


def raising(given: Any) -> None:
    raise ValueError("broken")


def answer(given: Any) -> Response:
    return Response(404)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamError("refused", Stage.CONNECT), 502),
        (UpstreamError("reset", Stage.WAIT, Sent.ALL), 502),
        (UpstreamTimeout("connect", Stage.CONNECT), 504),
        (UpstreamTimeout("tlsHandshake", Stage.TLS), 504),
        (UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL), 504),
        (Unavailable("the line is full"), 503),
        (HookFailed("director", "broken"), 500),
        (ClientError("malformed"), 400),
        (ClientError("too large", 413), 413),
        (ClientError("too slow", 408, Stage.SEND, "requestBody"), 408),
    ],
)
def test_status(error: ProxyError, status: int, loggedErrors: list[Any]) -> None:
    """B7.2: the cause says the status."""
    bench = Bench(lambda outbound, receiver: receiver.roundTripFailed(error))
    bench.start()
    [(_, got, _, body, _), _] = bench.downstream.told
    assert (got, bench.records[0].status, bench.records[0].error) == (status, status, error)
    assert body.startswith(b"%d " % status)


def test_malformed(makeWorld: Callable[..., World]) -> None:
    """B7.2: a request that cannot be read goes through the same funnel."""
    seen: list[Any] = []
    world = makeWorld(errorHandler=lambda error, exchange: seen.append(error))
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert [type(error) for error in seen] == [ClientError]
    assert (world.network.dialed, world.records[0].status) == ([], 400)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL), LogLevel.warn),
        (ClientError("malformed"), LogLevel.debug),
    ],
)
def test_logged(events: list[LogEvent], error: ProxyError, level: Any) -> None:
    """B7.3: one event says all that the operator needs; a client's fault is not worth more than debug."""
    bench = Bench(lambda outbound, receiver: receiver.roundTripFailed(error))
    bench.start(request(b"GET /secret HTTP/1.1\r\nHost: x"))
    [event] = events
    assert event["log_level"] is level
    names = ("upstream", "stage", "side", "sent", "timeout", "reason", "method", "target", "client", "tries")
    assert {name: event[name] for name in names} == {
        "upstream": "origin.test:80",
        "stage": error.stage.value,
        "side": error.side.value,
        "sent": error.sent.value,
        "timeout": error.timeout,
        "reason": error.reason,
        "method": "GET",
        "target": "/secret",
        "client": "192.0.2.1",
        "tries": 1,
    }
    assert event["requestID"].encode() == bench.records[0].requestID
    assert event["seconds"] == 0.0


def test_nothingOfInside(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B7.3: the client hears nothing of what is behind the proxy, in text or in JSON."""

    def director(given: Any) -> None:
        raise ValueError("password hunter2 at 10.0.0.7")

    world = makeWorld(director=director)
    for accept in (b"*/*", b"application/json"):
        client = world.client()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + accept + b"\r\n\r\n")
        reply = client.take()
        assert reply.startswith(b"HTTP/1.1 500 ")
        for word in (b"hunter2", b"10.0.0.7", b"ValueError", b"director", b"Traceback"):
            assert word not in reply
    loggedErrors.clear()


def test_problem(makeWorld: Callable[..., World]) -> None:
    """B7.3: who asks for JSON gets the id under which the operator finds it."""
    world = makeWorld()
    world.network.refusing = True
    response = got(world, b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")
    assert json.loads(response.body)["request_id"].encode() == world.records[0].requestID


@pytest.mark.parametrize(
    "head", [b"TRACE / HTTP/1.1\r\nHost: x", b"GET / HTTP/1.1\r\nHost: x\r\nVia: " + b"1.1 twistproxy," * 5]
)
def test_refusedIsIdentified(makeWorld: Callable[..., World], head: bytes) -> None:
    """B2.5, B7.3: a request that is refused before it was drafted has an id too, and the client behind a trusted proxy."""
    world = makeWorld(settings=ProxySettings(trustedProxies=networks(["0.0.0.0/0"])))
    response = got(world, head + b"\r\nX-Forwarded-For: 2001:db8::9\r\nAccept: application/json\r\n\r\n")
    [record] = world.records
    assert record.client == "2001:db8::9"
    assert json.loads(response.body)["request_id"].encode() == record.requestID != b""


def test_unreadableIsIdentified(makeWorld: Callable[..., World]) -> None:
    """B7.3: and so has one that cannot even be read."""
    world = makeWorld()
    got(world, b"nonsense\r\n\r\n")
    [record] = world.records
    assert (record.client, record.requestID != b"") == ("192.0.2.1", True)


def refuseConnections(world: World, client: Any) -> None:
    world.network.refusing = True
    client.send(GET)


def resetBeforeResponse(world: World, client: Any) -> None:
    client.send(GET)
    world.upstream().sendReset()


def closeBeforeResponse(world: World, client: Any) -> None:
    client.send(GET)
    world.upstream().sendEOF()


def answerNonsense(world: World, client: Any) -> None:
    client.send(GET)
    world.upstream().send(b"SSH-2.0-OpenSSH_9.6\r\n")


def answerNothing(world: World, client: Any) -> None:
    client.send(GET)
    world.network.advance(61.0)


@pytest.mark.parametrize(
    ("happens", "status", "stage", "sent"),
    [
        (refuseConnections, 502, Stage.CONNECT, Sent.NOTHING),
        (resetBeforeResponse, 502, Stage.WAIT, Sent.ALL),
        (closeBeforeResponse, 502, Stage.WAIT, Sent.ALL),
        (answerNonsense, 502, Stage.WAIT, Sent.ALL),
        (answerNothing, 504, Stage.WAIT, Sent.ALL),
    ],
)
def test_upstreamFails(makeWorld: Callable[..., World], happens: Any, status: int, stage: Stage, sent: Sent) -> None:
    """B7.2: what the upstream does, or does not, says the status; the client's connection lives on."""
    world = makeWorld()
    world.origin.answer = None
    client = world.client()
    happens(world, client)
    [response] = readResponses(client.take())
    [record] = world.records
    assert (response.status, record.status, record.error.stage, record.error.sent) == (status, status, stage, sent)
    assert (record.error.side, client.ended) == (Side.UPSTREAM, "")


@pytest.mark.parametrize("phase", ["connecting", "queue", "waiting", "streaming"])
def test_clientLeaves(makeWorld: Callable[..., World], phase: str) -> None:
    """B7.1: in every phase what runs for it is cancelled, and the upstream's connection closed, not pooled."""
    world = makeWorld(pool=PoolSettings(maxConnections=1))
    world.origin.answer = None
    client = world.client()
    other = world.client()
    if phase == "queue":
        other.send(GET)
    world.network.holding = phase == "connecting"
    client.send(GET)
    if phase == "streaming":
        world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    client.sendReset()
    world.network.holding = False
    world.network.run()
    [record] = world.records
    stages = {"connecting": Stage.CONNECT, "queue": Stage.QUEUE, "waiting": Stage.WAIT, "streaming": Stage.BODY}
    assert (type(record.error), record.error.stage) == (ClientLeft, stages[phase])
    assert record.status == 499
    assert record.error.sent is (Sent.NOTHING if phase in ("connecting", "queue") else Sent.SOME)
    assert world.idle == 0
    [pool] = world.transport.pools.values()
    assert (pool.connections, len(pool.waiting)) == (1 if phase == "queue" else 0, 0)
    if phase in ("waiting", "streaming"):
        assert world.upstream().ended == "reset"


def test_nobodyElse(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B7.4: an exception ends its exchange only: others, and the next one on the same connection, are served."""
    world = makeWorld(
        modifyResponse=lambda response: raising(response) if response.headers.get("x-asked") == b"/bad" else None
    )
    world.origin.answer = None
    other = world.client()
    other.send(GET)
    client = world.client()
    client.send(GET.replace(b"/p", b"/bad"))
    world.upstream(1).send(b"HTTP/1.1 200 OK\r\nX-Asked: /bad\r\nContent-Length: 0\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 500 ")
    client.send(GET)
    world.upstream(1).send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 200 ")
    world.upstream(0).send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert other.take().startswith(b"HTTP/1.1 200 ")
    loggedErrors.clear()


# -- errorHandler (B3.4)


def test_errorHandler(makeWorld: Callable[..., World]) -> None:
    """B3.4: it gets the typed error and the exchange, once, and decides what the client gets."""
    seen: list[Any] = []

    def handle(error: ProxyError, exchange: Any) -> Response:
        seen.append((type(error), exchange.request.target))
        return Response(418, {"X-Mine": "1"}, b"short and stout")

    world = makeWorld(errorHandler=handle)
    world.network.refusing = True
    response = got(world)
    assert (response.status, response.body, response[b"x-mine"]) == (418, b"short and stout", [b"1"])
    assert seen == [(UpstreamError, b"/p")]
    assert (world.records[0].status, type(world.records[0].error)) == (418, UpstreamError)


@pytest.mark.parametrize("kind", ["object", "coroutine", "waits", "default"])
def test_errorHandlerKinds(makeWorld: Callable[..., World], kind: str) -> None:
    """B3.4: it may be an object, may wait, and may leave it to the default."""

    @implementer(IErrorHandler)
    class Handler:
        def handleError(self, error: Any, exchange: Any) -> Response:
            return Response(418)

    async def coroutine(error: Any, exchange: Any) -> Response:
        return Response(418)

    async def waits(error: Any, exchange: Any) -> Response:
        from twisted.internet.task import deferLater

        await deferLater(world.clock, 1.0)
        return Response(418)

    assert verifyObject(IErrorHandler, Handler())
    handler: Any = {"object": Handler(), "coroutine": coroutine, "waits": waits, "default": lambda *_: None}[kind]
    world = makeWorld(errorHandler=handler)
    world.network.refusing = True
    client = world.client()
    client.send(GET)
    world.network.advance(1.1)
    assert [response.status for response in readResponses(client.take())] == [502 if kind == "default" else 418]


def handlerRaises(error: Any, exchange: Any) -> Any:
    raise ValueError("broken handler")


async def handlerRaisesAsync(error: Any, exchange: Any) -> Any:
    raise ValueError("broken handler")


def handlerRefuses(error: Any, exchange: Any) -> Any:
    raise Refused(403)


@pytest.mark.parametrize(
    "handler",
    [handlerRaises, handlerRaisesAsync, handlerRefuses, lambda e, x: "502", lambda e, x: Response(103)],
)
def test_errorHandlerFails(makeWorld: Callable[..., World], loggedErrors: list[Any], handler: Any) -> None:
    """B3.4: its own failure ends in a plain 500; it is not asked again."""
    calls: list[Any] = []

    def counting(error: Any, exchange: Any) -> Any:
        calls.append(error)
        return handler(error, exchange)

    world = makeWorld(errorHandler=counting)
    world.network.refusing = True
    client = world.client()
    client.send(GET)
    [response] = readResponses(client.take())
    assert (response.status, response.body) == (500, b"500 Internal Server Error\n")
    assert (len(calls), client.ended) == (1, "")
    assert type(world.records[0].error) is UpstreamError
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_errorHandlerNotCalled(makeWorld: Callable[..., World]) -> None:
    """B3.4: never once something was sent, nor for a client that has left."""
    calls: list[Any] = []
    world = makeWorld(errorHandler=lambda error, exchange: calls.append(error))
    world.origin.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    client = world.client()
    client.send(GET)
    world.upstream().sendReset()
    assert client.ended != ""
    gone = world.client()
    gone.send(GET)
    gone.sendReset()
    assert calls == []
    assert [type(record.error) for record in world.records] == [UpstreamError, ClientLeft]


def test_errorHandlerBodyFails(loggedErrors: list[Any]) -> None:
    """B3.4: if the body of its response breaks off it is not asked again either."""
    calls: list[Any] = []
    body = Body()

    def handle(error: Any, exchange: Any) -> Response:
        calls.append(error)
        return Response(502, body=body)

    bench = Bench(
        lambda outbound, receiver: receiver.roundTripFailed(UpstreamError("no", Stage.CONNECT)), errorHandler=handle
    )
    bench.start()
    body.consumer.fail(ValueError("broken"))
    assert len(calls) == 1
    assert bench.downstream.told == [("head", 502, None, b"", False), "abort", "ended"]
    assert type(bench.records[0].error) is UpstreamError
    loggedErrors.clear()


def test_clientLeavesErrorHandler(makeWorld: Callable[..., World]) -> None:
    """B7.1: one that waits is cancelled when the client leaves."""
    cancelled: list[Any] = []
    world = makeWorld(errorHandler=lambda error, exchange: Deferred(cancelled.append))
    world.network.refusing = True
    client = world.client()
    client.send(GET)
    client.sendReset()
    assert len(cancelled) == 1
    assert [record.status for record in world.records] == [499]


# -- settings of the flow


def test_flushInterval(makeWorld: Callable[..., World]) -> None:
    """B5.4: the interval holds small writes of a response of known length, but not its head."""
    world = makeWorld(settings=ProxySettings(flushInterval=0.5))
    world.origin.answer = None
    client = world.client()
    client.send(GET)
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    assert client.take().endswith(b"\r\n\r\n")
    world.upstream().send(b"ab")
    assert client.take() == b""
    world.network.advance(0.6)
    assert client.take() == b"ab"
    world.upstream().send(b"cd")
    assert client.take() == b"cd"


def test_flushIntervalEventStream(makeWorld: Callable[..., World]) -> None:
    """B5.4: server-sent events are never held."""
    world = makeWorld(settings=ProxySettings(flushInterval=0.5))
    world.origin.answer = None
    client = world.client()
    client.send(GET)
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4\r\n\r\n")
    client.take()
    world.upstream().send(b"ab")
    assert client.take() == b"ab"


def test_flushClientLeaves(makeWorld: Callable[..., World]) -> None:
    """B7.1: what is held when the client leaves leaves no timer behind."""
    world = makeWorld(settings=ProxySettings(flushInterval=500.0))
    world.origin.answer = None
    client = world.client()
    client.send(GET)
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    world.upstream().send(b"ab")
    client.sendReset()
    assert world.clock.getDelayedCalls() == []


def test_useDirector(makeWorld: Callable[..., World]) -> None:
    """Another director decides from the next exchange on."""
    world = makeWorld(director=answer)
    assert got(world).status == 404
    world.proxy.useDirector(plainly)
    assert got(world).status == 200


def test_earlyAnswer(makeWorld: Callable[..., World]) -> None:
    """B4.4: an early response while the body still comes goes out at once; the upstream hears no more of the body."""
    world = makeWorld()
    world.origin.answer = None
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    world.upstream().send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 413 ")
    assert world.upstream().ended == "reset"
    assert (world.records[0].status, world.records[0].error) == (413, None)


def test_ownBody(makeWorld: Callable[..., World]) -> None:
    """B3.1: a director may put a body of its own in the place of the client's."""

    def director(given: Any) -> None:
        plainly(given)
        given.outbound.body = b"mine"

    world = makeWorld(director=director)
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    assert client.take().startswith(b"HTTP/1.1 200 ")
    assert world.origin.whole == [(b"POST", b"/p"[:1], b"mine")]
    client.send(b"world" + GET)
    assert client.take().startswith(b"HTTP/1.1 200 ")


def test_ownBodyRaises(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B7.4: a body of the director's that fails to begin: 500, and the upstream's request is cut."""

    def broken(consumer: Any) -> None:
        raise ValueError("broken body")

    def director(given: Any) -> None:
        plainly(given)
        given.outbound.body = Body(5, broken)

    world = makeWorld(director=director)
    assert got(world).status == 500
    assert world.upstream().ended == "reset"
    assert loggedErrors[0]["log_failure"].getErrorMessage() == "broken body"
    loggedErrors.clear()


# -- garbage


def alive(bench: Bench, start: Callable[[Bench], Any]) -> list[Any]:
    """@return: the exchange that C{start} has run to its end, if only the collector can get rid of it."""
    gc.collect()
    gc.disable()
    try:
        exchange = start(bench)
        assert exchange.settled
        seen = weakref.ref(exchange)
        del exchange
        bench.transport.begun.clear()
        bench.records.clear()
        return [found] if (found := seen()) is not None else []
    finally:
        gc.enable()


def test_noGarbage(unwitnessed: None) -> None:
    """An ordinary exchange leaves nothing to the collector: it is in no cycle of objects."""
    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()))
    assert alive(bench, lambda bench: bench.start()) == []


def test_noGarbageOfUploads(unwitnessed: None) -> None:
    """Nor does an upload."""

    def script(outbound: Any, receiver: Any) -> None:
        outbound.body.deliver(Taker())
        receiver.responseReceived(upstreamResponse())

    def start(bench: Bench) -> Any:
        body = Body(2, lambda consumer: (consumer.write(b"ab"), consumer.finish([])))
        exchange = bench.start(request(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2", body))
        body.consumer = None  # as a wire lets go of it at the end
        return exchange

    assert alive(Bench(script), start) == []


def test_noGarbageOfFailures(unwitnessed: None) -> None:
    """Nor does a failure: an upstream that is down is no reason to fill the memory between two collections."""

    def script(outbound: Any, receiver: Any) -> None:
        receiver.roundTripFailed(UpstreamError("refused", Stage.CONNECT))

    assert alive(Bench(script), lambda bench: bench.start()) == []


def test_noGarbageOfLeaving(unwitnessed: None) -> None:
    """Nor does a client that leaves."""

    def start(bench: Bench) -> Any:
        exchange = bench.start()
        exchange.clientLeft()
        return exchange

    assert alive(Bench(), start) == []


def test_timeouts() -> None:
    """B9: without a limit on whole exchanges no timer is set for one."""
    bench = Bench(timeouts=Timeouts(exchange=None))
    exchange = bench.start()
    assert bench.clock.getDelayedCalls() == []
    exchange.clientLeft()
