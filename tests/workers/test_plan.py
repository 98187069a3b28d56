"""
What a worker is told.
"""

from __future__ import annotations

import json

import pytest

from twistproxy.workers.plan import VARIABLE, NoWorker, WorkerPlan
from twistproxy.workers.sockets import Share

PLAN = WorkerPlan(
    slot=1,
    slots=2,
    first=True,
    reactor="twisted.internet.epollreactor",
    level="info",
    grace=30.0,
    endpoints=["tcp:80", "unix:/s"],
    shares=[Share(5, 2, 0, 0), Share(6, 2, 0, 1), Share(7, 1, 1, None)],
)


def test_thereAndBack() -> None:
    """The plan comes through the environment, and is not handed on to processes which a worker starts."""
    environment = {VARIABLE: PLAN.written(), "HOME": "/"}
    assert WorkerPlan.taken(environment) == PLAN
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "does not run alone; WorkerSupervisor starts it"),
        ({VARIABLE: json.dumps({"v": 7})}, "version 7 of the protocol, this worker 1: .* restart the whole"),
    ],
)
def test_noPlan(environment: dict[str, str], complaint: str) -> None:
    """Who starts a worker alone, or one of another release, is told so."""
    with pytest.raises(NoWorker, match=complaint):
        WorkerPlan.taken(environment)


@pytest.mark.parametrize(
    ("endpoint", "slot", "fd"), [(0, 0, 5), (0, 1, 6), (1, 1, 7), (1, 0, None), (0, 2, None), (2, 1, None)]
)
def test_share(endpoint: int, slot: int, fd: int | None) -> None:
    """Each slot has its own socket, or its part in one that all have."""
    found = PLAN.share(endpoint, slot)
    assert (found and found.fd) == fd
