"""
C{ReverseProxyResource} in the ways in which it can be served, and the bare proxy beside it. None writes an access log.

Usage: resourceproxy.py KIND PORT ORIGINPORT, where KIND is

  - bare: ProxySite(ReverseProxy), no resource at all
  - stock: the resource under Twisted's own Site: bodies of requests are collected
  - streaming: under Twisted's own Site with StreamingRequest
  - proxysite: under ProxySite, as the root
  - deep: under ProxySite, three levels down a tree: /a/b/c
"""

import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from twistproxy import ProxySite, ReverseProxy, ReverseProxyResource, StreamingRequest


class QuietSite(Site):
    """
    A site that writes no access log.
    """

    def log(self, request: object) -> None:
        """
        Write nothing.
        """


def threeLevelsDown(leaf: Resource) -> Resource:
    """
    Mount a resource at C{/a/b/c}.
    """
    root = parent = Resource()
    for name in (b"a", b"b"):
        child = Resource()
        parent.putChild(name, child)
        parent = child
    parent.putChild(b"c", leaf)
    return root


def siteOf(kind: str, target: str) -> object:
    """
    Make the factory to listen with.
    """
    if kind == "bare":
        return ProxySite(ReverseProxy.to(target))
    resource = ReverseProxyResource.to(target)
    if kind == "stock":
        return QuietSite(resource)
    if kind == "streaming":
        return QuietSite(resource, requestFactory=StreamingRequest)
    if kind == "proxysite":
        return ProxySite(resource)
    return ProxySite(threeLevelsDown(resource))


if __name__ == "__main__":
    kind, port, originPort = sys.argv[1:]
    site = siteOf(kind, f"http://127.0.0.1:{originPort}")
    if isinstance(site, ProxySite):
        site.listen(f"tcp:{port}:interface=127.0.0.1")
    else:
        reactor.listenTCP(int(port), site, backlog=1024, interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
