"""
Exchanges: driven through every wait, settled exactly once, and stopped whatever runs for them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body, Carrier, Downstream, Transport, request, upstreamResponse
from twistproxy.core.exchange import Exchange, ExchangeContext
from twistproxy.core.states import RequestSide, ResponseSide
from twistproxy.deadlines import Timeouts
from twistproxy.errors import ClientLeft, HookFailed, Sent, Side, Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IBodyConsumer, ICallbackTransport, ICarrier, IDownstream, IRoundTripReceiver
from twistproxy.message import Response


def answering(response: Any) -> Any:
    """@return: the script of a transport that answers at once."""
    return lambda outbound, receiver: receiver.responseReceived(response)


def test_interfaces() -> None:
    """An exchange and its doubles provide what they say."""
    exchange = Bench().start()
    assert verifyObject(IRoundTripReceiver, exchange)
    assert verifyObject(IBodyConsumer, exchange)
    assert verifyObject(IDownstream, Downstream())
    assert verifyObject(ICallbackTransport, Transport())
    assert verifyObject(ICarrier, Carrier())
    exchange.clientLeft()


def test_atOnce() -> None:
    """A transport that answers before begin() returns is as good as any."""
    bench = Bench(answering(upstreamResponse()))
    exchange = bench.start()
    assert bench.downstream.told == [("head", 200, 5, b"hello", True), "ended"]
    assert (exchange.settled, exchange.responseSide) == (True, ResponseSide.COMPLETE)
    assert [record.status for record in bench.records] == [200]


def test_failsAtOnce() -> None:
    """And so is one that fails before begin() returns."""
    error = UpstreamError("refused", Stage.CONNECT)
    bench = Bench(lambda outbound, receiver: receiver.roundTripFailed(error))
    bench.start()
    assert bench.downstream.told == [("head", 502, 16, b"502 Bad Gateway\n", True), "ended"]
    assert bench.records[0].error is error


def test_later() -> None:
    """B5.6: interim responses are relayed while the final one is waited for; a late one is dropped."""
    bench = Bench()
    exchange = bench.start()
    [(_, receiver)] = bench.transport.begun
    receiver.informationalReceived(Response(103))
    body = Body()
    receiver.responseReceived(upstreamResponse(body=body))
    receiver.informationalReceived(Response(103))
    body.consumer.write(b"piece")
    body.consumer.unregisterProducer()
    body.consumer.finish([b"T: 1"])
    assert bench.downstream.told == [
        ("interim", 103),
        ("head", 200, None, b"", False),
        b"piece",
        ("finish", [b"T: 1"]),
        "ended",
    ]
    assert exchange.settled
    assert bench.records[0].responseBytes == 5


def test_bodyThatEndsAtOnce() -> None:
    """A body may be over before deliver() returns."""

    def all(consumer: Any) -> None:
        consumer.write(b"x")
        consumer.finish([])

    bench = Bench(answering(upstreamResponse(body=Body(1, all))))
    bench.start()
    assert bench.downstream.told == [("head", 200, 1, b"", False), b"x", ("finish", []), "ended"]


def test_bodyThatFailsAtOnce() -> None:
    """B5.5: or fail there."""
    error = UpstreamError("broke off", Stage.BODY, Sent.ALL)
    bench = Bench(answering(upstreamResponse(body=Body(1, lambda consumer: consumer.fail(error)))))
    bench.start()
    assert bench.downstream.told == [("head", 200, 1, b"", False), "abort", "ended"]
    assert bench.records[0].error is error


def test_bodyFails() -> None:
    """B5.5: a body that breaks off cuts the response; it is not asked to stop once it has."""
    body = Body(10)
    bench = Bench(answering(upstreamResponse(body=body)))
    exchange = bench.start()
    body.consumer.fail(UpstreamError("broke off", Stage.BODY, Sent.ALL))
    assert bench.downstream.told == [("head", 200, 10, b"", False), "abort", "ended"]
    assert (exchange.responseSide, body.told) == (ResponseSide.CUT, [])


def test_foreignBodyFails(loggedErrors: list[Any]) -> None:
    """B3.3: what a body of the user's fails with is a failure of the hook that made it."""
    body = Body()
    bench = Bench(director=lambda request: Response(200, body=body))
    bench.start()
    cause = ValueError("broken")
    body.consumer.fail(cause)
    error = bench.records[0].error
    assert (type(error), error.__cause__) == (HookFailed, cause)
    assert [event["log_failure"].value for event in loggedErrors] == [cause]
    loggedErrors.clear()


