"""
The command line: C{python -m benchmarks} with C{compare}, C{micro}, C{exact} or C{profile}.
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
from typing import Any, NoReturn, TypeVar

from benchmarks import exact, golang, machine, micro, nginx, profile, report
from benchmarks.candidates import CANDIDATES, HERE, OURS, Candidate, parseCandidate
from benchmarks.compare import compare
from benchmarks.load import WrongAnswer
from benchmarks.processes import DidNotStart
from benchmarks.works import QUICK, WORKS, Work

Named = TypeVar("Named", Candidate, Work)

RESULTS = HERE / "RESULTS.md"
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
    comparing.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    comparing.add_argument("--write", action="store_true", help=f"write benchmarks/{RESULTS.name}")
    profiling = commands.add_parser("profile", help="show where twistproxy spends its time")
    profiling.add_argument("--work", default="browser", metavar="NAME", help="default: browser")
    profiling.add_argument("--seconds", type=int, default=5, metavar="N", help="default: 5")
    stepping = commands.add_parser("micro", help="time each step of a request beside its budget, without sockets")
    stepping.add_argument("--rounds", type=int, default=15, metavar="N", help="of how many the best counts")
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
    missing = [program for program in ("wrk", "curl", nginx.findNginx()) if shutil.which(program) is None]
    if missing:
        raise ValueError(f"please install {', '.join(missing)}; benchmarks/setup.sh does that on Debian")


def runCompare(options: Any) -> None:
    """
    Do C{compare}.
    """
    works = choose(WORKS, options.work or (",".join(QUICK) if options.quick else None))
    candidates = choose(allCandidates(options.candidate), options.only)
    repetitions = options.reps or (QUICK_REPETITIONS if options.quick else REPETITIONS)
    checkPrograms()
    hardware, versions = machine.describeMachine(), machine.describeVersions()
    date = datetime.date.today().isoformat()
    seconds = len(works) * len(candidates) * (repetitions + 1) * 1.2
    print(f"{len(works)} works, {len(candidates)} candidates: about {seconds:.0f} s\n", file=sys.stderr)
    results = compare(
        works, candidates, repetitions, Random(), lambda result: print(report.table(result), flush=True)
    )
    if options.json:
        options.json.write_text(report.asJSON(results, hardware, versions, date) + "\n")
    if options.write:
        RESULTS.write_text(
            report.document(
                results, candidates, repetitions=repetitions, machine=hardware, versions=versions, date=date
            )
        )


def runProfile(options: Any) -> None:
    """
    Do C{profile}.
    """
    [candidate] = choose(allCandidates(options.candidate), OURS)
    [work] = choose(WORKS, options.work)
    checkPrograms()
    print(profile.profile(candidate, work, options.seconds))


def runMicro(options: Any) -> None:
    """
    Do C{micro}.
    """
    print(micro.table(micro.measureSteps(rounds=options.rounds)))


def runExact(options: Any) -> int:
    """
    Do C{exact}.
    """
    [candidate] = choose(CANDIDATES, OURS)
    return exact.run(candidate, not options.no_syscalls, options.write)


RUN: dict[str, Callable[[Any], int | None]] = {
    "compare": runCompare,
    "profile": runProfile,
    "micro": runMicro,
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
