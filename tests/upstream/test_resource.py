"""
Resources of twisted.web as upstreams, without a socket.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import Data, File

from tests.net.peers import until
from tests.upstream.conftest import Flood, Stream
from twistproxy import TargetDirector, Timeouts
from twistproxy.errors import ClientLeft
from twistproxy.targets import ResourceTarget, targetOf
from twistproxy.testing import MemoryNetwork, MemoryProxy


class Echo(Resource):
    """Says what it was asked."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        request.setHeader(b"x-host", request.getHeader(b"host"))
        return b"%b %b %b" % (request.method, request.uri, hashlib.sha256(request.content.read()).hexdigest().encode())


def said(method: str, uri: str, body: bytes = b"") -> bytes:
    """@return: what L{Echo} says."""
    return f"{method} {uri} {hashlib.sha256(body).hexdigest()}".encode()


def test_target() -> None:
    """Any resource is a target; what is none is refused at once."""
    root = Echo()
    target = targetOf(root)
    assert isinstance(target, ResourceTarget)
    assert (target.name, target.authority) == ("resource:Echo", b"localhost")
    with pytest.raises(TypeError, match="is no IResource"):
        ResourceTarget(Echo)


@pytest_twisted.ensureDeferred
async def test_requests(front: Any) -> None:
    """A resource gets method, path, Host and body, over one kept connection, and HEAD has no body."""
    served = front(ResourceTarget(Echo(), host="app.test", path=b"/base"))
    body = bytes(300_000)
    for _ in range(2):
        answer = await served.ask("PUT", "/x?y=1", (), body)
        assert (answer.status, answer.body, answer[b"x-host"]) == (200, said("PUT", "/base/x?y=1", body), b"app.test")
    head = await served.ask("HEAD")
    assert (head.status, head.body, head[b"content-length"]) == (200, b"", b"%d" % len(said("HEAD", "/base/")))
    assert served.connections == 1
    assert [record.reused for record in served.records] == [False, True, True]


@pytest_twisted.ensureDeferred
async def test_tree(front: Any, tmp_path: Path) -> None:
    """Children, ranges of files, redirects and 404 are those of the tree."""
    (tmp_path / "file").write_bytes(bytes(range(256)))
    root = Resource()
    root.putChild(b"files", File(str(tmp_path)))
    root.putChild(b"data", Data(b"here", "text/plain"))
    served = front(root)
    assert (await served.ask("GET", "/data")).body == b"here"
    part = await served.ask("GET", "/files/file", ("Range: bytes=10-12",))
    assert (part.status, part.body) == (206, bytes([10, 11, 12]))
    moved = await served.ask("GET", "/files")
    assert (moved.status, moved[b"location"]) == (302, b"/files/")
    assert (await served.ask("GET", "/nothing")).status == 404


@pytest.mark.parametrize("chunked", [False, True])
@pytest_twisted.ensureDeferred
async def test_tooLarge(front: Any, chunked: bool) -> None:
    """B4.6: a body over the bound gets 413, and the resource never sees a part of it."""
    page = Stream()
    served = front(ResourceTarget(page, maxBody=1000))
    client = served.client()
    if chunked:
        await client.ask("POST", "/", ("Transfer-Encoding: chunked",))
        await client.send(b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n")
    else:
        await client.ask("POST", "/", (), bytes(1001))
    assert (await client.response()).status == 413
    assert page.requests == []
    unbounded = front(ResourceTarget(Echo(), maxBody=None))
    assert (await unbounded.ask("POST", "/", (), bytes(1001))).body == said("POST", "/", bytes(1001))


@pytest_twisted.ensureDeferred
async def test_clientLeaves(front: Any) -> None:
    """B7.1: the resource hears at once that its client has left."""
    page = Stream()
    served = front(page)
    client = served.client()
    await client.ask()
    await until(lambda: page.requests, "the request")
    left: Deferred[Any] = page.requests[0].notifyFinish()
    client.close()
    failures: list[Any] = []
    left.addErrback(failures.append)
    await until(lambda: failures, "the news")
    assert failures[0].check(ConnectionLost)
    assert isinstance((await served.settled()).error, ClientLeft)


@pytest_twisted.ensureDeferred
async def test_slowReader(front: Any) -> None:
    """B4.2: a client that does not read stops the resource's producer, which goes on with it."""
    page = Stream()
    served = front(page)
    client = served.client(receiveBuffer=4096)
    await client.ask()
    await until(lambda: page.requests, "the request")
    flood = Flood(page.requests[0], 400)
    await flood.stalled()
    assert flood.left > 0
    answer = await client.response()
    assert (answer.body == bytes(400 * 65536), flood.left) == (True, 0)


@pytest_twisted.ensureDeferred
async def test_timeout(front: Any) -> None:
    """B9: a resource that does not answer runs into the limit, as any upstream."""
    page = Stream()
    served = front(page, timeouts=Timeouts(responseHead=0.2))
    assert (await served.ask()).status == 504
    await until(lambda: page.requests[0].channel is None, "that it was told")


class Broken(Resource):
    """Fails."""

    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        raise ZeroDivisionError("broken")

    def render_POST(self, request: Any) -> Any:
        request.setHeader(b"content-length", b"100")
        request.write(b"beginning")
        request.loseConnection()
        return NOT_DONE_YET


@pytest_twisted.ensureDeferred
async def test_failures(front: Any, loggedErrors: list[Any]) -> None:
    """A resource that raises gives 500, one that breaks off in the middle a response that nobody takes for complete."""
    served = front(Broken())
    assert (await served.ask()).status == 500
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()
    client = served.client()
    await client.ask("POST", "/", (), b"")
    await client.upTo(b"beginning")
    await client.ending()
    error = (await served.settled(2)).error
    assert (error.stage.value, error.side.value, error.sent.value) == ("body", "upstream", "all")


def test_underAClock() -> None:
    """In a test in memory, a resource is one more upstream: it gets the clock for its reactor."""
    network = MemoryNetwork()
    page = Stream()
    target = ResourceTarget(page, reactor=network.clock)
    with MemoryProxy(TargetDirector(target), network=network, timeouts=Timeouts(responseHead=30)) as proxy:
        client = proxy.client()
        client.request()
        proxy.advance(0.1)
        page.requests[0].write(b"hello")
        page.requests[0].finish()
        proxy.advance(0.1)
        assert client.response.body == b"hello"
        client.request()
        proxy.advance(31)
        assert client.response.status == 504
        assert page.requests[1].channel is None
