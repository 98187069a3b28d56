# -*- test-case-name: tests.core.test_transports -*-
"""
Any L{ITransport<twistproxy.interfaces.ITransport>}, in the form that the flow uses.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from twistproxy.core.draft import checkResponse
from twistproxy.core.variables import startCoroutine
from twistproxy.errors import HookFailed, ProxyError, Sent, Stage
from twistproxy.interfaces import ICallbackTransport, ICarrier, ITransport
from twistproxy.message import OutboundRequest, Response


@implementer(ICallbackTransport)
class CallbackTransport:
    """
    Makes an L{ICallbackTransport<twistproxy.interfaces.ICallbackTransport>} of an
    L{ITransport<twistproxy.interfaces.ITransport>}.
    """

    def __init__(self, transport: Any) -> None:
        """
        @param transport: the transport, or a callable that does what its one method does.
        @raise TypeError: if it is neither.
        """
        if ITransport.providedBy(transport):
            if not callable(getattr(transport, "roundTrip", None)):
                raise TypeError(f"{transport!r} says that it provides ITransport, and has no roundTrip()")
        elif not callable(transport):
            raise TypeError(f"{transport!r} neither provides ITransport nor is callable")
        self._transport = transport

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        outbound.onInformational = receiver.informationalReceived
        outbound.record.tries += 1
        _RoundTrip(self._transport, outbound, receiver)


# C{ICallbackTransport(transport)} makes one of anything that can be made one: so do the policies, which do not know
# this module.  C{Interface} is what everything provides, plain callables too.
registerAdapter(CallbackTransport, Interface, ICallbackTransport)


@implementer(ICarrier)
class _RoundTrip:
    """
    One request in the hands of a transport that answers by a Deferred.
    """

    stage = Stage.WAIT

    def __init__(self, transport: Any, outbound: OutboundRequest, receiver: Any) -> None:
        self._transport = transport
        self._receiver: Any = receiver
        self._response: Any = None
        self._deferred: Deferred[Any] | None = None
        outbound.carrier = self
        roundTrip = transport.roundTrip if ITransport.providedBy(transport) else transport
        self._deferred = maybeDeferred(self._call, roundTrip, outbound)
        self._deferred.addCallbacks(self._answered, self._failed)

    def _call(self, roundTrip: Any, outbound: OutboundRequest) -> Any:
        within = getattr(self._receiver, "within", None)
        if within is None:
            return roundTrip(outbound)
        result = within(roundTrip, outbound)
        return startCoroutine(result, within) if isinstance(result, Coroutine) else result

    def _answered(self, response: Any) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            # it came although it was cancelled
            if hasattr(response, "abort"):
                response.abort()
            return
        if not isinstance(response, Response):
            fault: Any = f"roundTrip gave {response!r}, not a Response"
        else:
            fault = self._fault(response)
        if fault is None:
            self._response = response
            receiver.responseReceived(response)
        else:
            if hasattr(response, "abort"):
                response.abort()
            receiver.roundTripFailed(HookFailed(self._name(), fault, Sent.SOME))

    def _fault(self, response: Response) -> str | None:
        """
        @return: what is wrong with a response.
        """
        try:
            checkResponse(response, min(response.status, 200))
        except (TypeError, ValueError) as error:
            return f"roundTrip gave a Response that cannot be sent: {error}"
        return None

    def _failed(self, failure: Failure) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        error = failure.value
        if not isinstance(error, ProxyError):
            wrapped = HookFailed(self._name(), f"roundTrip failed with {error!r}", Sent.SOME)
            wrapped.__cause__ = error
            error = wrapped
        receiver.roundTripFailed(error)

    def _name(self) -> str:
        return f"transport {getattr(self._transport, '__qualname__', None) or type(self._transport).__qualname__}"

    def abort(self) -> None:
        """
        See L{ICarrier.abort<twistproxy.interfaces.ICarrier>}.
        """
        self._receiver = None
        if self._response is not None:
            response, self._response = self._response, None
            if hasattr(response, "abort"):
                response.abort()
        elif self._deferred is not None:
            self._deferred.cancel()
