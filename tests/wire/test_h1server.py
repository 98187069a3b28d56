"""
The server side of a connection: order, persistence, bodies that nobody wants, and what is left.
"""

from __future__ import annotations

import gc
import itertools
from typing import Any
from weakref import ref

import pytest
from twisted.logger import LogEvent

from tests.support.wire import Lying, Server, bodies, get, post
from tests.support.world import World, readResponses
from twistproxy.body import BytesBody
from twistproxy.core.exchange import Exchange
from twistproxy.headers import Headers
from twistproxy.limits import Limits
from twistproxy.message import Request, Response

# -- order


@pytest.mark.parametrize("size", [1, 1000])
def test_pipelining(server: Server, size: int) -> None:
    """B8.1: pipelined requests are answered in order, one at a time, the next parsed when the last is settled."""
    client = server.client()
    data = get(b"/1") + post(5, body=b"hello") + b"\r\n" + get(b"/2") + get(b"/3")
    client.queue(*[data[at : at + size] for at in range(0, len(data), size)])
    server.network.run()
    for number, target in enumerate((b"/1", b"/upload", b"/2", b"/3")):
        [exchange] = server.exchanges
        assert exchange.request.target == target
        server.answer(b"%d" % number)
    assert bodies(client) == [b"0", b"1", b"2", b"3"]


def test_sameRequestsAgain() -> None:
    """DESIGN 5, B1.3: requests that are remembered to the byte mean what they say, whatever comes before, behind and between."""
    requests = [
        get(b"/1"),
        get(b"/2"),
        get(b"/1", b"X: y"),
        post(5, body=b"hello"),
        post(0),
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"\r\n" + get(b"/1"),
        get(b"/1") + get(b"/1"),
    ]

    def said(exchange: Exchange) -> None:
        request = exchange.request
        body = request.body if type(request.body) is bytes else b"later"
        exchange.answer(Response(200, body=b"%b %b %b" % (request.method, request.target, body)))

    def answers(pieces: list[bytes]) -> list[bytes]:
        server = Server(said)
        client = server.client()
        for piece in pieces:
            client.send(piece)
        server.network.end()
        return bodies(client)

    alone = [answers([request]) for request in requests]
    assert [len(found) for found in alone] == [1] * 7 + [2]
    for order in itertools.product(range(len(requests)), repeat=4):
        assert answers([requests[number] for number in order]) == [body for number in order for body in alone[number]]


def test_sameHeadWithoutItsBody(server: Server) -> None:
    """B1.3: a head that has come before announces the body that it announced then, though nothing of that has come."""
    client = server.client()
    for number in range(4):
        client.send(post(5))
        assert not isinstance(server.exchanges[0].request.body, bytes)
        client.send(b"hello")
        server.answer(b"%d" % number)
    assert bodies(client) == [b"0", b"1", b"2", b"3"]


def test_sameHeadOfChunks(server: Server) -> None:
    """B1.3: a head that has come before announces chunks again, though it comes alone; they are no request."""
    client = server.client()
    for number in range(4):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert not isinstance(server.exchanges[0].request.body, bytes)
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        server.answer(b"%d" % number)
    assert bodies(client) == [b"0", b"1", b"2", b"3"]


def test_sameRequestInPieces() -> None:
    """B1.3: where the head ends that follows a remembered one is found, though that came in pieces and this is shorter."""
    server = Server(lambda exchange: exchange.answer(Response(400 if exchange.request.fault else 200)))
    client = server.client()
    known = get(b"/known")
    for piece in (known, known, known[:-1], known[-1:], b"GET / HTTP/1.0\r\n\r\n" + known):
        client.send(piece)
    assert [each.status for each in readResponses(client.take(), ended=True)] == [200] * 4


