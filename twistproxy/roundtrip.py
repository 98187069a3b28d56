# -*- test-case-name: tests.upstream.test_transport -*-
"""
The Deferred face of transports that answer by callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistproxy.errors import ProxyError
from twistproxy.interfaces import IRoundTripReceiver
from twistproxy.message import OutboundRequest, Response, UpstreamResponse


def roundTripBy(
    begin: Callable[[OutboundRequest, Any], object], outbound: OutboundRequest
) -> Deferred[UpstreamResponse]:
    """
    Do what L{ITransport.roundTrip<twistproxy.interfaces.ITransport>} has to.

    @param begin: of an L{ICallbackTransport<twistproxy.interfaces.ICallbackTransport>}.
    """
    # Sent as a copy: who carries the request inside is not to be taken for who carries it outside, lest a transport
    # that wraps this one never hear that it was cancelled.
    inner = copy(outbound)
    receiver = _Receiver(inner)
    begin(inner, receiver)
    return receiver.result


@implementer(IRoundTripReceiver)
class _Receiver:
    """
    Gives an outcome as a Deferred.

    @ivar result: a Deferred of the response; cancelling it aborts the request.
    """

    def __init__(self, outbound: OutboundRequest) -> None:
        self._outbound = outbound
        self.result: Deferred[Any] = Deferred(self._cancel)

    def informationalReceived(self, response: Response) -> None:
        """
        Pass an interim response on to whoever asked for them.
        """
        if self._outbound.onInformational is not None:
            self._outbound.onInformational(response)

    def responseReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.responseReceived<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        self.result.callback(response)

    def roundTripFailed(self, error: ProxyError) -> None:
        """
        See L{IRoundTripReceiver.roundTripFailed<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        self._outbound.held = None  # a traceback may know the request for long
        self.result.errback(error)

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self._outbound.held = None
        carrier, self._outbound.carrier = self._outbound.carrier, None
        if carrier is not None:
            carrier.abort()
