"""
Trees under a C{ProxySite}: a proxy in one is given the exchange at the head, and with it all that our wire can do.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.web import pages, util
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Session, Site
from twisted.web.static import Data, File
from twisted.web.vhost import NameVirtualHost
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.peers import until
from tests.support.peers import Client, Origin
from tests.web.conftest import below
from tests.web.trees import guarded
from twistproxy import Limits, ProxySite, Response, ReverseProxyResource
from twistproxy.events import ExchangeRecord
from twistproxy.web.mounted import IExchangeResource
from twistproxy.web.streaming import IStreamingResource

AUTHORIZED = "Authorization: Basic YWxpY2U6c2VjcmV0"


class Treed:
    """
    A C{ProxySite} with a proxy in its tree.

    @ivar origin: the upstream that the test plays.
    @ivar resource: the proxy.
    @ivar records: what the site's observers were told.
    @ivar told: what the proxy's own were told.
    """

    def __init__(self, reactor: Any, tree: Callable[[Any], Any], base: str, options: dict[str, Any]) -> None:
        self.origin = Origin()
        self.records: list[ExchangeRecord] = []
        self.told: list[ExchangeRecord] = []
        self.resource = ReverseProxyResource.to(
            self.origin.target + base, observers=[self.told.append], reactor=reactor
        )
        self.site = ProxySite(tree(self.resource), reactor=reactor, observers=[self.records.append], **options)
        self.port = self.site.network.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.clients: list[Client] = []

    def client(self) -> Client:
        """A connected client."""
        client = Client.connect(self.port.getHost().port)
        assert isinstance(client, Client)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """End everything."""
        for client in self.clients:
            client.close()
        self.origin.close()
        await self.port.stopListening()
        self.site.cut()
        await self.resource.close(cut=True)
        self.resource.proxy.transport.cut()
        pools = self.resource.proxy.transport.pools
        await until(lambda: not any(pool.connections for pool in pools.values()), f"empty pools: {pools}")


@pytest.fixture
def plant(warmReactor: Any) -> Iterator[Callable[..., Treed]]:
    """Puts a proxy in a tree."""
    running: list[Treed] = []

    def start(tree: Callable[[Any], Any] = lambda leaf: leaf, base: str = "", **options: Any) -> Treed:
        running.append(Treed(warmReactor, tree, base, options))
        return running[-1]

    yield start
    for treed in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(treed.close()))


class Dynamic(Resource):
    """Every child of it is the same."""

    def __init__(self, child: Any) -> None:
        super().__init__()
        self.child = child

    def getChild(self, path: bytes, request: Any) -> Any:
        """The child; its upstream is to know who asks."""
        request.requestHeaders.setRawHeaders(b"x-user", [b"user of " + path])
        return self.child


def named(leaf: Any) -> Any:
    """@return: a root that gives C{leaf} to those who ask for C{story.test}."""
    root = NameVirtualHost()
    root.addHost(b"story.test", leaf)
    return root


def latelyGuarded(leaf: Any) -> Any:
    """@return: C{leaf}, a while after it was asked for."""

    class Late(Resource):
        def getChild(self, path: bytes, request: Any) -> Any:
            from twisted.internet import reactor

            later: Deferred[Any] = Deferred()
            reactor.callLater(0.001, later.callback, leaf)  # type: ignore[attr-defined]
            return util.DeferredResource(later)

    return Late()


TREES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "root": (lambda leaf: leaf, ""),
    "below": (below(b"a", b"b", b"c"), "/a/b/c"),
    "escaped": (below(b"a b", b"c"), "/a%20b/c"),
    "virtual host": (lambda leaf: named(below(b"a")(leaf)), "/a"),
    "virtual host, leaf": (named, ""),
    "dynamic": (lambda leaf: below(b"a")(Dynamic(leaf)), "/a/alice"),
    "guarded": (lambda leaf: below(b"a")(guarded(leaf)), "/a"),
    "late": (lambda leaf: below(b"a")(latelyGuarded(leaf)), "/a/x"),
}


@pytest.mark.parametrize("name", TREES)
@pytest_twisted.ensureDeferred
async def test_streams(plant: Callable[..., Treed], name: str) -> None:
    """Wherever it stands: upload and download stream, the prefix is taken off, and what comes back is mapped."""
    tree, prefix = TREES[name]
    treed = plant(tree, base="/base")
    client = treed.client()
    await client.send(
        f"POST {prefix}/x?q=1 HTTP/1.1\r\nHost: story.test\r\n{AUTHORIZED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + b"5\r\nfirst\r\n"
    )
    upstream = await treed.origin.accept()
    head = await upstream.head()
    # its head and the beginning of its body have come before the end of either
    assert head.split(b"\r\n")[0] == b"POST /base/x?q=1 HTTP/1.1"
    assert (b"X-Forwarded-Prefix: " + prefix.encode() in head) == (prefix != "")
    assert await upstream.chunk() == b"first"
    await client.send(b"4\r\nlast\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert await upstream.chunk() == b"last"
    assert b"X-Trailer: 1" in await upstream.upTo(b"\r\n\r\n")
    await upstream.send(
        b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nLocation: /base/there\r\nTrailer: X-End\r\n\r\n5\r\nhello\r\n"
    )
    assert (await client.head()).startswith(b"HTTP/1.1 103 ")
    head = await client.head()
    assert b"\r\nLocation: " + prefix.encode() + b"/there\r\n" in head
    assert await client.chunk() == b"hello"
    await upstream.send(b"0\r\nX-End: 1\r\n\r\n")
    assert await client.upTo(b"\r\n\r\n") == b"0\r\nX-End: 1\r\n\r\n"
    await until(lambda: treed.records and treed.told, "records")
    assert treed.records == treed.told
    assert (treed.records[0].status, treed.records[0].requestBytes, treed.records[0].responseBytes) == (200, 9, 5)
    assert treed.resource.exchanges == set()


@pytest.mark.usefixtures("unwitnessed")
@pytest.mark.parametrize("name", TREES)
@pytest_twisted.ensureDeferred
async def test_nothingKept(plant: Callable[..., Treed], name: str) -> None:
    """Nothing of an exchange is left when it is over, without a garbage collector."""
    tree, prefix = TREES[name]
    treed = plant(tree)
    client = treed.client()
    gc.collect()
    gc.disable()
    try:
        await client.ask("GET", prefix + "/x", (AUTHORIZED,))
        upstream = await treed.origin.accept()
        await upstream.request()
        exchanges = [weakref.ref(exchange) for exchange in treed.resource.exchanges]
        await upstream.answer(b"fine")
        assert (await client.response()).body == b"fine"
        assert [exchange() for exchange in exchanges] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", TREES)
@pytest_twisted.ensureDeferred
async def test_upgrade(plant: Callable[..., Treed], name: str) -> None:
    """Wherever it stands, a connection can leave HTTP."""
    tree, prefix = TREES[name]
    treed = plant(tree)
    client = treed.client()
    await client.ask("GET", prefix + "/x", (AUTHORIZED, "Connection: Upgrade", "Upgrade: chat"))
    await client.send(b"early")
    upstream = await treed.origin.accept()
    assert b"Upgrade: chat" in await upstream.head()
    await upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(5) == b"hello"
    assert await upstream.exactly(5) == b"early"
    client.close()
    assert await upstream.ending() == "closed"


@pytest_twisted.ensureDeferred
async def test_changedOnTheWay(plant: Callable[..., Treed]) -> None:
    """What a resource on the way has changed in the request's head goes upstream."""
    treed = plant(lambda leaf: below(b"a")(Dynamic(leaf)))
    client = treed.client()
    await client.ask("GET", "/a/alice/x", ("X-User: mallory",))
    upstream = await treed.origin.accept()
    request = await upstream.request()
    assert request[b"x-user"] == b"user of alice"
    await upstream.answer(b"fine")
    assert (await client.response()).body == b"fine"


