"""
Both sides of the wire under a clock: every limit of time, and what it does not limit (B9).
"""

from __future__ import annotations

import pytest

from tests.support.memory import MemoryTransport
from tests.support.wire import Lying, Server, Upload, Upstream, bodies, failure, get, post, reused
from tests.support.world import Message, World, readResponses
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Sent, Side, Stage
from twistproxy.message import Response

# -- the server side


def refused(server: Server, client: MemoryTransport, status: int) -> Message:
    """A refusal that was answered by the proxy, and closed."""
    [response] = readResponses(client.take(), ended=True)
    assert (response.status, response[b"connection"], client.ended) == (status, [b"close"], "closed")
    return response


def test_slowHead(world: World) -> None:
    """B9: a head that takes longer than 10 seconds from its first byte is a 408, however it trickles."""
    client = world.client()
    world.network.advance(70)
    assert client.ended == ""
    for byte in b"GET / HTTP":
        client.send(bytes([byte]))
        world.network.advance(0.99)
    assert client.take() == b""
    world.network.advance(0.5)
    [response] = readResponses(client.take(), ended=True)
    assert (response.status, response[b"connection"], client.ended) == (408, [b"close"], "closed")
    [record] = world.records
    assert record.error is not None
    assert (record.error.timeout, record.status) == ("requestHead", 408)


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])
def test_slowHeadBehindAnother(world: World, before: bytes) -> None:
    """B9: the same for a head that begins behind the last request."""
    client = world.client()
    client.send(get(b"/1") + before + b"GET /2 HT")
    assert bodies(client) == [b"you asked for /1"]
    world.network.advance(9.5)
    assert client.ended == ""
    world.network.advance(1)
    assert [each.status for each in readResponses(client.take(), ended=True)] == [408]


def test_keepAliveBehindALongerLimit() -> None:
    """B9: a limit that is shorter than the one before it is kept, and not shorter than it is."""
    server = Server(timeouts=Timeouts(keepAlive=5, requestBody=60))
    client = server.client()
    client.send(post(5, body=b"he"))
    server.exchanges[0].request.body.stopProducing()
    server.network.advance(10.05)
    client.send(b"llo")
    server.answer()
    server.network.advance(4.99)
    assert client.ended == ""
    server.network.advance(0.3)
    assert client.ended == "closed"


def test_keepAliveFromTheMiddleOfATick() -> None:
    """B9: a limit that begins between two ticks of the wheel, on a connection that it holds already, is not shorter."""
    server = Server(lambda exchange: exchange.answer(Response(200)), timeouts=Timeouts(keepAlive=5))
    client = server.client()
    client.send(get(b"/1"))
    for _ in range(3):
        server.network.advance(2.09)
        client.send(get(b"/2"))
    server.network.advance(4.99)
    assert client.ended == ""
    server.network.advance(0.3)
    assert client.ended == "closed"


def test_keepAlive(world: World) -> None:
    """B9: a connection without a request is closed after 75 seconds, quietly; a stray CRLF does not prolong it."""
    fresh = world.client()
    client = world.client()
    client.send(get(b"/1"))
    client.take()
    world.network.advance(40)
    client.send(b"\r\n")
    world.network.advance(34.5)
    assert (fresh.ended, client.ended) == ("", "")
    world.network.advance(1)
    assert (fresh.ended, fresh.take(), client.ended, client.take()) == ("closed", b"", "closed", b"")
    assert len(world.records) == 1


@pytest.mark.parametrize("kind", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_stalledBody(world: World, kind: bytes) -> None:
    """B9: a body of which nothing comes for 60 seconds is a 408, and the upstream request is reset."""
    world.origin.answer = None
    client = world.client()
    piece = b"a" if kind.startswith(b"C") else b"1\r\na\r\n"
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % kind)
    for _ in range(4):
        world.network.advance(59)
        client.send(piece)
    assert (client.take(), world.origin.requests[0].body) == (b"", b"aaaa")
    world.network.advance(59.5)
    assert client.take() == b""
    world.network.advance(1)
    [response] = readResponses(client.take(), ended=True)
    assert (response.status, client.ended, world.upstream().ended) == (408, "closed", "reset")
    client.send(piece)
    assert client.discarded == 0
    [record] = world.records
    assert record.error is not None
    assert (record.error.timeout, record.status, world.origin.whole) == ("requestBody", 408, [])


