# -*- test-case-name: tests.observe.test_counters -*-
"""
Plain counters over all exchanges.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver

#: Upper bounds of the histogram of total times, in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


#: Records that are counted together: counting many at a time costs a fraction of counting each in the middle of its
#: exchange.
BATCH = 64


class Counts:
    """
    Sums over exchanges.

    @ivar exchanges: how many have settled.
    @ivar statuses: how many by status.
    @ivar failures: how many by side and stage of their failure.
    @ivar requestBytes: of all request bodies.
    @ivar responseBytes: of all response bodies.
    @ivar seconds: the sum of all total times.
    @ivar durations: how many by total time: one more than there are L{BOUNDS}.
    @ivar tunnels: how many became tunnels.
    """

    def __init__(self) -> None:
        self.exchanges = 0
        self.statuses: dict[int, int] = {}
        self.failures: dict[tuple[str, str], int] = {}
        self.requestBytes = 0
        self.responseBytes = 0
        self.seconds = 0.0
        self.durations = [0] * (len(BOUNDS) + 1)
        self.tunnels = 0

    def add(self, records: Sequence[ExchangeRecord]) -> None:
        """
        Count exchanges.
        """
        self.exchanges += len(records)
        statuses, durations = self.statuses, self.durations
        received = sent = 0
        seconds = 0.0
        for record in records:
            status = record.status
            statuses[status] = statuses.get(status, 0) + 1
            received += record.requestBytes
            sent += record.responseBytes
            total = record.ended - record.started
            seconds += total
            durations[bisect_left(BOUNDS, total)] += 1
            if record.tunnelled:
                self.tunnels += 1
            if record.error is not None:
                key = (record.error.side.value, record.error.stage.value)
                self.failures[key] = self.failures.get(key, 0) + 1
        self.requestBytes += received
        self.responseBytes += sent
        self.seconds += seconds

    def merge(self, other: Counts) -> None:
        """
        Count in what somebody else has counted.
        """
        self.exchanges += other.exchanges
        for status, number in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + number
        for key, number in other.failures.items():
            self.failures[key] = self.failures.get(key, 0) + number
        self.requestBytes += other.requestBytes
        self.responseBytes += other.responseBytes
        self.seconds += other.seconds
        self.durations = [mine + theirs for mine, theirs in zip(self.durations, other.durations, strict=True)]
        self.tunnels += other.tunnels

    def data(self) -> dict[str, Any]:
        """
        @return: all of it as JSON can carry it.
        """
        return {
            "exchanges": self.exchanges,
            "statuses": list(self.statuses.items()),
            "failures": [[side, stage, number] for (side, stage), number in self.failures.items()],
            "requestBytes": self.requestBytes,
            "responseBytes": self.responseBytes,
            "seconds": self.seconds,
            "durations": self.durations,
            "tunnels": self.tunnels,
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> Counts:
        """
        @param data: what L{data} made.
        @return: the counts.
        @raise ValueError: if it is nothing of that kind.
        """
        counts = cls()
        try:
            counts.exchanges = int(data["exchanges"])
            counts.statuses = {int(status): int(number) for status, number in data["statuses"]}
            counts.failures = {(str(side), str(stage)): int(number) for side, stage, number in data["failures"]}
            counts.requestBytes = int(data["requestBytes"])
            counts.responseBytes = int(data["responseBytes"])
            counts.seconds = float(data["seconds"])
            counts.durations = [int(number) for number in data["durations"]]
            counts.tunnels = int(data["tunnels"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no counts: {error!r}") from error
        if len(counts.durations) != len(BOUNDS) + 1:
            raise ValueError(f"no counts: a histogram of {len(counts.durations)} buckets, not {len(BOUNDS) + 1}")
        return counts


@implementer(IObserver)
class Counters:
    """
    Counts exchanges, a batch at a time.
    """

    def __init__(self) -> None:
        self._counts = Counts()
        self._records: list[ExchangeRecord] = []

    def exchangeSettled(self, record: ExchangeRecord) -> None:
        """
        See L{IObserver.exchangeSettled<twistproxy.interfaces.IObserver>}.
        """
        self._records.append(record)
        if len(self._records) >= BATCH:
            self.counts()

    def counts(self) -> Counts:
        """
        @return: the sums over all exchanges that have settled.
        """
        records, self._records = self._records, []
        self._counts.add(records)
        return self._counts
