"""
C{StreamingRequest}: uploads that stream through a stock site, and the hazards of a channel that was not made for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.vhost import NameVirtualHost
from zope.interface import implementer

from tests.net.peers import turn
from twistproxy import Response, ReverseProxyResource
from twistproxy.web.streaming import IHeadTraversal

Mount = Callable[..., Any]


async def stuff(line: Any, most: int) -> int:
    """
    Send until nobody takes any more.

    @return: how many bytes went out.
    """
    sent, idle, piece = 0, 0, b"x" * 65536
    while idle < 60 and sent < most:
        try:
            sent += line.socket.send(piece[: most - sent])
            idle = 0
        except BlockingIOError:
            idle += 1
            await turn(0.002)
    return sent


@pytest_twisted.ensureDeferred
async def test_streams(mount: Mount) -> None:
    """B4: the upstream gets each piece as it comes; the rest of the request need not have been sent."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.head()).count(b"Content-Length: 6") == 1
    assert await connection.exactly(3) == b"abc"
    await client.send(b"def")
    assert await connection.exactly(3) == b"def"
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"
    assert mounted.channel.requests == []


@pytest_twisted.ensureDeferred
async def test_backpressure(mount: Mount) -> None:
    """B4: an upstream that does not read holds up the client; hazard C: whatever starts the channel's reading."""
    mounted = mount(streaming=True, impatient=True)
    client = mounted.client(receiveBuffer=4096)
    total = 48 << 20
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    connection = await mounted.origin.acceptRequest()
    sent = await stuff(client, total)
    assert sent < total // 2
    # Each time that the client has taken some of the response, the channel starts reading again.
    size = 8 << 20
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    await client.head()
    pushed = got = 0
    while got < size:
        try:
            while pushed < size:
                pushed += connection.socket.send(b"y" * min(1 << 20, size - pushed))
        except BlockingIOError:
            pass
        await client.fill()
        got += len(client.buffer)
        client.buffer = b""
        if got > size // 2:
            continue  # close to the end a connection that was not read to its end is closed
        try:
            sent += client.socket.send(b"x" * 65536)
        except BlockingIOError:
            pass
    assert sent < total // 2


@pytest_twisted.ensureDeferred
async def test_hazardC_readingIsUndone(mount: Mount, warmReactor: Any) -> None:
    """Hazard C: when the write side has drained the channel reads again, although its body's consumer had stopped it."""
    mounted = mount(streaming=True, impatient=True)
    client = mounted.client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (48 << 20))
    await mounted.origin.acceptRequest()
    await stuff(client, 48 << 20)
    channel = mounted.channel
    assert channel.transport not in warmReactor.getReaders()
    channel.pauseProducing()
    channel.resumeProducing()
    assert channel.transport in warmReactor.getReaders()
    await turn()
    await turn()
    assert channel.transport not in warmReactor.getReaders()


@pytest_twisted.ensureDeferred
async def test_hazardA_earlyResponse(mount: Mount) -> None:
    """Hazard A: a whole response before the body has ended; the rest is dropped and the connection goes on."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    await connection.answer(b"enough", status="413 Too Much", fields=("Connection: close",))
    connection.close()
    response = await client.response()
    assert (response.status, response.body, response[b"connection"]) == (413, b"enough", None)
    await client.send(b"y" * 997)
    await client.ask("GET", "/next")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).target == b"/next"
    await connection.answer(b"next")
    assert (await client.response()).body == b"next"


@pytest.mark.parametrize("ending", [b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n", b": : :\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_hazardJ_bodyIsNoHead(mount: Mount, ending: bytes) -> None:
    """Hazard J: behind an early response the body is still a body, even where it reads like a request."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (3 + len(ending)))
    connection = await mounted.origin.acceptRequest()
    await connection.answer(b"no", status="403 Forbidden", fields=("Connection: close",))
    connection.close()
    assert (await client.response()).status == 403
    await client.send(b"abc")
    await turn()
    await client.send(ending)
    await client.ask("GET", "/real")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).target == b"/real"
    await connection.answer(b"real")
    assert (await client.response()).body == b"real"
    assert [record.target for record in await mounted.settled(2)] == [b"/", b"/real"]


@pytest_twisted.ensureDeferred
async def test_hazardA_refusedAtTheHead(mount: Mount) -> None:
    """A request that is refused before one byte of its body was read; chunks, and a request right behind it."""
    mounted = mount(streaming=True)
    mounted.resource.proxy.useDirector(lambda request: Response(403, body=b"no"))
    client = mounted.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(await client.response()).status for _ in range(2)] == [403, 403]
    assert [record.target for record in await mounted.settled(2)] == [b"/", b"/next"]


