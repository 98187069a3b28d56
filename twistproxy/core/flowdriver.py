# -*- test-case-name: tests.core.test_exchange,tests.core.test_variables -*-
"""
What drives the flow of an exchange: L{FlowDriver} is the half of an
L{Exchange<twistproxy.core.exchange.Exchange>} that waits.

A flow is a generator that yields wherever it has to wait, so that its steps can stand in one function from top to
bottom.  Resuming a generator costs a tenth of a microsecond; a Deferred or a coroutine per step would cost more than
the rest of the exchange.

What a flow waits for may come before it waits, in the middle of one of its steps: it is then kept until the step has
come to its C{yield}.  Whatever it waits for is also what has to be cancelled when the exchange breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.core.driven import Driven
from twistproxy.core.errorpage import plainResponse
from twistproxy.core.states import RESPONSE_TRANSITIONS, Event, ResponseSide
from twistproxy.core.variables import ENTERED
from twistproxy.errors import ProxyError, Sent, Side, Stage
from twistproxy.events import ExchangeRecord
from twistproxy.message import OutboundRequest, Response, UpstreamResponse

#: What drives an exchange; it yields where it has to wait for something that resumes the exchange.
Flow = Generator[None, Any, Any]

# Looked up once: on CPython 3.11 an attribute of an enumeration costs more than the decision that it is needed for.
_NOTHING, _STREAMING, _TUNNEL = ResponseSide.NOTHING, ResponseSide.STREAMING, ResponseSide.TUNNEL
_SENT = Event.SENT


class FlowDriver:
    """
    Drives a flow to its end, through every wait; ends it if it must not go on.

    It has no C{__init__} of its own: an exchange is made for each request, and a call less is worth having.
    """

    __slots__ = (
        "_body", "_context", "_early", "_flow", "_running", "_tunnel", "_waiting", "outbound", "record",
        "responseSide", "settled", "variables",
    )  # fmt: skip

    _body: Any
    _context: Any  # the exchange knows its sort
    _early: tuple[Any, ProxyError | None] | None
    _flow: Flow | None
    _running: bool
    _tunnel: Any
    _waiting: Any
    outbound: OutboundRequest | None
    record: ExchangeRecord
    responseSide: ResponseSide
    settled: bool
    variables: Any

    _log = Logger()

    # -- what the other half does

    def sendAtOnce(self, response: Response) -> None:
        """
        Send a response whose body is C{bytes}.
        """
        raise NotImplementedError

    def cut(self) -> None:
        """
        Cut the response off so that it cannot be taken for complete.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """
        It is over.
        """
        raise NotImplementedError

    # -- going on

    def _resume(self, value: Any, error: BaseException | None) -> None:
        """
        Continue the flow with what it waited for.
        """
        if self._running:
            # called back before the flow has come to wait for it
            if self._early is None or error is not None:
                self._early = (value, error)  # type: ignore[assignment]
            return
        flow = self._flow
        if flow is None:
            return
        self._running = True
        try:
            while True:
                if error is None:
                    flow.send(value)
                else:
                    flow.throw(error)
                if self._early is None:
                    break
                (value, error), self._early = self._early, None
        except StopIteration:
            self._flow = None
            self.settle()
        except BaseException as fault:
            # not Exception: a hook may fail with asyncio's CancelledError, and then its exchange has to end too
            self._flow = None
            self._log.failure("the exchange {exchange} broke its flow", exchange=self)
            self._lastResort()
            if isinstance(fault, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self._running = False

    def _raiseEarly(self) -> None:
        """
        The exchange failed, or the client left, while a hook ran and nobody could be told: tell it now.
        """
        early, self._early = self._early, None
        if early is not None and early[1] is not None:
            raise early[1]

    def _lastResort(self, answer: Response | None = None) -> None:
        """
        Something failed that must not: an answer if there was none, and an end in any case.
        """
        if self.settled:
            return
        if self.record.error is None:
            self.record.error = ProxyError("an internal error", self.stage(), Side.INTERNAL, self._sent(), 500)
        self._early = None
        self._cancelWaiting()
        try:
            if self.responseSide is _NOTHING:
                self.sendAtOnce(answer or plainResponse(500))
            else:
                self.cut()
        except Exception:
            self._log.failure("nothing can be sent for {exchange} any more", exchange=self)
        self.settle()

    # -- how far it has come

    def stage(self) -> Stage:
        """
        @return: how far it has come.
        """
        if self.responseSide is _TUNNEL:
            return Stage.TUNNEL
        if self.responseSide is _STREAMING:
            return Stage.BODY
        if self.outbound is not None and self.outbound.carrier is not None:
            stage: Stage = self.outbound.carrier.stage
            return stage
        return Stage.DIRECT

    def _sent(self) -> Sent:
        return Sent.NOTHING if self.record.tries == 0 else Sent.SOME

    # -- what it waits for

    def within(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """
        Call user code in the C{contextvars} context of this exchange.

        @return: what C{hook} returns.
        """
        variables = self.variables
        if variables is None:
            variables = self._context.variables.copy()
        self.variables = ENTERED
        try:
            return variables.run(hook, *arguments)
        finally:
            self.variables = variables

    def direct(self, hook: Callable[..., Any], asked: Any) -> Any:
        """
        The same for a director, often the only hook: a context that it has not changed (the same inside) is not kept.
        """
        site = self._context.variables
        variables = site.copy()
        try:
            return variables.run(hook, asked)
        finally:
            if variables != site:
                self.variables = variables

    def _copyOfVariables(self) -> Context:
        variables = self.variables
        if variables is ENTERED:
            return copy_context()
        if variables is None:
            variables = self.variables = self._context.variables.copy()
        copy: Context = variables.copy()
        return copy

    def wait(self, value: Any) -> Generator[None, Any, Any]:
        """
        Wait, in a flow, for what a hook returned: C{result = yield from exchange.wait(value)}.

        @param value: a Deferred or a coroutine; anything else comes back at once.
        @raise Exception: whatever it fails with.
        """
        isCoroutine = type(value) is CoroutineType or isinstance(value, Coroutine)
        if not isCoroutine and not isinstance(value, Deferred):
            return value
        outcome: list[Any] = []
        late = False

        def arrived(result: Any) -> None:
            outcome.append(result)
            if late:
                self._drop(result)
            elif self._waiting is value:
                self._waiting = None
                self._resume(None, None)

        if isCoroutine:
            value = Driven(value, self.within, self._copyOfVariables(), arrived)
            value.start()
        else:
            value.addBoth(arrived)
        if not outcome:
            self._waiting = value
            try:
                yield
            except BaseException:
                # It was cancelled, and may give something all the same: now, as it has just done, or later.
                late = True
                if outcome:
                    self._drop(outcome[0])
                raise
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def _drop(self, response: Any) -> None:
        """
        Give up what a hook has returned when nobody waited for it any more.
        """
        if isinstance(response, UpstreamResponse):
            self._stop(response.abort)
        elif isinstance(response, Response) and type(response.body) is not bytes:
            body: Any = response.body
            self._stop(lambda: body.stopProducing())

    def tunnelling(self, tunnel: Any) -> None:
        """
        @param tunnel: what is to be aborted if the client leaves; it resumes the exchange by L{tunnelEnded}.
        """
        self._tunnel = tunnel
        if self.outbound is not None:
            self.outbound.carrier = None  # the connection is the tunnel's, which ends it in order

    def tunnelEnded(self, error: ProxyError | None) -> None:
        """
        The tunnel is done.
        """
        self._tunnel = None
        if error is None:
            self.responseSide = RESPONSE_TRANSITIONS[self.responseSide, _SENT]
        self._resume(None, error)

    # -- ending what runs

    def giveUp(self) -> None:
        """
        End what still runs for this exchange.
        """
        self._cancelWaiting()

    def _cancelWaiting(self) -> None:
        """
        Cancel what runs for this exchange: a hook that waits, a request on its way, the response's body, a tunnel.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            # A hook may swallow the cancellation; nobody waits for its result any more.
            if isinstance(waiting, Deferred):
                waiting.addErrback(lambda _: None)
            self._stop(waiting.cancel)
        if self.outbound is not None and self.outbound.carrier is not None:
            carrier, self.outbound.carrier = self.outbound.carrier, None
            self._stop(carrier.abort)
        body, self._body = self._body, None
        if body is not None:
            self._stop(body.stopProducing)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.abort()

    def _stop(self, stop: Callable[[], Any]) -> None:
        """
        Stop something that user code may stand behind; that this fails is no reason for the exchange to go on.
        """
        try:
            stop()
        except Exception:
            self._log.failure("something could not be stopped for {exchange}", exchange=self)
