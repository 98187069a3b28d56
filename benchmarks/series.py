"""
The figures of one candidate at one work, and what may be concluded from them.

All figures are medians over slices. A ratio is a claim, so it is refused when the measurement does not
carry it: when a candidate made errors, when there are hardly any slices, and when the slices of one candidate
lie further apart than the two candidates do.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.candidates import BASE
from benchmarks.load import Load
from benchmarks.works import Work

# With fewer slices quartiles mean nothing, and the spread is the whole range.
ENOUGH_FOR_QUARTILES = 4
# Two slices can lie close together by chance.
ENOUGH_FOR_RATIO = 3


@dataclass(frozen=True)
class Sample:
    """
    One slice.

    @ivar cost: CPU time, in microseconds per request or message or in milliseconds per gigabyte; for idle connections
        bytes of memory for each.
    @ivar rate: requests, messages or connections per second, or megabytes per second.
    @ivar p50: median latency, in milliseconds, or C{None}.
    @ivar p99: 99th percentile of the latency, in milliseconds, or C{None}.
    @ivar errors: what the load generator counted as failed.
    @ivar peak: the most memory that was held, in bytes.
    """

    cost: float
    rate: float
    p50: float | None
    p99: float | None
    errors: int
    peak: int = 0

    @classmethod
    def of(cls, work: Work, load: Load, nanoseconds: int, peak: int = 0) -> Sample:
        """
        Relate the CPU time used to the work done.

        @param nanoseconds: the CPU time of the proxy's process tree during the slice.
        @param peak: the most memory that it held, in bytes.
        """
        if work.unit == "gigabyte":
            cost, rate = nanoseconds / 1e6 / (load.bytes / 1e9), load.bytes / 1e6 / load.seconds
        else:
            cost, rate = nanoseconds / 1e3 / load.requests, load.requests / load.seconds
        return cls(cost, rate, load.p50, load.p99, load.errors, peak)


@dataclass
class Series:
    """
    All slices of one candidate at one work.

    @ivar name: the candidate's.
    @ivar samples: one for each slice, in time's order.
    @ivar resident: bytes of memory held after the last slice.
    @ivar failure: why there are no figures, or C{None}.
    """

    name: str
    samples: list[Sample] = field(default_factory=list)
    resident: int = 0
    failure: str | None = None

    @property
    def cost(self) -> float:
        """
        The median cost.
        """
        return statistics.median(sample.cost for sample in self.samples)

    @property
    def spread(self) -> float:
        """
        How far the costs of the slices lie apart, in the cost's unit: the middle half of them, or all if
        they are few.
        """
        costs = [sample.cost for sample in self.samples]
        if len(costs) < ENOUGH_FOR_QUARTILES:
            return max(costs) - min(costs)
        low, _, high = statistics.quantiles(costs, n=4, method="inclusive")
        return high - low

    @property
    def rate(self) -> float:
        """
        The median rate.
        """
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def p50(self) -> float | None:
        """
        The median of the median latencies, in milliseconds, or C{None} if no slice has one.
        """
        return _medianOf(sample.p50 for sample in self.samples)

    @property
    def p99(self) -> float | None:
        """
        The median of the 99th percentiles, in milliseconds, or C{None} if no slice has one.
        """
        return _medianOf(sample.p99 for sample in self.samples)

    @property
    def peak(self) -> float:
        """
        The median of the peaks of memory, in bytes.
        """
        return statistics.median(sample.peak for sample in self.samples)

    @property
    def errors(self) -> int:
        """
        The sum of all errors.
        """
        return sum(sample.errors for sample in self.samples)


def _medianOf(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if known else None


@dataclass(frozen=True)
class Ratio:
    """
    How one cost relates to another.

    @ivar value: the quotient, or C{None} if the measurement does not carry one.
    @ivar reason: why not.
    """

    value: float | None
    reason: str = ""


def compareCost(series: Series, base: Series | None) -> Ratio:
    """
    Divide one candidate's cost by another's, if the figures allow it.

    @param base: the other candidate's figures from the same run, if it took part.
    """
    if base is None:
        return Ratio(None, "the base of comparison was not in this run")
    for each in (series, base):
        if each.failure is not None or not each.samples:
            return Ratio(None, f"{each.name} has no figures")
        if each.errors:
            return Ratio(None, f"{each.name} made {each.errors} errors")
    if series is base:
        return Ratio(1.0)
    if min(len(series.samples), len(base.samples)) < ENOUGH_FOR_RATIO:
        return Ratio(None, f"fewer than {ENOUGH_FOR_RATIO} slices tell too little about the noise")
    difference = abs(series.cost - base.cost)
    noisier = max(series, base, key=lambda each: each.spread)
    if difference < noisier.spread:
        return Ratio(
            None,
            f"they differ by {difference:.1f}, the slices of {noisier.name} alone by {noisier.spread:.1f}",
        )
    return Ratio(series.cost / base.cost)


@dataclass
class Result:
    """
    One work, done by all candidates.

    @ivar series: in the candidates' order.
    @ivar steal: the share of the machine's time that the hypervisor gave to others meanwhile, from 0 to 1.
    @ivar base: the name of the candidate to which the others are compared.
    """

    work: Work
    series: list[Series]
    steal: float = 0.0
    base: str = BASE

    @property
    def baseSeries(self) -> Series | None:
        """
        The figures of the base, if it took part.
        """
        return next((series for series in self.series if series.name == self.base), None)


def schedule(count: int, repetitions: int, random: Random) -> Iterator[Sequence[int]]:
    """
    Put the slices in an order which spreads slow drifts of the machine over all candidates alike.

    @return: for each repetition the numbers below C{count}, shuffled.
    """
    for _ in range(repetitions):
        order = list(range(count))
        random.shuffle(order)
        yield order
