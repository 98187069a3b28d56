"""Preserve the Host of the client."""

from twistproxy import ProxySite, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000"):
    return ProxySite(ReverseProxy.to(origin, preserveHost=True, reactor=reactor), reactor=reactor)