def test_pausedBodyIsNotStalled(server: Server) -> None:
    """B9: a body that nobody reads yet is not the client's fault."""
    client = server.client()
    client.send(post(10, body=b"1"))
    server.network.advance(300)
    assert client.ended == ""
    server.answer(b"ok")
    assert bodies(client) == [b"ok"]


def test_stalledClient(world: World) -> None:
    """B9: a client that takes nothing of its response for 60 seconds is cut off, and with it the upstream."""
    world.origin.answer = None
    client = world.client()
    client.taking = False
    client.send(get(b"/1"))
    world.upstream().queue(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", *[b"x" * 32768] * 30)
    world.network.run()
    assert (world.upstream().reading, client.unsentBytes < 400_000) == (False, True)
    world.network.advance(59)
    assert client.ended == ""
    # noticed at the second look, when as much is unsent as at the first
    world.network.advance(65)
    assert (client.ended, world.upstream().ended) == ("reset", "reset")
    [record] = world.records
    assert record.error is not None
    assert record.error.timeout == "write"


def test_longExchangeIsNoStall(server: Server) -> None:
    """B9: waiting for an answer, however long, is nobody's stall on this side."""
    client = server.client()
    client.send(get(b"/1"))
    server.network.advance(1000)
    server.answer(b"late")
    assert (bodies(client), client.ended) == ([b"late"], "")


def test_timeoutsAreKnobs() -> None:
    """B9: each limit has a knob, and can be switched off."""
    server = Server(timeouts=Timeouts(requestHead=1, keepAlive=None))
    client = server.client()
    server.network.advance(1000)
    assert client.ended == ""
    client.send(b"GET")
    server.network.advance(1.3)
    assert [each.request.fault is not None for each in server.exchanges] == [True]
    server.answer(status=408)
    refused(server, client, 408)
    server.network.end()


def test_lingering(server: Server) -> None:
    """B1: after a refusal the client's rest is read for at most 5 seconds or 256 KiB."""
    for much in (False, True):
        client = server.client()
        client.send(b"nonsense\r\n")
        server.answer(status=400)
        refused(server, client, 400)
        assert not client.lost
        if much:
            client.queue(*[b"x" * 32768] * 9)
            server.network.run()
        else:
            server.network.advance(5.3)
        assert client.lost


def test_cutWhileLingering(server: Server) -> None:
    """B5.5: a response that is cut off while the client still sends does not lose what was sent of it to a reset."""
    client = server.client()
    client.send(get(b"/1") + get(b"/2"))
    server.answer(Lying(b"hello", 7))
    assert (client.ended, client.lost) == ("closed", False)
    client.send(b"more")
    assert client.discarded == 0
    server.network.advance(6)
    assert client.lost


# -- the client side


def test_responseHead(upstream: Upstream) -> None:
    """B9: 60 seconds for the response head, counted from the last byte of the request."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    for _ in range(3):
        upstream.network.advance(50)
        upload.consumer.write(b"x")
        upstream.run()
    upload.consumer.finish([])
    upstream.run()
    upstream.network.advance(59.9)
    assert receiver.told == []
    upstream.network.advance(0.4)
    assert (receiver.told, failure(receiver)) == (["failed"], (Side.UPSTREAM, Stage.WAIT, Sent.ALL, "responseHead"))
    assert upstream.line.ended == "reset"


def test_slowUploadIsNotTheUpstreamsFault(upstream: Upstream) -> None:
    """B9: while the request's body is still coming, slowly, the upstream is not waited for."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    upstream.network.advance(500)
    assert (receiver.told, upstream.line.ended) == ([], "")


def test_stalledUpload(upstream: Upstream) -> None:
    """B9: an upstream that takes nothing of the request for 60 seconds is given up."""
    upload = Upload(None)
    _, receiver = upstream.ask(upload, b"POST")
    upstream.line.taking = False
    upload.consumer.write(b"x" * 300_000)
    upstream.network.advance(59)
    assert receiver.told == []
    # noticed at the second look, when as much is unsent as at the first
    upstream.network.advance(62)
    assert (receiver.told, failure(receiver)) == (["failed"], (Side.UPSTREAM, Stage.SEND, Sent.SOME, "write"))
    assert (upload.events, upstream.line.ended) == (["pause", "stop"], "reset")


def test_responseBody(upstream: Upstream) -> None:
    """B9: 60 seconds between two pieces of the body."""
    _, receiver = upstream.ask()
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    upstream.network.advance(59)
    upstream.line.send(b"x")
    upstream.network.advance(59)
    assert receiver.told == [200, b"x"]
    upstream.network.advance(1.3)
    assert (receiver.told, failure(receiver)) == (
        [200, b"x", "broken"],
        (Side.UPSTREAM, Stage.BODY, Sent.ALL, "responseBody"),
    )


def test_pausedBody(upstream: Upstream) -> None:
    """B9: while nobody takes the body, its upstream is not waited for; then the time begins anew."""
    _, receiver = upstream.ask()
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
    receiver.producer.pauseProducing()
    upstream.network.advance(500)
    receiver.producer.resumeProducing()
    upstream.line.send(b"x")
    upstream.network.advance(59)
    assert receiver.told == [200, b"x", b"x"]
    upstream.network.advance(2)
    assert receiver.told[-1] == "broken"


def test_fromTheMiddleOfATick() -> None:
    """B9: the same as for clients; the upstream's limits take turns, each as long as it is."""
    upstream = Upstream(timeouts=Timeouts(responseHead=5, upstreamIdle=5))
    reused(upstream)
    for _ in range(3):
        upstream.network.advance(2.09)
        reused(upstream)
    upstream.network.advance(4.99)
    assert (upstream.idle, upstream.line.ended) == (1, "")
    _, receiver = upstream.ask()
    upstream.network.advance(4.99)
    assert receiver.told == []
    upstream.network.advance(0.3)
    assert receiver.told == ["failed"]


def test_idle(upstream: Upstream) -> None:
    """B8.2: an idle connection is closed in order after 55 seconds."""
    reused(upstream)
    upstream.network.advance(54.9)
    assert (upstream.idle, upstream.line.ended) == (1, "")
    upstream.network.advance(0.4)
    assert (upstream.idle, upstream.line.ended) == (0, "closed")


def test_ownTimeouts(upstream: Upstream) -> None:
    """B9: a request may have limits of its own, and the next one has the usual ones."""
    _, receiver = upstream.ask(timeouts=Timeouts(responseHead=1, responseBody=2))
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    upstream.network.advance(2.3)
    assert failure(receiver)[3] == "responseBody"
    _, receiver = upstream.ask(timeouts=Timeouts(responseHead=1))
    upstream.network.advance(1.3)
    assert failure(receiver)[3] == "responseHead"
    _, receiver = upstream.ask()
    upstream.network.advance(50)
    assert receiver.told == []


def test_noTimeouts() -> None:
    """B9: limits can be switched off."""
    upstream = Upstream(timeouts=Timeouts(responseHead=None, responseBody=None, upstreamIdle=None))
    _, receiver = upstream.ask()
    upstream.network.advance(1000)
    upstream.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    upstream.network.advance(1000)
    upstream.line.send(b"ok")
    upstream.network.advance(1000)
    assert (receiver.told, upstream.idle) == ([200, b"ok", []], 1)
    upstream.network.end()
