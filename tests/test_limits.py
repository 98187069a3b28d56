"""
The bounds that the documentation promises.
"""

from __future__ import annotations

import attrs
import pytest

from twistproxy.limits import Limits


def test_defaults() -> None:
    """B1.2, B1.10, B4.4, B5.2, B5.6, B6.1: the sizes that hold unless an operator says otherwise."""
    assert attrs.asdict(Limits()) == {
        "head": 65536,
        "requestLine": 16384,
        "requestFields": 128,
        "responseFields": 200,
        "held": 65536,
        "discarded": 262144,
        "discardSeconds": 5.0,
        "collected": 16777216,
        "interims": 16,
    }


def test_snapshot() -> None:
    """A running exchange holds its limits: nobody can change them, only make others."""
    limits = Limits()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limits.head = 1  # type: ignore[misc]
    assert attrs.evolve(limits, head=1).head == 1
    assert limits.head == 65536
