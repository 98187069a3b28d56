"""
What is known of an exchange: the head, and where the time went.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twistproxy.events import ExchangeRecord
from twistproxy.message import Peer, Request
from twistproxy.rules.fields import REFERER, USER_AGENT


def recordAt(seconds: float, request: Request | None = None) -> ExchangeRecord:
    """
    @return: the record of an exchange whose head was complete at C{seconds}.
    """
    clock = Clock()
    clock.advance(seconds)
    return ExchangeRecord(clock.seconds, request)


def test_nothingHasHappened() -> None:
    """A new record knows when it began, and that nothing else has happened."""
    record = recordAt(5.0)
    assert record.started == 5.0
    assert (record.directed, record.connected, record.responded, record.ended) == (0.0, 0.0, 0.0, 0.0)
    assert (record.status, record.tries, record.requestBytes, record.responseBytes) == (0, 0, 0, 0)
    assert (record.upstream, record.requestID, record.error) == ("", b"", None)
    assert (record.reused, record.tunnelled) == (False, False)


def test_head() -> None:
    """The head is noted; the client is the peer until somebody knows better (B2.5)."""
    fields = [
        (USER_AGENT, True, b"user-agent", b"curl", None),
        (USER_AGENT, True, b"user-agent", b"other", None),
    ]
    request = Request(Peer("192.0.2.1"), b"GET", b"/x?y", 0, [], [], fields)
    request.host = b"example.com"
    record = recordAt(5.0, request)
    assert (record.peer, record.client) == ("192.0.2.1", "192.0.2.1")
    assert (record.method, record.target, record.minor, record.host) == (b"GET", b"/x?y", 0, b"example.com")
    assert record.field(USER_AGENT) == b"curl"
    assert record.field(REFERER) is None


@pytest.mark.parametrize(
    ("directed", "connected", "responded", "ended", "shares"),
    [
        # everything took its time: director, connection, response head, body
        (101.0, 103.0, 106.0, 110.0, (1.0, 2.0, 3.0, 4.0)),
        # no director waited, a kept connection: both count for nothing, and what is left is the upstream's
        (0.0, 0.0, 106.0, 110.0, (0.0, 0.0, 6.0, 4.0)),
        (0.0, 103.0, 106.0, 110.0, (0.0, 3.0, 3.0, 4.0)),
        (101.0, 0.0, 106.0, 110.0, (1.0, 0.0, 5.0, 4.0)),
        # it ended in the director, in the connection, before the response
        (0.0, 0.0, 0.0, 110.0, (0.0, 0.0, 0.0, 0.0)),
        (101.0, 0.0, 0.0, 110.0, (1.0, 0.0, 0.0, 0.0)),
        (101.0, 103.0, 0.0, 110.0, (1.0, 2.0, 0.0, 0.0)),
    ],
)
def test_shares(
    directed: float, connected: float, responded: float, ended: float, shares: tuple[float, ...]
) -> None:
    """Each part of the time is counted for one phase; a phase that was not reached has none."""
    record = recordAt(100.0)
    record.directed, record.connected, record.responded, record.ended = directed, connected, responded, ended
    told = (record.directSeconds, record.connectSeconds, record.waitSeconds, record.bodySeconds)
    assert told == shares
    assert record.total == 10.0


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=5, max_size=5).map(sorted), st.booleans(), st.booleans())
def test_sharesAddUp(moments: list[int], waitedForDirector: bool, waitedForConnection: bool) -> None:
    """The phases of an exchange that had a response add up to all of it, whichever of them were skipped."""
    record = recordAt(moments[0])
    record.directed = moments[1] * waitedForDirector
    record.connected = moments[2] * waitedForConnection
    record.responded, record.ended = moments[3:]
    told = record.directSeconds + record.connectSeconds + record.waitSeconds + record.bodySeconds
    assert told == record.total