class Rendering(Resource):
    """A leaf that renders another one, at once or later."""

    isLeaf = True

    def __init__(self, child: Any, later: bool) -> None:
        super().__init__()
        self.child, self.later = child, later
        self.finished: list[Any] = []

    def render(self, request: Any) -> int:
        """As the other does."""
        from twisted.internet import reactor

        request.notifyFinish().addBoth(self.finished.append)
        if self.later:
            reactor.callLater(0.001, request.render, self.child)  # type: ignore[attr-defined]
        else:
            assert self.child.render(request) is NOT_DONE_YET
        return NOT_DONE_YET


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("size", [3, 200_000])
@pytest_twisted.ensureDeferred
async def test_renderedByAnother(plant: Callable[..., Treed], later: bool, size: int) -> None:
    """A resource that renders a proxy has collected the body; all else is as ever, and C{notifyFinish} fires."""
    made: list[Rendering] = []

    def tree(leaf: Any) -> Any:
        made.append(Rendering(leaf, later))
        return below(b"a")(made[0])

    treed = plant(tree)
    client = treed.client()
    for number in range(2):
        await client.ask("POST", "/a/x", ("Transfer-Encoding: chunked",))
        await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"z" * size))
        upstream = treed.origin.accepted[0] if number else await treed.origin.accept()
        request = await upstream.request()
        assert (request.target, request.body) == (b"/x", b"z" * size)
        await upstream.answer(b"fine")
        assert (await client.response()).body == b"fine"
        await until(lambda: len(treed.records) == number + 1, "a record")  # noqa: B023
        assert treed.records[number].requestBytes == size
    assert made[0].finished == [None, None]


