"""
Resources of every sort, to be served by two sites: what a resource may do with a request, one class each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.web import pages, rewrite, static, util
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import EncodingResourceWrapper, IResource, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from twisted.web.vhost import NameVirtualHost, VHostMonsterResource
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer


class Leaf(Resource):
    """A leaf that renders by a function."""

    isLeaf = True

    def __init__(self, render: Callable[[Any], Any], methods: tuple[bytes, ...] = (b"GET", b"HEAD", b"POST")) -> None:
        super().__init__()
        self.function = render
        self.allowedMethods = methods

    def render(self, request: Any) -> Any:
        """Whatever the function does."""
        return self.function(request)


class GetOnly(Resource):
    """Renders GET; all else is Twisted's business."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """A body of known length."""
        return b"only by GET"


class Anything(Resource):
    """Any path leads here, and says how."""

    def getChild(self, path: bytes, request: Any) -> Any:
        """Itself, but for one name."""
        if path == b"raise":
            raise RuntimeError("no child of that name, and an accident")
        if path == b"none":
            return pages.notFound()
        return self

    def render(self, request: Any) -> bytes:
        """Everything about addresses."""
        told = (
            request.method, request.uri, request.path, request.prepath, request.postpath, request.clientproto,
            request.isSecure(), request.getClientIP(), request.getRequestHostname(), request.getHost().host,
            request.childLink(b"c"), request.sibLink(b"s"), sorted(request.args.items()), request.sitepath,
        )  # fmt: skip
        return repr(told).encode()


class ByQuery(Resource):
    """Children that are found by what is in the query."""

    def getChild(self, path: bytes, request: Any) -> Any:
        """One that answers the first C{which}."""
        return static.Data(b"asked for " + request.args[b"which"][0], "text/plain")


def echo(request: Any) -> bytes:
    """@return: all that came with the request."""
    fields = sorted(
        (name, values) for name, values in request.requestHeaders.getAllRawHeaders() if name.lower() != b"host"
    )
    body = request.content.read()
    return repr((fields, sorted(request.args.items()), len(body), body[-2000:], request.received_cookies)).encode()


def cookies(request: Any) -> bytes:
    """Cookies in, cookies out."""
    request.addCookie(b"a", b"1", path=b"/x", httpOnly=True)
    request.addCookie("b", "2; 3\r\nX-Evil: 1")
    return request.getCookie(b"in") or b"none"


def session(request: Any) -> bytes:
    """Counts."""
    kept = request.getSession()
    kept.count = getattr(kept, "count", 0) + 1
    return b"%d" % kept.count


def redirect(request: Any) -> bytes:
    """Elsewhere."""
    request.redirect(b"http://elsewhere.test/?q=1")
    return b""


def tagged(request: Any) -> bytes:
    """Cacheable, by its tag and date."""
    if request.setETag(b'"tag"') or request.setLastModified(1_000_000_000):
        return b""
    return b"tagged"


def empty(request: Any) -> bytes:
    """Nothing, with 204."""
    request.setResponseCode(204)
    return b""


def odd(request: Any) -> bytes:
    """An odd status, with a reason of its own, and odd header fields."""
    request.setResponseCode(418, b"short and stout")
    request.setHeader(b"x-evil", b"a\r\nSet-Cookie: b=c")
    request.responseHeaders.addRawHeader(b"x-two", b"1")
    request.responseHeaders.addRawHeader(b"x-two", b"2")
    request.setHeader("content-type", "text/plain")
    return b"odd"


def closing(request: Any) -> bytes:
    """Wants the connection closed."""
    request.setHeader(b"connection", b"close")
    return b"last"


def secret(request: Any) -> bytes:
    """Who has got through."""
    return b"hello " + request.getUser()


def application(environ: dict[str, Any], startResponse: Any) -> list[bytes]:
    """A WSGI application."""
    body = environ["wsgi.input"].read()
    startResponse("200 OK", [("Content-Type", "text/plain"), ("X-Wsgi", "yes")])
    names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_HOST", "REMOTE_ADDR")
    return [repr([environ.get(name) for name in names if name != "HTTP_HOST"]).encode(), body]


class Pieces:
    """
    A producer of ten pieces.

    @ivar left: how many are still to come.
    """

    def __init__(self, request: Any, streaming: bool, reactor: Any) -> None:
        self.request, self.left, self.reactor, self.streaming = request, 10, reactor, streaming
        request.registerProducer(self, streaming)
        if streaming:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        """One piece, and if it pushes the next one soon."""
        self.left -= 1
        self.request.write(b"piece %d," % self.left)
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()
        elif self.streaming:
            self.reactor.callLater(0, self.resumeProducing)

    def pauseProducing(self) -> None:
        """Too little to pause."""

    def stopProducing(self) -> None:
        """Nobody does."""


