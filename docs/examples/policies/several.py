"""Two servers that do the same: past the one that fails, and never the same thing twice."""

from twistproxy import ProxySite, ReverseProxy
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.retry import Retries


def makeSite(reactor, targets=("http://localhost:3000", "http://localhost:3001")):
    proxy = ReverseProxy.to(
        targets,
        balance="least-requests",
        retries=Retries(most=1, statuses={502, 503}),
        breaker=BreakerSettings(failures=3, pause=2.0),
        reactor=reactor,
    )
    return ProxySite(proxy, reactor=reactor)
