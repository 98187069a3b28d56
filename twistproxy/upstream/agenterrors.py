# -*- test-case-name: tests.upstream.test_agent,tests.upstream.test_agenttransport -*-
"""
Two languages for the same misfortunes: Twisted's Agent raises connection errors and wrapped reasons, the proxy
L{ProxyError<twistproxy.errors.ProxyError>}s with stage, side and what was sent.

Nothing is lost on the way to an agent's user and back: the L{ProxyError<twistproxy.errors.ProxyError>} is the reason in
the exception that wraps it.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.python.failure import Failure
from twisted.web.client import (  # type: ignore[attr-defined]  # RequestNotSent is not said to be exported
    RequestGenerationFailed,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from twistproxy.errors import HookFailed, ProxyError, Sent, Stage, UpstreamError, UpstreamTimeout


def connectError(cause: BaseException | None, name: str) -> ProxyError:
    """
    @param cause: what an endpoint has failed with.
    @param name: of the upstream, for the log.
    @return: the same in the proxy's words; nothing of a request was sent.
    """
    error: ProxyError
    if isinstance(cause, ProxyError):
        return cause
    if isinstance(cause, ConnectTimeoutError):
        error = UpstreamTimeout("connect", Stage.CONNECT)
    elif isinstance(cause, (CancelledError, ConnectingCancelledError)):
        error = UpstreamError("given up", Stage.CONNECT)
    else:
        error = UpstreamError(f"{name} cannot be reached: {cause}", Stage.CONNECT)
    error.__cause__ = cause
    return error


def agentFailure(failure: Failure) -> Failure:
    """
    @param failure: of a request over the native transport.
    @return: what a user of L{twisted.web.client.Agent} expects instead: connection errors as Twisted has them,
        C{RequestGenerationFailed} when the body producer failed, C{ResponseNeverReceived} when there was no response;
        a full line, and whatever else an agent has no name for, as it is.
    """
    error = failure.value
    if not isinstance(error, ProxyError):
        return failure
    cause = error.__cause__
    if isinstance(error, HookFailed):
        if error.hook == "request body":
            return Failure(RequestGenerationFailed([Failure(cause) if cause is not None else failure]))
        return failure
    if error.stage is Stage.QUEUE:
        return failure
    if error.stage is Stage.CONNECT:
        if isinstance(cause, (ConnectError, DNSLookupError, ConnectTimeoutError)):
            return Failure(cause)
        if isinstance(error, UpstreamTimeout):
            timeout = ConnectTimeoutError()
            timeout.__cause__ = error
            return Failure(timeout)
        return failure
    return Failure(ResponseNeverReceived([failure]))


def proxyError(error: BaseException | None, agent: str, upload: bool) -> ProxyError | CancelledError:
    """
    @param error: what an agent has failed with.
    @param agent: the agent, for the log.
    @param upload: whether there was a body to send, of which perhaps not all went.
    @return: the same in the proxy's words; of doubtful cases the one in which more was sent.  Cancelling is no error:
        its outcome is C{CancelledError} here too.
    """
    reasons = [reason.value for reason in getattr(error, "reasons", None) or []]
    for reason in (error, *reasons):
        if isinstance(reason, (ProxyError, CancelledError)):
            return reason
    found: ProxyError
    told = "; ".join(str(reason) or type(reason).__name__ for reason in reasons) or str(error) or type(error).__name__
    if isinstance(error, (ConnectError, DNSLookupError, ConnectTimeoutError)):
        return connectError(error, "the upstream")
    if isinstance(error, RequestNotSent):
        found = UpstreamError(f"the request was not sent: {told}", Stage.SEND)
    elif isinstance(error, RequestGenerationFailed):
        found = HookFailed("request body", told, Sent.SOME)
    elif isinstance(error, RequestTransmissionFailed):
        found = UpstreamError(f"the request could not be sent: {told}", Stage.SEND, Sent.SOME)
    elif isinstance(error, (ResponseNeverReceived, ResponseFailed)):
        sent = Sent.SOME if upload else Sent.ALL
        found = UpstreamError(f"there was no response: {told}", Stage.WAIT, sent)
    else:
        found = HookFailed(agent, f"{type(error).__name__}: {error}", Sent.SOME)
    found.__cause__ = error
    return found
