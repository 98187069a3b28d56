"""Detect loops: a request that comes back is answered with 508 instead of going round for ever."""

from twistproxy import ProxySettings, ProxySite, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000"):
    # The name must be this proxy's own; with maxVia=0 not a single pass before this one is allowed.
    settings = ProxySettings(via="edge-1", maxVia=0, cdnLoop="edge-1")
    return ProxySite(ReverseProxy.to(origin, settings=settings, reactor=reactor), reactor=reactor)
