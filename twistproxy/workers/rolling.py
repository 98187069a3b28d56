# -*- test-case-name: tests.workers.test_supervisor -*-
"""
The rolling restart: one slot after the other gets a new worker.

It waits for the new worker of a slot to serve before it goes on to the next, and not for the old one to drain: with
long downloads or tunnels that would take as long as the grace, for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from twistproxy.workers.slots import Slot, SlotState


class RollingRestart:
    """
    A restart that runs, or not.
    """

    _log = Logger()

    def __init__(self, slots: Sequence[Slot], roll: Callable[[Slot], None]) -> None:
        """
        @param slots: all of them.
        @param roll: has a slot get a new worker.
        """
        self._slots = slots
        self._roll = roll
        self._left: list[Slot] = []
        self._again = False

    def begin(self) -> None:
        """
        Restart; if one is running, once more after it.
        """
        if self._left:
            self._again = True
            self._log.info("another rolling restart follows this one")
            return
        self._log.info("rolling restart of {count} workers", count=len(self._slots))
        self._left = list(self._slots)
        self._next()

    def serves(self, slot: Slot) -> None:
        """
        A slot has a new worker.
        """
        if self._left and self._left[0] is slot:
            del self._left[0]
            self._next()

    def fails(self, slot: Slot) -> None:
        """
        A slot's new worker did not start.
        """
        # the old one may have asked for a new one by itself, which is nobody else's affair
        ours = bool(self._left) and self._left[0] is slot
        self._log.error(
            "{what}: the new worker {number} {how}; the old one goes on",
            what="rolling restart given up" if ours else "a worker is not replaced",
            number=slot.number + 1,
            how=slot.lastEnd,
        )
        if ours:
            self.stop()

    def stop(self) -> None:
        """
        Go no further.
        """
        self._left = []
        self._again = False

    def _next(self) -> None:
        while self._left:
            slot = self._left[0]
            if slot.state is SlotState.SERVING:
                self._roll(slot)
                return
            # who is not there has a new one coming
            del self._left[0]
        self._log.info("rolling restart done")
        if self._again:
            self._again = False
            self.begin()
