# -*- test-case-name: tests.test_badinput -*-
"""
Responders of the user's: those that wait, and what becomes of an exchange whose responder does not do its duty.

A responder answers exactly once.  One that returns a Deferred or a coroutine says by its end that it has; of any other
nobody can know that it never will, so it is the limit on the whole exchange that ends that.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.core.draft import checkResponse
from twistproxy.core.errorpage import errorResponse
from twistproxy.core.variables import startCoroutine
from twistproxy.deadlines import IWheelLike
from twistproxy.errors import ClientLeft, HookFailed, ProxyError, Sent

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange

_log = Logger()


def nameOf(hook: Any) -> str:
    """
    @return: how a log names user code: a function by its name, an object by its class.
    """
    name: str = getattr(hook, "__qualname__", None) or type(hook).__qualname__
    return name


def hookFailed(hook: str, error: Exception) -> ProxyError:
    """
    @return: what user code failed with, as a failure of an exchange.
    """
    wrapped = HookFailed(hook, f"{type(error).__name__}: {error}", Sent.ALL)
    wrapped.__cause__ = error
    return wrapped


def awaitResponder(exchange: Exchange, respond: Callable[..., Any], given: Any) -> None:
    """
    See to it that a responder which waits has answered when it is done.

    @param given: what it has returned; anything but a Deferred or a coroutine is nothing to us.
    """
    # a coroutine knows its own name, where C{respond} is only what stands before it
    name = getattr(given, "__qualname__", None) or nameOf(respond)
    if isinstance(given, Coroutine):
        given = startCoroutine(given, exchange.within)
    if not isinstance(given, Deferred):
        return
    # what a proxy waits for, that has the exchange already, would not resume it if it were not known any more
    waiting = not given.called and exchange._waiting is None
    if waiting:
        exchange._waiting = given  # to be cancelled when the client leaves

    def ended(result: Any) -> None:
        ours = exchange._flow is None and not exchange.settled
        if waiting:
            if exchange._waiting is given:
                exchange._waiting = None
            else:
                ours = False  # it is the exchange that ends it
        if isinstance(result, Failure):
            if ours or not result.check(CancelledError):
                text = "the responder {responder} failed on {exchange}"
                _log.failure(text, result, responder=name, exchange=exchange)
        elif ours:
            text = "the responder {responder} is done with {exchange}, and has not answered it"
            _log.error(text, responder=name, exchange=exchange)
        if ours:
            exchange._lastResort()

    given.addBoth(ended)


def limited(respond: Callable[[Exchange], Any], wheel: IWheelLike, seconds: float) -> Callable[[Exchange], Any]:
    """
    @param respond: a responder.
    @param seconds: how long its exchanges may take.
    @return: the same, with that limit.  One of a proxy that it gives them to takes its place.
    """
    ticks = wheel.ticks(seconds)

    def within(exchange: Exchange) -> Any:
        exchange.limit(wheel, ticks)
        return respond(exchange)

    within.__qualname__ = nameOf(respond)
    return within


def taken(exchange: Exchange, flow: Any) -> None:
    """
    An exchange that is over, or that a responder carries already, is given to another one.  Its client may have left,
    which is nobody's fault; otherwise it is a bug, and costs the exchange nothing.
    """
    flow.close()
    if exchange.record.error is None:
        text = "the responder {responder} gives {exchange} away, which is taken already"
        _log.error(text, responder=nameOf(exchange._context.respond), exchange=exchange)


def acceptable(exchange: Exchange, response: Any) -> bool:
    """
    Look at what a responder answers with.  Nonsense ends its exchange, a second answer is dropped: the first one may
    be on its way, and is no worse for it.

    @return: whether it is to be sent.
    """
    responder = nameOf(exchange._context.respond)
    try:
        checkResponse(response)
    except (TypeError, ValueError) as error:
        _log.failure(
            "the responder {responder} answers {exchange} with nonsense: {reason}",
            responder=responder,
            exchange=exchange,
            reason=str(error),
        )
        if exchange._flow is None:
            exchange._lastResort()
        return False
    if not exchange.settled and exchange._flow is None:
        return True
    if exchange.record.error is None:
        _log.error(
            "the responder {responder} answers {exchange}, which is answered already, with {response}",
            responder=responder,
            exchange=exchange,
            response=response,
        )
    if type(response.body) is not bytes:
        response.body.stopProducing()
    return False


def bodyBroke(exchange: Exchange, error: ProxyError) -> None:
    """
    The body of an answer has broken off, or its client has left.
    """
    if isinstance(error, ClientLeft):
        return
    responder = nameOf(exchange._context.respond)
    fields: dict[str, Any] = {"exchange": exchange, "responder": responder, "reason": error.reason}
    text = "the answer of the responder {responder} to {exchange} broke off: {reason}"
    cause = error.__cause__
    if cause is None:
        _log.warn(text, **fields)
    else:
        _log.failure(text, Failure(cause, type(cause), cause.__traceback__), **fields)


def unanswered(exchange: Exchange, error: ProxyError) -> None:
    """
    An exchange has failed before its responder has answered it: tell the client.
    """
    record = exchange.record
    record.error = error
    _log.warn(
        "{exchange} ends before its responder {responder} has answered: {reason}",
        exchange=exchange,
        responder=nameOf(exchange._context.respond),
        reason=error.reason,
    )
    exchange._lastResort(errorResponse(error, exchange.request, record.requestID))
