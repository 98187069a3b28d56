"""
Whether twistproxy holds more and more the longer it runs.

It is given so many requests, in slices with new connections each, and looked at again and again while it rests: the
memory that it holds, its open files, and the objects that Python's collector looks after. The first third of what
was seen after warming up is compared with the last third; what has grown by more than L{LIMITS} allow is said. A
small leak would show: in two million requests, one byte for each is more than a megabyte.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, measure
from benchmarks.candidates import Candidate, Place
from benchmarks.compare import Arena, settle
from benchmarks.processes import DidNotStart, Running
from benchmarks.works import Work

#: How much the last third may lie above the first: the larger of an amount and a share.
LIMITS = {"memory": (1_000_000, 0.02), "files": (8, 0.0), "objects": (1000, 0.02)}
#: Upstream connections are kept or not, as it happens: as many as the load has may come on top of that.
PER_CONNECTION = {"memory": 0, "files": 1, "objects": 20}
#: With fewer samples, thirds mean nothing.
ENOUGH = 6
#: How long the proxy may take to tell about itself, in seconds.
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Moment:
    """
    What was seen of a proxy at rest.

    @ivar requests: answered so far.
    @ivar memory: bytes held.
    @ivar files: open files and sockets.
    @ivar objects: that the garbage collector looks after.
    @ivar collected: that it has found in cycles so far.
    """

    requests: int
    memory: int
    files: int
    objects: int
    collected: int


@dataclass(frozen=True)
class Conclusion:
    """
    What a soak came to.

    @ivar flat: whether nothing has grown; C{None} if there are too few samples to tell.
    @ivar text: one line for each quantity.
    """

    flat: bool | None
    text: str


def conclude(moments: Sequence[Moment], connections: int) -> Conclusion:
    """
    Compare the first third with the last.

    @param moments: those after warming up.
    @param connections: how many the load had at once.
    """
    if len(moments) < ENOUGH:
        return Conclusion(None, f"{len(moments)} samples are too few to tell whether anything grows: take {ENOUGH}")
    third = len(moments) // 3
    first, last = moments[:third], moments[-third:]
    requests = statistics.median(m.requests for m in last) - statistics.median(m.requests for m in first)
    flat, lines = True, []
    for name, (amount, share) in LIMITS.items():
        before, after = (statistics.median(getattr(moment, name) for moment in part) for part in (first, last))
        grown, allowed = after - before, max(amount, share * before) + connections * PER_CONNECTION[name]
        verdict = "flat" if grown <= allowed else "GROWS"
        flat = flat and verdict == "flat"
        lines.append(
            f"{name:8} {verdict:5}  {before:,.0f} in the first third, {after:,.0f} in the last: {grown:+,.0f}, "
            f"{grown / requests:+.3f} per request (flat up to {allowed:,.0f})"
        )
    cycles = (moments[-1].collected - moments[0].collected) / (moments[-1].requests - moments[0].requests)
    lines.append(f"cycles          {cycles:.3f} objects per request were left to the garbage collector")
    return Conclusion(flat, "\n".join(lines))


class _Watched:
    """
    Makes the command of a C{twist} candidate into one that tells about itself.
    """

    def __init__(self, candidate: Candidate, output: Path) -> None:
        self._candidate = candidate
        self._output = output

    def __call__(self, place: Place) -> list[str]:
        """
        Make the command.
        """
        return [sys.executable, "-m", "benchmarks.watched", str(self._output), *self._candidate.command(place)]


def soak(
    candidate: Candidate, work: Work, requests: int, every: int, told: Callable[[str], None]
) -> tuple[list[Moment], int]:
    """
    Put many requests through a proxy, and look at it.

    @param candidate: a C{twist} command.
    @param requests: how many, after as many as lie between two looks to warm up.
    @param every: how many lie between two looks.
    @param told: called with each line of the table.
    @return: what was seen, and the errors that the load generator counted.
    @raise DidNotStart: if the proxy does not, or ends.
    @raise load.WrongAnswer: if it does not answer rightly.
    """
    moments: list[Moment] = []
    done = errors = 0
    with Arena() as arena:
        arena.startOrigin(work.origin)
        output = arena.directory / "watched"
        watched = Candidate(candidate.name, candidate.title, _Watched(candidate, output))
        proxy = arena.proxy(watched, work.origin)
        if isinstance(proxy, str):
            raise DidNotStart(proxy)
        load.check(work, proxy.port)
        told(f"{'requests':>10}  {'memory':>12}  {'files':>6}  {'objects':>8}  {'collected':>10}")
        while done < requests + every:
            goal = done + every
            while done < goal:
                with load.ready(work, proxy.port, arena.files) as put:
                    got = put()
                done += got.requests
                errors += got.errors
            settle(proxy)
            moment = _look(proxy, done, output)
            moments.append(moment)
            warm = "" if len(moments) > 1 else "  (warm now)"
            told(
                f"{moment.requests:>10,}  {moment.memory:>12,}  {moment.files:>6}  {moment.objects:>8,}"
                f"  {moment.collected:>10,}{warm}"
            )
    return moments[1:], errors


def _look(proxy: Running, done: int, output: Path) -> Moment:
    lines = len(_lines(output))
    memory, files = measure.residentBytes(proxy.pid), measure.openFiles(proxy.pid)
    os.kill(proxy.pid, signal.SIGUSR2)
    deadline = time.monotonic() + _TIMEOUT
    while len(said := _lines(output)) == lines:
        if proxy.ended or time.monotonic() > deadline:
            raise DidNotStart(f"the proxy does not tell about itself: {proxy.lastLine()}")
        time.sleep(0.02)
    seen = json.loads(said[-1])
    return Moment(done, memory, files, seen["objects"], seen["collected"])


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n") if line.endswith("}")] if path.exists() else []
