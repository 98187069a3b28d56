# -*- test-case-name: tests.rules.test_backoff -*-
"""
How long to wait before something that keeps failing is tried again.
"""

from __future__ import annotations

# Python raises for a power that no float can hold; the pause has long been the longest by then.
_MOST = 64


def pauseAfter(failures: int, first: float, longest: float, factor: float = 2.0) -> float:
    """
    @param failures: how many in a row; after none there is no pause.
    @param first: the pause after the first one, in seconds.
    @param longest: the longest pause, in seconds.
    @param factor: by how much it grows with each further one.
    @return: the pause, in seconds.
    """
    if failures < 1:
        return 0.0
    return min(longest, first * factor ** min(failures - 1, _MOST))
