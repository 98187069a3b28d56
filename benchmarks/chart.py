"""
The costs as bars, one panel for each work, as an SVG picture written by hand.

Works are not comparable with each other, so each panel has a scale of its own: it ends at L{LONGEST} times the
base's cost, and a longer bar is cut off there, visibly, with its figure beside it. The line through a panel is the
base. A candidate without figures has its row and no bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.series import Result, Series, compareCost
from benchmarks.works import UNITS

# All lengths are in pixels.
WIDTH = 960
COLUMNS = 2
MARGIN = 24
GAP = 32
BELOW = 18
HEAD = 64
TITLE = 46
ROW = 20
BAR = 13
LABEL = 118
FIGURE = 104

#: The longest bar, in multiples of the base's cost.
LONGEST = 2.0

INK, FAINT, PAPER = "#1f2328", "#656d76", "#ffffff"
OURS_COLOR, BASE_COLOR, OTHER_COLOR = "#0969da", "#57606a", "#b6bec7"
_FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""


def chart(results: Sequence[Result], ours: Sequence[str], date: str) -> str:
    """
    Draw a comparison.

    @param results: one for each panel.
    @param ours: the candidates whose bars stand out.
    @param date: when it was measured, in ISO form.
    @return: the SVG document.
    """
    panelWidth = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    rows = [results[at : at + COLUMNS] for at in range(0, len(results), COLUMNS)]
    parts = []
    y = float(MARGIN + HEAD)
    for row in rows:
        for column, result in enumerate(row):
            parts.append(_panel(result, ours, MARGIN + column * (panelWidth + GAP), y, panelWidth))
        y += TITLE + ROW * max(len(result.series) for result in row) + BELOW
    height = round(y - BELOW + MARGIN)
    base = results[0].base if results else ""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" {_FONT}>',
        "<title>What a request costs in each proxy</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        _text(MARGIN, MARGIN + 18, "What a request costs: CPU time on one core, shorter is better", INK, 18, bold=True),
        _text(
            MARGIN,
            MARGIN + 38,
            f"The line is {base} = 1.00. Medians of one interleaved run, {date}; no ratio where noise drowns it.",
            FAINT,
            12,
        ),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _panel(result: Result, ours: Sequence[str], x: float, y: float, width: float) -> str:
    work = result.work
    base = result.baseSeries
    parts = [
        _text(x, y + 12, _shortened(work.title, 60), INK, 12.5, bold=True),
        _text(x, y + 28, f"{UNITS[work.unit][0]}", FAINT, 11),
    ]
    measured = [series.cost for series in result.series if series.samples and series.failure is None]
    based = base is not None and bool(base.samples) and base.failure is None
    end = LONGEST * base.cost if based and base is not None else max(measured, default=1.0)
    room = width - LABEL - FIGURE
    top = y + TITLE - 8
    if based and base is not None:
        at = x + LABEL + room * base.cost / end
        bottom = top + len(result.series) * ROW - (ROW - BAR)
        parts.append(
            f'<line x1="{at:.1f}" y1="{top - 3:.1f}" x2="{at:.1f}" y2="{bottom + 3:.1f}" stroke="{INK}" '
            'stroke-width="1" stroke-dasharray="2 2"/>'
        )
    for number, series in enumerate(result.series):
        parts.append(_bar(series, base, x, top + number * ROW, room, end, series.name in ours))
    return "\n".join(parts)


def _bar(series: Series, base: Series | None, x: float, y: float, room: float, end: float, ours: bool) -> str:
    color = OURS_COLOR if ours else BASE_COLOR if series is base else OTHER_COLOR
    middle = y + BAR - 2.5
    parts = [_text(x + LABEL - 8, middle, series.name, INK, 11.5, anchor="end", bold=ours)]
    if series.failure is not None or not series.samples:
        parts.append(_text(x + LABEL, middle, "no figures", FAINT, 11))
        return "\n".join(parts)
    share = series.cost / end
    length = room * min(share, 1.0)
    parts.append(f'<rect x="{x + LABEL:.1f}" y="{y:.1f}" width="{max(length, 1):.1f}" height="{BAR}" fill="{color}"/>')
    if share > 1.0:
        # two strokes of paper across a bar that goes on
        for offset in (14, 8):
            at = x + LABEL + length - offset
            parts.append(
                f'<path d="M{at:.1f} {y + BAR + 1:.1f} l4 -{BAR + 2}" stroke="{PAPER}" stroke-width="2" fill="none"/>'
            )
    ratio = compareCost(series, base)
    figure = f"{series.cost:.0f}" if series.cost >= 1000 else f"{series.cost:.1f}"
    told = f"{figure} ({ratio.value:.2f})" if ratio.value is not None and series is not base else figure
    parts.append(_text(x + LABEL + length + 6, middle, told, INK, 11.5))
    return "\n".join(parts)


def _text(
    x: float, y: float, text: str, color: str, size: float, *, anchor: str = "start", bold: bool = False
) -> str:
    style = ' font-weight="600"' if bold else ""
    # a rim of paper, so that the base's line does not run through a figure
    style += f' stroke="{PAPER}" stroke-width="3" paint-order="stroke"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}"{style}>'
        f"{escape(text)}</text>"
    )


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"
