# -*- test-case-name: tests.policy.test_retry -*-
"""
What may be tried again, and how often: the rules.  L{twistproxy.policy.retrytransport} goes by them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import attrs
from zope.interface import implementer

from twistproxy.errors import ProxyError, Sent, Stage
from twistproxy.interfaces import IRetryPolicy
from twistproxy.message import OutboundRequest
from twistproxy.policy.window import Window
from twistproxy.rules.backoff import pauseAfter
from twistproxy.rules.methods import IDEMPOTENT
from twistproxy.rules.statuses import statusSet

#: However patient a policy is, one request is not tried again more often than this.
MOST_RETRIES = 30


@attrs.frozen
class Attempt:
    """
    A try that came to nothing.

    @ivar number: which try of this request it was; the first is 1.
    @ivar outbound: the request as it was sent; only to be looked at.
    @ivar error: why there was no response, or C{None}.
    @ivar status: the status of the response, or C{None}.
    @ivar elsewhere: whether there is another member to try, of a cluster.
    """

    number: int
    outbound: OutboundRequest
    error: ProxyError | None
    status: int | None
    elsewhere: bool

    @property
    def delivered(self) -> bool:
        """
        Whether any of the request may have reached the upstream.
        """
        return self.error is None or self.error.sent is not Sent.NOTHING


#: Decides whether a request is tried again.
RetryPolicyLike: TypeAlias = IRetryPolicy | Callable[[Attempt], float | None]


@implementer(IRetryPolicy)
@attrs.frozen(kw_only=True)
class Retries:
    """
    What may be tried again without doing anything twice:

     - a request of which nothing was sent, whatever its method; but one for which no connection was to be had, or that
       a breaker refused, only if there is another member;
     - one whose method is idempotent (RFC 9110 9.2.2), if there was no response; but not if a limit of time ran out:
       the upstream may still be at work on it, and the next one would take as long;
     - one whose method is idempotent, if the response has one of C{statuses}.

    Another member is tried at once, the same one again after a pause.

    @ivar most: how many tries may follow the first one, at most L{MOST_RETRIES}.
    @ivar statuses: responses that count as failures, 502, 503 and 504 for example; none by default.
    @ivar pause: before the first further try of the same upstream, in seconds; it doubles with each.
    @ivar longest: the longest pause, in seconds.
    @ivar random: gives numbers from 0.0 up to 1.0: a pause is at least half as long as said, and at most as long.
    """

    most: int = attrs.field(default=1, validator=[attrs.validators.ge(0), attrs.validators.le(MOST_RETRIES)])
    statuses: frozenset[int] = attrs.field(default=frozenset(), converter=statusSet)
    pause: float = attrs.field(default=0.2, validator=attrs.validators.ge(0.0))
    longest: float = attrs.field(default=2.0, validator=attrs.validators.ge(0.0))
    random: Callable[[], float] = attrs.field(factory=lambda: Random().random, repr=False, eq=False)

    def again(self, attempt: Attempt) -> float | None:
        """
        See L{IRetryPolicy.again<twistproxy.interfaces.IRetryPolicy>}.
        """
        if attempt.number > self.most:
            return None
        error = attempt.error
        if not attempt.delivered:
            if error is not None and error.stage is Stage.QUEUE and not attempt.elsewhere:
                return None
        elif attempt.outbound.method not in IDEMPOTENT or (error is not None and error.timeout is not None):
            return None
        if attempt.elsewhere:
            return 0.0
        return pauseAfter(attempt.number, self.pause, self.longest) * (0.5 + self.random() / 2)


class RetryBudget:
    """
    How many further tries there may be, as a share of all requests of the last few seconds.

    What was never delivered draws nothing from it: of a request that reached nobody, the next try is the first.

    @ivar window: counts requests, and the tries that were granted.
    """

    def __init__(self, share: float = 0.2, floor: int = 10, seconds: float = 10.0) -> None:
        """
        @param share: of requests, 0.0 to 1.0.
        @param floor: how many there may be in any case, so that one of few requests can be tried again too.
        @param seconds: over which time.
        @raise ValueError: if one of them makes no sense.
        """
        if not 0.0 <= share <= 1.0 or floor < 0:
            raise ValueError("a budget is a share from 0.0 to 1.0, and a number of tries")
        self.window = Window(seconds)
        self._share = share
        self._floor = floor

    def grant(self, now: float) -> bool:
        """
        Ask for one more try.

        @return: whether it may be; it counts then.
        """
        total, granted = self.window.counts(now)
        if granted + 1 > self._floor + self._share * total:
            return False
        self.window.marked += 1
        return True
