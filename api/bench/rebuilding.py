"""How fast a read model is built anew from the whole log, from the wish to the swap, at several sizes.

Ours is measured from the facts that are kept beside the log, and from the bodies as when a new decoder has made those
useless. Reading the log, and copying rows that somebody has made already, are limits, not ways to do it.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from api.bench.driving import Driven, Order
from api.bench.memory import Peaks
from api.bench.plan import Bench, available
from api.bench.projecting import LIBRARY, catch_up, library_contender
from api.bench.rounds import Comparison, Contender, Sample, Skipped, in_figure, keeping, led_by
from api.bench.servers import Databases, settle
from ledger.errors import OperatorError
from ledger.postgres import connect
from ledger.sql import load_statements
from ledger.store import read_head, read_ledgers, read_log
from ledger.vocabulary import MAIN_LEDGER_NAME, Position
from projections import facts
from projections.upkeep import Upkeep

SQL = load_statements(Path(__file__).with_suffix(".sql"))

REBUILT = "calendar_events"
FROM_BODIES = "ours, from raw bodies"
FROM_FACTS = "ours, from kept facts"
READING = "limit: reading the log, one process"
COPYING = "limit: COPY of the finished rows from Python"
DRIVER_PEAK = "driver peak MiB"
FILLER_PEAK = "largest filling process peak MiB"
FILLERS = "filling processes"

SIZE_OF_GOALS = 1_000_000
GOALS = {FROM_BODIES: 100_000.0, LIBRARY: 40.0}
GOALS_FACTS = {FROM_FACTS: 400_000.0}
READ_AT_ONCE = 4_000
STATEMENT_SECONDS_MAX = 3_600.0


def compare_rebuilds(bench: Bench) -> list[Comparison]:
    """One comparison a size; the goals are those of a million events."""
    compared = []
    for events in bench.plan.sizes:
        log = bench.log(events)
        catch_up(log.ours)
        contenders, skipped = available(_contenders(log, events))
        told = bench.compare(
            f"rebuild, {events:,} events",
            "events/s",
            contenders,
            rounds=bench.plan.rounds_heavy,
            goals=GOALS if events >= SIZE_OF_GOALS else {},
            skipped=skipped,
            size=events,
            curve="rebuild",
        )
        compared.append(told)
    largest = compared[-1]
    return [
        *(keeping(told, FILLERS) for told in compared),
        led_by(
            largest,
            FROM_FACTS,
            (LIBRARY, READING),
            title=f"{largest.title}, from kept facts",
            goals=GOALS_FACTS if largest.size and largest.size >= SIZE_OF_GOALS else {},
        ),
        in_figure(largest, FILLER_PEAK, title=f"{largest.title}, peak memory of a filling process", unit="MiB"),
        in_figure(largest, DRIVER_PEAK, title=f"{largest.title}, peak memory of the driver", unit="MiB"),
    ]


def _contenders(log: Databases, events: int) -> Iterator[Contender | Skipped]:
    def ours(name: str, *, from_facts: bool) -> Contender:
        return Contender(
            name=name, run=lambda: _rebuild(log.ours), prepare=lambda: _prepare(log.ours, from_facts=from_facts)
        )

    yield ours(FROM_BODIES, from_facts=False)
    yield ours(FROM_FACTS, from_facts=True)
    yield library_contender(log, events)
    yield Contender(name=READING, run=lambda: uvloop.run(read_whole_log(log.ours)), prepare=lambda: settle(log.ours))
    yield Contender(name=COPYING, run=lambda: uvloop.run(_copy(log.ours)), prepare=lambda: settle(log.ours))


def _prepare(dsn: str, *, from_facts: bool) -> None:
    """A rebuild will find the facts or not; generations that were replaced are gone."""

    async def run() -> None:
        connection = await connect(dsn)
        try:
            await connection.execute(SQL["believe_facts"] if from_facts else SQL["disbelieve_facts"])
            ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
            head = await read_head(connection, ledger.ledger_id)
            if await facts.are_known(connection, ledger, up_to=head.position) is not from_facts:
                raise OperatorError(f"The rebuild would {'not ' if from_facts else ''}use the kept facts.")
        finally:
            await connection.close()
        await Upkeep(dsn, confirm_on_accept=False).look()

    asyncio.run(run())
    settle(dsn)


def _rebuild(dsn: str) -> Sample:
    process = subprocess.Popen(
        [sys.executable, "-m", "api.bench.driving"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with Peaks(process.pid).watched() as peaks:
        told, _ = process.communicate(msgspec.json.encode(Order(dsn=dsn, projection=REBUILT)))
    if process.returncode:
        raise OperatorError(f"The rebuild ended with {process.returncode}.")
    driven = msgspec.json.decode(told, type=Driven)
    events = asyncio.run(_count(dsn))
    return Sample(
        value=events / driven.seconds,
        figures={
            FILLER_PEAK: max(peaks.children_mib, default=0.0),
            FILLERS: float(len(peaks.children_mib)),
            DRIVER_PEAK: peaks.own_mib,
        },
    )


async def _count(dsn: str) -> int:
    connection = await connect(dsn)
    try:
        (row,) = await connection.fetch(SQL["count_events"])
        if not row["shown"]:
            raise OperatorError("The rebuild left nothing to be seen.")
        events: int = row["events"]
        return events
    finally:
        await connection.close()


async def read_whole_log(dsn: str) -> Sample:
    """Events a second, read page by page as the runner reads them, and nothing done with them."""
    connection = await connect(dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
        position = 0
        begun = time.perf_counter()
        while events := await read_log(connection, ledger.ledger_id, after=Position(position), events_max=READ_AT_ONCE):
            position = events[-1].position
        return Sample(value=position / (time.perf_counter() - begun))
    finally:
        await connection.close()


async def _copy(dsn: str) -> Sample:
    """Events a second that the rows stand for; reading the rows is not counted."""
    connection = await connect(dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        events = await connection.fetchval(SQL["count_positions"])
        rows = [tuple(row) for row in await connection.fetch(SQL["read_rows"])]
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(SQL["create_copy"])
        begun = time.perf_counter()
        await connection.copy_records_to_table("finished_rows", records=rows)
        seconds = time.perf_counter() - begun
        await transaction.rollback()
        return Sample(value=events / seconds)
    finally:
        await connection.close()
