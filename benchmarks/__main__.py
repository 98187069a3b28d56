"""
The command line: C{python -m benchmarks} with C{compare}, C{micro}, C{knobs}, C{exact}, C{soak} or C{profile}.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NoReturn, TypeAlias, TypeVar

from benchmarks import exact, golang, knobs, machine, micro, nginx, profile, report, soak
from benchmarks.candidates import (
    BASE,
    CANDIDATES,
    HERE,
    OURS,
    RESOURCE_BASE,
    RESOURCES,
    Candidate,
    parseCandidate,
)
from benchmarks.chart import chart as draw
from benchmarks.compare import compare
from benchmarks.load import WrongAnswer
from benchmarks.processes import DidNotStart
from benchmarks.series import Result
from benchmarks.works import QUICK, RESOURCE_WORKS, WORKS, Work

# Heading, works, candidates, the name of the one that the others are compared to, and the chart's file if there is one.
Compared: TypeAlias = tuple[str, list[Work], list[Candidate], str, str]
Named = TypeVar("Named", Candidate, Work)

RESULTS = HERE / "RESULTS.md"
CHART = HERE / "chart.svg"
# Whose bars stand out.
OURS_DRAWN = (OURS, "full", "twistproxy-async")
REPETITIONS = 7
QUICK_REPETITIONS = 3


def choose(available: Sequence[Named], names: str | None) -> list[Named]:
    """
    Pick by name.

    @param names: names with commas between them, or C{None} for all.
    @return: what was named, in the order of C{available}.
    @raise ValueError: for a name that is not there.
    """
    if names is None:
        return list(available)
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    known = [each.name for each in available]
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        wrong = ", ".join(unknown) or "(none given)"
        raise ValueError(f"no such name: {wrong}; there are {', '.join(known)}")
    return [each for each in available if each.name in wanted]


def makeParser() -> argparse.ArgumentParser:
    """
    Describe the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure twistproxy.")
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare", help="measure the proxies beside each other")
    comparing.add_argument("--quick", action="store_true", help=f"fewer slices, and only {','.join(QUICK)}")
    comparing.add_argument(
        "--only", metavar="NAME,...", help="candidates: " + ",".join(c.name for c in CANDIDATES)
    )
    comparing.add_argument(
        "--work", metavar="NAME,...", help="works: " + ",".join(work.name for work in WORKS)
    )
    comparing.add_argument("--reps", type=int, metavar="N", help="slices for each candidate and work")
    comparing.add_argument(
        "--resources", action="store_true", help="compare proxies that are mounted in twisted.web instead"
    )
    comparing.add_argument("--chart", type=Path, metavar="FILE", help="draw the costs there, as SVG")
    comparing.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    comparing.add_argument("--write", action="store_true", help=f"write benchmarks/{RESULTS.name} and {CHART.name}")
    profiling = commands.add_parser("profile", help="show where twistproxy spends its time")
    profiling.add_argument("--work", default="browser", metavar="NAME", help="default: browser")
    profiling.add_argument("--seconds", type=int, default=5, metavar="N", help="default: 5")
    profiling.add_argument("--flame", type=Path, metavar="FILE", help="draw a flame graph there, as SVG")
    soaking = commands.add_parser("soak", help="see whether twistproxy holds more the longer it runs")
    soaking.add_argument("--requests", type=int, default=2_000_000, metavar="N", help="default: 2000000")
    soaking.add_argument("--every", type=int, default=100_000, metavar="N", help="requests between looks")
    soaking.add_argument("--work", default="small", metavar="NAME", help="default: small")
    stepping = commands.add_parser("micro", help="time each step of a request beside its budget, without sockets")
    stepping.add_argument("--rounds", type=int, default=15, metavar="N", help="of how many the best counts")
    turning = commands.add_parser("knobs", help="what each knob costs, as a ratio, without sockets")
    turning.add_argument("--pairs", type=int, default=40, metavar="N", help="turns of each, with it and without")
    counting = commands.add_parser(
        "exact", help="count calls, memory and system calls of a request, and fail if they have grown"
    )
    counting.add_argument("--write", action="store_true", help=f"store the figures in {exact.STORED.name}")
    counting.add_argument("--no-syscalls", action="store_true", help="leave out what needs strace")
    for command in (comparing, profiling):
        command.add_argument(
            "--candidate",
            action="append",
            default=[],
            metavar="NAME=COMMAND",
            help="one more, or another command for a known one; {port}, {origin} and {log} are filled in",
        )
    return parser


