"""
The comparison: everything is started once, then short slices of load go round in random order.

The proxies share one core and the origins and the load generator share another, so that the proxy is what
is waited for and its CPU time is its own. Only one proxy works at a time; the others sleep. Two origins:
nginx for what is downloaded, a Go program for what is uploaded. As a proxy has one target, each candidate
that takes part in both sorts of work runs twice.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import TracebackType

from benchmarks import beside, golang, load, measure, nginx
from benchmarks.candidates import BASE, HERE, Candidate, Place
from benchmarks.processes import DidNotStart, Running, freePorts
from benchmarks.series import Result, Sample, Series, schedule
from benchmarks.works import FILES, SMALL_ANSWER, WORKS, Work

# Memory is not noisy, but each time needs a process of its own.
MEMORY_REPETITIONS = 3
# What a proxy is warmed up with before its memory is looked at.
WARMING = next(work for work in WORKS if work.name == "small")
# How long a proxy may be busy with connections that were opened or closed, in seconds.
SETTLING = 10.0


class Arena:
    """
    Everything that runs during a comparison. A context manager: leaving it ends all processes and removes
    all files.

    @ivar directory: temporary, in memory if possible.
    @ivar files: what the static origin serves.
    """

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        self._proxies: dict[tuple[str, str], Running | str] = {}
        self._origins: dict[str, int] = {}
        available = os.sched_getaffinity(0)
        self._proxyCore, self._loadCore = measure.chooseCores(available, measure.coreSiblings(available))

    def __enter__(self) -> Arena:
        with contextlib.ExitStack() as onFailure:
            onFailure.push(self._exit)
            memory = Path("/dev/shm")
            temporary = tempfile.TemporaryDirectory(
                prefix="proxy-benchmark-", dir=memory if os.access(memory, os.W_OK) else None
            )
            self.directory = Path(self._exit.enter_context(temporary))
            beside.allowManyFiles()
            self.files = self.directory / "files"
            self.files.mkdir()
            for name, size in FILES.items():
                (self.files / name).write_bytes(os.urandom(1024) * (size // 1024) + bytes(size % 1024))
            # This program and the load generators, which inherit it.
            self._exit.enter_context(measure.pinnedTo(self._loadCore))
            onFailure.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.__exit__(kind, value, trace)

    def startOrigin(self, origin: str) -> None:
        """
        Start an origin.

        @param origin: see L{Work.origin}.
        @raise DidNotStart: without one there is nothing to measure.
        @raise golang.CannotBuild: as above.
        """
        port, directory = freePorts(1)[0], self._newDirectory(f"origin-{origin}")
        if origin == "sink":
            command = [str(golang.build(HERE / "origin")), str(port)]
        else:
            command = nginx.originCommand(directory, port, self.files, SMALL_ANSWER)
        self._start(command, port, self._loadCore, directory)
        self._origins[origin] = port

    def proxy(self, candidate: Candidate, origin: str) -> Running | str:
        """
        Start a candidate in front of an origin, if it was not started before.

        @param origin: one that was started.
        @return: the candidate, or the reason why there is none.
        """
        key = candidate.name, origin
        if key not in self._proxies:
            self._proxies[key] = self.fresh(candidate, origin)
        return self._proxies[key]

    def fresh(self, candidate: Candidate, origin: str) -> Running | str:
        """
        Start a candidate in front of an origin, whether or not it was started before.

        @return: as for L{proxy}; whoever asked for it may end it earlier than this arena does.
        """
        directory = Path(tempfile.mkdtemp(prefix=f"{candidate.name}-{origin}-", dir=self.directory))
        place = Place(freePorts(1)[0], self._origins[origin], directory)
        try:
            return self._start(candidate.command(place), place.port, self._proxyCore, directory)
        except (DidNotStart, golang.CannotBuild) as error:
            return f"did not start: {error}"

    def _start(self, command: Sequence[str], port: int, core: int, directory: Path) -> Running:
        running = Running(command, port, core, directory / "output")
        self._exit.callback(running.stop)
        running.waitUntilListening()
        return running

    def _newDirectory(self, name: str) -> Path:
        directory = self.directory / name
        directory.mkdir()
        return directory


def compare(
    works: Sequence[Work],
    candidates: Sequence[Candidate],
    repetitions: int,
    random: Random,
    done: Callable[[Result], None],
    base: str = BASE,
) -> list[Result]:
    """
    Measure all candidates at all works.

    @param repetitions: the number of slices for each candidate and work.
    @param random: decides the order.
    @param done: called with each work's result as soon as it is known.
    @param base: the name of the candidate to which the others are compared.
    """
    results = []
    with Arena() as arena:
        for origin in sorted({work.origin for work in works}):
            arena.startOrigin(origin)
        for work in works:
            measureWork = _measureMemory if work.unit == "connection" else _measureWork
            result = Result(work, [Series(candidate.name) for candidate in candidates], base=base)
            measureWork(arena, result, candidates, repetitions, random)
            results.append(result)
            done(result)
    return results


def _measureWork(
    arena: Arena, result: Result, candidates: Sequence[Candidate], repetitions: int, random: Random
) -> None:
    work = result.work
    running: list[tuple[Running, Candidate, Series]] = []
    for candidate, series in zip(candidates, result.series, strict=True):
        proxy = arena.proxy(candidate, work.origin)
        if isinstance(proxy, str):
            series.failure = proxy
        elif _warm(arena, work, proxy, candidate, series):
            running.append((proxy, candidate, series))
    steal, start = measure.stealSeconds(), time.monotonic()
    for order in schedule(len(running), repetitions, random):
        for index in order:
            proxy, candidate, series = running[index]
            if series.failure is None:
                _measureSlice(arena, work, proxy, candidate, series)
    # The kernel counts steal over all cores, not only over those that we use.
    elapsed = (time.monotonic() - start) * (os.cpu_count() or 1)
    result.steal = (measure.stealSeconds() - steal) / elapsed if running else 0.0
    for proxy, _, series in running:
        series.resident = measure.residentBytes(proxy.pid)


def _warm(arena: Arena, work: Work, proxy: Running, candidate: Candidate, series: Series) -> bool:
    try:
        load.check(work, proxy.port, candidate.prefix)
        with load.ready(work, proxy.port, arena.files, candidate.prefix) as put:
            put()
    except load.WrongAnswer as error:
        series.failure = _reason("wrong answer", error, proxy)
    return series.failure is None


def _measureSlice(arena: Arena, work: Work, proxy: Running, candidate: Candidate, series: Series) -> None:
    try:
        with load.ready(work, proxy.port, arena.files, candidate.prefix) as put:
            if work.idle or work.unit == "message":
                settle(proxy)
            measure.resetPeak(proxy.pid)
            before = measure.cpuNanoseconds(proxy.pid)
            got = put()
            used = measure.cpuNanoseconds(proxy.pid) - before
            peak = measure.peakBytes(proxy.pid)
    except load.WrongAnswer as error:
        series.failure = _reason("stopped working", error, proxy)
        return
    if work.idle or work.unit == "message":
        # Closing all of them is work that belongs to no slice.
        settle(proxy)
    series.samples.append(Sample.of(work, got, used, peak))


def settle(proxy: Running) -> None:
    """
    Wait until a proxy has nothing to do any more.
    """
    deadline = time.monotonic() + SETTLING
    used, quiet = measure.cpuNanoseconds(proxy.pid), 0
    # more than once, as it may just not have had the core; and a timer may tick meanwhile
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(0.04)
        before, used = used, measure.cpuNanoseconds(proxy.pid)
        quiet = quiet + 1 if used - before < 1_000_000 else 0


def _measureMemory(
    arena: Arena, result: Result, candidates: Sequence[Candidate], repetitions: int, random: Random
) -> None:
    """
    See by how much each candidate grows when connections are opened that do nothing. Memory that was given back would
    be used again, so each time a process of its own is warmed up and filled.
    """
    work = result.work
    for order in schedule(len(candidates), min(repetitions, MEMORY_REPETITIONS), random):
        for index in order:
            candidate, series = candidates[index], result.series[index]
            if series.failure is not None:
                continue
            proxy = arena.fresh(candidate, work.origin)
            if isinstance(proxy, str):
                series.failure = proxy
                continue
            try:
                load.check(work, proxy.port, candidate.prefix)
                with load.ready(WARMING, proxy.port, arena.files, candidate.prefix) as put:
                    put()
                series.samples.append(_fill(work, proxy, candidate))
                series.resident = measure.residentBytes(proxy.pid)
            except (load.WrongAnswer, beside.Broken) as error:
                series.failure = _reason("wrong answer", error, proxy)
            finally:
                proxy.stop()


def _fill(work: Work, proxy: Running, candidate: Candidate) -> Sample:
    settle(proxy)
    before, start = measure.residentBytes(proxy.pid), time.monotonic()
    with beside.Held(proxy.port, candidate.prefix + work.path, work.idle) as held:
        seconds = time.monotonic() - start
        settle(proxy)
        grown = measure.residentBytes(proxy.pid) - before
        gone = held.gone()
        peak = measure.peakBytes(proxy.pid)
    return Sample(grown / work.idle, work.idle / seconds, None, None, gone, peak)


def _reason(what: str, error: Exception, proxy: Running) -> str:
    return f"process ended: {proxy.lastLine()}" if proxy.ended else f"{what}: {error}"
