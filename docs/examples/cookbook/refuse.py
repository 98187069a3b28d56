"""Refuse with a reason that the client may read."""

import json

from twistproxy import ProxySite, Refused, Response, ReverseProxy

MAX_QUERY = 100


def handleError(error, exchange):
    if isinstance(error, Refused):  # our own reasons; those of other errors are for the log
        body = json.dumps({"status": error.status, "reason": error.reason})
        return Response(error.status, {"Content-Type": "application/json"}, body)
    return None


def makeSite(reactor, origin="http://localhost:3000"):
    def direct(request):
        if len(request.inbound.query) > MAX_QUERY:
            raise Refused(414, f"a query may have {MAX_QUERY} characters")
        request.setTarget(origin)
        request.setXForwarded()

    return ProxySite(ReverseProxy(direct, errorHandler=handleError, reactor=reactor), reactor=reactor)