def allCandidates(given: Sequence[str]) -> list[Candidate]:
    """
    Add the command line's candidates to ours; one with a known name takes its place.
    """
    merged = {candidate.name: candidate for candidate in CANDIDATES}
    merged.update((candidate.name, candidate) for candidate in map(parseCandidate, given))
    return list(merged.values())


def checkPrograms() -> None:
    """
    See that the programs which the benchmarks run are there.

    @raise ValueError: if some are not.
    """
    programs = ("wrk", "curl", nginx.findNginx())
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise ValueError(f"please install {', '.join(missing)}; benchmarks/setup.sh does that on Debian")


def _show(result: Result) -> None:
    print(report.table(result), flush=True)


def runCompare(options: Any) -> None:
    """
    Do C{compare}.
    """
    every: list[Compared] = [
        ("Proxies", list(WORKS), allCandidates(options.candidate), BASE, CHART.name),
        ("Mounted in twisted.web", choose(WORKS, ",".join(RESOURCE_WORKS)), list(RESOURCES), RESOURCE_BASE, ""),
    ]
    narrowed = options.quick or options.only or options.work
    asked = every[1:] if options.resources else every[:1] if narrowed else every
    quick = ",".join(QUICK) if options.quick and not options.resources else None
    chosen = [
        (title, choose(works, options.work or quick), choose(candidates, options.only), base, drawn)
        for title, works, candidates, base, drawn in asked
    ]
    repetitions = options.reps or (QUICK_REPETITIONS if options.quick else REPETITIONS)
    checkPrograms()
    hardware, versions = machine.describeMachine(), machine.describeVersions()
    date = datetime.date.today().isoformat()
    count = sum(len(works) * len(candidates) for _, works, candidates, _, _ in chosen)
    print(f"{count} pairs of work and candidate: about {count * (repetitions + 1) * 1.3:.0f} s\n", file=sys.stderr)
    sections = []
    for title, works, candidates, base, drawn in chosen:
        results = compare(works, candidates, repetitions, Random(), _show, base)
        sections.append(report.Section(title, candidates, results, drawn))
        if drawn and (options.chart or options.write):
            (options.chart or CHART).write_text(draw(results, OURS_DRAWN, date))
    if options.json:
        everything = [result for section in sections for result in section.results]
        options.json.write_text(report.asJSON(everything, hardware, versions, date) + "\n")
    if options.write:
        RESULTS.write_text(
            report.document(sections, repetitions=repetitions, machine=hardware, versions=versions, date=date)
        )


def runProfile(options: Any) -> None:
    """
    Do C{profile}.
    """
    [candidate] = choose(allCandidates(options.candidate), OURS)
    [work] = choose(WORKS, options.work)
    checkPrograms()
    print(profile.profile(candidate, work, options.seconds, options.flame))


def runSoak(options: Any) -> int:
    """
    Do C{soak}.
    """
    [candidate] = choose(CANDIDATES, OURS)
    [work] = choose([work for work in WORKS if work.unit == "request"], options.work)
    if options.requests < 1 or options.every < 1:
        raise ValueError("--requests and --every are at least 1")
    checkPrograms()
    moments, errors = soak.soak(
        candidate, work, options.requests, options.every, lambda line: print(line, flush=True)
    )
    conclusion = soak.conclude(moments, work.connections)
    print(f"\n{conclusion.text}\nerrors: {errors}")
    return 0 if conclusion.flat and not errors else 1


def runMicro(options: Any) -> None:
    """
    Do C{micro}.
    """
    print(micro.table(micro.measureSteps(rounds=options.rounds)))


def runKnobs(options: Any) -> None:
    """
    Do C{knobs}.
    """
    print(knobs.run(options.pairs))


def runExact(options: Any) -> int:
    """
    Do C{exact}.
    """
    [candidate] = choose(CANDIDATES, OURS)
    return exact.run(candidate, not options.no_syscalls, options.write)


RUN: dict[str, Callable[[Any], int | None]] = {
    "compare": runCompare,
    "profile": runProfile,
    "soak": runSoak,
    "micro": runMicro,
    "knobs": runKnobs,
    "exact": runExact,
}


def main(arguments: Sequence[str]) -> int:
    """
    Run a command.

    @return: the exit status.
    """
    options = makeParser().parse_args(arguments)
    try:
        return RUN[options.command](options) or 0
    except (ValueError, DidNotStart, WrongAnswer, golang.CannotBuild) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Ended from outside, what was started here must not stay behind: leave by the same way as with Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main(sys.argv[1:]))
