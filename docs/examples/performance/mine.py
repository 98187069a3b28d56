"""
A proxy with a director of its own, to be measured: mine.py PORT ORIGINPORT.
"""

import sys

from twisted.internet import reactor

from twistproxy import ProxySite, Response, ReverseProxy

port, origin = sys.argv[1:]
blocked = {b"/wp-login.php", b"/.env"}


def direct(request):
    if request.inbound.path in blocked:
        return Response(404)
    request.setTarget(f"http://127.0.0.1:{origin}")
    request.setXForwarded()


ProxySite(ReverseProxy(direct)).listen(f"tcp:{port}:interface=127.0.0.1")
reactor.run()
