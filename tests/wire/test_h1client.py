"""
The client side of a connection: what is written, who may be reused, who is told what, and what is left.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest

from tests.support.wire import OK, Receiver, Upload, Upstream, failure, reused
from tests.support.world import World, echo, outboundRequest, readResponses
from twistproxy.body import BytesBody
from twistproxy.errors import Sent, Side, Stage
from twistproxy.upstream.pool import PoolSettings

# -- what is written


@pytest.mark.parametrize(
    ("method", "body", "attributes", "framing"),
    [
        (b"GET", b"", {}, b"\r\n"),
        (b"DELETE", b"", {}, b"\r\n"),
        (b"POST", b"", {}, b"Content-Length: 0\r\n\r\n"),
        (b"PUT", b"", {}, b"Content-Length: 0\r\n\r\n"),
        (b"PATCH", b"", {}, b"Content-Length: 0\r\n\r\n"),
        (b"GET", b"hello", {}, b"Content-Length: 5\r\n\r\nhello"),
        (b"POST", b"hello", {}, b"Content-Length: 5\r\n\r\nhello"),
        (b"POST", b"hello", {"chunked": True}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"POST", b"", {"chunked": True}, b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            b"POST",
            b"hi",
            {"trailers": [b"A: b", b"C: d"]},
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        ),
        (b"POST", BytesBody(b"hello"), {}, b"Content-Length: 5\r\n\r\nhello"),
        (b"POST", BytesBody(b""), {}, b"Content-Length: 0\r\n\r\n"),
        (b"POST", BytesBody(b"hello"), {"chunked": True}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"GET", b"", {"acceptsTrailers": True}, b"Connection: TE\r\nTE: trailers\r\n\r\n"),
        (b"GET", b"", {"upgrade": b"websocket"}, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ],
)
def test_request(upstream: Upstream, method: bytes, body: Any, attributes: dict[str, Any], framing: bytes) -> None:
    """B2.9: what a request looks like, and that its framing is what its body is."""
    _, receiver = upstream.ask(body, method, **attributes)
    assert upstream.line.take() == b"%b / HTTP/1.1\r\nHost: origin.test\r\n%b" % (method, framing)
    upstream.line.send(OK)
    assert (receiver.told, upstream.idle) == ([200, b"ok"], 1)


def test_streamedRequest(upstream: Upstream) -> None:
    """B4.4, B4.1: the head goes before the body has begun, and each piece as it comes; an empty piece is no end."""
    upload = Upload(None)
    upstream.ask(upload, b"POST")
    assert upstream.line.take().endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    for data, written in ((b"hello", b"5\r\nhello\r\n"), (b"", b""), (b"x" * 20, b"14\r\n" + b"x" * 20 + b"\r\n")):
        upload.consumer.write(data)
        upstream.run()
        assert upstream.line.take() == written
    upload.consumer.unregisterProducer()
    upload.consumer.finish([b"A: b"])
    upstream.run()
    assert upstream.line.take() == b"0\r\nA: b\r\n\r\n"
    upstream.line.send(OK)
    assert upstream.idle == 1


@pytest.mark.parametrize(
    ("length", "pieces"), [(10, [b"hello"]), (3, [b"hello"]), (7, [b"hello", b"hello"]), (0, [b"h"])]
)
def test_requestOfWrongLength(upstream: Upstream, length: int, pieces: list[bytes]) -> None:
    """B4.5: a body that is not as long as announced resets the request; not a byte too many is written."""
    upload = Upload(length)
    _, receiver = upstream.ask(upload, b"POST")
    upstream.line.take()
    for piece in pieces:
        upload.consumer.write(piece)
    upload.consumer.finish([])
    upstream.run()
    assert len(upstream.line.take()) <= length
    assert (upstream.line.ended, receiver.told, failure(receiver)[0]) == ("reset", ["failed"], Side.INTERNAL)


def test_writtenBehindTheEnd(upstream: Upstream) -> None:
    """B4.5: what a body writes behind its end is no part of the next request."""
    upload = Upload(None)
    upstream.ask(upload, b"POST")
    upload.consumer.write(b"hello")
    upload.consumer.finish([])
    upstream.run()
    assert upstream.line.take().endswith(b"5\r\nhello\r\n0\r\n\r\n")
    upload.consumer.write(b"GET /evil HTTP/1.1\r\n\r\n")
    upstream.run()
    assert (upstream.line.take(), upstream.line.ended) == (b"", "reset")


def test_backpressure(upstream: Upstream) -> None:
    """B4.2: an upstream that does not take its request pauses the body, and resumes it when it does."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    upstream.line.taking = False
    upload.consumer.write(b"x" * 300_000)
    assert upload.events == ["pause"]
    upstream.line.taking = True
    upstream.run()
    assert upload.events == ["pause", "resume"]
    # and a body that begins while it is paused hears of it at once
    upstream.line.taking = False
    upload.consumer.write(b"x" * 300_000)
    upload.consumer.unregisterProducer()
    other = Upload(None)
    upload.consumer.registerProducer(other, True)
    assert other.events == ["pause"]
    upload.consumer.fail(ValueError("no more"))
    upstream.run()
    assert (upstream.line.ended, receiver.told) == ("reset", ["failed"])


