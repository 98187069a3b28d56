# -*- test-case-name: tests.net.test_wheel -*-
"""
A lazy timer wheel: timeouts whose deadline moves with every request.

A proxy sets several timeouts per request, and nearly all of them are moved on long before they are due.  A
delayed call of the reactor costs about two microseconds to make and cancel; here moving a deadline to a
later time is one assignment.  Time goes in ticks of a tenth of a second. A L{Timed} stands in the slot of
some tick, and only when that tick comes does the wheel look whether the deadline has moved; if so, it goes
into the slot of its new deadline.  Only a deadline that moves to an I{earlier} time, or the first one,
touches the slots.

Cancelling removes at once, so that a closed connection is not held, and with the last one the wheel goes to
sleep at once: nothing is left in the reactor then.  Something that will be scheduled again soon is better
scheduled at L{NEVER<twistproxy.deadlines.NEVER>}: that is an assignment again, and the wheel forgets it
when its slot comes.

Accuracy: a timeout of I{n} ticks happens after at least I{n} and less than I{n + 2} ticks.  When the loop
was blocked for longer than a tick, C{now} is corrected first, and the timeouts happen a turn of the loop
later: bytes that arrived meanwhile shall count.  What is scheduled I{between} the blocking and that
correction, and stood in a slot already, is short by that time.
"""

from __future__ import annotations

import math
from typing import Any

from twisted.logger import Logger

from twistproxy.deadlines import NEVER, Timed

#: Length of a tick, in seconds.
TICK = 0.1

# Clocks count in binary fractions, in which ten tenths are not quite one.  In ticks.
_EPSILON = 1e-3


class Wheel:
    """
    Calls C{timedOut} of many L{Timed}, by means of one delayed call.

    @ivar now: the current tick.  Right as long as anything is scheduled.
    """

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        """
        @param clock: a provider of L{IReactorTime<twisted.internet.interfaces.IReactorTime>}.
        """
        self.now = 0
        self._clock = clock
        self._origin = clock.seconds()
        self._slots: dict[int, dict[Timed, None]] = {}
        self._call: Any = None

    def __repr__(self) -> str:
        return f"<Wheel at {self.now}, {sum(map(len, self._slots.values()))} scheduled>"

    def ticks(self, seconds: float) -> int:
        """
        @return: C{seconds} in ticks, rounded up, at least 1.
        """
        return max(1, math.ceil(seconds / TICK - _EPSILON))

    def schedule(self, timed: Timed, ticks: int) -> None:
        """
        Set or move a deadline.

        @param timed: what times out.
        @param ticks: how long from now; L{NEVER<twistproxy.deadlines.NEVER>} for not at all.
        """
        # One more than asked for, as the current tick is partly over.
        timed.deadline = due = self.now + ticks + 1
        if timed.slot > due:
            self.file(timed, ticks)

    def cancel(self, timed: Timed) -> None:
        """
        Forget a deadline, and C{timed} altogether.  Harmless if there is none.

        @param timed: what shall not time out.
        """
        timed.deadline = NEVER
        slot = self._slots.get(timed.slot)
        if slot is not None:
            del slot[timed]
            if not slot:
                del self._slots[timed.slot]
                if not self._slots:
                    self._sleep()
        timed.slot = NEVER

    def scheduled(self) -> list[tuple[Timed, float]]:
        """
        @return: all that has a deadline, and how long it has to go, in seconds.
        """
        held = [timed for slot in self._slots.values() for timed in slot]
        return [(timed, (timed.deadline - self.now) * TICK) for timed in held if timed.deadline < NEVER]

    def file(self, timed: Timed, ticks: int) -> None:
        """
        Put C{timed} into the slot of its deadline.  As this is rare, it can afford to look at the clock.

        @param ticks: how long from now.
        """
        old = self._slots.get(timed.slot)
        if old is not None:
            del old[timed]
            if not old:
                del self._slots[timed.slot]
        self._lookAtClock()
        timed.deadline = timed.slot = deadline = self.now + ticks + 1
        self._slots.setdefault(deadline, {})[timed] = None
        if self._call is None:
            self._wait()

    def _lookAtClock(self) -> int:
        """
        @return: how many ticks C{now} was behind.  A clock that was set back stands still instead.
        """
        passed = int((self._clock.seconds() - self._origin) / TICK + _EPSILON) - self.now
        if passed > 0:
            self.now += passed
        return passed

    def _wait(self) -> None:
        due = self._origin + (self.now + 1) * TICK
        self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._tick)

    def _sleep(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        self._call = None
        if self._lookAtClock() > 1:
            self._call = self._clock.callLater(0, self._late)
        else:
            self._fire()

    def _late(self) -> None:
        self._call = None
        self._fire()

    def _fire(self) -> None:
        """
        Time out whatever is due, in the order of ticks.
        """
        slots = self._slots
        while slots:
            tick = min(slots)
            if tick > self.now:
                break
            for timed in slots.pop(tick):
                # Its own, even if a timeout before it has just moved or cancelled it.
                deadline = timed.deadline
                timed.slot = NEVER
                if deadline >= NEVER:
                    timed.deadline = NEVER
                elif deadline > tick:
                    timed.slot = deadline
                    slots.setdefault(deadline, {})[timed] = None
                else:
                    timed.deadline = NEVER
                    try:
                        timed.timedOut()
                    except BaseException:
                        self._log.failure("Unexpected error in the timeout of {timed!r}", timed=timed)
        if slots and self._call is None:
            self._wait()
