# -*- test-case-name: tests.web.test_resource -*-
"""
C{ReverseProxyResource}: a proxy as a leaf of any C{twisted.web} resource tree.

It comes in three strengths.  Under a stock C{Site} a request's body is collected before a resource is asked; the first
one says so in the log.  Under C{Site(root, requestFactory=StreamingRequest)} bodies stream, over HTTP/1.1.  Under a
C{ProxySite} it takes the exchange of our own wire as it is.

Mounted below a prefix, the upstream sees paths without it, is told of it by C{X-Forwarded-Prefix}, and what it says of
its own addresses is mapped back (L{twistproxy.rules.pathmap}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from twistproxy.core.exchange import Exchange, ExchangeContext
from twistproxy.core.interposed import InterposedDownstream, interpose
from twistproxy.core.mount import Mapping, joined, mapBack, takePrefix
from twistproxy.errors import ClientError, Unavailable
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver, IResponder, hookOf
from twistproxy.limits import Limits
from twistproxy.message import Request, Response
from twistproxy.web.downstream import SiteDownstream
from twistproxy.web.entering import enterFrom
from twistproxy.web.inbound import inboundRequest
from twistproxy.web.mounted import IExchangeResource
from twistproxy.web.sitechannel import ExchangeChannel
from twistproxy.web.streaming import IStreamingResource


@implementer(IStreamingResource, IExchangeResource)
class ReverseProxyResource(Resource):
    """
    Gives the requests of a site to a responder.

    @ivar exchanges: the exchanges that are running.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        responder: Any,
        clock: Callable[[], float],
        *,
        limits: Limits | None = None,
        observers: Sequence[Any] = (),
        mapBack: bool = True,
        forwardPrefix: bool = True,
    ) -> None:
        """
        @param responder: an L{IResponder<twistproxy.interfaces.IResponder>}, or a callable that takes over an exchange.
        @param clock: seconds, for the records.
        @param limits: the bounds.
        @param observers: L{IObserver<twistproxy.interfaces.IObserver>}s or callables.
        @param mapBack: map C{Location}, C{Content-Location}, C{Refresh} and C{Set-Cookie} of upstreams to the public
            address; to be switched off for upstreams that go by C{X-Forwarded-Prefix} themselves.
        @param forwardPrefix: send C{X-Forwarded-Prefix}.
        """
        super().__init__()
        told: list[Callable[[ExchangeRecord], None]] = [
            hookOf(observer, IObserver, "exchangeSettled") for observer in observers
        ]
        self.responder = responder
        self.exchanges: set[Exchange] = set()
        self._context = ExchangeContext(hookOf(responder, IResponder, "respond"), clock, told)
        self._limits = limits or Limits()
        self._mapBack = mapBack
        self._forwardPrefix = forwardPrefix
        self._saidBuffered = False
        self._closed: list[Deferred[None]] | None = None

    def render(self, request: Any) -> int:
        """
        See L{IResource.render<twisted.web.resource.IResource.render>}.
        """
        if getattr(request, "_disconnected", False):
            return NOT_DONE_YET  # the client has left while somebody on the way here, a guard, made up his mind
        channel = request.channel
        if isinstance(channel, ExchangeChannel):
            enterFrom(channel, self, self._limits)
            return NOT_DONE_YET
        streamed = getattr(request, "streamedBody", None)
        inbound = inboundRequest(request, self._limits, streamed, getattr(request, "expectations", ()))
        target, publicPath = inbound.target, inbound.path
        prefix = self._stripPrefix(request.prepath or (), inbound, request.uri[:1] != b"/")
        if streamed is None and inbound.length and not self._saidBuffered:
            self._saidBuffered = True
            self._log.info(
                "{resource}: request bodies are collected before they are forwarded; "
                "Site(root, requestFactory=twistproxy.StreamingRequest) streams them",
                resource=type(self).__name__,
            )
        downstream = SiteDownstream(request, inbound, self._limits, _linesOf, self._exchangeEnded)
        if inbound.upgrade is not None and not downstream.canUpgrade:
            inbound.fault = ClientError("this server's connections cannot be upgraded", 501)
        elif self._closed is not None:
            inbound.fault = inbound.fault or Unavailable("the resource is closed")
        exchange = self._context.begin(downstream, inbound)
        exchange.record.target = target
        self.exchanges.add(exchange)
        downstream.begin(exchange)
        if self._mapBack:
            mapBack(exchange, prefix, publicPath)
        exchange.start()
        return NOT_DONE_YET

    def enter(self, exchange: Exchange, prepath: Sequence[bytes]) -> Any:
        """
        See L{IExchangeResource.enter<twistproxy.web.mounted.IExchangeResource.enter>}.
        """
        inbound = exchange.request
        publicPath = inbound.target
        prefix = self._stripPrefix(prepath, inbound) if prepath else b""
        if self._closed is not None:
            inbound.fault = inbound.fault or Unavailable("the resource is closed")
        if not self._mapBack or joined(exchange, prefix):
            interpose(exchange, _Entered, self, exchange)
        else:
            interpose(exchange, _EnteredMapping, self, exchange, prefix, publicPath)
        self.exchanges.add(exchange)
        return self._context.respond(exchange)

    def _enteredEnded(self, exchange: Exchange) -> None:
        """
        An exchange of our own wire has settled; its own observers were told.
        """
        for observer in self._context.observers:
            try:
                exchange.within(observer, exchange.record)
            except Exception:
                self._log.failure("an observer failed on {exchange}", exchange=exchange)
        self._exchangeEnded(exchange)

    def _stripPrefix(self, prepath: Sequence[bytes], inbound: Request, absolute: bool = False) -> bytes:
        """
        Take the path that led to this resource off a request's target.

        @param absolute: whether a stock site was asked for a whole URL.
        @return: that path.
        """
        steps = list(prepath)
        if steps and steps[-1] == b"":
            steps.pop()  # the resource is the index of its parent
        if not steps or inbound.fault is not None:
            return b""
        if absolute:
            # Twisted has cut the address of a whole URL into a path, which led here by accident.
            inbound.fault = ClientError("a request target in absolute form for a resource below a prefix")
            return b""
        return takePrefix(inbound, len(steps), self._forwardPrefix)

    def _exchangeEnded(self, exchange: Exchange) -> None:
        self.exchanges.discard(exchange)
        if self._closed is not None and not self.exchanges:
            self._allEnded()

    def _allEnded(self) -> None:
        """
        The resource is closed and nothing runs any more.
        """
        waiting, self._closed = self._closed or [], []
        for deferred in waiting:
            deferred.callback(None)

    def close(self, cut: bool = False) -> Deferred[None]:
        """
        Take no more requests: whoever still asks gets a 503.

        @param cut: end the exchanges that are running; otherwise they are finished.
        @return: a Deferred that fires when the last has ended.
        """
        if self._closed is None:
            self._closed = []
        if cut:
            for exchange in list(self.exchanges):
                exchange.broken(Unavailable("the resource was closed", exchange.stage()))
        if not self.exchanges:
            self._allEnded()
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._closed.append(ended)
        return ended


def _linesOf(response: Response) -> list[bytes]:
    return response.lines


class _Telling:
    """
    Tells a resource of the end of an exchange of our own wire.
    """

    __slots__ = ()

    _exchange: Exchange
    _resource: ReverseProxyResource

    def ended(self) -> None:
        """
        See L{InterposedDownstream.ended}.
        """
        self._resource._enteredEnded(self._exchange)


class _Entered(_Telling, InterposedDownstream):
    """
    The server side of our own wire for a resource's responder.
    """

    __slots__ = ("_exchange", "_resource")

    def __init__(self, downstream: Any, resource: ReverseProxyResource, exchange: Exchange) -> None:
        super().__init__(downstream)
        self._resource = resource
        self._exchange = exchange


class _EnteredMapping(_Telling, Mapping):
    """
    The same, in one object, where the heads of responses are mapped, too.
    """

    __slots__ = ("_resource",)

    def __init__(
        self, downstream: Any, resource: ReverseProxyResource, exchange: Exchange, prefix: bytes, publicPath: bytes
    ) -> None:
        super().__init__(downstream, exchange, prefix, publicPath)
        self._resource = resource
