"""
C{ReverseProxyResource} under a stock site: real sockets, both ends played by the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyChannel
from zope.interface.verify import verifyClass, verifyObject

from tests.net.peers import turn, until
from twistproxy.core.exchange import Exchange
from twistproxy.core.interposed import beneath
from twistproxy.interfaces import IBody, IDownstream
from twistproxy.message import Response
from twistproxy.web.downstream import SiteDownstream
from twistproxy.web.inbound import FileBody
from twistproxy.web.resource import ReverseProxyResource
from twistproxy.web.streaming import IStreamingResource

Mount = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    """Which request class the site has."""
    chosen: bool = request.param
    return chosen


def test_interfaces() -> None:
    """What the parts say that they provide, they do."""
    verifyClass(IDownstream, SiteDownstream)
    verifyObject(IBody, FileBody(None, 1))
    verifyObject(IStreamingResource, ReverseProxyResource(lambda exchange: None, Clock().seconds))


@pytest_twisted.ensureDeferred
async def test_getAndPost(mount: Mount, streaming: bool) -> None:
    """Requests and responses pass whole, one after another on the same connections."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.ask("GET", "/a%2Fb?k=v&x", ("X-One: 1",))
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.method, asked.target, asked[b"x-one"]) == (b"GET", b"/a%2Fb?k=v&x", b"1")
    assert (asked[b"x-forwarded-host"], asked[b"x-forwarded-prefix"]) == (b"story.test", None)
    await connection.answer(b"hello", fields=("X-Two: 2", "Server: origin", "Date: Thu, 01 Jan 1970 00:00:00 GMT"))
    response = await client.response()
    assert (response.status, response.body, response[b"x-two"]) == (200, b"hello", b"2")
    assert [value for name, value in response.fields if name in (b"server", b"date")] == [
        b"origin",
        b"Thu, 01 Jan 1970 00:00:00 GMT",
    ]
    assert response[b"content-type"] is None
    await client.ask("POST", "/up", body=b"x" * 1000)
    asked = await connection.request()
    assert (asked.method, asked.body, asked[b"content-length"]) == (b"POST", b"x" * 1000, b"1000")
    await connection.answer(b"", status="201 Made")
    response = await client.response()
    assert (response.status, response.reason) == (201, b"Made")
    records = await mounted.settled(2)
    assert [(record.status, record.requestBytes, record.responseBytes) for record in records] == [
        (200, 0, 5),
        (201, 1000, 0),
    ]


@pytest_twisted.ensureDeferred
async def test_largeBufferedBody(mount: Mount) -> None:
    """A body that the site has collected in a file is sent from there, whole; the log says once that it collects."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        mounted = mount()
        client = mounted.client()
        body = bytes(range(256)) * 4096
        for _ in range(2):
            await client.ask("PUT", "/", body=body)
            connection = mounted.origin.accepted[0] if mounted.origin.accepted else await mounted.origin.acceptRequest()
            assert (await connection.request()).body == body
            await connection.answer(b"ok")
            assert (await client.response()).body == b"ok"
        said = [event for event in events if "collected before" in (event.get("log_format") or "")]
        assert len(said) == 1
    finally:
        globalLogPublisher.removeObserver(events.append)


@pytest_twisted.ensureDeferred
async def test_chunkedBothWays(mount: Mount, streaming: bool) -> None:
    """B5.7: chunks in, chunks out, and the response's trailers behind them."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abcde"
    await connection.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nxyz\r\n0\r\nX-Sum: 9\r\n\r\n"
    )
    response = await client.response()
    assert (response.body, response.trailers, response[b"trailer"]) == (b"xyz", [(b"x-sum", b"9")], b"x-sum")
    await client.ask()
    await connection.request()
    await connection.answer(b"next")
    assert (await client.response()).body == b"next"


