"""
Bodies on a connection: whoever reads one gets all of it, once, in order, and then its end; whoever writes one writes not a byte too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.memory import MemoryNetwork
from tests.support.world import World, readResponses
from twistproxy.core.exchange import Exchange
from twistproxy.errors import MalformedMessage
from twistproxy.message import Response
from twistproxy.server.site import ProxySite
from twistproxy.wire.bodies import CHUNKED, UNTIL_CLOSE, BodyReader, BodyWriter, TunnelSink, chunk
from twistproxy.wire.chunked import ChunkedReader


class Line:
    """
    The byte transport under a body.

    @ivar events: what was done to it.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def write(self, data: bytes) -> None:
        self.events.append(data)

    def unregisterProducer(self) -> None:
        self.events.append("unregister")

    def loseWriteConnection(self) -> None:
        self.events.append("half-close")

    def abortConnection(self) -> None:
        self.events.append("abort")


class Consumer:
    """
    Takes a body.

    @ivar events: what it was told.
    @ivar onWrite: called in each write.
    """

    def __init__(self, onWrite: Callable[[], Any] = lambda: None) -> None:
        self.events: list[Any] = []
        self.onWrite = onWrite
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        assert self.producer is not None
        self.events.append(data)
        self.onWrite()

    def finish(self, trailers: list[bytes]) -> None:
        assert self.producer is None
        self.events.append(trailers)

    def fail(self, error: Exception) -> None:
        assert self.producer is None
        self.events.append(error)


def chunks() -> ChunkedReader:
    """A decoder."""
    return ChunkedReader(1000, 10)


@pytest.mark.parametrize("deliverAt", range(5))
@pytest.mark.parametrize(
    ("length", "pieces", "events", "rest"),
    [
        (10, [b"hello", b"wo", b"rldREST"], [b"hello", b"wo", b"rld", []], b"REST"),
        (10, [b"helloworld"], [b"helloworld", []], b""),
        (1, [b"hREST"], [b"h", []], b"REST"),
        (CHUNKED, [b"5\r\nhello\r\n", b"0\r\nA: b\r\n", b"\r\nREST"], [b"hello", [b"A: b"]], b"REST"),
        (CHUNKED, [b"5\r", b"\nhello\r\n0\r\n\r\n"], [b"hello", []], b""),
    ],
)
def test_reading(length: int, pieces: list[bytes], events: list[Any], rest: bytes, deliverAt: int) -> None:
    """B4.1: whenever a body is asked for, before, between or behind its pieces: all of it comes, in order, and then its end."""
    body = BodyReader(Line(), length, b"", chunks() if length == CHUNKED else None)
    consumer = Consumer()
    for number, piece in enumerate([*pieces, None, None]):
        if number == deliverAt:
            body.deliver(consumer)
        if piece is not None:
            found = body.received(piece)
            assert found == (rest if number == len(pieces) - 1 else None)
            if found is not None:
                body.finished()
    if deliverAt > len(pieces) + 1:
        body.deliver(consumer)
    assert (consumer.events, body.ended) == (events, True)


@pytest.mark.parametrize("when", ["before", "behind"])
def test_failing(when: str) -> None:
    """B4.5: a body that broke off says so, whenever it is asked for, and only once."""
    line = Line()
    body = BodyReader(line, 10, b"hello")
    consumer = Consumer()
    error = ValueError("broken")
    if when == "before":
        body.deliver(consumer)
    body.failed(error)
    body.failed(ValueError("again"))
    body.finished()
    if when == "behind":
        body.deliver(consumer)
    assert consumer.events == [b"hello", error]


def test_untilClose() -> None:
    """B5.2: what only the end of the connection ends has no length, and everything is part of it."""
    body = BodyReader(Line(), UNTIL_CLOSE, b"a")
    consumer = Consumer()
    assert (body.length, body.untilClose, body.received(b"b")) == (None, True, None)
    body.deliver(consumer)
    assert body.received(b"c") is None
    body.finished()
    assert consumer.events == [b"a", b"b", b"c", []]


