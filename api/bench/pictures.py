"""Comparisons as a picture: how many times better ours is than each peer, and how rates go with the length of the log.

Plain SVG, with no font or script of anybody's, and colours for a light page and a dark one.
"""

from collections.abc import Iterator, Sequence
from html import escape
from math import log10

from api.bench.rounds import Comparison, Measured
from api.bench.telling import figure

WIDTH = 960
NAMES_WIDTH = 420
FIGURES_WIDTH = 90
ROW = 22
HEADING = 34
MARGIN = 24
CHART_HEIGHT = 260
CURVE_NAMES_WIDTH = 320
RATIO_LOWEST = 0.1
RATIO_HIGHEST = 100.0
NO_PEERS = ("ours", "limit:", "ceiling:", "generator's limit:")
"""Ours too, or nobody's way to do the work: drawn in grey."""
NOT_DRAWN = ("queries", "growth")
"""Ours among few beside ours among many: a table tells that better."""

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1c1e21; }
  .title { font-weight: 600; font-size: 15px; }
  .quiet { fill: #63676d; font-size: 12px; }
  .page { fill: #ffffff; }
  .axis { fill: none; stroke: #b6bac0; stroke-width: 1; }
  .ahead { fill: #2f7d4f; }
  .behind { fill: #b4552d; }
  .limit { fill: #b6bac0; }
  .line { fill: none; stroke-width: 2; }
  .c0 { stroke: #2f7d4f; }
  .c1 { stroke: #2a6fb0; }
  .c2 { stroke: #b4552d; }
  .c3 { stroke: #7a5ea8; }
  .c4 { stroke: #63676d; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e8eb; }
    .quiet { fill: #9aa0a6; }
    .page { fill: #16181b; }
    .axis { stroke: #4a4e54; }
    .ahead { fill: #5fc08a; }
    .behind { fill: #e08a5f; }
    .limit { fill: #4a4e54; }
    .c0 { stroke: #5fc08a; }
    .c1 { stroke: #6cb0ee; }
    .c2 { stroke: #e08a5f; }
    .c3 { stroke: #b39ae0; }
    .c4 { stroke: #9aa0a6; }
  }
"""


def picture(compared: Sequence[Comparison], machine: str) -> str:
    """An SVG document."""
    parts: list[str] = []
    top = MARGIN + HEADING
    for comparison in compared:
        if len(comparison.measured) > 1 and comparison.work not in NOT_DRAWN:
            parts += _bars(comparison, top)
            top += HEADING + ROW * (len(comparison.measured) - 1)
    for name, curve in _curves(compared).items():
        parts += _chart(name, curve, top)
        top += HEADING + CHART_HEIGHT + MARGIN
    height = top + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape('booking-ledger bench')}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}"/>',
            _text(MARGIN, MARGIN + 6, "Ours beside its peers, ratios on a logarithmic scale", "title"),
            _text(MARGIN, MARGIN + 24, machine, "quiet"),
            *parts,
            "</svg>\n",
        ]
    )


def _bars(comparison: Comparison, top: int) -> Iterator[str]:
    """From the line of equals: to the right where ours is better."""
    ours, *others = comparison.measured
    less = ", less is better" if comparison.better == "less" else ""
    told = f"{comparison.title}: {figure(ours.median)} {comparison.unit}{less}"
    yield _text(MARGIN, top + HEADING - 10, told, "title")
    equal = _ratio_at(1.0)
    yield f'<path class="axis" d="M{equal:.1f} {top + HEADING - 4}V{top + HEADING + ROW * len(others)}"/>'
    for row, other in enumerate(others):
        middle = top + HEADING + ROW * row + ROW // 2
        end = _ratio_at(other.ratio)
        side = "limit" if other.name.startswith(NO_PEERS) else "ahead" if other.ratio >= 1 else "behind"
        left, width = min(equal, end), abs(end - equal)
        yield _text(MARGIN, middle + 4, other.name)
        yield f'<rect class="{side}" x="{left:.1f}" y="{middle - 6}" width="{max(width, 1):.1f}" height="12" rx="2"/>'
        yield _text(WIDTH - MARGIN - FIGURES_WIDTH + 12, middle + 4, f"{figure(other.ratio)} ×")


def _ratio_at(ratio: float) -> float:
    left, right = MARGIN + NAMES_WIDTH, WIDTH - MARGIN - FIGURES_WIDTH
    bounded = min(max(ratio, RATIO_LOWEST), RATIO_HIGHEST)
    return left + (right - left) * _share(bounded, RATIO_LOWEST, RATIO_HIGHEST)


def _curves(compared: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Those of one work at several sizes."""
    curves: dict[str, list[Comparison]] = {}
    for comparison in compared:
        if comparison.curve and comparison.size:
            curves.setdefault(comparison.curve, []).append(comparison)
    return {name: found for name, found in curves.items() if len(found) > 1}


def _chart(name: str, curve: Sequence[Comparison], top: int) -> Iterator[str]:
    sizes = [comparison.size or 1 for comparison in curve]
    values = [measured.median for comparison in curve for measured in comparison.measured]
    lowest, highest = min(values), max(values)
    left, right = MARGIN + 90, WIDTH - MARGIN - CURVE_NAMES_WIDTH
    upper, lower = top + HEADING, top + HEADING + CHART_HEIGHT - ROW
    yield _text(MARGIN, upper - 10, f"{name}: {curve[0].unit} by the length of the log", "title")
    yield f'<path class="axis" d="M{left} {upper}V{lower}H{right}"/>'
    for value in (lowest, highest):
        yield _text(MARGIN, lower - (lower - upper) * _share(value, lowest, highest) + 4, figure(value), "quiet")
    for size in sizes:
        yield _text(left + (right - left) * _share(size, sizes[0], sizes[-1]) - 16, lower + 16, f"{size:,}", "quiet")
    for place, one in enumerate(curve[0].measured):
        points = [
            (
                left + (right - left) * _share(comparison.size or 1, sizes[0], sizes[-1]),
                lower - (lower - upper) * _share(found.median, lowest, highest),
            )
            for comparison in curve
            if (found := _of(comparison, one.name)) is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="line c{place % 5}" points="{path}"/>'
        yield f'<path class="line c{place % 5}" d="M{right + 20} {upper + ROW * place + 6}h18"/>'
        yield _text(right + 46, upper + ROW * place + 10, one.name)


def _of(comparison: Comparison, name: str) -> Measured | None:
    return next((one for one in comparison.measured if one.name == name), None)


def _share(value: float, lowest: float, highest: float) -> float:
    """Where between the two a value stands, by its logarithm."""
    span = log10(highest) - log10(lowest) if lowest > 0 else 0.0
    return (log10(value) - log10(lowest)) / span if span and value > 0 else 0.0


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
