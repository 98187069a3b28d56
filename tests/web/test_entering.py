"""
What resources on the way to a proxy under a C{ProxySite} have to say to the client.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.logger import LogEvent
from twisted.web.resource import Resource

from tests.web.held import failed
from tests.web.trees import Leaf
from twistproxy import ProxyRequest, Response, ReverseProxy
from twistproxy.events import ExchangeRecord
from twistproxy.testing import MemoryNetwork, MemoryProxy
from twistproxy.web.resource import ReverseProxyResource

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Saying(Resource):
    """Tells the client something on the way to its only child."""

    def __init__(self, say: Callable[[Any], Any], child: Any) -> None:
        super().__init__()
        self.say, self.child = say, child

    def getChild(self, name: bytes, request: Any) -> Any:
        """The child."""
        self.say(request)
        return self.child

    def rendering(self, request: Any) -> Any:
        """The same for one that renders the child itself."""
        self.say(request)
        return self.child.render(request)


def ask(say: Callable[[Any], Any], path: str, response: Response) -> Any:
    """@return: what a client gets whose request is answered with C{response}, and what it is from then on."""
    root = Resource()
    with MemoryProxy(responder=root) as proxy:
        child = ReverseProxyResource(lambda exchange: exchange.answer(response), proxy.clock.seconds)
        saying = Saying(say, child)
        root.putChild(b"asked", saying)
        root.putChild(b"rendered", Leaf(saying.rendering))
        client = proxy.client()
        client.send(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert list(child.exchanges) == []
        for session in list(proxy.site.sessions.values()):
            session.expire()
        return client.response


@pytest.mark.parametrize("path", ["asked/x", "rendered"])
def test_saysMore(path: str) -> None:
    """Header fields and cookies of resources on the way reach the client, a new session's too, beside the upstream's."""

    def say(request: Any) -> None:
        request.setHeader(b"x-frame-options", b"deny")
        request.addCookie(b"seen", b"1")
        request.getSession()
        # these are for whoever answers to say, as under any other site
        request.setHeader(b"content-type", b"text/wrong")
        request.setHeader(b"content-length", b"99")
        request.setHeader(b"transfer-encoding", b"chunked")

    given = Response(201, {"Content-Type": "text/plain", "Set-Cookie": "theirs=2"}, b"made")
    response = ask(say, path, given)
    headers = response.headers
    assert (response.status, response.body, headers.getAll("X-Frame-Options")) == (201, b"made", [b"deny"])
    cookies = headers.getAll("Set-Cookie")
    assert [cookie.split(b"=")[0] for cookie in cookies] == [b"seen", b"TWISTED_SESSION", b"theirs"]
    assert (headers.getAll("Content-Type"), headers.getAll("Content-Length")) == ([b"text/plain"], [b"4"])
    assert headers.getAll("Transfer-Encoding") == []
    # it may be sent again, to somebody else
    assert given.headers.getAll("Set-Cookie") == [b"theirs=2"]


@pytest.mark.parametrize("path", ["asked/x", "rendered"])
def test_saysNonsense(path: str, loggedErrors: list[LogEvent]) -> None:
    """A field that cannot be sent is left out and logged; the answer is somebody else's, and goes its way."""

    def say(request: Any) -> None:
        request.responseHeaders.addRawHeader(b"x-bad", b"a\0b")
        request.setHeader(b"x-good", b"c")

    response = ask(say, path, Response(200, None, b"fine"))
    assert (response.body, response.headers.getAll("X-Bad"), response.headers.getAll("X-Good")) == (b"fine", [], [b"c"])
    assert failed(loggedErrors) == 1


def test_observersContext(loggedErrors: list[LogEvent]) -> None:
    """What a director sets is there in a resource's observers, though it is the upstream that ends the exchange."""
    network = MemoryNetwork()
    seen: list[str] = []

    def direct(request: ProxyRequest) -> None:
        tenant.set(request.inbound.path.decode())
        request.setTarget("http://origin.test")

    def told(record: ExchangeRecord) -> None:
        seen.append(tenant.get())
        raise ValueError("a bug, which the next one is not to suffer from")

    inner = ReverseProxy(direct, reactor=network)
    resource = ReverseProxyResource(inner, network.clock.seconds, observers=[told, told])
    with MemoryProxy(network=network, responder=resource) as proxy:
        proxy.addUpstream()
        client = proxy.client()
        assert [client.request(target=path).status for path in ("/a", "/b")] == [200, 200]
    assert seen == ["/a", "/a", "/b", "/b"]
    assert failed(loggedErrors) == 4
    assert tenant.get() == "nobody"
