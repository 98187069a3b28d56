"""
Any transport, in the form that the flow uses.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, upstreamResponse
from twistproxy.core.transports import CallbackTransport
from twistproxy.errors import HookFailed, Sent, Stage, UpstreamError
from twistproxy.interfaces import ICallbackTransport, ICarrier, ITransport
from twistproxy.message import OutboundRequest, Response


@implementer(ITransport)
class Slow:
    """A transport whose answers come when the test says so."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.asked: list[OutboundRequest] = []
        self.answer: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, deferred: Any) -> None:
        self.cancelled += 1

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[Any]:
        self.asked.append(outbound)
        return self.answer


class Abortable(Response):
    """A response that can be given up."""

    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_interfaces() -> None:
    """The adapter provides what the flow asks for, and so does what carries its requests."""
    assert verifyObject(ICallbackTransport, CallbackTransport(Slow()))
    bench = Bench(transport=Slow())
    exchange = bench.start()
    assert exchange.outbound is not None
    assert verifyObject(ICarrier, exchange.outbound.carrier)
    exchange.clientLeft()


def test_later() -> None:
    """A Deferred's response is the response."""
    transport = Slow()
    bench = Bench(transport=transport)
    bench.start()
    transport.answer.callback(Response(200, body=b"hello"))
    assert bench.downstream.told == [("head", 200, 5, b"hello", True), "ended"]
    assert bench.records[0].tries == 1


def test_interims() -> None:
    """B5.6: interim responses go to the client as they come."""
    transport = Slow()
    bench = Bench(transport=transport)
    bench.start()
    transport.asked[0].onInformational(Response(103))  # type: ignore[misc]
    transport.answer.callback(Response(204))
    assert bench.downstream.told == [("interim", 103), ("head", 204, 0, b"", True), "ended"]


@pytest.mark.parametrize("how", [lambda response: response, succeed], ids=["value", "fired"])
def test_atOnce(how: Any) -> None:
    """A plain callable will do, which may answer at once."""
    bench = Bench(transport=lambda outbound: how(upstreamResponse()))
    bench.start()
    assert bench.downstream.told == [("head", 200, 5, b"hello", True), "ended"]


def test_coroutine() -> None:
    """And may be a coroutine."""

    async def roundTrip(outbound: Any) -> Response:
        return Response(200, body=outbound.target)

    bench = Bench(transport=roundTrip)
    bench.start()
    assert bench.downstream.told == [("head", 200, 1, b"/", True), "ended"]


def test_neither() -> None:
    """What is no transport is refused when it is given, not at the first request."""
    with pytest.raises(TypeError, match="ITransport"):
        Bench(transport=object())


def test_proxyError() -> None:
    """A transport's own error says what the client gets."""
    bench = Bench(transport=lambda outbound: fail(UpstreamError("refused", Stage.CONNECT)))
    bench.start()
    assert bench.records[0].status == 502


def test_foreignError(loggedErrors: list[Any]) -> None:
    """B7.2: anything else that it fails with is a bug: 500, logged with its traceback."""
    cause = ValueError("broken")

    def roundTrip(outbound: Any) -> Any:
        raise cause

    bench = Bench(transport=roundTrip)
    bench.start()
    error = bench.records[0].error
    assert (bench.records[0].status, type(error), error.__cause__, error.sent) == (500, HookFailed, cause, Sent.SOME)
    assert [event["log_failure"].value for event in loggedErrors] == [cause]
    loggedErrors.clear()


def test_noResponse() -> None:
    """And so is an answer that is none."""
    bench = Bench(transport=lambda outbound: "hello")
    bench.start()
    assert bench.records[0].status == 500


def test_cancelled() -> None:
    """B7.1: when the client leaves, the Deferred is cancelled."""
    transport = Slow()
    bench = Bench(transport=transport)
    bench.start().clientLeft()
    assert transport.cancelled == 1
    assert bench.downstream.told == ["ended"]


def test_comesAllTheSame() -> None:
    """B7.1: a response that comes although it was cancelled is given up."""
    late = Abortable(200)
    answer: Deferred[Any] = Deferred(lambda deferred: deferred.callback(late))
    bench = Bench(transport=lambda outbound: answer)
    bench.start().clientLeft()
    assert late.aborted == 1


def test_leavesWithTheResponse() -> None:
    """B7.1: a response that streams is given up when the client leaves, once."""
    from tests.support.flow import Body

    response = Abortable(200, body=Body())
    bench = Bench(transport=lambda outbound: succeed(response))
    exchange = bench.start()
    exchange.clientLeft()
    exchange.clientLeft()
    assert response.aborted == 1


def test_leavesInsideOfRoundTrip() -> None:
    """B7.1: the client may leave before there is a Deferred."""
    bench = Bench(transport=lambda outbound: None)

    def roundTrip(outbound: Any) -> Response:
        outbound.carrier.abort()
        return Response(200)

    bench.flow._begin = CallbackTransport(roundTrip).begin
    exchange = bench.start()
    assert bench.downstream.told == []
    exchange.clientLeft()
    assert bench.downstream.told == ["ended"]


def test_wrapped(makeWorld: Any) -> None:
    """A transport that wraps the native one hears of it when the client leaves, and so can release what it holds."""
    heard: list[Any] = []

    @implementer(ITransport)
    class Counting:
        def roundTrip(self, outbound: Any) -> Any:
            return world.transport.roundTrip(outbound).addErrback(self.failed)

        def failed(self, failure: Any) -> Any:
            heard.append(failure.type)
            return failure

    world = makeWorld()
    world.origin.answer = None
    world.proxy._begin = CallbackTransport(Counting()).begin
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(world.origin.requests) == 1
    client.sendReset()
    assert heard == [CancelledError]
    assert world.upstream().ended == "reset"


def test_wrappedToItsEnd(makeWorld: Any) -> None:
    """A response that came through such a transport does not touch its connection when it is over: that is in the pool."""

    @implementer(ITransport)
    class Plain:
        def roundTrip(self, outbound: Any) -> Any:
            return world.transport.roundTrip(outbound)

    world = makeWorld()
    world.proxy._begin = CallbackTransport(Plain()).begin
    client = world.client()
    for number in range(3):
        client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
    assert client.take().count(b"HTTP/1.1 200 OK") == 3
    assert [record.error for record in world.records] == [None] * 3
    assert (len(world.network.dialed), world.idle) == (1, 1)
