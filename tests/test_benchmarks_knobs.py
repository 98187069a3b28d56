"""
What each knob costs: that the table can be made, and that it compares what it says.
"""

from __future__ import annotations

import pytest

from benchmarks import knobs
from benchmarks.__main__ import main


@pytest.mark.parametrize("knob", knobs.KNOBS, ids=lambda knob: knob.name)
def test_carried(knob: knobs.Knob) -> None:
    """With each knob turned, and without, the exchanges are carried to their end."""
    for make in (knob.base, knob.make):
        proxy = make()
        proxy.check(knob.kind)
        proxy.run(knob.kind, 3)
        proxy.close()


def test_measure() -> None:
    """Each is measured against its base, in pairs; the table has a row for each."""
    costs = knobs.measure(knobs.KNOBS[:2], pairs=2, count=4)
    assert [cost.knob for cost in costs] == list(knobs.KNOBS[:2])
    assert [cost for cost in costs if not 0 < cost.low <= cost.ratio <= cost.high] == []
    rows = knobs.table(costs).splitlines()
    assert [row.split("  ")[0] for row in rows] == ["knob", *(knob.name for knob in knobs.KNOBS[:2])]


def test_tooFew(capsys: pytest.CaptureFixture[str]) -> None:
    """One pair says nothing about chance."""
    assert main(["knobs", "--pairs", "1"]) == 1
    assert capsys.readouterr().err == "benchmarks: --pairs is at least 2\n"