# -- what is told


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([OK], [200, b"ok"]),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd"], [200, b"ab", b"cd", []]),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"], [200, b"ok", []]),
        ([b"HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 103 Hi\r\n\r\n" + OK], [103, 103, 200, b"ok"]),
        ([b"HTTP/1.1 103 Hi\r\n\r\n", b"HTTP/1.1 200", b" OK\r\nContent-Length: 0\r\n\r\n"], [103, 200, b""]),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\nA: b\r\n", b"\r\n"],
            [200, b"ok", [b"A: b"]],
        ),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"], [200, b"ok"]),
    ],
)
def test_response(upstream: Upstream, pieces: list[bytes], told: list[Any]) -> None:
    """B5.1: a response is told in order, once, and its connection can be used again."""
    outbound, receiver = upstream.ask()
    for piece in pieces:
        upstream.line.send(piece)
    assert (receiver.told, upstream.idle, outbound.carrier) == (told, 1, None)


def test_connectionIsFreeBeforeTheEndIsTold(upstream: Upstream) -> None:
    """B8.2: the connection is back in its pool when the end of a response is told, so that the next request finds it."""
    idle: list[int] = []

    class Looking(Receiver):
        """Looks at the pool."""

        def finish(self, trailers: list[bytes]) -> None:
            idle.append(upstream.idle)
            # Reentrant: the next request begins from inside this call, on the same connection.
            upstream.transport.begin(outboundRequest(target=b"/next"), after)

    after = Receiver()
    upstream.transport.begin(outboundRequest(), Looking())
    upstream.run()
    upstream.line.take()
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    upstream.line.send(b"ok")
    assert (idle, upstream.line.take()[:9], len(upstream.network.dialed)) == ([1], b"GET /next", 1)
    upstream.line.send(OK)
    assert after.told == [200, b"ok"]


def test_nextFromInsideTheResponse(upstream: Upstream) -> None:
    """B8.2: the same where the body came with its head; and the old one's body does not disturb the new."""
    after = Receiver()

    class Asking(Receiver):
        """Asks again at once."""

        def responseReceived(self, response: Any) -> None:
            super().responseReceived(response)
            upstream.transport.begin(outboundRequest(target=b"/next"), after)

    first = Asking()
    upstream.transport.begin(outboundRequest(), first)
    upstream.run()
    upstream.line.send(OK)
    upstream.line.send(OK)
    assert (first.told, after.told, len(upstream.network.dialed)) == ([200, b"ok"], [200, b"ok"], 1)


@pytest.mark.parametrize("when", ["connecting", "waiting", "interim", "body"])
def test_abort(upstream: Upstream, when: str) -> None:
    """B7.1: whatever is aborted ends at once, and nobody is told anything more."""
    outbound = outboundRequest()
    receiver = Receiver()
    upstream.transport.begin(outbound, receiver)
    if when != "connecting":
        upstream.run()
    if when == "interim":
        upstream.line.send(b"HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 2")
    if when == "body":
        upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    told = list(receiver.told)
    outbound.carrier.abort()
    upstream.run()
    assert [line.ended for line in upstream.network.dialed] == ([] if when == "connecting" else ["reset"])
    assert receiver.told == told


def test_abortFromInside(upstream: Upstream) -> None:
    """B7.1: also from inside a call that tells of an interim response, with the final one right behind it."""
    outbound = outboundRequest()

    class Aborting(Receiver):
        """Has heard enough."""

        def informationalReceived(self, response: Any) -> None:
            super().informationalReceived(response)
            outbound.carrier.abort()

    receiver = Aborting()
    upstream.transport.begin(outbound, receiver)
    upstream.run()
    upstream.line.send(b"HTTP/1.1 103 Hi\r\n\r\n" * 3 + OK)
    assert (receiver.told, upstream.line.ended, upstream.idle) == ([103], "reset", 0)


