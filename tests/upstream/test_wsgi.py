"""
WSGI applications as upstreams, without a socket.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.python.threadpool import ThreadPool

from tests.net.peers import turn, until
from twistproxy.targets import WSGITarget


def echo(environ: dict[str, Any], startResponse: Any) -> list[bytes]:
    """Says what it was asked."""
    body = environ["wsgi.input"].read()
    startResponse("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']} {len(body)}".encode()]


def test_target() -> None:
    """A target has a name for the log; what cannot be called is refused at once."""
    assert WSGITarget(echo).name == "wsgi:echo"
    with pytest.raises(TypeError, match="is no WSGI application"):
        WSGITarget("app")  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_requests(front: Any) -> None:
    """An application gets path, query and body; threads end with the target, and are not waited for twice."""
    target = WSGITarget(echo)
    served = front(target)
    assert (await served.ask("POST", "/a%20b?c=d", (), bytes(200_000))).body == b"POST /a b?c=d 200000"
    assert (await served.ask("HEAD")).body == b""
    await target.close()
    await target.close()
    assert [thread.name for thread in threading.enumerate() if "wsgi echo" in thread.name] == []
    assert (await served.ask()).status == 503


@pytest_twisted.ensureDeferred
async def test_givenThreads(front: Any) -> None:
    """A thread pool that was given is left alone."""
    threads = ThreadPool(0, 1)
    threads.start()
    try:
        target = WSGITarget(echo, threadPool=threads)
        assert (await front(target).ask()).status == 200
        await target.close()
        assert threads.started
    finally:
        threads.stop()


@pytest_twisted.ensureDeferred
async def test_httpoxy(front: Any) -> None:
    """A client's C{Proxy} field must not become the C{HTTP_PROXY} by which an application finds its way out."""

    def outwards(environ: dict[str, Any], startResponse: Any) -> list[bytes]:
        startResponse("200 OK", [])
        return [repr((environ.get("HTTP_PROXY"), environ.get("HTTP_PROXY_STATUS"))).encode()]

    target = WSGITarget(outwards)
    response = await front(target).ask("GET", "/", ("Proxy: http://evil.test", "proxy: evil", "Proxy-Status: ok"))
    assert response.body == b"(None, 'ok')"
    await target.close()


class Endless:
    """
    An application that never ends by itself.

    @ivar yielded: how many pieces of 64 KiB it has given.
    @ivar closed: whether it was told that it is over.
    """

    def __init__(self, imperative: bool = False) -> None:
        self.yielded = 0
        self.closed = threading.Event()
        self._imperative = imperative

    def __call__(self, environ: dict[str, Any], startResponse: Any) -> Iterator[bytes]:
        write = startResponse("200 OK", [])
        try:
            while not self.closed.is_set():
                self.yielded += 1
                if self._imperative:
                    write(bytes(65536))
                else:
                    yield bytes(65536)
        finally:
            self.closed.set()


async def stalled(application: Endless) -> int:
    """@return: how much it has given when it gives no more."""
    quiet, before = 0, -1
    while quiet < 100:
        quiet = quiet + 1 if application.yielded == before else 0
        before = application.yielded
        await turn(0.002)
    return application.yielded


@pytest.mark.parametrize("imperative", [False, True])
@pytest_twisted.ensureDeferred
async def test_slowReader(front: Any, imperative: bool) -> None:
    """B4.2, B7.1: a client that does not read stops the application's thread; when it leaves, the application ends."""
    application = Endless(imperative)
    served = front(WSGITarget(application))
    client = served.client(receiveBuffer=4096)
    await client.ask()
    given = await stalled(application)
    assert 0 < given < 200
    await client.exactly(given * 65536)
    await until(lambda: application.yielded > given, "that it goes on")
    client.close()
    if imperative:
        # nobody but itself can end a call that never returns; but it is not stopped any more
        before = application.yielded
        await until(lambda: application.yielded > before + 10, "that it runs free")
        application.closed.set()
    await until(application.closed.is_set, "its end")


@pytest_twisted.ensureDeferred
async def test_line(front: Any) -> None:
    """Only so many requests wait for a thread; the next one gets 503."""
    go = threading.Event()

    def slow(environ: dict[str, Any], startResponse: Any) -> list[bytes]:
        go.wait()
        return echo(environ, startResponse)

    served = front(WSGITarget(slow, threads=1, maxWaiting=1))
    clients = [served.client() for _ in range(2)]
    for number, client in enumerate(clients):
        await client.ask("GET", f"/{number}")
    await until(lambda: served.connections == 2, "both")
    assert (await served.ask()).status == 503
    go.set()
    assert [(await client.response()).body for client in clients] == [b"GET /0? 0", b"GET /1? 0"]


@pytest_twisted.ensureDeferred
async def test_leavesTheLine(front: Any) -> None:
    """B7.1: the application is not called for a client that has left while it waited for a thread."""
    go = threading.Event()
    asked: list[str] = []

    def slow(environ: dict[str, Any], startResponse: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        go.wait()
        return echo(environ, startResponse)

    target = WSGITarget(slow, threads=1)
    served = front(target)
    first, second = served.client(), served.client()
    await first.ask("GET", "/first")
    await until(lambda: asked, "the first")
    await second.ask("GET", "/second")
    await until(lambda: served.connections == 2, "the second")
    second.close()
    await served.settled()
    go.set()
    assert (await first.response()).status == 200
    await target.close()
    assert asked == ["/first"]


@pytest_twisted.ensureDeferred
async def test_close(front: Any) -> None:
    """B10.2: closing lets requests end for as long as the grace lasts, and then cuts them."""
    application = Endless()
    target = WSGITarget(application, grace=0.1)
    served = front(target)
    client = served.client()
    await client.ask()
    await client.head()
    closing = target.close()
    assert not application.closed.is_set()
    await closing
    assert application.closed.is_set()
    assert (await served.settled()).error.side.value == "upstream"


@pytest_twisted.ensureDeferred
async def test_failures(front: Any, loggedErrors: list[Any]) -> None:
    """An application that raises gives 500, or breaks off what it has begun."""

    def broken(environ: dict[str, Any], startResponse: Any) -> Iterator[bytes]:
        startResponse("200 OK", [])
        if environ["PATH_INFO"] == "/late":
            yield b"beginning"
        raise ZeroDivisionError

    served = front(WSGITarget(broken))
    assert (await served.ask()).status == 500
    client = served.client()
    await client.ask("GET", "/late")
    await client.upTo(b"beginning")
    await client.ending()
    assert (await served.settled(2)).error.stage.value == "body"
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError] * 2
    loggedErrors.clear()
