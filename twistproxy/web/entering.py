# -*- test-case-name: tests.web.test_tree -*-
"""
From a C{twisted.web} request back to the exchange that it was made for: a proxy was found by asking resources, or a
resource renders one.

What resources have changed in the request on the way counts: its head is read again, as under any other site.
"""

from __future__ import annotations

from typing import Any

from twistproxy.core.exchange import Exchange
from twistproxy.core.handover import handOver
from twistproxy.core.interposed import InterposedDownstream, interpose
from twistproxy.core.states import RequestSide
from twistproxy.limits import Limits
from twistproxy.rules.fields import EXPECT
from twistproxy.web.inbound import inboundRequest
from twistproxy.web.sitechannel import ExchangeChannel


class _Ended(InterposedDownstream):
    """
    Tells the channel of the request that led here of the end.
    """

    __slots__ = ("_channel",)

    def __init__(self, downstream: Any, channel: ExchangeChannel) -> None:
        super().__init__(downstream)
        self._channel = channel

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
    expect = [field[3] for field in was.fields if field[0] == EXPECT]
    inbound = inboundRequest(request, limits, streamed, expect)
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

    def give(exchange: Exchange) -> None:
        interpose(exchange, lambda downstream: _Ended(downstream, channel))
        resource.enter(exchange, prepath)

    handOver(exchange, give)
