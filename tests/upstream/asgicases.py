"""
ASGI applications as upstreams, under the asyncio reactor; C{test_asgi.py} runs this file in a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import h11
import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from tests.net.peers import turn, until
from twistproxy import Timeouts
from twistproxy.errors import ClientLeft
from twistproxy.interfaces import IResponder
from twistproxy.targets import ASGITarget


class App:
    """
    An application the test plays.

    @ivar scopes: of its requests.
    @ivar life: what it was told in its lifespan, and what it answered.
    @ivar outcomes: how its calls ended.
    """

    def __init__(self, serve: Callable[..., Any]) -> None:
        self._serve = serve
        self.scopes: list[dict[str, Any]] = []
        self.life: list[str] = []
        self.outcomes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = "yes"
            while True:
                message = await receive()
                self.life.append(message["type"])
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.scopes.append(scope)
        try:
            await self._serve(scope, receive, send)
        except BaseException as error:
            self.outcomes.append(type(error).__name__)
            raise
        self.outcomes.append("returned")


async def begin(send: Any, status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> None:
    """Send the head."""
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def piece(send: Any, body: bytes, more: bool = False) -> None:
    """Send a piece of the body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def digest(scope: Any, receive: Any, send: Any) -> None:
    """Says what the body was."""
    assert scope["type"] == "http"
    body = hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the client has left")
        body.update(message["body"])
        if not message["more_body"]:
            break
    await begin(send, 200, (b"Content-Type", b"text/plain"))
    await piece(send, body.hexdigest().encode())


def test_interface() -> None:
    """The application is a responder."""
    assert verifyObject(IResponder, ASGITarget(digest).endpoint.application)


@pytest_twisted.ensureDeferred
async def test_scope(front: Any) -> None:
    """The scope tells of the request as the client made it, and of the client, whom the proxy knows."""
    app = App(digest)
    served = front(ASGITarget(app, rootPath="/root dir", path=b"/base"))
    answer = await served.ask("GET", "/a%20b?c=%20d", ("X-Two: 1", "X-Two: 2", "X-Forwarded-For: 6.6.6.6"))
    assert (answer.status, answer[b"content-type"]) == (200, b"text/plain")
    [scope] = app.scopes
    found = {name: scope[name] for name in ("type", "method", "scheme", "path", "raw_path", "query_string")}
    assert found == {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/root dir/base/a b",
        "raw_path": b"/root%20dir/base/a%20b",
        "query_string": b"c=%20d",
    }
    assert (scope["root_path"], scope["http_version"], scope["client"]) == ("/root dir", "1.1", ("127.0.0.1", 0))
    assert scope["state"] == {"shared": "yes"}
    names = [name for name, _ in scope["headers"]]
    assert all(name == name.lower() for name in names)
    assert [value for name, value in scope["headers"] if name == b"x-two"] == [b"1", b"2"]
    assert dict(scope["headers"])[b"host"] == b"localhost"


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
@pytest_twisted.ensureDeferred
async def test_upload(front: Any, size: int) -> None:
    """B4.1: bodies of all sizes arrive, over one connection, with its length or in chunks."""
    served = front(ASGITarget(digest))
    body = hashlib.shake_128(b"asgi").digest(size)
    client = served.client()
    await client.ask("PUT", "/", (), body)
    assert (await client.response()).body == hashlib.sha256(body).hexdigest().encode()
    await client.ask("PUT", "/", ("Transfer-Encoding: chunked",))
    await client.send((b"%x\r\n%b\r\n" % (size, body) if size else b"") + b"0\r\n\r\n")
    assert (await client.response()).body == hashlib.sha256(body).hexdigest().encode()
    assert served.connections == 1


