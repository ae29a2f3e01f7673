"""Comparisons as people read them on a terminal: the ratio first, since figures move with the machine."""

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.bench.rounds import Comparison, Measured

PLAIN_WIDTH = 150
"""Columns where the output goes to a file or a pipe."""

COLUMNS = ("", "ours is", "goal", "median", "range", "beside it")
RIGHT = {"ours is", "goal", "median", "range"}
WHOLE_FROM = 1_000
TENTHS_FROM = 10


def print_comparisons(compared: Sequence[Comparison]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for comparison in compared:
        console.print(_title(comparison))
        console.print(_table(comparison))
        for line in _left_out(comparison):
            console.print(line)
        console.print()


def _table(comparison: Comparison) -> Table:
    """Without the columns in which nothing would stand."""
    rows = [_row(comparison, measured, is_ours=place == 0) for place, measured in enumerate(comparison.measured)]
    wanted = [at for at, heading in enumerate(COLUMNS) if not at or any(row[at] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for at in wanted:
        table.add_column(COLUMNS[at], justify="right" if COLUMNS[at] in RIGHT else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row[at] for at in wanted))
    return table


def _row(comparison: Comparison, measured: Measured, *, is_ours: bool) -> tuple[str, ...]:
    return (
        escape(measured.name),
        "" if is_ours else f"{measured.ratio:.2f} ×",
        _goal(comparison, measured, is_ours=is_ours),
        figure(measured.median),
        _range(measured),
        ", ".join(f"{name} {figure(spread.median)}" for name, spread in measured.figures.items()),
    )


def figure(value: float) -> str:
    """With as many digits as say something."""
    if value >= WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= TENTHS_FROM else f"{value:.2f}"


def _range(measured: Measured) -> str:
    if measured.lowest == measured.highest:
        return ""
    return f"{figure(measured.lowest)} to {figure(measured.highest)}"


def _title(comparison: Comparison) -> str:
    less = ", less is better" if comparison.better == "less" else ""
    return f"[bold]{escape(comparison.title)}[/] ({escape(comparison.unit)}{less})"


def _goal(comparison: Comparison, measured: Measured, *, is_ours: bool) -> str:
    """What was meant to be reached, and whether it was."""
    if measured.goal is None:
        return ""
    if is_ours:
        met = (measured.median >= measured.goal) == (comparison.better == "more")
        text = f"{'≥' if comparison.better == 'more' else '≤'} {figure(measured.goal)}"
    else:
        met = measured.ratio >= measured.goal
        text = f"≥ {measured.goal:g} ×"
    return f"[{'green' if met else 'red'}]{text} {'met' if met else 'missed'}[/]"


def _left_out(comparison: Comparison) -> Iterator[str]:
    for skipped in comparison.skipped:
        yield escape(f"left out: {skipped.name}: {skipped.why}")
