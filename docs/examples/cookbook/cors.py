"""Add CORS: answer preflights, and let pages of one origin read the answers."""

from twistproxy import ProxySite, Response, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000", allowed=b"https://app.example.com"):
    def direct(request):
        headers = request.inbound.headers
        if request.inbound.method == b"OPTIONS" and "Access-Control-Request-Method" in headers:
            if headers.get("Origin") != allowed:
                return Response(403)
            fields = {
                "Access-Control-Allow-Origin": allowed,
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Access-Control-Allow-Headers": headers.get("Access-Control-Request-Headers") or b"",
                "Access-Control-Max-Age": "600",
                "Vary": "Origin",
            }
            return Response(204, fields)
        request.setTarget(origin)
        request.setXForwarded()

    def allow(response):
        # a browser compares this with the origin of the page, so it need not depend on who asks
        response.headers.set("Access-Control-Allow-Origin", allowed)

    return ProxySite(ReverseProxy(direct, modifyResponse=allow, reactor=reactor), reactor=reactor)
