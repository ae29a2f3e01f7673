"""Fair comparisons on a noisy machine: everybody in the same run, in turns, medians and ranges of several rounds.

Absolute figures move with the machine; the ratio to a peer that ran a moment before and after is what counts.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from api.garbage import settle_garbage

Better = Literal["more", "less"]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement that kept its own time; `figures` are what was seen beside it, each named with its unit."""

    value: float
    figures: Mapping[str, float] = {}


def nothing() -> None:
    pass


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One way to do a piece of work.

    `prepare` makes ready and is not timed. `run` does the work once and returns how many units it did, or a sample of
    what it measured itself.
    """

    name: str
    run: Callable[[], int | Sample]
    prepare: Callable[[], None] = nothing


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over all rounds."""

    median: float
    lowest: float
    highest: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender did, in the comparison's unit. `ratio` is ours to this one: above 1, ours is better.

    `goal` is what was meant to be reached at least: of ours the value itself, of the others the ratio.
    """

    name: str
    median: float
    lowest: float
    highest: float
    ratio: float
    goal: float | None = None
    figures: dict[str, Spread] = {}


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """Who could not take part, and what is missing."""

    name: str
    why: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The first contender is ours; the others are what it is measured against.

    `size` is the number of events or bookings the work was done on, where that is told; comparisons of one `curve` are
    of the same work at several sizes.
    """

    title: str
    unit: str
    measured: list[Measured]
    better: Better = "more"
    skipped: list[Skipped] = []
    size: int | None = None
    curve: str = ""
    work: str = ""


def compare(
    title: str,
    unit: str,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    progress: Callable[[], None] = nothing,
    better: Better = "more",
    goals: Mapping[str, float] | None = None,
    skipped: Sequence[Skipped] = (),
    size: int | None = None,
    curve: str = "",
) -> Comparison:
    """Every contender once a round, in turns, garbage collected beforehand. `goals` are by contender."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            samples[contender.name].append(_sample(contender))
            progress()
    return Comparison(
        title=title,
        unit=unit,
        measured=_measured(samples, better, goals or {}),
        better=better,
        skipped=[*skipped],
        size=size,
        curve=curve,
    )


def in_figure(
    comparison: Comparison,
    figure: str,
    *,
    title: str,
    unit: str,
    better: Better = "less",
    goals: Mapping[str, float] | None = None,
) -> Comparison:
    """The same contenders compared by something that was seen beside the main figure."""
    spreads = {one.name: one.figures[figure] for one in comparison.measured if figure in one.figures}
    measured = _compared(spreads, {}, better, goals or {})
    return msgspec.structs.replace(
        comparison, title=title, unit=unit, better=better, measured=measured, skipped=[], curve=""
    )


def led_by(
    comparison: Comparison, name: str, others: Sequence[str], *, title: str, goals: Mapping[str, float] | None = None
) -> Comparison:
    """The same measurements with another in our place, held against these of the others."""
    found = {one.name: one for one in comparison.measured}
    spreads = {
        one: Spread(median=found[one].median, lowest=found[one].lowest, highest=found[one].highest)
        for one in (name, *others)
        if one in found
    }
    measured = _compared(spreads, {}, comparison.better, goals or {})
    return msgspec.structs.replace(comparison, title=title, measured=measured, skipped=[], curve="")


def keeping(comparison: Comparison, *figures: str) -> Comparison:
    """Without the figures that are told elsewhere."""
    measured = [
        msgspec.structs.replace(one, figures={name: one.figures[name] for name in figures if name in one.figures})
        for one in comparison.measured
    ]
    return msgspec.structs.replace(comparison, measured=measured)


def told_once(
    title: str,
    unit: str,
    values: Mapping[str, float],
    *,
    better: Better = "less",
    goals: Mapping[str, float] | None = None,
    figures: Mapping[str, Mapping[str, float]] | None = None,
    size: int | None = None,
) -> Comparison:
    """What is measured once: it does not change from one round to the next, or was asked often enough by itself."""
    spreads = {name: _spread([value]) for name, value in values.items()}
    beside = {
        name: {figure: _spread([value]) for figure, value in told.items()} for name, told in (figures or {}).items()
    }
    measured = _compared(spreads, beside, better, goals or {})
    return Comparison(title=title, unit=unit, measured=measured, better=better, size=size)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed; `values` are sorted, and not empty."""
    return values[min(int(len(values) * share), len(values) - 1)]


def _sample(contender: Contender) -> Sample:
    contender.prepare()
    settle_garbage()  # as the server does
    begun = time.perf_counter()
    done = contender.run()
    seconds = time.perf_counter() - begun
    gc.unfreeze()
    return done if isinstance(done, Sample) else Sample(value=done / seconds)


def _measured(samples: Mapping[str, list[Sample]], better: Better, goals: Mapping[str, float]) -> list[Measured]:
    values = {name: _spread([sample.value for sample in told]) for name, told in samples.items()}
    figures = {
        name: {figure: _spread([sample.figures[figure] for sample in told]) for figure in told[0].figures}
        for name, told in samples.items()
    }
    return _compared(values, figures, better, goals)


def _compared(
    spreads: Mapping[str, Spread],
    figures: Mapping[str, dict[str, Spread]],
    better: Better,
    goals: Mapping[str, float],
) -> list[Measured]:
    """The first is ours."""
    ours = next(iter(spreads.values())).median
    return [
        Measured(
            name=name,
            median=spread.median,
            lowest=spread.lowest,
            highest=spread.highest,
            ratio=_ratio(ours, spread.median) if better == "more" else _ratio(spread.median, ours),
            goal=goals.get(name),
            figures=figures.get(name, {}),
        )
        for name, spread in spreads.items()
    ]


def _ratio(one: float, other: float) -> float:
    return one / other if other else 0.0


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=statistics.median(values), lowest=min(values), highest=max(values))