@pytest.mark.parametrize("before", [(b"\r", b"\n"), (b"\r\n", b"\r", b"\n"), (b"\r\n\r", b"\n")])
def test_emptyLinesInPieces(server: Server, before: tuple[bytes, ...]) -> None:
    """RFC 9112 2.2: empty lines before a request are skipped, in whatever pieces they come, and are not kept."""
    client = server.client()
    for piece in before:
        client.send(piece)
    assert [timer.limit for timer in server.network.timers] == ["keepAlive"]
    client.send(get(b"/1"))
    assert [each.request.target for each in server.exchanges] == [b"/1"]
    server.answer(b"1")
    assert bodies(client) == [b"1"]


def test_pipeliningAnsweredAtOnce() -> None:
    """B8.1: the same where each is settled at once: thousands of them do not nest."""
    server = Server(lambda exchange: exchange.answer(Response(200, body=exchange.request.target)))
    client = server.client()
    client.send(b"".join(get(b"/%d" % number) for number in range(3000)))
    assert bodies(client) == [b"/%d" % number for number in range(3000)]
    server.network.end()


def test_heldIsBounded(server: Server) -> None:
    """B8.1, B6.1: what a client sends behind its request is held up to a bound; then it is not read, until its turn comes."""
    client = server.client()
    client.send(get(b"/first"))
    pieces = [get(b"/%d" % number, b"X: " + b"y" * 4000) for number in range(40)]
    client.queue(*pieces)
    server.network.run()
    assert not client.reading
    assert 16 < len(client._input) < 25  # held: 64 KiB and what the last read brought
    server.answer(b"first")
    for number in range(40):
        assert server.exchanges[0].request.target == b"/%d" % number
        server.answer(b"%d" % number)
    assert bodies(client) == [b"first"] + [b"%d" % number for number in range(40)]


def test_clientThatDoesNotTakeItsResponses() -> None:
    """B4.2, B8.1: a client that sends requests and takes no responses is not served more than the write buffer's bound."""
    server = Server(lambda exchange: exchange.answer(Response(200, body=b"x" * 100_000)))
    client = server.client()
    client.taking = False
    client.queue(*[get(b"/") * 10] * 20)
    server.network.run()
    assert len(server.records) == 3
    assert client.unsentBytes < 310_000
    client.taking = True
    server.network.run()
    assert [len(body) for body in bodies(client)] == [100_000] * 200
    server.network.end()


def test_clientThatNeverTakesItsResponses() -> None:
    """B9: nor is what it has sent meanwhile taken for a slow head: it is closed as idle, and cut off as it takes nothing even then."""
    server = Server(lambda exchange: exchange.answer(Response(200, body=b"x" * 100_000)))
    client = server.client()
    client.taking = False
    client.send(get(b"/") * 20)
    server.network.advance(300)
    assert (client.ended, [record.status for record in server.records]) == ("reset", [200] * 3)
    server.network.end()


def test_badRequestWaitsItsTurn(server: Server) -> None:
    """B8.1: a bad request behind a good one is refused when its turn comes."""
    client = server.client()
    client.send(get(b"/1") + b"nonsense\r\n\r\n" + get(b"/2"))
    assert client.take() == b""
    server.answer(b"good")
    [exchange] = server.exchanges
    assert exchange.request.fault is not None
    server.answer(b"bad", 400)
    first, second = readResponses(client.take(), ended=True)
    assert (first.body, first[b"connection"], second.body, second[b"connection"]) == (b"good", [], b"bad", [b"close"])
    assert (client.ended, server.exchanges) == ("closed", [])


@pytest.mark.parametrize("behind", [b"\r\n", b"\r\n\r\n", b"\r", b""])
def test_strayCRLF(server: Server, behind: bytes) -> None:
    """B8.1: a stray CRLF behind a body is skipped, in whatever pieces it comes."""
    client = server.client()
    client.send(post(5, body=b"hello") + behind[:1])
    server.answer(b"1")
    client.send(behind[1:] + (b"\n" if behind == b"\r" else b"") + get(b"/2"))
    assert [each.request.target for each in server.exchanges] == [b"/2"]
    server.answer(b"2")
    assert bodies(client) == [b"1", b"2"]


def test_manyEmptyLines(server: Server) -> None:
    """B1.1: a flood of empty lines is looked at once, not once for each of them."""
    client = server.client()
    client.send(b"\r\n" * 500_000 + get(b"/"))
    assert [each.request.target for each in server.exchanges] == [b"/"]
    server.answer()


