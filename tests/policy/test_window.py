"""
Counting over the last few seconds.
"""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistproxy.policy.window import Window


def counted(window: Window, now: float, marked: bool = False) -> None:
    """Count one thing, as whoever counts does."""
    if now >= window.ends:
        window.turn(now)
    window.total += 1
    window.marked += marked


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, (2, 1)),
        (4.9, (2, 1)),  # the half in which it was counted
        (5.0, (2, 1)),  # the half behind it
        (9.9, (2, 1)),
        (10.0, (0, 0)),
        (1e6, (0, 0)),
    ],
)
def test_forgets(now: float, expected: tuple[int, int]) -> None:
    """What was counted is there for at least half of the window, and gone when all of it is over."""
    window = Window(10.0)
    counted(window, 0.0)
    counted(window, 0.0, True)
    assert window.counts(now) == expected


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_betweenHalfAndAll(steps: list[tuple[float, bool]]) -> None:
    """It never counts more than the whole window holds, and never less than half of it."""
    window, now, times = Window(4.0), 0.0, []
    for pause, marked in steps:
        now += pause
        counted(window, now, marked)
        times.append((now, marked))
    total, marked = window.counts(now)
    assert sum(now - each < 2.0 for each, _ in times) <= total <= sum(now - each <= 4.0 for each, _ in times)
    assert sum(m and now - each < 2.0 for each, m in times) <= marked <= total


def test_forget() -> None:
    """It can begin from nothing."""
    window = Window(10.0)
    counted(window, 0.0, True)
    counted(window, 5.0, True)
    window.forget()
    assert window.counts(5.0) == (0, 0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, inf, float("nan")])
def test_length(seconds: float) -> None:
    """A window has a length."""
    with pytest.raises(ValueError, match="longer than 0"):
        Window(seconds)
