"""
One proxy, standing in different places: what does a resource tree around it cost?

Usage: mountedproxy.py KIND PORT ORIGINPORT.  The kinds::

    bare        ProxySite(ReverseProxy), no tree
    root        ProxySite(ReverseProxyResource)
    three       ProxySite(tree), the proxy three levels down: ask for /a/b/c
    guarded     the same, with a getChild of somebody's on the way, so that a request object is made
    streaming   a stock Site with StreamingRequest, the proxy as its root
    site        a stock Site, the proxy as its root

No access log.
"""

import sys
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twistproxy import ProxySite, ReverseProxy, ReverseProxyResource, StreamingRequest


class QuietSite(Site):
    """
    A site that writes no access log.
    """

    def log(self, request: object) -> None:
        """
        Write nothing.
        """


class Asked(Resource):
    """
    Has one child, under any name.
    """

    def __init__(self, child: Any) -> None:
        super().__init__()
        self.child = child

    def getChild(self, path: bytes, request: Any) -> Any:
        """
        The child.
        """
        return self.child


def below(leaf: Any) -> Resource:
    """
    @return: a root with C{leaf} at C{/a/b/c}.
    """
    root, first, second = Resource(), Resource(), Resource()
    root.putChild(b"a", first)
    first.putChild(b"b", second)
    second.putChild(b"c", leaf)
    return root


def factoryFor(kind: str, target: str) -> Any:
    """
    @return: what to listen with.
    """
    if kind == "bare":
        return ProxySite(ReverseProxy.to(target))
    proxy = ReverseProxyResource.to(target)
    if kind in ("site", "streaming"):
        return QuietSite(proxy, requestFactory=Request if kind == "site" else StreamingRequest)
    root: Any = {"root": proxy, "three": below(proxy), "guarded": below(Asked(proxy))}[kind]
    return ProxySite(root)


if __name__ == "__main__":
    kind, port, originPort = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    factory = factoryFor(kind, f"http://127.0.0.1:{originPort}")
    if isinstance(factory, ProxySite):
        factory.listen(f"tcp:{port}:interface=127.0.0.1:backlog=1024")
    else:
        reactor.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