# -- persistence


@pytest.mark.parametrize(
    ("version", "lines", "says", "stays"),
    [
        (b"1.1", [], [], True),
        (b"1.1", [b"Connection: close"], [b"close"], False),
        (b"1.1", [b"Connection: CLOSE"], [b"close"], False),
        (b"1.1", [b"connection: x , ,Close"], [b"close"], False),
        (b"1.1", [b"Connection: keep-alive", b"Connection: close"], [b"close"], False),
        (b"1.1", [b"Connection: close, keep-alive"], [b"close"], False),
        (b"1.1", [b"Connection: keep-alive"], [], True),
        (b"1.1", [b"Connection: closed"], [], True),
        (b"1.1", [b"Proxy-Connection: close"], [], True),
        (b"1.0", [], [b"close"], False),
        (b"1.0", [b"Connection: keep-alive"], [b"keep-alive"], True),
        (b"1.0", [b"Connection: Keep-Alive"], [b"keep-alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], [b"close"], False),
        (b"1.0", [b"Proxy-Connection: keep-alive"], [b"close"], False),
        (b"1.2", [], [], True),
    ],
)
def test_persistence(server: Server, version: bytes, lines: list[bytes], says: list[bytes], stays: bool) -> None:
    """B8.1: who keeps a connection, and what is said about it; nothing behind a request that closes is served."""
    client = server.client()
    client.send(get(b"/1", *lines, version=version) + get(b"/2"))
    server.answer(b"1")
    [response] = readResponses(client.take())
    assert (response[b"connection"], client.ended) == (says, "" if stays else "closed")
    assert [each.request.target for each in server.exchanges] == ([b"/2"] if stays else [])


def test_unknownLengthForOldClient(server: Server) -> None:
    """B5.2: a body of unknown length ends with the connection of an HTTP/1.0 client, even if that asked to keep it."""

    class Endless(BytesBody):
        """A body that does not say how long it is."""

        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.length = None

    client = server.client()
    client.send(get(b"/1", b"Connection: keep-alive", version=b"1.0"))
    server.answer(Endless(b"hello"))
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert (body, client.ended, b"Connection: close" in head, b"chunked" in head) == (b"hello", "closed", True, False)
    client = server.client()
    client.send(get(b"/1"))
    server.answer(Endless(b"hello"))
    [response] = readResponses(client.take())
    assert (response.body, response[b"transfer-encoding"], response.complete) == (b"hello", [b"chunked"], True)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_noBodyIsSentWhereNoneMayBe(server: Server, status: int) -> None:
    """B5.3: a responder's body is dropped for HEAD, 204 and 304, or it would be read as the next response."""
    client = server.client()
    method = b"HEAD" if status == 200 else b"GET"
    client.send(get(b"/1").replace(b"GET", method))
    server.answer(b"hello", status)
    data = client.take()
    assert data.endswith(b"\r\n\r\n")
    client.send(get(b"/2"))
    server.answer(b"next")
    assert bodies(client) == [b"next"]


def test_streamedBodyForHEAD(server: Server) -> None:
    """B5.3: the same where the body comes in pieces: it reaches nobody."""
    client = server.client()
    client.send(get(b"/1").replace(b"GET", b"HEAD"))
    server.answer(BytesBody(b"hello"))
    data = client.take()
    assert (b"hello" in data, data[:15]) == (False, b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("said", [3, 7])
def test_bodyOfWrongLength(server: Server, said: int) -> None:
    """B5.5: a body that is not as long as announced cuts the response off; not a byte too many is sent."""
    client = server.client()
    client.send(get(b"/1"))
    client.send(get(b"/2"))
    server.answer(Lying(b"hello", said))
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % said in head
    assert len(body) < said or (said == 3 and body == b"")
    assert (client.ended, server.exchanges) == ("closed", [])
    [record] = server.records
    assert record.error is not None and record.error.side.value == "internal"


def test_responderThatFails(loggedErrors: list[LogEvent]) -> None:
    """B7.4: a responder that raises ends its exchange with a 500, and the connection goes on."""

    def respond(exchange: Exchange) -> None:
        if exchange.request.target == b"/bad":
            raise ZeroDivisionError
        exchange.answer(Response(200, body=b"good"))

    server = Server(respond)
    client = server.client()
    client.send(get(b"/bad") + get(b"/good"))
    assert [each.status for each in readResponses(client.take())] == [500, 200]
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    server.network.end()


def test_drainInMidExchange(server: Server) -> None:
    """B10.2: a response that begins while the port goes down says that it is the last."""
    client = server.client()
    client.send(get(b"/1"))
    drained = server.site.drain()
    server.answer(b"last")
    [response] = readResponses(client.take())
    assert (response.body, response[b"connection"], client.ended) == (b"last", [b"close"], "closed")
    assert drained.called


# -- Expect, early responses, and what is dropped


@pytest.mark.parametrize("interims", [1, 2])
def test_expect(world: World, interims: int) -> None:
    """B4.3: Expect goes upstream at once, the upstream's 100 comes back, then the body goes."""
    world.origin.answer = None
    client = world.client()
    client.send(post(5, b"Expect: 100-continue"))
    [request] = world.origin.requests
    assert (request[b"expect"], client.take()) == ([b"100-continue"], b"")
    for _ in range(interims):
        world.upstream().send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n" * interims
    client.send(b"hello")
    assert (request.complete, request.body) == (True, b"hello")
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    [response] = readResponses(client.take())
    assert (response.body, response[b"connection"], world.idle) == (b"ok", [], 1)


def test_expectRefused(world: World) -> None:
    """B4.3: a final status instead of a 100 is forwarded at once; as nobody knows whether the body still comes, both connections close."""
    world.origin.answer = None
    client = world.client()
    client.send(post(5, b"Expect: 100-continue"))
    world.upstream().send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
    [response] = readResponses(client.take())
    assert (response.status, response.body, response[b"connection"]) == (417, b"no", [b"close"])
    assert (client.ended, world.upstream().ended, world.idle) == ("closed", "reset", 0)
    # a client that takes the silence for a promise, or does not
    client.send(get(b"/evil"))
    assert [each.target for each in world.origin.requests] == [b"/upload"]


def test_expectOfOldClient(world: World) -> None:
    """B4.3: HTTP/1.0 knows no Expect: it is not forwarded, so no 100 can come."""
    client = world.client()
    client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
    assert world.origin.requests[0][b"expect"] == []


def test_noContinueOfOurOwn(server: Server) -> None:
    """B4.3: the proxy never invents a 100."""
    client = server.client()
    client.send(post(5, b"Expect: 100-continue"))
    server.network.advance(5)
    assert client.take() == b""
    server.answer(status=403)
    assert [each.status for each in readResponses(client.take())] == [403]


def test_earlyResponse(world: World) -> None:
    """B4.4: an early response is forwarded at once; its upstream, which did not want the rest of the body, is not used again."""
    world.origin.answer = None
    client = world.client()
    client.send(post(10, body=b"12345"))
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
    [response] = readResponses(client.take())
    assert (response.body, response[b"connection"]) == (b"early", [])
    # or it would take our next request for that rest
    assert (world.upstream(0).ended, world.idle) == ("reset", 0)
    client.send(b"67890" + get(b"/second"))
    assert [(each.target, each.connection) for each in world.origin.requests] == [(b"/upload", 0), (b"/second", 1)]
    assert world.origin.requests[0].body == b"12345"


def test_earlyResponseThenNext(world: World) -> None:
    """B4.4: what stands behind a body that was dropped is the next request, to the byte."""
    client = world.client()
    world.origin.answer = None
    client.send(post(200_000, body=b"x" * 1000))
    world.upstream().send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    world.origin.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
    rest = b"x" * 199_000 + get(b"/second")
    client.queue(*[rest[at : at + 32768] for at in range(0, len(rest), 32768)])
    world.network.run()
    assert bodies(client) == [b"no", b"yes"]
    assert [each.target for each in world.origin.requests] == [b"/upload", b"/second"]


def test_tooMuchToDrop(server: Server) -> None:
    """B4.4: more than 256 KiB are not read for nobody: the connection closes, without taking the response with it."""
    client = server.client()
    client.send(post(10_000_000))
    server.answer(b"early", 413)
    assert (bodies(client), client.ended) == ([b"early"], "")
    client.queue(*[b"x" * 32768] * 8)
    server.network.run()
    assert client.ended == ""
    client.send(b"x" * 32768)
    assert client.ended == "closed"
    # what still comes is read a little longer, so that no reset overtakes the response
    client.send(b"x" * 32768)
    assert (client.lost, client.discarded) == (False, 0)
    client.queue(*[b"x" * 32768] * 9)
    server.network.run()
    assert client.lost


def test_droppingTakesTooLong(server: Server) -> None:
    """B4.4: neither is it waited for longer than 5 seconds."""
    client = server.client()
    client.send(post(1000))
    server.answer(b"early", 413)
    for _ in range(9):
        server.network.advance(0.5)
        client.send(b"x")
    assert client.ended == ""
    server.network.advance(1)
    assert (client.ended, client.lost) == ("closed", False)
    server.network.advance(6)
    assert client.lost


def test_bodyIsPausedUntilWanted(server: Server) -> None:
    """B4.1: a body is not read before somebody wants it; then not a byte of it is missing."""
    client = server.client()
    client.queue(post(10, body=b"12"), b"345", b"67890" + get(b"/2"))
    server.network.run()
    assert (client.reading, len(client._input)) == (False, 2)
    [exchange] = server.exchanges

    class Collector:
        """A consumer that writes everything down."""

        def __init__(self) -> None:
            self.data: list[Any] = []

        def registerProducer(self, producer: Any, streaming: bool) -> None:
            self.data.append(streaming)

        def unregisterProducer(self) -> None:
            pass

        def write(self, data: bytes) -> None:
            self.data.append(data)

        def finish(self, trailers: list[bytes]) -> None:
            self.data.append(trailers)

    collector = Collector()
    exchange.request.body.deliver(collector)
    server.network.run()
    assert collector.data == [True, b"12", b"345", b"67890", []]
    server.answer(b"ok")
    assert [each.request.target for each in server.exchanges] == [b"/2"]
    server.answer()


def test_brokenChunksWhileDropping(server: Server) -> None:
    """B1.6, B4.4: a body that breaks while it is dropped closes the connection: nobody knows where the next request begins."""
    client = server.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
    server.answer(b"early")
    client.send(b"llo\r\nnonsense\r\n" + get(b"/evil"))
    assert (bodies(client), client.ended, server.exchanges) == ([b"early"], "closed", [])
    client.send(get(b"/evil"))
    assert (client.discarded, server.exchanges) == (0, [])


def test_brokenChunksBehindEarlyHead(world: World) -> None:
    """B4.5: a request that breaks in mid-response resets its upstream and cuts the response off."""
    world.origin.answer = None
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    world.upstream().send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    client.send(b"nonsense\r\n")
    [response] = readResponses(client.take(), ended=True)
    assert (response.complete, client.ended, world.upstream().ended) == (False, "closed", "reset")
    [record] = world.records
    assert record.error is not None and record.error.side.value == "downstream"


@pytest.mark.parametrize("how", ["EOF", "reset"])
def test_clientLeavesInItsBody(world: World, how: str) -> None:
    """B4.5, B7.1: a client that leaves in mid-body resets the upstream request, which is never completed."""
    world.origin.answer = None
    client = world.client()
    client.send(post(10, body=b"12345"))
    client.sendEOF() if how == "EOF" else client.sendReset()
    assert (world.upstream().ended, world.origin.whole, client.lost) == ("reset", [], True)
    [record] = world.records
    assert record.status == 499


@pytest.mark.parametrize("how", ["EOF", "reset"])
@pytest.mark.parametrize("message", [get(b"/1"), post(10, body=b"12345")], ids=["waiting", "paused"])
def test_clientLeavesWhileItWaits(server: Server, message: bytes, how: str) -> None:
    """B7.1: a client that leaves while it waits is noticed at once, even if nothing is read from it at the moment."""
    client = server.client()
    client.send(message)
    assert (client.reading, server.records) == (message.startswith(b"GET"), [])
    client.sendEOF() if how == "EOF" else client.sendReset()
    client.resumeProducing()  # a real one looks again when the hub has told of the end
    server.network.run()
    assert [(each.status, each.error is not None) for each in server.records] == [(499, True)]
    assert client.lost


def test_answerToNobody(server: Server) -> None:
    """B7.1: a responder that answers when its client has left already does no harm, and the exchange was settled then."""
    client = server.client()
    client.send(get(b"/1"))
    client.sendReset()
    assert [(each.status, each.error is not None) for each in server.records] == [(499, True)]
    body = Lying(b"hello", 5)
    server.exchanges[0].answer(Response(200, body=b"late"))
    server.exchanges[0].answer(Response(200, body=body))
    assert (body._stopped, len(server.records), server.site.exchanges) == (True, 1, set())


# -- what is left


@pytest.mark.usefixtures("unwitnessed")
def test_nothingIsKept(server: Server) -> None:
    """DESIGN 5: an exchange that is over, and a connection that is closed, are freed without the garbage collector."""
    client = server.client()
    client.send(post(100_000, body=b"x" * 10))
    exchange = ref(server.exchanges[0])
    [connection] = map(ref, server.site.connections)
    gc.disable()
    try:
        server.answer(b"early")
        assert exchange() is None
        client.sendReset()
        assert connection() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("message", [get(b"/1"), post(5, body=b"hello"), b"nonsense\r\n\r\n", b"nonsense\r\n"])
@pytest.mark.usefixtures("unwitnessed")
def test_nothingIsKeptOfProxy(message: bytes) -> None:
    """DESIGN 5: the same through the whole proxy, both connections included."""
    world = World()
    client = world.client()
    seen: list[Any] = []
    world.proxy.useDirector(lambda request: seen.append(ref(request.exchange)) or request.setTarget("http://o"))
    gc.disable()
    try:
        client.send(message)
        for connection in world.site.connections:
            seen.append(ref(connection))
        for pool in world.transport.pools.values():
            seen.extend(map(ref, pool.open))
        del connection
        assert len(seen) == (1 if message.startswith(b"non") else 3)
        world.end()
        world.records.clear()
        assert [each() for each in seen] == [None] * len(seen)
    finally:
        gc.enable()


@pytest.mark.usefixtures("unwitnessed")
def test_idleConnectionHoldsNoBody(server: Server) -> None:
    """DESIGN 6: a connection that waits for its next request does not hold the body of the last."""
    client = server.client()
    client.send(post(30_000, body=b"x" * 30_000))
    body = server.exchanges[0].request.body
    assert len(body) == 30_000
    server.answer(b"ok")
    assert [each for each in gc.get_referrers(body) if isinstance(each, Request)] == []


def test_headers(server: Server) -> None:
    """B5.1: fields go out in order, duplicates and bytes above 0x7f included, and framing is ours."""
    client = server.client()
    client.send(get(b"/1"))
    headers = Headers.of([("B", "1"), ("Set-Cookie", "a"), ("A", b"\xe9"), ("Set-Cookie", "b")])
    server.exchanges.pop().answer(Response(200, headers, b"hello"))
    server.network.run()
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:5] == [b"HTTP/1.1 200 OK", b"B: 1", b"Set-Cookie: a", b"A: \xe9", b"Set-Cookie: b"]
    assert (body, head.count(b"Content-Length: 5")) == (b"hello", 1)


def test_smallLimits() -> None:
    """B4.4: how much is dropped is a knob."""
    server = Server(limits=Limits(discarded=10))
    client = server.client()
    client.send(post(100))
    server.answer(b"early")
    client.send(b"x" * 11)
    assert client.ended == "closed"
    server.network.end()