@pytest_twisted.ensureDeferred
async def test_refusedRendering(plant: Callable[..., Treed]) -> None:
    """The client leaves while a proxy answers for another resource: that is told."""
    made: list[Rendering] = []

    def tree(leaf: Any) -> Any:
        made.append(Rendering(leaf, False))
        return made[0]

    treed = plant(tree)
    client = treed.client()
    await client.ask("GET", "/x")
    upstream = await treed.origin.accept()
    await upstream.head()
    client.close()
    await until(lambda: made[0].finished, "the news")
    assert "the client left" in str(made[0].finished[0].value)
    assert await upstream.ending() in ("closed", "reset")
    await until(lambda: treed.records, "a record")
    assert treed.records[0].status == 499


@pytest_twisted.ensureDeferred
async def test_closed(plant: Callable[..., Treed]) -> None:
    """A proxy that was closed answers 503, and the others in its tree go on."""

    def tree(leaf: Any) -> Any:
        root = below(b"a")(leaf)
        root.putChild(b"b", Data(b"data", "text/plain"))
        return root

    treed = plant(tree)
    client = treed.client()
    await client.ask("GET", "/a/x")
    upstream = await treed.origin.accept()
    await upstream.request()
    closed = treed.resource.close()
    second = treed.client()
    assert (await second.get("/a/x")).status == 503
    assert (await second.get("/b")).body == b"data"
    assert not closed.called
    await upstream.answer(b"fine")
    assert (await client.response()).body == b"fine"
    await closed


@pytest_twisted.ensureDeferred
async def test_clientLeavesBeforeLogin(plant: Callable[..., Treed]) -> None:
    """B7.1: a client that leaves while its login is looked up cancels that, and nothing comes of it."""
    cancelled: list[Any] = []

    class Never(Resource):
        def getChild(self, path: bytes, request: Any) -> Any:
            return util.DeferredResource(Deferred(cancelled.append))

    treed = plant(lambda leaf: Never())
    client = treed.client()
    await client.ask("GET", "/x")
    await until(lambda: treed.site.exchanges, "an exchange")
    client.close()
    await until(lambda: treed.records, "a record")
    assert (len(cancelled), treed.records[0].status) == (1, 499)


@pytest_twisted.ensureDeferred
async def test_ownResource(plant: Callable[..., Treed]) -> None:
    """A resource of one's own can take exchanges."""

    @implementer(IExchangeResource)
    class Answering(Resource):
        isLeaf = True

        def enter(self, exchange: Any, prepath: Any) -> None:
            exchange.answer(Response(200, {}, repr((list(prepath), exchange.request.target)).encode()))

    treed = plant(lambda leaf: below(b"a", b"b")(Answering()))
    assert (await treed.client().get("/a/b/c")).body == b"([b'a', b'b'], b'/a/b/c')"


@pytest_twisted.ensureDeferred
async def test_streamingResource(plant: Callable[..., Treed]) -> None:
    """A resource that provides C{IStreamingResource} gets its body as it comes, and its client is asked for it."""

    class Counting:
        def __init__(self, request: Any) -> None:
            self.request, self.pieces = request, 0

        def registerProducer(self, producer: Any, streaming: bool) -> None:
            pass

        def unregisterProducer(self) -> None:
            pass

        def write(self, data: bytes) -> None:
            self.request.write(b"[%b]" % data)

        def finish(self, trailers: list[bytes]) -> None:
            self.request.finish()

        def fail(self, error: Exception) -> None:
            raise AssertionError(error)

    @implementer(IStreamingResource)
    class Streaming(Resource):
        isLeaf = True

        def render(self, request: Any) -> Any:
            if request.streamedBody is None:
                return b"whole: " + request.content.read()
            request.streamedBody.deliver(Counting(request))
            return NOT_DONE_YET

    treed = plant(lambda leaf: below(b"a")(Streaming()))
    client = treed.client()
    await client.ask("POST", "/a", ("Content-Length: 6", "Expect: 100-continue"))
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"one")
    await client.head()
    assert await client.chunk() == b"[one]"
    await client.send(b"two")
    assert await client.chunk() == b"[two]"
    assert await client.chunk() == b""
    client = treed.client()
    await client.ask("POST", "/a", body=b"small")
    assert (await client.response()).body == b"whole: small"