def test_longerThanItsLength(makeWorld: Any, loggedErrors: list[Any]) -> None:
    """B3.5: a body that is longer than it said it would be is cut off, and made to stop."""
    body = Body(3)
    world = makeWorld(director=lambda request: Response(200, body=body))
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    body.consumer.write(b"four")
    world.network.run()
    assert client.take().endswith(b"Content-Length: 3\r\n\r\n")
    assert client.ended != ""
    assert body.told == ["stop"]
    assert type(world.records[0].error) is HookFailed
    loggedErrors.clear()


def test_shorterThanItsLength(makeWorld: Any, loggedErrors: list[Any]) -> None:
    """B3.5: and one that is shorter ends the connection, which cannot be kept in step."""
    body = Body(3)
    world = makeWorld(director=lambda request: Response(200, body=body))
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    body.consumer.write(b"x")
    body.consumer.finish([])
    world.network.run()
    assert client.take().endswith(b"\r\n\r\nx")
    assert client.ended != ""
    assert type(world.records[0].error) is HookFailed
    loggedErrors.clear()


# -- the client leaves


def test_leavesWhileUpstreamWaits() -> None:
    """B7.1: what carries the request is aborted, at once and once."""
    bench = Bench()
    exchange = bench.start()
    exchange.clientLeft()
    exchange.clientLeft()
    assert bench.transport.carrier.aborted == 1
    assert bench.downstream.told == ["ended"]
    [record] = bench.records
    assert (record.status, type(record.error), record.error.stage) == (499, ClientLeft, Stage.WAIT)


def test_leavesWhileBodyStreams() -> None:
    """B7.1: a response's body is stopped, whoever made it."""
    body = Body()
    bench = Bench(director=lambda request: Response(200, body=body))
    exchange = bench.start()
    body.consumer.write(b"x")
    exchange.clientLeft()
    body.consumer.write(b"late")
    body.consumer.finish([])
    assert body.told == ["stop"]
    assert bench.downstream.told == [("head", 200, None, b"", False), b"x", "ended"]
    assert (bench.records[0].status, bench.records[0].error.stage) == (499, Stage.BODY)


def test_leavesWhileDirectorRuns() -> None:
    """B7.1: the client may leave inside of a hook; nothing is sent to nobody."""
    exchanges: list[Exchange] = []

    def director(request: Any) -> Response:
        exchanges.append(request.exchange)
        request.exchange.clientLeft()
        return Response(200, body=b"hello")

    bench = Bench(director=director)
    bench.start()
    assert bench.downstream.told == ["ended"]
    assert (bench.records[0].status, type(bench.records[0].error)) == (499, ClientLeft)


def test_leavesWhileDirectorForwards() -> None:
    """B7.1: and what such a hook forwards is ended again."""
    bench = Bench()
    target = bench.flow.director

    def director(request: Any) -> None:
        target.direct(request)
        request.exchange.clientLeft()

    bench.flow.useDirector(director)
    bench.start()
    assert bench.transport.carrier.aborted == 1
    assert bench.downstream.told == ["ended"]


def test_leavesWhileModifierRuns() -> None:
    """B7.1: the same in a response's hook, with a body that streams, and with a 101."""
    for status, body in ((200, Body()), (101, b"")):
        response = upstreamResponse(status, body)
        response.connection = Switched()
        bench = Bench(answering(response))
        exchange = bench.context.begin(bench.downstream, request())
        bench.flow._modify = lambda response, exchange=exchange: exchange.clientLeft()
        exchange.start()
        assert bench.downstream.told == ["ended"]
        assert bench.transport.carrier.aborted == 1


