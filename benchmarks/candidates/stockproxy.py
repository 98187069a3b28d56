"""
The reverse proxy that comes with Twisted: L{twisted.web.proxy.ReverseProxyResource} under a stock Site.

It opens a connection for each request, collects request bodies in memory, and adds no forwarding headers.
No access log.

Usage: stockproxy.py PORT ORIGINPORT
"""

import sys

from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site


class QuietSite(Site):
    """
    A site that writes no access log.
    """

    def log(self, request: object) -> None:
        """
        Write nothing.
        """


if __name__ == "__main__":
    port, originPort = (int(argument) for argument in sys.argv[1:])
    root = ReverseProxyResource("127.0.0.1", originPort, b"")
    reactor.listenTCP(port, QuietSite(root), backlog=1024, interface="127.0.0.1")  # type: ignore[arg-type]
    reactor.run()
