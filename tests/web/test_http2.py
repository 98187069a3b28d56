"""
HTTP/2 under a stock site behind TLS: real sockets, a client that is not ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionAborted
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.resource import Resource

from tests.net.peers import turn, until
from tests.support.certificates import Authority
from tests.support.programs import program

pytest.importorskip("h2", reason="h2 is not installed")
pytest.importorskip("priority", reason="priority is not installed")

from tests.support.h2client import H2Client

Mount = Callable[..., Any]
Secure = Callable[..., Any]

CONNECTION_FIELDS = (
    "Connection: close, X-Private",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: close",
    "Upgrade: h2c",
    "X-Private: 1",
    "X-Public: 2",
)


class Secured:
    """A site with a proxy, behind TLS."""

    def __init__(self, reactor: Any, mounted: Any, authority: Path, port: Any) -> None:
        self.mounted, self.origin = mounted, mounted.origin
        self.authority = authority
        self.port = port
        self.number = port.getHost().port
        self.clients: list[H2Client] = []
        self._reactor = reactor

    async def client(self, window: int | None = None) -> H2Client:
        """A connected client."""
        self.clients.append(await H2Client.connect(self._reactor, self.number, self.authority, window))
        return self.clients[-1]

    async def close(self) -> None:
        """End everything."""
        for client in self.clients:
            client.close()
        await self.port.stopListening()
        channels = [each._channel for each in self.mounted.site.channels]
        for channel in channels:
            if channel.transport.connected:
                channel.transport.abortConnection()
        await until(lambda: not any(each.transport.connected for each in channels), "the end of the connections")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An authority's certificate, and a certificate and a key of its."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    return made.file, *made.certificate("site", "DNS:localhost,IP:127.0.0.1")


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def secure(
    request: pytest.FixtureRequest, mount: Mount, warmReactor: Any, authority: tuple[Path, Path, Path]
) -> Iterator[Secure]:
    """Mounts a proxy in a stock site behind TLS, with either class of requests."""
    running: list[Secured] = []
    file, certificate, key = authority

    async def start(tree: Any = None, **options: Any) -> Secured:
        mounted = mount(tree, request.param, **options)
        description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        port = await serverFromString(warmReactor, description).listen(mounted.site)
        running.append(Secured(warmReactor, mounted, file, port))
        return running[-1]

    yield start
    for secured in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(secured.close()))


@pytest_twisted.ensureDeferred
async def test_get(secure: Secure) -> None:
    """A request over HTTP/2 goes upstream over HTTP/1.1: the authority is its Host, and TLS is told."""
    site = await secure()
    client = await site.client()
    asked = client.ask("GET", "/a%2Fb?k=v", (("x-one", "1"), ("cookie", "a=1"), ("cookie", "b=2")))
    connection = await site.origin.acceptRequest()
    request = await connection.request()
    assert (request.method, request.target, request[b"x-one"]) == (b"GET", b"/a%2Fb?k=v", b"1")
    told = [request[name] for name in (b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for")]
    assert told == [b"story.test", b"https", b"127.0.0.1"]
    # RFC 9113 8.2.3: crumbs are put together before they leave HTTP/2
    assert [value for name, value in request.fields if name == b"cookie"] == [b"a=1; b=2"]
    await connection.answer(b"hello", fields=("X-Two: 2", "Set-Cookie: c=d", "Set-Cookie: e=f"))
    response = await client.response(asked)
    assert (response.status, bytes(response.body), response[b"x-two"]) == (200, b"hello", b"2")
    assert [value for name, value in response.fields if name == b"set-cookie"] == [b"c=d", b"e=f"]
    assert (response[b"content-length"], response[b"connection"]) == (b"5", None)


@pytest.mark.parametrize(
    ("authority_", "host"),
    [("a.test", "a.test"), (None, "a.test"), ("a.test", None)],
)
@pytest_twisted.ensureDeferred
async def test_host(secure: Secure, authority_: str | None, host: str | None) -> None:
    """B1: an authority, a Host, or both that say the same (the library refuses all else) are one Host upstream."""
    site = await secure()
    client = await site.client()
    asked = client.ask("GET", "/", (("host", host),) if host else (), authority=authority_)
    connection = await site.origin.acceptRequest()
    request = await connection.request()
    assert [value for name, value in request.fields if name == b"x-forwarded-host"] == [b"a.test"]
    await connection.answer()
    assert (await client.response(asked)).status == 200


@pytest_twisted.ensureDeferred
async def test_post(secure: Secure) -> None:
    """A body, of known length or not, arrives whole; also one that is larger than every window."""
    site = await secure()
    client = await site.client()
    connection = None
    for size, declared in ((1000, True), (0, True), (1000, False), (1_000_000, False)):
        body = b"x" * size
        fields = (("content-length", str(size)),) if declared else ()
        asked = client.ask("POST", "/up", fields, end=False)
        await client.send(asked, body)
        connection = connection or await site.origin.acceptRequest()
        request = await connection.request()
        assert (request.method, len(request.body), request.body == body) == (b"POST", size, True)
        await connection.answer(b"taken", status="201 Made")
        response = await client.response(asked)
        assert (response.status, bytes(response.body)) == (201, b"taken")


@pytest_twisted.ensureDeferred
async def test_requestTrailers(secure: Secure) -> None:
    """Trailers of a request are lost, and the request passes."""
    site = await secure()
    client = await site.client()
    asked = client.ask("POST", "/", (("trailer", "x-sum"),), b"abc", end=False)
    client.finish(asked, (("x-sum", "9"),))
    connection = await site.origin.acceptRequest()
    request = await connection.request()
    assert (request.body, request.trailers) == (b"abc", [])
    await connection.answer(b"ok")
    assert bytes((await client.response(asked)).body) == b"ok"


@pytest_twisted.ensureDeferred
async def test_connectionFields(secure: Secure) -> None:
    """RFC 9113 8.2.2: what an upstream says of its connection does not get into HTTP/2, with any kind of body."""
    site = await secure()
    client = await site.client()
    for framing in ("Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "\r\nhello"):
        asked = client.ask()
        connection = await site.origin.acceptRequest()
        await connection.request()
        await connection.send("\r\n".join(("HTTP/1.1 200 OK", *CONNECTION_FIELDS, framing)).encode())
        connection.close()
        response = await client.response(asked)
        assert bytes(response.body) == b"hello"
        names = {name for name, _ in response.fields} - {b"content-length", b"server", b"date", b"via"}
        assert names == {b"x-public"}


@pytest_twisted.ensureDeferred
async def test_responseTrailers(secure: Secure) -> None:
    """Trailers of a response are left out, the response is complete."""
    site = await secure()
    client = await site.client()
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n")
    response = await client.response(asked)
    assert (bytes(response.body), response.trailers) == (b"abc", [])


@pytest_twisted.ensureDeferred
async def test_withoutBody(secure: Secure) -> None:
    """HEAD, 204 and 304 have no body, whatever length is told; an interim response is left out."""
    site = await secure()
    client = await site.client()
    asked = client.ask("HEAD")
    connection = await site.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
    response = await client.response(asked)
    assert (response.status, response[b"content-length"], bytes(response.body)) == (200, b"77", b"")
    for head, status in ((b"204 No Content", 204), (b'304 Not Modified\r\nETag: "x"', 304)):
        asked = client.ask()
        await connection.request()
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 " + head + b"\r\n\r\n")
        response = await client.response(asked)
        assert (response.status, bytes(response.body), response.interims) == (status, b"", [])


@pytest_twisted.ensureDeferred
async def test_streamsBesideEachOther(secure: Secure) -> None:
    """Requests of one connection run beside each other, and are answered in any order."""
    site = await secure()
    client = await site.client()
    asked, connections = [], []
    for number in range(8):
        asked.append(client.ask("GET", f"/{number}"))
        connections.append(await site.origin.acceptRequest())
        assert (await connections[-1].request()).target == b"/%d" % number
    for number in reversed(range(8)):
        await connections[number].answer(b"%d" % number)
        assert bytes((await client.response(asked[number])).body) == b"%d" % number


async def stuff(connection: Any, most: int) -> int:
    """
    Send until nobody takes any more.

    @return: how many bytes went out.
    """
    sent = 0
    until_ = time.monotonic() + 0.3
    while sent < most and time.monotonic() < until_:
        try:
            sent += connection.socket.send(b"x" * min(65536, most - sent))
            until_ = time.monotonic() + 0.3
        except BlockingIOError:
            await turn(0.002)
    return sent


@pytest_twisted.ensureDeferred
async def test_backpressure(secure: Secure) -> None:
    """B4: a client that does not open its window holds up the upstream; when it does, all of it comes."""
    site = await secure()
    client = await site.client()
    asked = client.ask()
    asked.takes = False
    connection = await site.origin.acceptRequest()
    await connection.request()
    total = 24 << 20
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    sent = await stuff(connection, total)
    assert sent < total // 2
    assert len(asked.body) == 65535
    other = client.ask("GET", "/other")
    second = await site.origin.acceptRequest()
    await second.request()
    asked.takes = True
    client.take(asked)
    while sent < total:
        try:
            sent += connection.socket.send(b"x" * min(65536, total - sent))
        except BlockingIOError:
            await turn(0.001)
    await second.answer(b"other")
    assert bytes((await client.response(other)).body) == b"other"
    assert len((await client.response(asked)).body) == total


@pytest_twisted.ensureDeferred
async def test_backpressureOfTheConnection(secure: Secure) -> None:
    """B4: a client with a large window that does not read its connection holds up the upstream too."""
    site = await secure()
    client = await site.client(window=1 << 30)
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    client.transport.pauseProducing()
    total = 64 << 20
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    sent = await stuff(connection, total)
    assert sent < total // 2
    [channel] = [each._channel for each in site.mounted.site.channels if each._channel.transport.connected]
    held = sum(len(piece) for queue in channel._outboundStreamQueues.values() for piece in queue)
    assert held < 1 << 20
    client.transport.resumeProducing()
    while sent < total:
        try:
            sent += connection.socket.send(b"x" * min(65536, total - sent))
        except BlockingIOError:
            await turn(0.001)
    assert len((await client.response(asked)).body) == total


@pytest.mark.parametrize("begun", [False, True], ids=["before the head", "in the body"])
@pytest_twisted.ensureDeferred
async def test_cancelled(secure: Secure, begun: bool) -> None:
    """B7.1: a stream that the client resets ends its upstream request at once; the connection goes on."""
    site = await secure()
    client = await site.client()
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    if begun:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: bytes(asked.body) == b"abc", "the beginning of the body")
    client.cancel(asked)
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await site.mounted.settled()] == [499]
    assert site.mounted.resource.exchanges == set()
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    await connection.answer(b"next")
    assert bytes((await client.response(asked)).body) == b"next"


@pytest_twisted.ensureDeferred
async def test_clientLeaves(secure: Secure) -> None:
    """B7.1: a connection that is lost ends the upstream requests of all its streams."""
    site = await secure()
    client = await site.client()
    connections = []
    for _ in range(3):
        client.ask()
        connections.append(await site.origin.acceptRequest())
        await connections[-1].request()
    client.close()
    for connection in connections:
        assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await site.mounted.settled(3)] == [499] * 3


@pytest_twisted.ensureDeferred
async def test_upstreamBreaksOff(secure: Secure) -> None:
    """B7.2: a response that breaks off is a stream reset for an error, who waits for the request's end is told, and the
    connection goes on."""
    ends: list[Any] = []

    class Watching(Resource):
        """Stands before the proxy, as a guard does."""

        isLeaf = True

        def __init__(self, leaf: Any) -> None:
            super().__init__()
            self.leaf = leaf

        def render(self, request: Any) -> Any:
            request.notifyFinish().addBoth(ends.append)
            return self.leaf.render(request)

    site = await secure(Watching)
    client = await site.client()
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await until(lambda: bytes(asked.body) == b"abc", "the beginning of the body")
    connection.close()
    await until(lambda: asked.ended or asked.reset is not None, "the end of the stream")
    assert (asked.ended, asked.reset) == (False, 2)
    assert [end.check(ConnectionAborted) for end in ends] == [ConnectionAborted]
    asked = client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    await connection.answer(b"next")
    assert bytes((await client.response(asked)).body) == b"next"


@pytest_twisted.ensureDeferred
async def test_closeAndCut(secure: Secure) -> None:
    """A resource that is closed cuts its streams and refuses new ones with 503."""
    site = await secure()
    client = await site.client()
    waiting, reading = client.ask(), None
    connection = await site.origin.acceptRequest()
    await connection.request()
    reading = client.ask()
    second = await site.origin.acceptRequest()
    await second.request()
    await second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await until(lambda: bytes(reading.body) == b"abc", "the beginning of the body")
    await site.mounted.resource.close(cut=True)
    assert (await client.response(waiting)).status == 503
    await until(lambda: reading.reset is not None, "a reset")
    assert (await client.response(client.ask())).status == 503


@pytest_twisted.ensureDeferred
async def test_noUpgrade(secure: Secure) -> None:
    """There is no upgrade in HTTP/2: an upstream that switches protocols all the same is a bad one."""
    site = await secure()
    client = await site.client()
    asked = client.ask("GET", "/ws", (("sec-websocket-version", "13"),))
    connection = await site.origin.acceptRequest()
    request = await connection.request()
    assert request[b"upgrade"] is None
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert (await client.response(asked)).status == 502


@pytest_twisted.ensureDeferred
async def test_silence(secure: Secure) -> None:
    """A stock connection over HTTP/2 on which nothing happens for the site's timeout is ended although streams are open
    on it (documented); their upstream requests end with it."""
    site = await secure(timeout=0.3)
    client = await site.client()
    client.ask()
    connection = await site.origin.acceptRequest()
    await connection.request()
    await until(lambda: client.goneAway is not None, "a GOAWAY")
    client.close()
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await site.mounted.settled()] == [499]


@pytest_twisted.ensureDeferred
async def test_curl(secure: Secure, tmp_path: Path) -> None:
    """curl --http2 gets and puts."""
    site = await secure()
    body = tmp_path / "body"
    body.write_bytes(b"x" * 300_000)
    common = ("-sS", "--http2", "--cacert", str(site.authority), "-w", "|%{http_version} %{http_code}")
    connection = None
    for extra, size in (((), 0), (("-T", str(body)), 300_000)):
        asking = getProcessOutputAndValue(program("curl"), [*common, *extra, f"https://localhost:{site.number}/x"])
        connection = connection or await site.origin.acceptRequest()
        assert len((await connection.request()).body) == size
        await connection.answer(b"hello")
        assert await asking == (b"hello|2 200", b"", 0)
