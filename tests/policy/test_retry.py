"""
What may be tried again, and how often: the rules.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.upstream.test_transport import ONE, outboundTo
from twistproxy.errors import Sent, Stage, Unavailable, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IRetryPolicy
from twistproxy.policy.retry import Attempt, Retries, RetryBudget

REFUSED = UpstreamError("refused", Stage.CONNECT)
RESET = UpstreamError("reset", Stage.WAIT, Sent.ALL)
BROKEN = UpstreamError("reset", Stage.SEND, Sent.SOME)
SLOW = UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL)
FAR = UpstreamTimeout("connect", Stage.CONNECT)
FULL = Unavailable("the line is full")


def attempt(what: Any, method: bytes = b"GET", number: int = 1, elsewhere: bool = True) -> Attempt:
    """@return: a try that ended with a status or an error."""
    outbound = outboundTo(ONE)
    outbound.method = method
    error, status = (None, what) if isinstance(what, int) else (what, None)
    return Attempt(number, outbound, error, status, elsewhere)


def test_interface() -> None:
    """It is a policy."""
    assert verifyObject(IRetryPolicy, Retries())


@pytest.mark.parametrize(
    ("what", "method", "elsewhere", "expected"),
    [
        # nothing was sent: whatever the method
        (REFUSED, b"GET", True, True),
        (REFUSED, b"POST", True, True),
        (REFUSED, b"POST", False, True),
        (FAR, b"PATCH", True, True),
        (UpstreamError("handshake", Stage.TLS), b"LOCK", True, True),
        # there is no connection to be had here, but perhaps there
        (FULL, b"POST", True, True),
        (FULL, b"GET", False, False),
        # something was sent: what does no harm twice
        (RESET, b"GET", True, True),
        (RESET, b"GET", False, True),
        (BROKEN, b"PUT", True, True),
        (RESET, b"DELETE", True, True),
        (RESET, b"HEAD", True, True),
        (RESET, b"OPTIONS", True, True),
        (RESET, b"TRACE", True, True),
        (RESET, b"POST", True, False),
        (BROKEN, b"PATCH", True, False),
        (RESET, b"get", True, False),  # methods are case-sensitive, RFC 9110 9.1
        # it may still be at work
        (SLOW, b"GET", True, False),
        # statuses that were asked for
        (503, b"GET", True, True),
        (503, b"GET", False, True),
        (503, b"POST", True, False),
    ],
)
def test_rules(what: Any, method: bytes, elsewhere: bool, expected: bool) -> None:
    """RFC 9110 9.2.2: what cannot happen twice by that is tried again; nothing else."""
    policy = Retries(statuses=(503,))
    assert (policy.again(attempt(what, method, elsewhere=elsewhere)) is not None) == expected


@pytest.mark.parametrize("most", [0, 1, 3])
def test_bounded(most: int) -> None:
    """There are as many further tries as were asked for."""
    policy = Retries(most=most)
    granted = [number for number in range(1, 9) if policy.again(attempt(REFUSED, number=number)) is not None]
    assert granted == list(range(1, most + 1))


@pytest.mark.parametrize(("drawn", "pauses"), [(0.0, [0.1, 0.2, 0.25]), (0.999999, [0.2, 0.4, 0.5])])
def test_pauses(drawn: float, pauses: list[float]) -> None:
    """Another upstream is tried at once, the same one after a pause that grows, and of which up to a half is chance."""
    policy = Retries(most=9, pause=0.2, longest=0.5, random=lambda: drawn)
    numbers = range(1, 4)
    assert [policy.again(attempt(REFUSED, number=number)) for number in numbers] == [0.0] * 3
    same = [policy.again(attempt(REFUSED, number=number, elsewhere=False)) for number in numbers]
    assert same == pytest.approx(pauses, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"most": -1}, {"most": 31}, {"pause": -1.0}, {"longest": -1.0}, {"statuses": [5]}, {"statuses": "503"}])
def test_settings(wrong: Any) -> None:
    """What makes no sense is an error at once."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retries(**wrong)


def test_floor() -> None:
    """However few requests there are, some may be tried again."""
    budget = RetryBudget(0.2, floor=3, seconds=10.0)
    assert [budget.grant(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert budget.grant(10.0)


def test_share() -> None:
    """Of many requests a fifth may be."""
    budget = RetryBudget(0.2, floor=0)
    budget.window.turn(0.0)
    budget.window.total += 100
    assert sum(budget.grant(0.0) for _ in range(100)) == 20


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=200))
def test_neverMultiplies(steps: list[tuple[float, bool]]) -> None:
    """Whatever fails and whenever, within no window is more granted than the floor and the share of its requests."""
    budget, now, times = RetryBudget(0.5, floor=2, seconds=4.0), 0.0, []
    for pause, failed in steps:
        now += pause
        window = budget.window
        if now >= window.ends:
            window.turn(now)
        window.total += 1
        times.append((now, failed and budget.grant(now)))
        requests = sum(now - each <= 4.0 for each, _ in times)
        assert sum(granted for each, granted in times if now - each < 2.0) <= 2 + 0.5 * requests


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": -0.1}, {"floor": -1}, {"seconds": 0.0}])
def test_budgets(wrong: Any) -> None:
    """A budget that makes no sense is an error at once."""
    with pytest.raises(ValueError, match=r"budget|window"):
        RetryBudget(**wrong)
