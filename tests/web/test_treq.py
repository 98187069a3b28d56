"""
A proxy in a resource tree that treq tests in memory: no socket, and a site that treq has made itself.
"""

from __future__ import annotations

from typing import Any

from treq.testing import RequestTraversalAgent, StubTreq
from twisted.web.resource import Resource

from twistproxy import ReverseProxyResource
from twistproxy.agents import AgentTransport


class Behind(Resource):
    """What is behind the proxy."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        said: bytes = b"%b %b %b" % (request.method, request.uri, request.content.read())
        return said


def test_traversal(warmReactor: Any) -> None:
    """C{StubTreq} asks a tree with a proxy in it, which asks another: bodies are collected, all else is as
    under a site that listens."""
    behind = RequestTraversalAgent(Behind())
    root = Resource()
    proxy = ReverseProxyResource.to("http://behind.test/base", transport=AgentTransport(behind), reactor=warmReactor)
    root.putChild(b"api", proxy)
    front = StubTreq(root)
    found: list[Any] = []
    for asked in (front.get("http://front.test/api/x?y"), front.post("http://front.test/api/up", data=b"abc")):
        asked.addCallback(lambda response: response.content().addCallback(lambda body: found.append((response.code, body))))
        asked.addErrback(found.append)
        for _ in range(4):
            front.flush()
            behind.flush()
    assert found == [(200, b"GET /base/x?y "), (200, b"POST /base/up abc")]
    assert proxy.exchanges == set()
