"""How long queries take among few bookings and among many: an index that serves does not mind how many there are."""

from collections.abc import Sequence

from api.bench.callers import P99
from api.bench.plan import Bench
from api.bench.queries import Timed, measure_queries
from api.bench.rounds import Comparison, told_once

GOAL_MS = 5.0
GROWTH_MAX = 2.0
BOOKINGS_OF_GOALS = 1_000_000
FEWEST_OF_GOALS = 10_000


def compare_queries(bench: Bench) -> list[Comparison]:
    """One comparison a query."""
    sizes = bench.plan.bookings_asked
    timed: list[Timed] = []
    with bench.progress("queries") as tell:
        for place, size in enumerate(sizes, start=1):
            timed += measure_queries([size], runs=bench.plan.query_runs)
            tell(place, len(sizes))
    queries = {one.query: [other for other in timed if other.query == one.query] for one in timed}
    return [compared(of_query) for of_query in queries.values()]


def compared(timed: Sequence[Timed]) -> Comparison:
    """One query's figures, of the most bookings first: how much slower than among fewer."""
    by_size = {one.bookings: one for one in sorted(timed, key=lambda one: one.bookings, reverse=True)}
    names = {bookings: f"{bookings:,} bookings" for bookings in by_size}
    most = next(iter(by_size))
    goals = {}
    if most >= BOOKINGS_OF_GOALS:
        goals = {names[most]: GOAL_MS}
        if FEWEST_OF_GOALS in names:
            goals[names[FEWEST_OF_GOALS]] = 1 / GROWTH_MAX
    return told_once(
        f"query: {by_size[most].query}, p50",
        "ms",
        {names[bookings]: one.p50_ms for bookings, one in by_size.items()},
        goals=goals,
        figures={names[bookings]: {P99: one.p99_ms} for bookings, one in by_size.items()},
        size=most,
    )
