"""An upstream with a self-signed certificate: trust that one, rather than none or all."""

from twistproxy import ProxySite, ReverseProxy, TLSSettings


def makeSite(reactor, origin="https://localhost:3443", certificate="origin.pem"):
    tls = TLSSettings(caFile=certificate)
    return ProxySite(ReverseProxy.to(origin, tls=tls, reactor=reactor), reactor=reactor)
