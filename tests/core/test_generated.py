"""
Body filters that are asynchronous generators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body, Taker, request, upstreamResponse
from twistproxy.core.generated import HIGH_WATER, GeneratedBody, isGenerator
from twistproxy.errors import HookFailed, UpstreamError
from twistproxy.errors import Stage as ErrorStage
from twistproxy.interfaces import IBody, IBodyConsumer, IBodyFilter

UPLOAD = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 10"


async def shout(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
    """A filter: capitals, with a mark behind them."""
    async for chunk in chunks:
        yield chunk.upper()
    yield b"!"


@implementer(IBodyFilter)
class Shouting:
    """The same as a provider."""

    filterBody = staticmethod(shout)


class Callable:
    """The same as an object that is called."""

    async def __call__(self, chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk.upper()
        yield b"!"


def delivered(filterBody: Any, source: Any = None) -> tuple[Body, GeneratedBody, Taker]:
    """@return: a body on its way through a filter."""
    source = source or Body(10)
    taker = Taker()
    body = GeneratedBody(source, filterBody, upstreamResponse())
    body.deliver(taker)
    return source, body, taker


def test_interfaces() -> None:
    """It is a body, and takes one."""
    body = GeneratedBody(Body(), shout, None)
    assert verifyObject(IBody, body)
    assert verifyObject(IBodyConsumer, body)
    assert body.length is None
    body.stopProducing()


@pytest.mark.parametrize(
    ("filterBody", "expected"), [(shout, True), (Callable(), True), (Shouting().filterBody, True), (print, False)]
)
def test_recognized(filterBody: Any, expected: bool) -> None:
    """What yields is told from what returns a consumer."""
    assert isGenerator(filterBody) is expected


@pytest.mark.parametrize("filterBody", [shout, Shouting(), Callable()])
def test_inTheFlow(filterBody: Any) -> None:
    """B3.3: a generator, a provider of one and an object with one filter a response; its framing is recomputed."""
    bench = Bench(
        lambda outbound, receiver: receiver.responseReceived(upstreamResponse(body=b"hello")),
        responseFilters=[filterBody],
    )
    bench.start()
    assert bench.downstream.told == [("head", 200, None, b"", False), b"HELLO", b"!", ("finish", []), "ended"]


def test_request() -> None:
    """B3.3: a request's body goes through it on its way upstream, trailers behind it."""
    bench, source, taker = Bench(requestFilters=[shout]), Body(10), Taker()
    exchange = bench.start(request(UPLOAD, source))
    outbound = bench.transport.begun[0][0]
    outbound.body.deliver(taker)
    source.consumer.write(b"ab")
    source.consumer.unregisterProducer()
    source.consumer.finish([b"T: 1"])
    assert taker.told == [b"AB", b"!", ("finish", [b"T: 1"])]
    assert taker.producer is None
    exchange.clientLeft()


def test_headCanBeChanged() -> None:
    """B3.3: up to its first chunk it runs before the head is sent, and what it must not set is taken out again."""

    async def label(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        message.headers.set("X-Label", "1")
        message.headers.set("Content-Length", "3")
        async for chunk in chunks:
            yield chunk

    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), responseFilters=[label])
    bench.start()
    assert b"X-Label: 1" in bench.downstream.lines
    assert b"Content-Length: 3" not in bench.downstream.lines


