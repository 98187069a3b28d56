"""A proxy, and tests of it that need neither a socket nor a sleep.  Any test runner will do."""

from twistproxy import Response, Timeouts
from twistproxy.testing import MemoryProxy, httpResponse


def direct(request):
    if request.inbound.path.startswith(b"/internal/"):
        return Response(404)
    isAPI = request.inbound.path.startswith(b"/api/")
    request.setTarget("http://api.test" if isAPI else "http://pages.test")
    request.setXForwarded()


def test_routes():
    with MemoryProxy(direct) as proxy:
        api = proxy.addUpstream("http://api.test")
        pages = proxy.addUpstream("http://pages.test", httpResponse(200, {"Content-Type": "text/html"}, b"<p>hello"))
        client = proxy.client()
        assert client.request("GET", "/").body == b"<p>hello"
        assert client.request("PUT", "/api/x", body=b"data").body == b"PUT /api/x"
        assert client.request("GET", "/internal/secrets").status == 404
        assert (api.request.body, len(api.requests), len(pages.requests)) == (b"data", 1, 1)
        assert api.request.headers.get("X-Forwarded-For") == b"192.0.2.1"


def test_slowUpstream():
    with MemoryProxy(direct, timeouts=Timeouts(responseHead=30)) as proxy:
        proxy.addUpstream("http://pages.test").delay = 31
        client = proxy.client()
        assert client.request() is None
        assert "responseHead" in [timer.limit for timer in proxy.timers]
        proxy.advance(29.9)
        assert client.responses == []
        proxy.advance(0.4)
        assert client.response.status == 504
        assert proxy.exchanges == set()


def test_upstreamThatDies():
    with MemoryProxy(direct) as proxy:
        pages = proxy.addUpstream("http://pages.test", httpResponse(200, {}, b"x" * 1000))
        pages.onConnection = lambda connection: connection.outgoing.resetAt(500)
        client = proxy.client()
        client.request()
        assert (client.response.status, client.response.complete, client.ended) == (200, False, "closed")


def test_clientThatDoesNotRead():
    with MemoryProxy(direct) as proxy:
        pages = proxy.addUpstream("http://pages.test", httpResponse(200, {"Content-Length": "10000000"}))
        client = proxy.client()
        client.connection.taking = False
        client.request()
        pages.connection.queue(*[b"x" * 32768] * 305)
        proxy.run()
        assert 0 < proxy.bufferedBytes < 400_000
