"""
The figures of one candidate at one work, and what may be concluded from them.

All figures are medians over slices. The slices of one round lie next to each other in time, so a ratio is taken
round by round: what changes slowly on the machine is in both costs and leaves their quotient alone. A ratio is a
claim, so it is refused when the measurement does not carry it: when a candidate made errors, when there are hardly
any slices or some without a counterpart, and when the quotients do not even tell which of the two costs more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from benchmarks.candidates import BASE
from benchmarks.load import Load
from benchmarks.works import Work

# With fewer slices quartiles mean nothing, and the spread is the whole range.
ENOUGH_FOR_QUARTILES = 4
# Two slices can lie close together by chance.
ENOUGH_FOR_RATIO = 3
# How sure it is that an interval holds the true median, if there are figures enough.
CONFIDENCE = 0.95


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
    @ivar samples: one for each round, in time's order.
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

    @ivar value: the median of the quotients of all rounds, or C{None} if the measurement does not carry one.
    @ivar reason: why not.
    @ivar interval: between which two figures the value lies, see L{medianInterval}; C{None} if nothing was divided.
    """

    value: float | None
    reason: str = ""
    interval: tuple[float, float] | None = None


def countLeftOut(count: int) -> int:
    """
    Count the figures that a confidence interval of the median leaves out at each end.

    A figure lies below the true median with probability 1/2, whatever the distribution is, so how many of them do is
    binomial. The interval misses the median where no more lie below it than were left out, or no more above: the sign
    test turned around (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2).

    @param count: the number of figures.
    @return: the most that keeps L{CONFIDENCE}; 0 also where nothing does, which is so for fewer than six figures.
    """
    tails = accumulate(math.comb(count, below) for below in range(count))
    return max(0, sum(2 * tail / 2**count <= 1 - CONFIDENCE for tail in tails) - 1)


def medianInterval(figures: Sequence[float]) -> tuple[float, float]:
    """
    Tell between which two of the figures the true median lies, with L{CONFIDENCE} at least.

    @param figures: at least one. With fewer than six it is their whole range, and the confidence is less: 94 % with
        five, 75 % with three.
    """
    ordered = sorted(figures)
    leftOut = countLeftOut(len(ordered))
    return ordered[leftOut], ordered[-1 - leftOut]


def divideByRound(series: Series, base: Series) -> list[float]:
    """
    Divide one candidate's cost by another's in each round.

    @param base: as many samples, none of which cost nothing.
    """
    return [ours.cost / theirs.cost for ours, theirs in zip(series.samples, base.samples, strict=True)]


def compareCost(series: Series, base: Series | None) -> Ratio:
    """
    Divide one candidate's cost by another's round by round, if the figures allow it.

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
    if len(series.samples) != len(base.samples):
        return Ratio(
            None,
            f"{series.name} has {len(series.samples)} slices and {base.name} {len(base.samples)}, "
            "so they do not make pairs",
        )
    # memory that a process had left over from warming up may be enough for all that comes
    if min(sample.cost for sample in base.samples) <= 0:
        return Ratio(None, f"a slice of {base.name} cost nothing")
    quotients = divideByRound(series, base)
    interval = low, high = medianInterval(quotients)
    if low <= 1.0 <= high:
        return Ratio(None, f"between {low:.2f} and {high:.2f} by {len(quotients)} rounds", interval)
    return Ratio(statistics.median(quotients), interval=interval)


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
    Put the slices in an order in which slow drifts of the machine meet all candidates of a round alike.

    @return: for each repetition the numbers below C{count}, shuffled.
    """
    for _ in range(repetitions):
        order = list(range(count))
        random.shuffle(order)
        yield order
