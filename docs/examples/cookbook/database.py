"""Choose the upstream from a database."""

from twisted.internet.task import deferLater

from twistproxy import ProxySite, Refused, ReverseProxy


class Tenants:
    """Stands for a database: each look-up takes a moment, as with any asynchronous driver."""

    def __init__(self, reactor, homes):
        self._reactor = reactor
        self._homes = homes

    def home(self, host):
        return deferLater(self._reactor, 0.01, self._homes.get, host)


def makeSite(reactor, homes):
    tenants = Tenants(reactor, homes)

    async def direct(request):
        home = await tenants.home(request.inbound.host.decode("ascii"))  # cancelled if the client leaves
        if home is None:
            raise Refused(404, "no such tenant")
        request.setTarget(home)
        request.setXForwarded()

    return ProxySite(ReverseProxy(direct, reactor=reactor), reactor=reactor)
