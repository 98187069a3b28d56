"""Retry on another host: a transport that wraps transports."""

from zope.interface import implementer

from twistproxy import ProxyError, ProxySite, ReverseProxy
from twistproxy.agents import ProxyAgent
from twistproxy.errors import Sent
from twistproxy.interfaces import ITransport
from twistproxy.rules.target import parseTarget


@implementer(ITransport)
class Elsewhere:
    """Sends what could not be delivered to another host, once, if that cannot make it happen twice."""

    def __init__(self, transport, other):
        self._transport = transport
        self._other = parseTarget(other)

    async def roundTrip(self, outbound):
        try:
            return await self._transport.roundTrip(outbound)
        except ProxyError as error:
            again = error.sent is Sent.NOTHING or outbound.method in (b"GET", b"HEAD", b"OPTIONS")
            if not again or type(outbound.body) is not bytes:  # a body that streams is gone by now
                raise
        outbound.upstream, outbound.host = self._other, self._other.authority
        outbound.record.upstream = self._other.name
        return await self._transport.roundTrip(outbound)


def makeSite(reactor, origin="http://localhost:3000", other="http://localhost:3001"):
    transport = Elsewhere(ProxyAgent.default(reactor), other)
    return ProxySite(ReverseProxy.to(origin, transport=transport, reactor=reactor), reactor=reactor)
