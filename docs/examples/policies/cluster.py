"""A director of one's own that names a cluster, and a balancer of one's own that keeps users where they are."""

from zlib import crc32

from twistproxy import ProxySite, ReverseProxy
from twistproxy.rules.target import parseTarget
from twistproxy.upstreams import Cluster


def byUser(candidates, outbound):
    """The same user gets the same member, as long as it is among the candidates."""
    user = outbound.headers.get("X-User") or b""
    return max(candidates, key=lambda member: crc32(user + member.target.name.encode()))


def makeSite(reactor, pages="http://localhost:3000", api=("http://localhost:4000", "http://localhost:4001/v2")):
    cluster = Cluster([parseTarget(address) for address in api], name="api")

    def direct(request):
        isAPI = request.inbound.path.startswith(b"/api/")
        request.setTarget(cluster if isAPI else pages)
        request.setXForwarded()

    proxy = ReverseProxy(direct, balance=byUser, retries=1, breaker=True, reactor=reactor)
    return ProxySite(proxy, reactor=reactor)