@pytest_twisted.ensureDeferred
async def test_slowApplication(front: Any) -> None:
    """B4.2: an application that does not receive stops the client; what is held of its upload is bounded."""
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await digest(scope, receive, send)

    app = App(slow)
    served = front(ASGITarget(app))
    client = served.client()
    size = 200_000_000
    await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    sent, quiet, block = 0, 0, bytes(65536)
    while quiet < 50:
        try:
            sent += client.socket.send(block)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await turn(0.002)
    assert (len(app.scopes), sent < 30_000_000) == (1, True)
    go.set()
    client.close()
    assert isinstance((await served.settled()).error, ClientLeft)
    await until(lambda: app.outcomes == ["ConnectionError"], "the application's end")
    assert any("failed after its client had left: ConnectionError" in line for line in served.said)


@pytest_twisted.ensureDeferred
async def test_slowReader(front: Any) -> None:
    """B4.2: a client that does not read stops the application in C{send}, which goes on with it."""
    sent = 0

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await begin(send)
        for _ in range(400):
            await piece(send, bytes(65536), True)
            sent += 1
        await piece(send, b"")

    served = front(ASGITarget(App(flood)))
    client = served.client(receiveBuffer=4096)
    await client.ask()
    await until(lambda: sent, "the first piece")
    before = -1
    while before != sent:
        before = sent
        await turn(0.1)
    assert 0 < sent < 200
    assert (await client.response()).body == bytes(400 * 65536)


@pytest_twisted.ensureDeferred
async def test_clientLeaves(front: Any) -> None:
    """B7.1: an application whose client leaves is told C{http.disconnect}, and cannot send any more."""
    told: list[Any] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await begin(send)
        await piece(send, b"beginning", True)
        told.append(await receive())
        await piece(send, b"more", True)

    app = App(waiting)
    served = front(ASGITarget(app))
    client = served.client()
    await client.ask()
    await client.upTo(b"beginning")
    client.close()
    await until(lambda: app.outcomes, "the application's end")
    assert (told, app.outcomes) == ([{"type": "http.disconnect"}], ["ClientDisconnected"])
    assert isinstance((await served.settled()).error, ClientLeft)


@pytest_twisted.ensureDeferred
async def test_cancelled(front: Any) -> None:
    """B7.1: one that does not listen is cancelled."""

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    app = App(deaf)
    served = front(ASGITarget(app, linger=0.05))
    client = served.client()
    await client.ask()
    await until(lambda: app.scopes, "the call")
    client.close()
    await until(lambda: app.outcomes, "the application's end")
    assert app.outcomes == ["CancelledError"]


@pytest_twisted.ensureDeferred
async def test_background(front: Any) -> None:
    """An application may go on behind its response; whoever listens hears that there is nobody."""
    go = asyncio.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await digest(scope, receive, send)
        assert await receive() == {"type": "http.disconnect"}
        await go.wait()

    app = App(busy)
    served = front(ASGITarget(app, linger=0))
    assert (await served.ask()).status == 200
    assert (await served.ask()).status == 200
    await turn(0.02)
    assert app.outcomes == []
    go.set()
    await until(lambda: app.outcomes == ["returned", "returned"], "their end")


@pytest_twisted.ensureDeferred
async def test_timeout(front: Any) -> None:
    """B9: an application that does not answer runs into the limit, as any upstream."""

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert await receive() == {"type": "http.disconnect"}

    app = App(deaf)
    served = front(ASGITarget(app), timeouts=Timeouts(responseHead=0.2))
    assert (await served.ask()).status == 504
    await until(lambda: app.outcomes == ["returned"], "that it was told")


@pytest_twisted.ensureDeferred
async def test_streaming(front: Any) -> None:
    """B4.4: head and pieces come as they are sent, with a length or in chunks, and trailers behind them."""
    step = asyncio.Event()

    async def steps(scope: Any, receive: Any, send: Any) -> None:
        sized = ((b"content-length", b"6"),) if scope["path"] == "/sized" else ()
        trailers = scope["path"] == "/trailers"
        await begin(send, 200, *sized, trailers=trailers)
        await piece(send, b"one", True)
        await step.wait()
        await piece(send, b"two")
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]})

    served = front(ASGITarget(steps))
    for target, length in (("/sized", b"6"), ("/chunked", None), ("/trailers", None)):
        step.clear()
        client = served.client()
        await client.ask("GET", target, ("TE: trailers", "Connection: TE"))
        early = await client.upTo(b"one")
        step.set()
        client.buffer = early + client.buffer
        answer = await client.response()
        assert (answer.body, answer[b"content-length"]) == (b"onetwo", length)
        assert answer.trailers == ([(b"x-sum", b"6")] if target == "/trailers" else [])