def test_leavesInTheHead() -> None:
    """B7.1: the client may leave inside of a write."""
    body = Body()
    bench = Bench(answering(upstreamResponse(body=body)))
    exchange = bench.context.begin(bench.downstream, request())
    bench.downstream.onHead = exchange.clientLeft
    exchange.start()
    assert bench.downstream.told == [("head", 200, None, b"", False), "ended"]
    assert exchange.settled


# -- settling


def test_settlesOnce() -> None:
    """B3.6: nothing that comes after the end changes anything."""
    bench = Bench(answering(upstreamResponse()))
    exchange = bench.start()
    exchange.clientLeft()
    exchange.fail(ValueError())
    exchange.settle()
    exchange.responseReceived(upstreamResponse())
    exchange.roundTripFailed(UpstreamError("late", Stage.WAIT))
    exchange.informationalReceived(Response(103))
    exchange.write(b"x")
    exchange.finish([])
    exchange.registerProducer(Body(), True)
    exchange.unregisterProducer()
    assert bench.downstream.told == [("head", 200, 5, b"hello", True), "ended"]
    assert len(bench.records) == 1


def test_observersFail(loggedErrors: list[Any]) -> None:
    """B7.4: an observer that fails costs neither the exchange nor the other observers."""
    seen: list[Any] = []

    def broken(record: Any) -> None:
        raise ValueError("broken observer")

    bench = Bench(answering(upstreamResponse()))
    context = ExchangeContext(bench.flow.respond, bench.clock.seconds, [broken, seen.append])
    context.begin(bench.downstream, request()).start()
    assert bench.downstream.told[-1] == "ended"
    assert [record.status for record in seen] == [200]
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_responderFails(loggedErrors: list[Any]) -> None:
    """B7.4: a responder that raises answers 500."""
    downstream = Downstream()
    records: list[Any] = []

    def respond(exchange: Exchange) -> None:
        raise ValueError("broken responder")

    ExchangeContext(respond, Clock().seconds, [records.append]).begin(downstream, request()).start()
    assert downstream.told == [("head", 500, 26, b"500 Internal Server Error\n", True), "ended"]
    assert (records[0].status, records[0].error.side) == (500, Side.INTERNAL)
    loggedErrors.clear()


def test_responderFailsLate(loggedErrors: list[Any]) -> None:
    """B3.6: one that raises behind its answer changes nothing."""
    downstream = Downstream()

    def respond(exchange: Exchange) -> None:
        exchange.answer(Response(204))
        raise ValueError("broken responder")

    ExchangeContext(respond, Clock().seconds).begin(downstream, request()).start()
    assert downstream.told == [("head", 204, 0, b"", True), "ended"]
    loggedErrors.clear()


def test_wireFails(loggedErrors: list[Any]) -> None:
    """B7.4: even if nothing can be sent any more, the exchange settles."""
    bench = Bench(answering(upstreamResponse()))

    def broken() -> None:
        raise ValueError("broken wire")

    bench.downstream.onHead = broken
    exchange = bench.start()
    assert exchange.settled
    assert bench.downstream.told[-1] == "ended"
    loggedErrors.clear()


def test_replacedBody() -> None:
    """B3.3: an upstream body that a modifier replaced has nobody to end it but us."""
    body = Body()

    def modify(response: Any) -> None:
        response.body = b"instead"

    bench = Bench(answering(upstreamResponse(body=body)), modifyResponse=modify)
    bench.start()
    assert bench.downstream.told == [("head", 200, 7, b"instead", True), "ended"]
    assert bench.transport.carrier.aborted == 1