@pytest_twisted.ensureDeferred
async def test_hazardB_idleTimer(mount: Mount) -> None:
    """Hazard B: the channel's idle timer runs while the client is waited for, not while it is held back, nor once the
    response has begun; and it runs again behind the request."""
    mounted = mount(streaming=True, timeout=300)
    client = mounted.client()
    total = 48 << 20
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    channel = mounted.channel
    assert channel.timeOut == 300
    await stuff(client, total)
    assert channel.timeOut is None
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
    await client.head()
    assert channel.timeOut is None


@pytest_twisted.ensureDeferred
async def test_hazardB_timerRunsAgain(mount: Mount) -> None:
    """Hazard B: between requests the idle timer runs again, with the site's time."""
    mounted = mount(streaming=True, timeout=300)
    client = mounted.client()
    for _ in range(2):
        await client.ask("POST", "/", body=b"abc")
        connection = mounted.origin.accepted[0] if mounted.origin.accepted else await mounted.origin.acceptRequest()
        assert (await connection.request()).body == b"abc"
        assert mounted.channel.timeOut is None
        await connection.answer(b"ok")
        assert (await client.response()).body == b"ok"
        assert mounted.channel.timeOut == 300


@pytest_twisted.ensureDeferred
async def test_stalledClient(mount: Mount) -> None:
    """B9: a client that stops in the middle of its body is given the site's idle time, and then let go."""
    mounted = mount(streaming=True, timeout=0.2)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    connection = await mounted.origin.acceptRequest()
    assert await client.ending() in ("closed", "reset")
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await mounted.settled()] == [499]


@pytest_twisted.ensureDeferred
async def test_hundred(mount: Mount) -> None:
    """B5.8: no 100 of the channel's own: the client hears one when the upstream says so."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    connection = await mounted.origin.acceptRequest()
    assert b"\r\nExpect: 100-continue\r\n" in await connection.head()
    assert client.buffer == b""
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"abc")
    assert await connection.exactly(3) == b"abc"
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"


@pytest_twisted.ensureDeferred
async def test_tooLargeBeforeHundred(mount: Mount) -> None:
    """B1.10: 413 to an Expect, without a byte of the body; nobody can say then whether one follows, so it closes."""
    from twistproxy import ProxySettings

    mounted = mount(streaming=True, settings=ProxySettings(maxRequestBody=10))
    client = mounted.client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
    response = await client.response()
    assert (response.status, response[b"connection"], response.interims) == (413, b"close", [])
    assert await client.fill() is False


@pytest_twisted.ensureDeferred
async def test_dropsOnlySoMuch(mount: Mount) -> None:
    """B5.2: of a body that nobody wants only so much is read; then the connection ends, behind the response."""
    mounted = mount(streaming=True, impatient=True)
    mounted.resource.proxy.useDirector(lambda request: Response(403))
    client = mounted.client()
    total = 64 << 20
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    response = await client.response()
    assert (response.status, response[b"connection"]) == (403, b"close")
    with pytest.raises(ConnectionError):
        while True:
            await stuff(client, total)


@pytest_twisted.ensureDeferred
async def test_responseOvertakesTheReset(mount: Mount) -> None:
    """B5.2: a client that keeps sending still gets all of a long response that did not wait for its body."""
    mounted = mount(streaming=True)
    size = 4 << 20
    mounted.resource.proxy.useDirector(lambda request: Response(403, body=b"n" * size))
    client = mounted.client(receiveBuffer=4096)
    total = 64 << 20
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    await stuff(client, total)
    response = await client.response()
    assert (response.status, len(response.body)) == (403, size)
    assert await client.fill() is False
    mounted.channel.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_clientLeavesInTheBody(mount: Mount) -> None:
    """B7.1: a client that leaves in the middle of its body takes the upstream request with it."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    client.close()
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await mounted.settled()] == [499]


@pytest_twisted.ensureDeferred
async def test_fullDuplex(mount: Mount) -> None:
    """B5.5: the response streams while the request does."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.head()
    for _ in range(3):
        await client.send(b"4\r\nping\r\n")
        assert await connection.chunk() == b"ping"
        await connection.send(b"4\r\npong\r\n")
        assert await client.chunk() == b"pong"
    await client.send(b"0\r\n\r\n")
    await connection.upTo(b"0\r\n\r\n")
    await connection.send(b"0\r\n\r\n")
    assert await client.upTo(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert await client_get(client, mounted, connection) == b"after"


async def client_get(client: Any, mounted: Any, connection: Any) -> bytes:
    """One more exchange on the same connections."""
    await client.ask()
    await connection.request()
    await connection.answer(b"after")
    body: bytes = (await client.response()).body
    return body


@pytest_twisted.ensureDeferred
async def test_duplexOfAClientThatDoesNotRead(mount: Mount) -> None:
    """A channel whose write side is full stops reading; a body that its upstream takes goes on all the same."""
    mounted = mount(streaming=True)
    client = mounted.client(receiveBuffer=4096)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n")
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
    assert await stuff(connection, 64000000) < 64000000
    got = sent = 0
    while got < 8000000:
        if sent < 8000000:
            sent += await stuff(client, min(8000000 - sent, 65536))
        await connection.fill()
        got += len(connection.buffer)
        connection.buffer = b""
    assert got == 8000000


# -- whom nothing happens to ------------------------------------------------------------------------------------------


class Form(Resource):
    """A stock resource that wants the whole body."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        said: bytes = b"%b %b" % (request.args[b"k"][0], request.content.read())
        return said


