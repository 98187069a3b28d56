"""Send my own response."""

from twistproxy import ProxySite, Response, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000"):
    def direct(request):
        if request.inbound.path == b"/old":
            return Response(301, {"Location": "/new"}, "It has moved to /new\n")
        request.setTarget(origin)
        request.setXForwarded()

    return ProxySite(ReverseProxy(direct, reactor=reactor), reactor=reactor)
