"""
The way to a resource when only the head is here: guards, lookups that take their time, and what needs the body after all.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.util import DeferredResource
from zope.interface import implementer
from zope.interface.verify import verifyClass

from tests.net.peers import turn, until
from twistproxy.interfaces import IBodyConsumer
from twistproxy.web.collecting import Collector
from twistproxy.web.streaming import IHeadTraversal, IStreamingResource

Mount = Callable[..., Any]

SECRET = "Authorization: Basic " + b64encode(b"alice:secret").decode()
WRONG = "Authorization: Basic " + b64encode(b"alice:guess").decode()
FORM = "Content-Type: application/x-www-form-urlencoded"


@implementer(IRealm)
class Realm:
    """
    Everybody's resource is the same.

    @ivar waiting: if it is a list, logins wait there until the test fires them.
    """

    def __init__(self, avatar: Any, waiting: list[Deferred[Any]] | None = None) -> None:
        self.avatar = avatar
        self.waiting = waiting
        self.logouts = 0

    def requestAvatar(self, avatarID: Any, mind: Any, *interfaces: Any) -> Any:
        found = IResource, self.avatar, self.logout
        if self.waiting is None:
            return succeed(found)
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting.addCallback(lambda _: found)

    def logout(self) -> None:
        self.logouts += 1


class Guard:
    """Makes the tree of a test: a guard before what C{behind} makes of the proxy."""

    def __init__(self, behind: Any = None, factory: Any = None, waiting: Any = None, at: bytes | None = None) -> None:
        self._behind = behind or (lambda leaf: leaf)
        self._factory = factory or BasicCredentialFactory("realm")
        self._waiting = waiting
        self._at = at

    def __call__(self, leaf: Any) -> Any:
        self.realm = Realm(self._behind(leaf), self._waiting)
        portal = Portal(self.realm, [InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")])
        guard = HTTPAuthSessionWrapper(portal, [self._factory])
        if self._at is None:
            return guard
        root = Resource()
        root.putChild(self._at, guard)
        return root


class Form(Resource):
    """A resource that wants the whole body."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        said: bytes = b"%b %b %r" % (request.args[b"k"][0], request.content.read(), request.postpath)
        return said


class Deciding(Resource):
    """
    A C{getChild} that reads the form.

    @ivar asked: what it has seen.
    """

    def __init__(self, leaf: Any) -> None:
        super().__init__()
        self.leaf = leaf
        self.asked: list[Any] = []

    def getChild(self, path: bytes, request: Any) -> Any:
        self.asked.append((path, request.args.get(b"k")))
        return self.leaf


async def streamsThrough(mounted: Any, target: str, fields: tuple[str, ...], upstreamTarget: bytes) -> None:
    """Assert that the first half of a body is upstream before the second is sent."""
    client = mounted.client()
    await client.ask("POST", target, (*fields, "Content-Length: 6"))
    await client.send(b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.head()).split(b" ")[1] == upstreamTarget
    assert await connection.exactly(3) == b"abc"
    await client.send(b"def")
    assert await connection.exactly(3) == b"def"
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"
    connection.close()


@pytest.mark.parametrize(("at", "target", "seen"), [(None, "/x", b"/x"), (b"in", "/in/x", b"/x"), (b"in", "/in", b"/")])
@pytest_twisted.ensureDeferred
async def test_guardStreams(mount: Mount, at: bytes | None, target: str, seen: bytes) -> None:
    """B4: a guard of C{twisted.web} reads nothing but the head, so bodies stream behind it; the session ends with the
    request."""
    tree = Guard(at=at)
    mounted = mount(tree, streaming=True)
    await streamsThrough(mounted, target, (SECRET,), seen)
    assert tree.realm.logouts == 1


