# -*- test-case-name: tests.core.test_exchange -*-
"""
One inbound request and the response it is owed.

An L{Exchange} stands between a server's wire, which knows bytes, and a responder, which knows what to do.  Here is
what they tell it, what is sent to the client, and how it settles; how it drives the responder's I{flow} is in
L{twistproxy.core.flowdriver}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.core.explain import Explanation
from twistproxy.core.flowdriver import Flow, FlowDriver
from twistproxy.core.responders import acceptable, awaitResponder, bodyBroke, hookFailed, nameOf, taken, unanswered
from twistproxy.core.states import REQUEST_TRANSITIONS, RESPONSE_TRANSITIONS, Event, RequestSide, ResponseSide
from twistproxy.core.wholetime import WholeTime
from twistproxy.deadlines import IWheelLike
from twistproxy.errors import ClientLeft, CutOff, HookFailed, MalformedMessage, ProxyError, Sent
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IBodyConsumer, IRoundTripReceiver
from twistproxy.message import Request, Response

# Looked up once: on CPython 3.11 an attribute of an enumeration costs more than the decision that it is needed for.
_NOTHING, _STREAMING = ResponseSide.NOTHING, ResponseSide.STREAMING
_COMING, _COMPLETE = RequestSide.COMING, RequestSide.COMPLETE
_HEAD_SENT, _SENT, _SWITCHED, _CUT = Event.HEAD_SENT, Event.SENT, Event.SWITCHED, Event.CUT


class ExchangeContext:
    """
    What the exchanges of one port have in common.
    """

    __slots__ = ("clock", "observers", "respond", "variables")

    def __init__(
        self,
        respond: Callable[[Exchange], Any],
        clock: Callable[[], float],
        observers: Sequence[Callable[[ExchangeRecord], None]] = (),
    ) -> None:
        """
        @param respond: takes over an exchange, and may return what is to be waited for.
        @param clock: seconds, C{reactor.seconds}.
        @param observers: called with the record of each exchange that has settled.
        """
        self.respond = respond
        self.clock = clock
        self.observers = tuple(observers)
        self.variables = copy_context()  # rather than what may be set wherever a first byte happens to be read

    def begin(self, downstream: Any, request: Request) -> Exchange:
        """
        Make the exchange of a request.

        @param downstream: the server side of the wire it came over, an
            L{IDownstream<twistproxy.interfaces.IDownstream>}.
        """
        return Exchange(self, downstream, request)


@implementer(IRoundTripReceiver, IBodyConsumer)
class Exchange(FlowDriver):
    """
    One exchange.

    @ivar request: what the client sent.
    @ivar record: what is known of it.
    @ivar outbound: what is sent upstream, once a proxy has drafted it.
    @ivar requestSide: how much of the request has come.
    @ivar responseSide: how much of the response has been sent.
    @ivar settled: whether it is over.
    @ivar generated: bodies made by generators, which have to be ended even if nobody ever takes them; or C{None}.
    @ivar variables: the context that its hooks run in, or C{None} while that is no other than those of the site.
    """

    __slots__ = ("__weakref__", "_downstream", "_limit", "generated", "request", "requestSide")

    _context: ExchangeContext

    def __init__(self, context: ExchangeContext, downstream: Any, request: Request) -> None:
        self._context = context
        self._downstream = downstream
        self.request = request
        self.record = ExchangeRecord(context.clock, request)
        self.outbound = None
        self.requestSide = _COMPLETE if type(request.body) is bytes else _COMING
        self.responseSide = _NOTHING
        self.settled = False
        self._flow = None
        self._running = False
        self._early = None
        self._waiting = None
        self._body = None
        self._tunnel = None
        self._limit: WholeTime | None = None
        self.variables = None
        self.generated: list[Any] | None = None

    def __repr__(self) -> str:
        state = "settled" if self.settled else f"{self.requestSide.value}/{self.responseSide.value}"
        return f"<Exchange {self.request.method!r} {self.request.target!r} {state}>"

    # -- from and to its responder

    def start(self, respond: Callable[[Exchange], Any] | None = None) -> None:
        """
        Give the exchange to its responder.

        @param respond: takes it over instead.
        """
        if respond is None:
            respond = self._context.respond
        try:
            given = respond(self)
            if given is not None:
                awaitResponder(self, respond, given)
        except Exception:
            name = nameOf(respond)
            self._log.failure("the responder {responder} failed on {exchange}", responder=name, exchange=self)
            self._lastResort()

    def run(self, flow: Flow) -> None:
        """
        Drive a flow to its end, through every wait; the exchange settles when it returns.
        """
        if self._flow is not None or self.settled:
            taken(self, flow)
            return
        self._flow = flow
        self._resume(None, None)

    def answer(self, response: Response) -> None:
        """
        For responders of one's own: send C{response}, and settle when all of it is sent.

        @param response: the response; its body may still be coming.  Nothing happens if the client has left meanwhile.
        """
        if acceptable(self, response):
            self.run(self._answering(response))

    def _answering(self, response: Response) -> Flow:
        try:
            yield from self.deliver(response)
        except ProxyError as error:
            self.record.error = error
            bodyBroke(self, error)
            self.cut()

    def limit(self, wheel: IWheelLike, ticks: int) -> None:
        """
        Limit the exchange as a whole.

        @param ticks: of C{wheel}, from now.
        """
        if self.settled:
            return
        if self._limit is not None:
            self._limit.cancel()
        self._limit = WholeTime(self.broken, self.stage, self._sent, wheel)
        wheel.schedule(self._limit, ticks)

    def explain(self) -> Explanation:
        """
        @return: what has been decided so far and why, as data and as text.  Costs nothing if it is not called.
        """
        return Explanation.of(self)

    # -- from the server's wire

    def clientLeft(self, timeout: str | None = None) -> None:
        """
        The client has gone, in whatever phase; everything that runs for it is cancelled (B7.1).

        @param timeout: the limit of time that it overstepped, if it was us who closed.
        """
        if self.settled:
            return
        error = ClientLeft(self.stage(), self._sent())
        error.timeout = timeout
        self.broken(error)

    def cutOff(self) -> None:
        """
        The proxy is going down and does not wait any longer.
        """
        if not self.settled:
            self.broken(CutOff(self.stage(), self._sent()))

    def broken(self, error: ProxyError) -> None:
        """
        The exchange has failed; its flow decides what comes of it.
        """
        if self.settled:
            return
        self._cancelWaiting()
        if isinstance(error, ClientLeft):
            self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _CUT]
            if self._flow is None:
                # its responder has not answered yet, and need not any more
                self.record.error = error
                self.record.status = error.status
                self.settle()
        elif self._flow is None and not self._running:
            unanswered(self, error)
        self._resume(None, error)

    # -- IRoundTripReceiver

    def informationalReceived(self, response: Response) -> None:
        """
        Relay an interim response (B5.6).  A late one, behind the final head, is dropped.
        """
        if self.responseSide is _NOTHING:
            self._downstream.sendInformational(response.status, response.reason, response.lines)

    def responseReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.responseReceived}.
        """
        record = self.record
        clock = record.clock  # as in ProxyFlow._carry
        record.responded = clock()
        self._resume(response, None)

    def roundTripFailed(self, error: ProxyError) -> None:
        """
        See L{IRoundTripReceiver.roundTripFailed}.
        """
        self._resume(None, error)

    # -- the request's body

    def bodyMoved(self, event: Event) -> None:
        """
        The request's body has ended, was given up, or broke off.
        """
        self.requestSide = REQUEST_TRANSITIONS[self.requestSide, event]

    # -- what is sent

    def deliver(self, response: Response) -> Flow:
        """
        Send a response, in a flow, and wait until its body is through: C{yield from exchange.deliver(response)}.

        @raise ProxyError: if its body breaks off, or the client leaves.
        """
        body: Any = response.body
        if type(body) is bytes:
            self.sendAtOnce(response)
            return
        self._raiseEarly()
        # asked first: what is no body at all must not end in half a response
        length = body.length
        self.record.status = response.status
        self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _HEAD_SENT]
        content = body.takePending() if hasattr(body, "takePending") else b""
        self.record.responseBytes = len(content)
        self._body = body
        self._downstream.sendHead(response, length, content, False)
        try:
            body.deliver(self)
        except ProxyError:
            raise
        except Exception as error:
            raise hookFailed(f"response body {nameOf(body)}", error) from error
        yield

    def sendAtOnce(self, response: Response) -> None:
        """
        Send a response whose body is C{bytes}.

        @raise ProxyError: if the exchange has failed meanwhile.
        """
        if self._early is not None:
            self._raiseEarly()
        record = self.record
        record.status = response.status
        content = response.body
        downstream = self._downstream
        trailers = response.trailers
        length = None if trailers or response.chunked else len(content)
        self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _SENT]
        downstream.sendHead(response, length, content, not trailers)
        if trailers:
            downstream.finish(trailers)
        if self.request.method != b"HEAD":
            record.responseBytes = len(content)

    def switch(self, response: Response) -> Any:
        """
        Send a 101 and leave HTTP.

        @return: the client's L{TunnelEnd<twistproxy.message.TunnelEnd>}.
        @raise ProxyError: if the exchange has failed meanwhile.
        """
        self._raiseEarly()
        self.record.status = 101
        self.record.tunnelled = True
        self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _SWITCHED]
        return self._downstream.switchProtocols(response)

    def cut(self) -> None:
        """
        Cut the response off so that it cannot be taken for complete.
        """
        before = self.responseSide
        self.responseSide = RESPONSE_TRANSITIONS[before, _CUT]
        if before is not self.responseSide:
            self._downstream.abort()

    def settle(self) -> None:
        """
        It is over: record, observers, and the connection's next exchange; exactly once (B3.6).
        """
        if self.settled:
            return
        self.settled = True
        context = self._context
        record = self.record
        clock = record.clock  # as in ProxyFlow._carry
        record.ended = clock()
        outbound = self.outbound
        if outbound is not None:
            if outbound.carrier is not None:
                # The upstream is not done, and nobody waits for it any more: its response was replaced, or an answer
                # given without it.
                carrier, outbound.carrier = outbound.carrier, None
                self._stop(carrier.abort)
            outbound.held = None
            outbound.body = b""  # it may know this exchange, and would hold it until the garbage collector comes
        if self.generated is not None:
            for body in self.generated:
                self._stop(body.abandon)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        for observer in context.observers:
            try:
                if self.variables is None:
                    observer(record)
                else:
                    self.within(observer, record)
            except Exception:
                name = nameOf(observer)
                self._log.failure("the observer {observer} failed on {exchange}", observer=name, exchange=self)
        if record.error is not None:
            # Its traceback holds the frames that it went through, and these hold the exchange and its connections:
            # without this nothing of them would be freed before the garbage collector comes.
            record.error.__traceback__ = record.error.__context__ = None
        downstream, self._downstream = self._downstream, None
        downstream.exchangeEnded()

    # -- IBodyConsumer, for the response's body

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        The response's body is paused while the client does not keep up.
        """
        if not self.settled:
            self._downstream.setProducer(producer)

    def unregisterProducer(self) -> None:
        """
        The response's body has ended.
        """
        if not self.settled:
            self._downstream.setProducer(None)

    def write(self, data: bytes) -> None:
        """
        A piece of the response's body.
        """
        if self.responseSide is _STREAMING:
            self.record.responseBytes += len(data)
            try:
                self._downstream.write(data)
            except MalformedMessage as fault:
                self.broken(HookFailed(f"response body {nameOf(self._body)}", fault.reason, Sent.ALL))

    def finish(self, trailers: list[bytes]) -> None:
        """
        The response's body is complete.
        """
        body, self._body = self._body, None
        if self.responseSide is not _STREAMING:
            return
        try:
            self._downstream.finish(trailers)
        except MalformedMessage as fault:
            self.broken(HookFailed(f"response body {nameOf(body)}", fault.reason, Sent.ALL))
            return
        self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _SENT]
        self._resume(None, None)

    def fail(self, error: Exception) -> None:
        """
        The response's body has broken off.
        """
        body, self._body = self._body, None
        self.broken(error if isinstance(error, ProxyError) else hookFailed(f"response body {nameOf(body)}", error))
