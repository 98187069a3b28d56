# -*- test-case-name: tests.policy.test_retrytransport -*-
"""
The transport that tries again what came to nothing.

Who decides is an L{IRetryPolicy<twistproxy.interfaces.IRetryPolicy>}, L{Retries<twistproxy.policy.retry.Retries>} by
default.  What no policy can overrule is kept here: that a body which somebody has begun to take is not sent again; that
nothing is tried again once a final response was passed on, or the client has left; that there is an end to it; and that
tries which follow a delivered one stay a small share of all requests, so that they cannot multiply an outage.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.deadlines import NEVER, IWheelLike, Timed
from twistproxy.errors import ProxyError, Side, Stage, Unavailable
from twistproxy.interfaces import IBody, ICarrier, IRetryPolicy, IRoundTripReceiver, hookOf
from twistproxy.message import OutboundRequest, Response
from twistproxy.policy.balance import elsewhere
from twistproxy.policy.layer import Layer, PassingReceiver
from twistproxy.policy.retry import MOST_RETRIES, Attempt, Retries, RetryBudget, RetryPolicyLike
from twistproxy.upstreams import Cluster


class RetryTransport(Layer):
    """
    Tries again, from the request as the director left it: the director is not asked a second time, and nothing is left
    of what the last try made of it (B2.2).

    @ivar policy: decides.
    @ivar budget: bounds it.
    """

    _log = Logger()

    def __init__(
        self,
        transport: Any,
        policy: RetryPolicyLike | None = None,
        *,
        wheel: IWheelLike,
        budget: RetryBudget | None = None,
    ) -> None:
        """
        @param transport: what carries each try; see L{Layer}.
        @param policy: an L{IRetryPolicy<twistproxy.interfaces.IRetryPolicy>}, or a callable; L{Retries} by default.
        @param wheel: measures pauses, in tenths of a second.
        @param budget: bounds all tries of this transport, and of others that share it.
        @raise TypeError: if C{policy} is neither.
        """
        super().__init__(transport)
        self.policy: Any = Retries() if policy is None else policy
        self.budget = budget or RetryBudget()
        self._again = hookOf(self.policy, IRetryPolicy, "again")
        self._statuses: frozenset[int] = frozenset(getattr(self.policy, "statuses", ()))
        self._window = self.budget.window
        self._wheel = wheel
        self._waiting: set[_Tries] = set()
        self._closed = False

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        window = self._window
        # The record has just read the clock.
        now = outbound.record.started
        if now >= window.ends:
            window.turn(now)
        window.total += 1
        if type(outbound.body) is not bytes:
            outbound.body = _Watched(outbound.body)
        self._begin(outbound, _Tries(self, outbound, receiver))

    def pauseAfter(self, attempt: Attempt) -> float | None:
        """
        @return: after how many seconds to try again; C{None} if it is not to be.
        """
        if self._closed or attempt.number > MOST_RETRIES:
            return None
        try:
            pause: float | None = self._again(attempt)
            # False would be a pause of 0 seconds, and no policy that returns it means that
            if pause is not None and (isinstance(pause, bool) or not 0 <= pause < NEVER):
                raise ValueError(f"a pause is a number of seconds, not {pause!r}")
        except BaseException:  # asyncio's CancelledError, too: the exchange has to end
            self._log.failure("the retry policy {policy!r} failed", policy=self.policy)
            return None
        if pause is not None and attempt.delivered and not self.budget.grant(attempt.outbound.record.clock()):
            return None
        return pause

    def close(self) -> None:
        """
        See L{Layer.close}.  Nothing is tried again from now on.
        """
        self._closed = True
        super().close()

    def cut(self) -> None:
        """
        See L{Layer.cut}.
        """
        self._closed = True
        for tries in list(self._waiting):
            tries.giveUp()
        super().cut()


@implementer(ICarrier, IRoundTripReceiver)
class _Tries(PassingReceiver, Timed):
    """
    All tries of one request.

    While it is tried, who carries it is below, and whoever ends that ends it all; during a pause this carries it.
    """

    __slots__ = ("_draft", "_number", "_outbound", "_receiver", "_transport")

    stage = Stage.QUEUE

    def __init__(self, transport: RetryTransport, outbound: OutboundRequest, receiver: Any) -> None:
        self.deadline = self.slot = NEVER
        self._transport = transport
        self._outbound = outbound
        self._receiver = receiver
        self._draft = outbound.draft()
        self._number = 1

    # -- what becomes of a try

    def responseReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.responseReceived<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        statuses = self._transport._statuses
        if statuses and response.status in statuses:
            pause = self._pauseAfter(None, response.status)
            if pause is not None:
                _giveUp(response)
                self._again(pause, f"answered with {response.status}")
                return
        self._receiver.responseReceived(response)

    def roundTripFailed(self, error: ProxyError) -> None:
        """
        See L{IRoundTripReceiver.roundTripFailed<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        pause = self._pauseAfter(error, None) if error.side is Side.UPSTREAM else None
        if pause is None:
            self._receiver.roundTripFailed(error)
        else:
            self._again(pause, error.reason)

    def _pauseAfter(self, error: ProxyError | None, status: int | None) -> float | None:
        """
        @return: after how many seconds to try again; C{None} if it is not to be.
        """
        outbound = self._outbound
        body = outbound.body
        if type(body) is not bytes and (type(body) is not _Watched or body.touched):
            return None
        target, cluster, another = outbound.upstream, self._draft[2], False
        # Whoever stands between may have sent a copy, and then nobody here knows to whom.
        if target is not None and not isinstance(target, Cluster):
            outbound.failed = (*outbound.failed, target)
            another = isinstance(cluster, Cluster) and bool(elsewhere(cluster.members, outbound.failed))
        return self._transport.pauseAfter(Attempt(self._number, outbound, error, status, another))

    # -- the next one

    def _again(self, pause: float, why: str) -> None:
        outbound, transport = self._outbound, self._transport
        record = outbound.record
        record.retried = (*record.retried, (record.upstream, why))
        self._number += 1
        if pause > 0:
            outbound.carrier = self
            outbound.held = None
            transport._waiting.add(self)
            transport._wheel.schedule(self, transport._wheel.ticks(pause))
        else:
            outbound.restore(self._draft)
            transport._begin(outbound, self)

    @property
    def wheel(self) -> IWheelLike:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._transport._wheel

    def timedOut(self) -> None:
        """
        The pause is over.
        """
        self._transport._waiting.discard(self)
        self._outbound.restore(self._draft)
        self._transport._begin(self._outbound, self)

    def abort(self) -> None:
        """
        See L{ICarrier.abort<twistproxy.interfaces.ICarrier>}: the client has left during a pause.
        """
        self._transport._waiting.discard(self)
        self._transport._wheel.cancel(self)

    def giveUp(self) -> None:
        """
        There will be no other try.
        """
        self.abort()
        self._outbound.carrier = None
        self._receiver.roundTripFailed(Unavailable("the proxy is going down"))


def _giveUp(response: Any) -> None:
    """
    Nobody wants a response.
    """
    if hasattr(response, "abort"):
        response.abort()
    elif type(response.body) is not bytes:
        response.body.stopProducing()


@implementer(IBody)
class _Watched:
    """
    A request's body of which it is known whether anybody has begun to take it.  Its bytes do not come by here.

    @ivar length: its length in bytes, if known.
    @ivar touched: whether it was asked for, or given up.
    """

    __slots__ = ("_source", "length", "touched")

    def __init__(self, source: Any) -> None:
        self._source = source
        self.length: int | None = source.length
        self.touched = False

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        self.touched = True
        self._source.deliver(consumer)

    def pauseProducing(self) -> None:
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        self.touched = True
        self._source.stopProducing()