def test_carrierCannotBeStopped(loggedErrors: list[Any]) -> None:
    """B7.4: a transport that fails to stop does not keep the exchange."""
    bench = Bench()
    exchange = bench.start()

    def broken() -> None:
        raise ValueError("broken abort")

    bench.transport.carrier.abort = broken
    exchange.clientLeft()
    assert bench.downstream.told == ["ended"]
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_cancelFails(loggedErrors: list[Any]) -> None:
    """B7.4: nor does a director's Deferred whose cancelling fails."""

    def broken(deferred: Any) -> None:
        raise ValueError("broken canceller")

    bench = Bench(director=lambda request: Deferred(broken))
    exchange = bench.start()
    exchange.clientLeft()
    assert bench.downstream.told == ["ended"]
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_baseException(loggedErrors: list[Any]) -> None:
    """B7.4: asyncio's CancelledError is no Exception; the exchange ends all the same."""
    waiting: Deferred[None] = Deferred()
    bench = Bench(director=lambda request: waiting)
    bench.start()
    waiting.errback(asyncio.CancelledError())
    assert bench.downstream.told == [("head", 500, 26, b"500 Internal Server Error\n", True), "ended"]
    assert (bench.records[0].status, bench.records[0].error.side) == (500, Side.INTERNAL)
    loggedErrors.clear()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_endOfTheProcess(end: type[BaseException], loggedErrors: list[Any]) -> None:
    """What is to end the process is not kept from doing that."""

    def director(request: Any) -> None:
        raise end

    bench = Bench(director=director)
    with pytest.raises(end):
        bench.start()
    assert bench.downstream.told[-1] == "ended"
    loggedErrors.clear()


# -- time


def test_wholeTime() -> None:
    """B9: the limit on the exchange as a whole ends it with a 504, whatever it waits for."""
    bench = Bench(timeouts=Timeouts(exchange=2.0))
    bench.start()
    bench.clock.pump([0.1] * 25)
    [record] = bench.records
    assert (record.status, type(record.error), record.error.timeout) == (504, UpstreamTimeout, "exchange")
    assert bench.transport.carrier.aborted == 1
    assert bench.clock.getDelayedCalls() == []


def test_wholeTimeInTheBody() -> None:
    """B9: in the middle of the response it cuts."""
    body = Body()
    bench = Bench(answering(upstreamResponse(body=body)), timeouts=Timeouts(exchange=2.0))
    bench.start()
    bench.clock.pump([0.1] * 25)
    assert bench.downstream.told == [("head", 200, None, b"", False), "abort", "ended"]
    assert body.told == ["stop"]


def test_wholeTimeIsNotLeftBehind() -> None:
    """B9: an exchange that is over in time leaves no timer."""
    bench = Bench(answering(upstreamResponse()), timeouts=Timeouts(exchange=2.0))
    bench.start()
    assert bench.clock.getDelayedCalls() == []


# -- the rest


def test_requestSide() -> None:
    """The state of a request's body is known."""
    body = Body(5)
    bench = Bench()
    exchange = bench.start(request(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5", body))
    assert exchange.requestSide is RequestSide.COMING
    [(outbound, _)] = bench.transport.begun
    outbound.body.deliver(_Sink())
    body.consumer.write(b"hello")
    body.consumer.finish([])
    assert exchange.requestSide is RequestSide.COMPLETE
    assert exchange.record.requestBytes == 5
    exchange.clientLeft()


class Switched:
    """A connection behind a 101."""

    def tunnel(self) -> None: ...


class _Sink:
    """Takes a request's body, and is not interested."""

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self, trailers: list[bytes]) -> None: ...
    def fail(self, error: Exception) -> None: ...


def test_repr() -> None:
    """What an exchange is about can be seen in a debugger."""
    bench = Bench()
    exchange = bench.start()
    assert repr(exchange) == "<Exchange b'GET' b'/' complete/nothing>"
    exchange.clientLeft()
    assert repr(exchange) == "<Exchange b'GET' b'/' settled>"


def test_trailersBehindBytes() -> None:
    """B5.7: a response whose body is all here may have trailers."""
    response = upstreamResponse()
    response.trailers = [b"T: 1"]
    bench = Bench(answering(response))
    bench.start()
    assert bench.downstream.told == [("head", 200, None, b"hello", False), ("finish", [b"T: 1"]), "ended"]