def test_beforeTheFirstChunk() -> None:
    """What it yields before it has asked for anything is written first, but not before there is a taker."""

    async def prefix(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        yield b"<"
        async for chunk in chunks:
            yield chunk

    source, _, taker = delivered(prefix)
    assert taker.told == [b"<"]
    source.consumer.write(b"a")
    assert taker.told == [b"<", b"a"]
    source.consumer.finish([])
    assert taker.told == [b"<", b"a", ("finish", [])]


def test_awaits() -> None:
    """It may wait for anything; meanwhile the source is held back once enough has come, and let go when it asks again."""
    waits: list[Deferred[None]] = []

    async def slow(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            waits.append(Deferred())
            await waits[-1]
            yield chunk

    source, _, taker = delivered(slow)
    piece = b"x" * (HIGH_WATER // 2)
    for _ in range(3):
        source.consumer.write(piece)
    assert (source.told, taker.told) == ([], [])
    source.consumer.write(piece)
    assert source.told == ["pause"]
    for _ in range(4):
        waits.pop().callback(None)
    assert (source.told, taker.told) == (["pause", "resume"], [piece] * 4)
    source.consumer.finish([])
    assert taker.told[-1] == ("finish", [])


def test_takerIsSlow() -> None:
    """B5.4: while the taker does not keep up it is not resumed behind its yield; then the source is held back too."""
    steps: list[bytes] = []

    async def watched(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            steps.append(chunk[:1])
            yield chunk

    source, body, taker = delivered(watched)
    assert taker.producer is body
    taker.producer.pauseProducing()
    source.consumer.write(b"a" * HIGH_WATER)
    source.consumer.write(b"b" * HIGH_WATER)
    source.consumer.write(b"c")
    assert (steps, taker.told, source.told) == ([b"a"], [], ["pause"])
    taker.producer.resumeProducing()
    assert (steps, source.told) == ([b"a", b"b", b"c"], ["pause", "resume"])
    taker.producer.pauseProducing()
    source.consumer.finish([])
    assert ("finish", []) not in taker.told
    taker.producer.resumeProducing()
    assert taker.told[-1] == ("finish", [])


def test_takerPausesInWrite() -> None:
    """A taker that pauses at every piece gets one at a time."""

    class Pausing(Taker):
        def write(self, data: bytes) -> None:
            super().write(data)
            self.producer.pauseProducing()

    source, taker = Body(), Pausing()
    GeneratedBody(source, shout, upstreamResponse()).deliver(taker)
    source.consumer.write(b"a")
    source.consumer.write(b"b")
    source.consumer.finish([])
    assert taker.told == [b"A"]
    told = []
    while taker.producer is not None:
        taker.producer.resumeProducing()
        told.append(list(taker.told[1:]))
    assert told == [[b"B"], [b"B", b"!"], [b"B", b"!", ("finish", [])]]


def test_endsEarly() -> None:
    """One that returns has seen enough: the body is complete, and the rest of its source is not wanted."""

    async def first(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        yield await anext(chunks)

    source, _, taker = delivered(first)
    source.consumer.write(b"a")
    assert (taker.told, source.told) == ([b"a", ("finish", [])], ["stop"])
    source.consumer.write(b"b")
    source.consumer.finish([])
    assert len(taker.told) == 2


@pytest.mark.parametrize("what", ["text", 3, None])
def test_yieldsNonsense(what: Any) -> None:
    """B3.7: what is no bytes fails the body, with the filter's name."""

    async def wrong(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[Any]:
        async for _ in chunks:
            yield what

    source, _, taker = delivered(wrong)
    source.consumer.write(b"a")
    [error] = taker.told
    assert isinstance(error, HookFailed)
    assert "wrong" in error.hook
    assert "yields bytes, not" in error.reason
    assert source.told == ["stop"]


@pytest.fixture
def silent(loggedErrors: Any) -> Any:
    """Takes notice of what is logged."""
    yield loggedErrors
    loggedErrors.clear()


def test_raisesAtOnce(silent: Any) -> None:
    """B3.7: one that raises before the head is sent is answered with a 500, and nothing of the upstream's is left."""

    async def broken(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        raise ValueError("no")
        yield b""

    bench = Bench(
        lambda outbound, receiver: receiver.responseReceived(upstreamResponse(body=Body(5))), responseFilters=[broken]
    )
    bench.start()
    assert bench.downstream.told[0][:2] == ("head", 500)
    assert bench.transport.carrier.aborted == 1


def test_raisesAtOnceIsLogged(silent: Any) -> None:
    """B3.7: the log names the filter and has its traceback."""

    async def broken(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        raise ValueError("no")
        yield b""

    Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), responseFilters=[broken]).start()
    [event] = silent
    assert "body filter" in event["reason"]
    assert "broken" in event["reason"]
    assert event["log_failure"].check(ValueError)


def test_raisesLater() -> None:
    """B7.4: one that raises in mid-body cuts that body, and its source is given up."""

    async def broken(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        yield await anext(chunks)
        raise ValueError("no")

    source, _, taker = delivered(broken)
    source.consumer.write(b"a")
    assert taker.told[0] == b"a"
    assert isinstance(taker.told[1], HookFailed)
    assert (source.told, len(taker.told)) == (["stop"], 2)


def test_raisesBeforeDelivery() -> None:
    """One that fails while its request waits in a line fails the body as soon as somebody takes it."""
    wait: Deferred[None] = Deferred()

    async def broken(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        await wait
        raise ValueError("no")
        yield b""

    source, taker = Body(), Taker()
    body = GeneratedBody(source, broken, None)
    wait.callback(None)
    body.deliver(taker)
    [error] = taker.told
    assert isinstance(error.__cause__, ValueError)
    assert source.told == ["stop"]


def test_sourceBreaks() -> None:
    """B5.5: a source that breaks off fails the body at once; the generator sees the error, and cannot make it whole."""
    seen: list[Exception] = []

    async def mending(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except UpstreamError as error:
            seen.append(error)
        yield b"as if nothing had happened"

    error = UpstreamError("reset", ErrorStage.BODY)
    source, _, taker = delivered(mending)
    source.consumer.write(b"a")
    source.consumer.fail(error)
    assert (taker.told, seen) == ([b"a", error], [error])


def test_sourceBreaksElsewhere() -> None:
    """One that waits for something else when the source breaks off is cancelled."""
    cancelled: list[Any] = []

    async def slow(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            await Deferred(cancelled.append)
            yield chunk

    error = UpstreamError("reset", ErrorStage.BODY)
    source, _, taker = delivered(slow)
    source.consumer.write(b"a")
    source.consumer.fail(error)
    assert (taker.told, len(cancelled)) == ([error], 1)


@pytest.mark.parametrize("where", ["chunk", "await", "yield"])
def test_givenUp(where: str) -> None:
    """B7.1: a taker that leaves ends the generator wherever it is, and its cleaning up runs, waits included."""
    ended: list[str] = []
    last: Deferred[None] = Deferred()

    async def tidy(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                if where == "await":
                    await Deferred()
                yield chunk
        except (CancelledError, GeneratorExit) as error:
            ended.append(type(error).__name__)
            raise
        finally:
            await last
            ended.append("tidy")

    source, body, taker = delivered(tidy)
    if where == "yield":
        body.pauseProducing()
    if where != "chunk":
        source.consumer.write(b"a")
    body.stopProducing()
    assert source.told == ["stop"]
    assert ended == ["GeneratorExit" if where == "yield" else "CancelledError"]
    last.callback(None)
    assert (ended[1:], taker.told) == (["tidy"], [])
    body.stopProducing()
    source.consumer.fail(ValueError())
    assert source.told == ["stop"]


def test_givenUpInWrite() -> None:
    """B7.1: a taker that leaves in the middle of a write ends it, even though it is running."""
    ended: list[str] = []

    class Leaving(Taker):
        def write(self, data: bytes) -> None:
            super().write(data)
            self.producer.stopProducing()

    async def tidy(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            ended.append("tidy")

    source, taker = Body(), Leaving()
    GeneratedBody(source, tidy, upstreamResponse()).deliver(taker)
    source.consumer.write(b"a")
    source.consumer.write(b"b")
    assert (taker.told, source.told, ended) == ([b"a"], ["stop"], ["tidy"])


def test_givesUpItself() -> None:
    """One that ends its own exchange and then waits is cancelled in that wait."""
    cancelled: list[Any] = []
    taken: list[Any] = []

    async def suicidal(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            taken[0].stopProducing()
            await Deferred(cancelled.append)
            yield chunk

    source, body, taker = delivered(suicidal)
    taken.append(body)
    source.consumer.write(b"a")
    assert (len(cancelled), taker.told, source.told) == (1, [], ["stop"])


def test_failsAsItIsEnded(silent: Any) -> None:
    """What it raises while it is being ended is nobody's business but the log's."""

    async def untidy(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            raise ValueError("untidy")

    source, body, taker = delivered(untidy)
    body.stopProducing()
    assert (taker.told, source.told) == ([], ["stop"])
    [event] = silent
    assert "untidy" in event["name"]


def test_clientLeaves() -> None:
    """B7.1: a client that leaves in mid-body cancels the filter of its response."""
    ended: list[str] = []

    async def tidy(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except CancelledError:
            ended.append("cancelled")
            raise

    source = Body()
    bench = Bench(
        lambda outbound, receiver: receiver.responseReceived(upstreamResponse(body=source)), responseFilters=[tidy]
    )
    exchange = bench.start()
    source.consumer.write(b"a")
    exchange.clientLeft()
    assert (ended, source.told, bench.records[0].status) == (["cancelled"], ["stop"], 499)


class Tidy:
    """
    A filter that notes how it ends.

    @ivar ended: the exceptions that it has seen, or C{None} for an end in order.
    """

    def __init__(self) -> None:
        self.ended: list[str | None] = []

    async def __call__(self, chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append(None)


def test_neverTaken() -> None:
    """B7.1: the filter of a request that is never sent is ended with its exchange, not by the garbage collector."""
    tidy = Tidy()
    bench = Bench(
        lambda outbound, receiver: receiver.roundTripFailed(UpstreamError("refused", ErrorStage.CONNECT)),
        requestFilters=[tidy],
    )
    bench.start(request(UPLOAD, Body(10)))
    assert (bench.downstream.told[0][1], tidy.ended) == (502, ["CancelledError"])


def test_nextFilterFails(silent: Any) -> None:
    """B7.4: where the next filter cannot be made the one before it is ended."""
    tidy = Tidy()

    def failing(consumer: Any, message: Any) -> Any:
        raise ValueError("no")

    bench = Bench(
        lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), responseFilters=[tidy, failing]
    )
    bench.start()
    assert (bench.downstream.told[0][1], tidy.ended) == (500, ["CancelledError"])


def test_notAConsumer(silent: Any) -> None:
    """B3.7: a filter that returns nonsense is named before anything is sent."""

    def forgetful(consumer: Any, message: Any) -> None:
        return None

    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), responseFilters=[forgetful])
    bench.start()
    assert bench.downstream.told[0][1] == 500
    assert "forgetful: TypeError: it returned None, not an IBodyConsumer" in silent[0]["reason"]


def test_endsInOrder() -> None:
    """One that has run to its end is not ended once more."""
    tidy = Tidy()
    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), responseFilters=[tidy])
    bench.start()
    assert (bench.downstream.told[-1], tidy.ended) == ("ended", [None])


@pytest.mark.parametrize("filterBody", [shout, Tidy()])
def test_pastAReaderThatStops(makeWorld: Any, filterBody: Any) -> None:
    """B4.2, B5.4: on the wire: a client that stops reading stops the upstream, with a bound on what is held in between."""
    world = makeWorld(responseFilters=[filterBody])
    world.origin.answer = None
    client = world.client()
    client.taking = False
    client.send(b"GET / HTTP/1.1\r\nHost: front.test\r\n\r\n")
    upstream = world.upstream()
    pieces, size = 64, 32 * 1024
    upstream.queue(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * size), *[b"x" * size] * pieces)
    world.network.run()
    assert upstream.reading is False
    sent = len(client._unsent)
    assert sent < 512 * 1024
    client.taking = True
    world.network.run()
    assert len(client.take()) > pieces * size
    assert world.records[0].status == 200


def test_uploadPastAnUpstreamThatStops(makeWorld: Any) -> None:
    """B4.2: the same for an upload: the client is stopped, and every byte arrives in the end."""
    world = makeWorld(requestFilters=[Tidy()])
    client = world.client()
    pieces, size = 64, 32 * 1024
    world.network.holding = True
    client.queue(b"POST / HTTP/1.1\r\nHost: front.test\r\nContent-Length: %d\r\n\r\n" % (pieces * size))
    client.queue(*[b"x" * size] * pieces)
    world.network.run()
    assert client.reading is False
    world.network.holding = False
    world.network.run()
    assert [len(body) for _, _, body in world.origin.whole] == [pieces * size]