@pytest.mark.parametrize("pieces", [1, 3])
@pytest_twisted.ensureDeferred
async def test_bodiless(front: Any, pieces: int) -> None:
    """B5.3: HEAD and 304 have no body, however much of one the application sends."""

    async def full(scope: Any, receive: Any, send: Any) -> None:
        status = int(scope["path"][1:])
        await begin(send, status, (b"content-length", b"30"))
        for number in range(pieces):
            await piece(send, bytes(30 // pieces), number < pieces - 1)

    app = App(full)
    served = front(ASGITarget(app))
    client = served.client()
    for method, status in (("HEAD", 200), ("GET", 304), ("GET", 200)):
        await client.ask(method, f"/{status}")
        answer = await client.response(method)
        assert (answer.status, answer[b"content-length"]) == (status, b"30")
        assert len(answer.body) == (30 if (method, status) == ("GET", 200) else 0)
    await until(lambda: app.outcomes == ["returned"] * 3, "their end")


@pytest_twisted.ensureDeferred
async def test_continue(front: Any) -> None:
    """B5.6: C{100 Continue} is sent when the application asks for the body, and early hints when it gives them."""

    async def hinting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await digest(scope, receive, send)

    served = front(ASGITarget(hinting))
    client = served.client()
    await client.ask("PUT", "/", ("Expect: 100-continue", "Content-Length: 4"))
    await client.upTo(b"HTTP/1.1 103 Early Hints\r\n")
    assert b"Link: </style.css>; rel=preload\r\n" in await client.head()
    await client.upTo(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.send(b"body")
    assert (await client.response()).body == hashlib.sha256(b"body").hexdigest().encode()


@pytest_twisted.ensureDeferred
async def test_webSocket(front: Any) -> None:
    """B6.1: WebSocket is refused clearly; it takes a target behind a socket."""
    served = front(ASGITarget(digest))
    fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    answer = await served.ask("GET", "/", fields)
    assert (answer.status, answer.body) == (501, b"501 no upgrade over ASGI targets\n")


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError


async def silent(scope: Any, receive: Any, send: Any) -> None:
    pass


async def disorder(scope: Any, receive: Any, send: Any) -> None:
    await piece(send, b"x")


async def interim(scope: Any, receive: Any, send: Any) -> None:
    await begin(send, 103)


async def injected(scope: Any, receive: Any, send: Any) -> None:
    await begin(send, 200, (b"x", b"a\r\nb: c"))
    await piece(send, b"x")


async def short(scope: Any, receive: Any, send: Any) -> None:
    await begin(send, 200, (b"content-length", b"2"))
    await piece(send, b"x")


@pytest.mark.parametrize("serve", [raising, silent, disorder, interim, injected, short])
@pytest_twisted.ensureDeferred
async def test_failsFirst(front: Any, loggedErrors: list[Any], serve: Any) -> None:
    """One that fails, or does not keep to the protocol, before its head is out: 500, and the log says why."""
    assert (await front(ASGITarget(serve, lifespan=False)).ask()).status == 500
    [event] = loggedErrors
    expected = "ZeroDivisionError" if serve is raising else "Misuse"
    assert event["log_failure"].type.__name__ == expected
    loggedErrors.clear()


@pytest.mark.parametrize("how", ["raise", "return", "short", "long"])
@pytest_twisted.ensureDeferred
async def test_failsLater(front: Any, loggedErrors: list[Any], how: str) -> None:
    """One that fails in the middle: a response that nobody takes for complete."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        sized = ((b"content-length", b"20"),) if how in ("short", "long") else ()
        await begin(send, 200, *sized)
        await piece(send, b"beginning", True)
        if how == "raise":
            raise ZeroDivisionError
        if how in ("short", "long"):
            await piece(send, b"x" if how == "short" else bytes(20))

    served = front(ASGITarget(broken, lifespan=False))
    client = served.client()
    await client.ask()
    with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
        await client.response()
    error = (await served.settled()).error
    assert (error.stage.value, error.side.value) == ("body", "upstream")
    assert len(loggedErrors) == (how in ("raise", "return"))
    assert (how in ("short", "long")) == any("was cut off: " in line for line in served.said)
    loggedErrors.clear()


# -- its life


@pytest_twisted.ensureDeferred
async def test_lifespan(front: Any) -> None:
    """It starts before the first request and once, ends with the target, and takes no request then."""
    app = App(digest)
    target = ASGITarget(app)
    served = front(target)
    assert app.life == []
    assert [(await served.ask()).status for _ in range(2)] == [200, 200]
    assert app.life == ["lifespan.startup"]
    await target.close()
    await target.close()
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]
    # over the kept connection, and over a new one
    assert (await served.ask()).status == 503
    await served.proxy.transport.pool.closeCachedConnections()
    assert (await served.ask()).status == 503


@pytest_twisted.ensureDeferred
async def test_requestsWaitForStart(front: Any) -> None:
    """Requests wait until it has started; who leaves meanwhile is not missed."""
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await go.wait()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await digest(scope, receive, send)

    served = front(ASGITarget(slow))
    clients = [served.client() for _ in range(3)]
    for client in clients:
        await client.ask()
    await until(lambda: served.connections == 3, "that they wait")
    clients[0].close()
    assert (await served.settled()).error.stage.value == "connect"
    go.set()
    assert [(await client.response()).status for client in clients[1:]] == [200, 200]


@pytest.mark.parametrize("late", [False, True])
@pytest_twisted.ensureDeferred
async def test_startFails(front: Any, loggedErrors: list[Any], late: bool) -> None:
    """One that does not start: 503, with its own words in the log, once."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if late:
            await asyncio.sleep(3600)
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    served = front(ASGITarget(failing, grace=0.1 if late else 30.0))
    assert [(await served.ask()).status for _ in range(2)] == [503, 503]
    error = served.records[0].error
    assert ("it has not started within 0.1 s" if late else "no database") in error.reason
    assert (error.stage.value, error.side.value, error.sent.value) == ("connect", "upstream", "nothing")
    assert len(loggedErrors) == 1
    loggedErrors.clear()


@pytest_twisted.ensureDeferred
async def test_noLifespan(front: Any) -> None:
    """One that knows nothing of lifespans, and raises, serves all the same."""

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await digest(scope, receive, send)

    served = front(ASGITarget(plain))
    assert (await served.ask()).status == 200
    assert any("takes no part in its lifespan" in line for line in served.said)


@pytest_twisted.ensureDeferred
async def test_closeWaits(front: Any) -> None:
    """B10.2: closing lets calls end for as long as the grace lasts, and then cancels them."""
    go = asyncio.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await begin(send)
        await piece(send, b"beginning", True)
        await go.wait()
        await piece(send, b"end")

    for grace, outcome in ((30.0, "returned"), (0.05, "CancelledError")):
        app = App(busy)
        target = ASGITarget(app, grace=grace)
        served = front(target)
        client = served.client()
        await client.ask()
        await client.upTo(b"beginning")
        closing = target.close()
        await turn(0.02)
        if outcome == "returned":
            assert app.life == ["lifespan.startup"]
            go.set()
            assert b"end" in await client.upTo(b"end")
        await closing
        go.clear()
        assert (app.outcomes, app.life[-1]) == ([outcome], "lifespan.shutdown")


@pytest_twisted.ensureDeferred
async def test_neverUsed() -> None:
    """A target that nobody ever used closes at once, and its application never starts."""
    app = App(digest)
    await ASGITarget(app).close()
    assert app.life == []
