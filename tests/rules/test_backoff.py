"""
The pauses between attempts at what keeps failing.
"""

from __future__ import annotations

import pytest

from twistproxy.rules.backoff import pauseAfter


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0)],
)
def test_doubles(failures: int, expected: float) -> None:
    """Each failure doubles the pause, up to the longest."""
    assert pauseAfter(failures, 0.5, 30.0) == expected


def test_factor() -> None:
    """The pause grows by the factor that is asked for."""
    assert [pauseAfter(failures, 1.0, 100.0, 3.0) for failures in range(1, 6)] == [1.0, 3.0, 9.0, 27.0, 81.0]


def test_longestFirst() -> None:
    """Even the first pause is not longer than the longest."""
    assert pauseAfter(1, 5.0, 2.0) == 2.0


def test_endless() -> None:
    """What has failed for years waits for the longest pause, and no power is larger than a float."""
    assert pauseAfter(10**9, 0.5, 30.0) == 30.0
