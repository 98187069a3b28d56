"""
Results as text: the tables for the terminal and for C{RESULTS.md}, and JSON for other programs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.candidates import Candidate
from benchmarks.series import Ratio, Result, Series, compareCost
from benchmarks.works import UNITS

# Above this share the machine was too busy for others to call a run quiet.
NOTABLE_STEAL = 0.02

_ABOUT = """\
# Benchmark results

Written by `make bench`. What is measured, and how, is in [README.md](README.md).
"""

_LEGEND = (
    "Less CPU is better. *Spread* is how far the slices of one candidate lie apart (their middle half).",
    "*CPU / name* is the cost beside that of the candidate of this name: the two are divided round by round, as",
    "the slices of a round lie next to each other in time, and the median of these quotients counts. It need not",
    "be the quotient of the two costs in the table. *95 %* says between which figures this ratio lies with that",
    "confidence; with fewer than six rounds these are the smallest and the largest quotient, and the confidence",
    "is lower (94 % with five, 75 % with three). `?` stands where 1 lies between them, so that not even the",
    "direction is known, where there were errors, and where slices were too few or missing.",
    "*RSS* is the memory held after the last slice, *peak* the most that was held during one, in the median.",
)


@dataclass(frozen=True)
class Section:
    """
    One comparison, as a part of the document.

    @ivar title: its heading, and what is compared; C{""} for no heading.
    @ivar candidates: who took part.
    @ivar results: one for each work.
    @ivar chart: the name of the file with its chart, or C{""}.
    """

    title: str
    candidates: Sequence[Candidate]
    results: Sequence[Result]
    chart: str = ""


def table(result: Result) -> str:
    """
    Lay out one work's figures.

    @return: a Markdown table which is aligned, so that it can be read in a terminal too, and the reasons
        for what it lacks.
    """
    work = result.work
    cost, rate = UNITS[work.unit]
    what = "bytes" if work.unit == "connection" else "CPU"
    names = ["candidate", cost, "spread", f"{what} / {result.base}", "95 %", rate]
    rows = [[*names, "p50 ms", "p99 ms", "RSS MB", "peak MB", "errors"]]
    notes = []
    for series in result.series:
        if series.failure is not None or not series.samples:
            rows.append([series.name, *["-"] * 10])
            notes.append(f"{series.name}: {series.failure or 'no slice was measured'}")
            continue
        ratio = compareCost(series, result.baseSeries)
        if ratio.value is None:
            notes.append(f"{series.name} / {result.base} is ?: {ratio.reason}")
        rows.append(
            [
                series.name,
                f"{series.cost:.1f}",
                f"{series.spread:.1f}",
                "?" if ratio.value is None else f"{ratio.value:.2f}",
                _interval(ratio),
                f"{series.rate:.0f}",
                _milliseconds(series.p50),
                _milliseconds(series.p99),
                f"{series.resident / 1e6:.0f}",
                f"{series.peak / 1e6:.0f}" if series.peak else "-",
                str(series.errors),
            ]
        )
    if result.steal > NOTABLE_STEAL:
        notes.append(
            f"the hypervisor took {result.steal:.0%} of the machine's time: do not trust these figures"
        )
    text = f"### {work.title}\n\n{_align(rows)}"
    return text + ("\n\n" + "\n".join(f"- {note}" for note in notes) if notes else "") + "\n"


def document(
    sections: Sequence[Section],
    *,
    repetitions: int,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    date: str,
) -> str:
    """
    Write the whole of C{RESULTS.md}.

    @param repetitions: the number of slices for each candidate and work.
    @param machine: see L{benchmarks.machine.describeMachine}.
    @param versions: see L{benchmarks.machine.describeVersions}.
    @param date: when it was measured, in ISO form.
    """
    steal = max((result.steal for section in sections for result in section.results), default=0.0)
    facts = {
        **machine,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "date": date,
        "slices": f"{repetitions} for each candidate and work, interleaved in random order",
        "steal": f"at most {steal:.1%} of the machine's time during a work",
    }
    lines = [_ABOUT, *(f"- {name}: {value}" for name, value in facts.items()), "", *_LEGEND, ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.chart:
            lines += [f"![The costs of each work, as bars]({section.chart})", ""]
        lines += [f"- **{candidate.name}**: {candidate.title}" for candidate in section.candidates]
        lines += ["", *(table(result) for result in section.results)]
    return "\n".join(lines)


def asJSON(
    results: Sequence[Result], machine: Mapping[str, str], versions: Mapping[str, str], date: str
) -> str:
    """
    Give every slice's figures to other programs.
    """
    return json.dumps(
        {
            "date": date,
            "machine": dict(machine),
            "versions": dict(versions),
            "works": [
                {
                    "work": result.work.name,
                    "unit": UNITS[result.work.unit][0],
                    "base": result.base,
                    "steal": result.steal,
                    "candidates": [_seriesAsDict(series, result) for series in result.series],
                }
                for result in results
            ],
        },
        indent=2,
    )


def _seriesAsDict(series: Series, result: Result) -> dict[str, object]:
    ratio = compareCost(series, result.baseSeries)
    low, high = ratio.interval or (None, None)
    return {
        **dataclasses.asdict(series),
        "cost": series.cost if series.samples else None,
        "spread": series.spread if series.samples else None,
        "ratio": ratio.value,
        "ratioLow": low,
        "ratioHigh": high,
        "noRatioBecause": ratio.reason or None,
    }


def _milliseconds(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"


def _interval(ratio: Ratio) -> str:
    if ratio.interval is None:
        return "-"
    low, high = ratio.interval
    return f"{low:.2f}-{high:.2f}"


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)
