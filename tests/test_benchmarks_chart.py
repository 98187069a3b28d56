"""
The chart: what it shows, and what it does not claim.
"""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.candidates import BASE, OURS
from benchmarks.chart import LONGEST, OURS_COLOR, ROW, WIDTH, chart
from benchmarks.series import Result, Sample, Series
from benchmarks.works import WORKS

SVG = "{http://www.w3.org/2000/svg}"
SMALL, DOWNLOAD = (next(work for work in WORKS if work.name == name) for name in ("small", "download"))


def series(name: str, *costs: float) -> Series:
    """
    Make figures with the given costs.
    """
    return Series(name, [Sample(cost, 1000.0, 1.0, 2.0, 0) for cost in costs])


def drawn(*results: Result) -> ElementTree.Element:
    """
    Draw, and read what was drawn.
    """
    return ElementTree.fromstring(chart(results, (OURS,), "2026-01-02"))


def bars(picture: ElementTree.Element) -> list[ElementTree.Element]:
    """
    Find the bars: all rectangles but the paper.
    """
    return picture.findall(f"{SVG}rect")[1:]


def words(picture: ElementTree.Element) -> list[str]:
    """
    Find all that is written.
    """
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def test_bars() -> None:
    """Bars are as long as costs are; ours stand out; a ratio stands beside the figure where there is one."""
    picture = drawn(Result(SMALL, [series(OURS, 20, 20, 20), series(BASE, 40, 40, 40)]))
    ours, base = bars(picture)
    assert 2 * float(ours.attrib["width"]) == float(base.attrib["width"])
    assert (ours.attrib["fill"], base.attrib["fill"] == OURS_COLOR) == (OURS_COLOR, False)
    assert "20.0 (0.50)" in words(picture)
    assert "40.0" in words(picture)
    assert picture.find(f"{SVG}line") is not None


def test_noRatio() -> None:
    """A ratio that the measurement does not carry is not written."""
    picture = drawn(Result(SMALL, [series(OURS, 30, 39, 45), series(BASE, 40, 40, 40)]))
    assert "39.0" in words(picture)


def test_cut() -> None:
    """A bar that would be too long is cut off, marked, and keeps its figure."""
    picture = drawn(Result(DOWNLOAD, [series("slow", 4000, 4000, 4000), series(BASE, 400, 400, 400)]))
    slow, base = bars(picture)
    assert float(slow.attrib["width"]) == LONGEST * float(base.attrib["width"])
    assert len(picture.findall(f"{SVG}path")) == 2
    assert "4000 (10.00)" in words(picture)


def test_failed() -> None:
    """Who has no figures keeps its row; without the base there is no line, and still a picture."""
    picture = drawn(Result(SMALL, [Series("lame & <late>", failure="did not start"), series("b", 1, 1, 1)]))
    assert "lame & <late>" in words(picture)
    assert "no figures" in words(picture)
    assert picture.find(f"{SVG}line") is None
    assert len(bars(picture)) == 1
    assert len(bars(drawn(Result(SMALL, [Series(BASE, failure="did not start")])))) == 0
    assert bars(drawn()) == []


def test_size() -> None:
    """Everything lies inside of the picture, however many works there are."""
    candidates = [series(name, 10, 10, 10) for name in (OURS, BASE, "third")]
    for count in (1, 2, 5):
        picture = drawn(*[Result(SMALL, candidates)] * count)
        height = float(picture.attrib["height"])
        assert max(float(bar.attrib["y"]) for bar in bars(picture)) + ROW < height
        assert max(float(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in bars(picture)) < WIDTH
