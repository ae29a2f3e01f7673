"""Whether it matters to a delivery how long the log has become: the same appends, into logs of several lengths."""

from collections.abc import Sequence
from functools import partial

import uvloop

from api.bench.appending import CALLERS, append_ours
from api.bench.bodies import created_bodies
from api.bench.callers import P50, P99
from api.bench.plan import Bench
from api.bench.rounds import Comparison, Contender, Sample, in_figure, keeping
from api.bench.servers import settle

SECONDS_MAX = 0.3
"""Longer, and short logs would not stay short."""
NO_SLOWER = 0.8
"""What the rate into the longest log may be at least, of that into a shorter one: rounds differ by as much."""


def compare_growth(bench: Bench) -> list[Comparison]:
    """The longest log first. They grow on the way, each by some thousands a round."""
    bodies, seconds = created_bodies(), min(bench.plan.seconds, SECONDS_MAX)
    contenders = []
    for size in sorted(bench.plan.sizes, reverse=True):
        dsn = bench.log(size).ours
        contenders.append(
            Contender(
                name=f"into a log of {size:,} events",
                run=partial(_append, dsn, bodies, seconds),
                prepare=partial(settle, dsn),
            )
        )
    told = bench.compare(
        f"append into longer and longer logs, {CALLERS} callers",
        "events/s",
        contenders,
        rounds=bench.plan.rounds,
        goals={contender.name: NO_SLOWER for contender in contenders[1:]},
    )
    return [keeping(told, P50), in_figure(told, P99, title=f"{told.title}, p99", unit="ms")]


def _append(dsn: str, bodies: Sequence[bytes], seconds: float) -> Sample:
    return uvloop.run(append_ours(dsn, bodies, seconds))