def test_flow() -> None:
    """B4.2: nothing is read before somebody wants it, nor while that one has enough."""
    line = Line()
    body = BodyReader(line, 10, b"hello")
    assert line.events == ["pause"]
    consumer = Consumer()
    body.deliver(consumer)
    assert line.events == ["pause", "resume"]
    body.pauseProducing()
    body.pauseProducing()
    body.resumeProducing()
    body.resumeProducing()
    assert line.events == ["pause", "resume", "pause", "resume"]
    body.pauseProducing()
    assert body.received(b"world") == b""
    body.finished()
    # the connection belongs to the next message now, and is read again
    assert (line.events[-2:], consumer.events) == (["pause", "resume"], [b"hello", b"world", []])
    body.pauseProducing()
    assert line.events[-1] == "resume"


def test_pausedFromInside() -> None:
    """B4.2: a consumer that has enough from the first is not overruled by the delivery."""
    line = Line()
    body = BodyReader(line, 10, b"hello")
    consumer = Consumer(lambda: consumer.producer.pauseProducing())
    body.deliver(consumer)
    assert (line.events, body.paused) == (["pause", "pause"], True)


def test_stopping() -> None:
    """B4.4: what nobody wants is read and counted, not kept."""
    line = Line()
    body = BodyReader(line, 10, b"he")
    body.stopProducing()
    assert line.events == ["pause", "resume"]
    assert (body.received(b"llo"), body.dropped, body.takePending()) == (None, 3, b"")
    assert body.received(b"worldREST") == b"REST"
    body.finished()
    with pytest.raises(RuntimeError):
        body.deliver(Consumer())


@pytest.mark.parametrize("pieces", [[b"ab"], [b"ab", b"cd"]])
def test_stoppedFromInside(pieces: list[bytes]) -> None:
    """DESIGN 3: a consumer that stops from inside a write gets nothing more, neither bytes nor an end."""
    line = Line()
    body = BodyReader(line, 10, pieces[0])
    for piece in pieces[1:]:
        body.received(piece)
    consumer = Consumer(lambda: consumer.producer.stopProducing())
    body.deliver(consumer)
    assert (consumer.events, line.events) == ([b"ab"], ["pause", "resume"])
    rest = body.received(b"x" * (10 - 2 * len(pieces)))
    assert rest == b""
    body.finished()
    assert consumer.events == [b"ab"]


def test_endedFromInside() -> None:
    """DESIGN 3: a body that is ended from inside a write tells its consumer once."""
    body = BodyReader(Line(), 10, b"ab")
    error = ValueError("broken")
    body.received(b"cd")
    consumer = Consumer(lambda: body.failed(error))
    body.deliver(consumer)
    assert consumer.events == [b"ab", error]


def test_once() -> None:
    """DESIGN 3: a body has one owner."""
    body = BodyReader(Line(), 10)
    body.deliver(Consumer())
    with pytest.raises(RuntimeError):
        body.deliver(Consumer())
    body.failed(ValueError())
    with pytest.raises(RuntimeError):
        body.deliver(Consumer())


def test_pendingWithTheHead() -> None:
    """DESIGN 5: what came with the head is sent with the head, and not twice."""
    body = BodyReader(Line(), 10, b"he")
    body.received(b"llo")
    assert (body.takePending(), body.takePending()) == (b"hello", b"")
    consumer = Consumer()
    body.deliver(consumer)
    assert consumer.events == []
    assert BodyReader(Line(), 10).takePending() == b""


@pytest.mark.parametrize(
    ("length", "pieces", "trailers", "written"),
    [
        (5, [b"he", b"llo"], [], [b"he", b"llo"]),
        (0, [], [], []),
        (5, [b"hello"], [b"A: b"], [b"hello"]),  # no place for trailers
        (CHUNKED, [b"hello", b"", b"x" * 16], [], [b"5\r\nhello\r\n", b"10\r\n" + b"x" * 16 + b"\r\n", b"0\r\n\r\n"]),
        (CHUNKED, [], [b"A: b", b"C: d"], [b"0\r\nA: b\r\nC: d\r\n\r\n"]),
        (UNTIL_CLOSE, [b"he", b"llo"], [b"A: b"], [b"he", b"llo"]),
    ],
)
def test_writing(length: int, pieces: list[bytes], trailers: list[bytes], written: list[bytes]) -> None:
    """B2.9: each kind of framing."""
    line = Line()
    writer = BodyWriter(line, length)
    assert (writer.complete, writer.untilClose) == (length == 0, length == UNTIL_CLOSE)
    for piece in pieces:
        writer.write(piece)
    writer.finish(trailers)
    assert (line.events, writer.complete) == (written, True)


