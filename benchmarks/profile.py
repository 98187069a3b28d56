"""
Where twistproxy spends its time under load.

With py-spy, which looks on from outside, the picture is not distorted, and native and kernel time falls to
the Python line that called. Without it cProfile runs inside: every call then costs several times as much,
so only the order of the functions counts.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks import load
from benchmarks.candidates import Candidate, Place
from benchmarks.compare import Arena
from benchmarks.processes import DidNotStart, Running
from benchmarks.works import Work

TOP = 25


def profile(candidate: Candidate, work: Work, seconds: int, flame: Path | None = None) -> str:
    """
    Put load on a candidate and see what it does.

    @param candidate: a Python program.
    @param seconds: how long.
    @param flame: a file for a flame graph, by py-spy, which is drawn instead of the table.
    @return: a table of functions, or where the graph is.
    @raise DidNotStart: if it does not.
    @raise load.WrongAnswer: if it does not answer rightly.
    @raise ValueError: if a flame graph is wanted and there is no py-spy.
    """
    beside = str(Path(sys.executable).parent)
    spy = shutil.which("py-spy", path=beside) or shutil.which("py-spy")
    if spy is None and flame is not None:
        raise ValueError("a flame graph needs py-spy, which comes with the benchmarks extra: pip install py-spy")
    if spy is None:
        print("no py-spy found: using cProfile, which slows calls down", file=sys.stderr)
    with Arena() as arena:
        arena.startOrigin(work.origin)
        output = arena.directory / "profile"
        started = (
            candidate if spy else Candidate(candidate.name, candidate.title, _Profiled(candidate, output))
        )
        proxy = arena.proxy(started, work.origin)
        if isinstance(proxy, str):
            raise DidNotStart(proxy)
        load.check(work, proxy.port)
        if spy is None:
            _load(arena, work, proxy, seconds)
            proxy.stop()
            return _fromStats(output)
        style = "raw" if flame is None else "flamegraph"
        command = [spy, "record", "--pid", str(proxy.pid), "--format", style, "--function", "--rate", "500"]
        recorder = subprocess.Popen(
            [*command, "--duration", str(seconds), "--output", str(output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _load(arena, work, proxy, seconds)
            _, complaint = recorder.communicate(timeout=seconds + 10)
        finally:
            recorder.kill()
        if not output.exists():
            raise DidNotStart(f"py-spy: {complaint.strip()}")
        if flame is not None:
            flame.write_text(titled(output.read_text(), f"{candidate.name} under load: {work.title}"))
            return f"written to {flame}: open it in a browser, and click into it"
        return foldedTable(output.read_text())


def foldedTable(text: str) -> str:
    """
    Sum up folded stacks, C{outer;inner;innermost COUNT} on each line.

    @return: the functions in which most samples fell, with the share of those in which they called others.
    """
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, number = line.rpartition(" ")
        # Lines of one function count together.
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        own[frames[-1]] += int(number)
        for frame in set(frames):
            within[frame] += int(number)
    total = sum(own.values()) or 1
    lines = ["  own  with callees  function"]
    for function, samples in own.most_common(TOP):
        lines.append(f"{samples / total:5.1%}  {within[function] / total:12.1%}  {function}")
    return "\n".join(lines)


def titled(picture: str, title: str) -> str:
    """
    Give a flame graph another title than py-spy's command line, which names files of this machine.
    """
    return re.sub(r"(<text id=\"title\"[^>]*>)[^<]*", lambda match: match[1] + escape(title), picture)


class _Profiled:
    """
    Makes a candidate's command into one that runs the same under cProfile.
    """

    def __init__(self, candidate: Candidate, output: Path) -> None:
        self._candidate = candidate
        self._output = output

    def __call__(self, place: Place) -> list[str]:
        """
        Make the command.
        """
        command = self._candidate.command(place)
        return [sys.executable, "-m", "benchmarks.profile", str(self._output), *command]


def _load(arena: Arena, work: Work, proxy: Running, seconds: int) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with load.ready(work, proxy.port, arena.files) as put:
            put()


def _fromStats(path: Path) -> str:
    text = io.StringIO()
    pstats.Stats(str(path), stream=text).sort_stats("tottime").print_stats(TOP)
    return text.getvalue()


def _runTwist(output: str, arguments: list[str]) -> None:
    # twist ends itself by the signal that stopped the reactor, so the figures are written before that.
    from twisted.application.twist._twist import Twist
    from twisted.internet import reactor

    profiler = cProfile.Profile()
    reactor.addSystemEventTrigger("after", "shutdown", profiler.dump_stats, output)
    profiler.runcall(Twist.main, ["twist", *arguments])


if __name__ == "__main__":
    # profile OUTPUT path/to/twist revproxy ...
    _runTwist(sys.argv[1], sys.argv[3:])
