# -*- test-case-name: tests.core.test_proxy -*-
"""
How one exchange goes through the proxy.  Read this first::

    client --(a)--> proxy --(b)--> upstream
    client <-(d)--- proxy <-(c)--- upstream

     (1) refuse what cannot be carried faithfully       (7) it failed: the error handler answers, if it can
     (2) draft the outbound head: strip, Via, id        (8) relay 1xx as they come
     (3) the director decides and rewrites   [hook]     (9) 101: become a tunnel
     (4) answer here, if it returned a response         (10) draft the response head, strip, modify   [hook]
     (5) hand the draft to the transport                (11) pump (c) to (d), then trailers
     (6) pump the request body (a) to (b)               (12) settle exactly once: release, log, measure

L{ProxyFlow} knows interfaces only: nothing of sockets, of twisted.web, or of how an upstream is picked.  Steps 6 and 8
run by themselves while step 5 waits: bytes go from producer to consumer and never through the flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.core.draft import (
    UNUSUAL,
    answerOf,
    checkResponse,
    completeOutbound,
    draftOutbound,
    draftResponse,
    identify,
    refuse,
)
from twistproxy.core.errorpage import errorResponse, plainResponse
from twistproxy.core.exchange import Exchange
from twistproxy.core.flowdriver import Flow
from twistproxy.core.flush import CoalescedBody, mayCoalesce
from twistproxy.core.generated import GeneratedBody, isGenerator
from twistproxy.core.pump import FilteredBody, RequestBody
from twistproxy.core.request import ProxyRequest
from twistproxy.core.responders import nameOf
from twistproxy.core.settings import ProxySettings
from twistproxy.core.states import ResponseSide
from twistproxy.core.transports import CallbackTransport
from twistproxy.core.tunnel import Tunnel
from twistproxy.deadlines import IWheelLike, Timeouts, ticksOf
from twistproxy.errors import ClientLeft, HookFailed, ProxyError, Side
from twistproxy.interfaces import (
    IBodyFilter,
    ICallbackTransport,
    IDirector,
    IErrorHandler,
    IResponder,
    IResponseModifier,
    hookOf,
)
from twistproxy.message import OutboundRequest, UpstreamResponse
from twistproxy.rules.framing import hasNoBody


def bodyFilter(given: Any) -> tuple[Any, Any]:
    """
    @param given: an L{IBodyFilter<twistproxy.interfaces.IBodyFilter>}, or a callable, asynchronous generators included.
    @return: what makes a body of another with it, and what is to be called.
    """
    filterBody = hookOf(given, IBodyFilter, "filterBody")
    return GeneratedBody if isGenerator(filterBody) else FilteredBody, filterBody


@implementer(IResponder)
class ProxyFlow:
    """
    Takes exchanges through the twelve steps.
    """

    _log = Logger()

    def __init__(
        self,
        director: Any,
        transport: Any,
        *,
        settings: ProxySettings,
        timeouts: Timeouts,
        wheel: IWheelLike,
        clock: IReactorTime,
        modifyResponse: Any = None,
        errorHandler: Any = None,
        requestFilters: Sequence[Any] = (),
        responseFilters: Sequence[Any] = (),
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        """
        @param director: an L{IDirector<twistproxy.interfaces.IDirector>} or a callable.
        @param transport: an L{ITransport<twistproxy.interfaces.ITransport>}.
        @param settings: the policies.
        @param timeouts: the limits of time; those for whole exchanges and tunnels are used here.
        @param wheel: measures them.
        @param clock: measures the flush interval.
        @param modifyResponse: an L{IResponseModifier<twistproxy.interfaces.IResponseModifier>}, a callable, or C{None}.
        @param errorHandler: an L{IErrorHandler<twistproxy.interfaces.IErrorHandler>}, a callable, or C{None}.
        @param requestFilters: L{IBodyFilter<twistproxy.interfaces.IBodyFilter>}s or callables; the first is nearest to
            the client.
        @param responseFilters: the same for responses; the first is nearest to the upstream.
        @param wallClock: seconds since the epoch, for Date.
        """
        self.settings = settings
        self._checks = settings.checksRequests
        self._trusts = settings.trustedProxies != ()
        self.transport = transport
        self.useDirector(director)
        native = ICallbackTransport.providedBy(transport)
        self._begin = hookOf(transport if native else CallbackTransport(transport), ICallbackTransport, "begin")
        self._modify = None if modifyResponse is None else hookOf(modifyResponse, IResponseModifier, "modifyResponse")
        self._handleError = None if errorHandler is None else hookOf(errorHandler, IErrorHandler, "handleError")
        self._requestFilters = [bodyFilter(given) for given in requestFilters]
        self._responseFilters = [bodyFilter(given) for given in responseFilters]
        self._shapes = bool(self._responseFilters) or settings.flushInterval > 0
        self._clock = clock
        self._wheel = wheel
        self._wallClock = wallClock
        self._exchangeTicks = ticksOf(wheel, timeouts.exchange)
        self._bounded = timeouts.exchange is not None
        self._tunnelTicks = ticksOf(wheel, timeouts.tunnelIdle)

    def useDirector(self, director: Any) -> None:
        """
        From the next exchange on, ask C{director}.

        @param director: an L{IDirector<twistproxy.interfaces.IDirector>} or a callable.
        """
        self._direct = hookOf(director, IDirector, "direct")
        self.director = director
        # A director of ours that sets no context variables, waits for nothing and makes no mistakes needs neither a
        # context of its own nor to be looked after; what is derived from it may.
        self._plain = vars(type(director)).get("plain") is True

    def respond(self, exchange: Exchange) -> None:
        """
        See L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
        if self._bounded:
            exchange.limit(self._wheel, self._exchangeTicks)
        exchange.run(self._carry(exchange))

    def _carry(self, exchange: Exchange) -> Flow:
        """
        The twelve steps.
        """
        request, record, settings = exchange.request, exchange.record, self.settings
        # Callables that attributes hold are looked up before they are called: together CPython cannot make both fast.
        direct, begin = self._direct, self._begin
        response: Any = None
        try:
            if request.fault is not None or self._checks or request.method in UNUSUAL:
                refuse(request, settings)  # (1)
            exchange.outbound = outbound = draftOutbound(request, settings, record)  # (2)
            if type(outbound.body) is bytes:
                record.requestBytes = len(outbound.body)
            else:
                outbound.body = RequestBody(outbound.body, exchange, settings.maxRequestBody)
            try:
                asked = ProxyRequest(request, outbound, exchange, self._trusts)
                response = direct(asked) if self._plain else exchange.direct(direct, asked)  # (3)
                if response is not None:
                    response = yield from exchange.wait(response)
                    record.directed = record.clock()
                if response is None:
                    if not self._plain:
                        completeOutbound(outbound, request)
                    record.upstream = outbound.upstream.name  # type: ignore[union-attr]
                else:
                    response = answerOf(response)
            except ProxyError:
                raise
            except Exception as error:
                raise self._hookFailed("director", self.director, error) from error
            if response is None:
                if self._requestFilters:
                    self._filterRequest(exchange, outbound)
                begin(outbound, exchange)  # (5), which also does (6) and (8)
                response = yield
                if self._modify is not None:  # (10)
                    yield from self._modified(exchange, response)
                if self._shapes and response.status != 101:
                    self._shapeBody(exchange, response)
                if not response.dated or response.view is not None:
                    draftResponse(response, self._wallClock())
                if response.status == 101:  # (9)
                    yield from self._tunnelled(exchange, response)
                    return
            else:  # (4)
                draftResponse(response, self._wallClock())
        except ProxyError as error:  # (7)
            response = yield from self._answerTo(error, exchange)
            if response is None:
                return
        try:
            if type(response.body) is bytes:  # (11)
                exchange.sendAtOnce(response)
            else:
                yield from exchange.deliver(response)
        except ProxyError as error:
            yield from self._answerTo(error, exchange)
        # (12): the exchange settles when this returns

    def _hookFailed(self, name: str, hook: Any, error: Exception) -> HookFailed:
        return HookFailed(f"{name} {nameOf(hook)}", f"{type(error).__name__}: {error}")

    # -- step 5

    def _filterRequest(self, exchange: Exchange, outbound: OutboundRequest) -> None:
        """
        Put the filters between the client's body and the upstream.
        """
        for sort, filterBody in self._requestFilters:
            if type(outbound.body) is not bytes or outbound.body:
                outbound.body = self._filtered(exchange, sort, filterBody, outbound)

    def _filtered(self, exchange: Exchange, sort: Any, filterBody: Any, message: Any) -> Any:
        try:
            body = sort(message.body, filterBody, message, exchange.within)
            if sort is GeneratedBody:
                exchange.generated = [*(exchange.generated or ()), body]
            return body
        except ProxyError:
            raise
        except Exception as error:
            raise self._hookFailed("body filter", filterBody, error) from error

    # -- steps 9 and 10

    def _modified(self, exchange: Exchange, response: UpstreamResponse) -> Flow:
        """
        Let the user's modifier at a response.
        """
        modify = self._modify
        assert modify is not None
        least = min(response.status, 200)
        try:
            result = exchange.within(modify, response)
            if result is not None:
                yield from exchange.wait(result)
            checkResponse(response, least)
        except ProxyError:
            response.abort()
            raise
        except Exception as error:
            response.abort()
            raise self._hookFailed("modifyResponse", modify, error) from error

    def _shapeBody(self, exchange: Exchange, response: UpstreamResponse) -> None:
        """
        Put filters, and the coalescing of small writes, between the upstream's body and the client.
        """
        if self._responseFilters and not hasNoBody(exchange.request.method, response.status):
            for sort, filterBody in self._responseFilters:
                response.body = self._filtered(exchange, sort, filterBody, response)
        if self.settings.flushInterval > 0 and mayCoalesce(response):
            response.body = CoalescedBody(response.body, self.settings.flushInterval, self._clock)

    def _tunnelled(self, exchange: Exchange, response: UpstreamResponse) -> Flow:
        """
        Become a tunnel, and wait for its end.
        """
        upstream = response.connection.tunnel()
        lines = response.ownLines()
        lines += [b"Connection: Upgrade", b"Upgrade: " + (response.upgrade or b"")]
        downstream = exchange.switch(response)
        tunnel = Tunnel(exchange, downstream, upstream, self._wheel, self._tunnelTicks)
        tunnel.start()
        yield

    # -- step 7

    def _answerTo(self, error: ProxyError, exchange: Exchange) -> Flow:
        """
        The funnel: every failure of an exchange comes through here, once.

        @return: the response for the client, or C{None} if it cannot be told any more.
        """
        record = exchange.record
        if record.error is None:
            record.error = error
        if not record.requestID:
            identify(exchange.request, self.settings, record)
        self._report(error, exchange)
        exchange.giveUp()
        if isinstance(error, ClientLeft):
            record.status = error.status
            return None
        if exchange.responseSide is not ResponseSide.NOTHING:
            exchange.cut()
            return None
        response = None
        if self._handleError is not None:
            try:
                response = yield from exchange.wait(exchange.within(self._handleError, error, exchange))
                if response is not None:
                    response = answerOf(response)
            except ClientLeft:
                record.status = 499
                return None
            except Exception:
                name = nameOf(self._handleError)
                self._log.failure("the error handler {name} failed on {exchange}", name=name, exchange=exchange)
                response = plainResponse(500)
        if response is None:
            response = errorResponse(error, exchange.request, record.requestID)
        draftResponse(response, self._wallClock())
        return response

    def _report(self, error: ProxyError, exchange: Exchange) -> None:
        """
        Log a failure: all that the operator needs, once.
        """
        record = exchange.record
        fields: dict[str, Any] = {
            "reason": error.reason,
            "stage": error.stage.value,
            "side": error.side.value,
            "sent": error.sent.value,
            "timeout": error.timeout,
            "upstream": record.upstream,
            "requestID": record.requestID.decode("latin-1"),
            "method": record.method.decode("latin-1"),
            "target": record.target.decode("latin-1"),
            "client": record.client,
            "tries": record.tries,
            "retried": list(record.retried),
            "seconds": round(record.clock() - record.started, 6),
        }
        text = (
            "{method} {target} from {client} failed at {side}/{stage} ({sent} sent) to {upstream!r} "
            "after {seconds} s: {reason} [{requestID}]"
        )
        if isinstance(error, HookFailed) and error.__cause__ is not None:
            cause = error.__cause__
            self._log.failure(text, Failure(cause, type(cause), cause.__traceback__), **fields)
        elif error.side is Side.DOWNSTREAM:
            self._log.debug(text, **fields)
        else:
            self._log.warn(text, **fields)
