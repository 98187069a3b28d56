"""
A proxy as a branch of a Klein application.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.web.resource import Resource
from zope.interface import alsoProvides

from tests.net.peers import until
from twistproxy.web.streaming import IStreamingResource

Klein = pytest.importorskip("klein", reason="klein is not installed").Klein

Mount = Callable[..., Any]


def application(leaf: Any) -> Any:
    """
    @return: the resource of an application that has the proxy at some of its routes.
    """
    app = Klein()

    @app.route("/")
    def home(request: Any) -> str:
        return "at home"

    @app.route("/api/", branch=True)
    def api(request: Any) -> Any:
        return leaf

    @app.route("/teams/<team>/wiki/", branch=True)
    async def wiki(request: Any, team: str) -> Any:
        return leaf

    @app.route("/one")
    def one(request: Any) -> Any:
        return leaf

    @app.route("/echo", methods=["POST"])
    def echo(request: Any) -> Any:
        return request.content.read()

    return app.resource()


def below(leaf: Any) -> Any:
    """
    @return: the same below a path of its own.
    """
    root = Resource()
    root.putChild(b"klein", application(leaf))
    return root


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    """Which request class the site has."""
    chosen: bool = request.param
    return chosen


@pytest.mark.parametrize(
    ("asked", "upstream", "prefix"),
    [
        ("/api/", b"/", b"/api"),
        ("/api/x/y?z", b"/x/y?z", b"/api"),
        ("/api/x%2Fy/", b"/x%2Fy/", b"/api"),
        ("/%61pi/x", b"/x", b"/%61pi"),
        ("/api/x//y", b"/x//y", b"/api"),
        ("/teams/a%20b/wiki/page", b"/page", b"/teams/a%20b/wiki"),
        ("/one", b"/", b"/one"),
    ],
)
@pytest.mark.parametrize("mounted", [application, below])
@pytest_twisted.ensureDeferred
async def test_prefix(
    mount: Mount, streaming: bool, mounted: Any, asked: str, upstream: bytes, prefix: bytes
) -> None:
    """What led to the route is stripped and told, and what the upstream says of itself mapped back below it."""
    at = b"/klein" if mounted is below else b""
    site = mount(mounted, streaming)
    client = site.client()
    await client.ask("GET", at.decode() + asked, ("X-Forwarded-Prefix: /evil",))
    connection = await site.origin.acceptRequest()
    request = await connection.request()
    told = [value for name, value in request.fields if name == b"x-forwarded-prefix"]
    assert (request.target, told) == (upstream, [at + prefix])
    await connection.answer(
        status="302 Found", fields=(f"Location: {site.origin.target}/login", "Set-Cookie: a=b; Path=/c")
    )
    response = await client.response()
    assert (response.status, response[b"location"], response[b"set-cookie"]) == (
        302,
        at + prefix + b"/login",
        b"a=b; Path=" + at + prefix + b"/c",
    )


@pytest_twisted.ensureDeferred
async def test_besideRoutes(mount: Mount, streaming: bool) -> None:
    """The application's own routes are as they were, on the same connection."""
    mounted = mount(application, streaming)
    client = mounted.client()
    assert (await client.get()).body == b"at home"
    await client.ask("POST", "/echo", (), b"abc")
    assert (await client.response()).body == b"abc"
    assert (await client.get("/nowhere")).status == 404
    await client.ask("PUT", "/api/x", (), b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abc"
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"


@pytest_twisted.ensureDeferred
async def test_streams(mount: Mount) -> None:
    """B4: an application that is marked is rendered at the head, and bodies stream to its proxies."""

    def tree(leaf: Any) -> Any:
        resource = application(leaf)
        alsoProvides(resource, IStreamingResource)
        return resource

    mounted = mount(tree, streaming=True)
    client = mounted.client()
    await client.ask("POST", "/api/x", ("Content-Length: 6",))
    await client.send(b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.head()).startswith(b"POST /x ")
    assert await connection.exactly(3) == b"abc"
    await client.send(b"def")
    assert await connection.exactly(3) == b"def"
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"


@pytest_twisted.ensureDeferred
async def test_upgrade(mount: Mount, streaming: bool) -> None:
    """B6: an upgrade passes through the application."""
    mounted = mount(application, streaming)
    client = mounted.client()
    await client.ask("GET", "/api/ws", ("Connection: Upgrade", "Upgrade: echo"))
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).target == b"/ws"
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(5) == b"hello"
    await client.send(b"there")
    assert await connection.exactly(5) == b"there"
    client.close()
    await connection.ending()
    connection.close()
    await mounted.settled()


@pytest_twisted.ensureDeferred
async def test_clientLeaves(mount: Mount, streaming: bool) -> None:
    """B7.1: a client that leaves ends its upstream request, and Klein has nothing to complain of."""
    mounted = mount(application, streaming)
    client = mounted.client()
    await client.ask("GET", "/teams/a/wiki/x")
    connection = await mounted.origin.acceptRequest()
    await connection.request()
    client.close()
    assert await connection.ending() in ("closed", "reset")
    assert [record.status for record in await mounted.settled()] == [499]
    await until(lambda: not mounted.resource.exchanges)
