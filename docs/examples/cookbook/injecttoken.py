"""Inject a token: the upstream gets one, and what a client sends in its place never passes."""

from twistproxy import ProxySite, ReverseProxy, TargetDirector, chain


def makeSite(reactor, origin="http://localhost:3000", token="secret"):
    def authorize(request):
        request.outbound.headers.set("Authorization", f"Bearer {token}")

    director = chain(TargetDirector(origin), authorize)
    return ProxySite(ReverseProxy(director, reactor=reactor), reactor=reactor)
