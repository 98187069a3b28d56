"""Write an access log, as the command does."""

from twistproxy import ProxySite, ReverseProxy
from twistproxy.observe.access import AccessLog, CombinedFormat


def makeSite(reactor, origin="http://localhost:3000", path=None):
    log = AccessLog(path, CombinedFormat(), reactor)  # without a path on standard output
    reactor.addSystemEventTrigger("after", "shutdown", log.close)  # writes what is still waiting
    return ProxySite(ReverseProxy.to(origin, reactor=reactor), reactor=reactor, observers=[log])
