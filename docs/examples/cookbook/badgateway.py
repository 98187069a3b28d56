"""A useful 502."""

from twistproxy import ProxySite, Response, ReverseProxy
from twistproxy.errors import Side, Stage

ADVICE = {
    Stage.CONNECT: "it cannot be reached",
    Stage.QUEUE: "it is overloaded",
    Stage.TLS: "its certificate is not in order",
    Stage.WAIT: "it did not answer",
}


def handleError(error, exchange):
    if error.side is not Side.UPSTREAM:
        return None  # the default answer will do
    requestID = exchange.record.requestID.decode("ascii")
    advice = ADVICE.get(error.stage, "it broke off")
    text = f"The application is not available: {advice}.\nAsk us about {requestID}.\n"
    response = Response(error.status, body=text)
    response.headers.set("Content-Type", "text/plain; charset=utf-8")
    if error.stage in (Stage.CONNECT, Stage.QUEUE):
        response.headers.set("Retry-After", "5")
    return response


def makeSite(reactor, origin="http://localhost:3000"):
    return ProxySite(ReverseProxy.to(origin, errorHandler=handleError, reactor=reactor), reactor=reactor)
