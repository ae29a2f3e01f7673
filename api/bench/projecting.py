"""How fast read models catch up with a log, page by page, as a worker does that was away.

Ours folds whole histories and keeps `calendar_events` alone, as the others keep one read model; beside it, all of ours.
The others apply each event by itself, the last one wins, to a narrower table, and remember how far they came in the
same transaction.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import uvloop

from api.bench.peers import each_event
from api.bench.plan import Bench, available
from api.bench.rounds import Comparison, Contender, Sample, Skipped
from api.bench.servers import Databases, settle
from ledger.errors import OperatorError
from ledger.postgres import connect, open_pool
from ledger.sql import load_statements
from projections.catalogue import BY_NAME, CATALOGUE
from projections.projection import Projection
from projections.runner import Runner

SQL = load_statements(Path(__file__).with_suffix(".sql"))

ALONE = "calendar_events"
OURS_ALONE = "ours, calendar_events alone"
OURS_ALL = "ours, all read models"
LIBRARY = "eventsourcing ProjectionRunner"
LIBRARY_EVENTS_SHARE = 20
LIBRARY_EVENTS_MIN = 200
GOALS = {OURS_ALONE: 40_000.0, LIBRARY: 15.0}
POOL_CONNECTIONS = 5


def compare_projections(bench: Bench) -> list[Comparison]:
    """On the longest log of the plan."""
    events = max(bench.plan.sizes)
    contenders, skipped = available(_contenders(bench.log(events), events))
    return [
        bench.compare(
            "live projection, catching up",
            "events/s",
            contenders,
            rounds=bench.plan.rounds_heavy,
            goals=GOALS,
            skipped=skipped,
            size=events,
        )
    ]


def _contenders(log: Databases, events: int) -> Iterator[Contender | Skipped]:
    def ours(name: str, catalogue: Sequence[Projection]) -> Contender:
        return Contender(
            name=name, run=lambda: uvloop.run(_catch_up(log.ours, catalogue)), prepare=lambda: forget_all(log.ours)
        )

    yield ours(OURS_ALONE, [BY_NAME[ALONE]])
    yield ours(OURS_ALL, CATALOGUE)
    yield library_contender(log, events)
    yield each_event.contender(log, events)


def library_contender(log: Databases, events: int) -> Contender | Skipped:
    """On one event of ours in twenty."""
    if find_spec("psycopg") is None:
        return Skipped(name=LIBRARY, why="needs the extra booking-ledger[bench]")
    from api.bench.peers import library_projection

    wanted = max(LIBRARY_EVENTS_MIN, events // LIBRARY_EVENTS_SHARE)
    return Contender(
        name=LIBRARY,
        run=lambda: library_projection.project(log.peers, wanted),
        prepare=lambda: library_projection.prepare(log.peers, wanted),
    )


async def _catch_up(dsn: str, catalogue: Sequence[Projection]) -> Sample:
    async with await open_pool(dsn, connections_max=POOL_CONNECTIONS) as pool:
        async with pool.acquire() as connection:
            events = await connection.fetchval(SQL["count_events"])
        begun = time.perf_counter()
        await Runner(pool, dsn, catalogue=catalogue).catch_up()
        seconds = time.perf_counter() - begun
        async with pool.acquire() as connection:
            parked = await connection.fetchval(SQL["count_parked"])
    if parked:
        raise OperatorError(f"{parked:,} events could not be projected: it was not the work that was timed.")
    return Sample(value=events / seconds)


def catch_up(dsn: str) -> None:
    """The read models know of all there is, and nothing is left to be written to disk."""
    uvloop.run(_catch_up(dsn, CATALOGUE))
    settle(dsn)


def forget_all(dsn: str) -> None:
    """The live read models are empty, and stand before the first event."""
    asyncio.run(_forget_all(dsn))
    settle(dsn)


async def _forget_all(dsn: str) -> None:
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(SQL["empty_live"])
            await connection.execute(SQL["forget_checkpoints"])
            await connection.execute(SQL["forget_visible"])
    finally:
        await connection.close()