@pytest_twisted.ensureDeferred
async def test_site(plant: Callable[..., Treed]) -> None:
    """What users of a C{Site} expect of their factory, and resources of C{request.site}."""
    seen: list[Any] = []

    class OwnSession(Session):
        pass

    class OwnRequest(Request):
        pass

    class Looking(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            seen.append(request)
            return b"%d" % isinstance(request.getSession(), OwnSession)

    treed = plant(lambda leaf: below(b"a")(Looking()), requestFactory=OwnRequest)
    site = treed.site
    site.sessionFactory = OwnSession
    assert verifyObject(IProtocolFactory, site)
    client = treed.client()
    assert (await client.get("/a")).body == b"1"
    assert (type(seen[0]), isinstance(seen[0].site, Site)) == (OwnRequest, True)
    assert (site.resource, site.displayTracebacks) == (seen[0].site.resource, False)
    [session] = site.sessions.values()
    assert site.getSession(session.uid) is session
    session.expire()
    site.makeSession().expire()
    assert site.sessions == {}
    # the root may be replaced while the site runs
    site.resource = Data(b"another", "text/plain")
    assert (await client.get("/a")).status == 404
    site.resource = treed.resource
    asked = client.get("/x")
    waiting = Deferred.fromCoroutine(asked)
    upstream = await treed.origin.accept()
    await upstream.request()
    await upstream.answer(b"upstream")
    assert (await waiting).body == b"upstream"
    # and a factory of the old sort takes two arguments
    site.requestFactory = lambda channel, queued: OwnRequest(channel)
    site.resource = Looking()
    assert (await client.get("/")).body == b"1"
    for session in list(site.sessions.values()):
        session.expire()


def test_noTree(warmReactor: Any) -> None:
    """A site of a responder says that it has no tree, and a stock site says what to give instead of it."""
    site = ProxySite(lambda exchange: None, reactor=warmReactor)
    with pytest.raises(AttributeError, match="and no tree of resources"):
        print(site.sessions)
    with pytest.raises(TypeError, match=r"give it site\.resource"):
        ProxySite(Site(Resource(), reactor=warmReactor), reactor=warmReactor)


@pytest_twisted.ensureDeferred
async def test_requestOfAnotherSort(plant: Callable[..., Treed]) -> None:
    """A request factory whose requests do not look for resources is left to do what it does."""

    class Alone(HTTPRequest):
        def process(self) -> None:
            self.write(b"alone with " + self.content.read())
            self.finish()

    treed = plant(lambda leaf: Resource(), requestFactory=Alone)
    client = treed.client()
    await client.ask("POST", "/x", body=b"a body")
    assert (await client.response()).body == b"alone with a body"
    await client.ask("POST", "/x", ("Content-Length: 4", "Expect: 100-continue"))
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"more")
    assert (await client.response()).body == b"alone with more"


@pytest.mark.parametrize(
    ("target", "status"), [("/nowhere", 404), ("/a/x", 401), ("/pages", 404), ("/files/none", 404)]
)
@pytest_twisted.ensureDeferred
async def test_saidNo(plant: Callable[..., Treed], tmp_path: Path, target: str, status: int) -> None:
    """RFC 9110 10.1.1: a client without a password, or at a wrong address, is not asked for its upload."""

    def tree(leaf: Any) -> Any:
        root = Resource()
        root.putChild(b"a", guarded(Data(b"secret", "text/plain")))
        root.putChild(b"pages", pages.notFound())
        root.putChild(b"files", File(str(tmp_path)))
        return root

    treed = plant(tree)
    client = treed.client()
    await client.ask("PUT", target, ("Content-Length: 100", "Expect: 100-continue"))
    response = await client.response()
    assert (response.status, response.interims) == (status, [])
    # one that sends it all the same, in pieces, can go on
    client = treed.client()
    await client.ask("PUT", target, ("Content-Length: 6",))
    await client.send(b"abc")
    assert (await client.response()).status == status
    await client.send(b"def")
    assert (await client.get("/pages")).status == 404


@pytest_twisted.ensureDeferred
async def test_limits(plant: Callable[..., Treed]) -> None:
    """B1.10: the bound on collected bodies is not one on what a proxy in the tree streams."""
    def tree(leaf: Any) -> Any:
        root = below(b"a")(leaf)
        root.putChild(b"b", Data(b"data", "text/plain"))
        return root

    treed = plant(tree, limits=Limits(collected=10))
    client = treed.client()
    await client.ask("POST", "/b", body=b"z" * 11)
    assert (await client.response()).status == 413
    client = treed.client()
    await client.ask("POST", "/a", body=b"z" * 11)
    upstream = await treed.origin.accept()
    assert len((await upstream.request()).body) == 11
    await upstream.answer()
    assert (await client.response()).status == 200