@pytest_twisted.ensureDeferred
async def test_head(mount: Mount) -> None:
    """A HEAD gets the length that the upstream told, no body, and the connection stays usable; so does a 304."""
    mounted = mount()
    client = mounted.client()
    await client.ask("HEAD")
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
    assert (await client.response("HEAD"))[b"content-length"] == b"77"
    await client.ask("GET")
    await connection.request()
    await connection.send(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')
    response = await client.response()
    assert (response.status, response[b"etag"], response[b"content-length"]) == (304, b'"x"', None)
    await client.ask()
    await connection.request()
    await connection.answer(b"still here")
    assert (await client.response()).body == b"still here"


@pytest_twisted.ensureDeferred
async def test_interim(mount: Mount, streaming: bool) -> None:
    """B5.6: interim responses are relayed."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
    await connection.answer(b"ok")
    response = await client.response()
    assert (response.interims, response.body) == ([(103, [(b"link", b"</a.css>")])], b"ok")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: identity\r\n\r\nx", b"501"),
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n", b"400"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_laxness(mount: Mount, streaming: bool, head: bytes, status: bytes) -> None:
    """B1: what twisted.web lets pass and others read differently is refused, and its connection closed."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.send(head + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.head()
    assert answer.startswith(b"HTTP/1.") and answer[9:12] == status
    assert await client.ending() in ("closed", "reset")
    assert mounted.origin.pending() == []


@pytest.mark.parametrize("line", [b"CONNECT a:80", b"TRACE /"])
@pytest_twisted.ensureDeferred
async def test_methods(mount: Mount, line: bytes) -> None:
    """B1.8: CONNECT reaches resources in twisted.web; here it goes no further."""
    mounted = mount()
    client = mounted.client()
    await client.send(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).status == 405
    assert mounted.origin.pending() == []


@pytest_twisted.ensureDeferred
async def test_absoluteForm(mount: Mount) -> None:
    """A target in absolute form goes upstream in origin form, for its own authority."""
    mounted = mount()
    client = mounted.client()
    await client.send(b"GET http://other.test/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.target, asked[b"x-forwarded-host"]) == (b"/x?y", b"other.test")
    await connection.answer()
    assert (await client.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_prefix(mount: Mount, under: Any, streaming: bool) -> None:
    """Mounted below a prefix: stripped, told, and what the upstream says of itself mapped back."""
    mounted = mount(under(b"v1", b"api"), streaming, base="/app")
    client = mounted.client()
    await client.ask("GET", "/v1/%61pi/x%2Fy/?q", ("X-Forwarded-Prefix: /evil",))
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.target, [value for name, value in asked.fields if name == b"x-forwarded-prefix"]) == (
        b"/app/x%2Fy/?q",
        [b"/v1/%61pi"],
    )
    await connection.answer(
        status="302 Found",
        fields=(
            f"Location: {mounted.origin.target}/app/login?a",
            "Content-Location: /app/",
            "Refresh: 1; url=/app/r",
            "Set-Cookie: a=b; Path=/app; Domain=127.0.0.1",
            "Set-Cookie: c=d; Path=/app/c",
        ),
    )
    response = await client.response()
    names = (b"location", b"content-location", b"refresh", b"set-cookie")
    assert [value for name, value in response.fields if name in names] == [
        b"/v1/%61pi/login?a",
        b"/v1/%61pi/",
        b"1; url=/v1/%61pi/r",
        b"a=b; Path=/v1/%61pi; Domain=story.test",
        b"c=d; Path=/v1/%61pi/c",
    ]
    # observers, and whoever asks for an explanation, are told what the client has asked for
    assert [record.target for record in await mounted.settled(1)] == [b"/v1/%61pi/x%2Fy/?q"]


@pytest_twisted.ensureDeferred
async def test_prefixKnobs(mount: Mount, under: Any) -> None:
    """An upstream that knows where it is mounted can be left alone, and one that must not know is not told."""
    mounted = mount(under(b"api"), mapBack=False, forwardPrefix=False)
    client = mounted.client()
    await client.ask("GET", "/api")
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.target, asked[b"x-forwarded-prefix"]) == (b"/", None)
    await connection.answer(status="302 Found", fields=("Location: /api/x",))
    assert (await client.response())[b"location"] == b"/api/x"


@pytest_twisted.ensureDeferred
async def test_absoluteFormBelowAPrefix(mount: Mount, under: Any) -> None:
    """Twisted cuts a whole URL into a path of segments; what is reached so is refused, not guessed at."""
    mounted = mount(under(b"ttp:", b"", b"h"))
    client = mounted.client()
    await client.send(b"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await client.response()).status == 400


@pytest_twisted.ensureDeferred
async def test_clientLeaves(mount: Mount, streaming: bool) -> None:
    """B7.1: a client that leaves ends its upstream request at once."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    client.close()
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await mounted.settled()] == [499]
    assert mounted.resource.exchanges == set()


@pytest_twisted.ensureDeferred
async def test_upstreamBreaksOff(mount: Mount) -> None:
    """B7.2: a response that breaks off is cut, so that nobody takes it for complete."""
    mounted = mount()
    client = mounted.client()
    await client.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.upTo(b"abc\r\n")
    connection.close()
    assert await client.fill() is False
    assert client.buffer == b""
    assert [record.error is None for record in await mounted.settled()] == [False]


@pytest_twisted.ensureDeferred
async def test_unreachable(mount: Mount) -> None:
    """An upstream that is not there is a 502, and the connection stays usable."""
    mounted = mount()
    mounted.origin.close()
    client = mounted.client()
    assert [(await client.get()).status for _ in range(2)] == [502, 502]


@pytest_twisted.ensureDeferred
async def test_slowClient(mount: Mount, streaming: bool) -> None:
    """B4: a client that does not read holds up the upstream, and nothing piles up here."""
    mounted = mount(streaming=streaming)
    client = mounted.client(receiveBuffer=4096)
    await client.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    total = 48 << 20
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0
    piece = b"x" * 65536
    idle = 0
    while idle < 50:
        try:
            sent += connection.socket.send(piece)
            idle = 0
        except BlockingIOError:
            idle += 1
            await turn(0.002)
    assert sent < total // 2
    assert mounted.records == []


@pytest.mark.parametrize("extra", [b"", b"early bytes"])
@pytest_twisted.ensureDeferred
async def test_upgrade(mount: Mount, streaming: bool, extra: bytes) -> None:
    """B6: an upgrade becomes a tunnel; bytes that came in one piece with the head are not lost."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + extra)
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked[b"upgrade"], asked[b"connection"].lower()) == (b"echo", b"upgrade")
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(5) == b"hello"
    if extra:
        assert await connection.exactly(len(extra)) == extra
    big = b"y" * 300_000
    await client.send(b"ping" + big)
    assert await connection.exactly(4 + len(big)) == b"ping" + big
    await connection.send(b"pong" + big)
    assert await client.exactly(4 + len(big)) == b"pong" + big
    client.close()
    assert await connection.ending() == "closed"
    connection.close()
    [record] = await mounted.settled()
    assert (record.status, record.tunnelled) == (101, True)


@pytest_twisted.ensureDeferred
async def test_upgradeEndedByTheUpstream(mount: Mount) -> None:
    """B6.3: all that the upstream has sent arrives before the end."""
    mounted = mount()
    client = mounted.client()
    await client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nlast")
    connection.close()
    await client.head()
    assert await client.exactly(4) == b"last"
    assert await client.fill() is False
    client.close()
    await mounted.settled()


@pytest_twisted.ensureDeferred
async def test_upgradeRefusedByTheUpstream(mount: Mount) -> None:
    """An upstream that does not switch is answered for like any other, on a connection that stays HTTP."""
    mounted = mount()
    client = mounted.client()
    for _ in range(2):
        await client.ask("GET", "/ws", ("Connection: Upgrade", "Upgrade: echo"))
        connection = mounted.origin.accepted[0] if mounted.origin.accepted else await mounted.origin.acceptRequest()
        await connection.request()
        await connection.answer(b"no", status="403 Forbidden")
        assert (await client.response()).body == b"no"


@pytest_twisted.ensureDeferred
async def test_close(mount: Mount, streaming: bool) -> None:
    """Closing lets what runs finish, refuses what comes, and then closes the pool."""
    mounted = mount(streaming=streaming)
    running, late = mounted.client(), mounted.client()
    await running.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    ended = mounted.resource.close()
    assert (await late.get()).status == 503
    assert ended.called is False
    await connection.answer(b"finished")
    assert (await running.response()).body == b"finished"
    await ended
    assert await connection.ending() in ("closed", "reset")
    await mounted.resource.close()


@pytest_twisted.ensureDeferred
async def test_closeAndCut(mount: Mount) -> None:
    """Closing by cutting: whoever waits gets a 503, whoever is in the middle of a body a cut connection."""
    mounted = mount()
    waiting, reading = mounted.client(), mounted.client()
    await reading.ask()
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await reading.upTo(b"abc")
    await waiting.ask()
    await (await mounted.origin.acceptRequest()).request()
    await mounted.resource.close(cut=True)
    assert mounted.resource.exchanges == set()
    assert (await waiting.response()).status == 503
    assert await reading.fill() is False


@pytest_twisted.ensureDeferred
async def test_hundreds(mount: Mount, under: Any, warmReactor: Any, unwitnessed: None) -> None:
    """Resources come and go by the hundred; a dropped one leaves nothing."""
    import gc
    import weakref

    from twistproxy import ReverseProxyResource as Public

    mounted = mount(under(b"keep"))
    root = mounted.site.resource
    dropped = []
    for number in range(200):
        name = b"%d" % number
        resource = Public.to(mounted.origin.target, reactor=warmReactor)
        root.putChild(name, resource)
        if number % 100 == 0:
            client = mounted.client()
            await client.ask("GET", f"/{number}/x")
            connection = await mounted.origin.acceptRequest()
            await connection.request()
            await connection.answer(b"ok")
            assert (await client.response()).body == b"ok"
        root.delEntity(name)
        await resource.close()
        dropped.append(weakref.ref(resource))
        del resource
    gc.collect()
    await until(lambda: (gc.collect(), not any(each() for each in dropped))[1], "the end of all resources")


class TestInMemory:
    """Without a socket, and on channels that are none of HTTP/1."""

    def render(self, respond: Any, uri: bytes = b"/x", fields: Any = ((b"host", b"a"),), body: bytes = b"") -> Any:
        """Ask a resource in memory; returns the channel and the request."""
        from twisted.web.server import Request

        channel = DummyChannel()
        request = Request(channel, False, parsePOSTFormSubmission=False)
        for name, value in fields:
            request.requestHeaders.addRawHeader(name, value)
        request.gotLength(len(body))
        if body:
            request.handleContentChunk(body)
        request.method, request.uri, request.path, request.clientproto = b"POST", uri, uri, b"HTTP/1.1"
        request.prepath = []
        resource = ReverseProxyResource(respond, Clock().seconds)
        assert resource.render(request) == NOT_DONE_YET
        return channel, request

    def test_answer(self) -> None:
        """A responder of one's own sees the whole request, and answers at once."""
        seen: list[Any] = []

        def respond(exchange: Exchange) -> None:
            seen.append((exchange.request.method, exchange.request.target, exchange.request.body))
            exchange.answer(Response(200, {"X-A": "b"}, b"fine"))

        channel, request = self.render(respond, body=b"payload")
        assert seen == [(b"POST", b"/x", b"payload")]
        written = channel.transport.written.getvalue()
        assert written.endswith(b"\r\n\r\nfine")
        assert b"X-A: b\r\n" in written
        assert request.finished == 1

    def test_session(self) -> None:
        """A cookie that the site's session sets does not take the place of the upstream's."""

        def respond(exchange: Exchange) -> None:
            beneath(exchange._downstream)._request.addCookie(b"session", b"1")
            exchange.answer(Response(200, {"Set-Cookie": "mine=2"}))

        channel, _ = self.render(respond)
        written = channel.transport.written.getvalue()
        assert written.count(b"Set-Cookie: ") == 2

    def test_noUpgrade(self) -> None:
        """Where the connection cannot leave HTTP, an upgrade is refused in so many words."""
        faults: list[Any] = []

        def respond(exchange: Exchange) -> None:
            faults.append((exchange.request.fault.status, exchange.request.fault.reason))
            exchange.answer(Response(501))

        self.render(respond, fields=((b"host", b"a"), (b"connection", b"upgrade"), (b"upgrade", b"x")))
        assert faults == [(501, "this server's connections cannot be upgraded")]
