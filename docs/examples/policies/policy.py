"""A retry policy of one's own, around a transport of one's own."""

from twistproxy import ProxySite, ReverseProxy
from twistproxy.agents import ProxyAgent
from twistproxy.net.network import Network
from twistproxy.policy.retry import Retries
from twistproxy.policy.retrytransport import RetryTransport

careful = Retries(most=2)


def byKey(attempt):
    """Tries again what carries a key by which the application knows it again, and else what is safe anyway."""
    if attempt.number == 1 and b"idempotency-key" in attempt.outbound.headers:
        return 0.0
    return careful.again(attempt)


def makeSite(reactor, origin="http://localhost:3000"):
    network = Network.of(reactor)
    transport = RetryTransport(ProxyAgent.default(network), byKey, wheel=network.wheel)
    return ProxySite(ReverseProxy.to(origin, transport=transport, reactor=network), reactor=network)
