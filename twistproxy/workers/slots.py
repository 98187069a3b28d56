# -*- test-case-name: tests.workers.test_slots -*-
"""
The life of a slot: which worker it has, and what is done when one comes or goes.  No processes here, and no time: all
of it can be read off a table.

A slot is a place among the workers that has sockets of its own.  Its workers come and go; the slot stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

from twistproxy.rules.backoff import pauseAfter

if TYPE_CHECKING:
    from twistproxy.workers.process import WorkerProcess


class SlotState(Enum):
    """
    What a slot has.
    """

    #: nobody; a new worker is due later
    WAITING = "waiting"
    #: one that starts, and nobody who serves
    STARTING = "starting"
    #: one that serves
    SERVING = "serving"
    #: one that serves, and its successor, which starts
    ROLLING = "rolling"
    #: all is over
    STOPPED = "stopped"


class SlotEvent(Enum):
    """
    What happens to a slot.
    """

    #: it is time for a new worker
    DUE = "due"
    #: the one that starts is ready
    READY = "ready"
    #: the one that starts has died, or takes too long
    FAILED = "failed"
    #: the one that serves does not any more: it has died, or drains by its own decision
    LOST = "lost"
    #: somebody asks for a new one in the place of the old
    ROLL = "roll"
    #: everything stops
    STOP = "stop"


class SlotAction(Enum):
    """
    What is to be done.
    """

    #: start a process
    SPAWN = "spawn"
    #: ask for L{SlotEvent.DUE} after some time
    BACK_OFF = "back off"
    #: tell the others that nobody serves here
    COVER = "cover"
    #: the new one serves now
    PROMOTE = "promote"
    #: let the old one drain
    RETIRE = "retire"
    #: the restart has failed; the old one goes on
    GIVE_UP_ROLLING = "give up rolling"
    #: end the one that starts
    KILL_STARTING = "kill starting"
    #: let the one that serves drain, as all the others do
    DRAIN = "drain"


_S, _E, _A = SlotState, SlotEvent, SlotAction

#: What follows from an event in a state.  A pair that is not here means: nothing.
TRANSITIONS: dict[tuple[SlotState, SlotEvent], tuple[SlotState, tuple[SlotAction, ...]]] = {
    (_S.WAITING, _E.DUE): (_S.STARTING, (_A.SPAWN,)),
    (_S.WAITING, _E.STOP): (_S.STOPPED, ()),
    (_S.STARTING, _E.READY): (_S.SERVING, (_A.PROMOTE,)),
    (_S.STARTING, _E.FAILED): (_S.WAITING, (_A.BACK_OFF,)),
    (_S.STARTING, _E.STOP): (_S.STOPPED, (_A.KILL_STARTING,)),
    (_S.SERVING, _E.LOST): (_S.WAITING, (_A.COVER, _A.BACK_OFF)),
    (_S.SERVING, _E.ROLL): (_S.ROLLING, (_A.SPAWN,)),
    (_S.SERVING, _E.STOP): (_S.STOPPED, (_A.DRAIN,)),
    # The new one serves before the old one drains, so somebody accepts at every moment.
    (_S.ROLLING, _E.READY): (_S.SERVING, (_A.RETIRE, _A.PROMOTE)),
    (_S.ROLLING, _E.FAILED): (_S.SERVING, (_A.GIVE_UP_ROLLING,)),
    (_S.ROLLING, _E.LOST): (_S.STARTING, (_A.COVER,)),
    (_S.ROLLING, _E.STOP): (_S.STOPPED, (_A.KILL_STARTING, _A.DRAIN)),
}


def after(state: SlotState, event: SlotEvent) -> tuple[SlotState, tuple[SlotAction, ...]]:
    """
    @return: the state after an event, and what is to be done.
    """
    return TRANSITIONS.get((state, event), (state, ()))


class Slot:
    """
    A place for a worker.

    @ivar number: from 0.
    @ivar state: what it has.
    @ivar serving: the worker that serves.
    @ivar starting: the one that starts.
    @ivar deaths: how many died in a row.
    @ivar due: the delayed call for the next.
    @ivar lastEnd: how the last one ended, in words.
    @ivar lastWords: its last line on standard error.
    @ivar spawned: how many it has had.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = SlotState.WAITING
        self.serving: WorkerProcess | None = None
        self.starting: WorkerProcess | None = None
        self.deaths = 0
        self.due: Any = None
        self.lastEnd = ""
        self.lastWords = ""
        self.spawned = 0

    def __repr__(self) -> str:
        return f"<Slot {self.number} {self.state.value}>"


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """
    When a dead worker is replaced, and when no more.

    @ivar first: the pause after the second death in a row, in seconds; after the first there is none.
    @ivar factor: by how much the pause grows with each further one.
    @ivar longest: the longest pause, in seconds.
    @ivar steady: a worker that has served for so long, in seconds, was well: its death is the first of a row.
    @ivar attempts: so many deaths in a row are the end of everything, unless another worker is steady.
    @ivar startup: how long a worker may take until it is ready, in seconds.
    """

    first: float = 0.25
    factor: float = 2.0
    longest: float = 10.0
    steady: float = 10.0
    attempts: int = 5
    startup: float = 60.0

    def delay(self, deaths: int) -> float:
        """
        @param deaths: how many in a row, the last included.
        @return: how long to wait for the next worker, in seconds.
        """
        return pauseAfter(deaths - 1, self.first, self.longest, self.factor)


def covers(serving: Sequence[bool]) -> list[list[int]]:
    """
    Who accepts for a slot that has no worker: the next one that has.

    @param serving: for each slot, whether it has a worker which serves.
    @return: for each slot, the others for which it accepts.
    """
    count = len(serving)
    found: list[list[int]] = [[] for _ in serving]
    if any(serving):
        for slot in range(count):
            if not serving[slot]:
                found[next((slot + step) % count for step in range(1, count) if serving[(slot + step) % count])].append(
                    slot
                )
    return found
