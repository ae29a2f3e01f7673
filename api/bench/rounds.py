"""Fair comparisons on a noisy machine: everybody in the same run, in turns, medians and ranges of several rounds.

Absolute figures move with the machine; the ratio to a peer that ran a moment before and after is what counts.
"""

import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from api.garbage import settle_garbage

ROUNDS_DEFAULT = 5
ROUNDS_QUICK = 3


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One way to do a piece of work. `run` does it once and returns how many units it did."""

    name: str
    run: Callable[[], int]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender did, in units a second. `ratio` is ours to this one: above 1, ours is faster."""

    name: str
    median: float
    lowest: float
    highest: float
    ratio: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The first contender is ours; the others are what it is measured against."""

    title: str
    unit: str
    measured: list[Measured]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were made."""

    python: str
    system: str
    processor: str
    cores: int


def compare(
    title: str, unit: str, contenders: Sequence[Contender], *, rounds: int, progress: Callable[[], None]
) -> Comparison:
    """Every contender once a round, in turns, on one core's clock time, garbage collected beforehand."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            settle_garbage()  # as the server does
            begun = time.perf_counter()
            units = contender.run()
            rates[contender.name].append(units / (time.perf_counter() - begun))
            gc.unfreeze()
            progress()
    ours = statistics.median(rates[contenders[0].name])
    return Comparison(
        title=title,
        unit=unit,
        measured=[
            Measured(
                name=name,
                median=statistics.median(told),
                lowest=min(told),
                highest=max(told),
                ratio=ours / statistics.median(told),
            )
            for name, told in rates.items()
        ],
    )


def this_machine() -> Machine:
    import os

    return Machine(
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _processor() -> str:
    """The processor's own name where Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
