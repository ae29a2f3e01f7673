"""How long each query takes at ten thousand, a hundred thousand and a million bookings.

Every query is asked through the functions that the routes call, over one connection, each time about another client,
host or moment.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import median

import msgspec

from api.bench.made_up import fill
from api.bench.questions import QUESTIONS, Asking, Question
from api.bench.servers import throwaway_postgres
from api.garbage import settle_garbage
from ledger.migrate import migrate
from ledger.postgres import connect
from ledger.store import read_ledgers

SIZES = (10_000, 100_000, 1_000_000)
RUNS_DEFAULT = 200
WARM_RUNS = 8
"""PostgreSQL keeps a plan for any values after five."""
QUERY_SECONDS_MAX = 20.0
STATEMENT_SECONDS_MAX = 600.0


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """How long a query took at one size, over so many runs."""

    query: str
    bookings: int
    runs: int
    p50_ms: float
    p99_ms: float


def measure_queries(
    sizes: Sequence[int] = SIZES, *, runs: int = RUNS_DEFAULT, progress: Callable[[str], None] = lambda _told: None
) -> list[Timed]:
    """Every query at every size, each size in an embedded server of its own that is gone afterwards."""
    timed = []
    for bookings in sizes:
        progress(f"{bookings:,} bookings")
        with throwaway_postgres() as dsn:
            timed += asyncio.run(_measure_size(dsn, bookings, runs, progress))
    return timed


async def _measure_size(dsn: str, bookings: int, runs: int, progress: Callable[[str], None]) -> list[Timed]:
    connection = await connect(dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        await migrate(connection)
        await fill(connection, bookings)
        asking = Asking(
            connection=connection,
            ledger=(await read_ledgers(connection))["main"],
            bookings=bookings,
            rng=Random(1),  # noqa: S311  # made-up traffic, no secret
        )
        settle_garbage()
        timed = []
        for name, question in QUESTIONS.items():
            progress(f"{bookings:,} bookings: {name}")
            timed.append(await _time(name, question, asking, runs))
        return timed
    finally:
        gc.unfreeze()
        await connection.close()


async def _time(name: str, question: Question, asking: Asking, runs: int) -> Timed:
    """One query, again and again; fewer times where that would take too long."""
    took: list[float] = []
    until = time.perf_counter() + QUERY_SECONDS_MAX
    for run in range(WARM_RUNS + runs):
        begun = time.perf_counter()
        await question(asking)
        ended = time.perf_counter()
        if run >= WARM_RUNS:
            took.append((ended - begun) * 1000)
        if took and ended > until:
            break
    return Timed(
        query=name,
        bookings=asking.bookings,
        runs=len(took),
        p50_ms=median(took),
        p99_ms=sorted(took)[len(took) * 99 // 100],
    )
