# -*- test-case-name: tests.web.test_tree -*-
"""
From a C{twisted.web} request back to the exchange that it was made for: a proxy was found by asking resources, or a
resource renders one.

What resources have changed in the request on the way counts: its head is read again, as under any other site.  And
what they tell the client, a new session's cookie say, stands in the response beside what its upstream tells.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from twistproxy.core.exchange import Exchange
from twistproxy.core.handover import handOver
from twistproxy.core.interposed import InterposedDownstream, interpose
from twistproxy.core.responders import nameOf
from twistproxy.core.states import RequestSide
from twistproxy.headers import NOT_IN_VALUE
from twistproxy.limits import Limits
from twistproxy.message import Response
from twistproxy.web.answer import FRAMING
from twistproxy.web.collected import expectations
from twistproxy.web.inbound import inboundRequest
from twistproxy.web.sitechannel import ExchangeChannel

#: What is for the one who answers to say: stock requests put some of these into every response.
_ANSWERERS = FRAMING | {b"content-type", b"date", b"server"}

_log = Logger()


class _OnTheWay(InterposedDownstream):
    """
    Adds what the request that led here was told to tell the client, and tells its channel of the end.
    """

    __slots__ = ("_channel",)

    def __init__(self, downstream: Any, channel: ExchangeChannel) -> None:
        super().__init__(downstream)
        self._channel = channel

    def linesOf(self, response: Response) -> list[bytes]:
        """
        See L{InterposedDownstream.linesOf}.
        """
        request = self._channel.request
        told = [
            b"%b: %b" % (name, value)
            for name, values in request.responseHeaders.getAllRawHeaders()
            if name.lower() not in _ANSWERERS
            for value in values
        ]
        told += [b"Set-Cookie: " + cookie for cookie in request.cookies]
        for line in [line for line in told if NOT_IN_VALUE.search(line)]:
            told.remove(line)
            _log.error("{request} was given {line}, which cannot be sent", request=request, line=line)
        return [*told, *response.lines] if told else response.lines

    def ended(self) -> None:
        """
        See L{InterposedDownstream.ended}.
        """
        self._channel.ended()


def enterFrom(channel: ExchangeChannel, resource: Any, limits: Limits) -> None:
    """
    Give an exchange to a resource that takes exchanges.

    @param channel: of the request that led to it.
    @param resource: an L{IExchangeResource<twistproxy.web.mounted.IExchangeResource>}.
    @param limits: the bounds.
    """
    exchange, request = channel.exchange, channel.request
    was = exchange.request
    collected = channel.collected
    streamed = None if collected or type(was.body) is bytes else was.body
    inbound = inboundRequest(request, limits, streamed, expectations(exchange))
    inbound.peer = was.peer
    inbound.trailers = was.trailers
    inbound.keepAlive = was.keepAlive
    if streamed is not None:
        inbound.length = was.length
    elif not collected:
        inbound.body, inbound.length = was.body, was.length
    elif type(inbound.body) is not bytes:
        exchange.requestSide = RequestSide.COMING  # out of its file, now
    exchange.record.requestBytes = 0
    exchange.request = inbound
    prepath = list(request.prepath)

    def give(exchange: Exchange) -> Any:
        interpose(exchange, _OnTheWay, channel)
        return resource.enter(exchange, prepath)

    give.__qualname__ = nameOf(resource.enter)
    handOver(exchange, give)
