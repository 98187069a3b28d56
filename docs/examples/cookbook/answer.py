"""Answer from the proxy: a router whose branches are responses and targets."""

from twistproxy import ProxySite, Response, Router

ROBOTS = Response(200, {"Content-Type": "text/plain"}, "User-agent: *\nDisallow: /\n")


def makeSite(reactor, origin="http://localhost:3000"):
    router = Router(reactor=reactor)
    router.add(origin)
    router.add(ROBOTS, path="/robots.txt")
    router.add(Response(204), path="/alive", method=("GET", "HEAD"))
    return ProxySite(router, reactor=reactor)