@pytest_twisted.ensureDeferred
async def test_guardRefusesAtTheHead(mount: Mount) -> None:
    """Who has not the password hears so before he has sent his body, and the connection stays usable."""
    mounted = mount(Guard(), streaming=True)
    client = mounted.client()
    for field in (WRONG, "X: y"):
        await client.ask("POST", "/x", (field, "Content-Length: 6"))
        response = await client.response()
        assert (response.status, response[b"www-authenticate"]) == (401, b'basic realm="realm"')
        await client.send(b"abcdef")
    assert mounted.records == []
    await client.ask("POST", "/x", (SECRET,), b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abc"
    await connection.answer()
    assert (await client.response()).status == 200


@pytest.mark.parametrize("expect", [False, True])
@pytest_twisted.ensureDeferred
async def test_formBehindAGuard(mount: Mount, expect: bool) -> None:
    """A stock resource behind a guard gets its form, its content and its 100, as ever."""

    def behind(leaf: Any) -> Any:
        root = Resource()
        root.putChild(b"form", Form())
        return root

    tree = Guard(behind)
    mounted = mount(tree, streaming=True)
    client = mounted.client()
    for _ in range(2):
        fields = (SECRET, FORM, "Content-Length: 3") + (("Expect: 100-continue",) if expect else ())
        await client.ask("POST", "/form/x", fields)
        if expect:
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        else:
            await turn()
        await client.send(b"k=v")
        response = await client.response()
        assert (response.status, response.body) == (200, b"v k=v [b'x']")
    assert tree.realm.logouts == 2
    assert mounted.records == []


@pytest_twisted.ensureDeferred
async def test_unknownStepBehindAGuard(mount: Mount) -> None:
    """A C{getChild} behind a guard that may read the form is asked once, when the form is here."""
    deciding: list[Deciding] = []

    def behind(leaf: Any) -> Any:
        deciding.append(Deciding(leaf))
        return deciding[0]

    mounted = mount(Guard(behind), streaming=True)
    client = mounted.client()
    await client.ask("POST", "/x/y", (SECRET, FORM), b"k=v")
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked.target, asked.body, asked[b"x-forwarded-prefix"]) == (b"/y", b"k=v", b"/x")
    await connection.answer()
    assert (await client.response()).status == 200
    assert deciding[0].asked == [(b"x", [b"v"])]


