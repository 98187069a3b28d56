# -*- test-case-name: tests.policy.test_layer -*-
"""
What all transports have in common that stand around another one.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.message import OutboundRequest, Response, UpstreamResponse
from twistproxy.roundtrip import roundTripBy


@implementer(ICallbackTransport, ITransport)
class Layer:
    """
    A transport around another one.  It sends requests on as they are, in the very object that it was given, so that
    whoever looks at the exchange sees what was sent.

    @ivar transport: what it stands around.
    """

    def __init__(self, transport: Any) -> None:
        """
        @param transport: an L{ICallbackTransport<twistproxy.interfaces.ICallbackTransport>}, an
            L{ITransport<twistproxy.interfaces.ITransport>}, or a callable.
        @raise TypeError: if it is none of these.
        """
        self.transport = transport
        self._begin = ICallbackTransport(transport).begin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.transport!r}>"

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        self._begin(outbound, receiver)

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[UpstreamResponse]:
        """
        See L{ITransport.roundTrip<twistproxy.interfaces.ITransport>}.
        """
        return roundTripBy(self.begin, outbound)

    @property
    def pools(self) -> Any:
        """
        The connections at the bottom, by L{Target.key<twistproxy.upstreams.Target>}, if it shows them.
        """
        return getattr(self.transport, "pools", {})

    @property
    def breakers(self) -> Any:
        """
        The L{Breakers<twistproxy.policy.breakertransport.Breakers>} below, or C{None}.
        """
        return getattr(self.transport, "breakers", None)

    def close(self) -> None:
        """
        Close idle connections now and the others as they become free, if what is below can do that.
        """
        if hasattr(self.transport, "close"):
            self.transport.close()

    def cut(self) -> None:
        """
        Close every connection now, if what is below can do that.
        """
        if hasattr(self.transport, "cut"):
            self.transport.cut()


class PassingReceiver:
    """
    The part that is the same in whatever stands between a transport and an L{IRoundTripReceiver
    <twistproxy.interfaces.IRoundTripReceiver>}.  Whoever derives from it has a slot for C{_receiver}, since it may have
    another base with slots.
    """

    __slots__ = ()

    _receiver: Any

    def informationalReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.informationalReceived<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        self._receiver.informationalReceived(response)

    @property
    def within(self) -> Any:
        """
        Calls user code, a transport's below, in the context of the exchange; C{None} if there is none.
        """
        return getattr(self._receiver, "within", None)
