"""A/B by cookie: a client keeps the side that it was given first."""

import random
from contextvars import ContextVar

from twistproxy import ProxySite, ReverseProxy

newSide = ContextVar("newSide", default=None)


def sideOf(cookies):
    for cookie in cookies.split(b";"):
        name, _, value = cookie.strip().partition(b"=")
        if name == b"side" and value in (b"a", b"b"):
            return value.decode("ascii")
    return None


def makeSite(reactor, targets, share=0.1, draw=random.random):
    def direct(request):
        side = sideOf(b";".join(request.inbound.headers.getAll("Cookie")))
        if side is None:
            side = "b" if draw() < share else "a"
            newSide.set(side)  # for the response of this exchange, and no other
        request.setTarget(targets[side])
        request.setXForwarded()

    def remember(response):
        side = newSide.get()
        if side is not None:
            response.headers.add("Set-Cookie", f"side={side}; Path=/; HttpOnly; SameSite=Lax")

    return ProxySite(ReverseProxy(direct, modifyResponse=remember, reactor=reactor), reactor=reactor)
