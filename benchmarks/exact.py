"""
Figures of a request that do not depend on the machine, and whether they have grown.

They are kept in C{exact.json}, for each version of Python apart, as those differ in what is a call. One that grows is
a failure, to be mended or to be accepted by C{--write}; one that shrinks is said, so that it is written down and
not lost again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import counting, measure
from benchmarks.candidates import HERE, Candidate
from benchmarks.syscalls import countSyscalls

STORED = HERE / "exact.json"

#: By how much a figure may grow: for the first of these prefixes that fits, as such and as a share of the figure.
TOLERANCES = (
    ("calls.", 0.0, 0.0),
    ("builtins.", 0.0, 0.0),
    ("blocks.", 0.5, 0.0),
    ("bytes.", 64.0, 0.03),
    # how many events are found waiting depends on who is faster
    ("syscalls.32 at once.epoll_wait", 0.25, 0.0),
    # a batch of log lines is written when its time is up
    ("syscalls.", 0.05, 0.0),
)


@dataclass(frozen=True)
class Verdict:
    """
    What a comparison came to.

    @ivar grown: one line for each figure that has grown, or that nothing is known about any more.
    @ivar shrunk: one line for each that has shrunk, or is new.
    """

    grown: list[str]
    shrunk: list[str]


def tolerance(name: str, stored: float) -> float:
    """
    @return: by how much a figure may differ from what is stored.
    """
    for prefix, absolute, share in TOLERANCES:
        if name.startswith(prefix):
            return absolute + share * stored
    return 0.0


def judge(figures: Mapping[str, float], stored: Mapping[str, float]) -> Verdict:
    """
    Compare figures with those that are stored.
    """
    grown, shrunk = [], []
    for name, figure in figures.items():
        before = stored.get(name)
        if before is None:
            shrunk.append(f"{name}: {figure:g}, not stored yet")
        elif abs(figure - before) > tolerance(name, before) + 1e-9:
            allowed = tolerance(name, before)
            line = f"{name}: {before:g} before, {figure:g} now"
            if figure > before:
                grown.append(line + (f" (may grow by {allowed:.3g})" if allowed else " (must not grow)"))
            else:
                shrunk.append(line)
    return Verdict(grown, shrunk)


def takeFigures(candidate: Candidate, syscalls: bool) -> dict[str, float]:
    """
    Count everything.

    @param candidate: what is run to count system calls.
    @param syscalls: whether to count those.
    @raise DidNotStart: if it cannot be run.
    """
    log = Path(os.devnull)
    figures = {**counting.countCalls(log), **counting.countMemory(log)}
    if syscalls:
        available = os.sched_getaffinity(0)
        proxyCore, ownCore = measure.chooseCores(available, measure.coreSiblings(available))
        with tempfile.TemporaryDirectory(prefix="proxy-exact-") as directory, measure.pinnedTo(ownCore):
            figures.update(countSyscalls(candidate, Path(directory), proxyCore))
    return figures


def table(figures: Mapping[str, float], stored: Mapping[str, float]) -> str:
    """
    Lay the figures out, beside those that are stored.
    """
    width = max(map(len, figures))
    lines = [f"{'per request':{width}}  {'now':>8}  {'stored':>8}"]
    for name, figure in figures.items():
        before = stored.get(name)
        lines.append(f"{name:{width}}  {figure:8g}  {'-' if before is None else format(before, '8g'):>8}")
    return "\n".join(lines)


def version() -> str:
    """
    @return: the key of this Python's figures.
    """
    return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"


def load(path: Path = STORED) -> dict[str, dict[str, float]]:
    """
    Read what is stored.

    @return: figures by version of Python; empty if there are none yet.
    @raise ValueError: if the file is broken.
    """
    if not path.exists():
        return {}
    loaded: dict[str, dict[str, float]] = json.loads(path.read_text())
    return loaded


def run(candidate: Candidate, syscalls: bool, write: bool, path: Path = STORED) -> int:
    """
    Count, print, compare or write.

    @param syscalls: whether to count system calls.
    @param write: whether to store the figures instead of comparing them.
    @return: the exit status.
    """
    figures = takeFigures(candidate, syscalls)
    everything = load(path)
    stored = everything.get(version(), {})
    print(table(figures, stored))
    if write:
        everything[version()] = {**stored, **figures} if not syscalls else figures
        path.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")
        print(f"\nwritten to {path.name}")
        return 0
    if not stored:
        print(f"\nno figures are stored for {version()}: nothing was compared; --write stores them")
        return 0
    verdict = judge(figures, stored)
    print()
    for line in verdict.shrunk:
        print(f"better or new: {line}; --write stores it")
    for line in verdict.grown:
        print(f"GROWN: {line}")
    if verdict.grown:
        print("mend it, or accept it: python -m benchmarks exact --write")
        return 1
    print("nothing has grown")
    return 0
