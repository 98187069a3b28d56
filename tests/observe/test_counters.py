"""
Counters over all exchanges.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.support.flow import request
from twistproxy.errors import Stage, UpstreamError
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver
from twistproxy.observe.counters import BATCH, BOUNDS, Counters, Counts


def settled(total: float = 0.0, **facts: Any) -> ExchangeRecord:
    """@return: the record of an exchange."""
    record = ExchangeRecord(lambda: 100.0, request())
    record.ended = 100.0 + total
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def test_counts() -> None:
    """Exchanges are counted by status, bytes, tunnels, and what failed where."""
    counters = Counters()
    assert verifyObject(IObserver, counters)
    failed = UpstreamError("refused", Stage.CONNECT)
    counters.exchangeSettled(settled(1.0, status=200, requestBytes=3, responseBytes=5))
    counters.exchangeSettled(settled(2.0, status=502, error=failed))
    counters.exchangeSettled(settled(3.0, status=502, error=failed))
    counters.exchangeSettled(settled(4.0, status=101, tunnelled=True, requestBytes=1, responseBytes=1))
    for _ in range(2):
        counts = counters.counts()
        assert counts.exchanges == 4
        assert counts.statuses == {200: 1, 502: 2, 101: 1}
        assert counts.failures == {("upstream", "connect"): 2}
        assert (counts.requestBytes, counts.responseBytes, counts.tunnels) == (4, 6, 1)
        assert counts.seconds == pytest.approx(10.0)


def test_batches() -> None:
    """Records are not kept for longer than it takes to have a batch of them."""
    counters = Counters()
    for _ in range(3 * BATCH + 1):
        counters.exchangeSettled(settled(status=204))
    assert len(counters._records) == 1
    assert counters.counts().statuses == {204: 3 * BATCH + 1}


@pytest.mark.parametrize(("total", "bucket"), [(0.0, 0), (0.0004, 0), (0.003, 3), (9.0, 13), (1000.0, len(BOUNDS))])
def test_durations(total: float, bucket: int) -> None:
    """The histogram has a bucket for everything, the last one for what took longest."""
    counters = Counters()
    counters.exchangeSettled(settled(total, status=200))
    expected = [0] * (len(BOUNDS) + 1)
    expected[bucket] = 1
    assert counters.counts().durations == expected


def test_merge() -> None:
    """The counts of several processes are summed, in every respect."""
    failed = UpstreamError("refused", Stage.CONNECT)
    first, second, both = Counters(), Counters(), Counters()
    for number, record in enumerate(
        [
            settled(0.02, status=200, requestBytes=3, responseBytes=5),
            settled(2.0, status=502, error=failed),
            settled(0.5, status=502, error=failed, requestBytes=9),
            settled(4.0, status=101, tunnelled=True),
        ]
    ):
        (first, second)[number % 2].exchangeSettled(record)
        both.exchangeSettled(record)
    total = Counts()
    for counters in (first, second):
        total.merge(Counts.of(json.loads(json.dumps(counters.counts().data()))))
    assert total.data() == both.counts().data()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"exchanges": None}, "no counts"),
        ({"statuses": 3}, "no counts"),
        ({"statuses": [[200]]}, "not enough values"),
        ({"failures": [["upstream", 1]]}, "not enough values"),
        ({"durations": [1, 2]}, "a histogram of 2 buckets"),
        ({"seconds": "long"}, "could not convert"),
    ],
)
def test_noCounts(change: dict[str, Any], complaint: str) -> None:
    """What another process sends is looked at before it is believed."""
    with pytest.raises(ValueError, match=complaint):
        Counts.of({**Counts().data(), **change})
