"""
Bodies on their way: the request's, and those behind filters.
"""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body, Taker, request, upstreamResponse
from twistproxy.core.flush import CoalescedBody
from twistproxy.core.pump import FilteredBody, RequestBody
from twistproxy.core.states import RequestSide
from twistproxy.errors import ClientError, ClientLeft, HookFailed
from twistproxy.interfaces import IBody, IBodyConsumer, IBodyFilter
from twistproxy.message import Response

UPLOAD = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 10"


@implementer(IBodyConsumer)
class Upper:
    """A filter: what goes through it comes out in capitals, with a mark behind it."""

    def __init__(self, consumer: Any, message: Any) -> None:
        self._consumer = consumer
        self.message = message

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._consumer.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._consumer.unregisterProducer()

    def write(self, data: bytes) -> None:
        self._consumer.write(data.upper())

    def finish(self, trailers: list[bytes]) -> None:
        self._consumer.write(b"!")
        self._consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        self._consumer.fail(error)


class Breaking(Upper):
    """A filter that fails at the first piece."""

    def write(self, data: bytes) -> None:
        raise ValueError("broken filter")


def upload(limit: int | None = None) -> tuple[Bench, Any, Body, RequestBody, Taker]:
    """@return: a body in the middle of its exchange."""
    bench, source, taker = Bench(), Body(10), Taker()
    exchange = bench.start(request(UPLOAD, source))
    body = RequestBody(source, exchange, limit)
    body.deliver(taker)
    return bench, exchange, source, body, taker


def test_interfaces() -> None:
    """The bodies provide what they say."""
    _, exchange, source, body, _ = upload()
    for each in (body, FilteredBody(source, Upper, None), CoalescedBody(source, 1.0, None)):  # type: ignore[arg-type]
        assert verifyObject(IBody, each)
        assert verifyObject(IBodyConsumer, each)
    exchange.clientLeft()


def test_counted() -> None:
    """B4.1: a body goes on as it comes, and is counted."""
    _, exchange, source, body, taker = upload()
    assert (body.length, taker.producer) == (10, body)
    source.consumer.write(b"hello")
    source.consumer.write(b"world")
    source.consumer.unregisterProducer()
    source.consumer.finish([b"T: 1"])
    assert taker.told == [b"hello", b"world", ("finish", [b"T: 1"])]
    assert taker.producer is None
    assert (exchange.record.requestBytes, exchange.requestSide) == (10, RequestSide.COMPLETE)
    exchange.clientLeft()


def test_backpressure() -> None:
    """B4.2: pausing reaches the source."""
    _, exchange, source, body, _ = upload()
    body.pauseProducing()
    body.resumeProducing()
    assert source.told == ["pause", "resume"]
    exchange.clientLeft()


def test_dropped() -> None:
    """B4.4: what nobody wants is dropped, and its end is nobody's business."""
    _, exchange, source, body, taker = upload()
    body.stopProducing()
    source.consumer.write(b"late")
    source.consumer.unregisterProducer()
    source.consumer.finish([])
    source.consumer.fail(ValueError())
    assert (source.told, taker.told, exchange.requestSide) == (["stop"], [], RequestSide.DROPPED)
    exchange.clientLeft()


def test_breaks() -> None:
    """B4.5: a body that breaks off says so to whoever takes it."""
    _, exchange, source, _, taker = upload()
    error = ClientError("gone")
    source.consumer.fail(error)
    assert (taker.told, exchange.requestSide) == ([error], RequestSide.BROKEN)
    exchange.clientLeft()


def test_limit() -> None:
    """B1.10: a body that grows over the limit fails with 413, and the rest is not wanted."""
    _, exchange, source, _, taker = upload(limit=6)
    source.consumer.write(b"hello")
    source.consumer.write(b"world")
    source.consumer.write(b"more")
    assert taker.told[0] == b"hello"
    [error] = taker.told[1:]
    assert (type(error), error.status) == (ClientError, 413)
    assert source.told == ["stop"]
    exchange.clientLeft()


