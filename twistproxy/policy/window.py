# -*- test-case-name: tests.policy.test_window -*-
"""
Counting over the last few seconds.
"""

from __future__ import annotations

from math import inf


class Window:
    """
    Counts what happens, and how much of it is I{marked} (a failure, a retry), over a time that moves along: the half
    that runs, and the one before.  So it looks back over at least half of its length and at most all of it, with four
    numbers whatever the traffic.

    Whoever counts compares the time with L{ends}, calls L{turn} if that is over, and adds to the counts: an addition
    each time, and a call now and then.

    @ivar total: what has happened in the half that runs.
    @ivar marked: how much of that is marked.
    @ivar ends: when this half is over, in seconds.
    """

    __slots__ = ("_half", "_markedBefore", "_totalBefore", "ends", "marked", "total")

    def __init__(self, seconds: float) -> None:
        """
        @param seconds: its length.
        @raise ValueError: if it has none.
        """
        if not 0 < seconds < inf:
            raise ValueError(f"a window is longer than 0 seconds, not {seconds!r}")
        self._half = seconds / 2
        self.ends = -inf
        self.total = self.marked = self._totalBefore = self._markedBefore = 0

    def turn(self, now: float) -> None:
        """
        Begin the next half, if it is time to.
        """
        if now < self.ends:
            return
        if now < self.ends + self._half:
            self._totalBefore, self._markedBefore = self.total, self.marked
            self.ends += self._half
        else:
            self._totalBefore = self._markedBefore = 0
            self.ends = now + self._half
        self.total = self.marked = 0

    def counts(self, now: float) -> tuple[int, int]:
        """
        @return: how much has happened in all, and how much of it is marked.
        """
        self.turn(now)
        return self.total + self._totalBefore, self.marked + self._markedBefore

    def forget(self) -> None:
        """
        Begin from nothing.
        """
        self.total = self.marked = self._totalBefore = self._markedBefore = 0
