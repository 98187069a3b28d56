"""
The life of a slot, read off its table.
"""

from __future__ import annotations

import itertools

import pytest

from twistproxy.workers.slots import TRANSITIONS, RestartPolicy, SlotAction, SlotEvent, SlotState, after, covers

S, E, A = SlotState, SlotEvent, SlotAction


@pytest.mark.parametrize(
    ("state", "events", "ending", "actions"),
    [
        (S.WAITING, [E.DUE, E.READY], S.SERVING, [A.SPAWN, A.PROMOTE]),
        (S.WAITING, [E.DUE, E.FAILED, E.DUE], S.STARTING, [A.SPAWN, A.BACK_OFF, A.SPAWN]),
        (S.SERVING, [E.LOST, E.DUE], S.STARTING, [A.COVER, A.BACK_OFF, A.SPAWN]),
        # the new one is ready before the old one drains
        (S.SERVING, [E.ROLL, E.READY], S.SERVING, [A.SPAWN, A.RETIRE, A.PROMOTE]),
        (S.SERVING, [E.ROLL, E.FAILED], S.SERVING, [A.SPAWN, A.GIVE_UP_ROLLING]),
        (S.SERVING, [E.ROLL, E.LOST, E.READY], S.SERVING, [A.SPAWN, A.COVER, A.PROMOTE]),
        (S.SERVING, [E.ROLL, E.LOST, E.FAILED], S.WAITING, [A.SPAWN, A.COVER, A.BACK_OFF]),
        (S.SERVING, [E.ROLL, E.STOP], S.STOPPED, [A.SPAWN, A.KILL_STARTING, A.DRAIN]),
        (S.STARTING, [E.STOP, E.FAILED, E.DUE], S.STOPPED, [A.KILL_STARTING]),
        (S.WAITING, [E.ROLL, E.STOP, E.DUE], S.STOPPED, []),
    ],
)
def test_lives(state: SlotState, events: list[SlotEvent], ending: SlotState, actions: list[SlotAction]) -> None:
    """What a slot goes through, and what is done on the way."""
    found: list[SlotAction] = []
    for event in events:
        state, todo = after(state, event)
        found.extend(todo)
    assert (state, found) == (ending, actions)


def test_everyPair() -> None:
    """Nothing happens after the end; whatever comes at an end of its own is known; and two processes are never started at
    once in one slot."""
    starting = {S.STARTING, S.ROLLING}
    for state, event in itertools.product(S, E):
        ending, actions = after(state, event)
        if state is S.STOPPED:
            assert (ending, actions) == (S.STOPPED, ())
        if A.SPAWN in actions:
            assert state not in starting
            assert ending in starting
        if event is E.STOP:
            assert ending is S.STOPPED
    assert {state for state, _ in TRANSITIONS} == set(S) - {S.STOPPED}


def test_delays() -> None:
    """The first death is made good at once; then pauses grow, up to a bound, however often it dies."""
    policy = RestartPolicy(first=0.5, factor=3.0, longest=20.0)
    assert [policy.delay(deaths) for deaths in (0, 1, 2, 3, 4, 5, 6, 10_000)] == [0, 0, 0.5, 1.5, 4.5, 13.5, 20, 20]


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        ("", []),
        ("y", [[]]),
        ("n", [[]]),
        ("yyy", [[], [], []]),
        ("nyy", [[], [0], []]),
        ("yyn", [[2], [], []]),
        ("nnyn", [[], [], [3, 0, 1], []]),
        ("nnn", [[], [], []]),
    ],
)
def test_covers(serving: str, expected: list[list[int]]) -> None:
    """Each empty slot has one other worker that accepts for it, if there is any."""
    found = covers([each == "y" for each in serving])
    assert list(map(sorted, found)) == list(map(sorted, expected))
