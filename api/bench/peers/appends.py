"""Appending without us: one INSERT a transaction, in no order that a reader could trust, and in order by a lock."""

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from api.bench.callers import Ask, ask_for
from api.bench.rounds import Sample
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNORDERED = "asyncpg, one INSERT a transaction, no order"
LOCKED = "asyncpg, an advisory lock a transaction"
COPIED = "limit: COPY of rows by one connection"
COLUMNS = ("stream_id", "stream_version", "event_id", "topic", "state", "occurred_at")
COPIED_AT_ONCE = 1_000
TOPIC = "calcom.booking_created"

Row = tuple[str, int, UUID, str, bytes, datetime]


def rows_of(bodies: Sequence[bytes], count: int) -> list[Row]:
    """Rows of unordered_events, each of its own stream."""
    now = datetime.now(UTC)
    given = itertools.islice(itertools.cycle(bodies), count)
    return [(f"booking-{uuid4().hex}", 1, uuid4(), TOPIC, body, now) for body in given]


async def append_unordered(dsn: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> Sample:
    return await _append(dsn, SQL["insert_unordered"], bodies, callers=callers, seconds=seconds)


async def append_locked(dsn: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> Sample:
    """One round trip an event, lock included."""
    return await _append(dsn, SQL["append_locked"], bodies, callers=callers, seconds=seconds)


async def copy_rows(dsn: str, rows: Sequence[Row]) -> Sample:
    """Rows a second, of one connection that nobody waits for."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SQL["empty_unordered"])
        begun = time.perf_counter()
        for at in range(0, len(rows), COPIED_AT_ONCE):
            await connection.copy_records_to_table(
                "unordered_events", columns=COLUMNS, records=rows[at : at + COPIED_AT_ONCE]
            )
        return Sample(value=len(rows) / (time.perf_counter() - begun))
    finally:
        await connection.close()


async def _append(dsn: str, statement: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> Sample:
    given = itertools.cycle(bodies)
    now = datetime.now(UTC)

    def caller(connection: asyncpg.Connection) -> Ask:
        async def append() -> None:
            event_id = uuid4()
            await connection.execute(statement, f"booking-{event_id.hex}", event_id, TOPIC, next(given), now)

        return append

    connections = [await asyncpg.connect(dsn) for _ in range(callers)]
    try:
        return await ask_for(seconds, [caller(connection) for connection in connections])
    finally:
        for connection in connections:
            await connection.close()
