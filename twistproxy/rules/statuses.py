# -*- test-case-name: tests.policy.test_retry -*-
"""
Sets of statuses that are told apart from others.
"""

from __future__ import annotations

from collections.abc import Iterable


def statusSet(given: Iterable[int]) -> frozenset[int]:
    """
    @return: statuses as a set.
    @raise ValueError: if one of them is no status of a final response.
    """
    statuses = frozenset(given)
    for status in statuses:
        if status not in range(200, 600):
            raise ValueError(f"statuses are numbers from 200 to 599, not {status!r}")
    return statuses