def test_abortFromInsideTheBody(upstream: Upstream) -> None:
    """B7.1: and from inside a write, with the end of the body in the same read."""
    outbound = outboundRequest()

    class Aborting(Receiver):
        """Has read enough."""

        def write(self, data: bytes) -> None:
            super().write(data)
            outbound.carrier.abort()

    receiver = Aborting()
    upstream.transport.begin(outbound, receiver)
    upstream.run()
    upstream.line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.line.send(b"2\r\nok\r\n0\r\n\r\n")
    assert (receiver.told, upstream.line.ended, upstream.idle) == ([200, b"ok"], "reset", 0)


def test_bodyThatIsNotTaken(upstream: Upstream) -> None:
    """B5.4: a body that nobody has asked for yet is not read, and none of it is lost."""
    _, receiver = upstream.ask(deliver=False)
    upstream.line.queue(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab", b"cd", b"ef")
    upstream.run()
    assert (receiver.told, upstream.line.reading, len(upstream.line._input)) == ([200], False, 2)
    receiver.response.body.deliver(receiver)
    upstream.run()
    assert (receiver.told, upstream.idle) == ([200, b"ab", b"cd", b"ef", []], 1)
    with pytest.raises(RuntimeError):
        receiver.response.body.deliver(receiver)


def test_pausedInItsLastPiece(upstream: Upstream) -> None:
    """B5.4, B8.2: a connection whose consumer paused it at the very end is read again by the next request."""

    class Pausing(Receiver):
        """Has enough for now."""

        def write(self, data: bytes) -> None:
            super().write(data)
            self.producer.pauseProducing()

    receiver = Pausing()
    upstream.transport.begin(outboundRequest(), receiver)
    upstream.run()
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    upstream.line.send(b"abcd")
    assert (receiver.told, upstream.line.reading, upstream.idle) == ([200, b"abcd", []], True, 1)
    _, after = upstream.ask()
    upstream.line.send(OK)
    assert (after.told, len(upstream.network.dialed)) == ([200, b"ok"], 1)


# -- reuse


@pytest.mark.parametrize("how", ["EOF", "reset"])
def test_staleConnection(upstream: Upstream, how: str) -> None:
    """B8.3: a kept connection that ends before a single response byte costs one more try, on a fresh one, and only one."""
    reused(upstream)
    outbound, receiver = upstream.ask()
    stale = upstream.line
    stale.sendEOF() if how == "EOF" else stale.sendReset()
    assert (receiver.told, len(upstream.network.dialed)) == ([], 2)
    assert upstream.line.take() == b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n"
    assert (outbound.record.tries, outbound.record.reused) == (2, False)
    upstream.line.sendEOF()
    assert (receiver.told, failure(receiver)) == (["failed"], (Side.UPSTREAM, Stage.WAIT, Sent.ALL, None))


@pytest.mark.parametrize(
    "first", [b"H", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 103 Hi\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP"]
)
def test_notStale(upstream: Upstream, first: bytes) -> None:
    """B8.3: once a byte of the response has come, the upstream has seen the request, and it is not sent again."""
    reused(upstream)
    _, receiver = upstream.ask()
    upstream.line.send(first)
    upstream.line.sendEOF()
    assert (receiver.told[-1], len(upstream.network.dialed)) == ("failed", 1)
    assert failure(receiver) == (Side.UPSTREAM, Stage.WAIT, Sent.ALL, None)


@pytest.mark.parametrize(
    ("method", "body", "sent"),
    [(b"POST", b"", Sent.ALL), (b"POST", Upload(10), Sent.SOME), (b"PUT", Upload(10), Sent.SOME)],
)
def test_notReplayed(upstream: Upstream, method: bytes, body: Any, sent: Sent) -> None:
    """B8.3: neither is what is not idempotent, nor what has lost a part of its body; and it is said how much was sent."""
    reused(upstream)
    _, receiver = upstream.ask(body, method)
    if not isinstance(body, bytes):
        body.consumer.write(b"hello")
    upstream.line.sendReset()
    assert (receiver.told, len(upstream.network.dialed)) == (["failed"], 1)
    assert failure(receiver) == (Side.UPSTREAM, Stage.WAIT if sent is Sent.ALL else Stage.SEND, sent, None)
    if not isinstance(body, bytes):
        assert body.events == ["stop"]


def test_freshConnectionIsNotReplayed(upstream: Upstream) -> None:
    """B8.3: a fresh connection that ends without a response is a failure."""
    _, receiver = upstream.ask()
    upstream.line.sendEOF()
    assert (receiver.told, len(upstream.network.dialed)) == (["failed"], 1)


def test_earlyResponse(upstream: Upstream) -> None:
    """B4.4: a response before the request is complete is told at once; the body is given up and the connection with it."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    upload.consumer.write(b"hello")
    upstream.run()
    upstream.line.send(OK)
    assert (receiver.told, upload.events, upstream.line.ended, upstream.idle) == ([200, b"ok"], ["stop"], "reset", 0)


def test_earlyHead(upstream: Upstream) -> None:
    """B4.4: both directions run side by side, and the connection is kept if the request ends first."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    upstream.line.take()
    upload.consumer.write(b"hello")
    upload.consumer.finish([])
    upstream.run()
    assert upstream.line.take() == b"5\r\nhello\r\n0\r\n\r\n"
    upstream.line.send(b"cd")
    assert (receiver.told, upload.events, upstream.idle) == ([200, b"ab", b"cd", []], [], 1)


def test_lateBody(upstream: Upstream) -> None:
    """DESIGN 3: a filter that is late, and writes when its body was given up, writes into no other request."""
    late: list[Any] = []

    class Late:
        """Keeps everything for later."""

        def __init__(self, consumer: Any, message: Any) -> None:
            late.append(consumer)
            self.consumer = consumer

        def registerProducer(self, producer: Any, streaming: bool) -> None:
            self.consumer.registerProducer(producer, streaming)

        def unregisterProducer(self) -> None:
            pass

        def write(self, data: bytes) -> None:
            pass

        def finish(self, trailers: list[bytes]) -> None:
            pass

        def fail(self, error: Exception) -> None:
            pass

    world = World(requestFilters=[Late], pool=PoolSettings())
    world.origin.answer = None
    client = world.client()
    client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert [each.body for each in readResponses(client.take())] == [b"ok"]
    world.proxy._requestFilters.clear()
    client.send(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    late[0].write(b"EVIL!")
    late[0].finish([])
    client.send(b"world")
    assert world.origin.whole == [(b"POST", b"/2", b"helloworld")]
    world.end()


# -- what is left


@pytest.mark.parametrize(
    "response",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"nonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"",
    ],
    ids=["good", "short", "nonsense", "broken chunks", "nothing"],
)
@pytest.mark.usefixtures("unwitnessed")
def test_nothingIsKept(response: bytes) -> None:
    """DESIGN 5: whatever became of it, an exchange and its connections are freed without the garbage collector."""
    world = World()
    world.origin.answer = None
    seen: list[Any] = []
    world.proxy.useDirector(lambda request: seen.append(ref(request.exchange)) or request.setTarget("http://o"))
    gc.disable()
    try:
        client = world.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        seen.extend(ref(connection) for pool in world.transport.pools.values() for connection in pool.open)
        seen.extend(map(ref, world.site.connections))
        if response:
            world.upstream().send(response)
        world.upstream().sendEOF()
        client.take()
        world.end()
        world.records.clear()
        assert len(seen) == 3
        assert [each() for each in seen] == [None, None, None]
    finally:
        gc.enable()


def test_idleConnectionHoldsNothing(upstream: Upstream) -> None:
    """DESIGN 6: a connection that waits for reuse holds neither request nor response."""
    outbound, receiver = upstream.ask(b"x" * 100_000, b"POST")
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"y" * 100_000)
    assert upstream.idle == 1
    body, response = receiver.response.body, receiver.response
    del receiver, outbound
    gc.collect()
    assert [each for each in gc.get_referrers(response) if hasattr(each, "_context")] == []
    assert len(body) == 100_000


def test_pipelinedClientsShareNothing() -> None:
    """B5.8: exchanges of many clients over few upstream connections, byte by byte and mixed up: each gets its own answer."""
    world = World(pool=PoolSettings(maxConnections=2))
    clients = [world.client() for _ in range(6)]
    requests = [
        b"".join(
            b"POST /%d/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (one, two, two) for two in range(5)
        )
        for one in range(6)
    ]
    for at in range(max(map(len, requests))):
        for client, request in zip(clients, requests, strict=True):
            client.queue(request[at : at + 1])
    world.network.run()
    for one, client in enumerate(clients):
        assert [each.body for each in readResponses(client.take())] == [
            b"you asked for /%d/%d" % (one, two) for two in range(5)
        ]
    assert {(target, body) for _, target, body in world.origin.whole} == {
        (b"/%d/%d" % (one, two), b"%03d" % two) for one in range(6) for two in range(5)
    }
    assert len(world.network.dialed) == 2
    assert world.origin.answer is echo
    world.end()