@implementer(IRealm)
class Realm:
    """Everybody gets the same."""

    def __init__(self, resource: Any) -> None:
        self.resource = resource

    def requestAvatar(self, avatarID: Any, mind: Any, *interfaces: Any) -> Any:
        """The resource."""
        return IResource, self.resource, lambda: None


def guarded(resource: Any) -> HTTPAuthSessionWrapper:
    """@return: C{resource} for who knows the password."""
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    return HTTPAuthSessionWrapper(Portal(Realm(resource), [checker]), [BasicCredentialFactory(b"test")])


def everything(reactor: Any, threads: Any, folder: Path) -> Resource:
    """
    @param folder: for files; filled here.
    @return: the root of a tree of everything.
    """

    def later(*pieces: bytes, length: int | None = None) -> Callable[[Any], int]:
        """Pieces, each in a turn of its own."""

        def render(request: Any) -> int:
            if length is not None:
                request.setHeader(b"content-length", b"%d" % length)

            gone: list[Any] = []
            request.notifyFinish().addErrback(gone.append)

            def step(left: tuple[bytes, ...]) -> None:
                if gone:
                    return
                if left:
                    request.write(left[0])
                    reactor.callLater(0.001, step, left[1:])
                else:
                    request.finish()

            reactor.callLater(0.001, step, pieces)
            return NOT_DONE_YET

        return render

    def atOnce(request: Any) -> int:
        request.write(b"written")
        request.write(b" at once")
        request.finish()
        return NOT_DONE_YET

    def dropping(request: Any) -> int:
        request.setHeader(b"content-length", b"100")
        request.write(b"begun")
        reactor.callLater(0.01, request.loseConnection)
        return NOT_DONE_YET

    def deferred(name: bytes) -> Resource:
        fired: Deferred[Any] = Deferred()
        reactor.callLater(0.001, fired.callback, Leaf(lambda _: b"late"))
        return util.DeferredResource(fired if name == b"late" else succeed(Leaf(lambda _: b"at once")))

    class Deferring(Resource):
        def getChild(self, path: bytes, request: Any) -> Any:
            return deferred(path)

    def failing(request: Any) -> Any:
        raise RuntimeError("an accident in render")

    (folder / "sub").mkdir()
    (folder / "page.txt").write_bytes(bytes(range(32, 127)) * 3)
    (folder / "index.html").write_text("<p>index</p>")
    (folder / "large.bin").write_bytes(bytes(range(256)) * 2048)
    (folder / "sub" / "a b.txt").write_text("with a space")
    root = Resource()
    hosts = NameVirtualHost()
    hosts.addHost(b"one.test", static.Data(b"one", "text/plain"))
    hosts.addHost(b"two.test", Anything())
    hosts.default = static.Data(b"default", "text/plain")
    rewritten = rewrite.RewriterResource(Anything(), lambda request: setattr(request, "postpath", [b"re", b"written"]))
    tree: dict[bytes, Any] = {
        b"": static.Data(b"the root", "text/plain"),
        b"data": static.Data(b"some data", "text/plain; charset=utf-8"),
        b"files": static.File(str(folder)),
        b"get": GetOnly(),
        b"any": Anything(),
        b"query": ByQuery(),
        b"echo": Leaf(echo, (b"GET", b"POST", b"PUT")),
        b"cookies": Leaf(cookies),
        b"session": Leaf(session),
        b"redirect": Leaf(redirect),
        b"redirector": util.Redirect(b"/data"),
        b"parent": util.ParentRedirect(),
        b"tagged": Leaf(tagged),
        b"empty": Leaf(empty),
        b"odd": Leaf(odd),
        b"closing": Leaf(closing),
        b"atonce": Leaf(atOnce),
        b"later": Leaf(later(b"one,", b"two,", b"three")),
        b"latersized": Leaf(later(b"one,", b"two,", length=8)),
        b"nothing": Leaf(later()),
        b"push": Leaf(lambda request: Pieces(request, True, reactor) and NOT_DONE_YET),
        b"pull": Leaf(lambda request: Pieces(request, False, reactor) and NOT_DONE_YET),
        b"toolong": Leaf(later(b"more than", b" was said", length=12)),
        b"tooshort": Leaf(later(b"less", length=12)),
        b"dropping": Leaf(dropping),
        b"failing": Leaf(failing),
        b"nobytes": Leaf(lambda _: "text"),
        b"hosts": hosts,
        b"guarded": guarded(Leaf(secret)),
        b"wsgi": WSGIResource(reactor, threads, application),
        b"deferred": Deferring(),
        b"gzip": EncodingResourceWrapper(static.Data(b"squeeze" * 500, "text/plain"), [GzipEncoderFactory()]),
        b"forbidden": pages.forbidden(),
        b"monster": VHostMonsterResource(),
        b"rewritten": rewritten,
    }
    for name, resource in tree.items():
        root.putChild(name, resource)
    return root
