"""
What a soak concludes, and what a watched proxy tells.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import watched
from benchmarks.__main__ import main
from benchmarks.soak import ENOUGH, Moment, conclude


def moments(count: int, memory: float = 0, files: float = 0, objects: float = 0, cycles: float = 0) -> list[Moment]:
    """
    Make what a proxy shows which grows by so much with each request, seen every 100,000 of them.
    """
    return [
        Moment(
            requests,
            50_000_000 + round(memory * requests),
            20 + round(files * requests),
            5000 + round(objects * requests),
            round(cycles * requests),
        )
        for requests in range(100_000, 100_000 * (count + 1), 100_000)
    ]


def test_flat() -> None:
    """A proxy that holds the same all the time is flat; a single outlier does not count."""
    steady = moments(20)
    assert conclude(steady, 32).flat is True
    steady[-1] = Moment(2_000_000, 90_000_000, 500, 50_000, 0)
    assert conclude(steady, 32).flat is True


@pytest.mark.parametrize(
    ("leak", "name"), [({"memory": 2}, "memory"), ({"files": 0.0001}, "files"), ({"objects": 0.01}, "objects")]
)
def test_grows(leak: dict[str, float], name: str) -> None:
    """In two million requests two bytes for each show, and so does one file in ten thousand of them."""
    conclusion = conclude(moments(20, **leak), 32)
    assert conclusion.flat is False
    assert [line.split()[0] for line in conclusion.text.splitlines() if "GROWS" in line] == [name]


def test_connections() -> None:
    """Connections to the upstream that happen to be kept are no growth."""
    kept = moments(9)
    kept[6:] = [Moment(m.requests, m.memory, m.files + 32, m.objects, m.collected) for m in kept[6:]]
    assert conclude(kept, 32).flat is True
    assert conclude(kept, 4).flat is False


def test_tooFew() -> None:
    """With too few samples nothing is concluded."""
    assert conclude(moments(ENOUGH - 1), 32).flat is None
    assert conclude(moments(ENOUGH), 32).flat is True


def test_cycles() -> None:
    """What the garbage collector had to find is told for each request."""
    assert "2.500 objects per request" in conclude(moments(9, cycles=2.5), 32).text


def test_watched(tmp_path: Path) -> None:
    """A watched process tells how many objects it has, and how many were found in cycles."""
    path = tmp_path / "watched"
    watched.tell(path)
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    watched.tell(path)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["objects"] > 0
    assert second["collected"] > first["collected"]


@pytest.mark.parametrize("arguments", [["--requests", "0"], ["--every", "0"], ["--work", "download"]])
def test_mistakes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A soak of nothing, or of what is not counted in requests, is refused in one line."""
    assert main(["soak", *arguments]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks: ")