# -- filters


def test_filter() -> None:
    """B3.5: what a filter writes is the body; its length is not known any more."""
    source, taker = Body(5), Taker()
    body = FilteredBody(source, Upper, "message")
    assert body.length is None
    body.deliver(taker)
    source.consumer.write(b"hello")
    source.consumer.finish([b"T: 1"])
    assert taker.told == [b"HELLO", b"!", ("finish", [b"T: 1"])]


def test_filterOfBytes() -> None:
    """B3.5: a body that is all here goes the same way, trailers too."""
    taker = Taker()
    response = upstreamResponse()
    response.trailers = [b"T: 1"]
    FilteredBody(b"hello", Upper, response).deliver(taker)
    assert taker.told == [b"HELLO", b"!", ("finish", [b"T: 1"])]


def test_filterBackpressure() -> None:
    """B5.4: pausing reaches the source through a filter."""
    source, taker = Body(5), Taker()
    body = FilteredBody(source, Upper, None)
    body.deliver(taker)
    taker.producer.pauseProducing()
    body.resumeProducing()
    assert source.told == ["pause", "resume"]
    source.consumer.unregisterProducer()
    assert taker.producer is None


def test_filterPassesFailure() -> None:
    """B5.5: a body that breaks off breaks off behind its filter too."""
    source, taker = Body(5), Taker()
    FilteredBody(source, Upper, None).deliver(taker)
    error = ClientError("gone")
    source.consumer.fail(error)
    source.consumer.fail(error)
    assert taker.told == [error]


def test_filterStopped() -> None:
    """B7.1: a filtered body that nobody wants is not written any more, even if its filter goes on."""
    source, taker = Body(5), Taker()
    body = FilteredBody(source, Upper, None)
    body.deliver(taker)
    body.stopProducing()
    source.consumer.write(b"late")
    source.consumer.registerProducer(source, True)
    source.consumer.unregisterProducer()
    source.consumer.finish([])
    assert (source.told, taker.told) == (["stop"], [])


def test_filterFails() -> None:
    """B7.4: a filter that raises fails its body once; the rest of the source is not wanted."""
    source, taker = Body(5), Taker()
    FilteredBody(source, Breaking, None).deliver(taker)
    source.consumer.write(b"hello")
    source.consumer.write(b"hello")
    source.consumer.finish([])
    [error] = taker.told
    assert (type(error), type(error.__cause__), source.told) == (HookFailed, ValueError, ["stop"])


def test_filterFailsOnBytes() -> None:
    """B7.4: nor is the rest of one that is all here."""
    taker = Taker()
    FilteredBody(b"hello", Breaking, upstreamResponse()).deliver(taker)
    assert [type(told) for told in taker.told] == [HookFailed]


def test_filtersTrailers() -> None:
    """B3.5: trailers that a filter makes up cannot end the message early."""

    class Splitting(Upper):
        """A filter with something behind its body."""

        def finish(self, trailers: list[bytes]) -> None:
            self._consumer.finish([*trailers, b"X: 1\r\n\r\nHTTP/1.1 200 OK"])

    source, taker = Body(5), Taker()
    FilteredBody(source, Splitting, None).deliver(taker)
    source.consumer.write(b"hello")
    source.consumer.finish([b"T: 1"])
    assert taker.told[0] == b"HELLO"
    assert [type(told) for told in taker.told[1:]] == [HookFailed]


# -- filters in the flow


def heads(makeWorld: Any, raw: bytes, **options: Any) -> tuple[Any, bytes]:
    """@return: the world, and what a client gets that sends C{raw}."""
    world = makeWorld(**options)
    client = world.client()
    client.send(raw)
    return world, client.take()


