"""Cancel a request in the director."""

from twistproxy import ProxySite, Refused, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000"):
    def direct(request):
        if request.inbound.path.startswith(b"/admin"):
            raise Refused(403, "admin pages are not for the outside")
        request.setTarget(origin)
        request.setXForwarded()

    return ProxySite(ReverseProxy(direct, reactor=reactor), reactor=reactor)
