# -*- test-case-name: tests.policy.test_breaker -*-
"""
Leaving an upstream alone that keeps failing.

The rule, L{Breaker}, knows no transport and no clock: it is told what happens and when.  It is in one of three states::

    CLOSED --too many failures--> OPEN --its pause is over, a request comes--> HALF_OPEN --the trial succeeds--> CLOSED
                                    ^                                             |
                                    `------------the trial fails------------------'

A closed breaker lets everything through, an open one nothing.  When the pause is over the next request is the trial: it
goes through, and what becomes of it decides.  A trial may tell nothing, as its client leaves: then the request after it
is one, too.  Or it may take its time: then the next one may go when another pause has passed.  Each further opening in
a row makes the pause longer.

What has a breaker, and what happens where all of them are open, is in L{twistproxy.policy.breakertransport}.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from math import inf

import attrs

from twistproxy.policy.window import Window
from twistproxy.rules.backoff import pauseAfter
from twistproxy.rules.statuses import statusSet


class State(enum.Enum):
    """
    What a breaker does with requests.
    """

    CLOSED = "closed"  #: lets them through
    OPEN = "open"  #: refuses them
    HALF_OPEN = "half-open"  #: waits for the outcome of a trial

    __hash__ = object.__hash__


class Event(enum.Enum):
    """
    What moves it from one state to the next.
    """

    TRIPPED = "too many failures"
    TRIAL = "a trial began"
    SUCCEEDED = "the trial succeeded"
    FAILED = "the trial failed"

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.TRIAL): State.HALF_OPEN,
    # the last one has told nothing for a whole pause
    (State.HALF_OPEN, Event.TRIAL): State.HALF_OPEN,
    (State.HALF_OPEN, Event.SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Event.FAILED): State.OPEN,
    # its outcome came late, when that of another trial had decided
    (State.CLOSED, Event.SUCCEEDED): State.CLOSED,
    (State.CLOSED, Event.FAILED): State.CLOSED,
    (State.OPEN, Event.SUCCEEDED): State.OPEN,
    (State.OPEN, Event.FAILED): State.OPEN,
}

_CLOSED, _OPEN = State.CLOSED, State.OPEN


@attrs.frozen(kw_only=True)
class BreakerSettings:
    """
    When a breaker opens, and for how long.

    @ivar failures: how many in a row open it.
    @ivar share: which share of all requests opens it although others succeed, 0.0 to 1.0.
    @ivar requests: of how many at least, within C{window}.
    @ivar window: over how many seconds.
    @ivar statuses: responses that count as failures, such as 502, 503 and 504.  None by default: that one part of an
        application says 503 is no reason to take all of it out of service.
    @ivar pause: for how many seconds it opens the first time.
    @ivar longest: for how many at most, when it opens again and again.
    """

    failures: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    share: float = attrs.field(default=0.5, validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)])
    requests: int = attrs.field(default=20, validator=attrs.validators.ge(1))
    window: float = attrs.field(default=10.0, validator=[attrs.validators.gt(0.0), attrs.validators.lt(inf)])
    statuses: frozenset[int] = attrs.field(default=frozenset(), converter=statusSet)
    pause: float = attrs.field(default=1.0, validator=attrs.validators.gt(0.0))
    longest: float = attrs.field(default=30.0, validator=attrs.validators.gt(0.0))


class Breaker:
    """
    The rule for one upstream.

    @ivar state: what it does now.
    @ivar failures: how many there were in a row.
    @ivar opened: how often it has opened in a row, without having been closed between.
    @ivar until: when the next trial may begin, if it is not closed, in seconds.
    """

    __slots__ = ("_moved", "_settings", "_window", "failures", "opened", "state", "until")

    def __init__(
        self, settings: BreakerSettings, moved: Callable[[State, State], object] = lambda before, after: None
    ) -> None:
        """
        @param moved: called with the states before and after each change.
        """
        self._settings = settings
        self._moved = moved
        self._window = Window(settings.window)
        self.state = State.CLOSED
        self.failures = self.opened = 0
        self.until = -inf

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value}, {self.failures} failures in a row, opened {self.opened} times>"

    def _move(self, event: Event) -> bool:
        """
        @return: whether that changed the state.
        """
        before = self.state
        self.state = after = TRANSITIONS[before, event]
        if before is not after:
            self._moved(before, after)
        return before is not after

    def _open(self, now: float) -> None:
        self.opened += 1
        self.until = now + self.pause

    @property
    def pause(self) -> float:
        """
        For how long it is open this time, in seconds.
        """
        return pauseAfter(self.opened, self._settings.pause, self._settings.longest)

    def admits(self, now: float) -> bool:
        """
        @return: whether a request may be sent, as any other or as a trial.
        """
        return self.state is _CLOSED or now >= self.until

    # -- requests that went through a closed one

    def succeeded(self, now: float) -> None:
        """
        One has succeeded.  What was under way when it opened says nothing of how things are now.
        """
        if self.state is _CLOSED:
            window = self._window
            if now >= window.ends:
                window.turn(now)
            window.total += 1
            self.failures = 0

    def failed(self, now: float) -> None:
        """
        One has failed.
        """
        if self.state is not _CLOSED:
            return
        self.failures += 1
        window, settings = self._window, self._settings
        window.turn(now)
        window.total += 1
        window.marked += 1
        total, marked = window.counts(now)
        if self.failures >= settings.failures or (total >= settings.requests and marked >= settings.share * total):
            self._open(now)
            self._move(Event.TRIPPED)

    # -- trials

    def hasten(self) -> None:
        """
        Let the next trial begin at once, unless one is under way.
        """
        if self.state is _OPEN:
            self.until = -inf

    def tryNow(self, now: float) -> None:
        """
        A trial begins.
        """
        self.until = now + self.pause
        self._move(Event.TRIAL)

    def trialSucceeded(self) -> None:
        """
        It has succeeded.
        """
        if self._move(Event.SUCCEEDED):
            self.failures = self.opened = 0
            self._window.forget()

    def trialFailed(self, now: float) -> None:
        """
        It has failed.
        """
        if self.state is State.HALF_OPEN:
            self._open(now)
        self._move(Event.FAILED)

    def trialToldNothing(self) -> None:
        """
        It has ended for another reason: the next request is the next trial.
        """
        if self.state is State.HALF_OPEN:
            self.until = -inf