def test_writingTooMuch() -> None:
    """B4.5: more than announced would be read as the next message: nothing of such a piece is written, nor is anything behind the end."""
    line = Line()
    writer = BodyWriter(line, 5)
    writer.write(b"hel")
    with pytest.raises(MalformedMessage):
        writer.write(b"lo!")
    assert line.events == [b"hel"]
    for length in (5, CHUNKED):
        line = Line()
        writer = BodyWriter(line, length)
        writer.write(b"hello")
        writer.finish([])
        before = list(line.events)
        with pytest.raises(MalformedMessage):
            writer.write(b"GET /evil")
        writer.finish([])
        assert line.events == before


def test_writingTooLittle() -> None:
    """B4.5: less than announced is no end."""
    writer = BodyWriter(Line(), 5)
    writer.write(b"hell")
    with pytest.raises(MalformedMessage):
        writer.finish([])
    assert not writer.complete


def test_chunk() -> None:
    """B4.1: no data makes no chunk, as that would be the last."""
    assert (chunk(b""), chunk(b"x" * 10)) == (b"", b"a\r\nxxxxxxxxxx\r\n")


def test_tunnelSink() -> None:
    """B6.3: a half-close travels, and a failure cuts."""
    line = Line()
    producers: list[Any] = []
    sink = TunnelSink(line, producers.append)
    sink.registerProducer(Line(), True)
    sink.write(b"a")
    sink.unregisterProducer()
    sink.finish([])
    sink.fail(ValueError())
    assert (line.events, len(producers), producers[1]) == ([b"a", "unregister", "half-close", "abort"], 2, None)


# Twisted's own TLS delivers all that it has read, paused or not.


def test_bodyOfAnEagerClient() -> None:
    """B8.1: a body that ends while nobody reads it, and is never asked for, does not keep the next request from being read."""
    network = MemoryNetwork()
    exchanges: list[Exchange] = []
    site = ProxySite(exchanges.append, network.wheel, network.clock.seconds)
    client = network.connect(site)
    client.eager = True
    client.queue(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", b"he", b"llo")
    network.run()
    client.eager = False
    exchanges[0].answer(Response(200, body=b"1"))
    client.send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [each.request.target for each in exchanges] == [b"/1", b"/2"]
    exchanges[1].answer(Response(200, body=b"2"))
    network.run()
    assert [each.body for each in readResponses(client.take())] == [b"1", b"2"]
    network.end()


def test_bodyOfAnEagerUpstream() -> None:
    """B8.2: the same for a response whose modifier takes its time: its connection is free meanwhile, and is read."""
    from twisted.internet.defer import Deferred

    waiting: list[Deferred[None]] = []

    def slow(response: Any) -> Any:
        if response.headers.get("X-Slow") is None:
            return None
        waiting.append(Deferred())
        return waiting[-1]

    world = World(modifyResponse=slow)
    world.origin.answer = None
    first = world.client()
    first.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    world.upstream().eager = True
    world.upstream().queue(b"HTTP/1.1 200 OK\r\nX-Slow: yes\r\nContent-Length: 5\r\n\r\n", b"he", b"llo")
    world.network.run()
    world.upstream().eager = False
    assert (len(waiting), world.idle) == (1, 1)
    second = world.client()
    second.send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(world.network.dialed) == 1
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld")
    assert [each.body for each in readResponses(second.take())] == [b"world"]
    waiting[0].callback(None)
    world.network.run()
    assert [each.body for each in readResponses(first.take())] == [b"hello"]
    world.end()