def test_requestFilters(makeWorld: Any) -> None:
    """B3.5: the first request filter is nearest to the client, and framing follows what comes out."""

    def mark(consumer: Any, message: Any) -> Upper:
        message.headers.set("X-Filtered", "yes")
        return Upper(consumer, message)

    class Twice(Upper):
        def write(self, data: bytes) -> None:
            self._consumer.write(data + data)

    raw = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
    world, _ = heads(makeWorld, raw, requestFilters=[mark, Twice])
    [sent] = world.origin.requests
    assert (sent.body, sent[b"transfer-encoding"], sent[b"content-length"]) == (b"ABAB!!!", [b"chunked"], [])
    assert sent[b"x-filtered"] == [b"yes"]


def test_requestFilterOfNothing(makeWorld: Any) -> None:
    """B2.9: a request without a body does not get one by a filter."""
    world, _ = heads(makeWorld, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", requestFilters=[Upper])
    [sent] = world.origin.requests
    assert (sent.body, sent[b"transfer-encoding"], sent[b"content-length"]) == (b"", [], [])


def test_responseFilters(makeWorld: Any) -> None:
    """B3.5: a response filter may change the head before it is sent; Content-Length is dropped."""

    @implementer(IBodyFilter)
    class Marking:
        def filterBody(self, consumer: Any, message: Response) -> Upper:
            message.headers.set("X-Filtered", "yes")
            return Upper(consumer, message)

    assert verifyObject(IBodyFilter, Marking())
    _, got = heads(makeWorld, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", responseFilters=[Marking()])
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"X-Filtered: yes" in head.split(b"\r\n")
    assert b"Transfer-Encoding: chunked" in head.split(b"\r\n")
    assert b"content-length" not in head.lower()
    assert body == b"10\r\nYOU ASKED FOR /X\r\n1\r\n!\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"204 No Content"), (b"GET", b"304 Not Modified")]
)
def test_noResponseFilters(makeWorld: Any, method: bytes, status: bytes) -> None:
    """B3.5: HEAD, 204 and 304 never run a filter."""

    def unexpected(consumer: Any, message: Any) -> Any:
        raise AssertionError("a filter ran")

    world = makeWorld(responseFilters=[unexpected])
    world.origin.answer = lambda request: b"HTTP/1.1 " + status + b"\r\n\r\n"
    client = world.client()
    client.send(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 " + status)
    assert world.records[0].error is None


@pytest.mark.parametrize("side", ["requestFilters", "responseFilters"])
def test_filterCannotBeMade(makeWorld: Any, loggedErrors: list[Any], side: str) -> None:
    """B7.2: a filter that fails before anything is sent is a bug: 500, and the connection lives on."""

    def broken(consumer: Any, message: Any) -> Any:
        raise ValueError("broken filter")

    world = makeWorld(**{side: [broken]})
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
    assert client.take().startswith(b"HTTP/1.1 500 ")
    assert client.ended == ""
    assert type(world.records[0].error) is HookFailed
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_requestFilterFails(makeWorld: Any, loggedErrors: list[Any]) -> None:
    """B7.4: a request filter that fails on the way: 500, and the upstream's request is cut, not completed."""
    world = makeWorld(requestFilters=[Breaking])
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
    assert client.take().startswith(b"HTTP/1.1 500 ")
    assert world.upstream().ended == "reset"
    assert type(world.records[0].error) is HookFailed
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_responseFilterFails(makeWorld: Any, loggedErrors: list[Any]) -> None:
    """B7.4: a response filter that fails on the way: the response is cut, and the upstream's connection is not at fault."""
    world = makeWorld(responseFilters=[Breaking])
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.take().endswith(b"\r\n\r\n")
    assert client.ended != ""
    assert (type(world.records[0].error), world.idle) == (HookFailed, 1)
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_clientLeavesBehindFilter(makeWorld: Any) -> None:
    """B7.1: a filter in between does not keep an upload from being cut."""
    world = makeWorld(requestFilters=[Upper])
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
    client.sendReset()
    assert world.upstream().ended == "reset"
    assert type(world.records[0].error) is ClientLeft