class Deciding(Resource):
    """
    A resource whose C{getChild} reads the form, as some do.

    @ivar asked: how often.
    """

    def __init__(self, leaf: Any) -> None:
        super().__init__()
        self.leaf = leaf
        self.asked: list[Any] = []

    def getChild(self, path: bytes, request: Any) -> Any:
        self.asked.append(request.args.get(b"k"))
        return self.leaf


@implementer(IHeadTraversal)
class Dynamic(Deciding):
    """The same, but it says that the head is enough for it."""


@pytest_twisted.ensureDeferred
async def test_stockResourcesAreLeftAlone(mount: Mount) -> None:
    """A resource that did not opt in gets its form, its content and its 100 as ever."""

    def tree(leaf: Any) -> Any:
        root = Resource()
        root.putChild(b"proxy", leaf)
        root.putChild(b"form", Form())
        return root

    mounted = mount(tree, streaming=True)
    client = mounted.client()
    fields = ("Content-Type: application/x-www-form-urlencoded", "Expect: 100-continue")
    for _ in range(2):
        await client.ask("POST", "/form", fields, b"k=v")
        response = await client.response()
        assert (response.body, response.interims) == (b"v k=v", [(100, [])])
    assert (await client.get("/nowhere")).status == 404


@pytest_twisted.ensureDeferred
async def test_unknownStepIsNotTaken(mount: Mount) -> None:
    """A C{getChild} that may read the body is asked once, when the body is here; its leaf gets it collected."""
    deciding: list[Any] = []

    def tree(leaf: Any) -> Any:
        deciding.append(Deciding(leaf))
        return deciding[0]

    mounted = mount(tree, streaming=True)
    client = mounted.client()
    await client.ask("POST", "/x", ("Content-Type: application/x-www-form-urlencoded",), b"k=v")
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.body, asked[b"x-forwarded-prefix"]) == (b"k=v", b"/x")
    await connection.answer()
    await client.response()
    assert deciding[0].asked == [[b"v"]]


@pytest_twisted.ensureDeferred
async def test_headTraversal(mount: Mount) -> None:
    """A C{getChild} that says that it needs the head alone is on the way of a stream; so is a virtual host."""

    def tree(leaf: Any) -> Any:
        hosts = NameVirtualHost()
        hosts.addHost(b"story.test", Dynamic(leaf))
        hosts.addHost(b"leaf.test", leaf)
        return hosts

    mounted = mount(tree, streaming=True)
    for host, target in ((b"story.test", b"/"), (b"leaf.test", b"/x")):
        client = mounted.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: %b\r\nContent-Length: 6\r\n\r\nabc" % host)
        connection = await mounted.origin.acceptRequest()
        assert (await connection.head()).split(b" ")[1] == target
        assert await connection.exactly(3) == b"abc"
        await client.send(b"def")
        assert await connection.exactly(3) == b"def"
        await connection.answer(b"ok")
        assert (await client.response()).body == b"ok"
        connection.close()
        await turn(0.01)


@pytest_twisted.ensureDeferred
async def test_ownWayToResources(mount: Mount) -> None:
    """A site that finds its resources in a way of its own is asked when the body is here."""

    class Own(Site):
        """Finds resources in its own way."""

        def getResourceFor(self, request: Any) -> Any:
            request.content.read()
            return super().getResourceFor(request)

    mounted = mount(streaming=True)
    mounted.site.__class__ = type("Mixed", (Own, type(mounted.site)), {})
    client = mounted.client()
    await client.ask("POST", "/", body=b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abc"
    await connection.answer()
    assert (await client.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_malformedHead(mount: Mount) -> None:
    """A head that the channel has refused leads nowhere."""
    mounted = mount(streaming=True)
    for head in (
        b"Transfer-Encoding: gzip\r\nX: y\r\n\r\n",
        b"Content-Length: +3\r\n\r\nabc",
        b"X y\r\nContent-Length: 3\r\n\r\nabc",
    ):
        client = mounted.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        assert await client.ending() in ("closed", "reset")
    assert mounted.records == []


def test_marker() -> None:
    """The proxy's resource is one that says it can stream."""
    from twistproxy.web.streaming import IStreamingResource

    assert IStreamingResource.implementedBy(ReverseProxyResource)
    assert NOT_DONE_YET == 1