@pytest_twisted.ensureDeferred
async def test_credentialsOverTheBody(mount: Mount) -> None:
    """A guard whose credentials may be made from the body is asked when that is here."""
    seen: list[bytes] = []

    class Signed(BasicCredentialFactory):
        """Looks at the body."""

        def decode(self, response: Any, request: Any) -> Any:
            seen.append(request.content.read())
            request.content.seek(0)
            return super().decode(response, request)

    mounted = mount(Guard(factory=Signed("realm")), streaming=True)
    client = mounted.client()
    await client.ask("POST", "/x", (SECRET,), b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abc"
    await connection.answer()
    assert (await client.response()).status == 200
    assert seen == [b"abc"]


@pytest.mark.parametrize("streaming", [False, True], ids=["stock", "streaming"])
@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
@pytest_twisted.ensureDeferred
async def test_slowLogin(mount: Mount, streaming: bool, leaves: bool) -> None:
    """A login may take its time, and the client may be gone when it is done: then nothing goes upstream."""
    waiting: list[Deferred[Any]] = []
    mounted = mount(Guard(waiting=waiting), streaming=streaming)
    client = mounted.client()
    await client.ask("POST", "/x", (SECRET,), b"abc")
    await until(lambda: waiting, "a login")
    if leaves:
        client.close()
        await until(lambda: not mounted.channel.transport.connected, "the end of the connection")
        waiting[0].callback(None)
        assert (mounted.origin.pending(), mounted.records, len(mounted.resource.exchanges)) == ([], [], 0)
    else:
        waiting[0].callback(None)
        connection = await mounted.origin.acceptRequest()
        assert (await connection.request()).body == b"abc"
        await connection.answer(b"ok")
        assert (await client.response()).body == b"ok"


@implementer(IHeadTraversal)
class LookedUp(Resource):
    """
    Finds its children in a database.

    @ivar asked: how often.
    """

    def __init__(self, leaf: Any, error: Exception | None = None) -> None:
        super().__init__()
        self.leaf = leaf
        self.error = error
        self.asked = 0

    def getChild(self, path: bytes, request: Any) -> Any:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        def found() -> Any:
            if self.error is not None:
                raise self.error
            return self.leaf

        self.asked += 1
        return DeferredResource(deferLater(reactor, 0, found))  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_lookedUp(mount: Mount) -> None:
    """A C{getChild} that answers later, by the head alone, can say so, and bodies stream to what it finds."""
    mounted = mount(LookedUp, streaming=True)
    await streamsThrough(mounted, "/one/x", (), b"/x")
    assert mounted.site.resource.asked == 2


@pytest_twisted.ensureDeferred
async def test_lookUpFails(mount: Mount, loggedErrors: list[Any]) -> None:
    """A look-up that fails is a 500 and one entry in the log, not two."""
    mounted = mount(lambda leaf: LookedUp(leaf, ValueError("no database")), streaming=True)
    client = mounted.client()
    await client.ask("POST", "/one/x", (), b"abc")
    assert (await client.response()).status == 500
    await turn()
    assert [event["log_failure"].value.args for event in loggedErrors] == [("no database",)]
    loggedErrors.clear()


@pytest_twisted.ensureDeferred
async def test_lookUpFailsBehindTheClient(mount: Mount, loggedErrors: list[Any]) -> None:
    """A look-up that fails when its client has left is logged once, and nothing else fails for it."""
    failing: list[Deferred[Any]] = []

    @implementer(IHeadTraversal)
    class Slow(Resource):
        """Looks up for ever."""

        def getChild(self, path: bytes, request: Any) -> Any:
            failing.append(Deferred())
            return DeferredResource(failing[-1])

    mounted = mount(lambda leaf: Slow(), streaming=True)
    client = mounted.client()
    await client.ask("POST", "/one/x", (), b"abc")
    await until(lambda: len(failing) == 2, "the look-ups")
    client.close()
    await until(lambda: not mounted.channel.transport.connected, "the end of the connection")
    for deferred in failing:
        deferred.errback(ValueError("no database"))
    assert [event["log_failure"].value.args for event in loggedErrors] == [("no database",)]
    loggedErrors.clear()


@implementer(IStreamingResource)
class Choosing(Resource):
    """Renders at the head, and then reads the body after all, as a route of a framework may."""

    isLeaf = True

    def render_POST(self, request: Any) -> Any:
        def collected(request: Any) -> None:
            request.write(b"%r %b" % (request.args[b"k"], request.content.read()))
            request.finish()

        request.collectBody().addCallback(collected)
        return NOT_DONE_YET


@pytest_twisted.ensureDeferred
async def test_collectBody(mount: Mount) -> None:
    """Who was rendered at the head can still have the whole body, form and all."""
    mounted = mount(lambda leaf: Choosing(), streaming=True)
    client = mounted.client()
    for ending in (b"", b"w"):
        await client.ask("POST", "/", (FORM, f"Content-Length: {3 + len(ending)}"))
        await turn()
        await client.send(b"k=v" + ending)
        assert (await client.response()).body == b"[b'v%b'] k=v%b" % (ending, ending)


@pytest_twisted.ensureDeferred
async def test_clientLeavesWhileItIsCollected(mount: Mount) -> None:
    """A client that leaves in the middle of a body that is collected late leaves nothing behind."""
    mounted = mount(lambda leaf: Choosing(), streaming=True)
    client = mounted.client()
    await client.ask("POST", "/", (FORM, "Content-Length: 6"))
    await client.send(b"k=v")
    await until(lambda: [each for each in mounted.site.channels if each._channel.requests], "a request")
    client.close()
    await until(lambda: not mounted.channel.transport.connected, "the end of the connection")


def test_interfaces() -> None:
    """The collector is a consumer of bodies."""
    verifyClass(IBodyConsumer, Collector)
