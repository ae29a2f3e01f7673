"""The read model `sync_lag`: by minute of recording, how long deliveries took to the log and on to the tables.

Lags are counted by bucket, so that a minute can be added to page by page and a percentile still be read from it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import log
from pathlib import Path
from typing import Any

import asyncpg

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent
from projections.projection import Chunk, Page, Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

BUCKET_RATIO = 1.02
MILLISECONDS_MIN = 0.01
"""Shorter lags count as this."""

_PER_BUCKET = 1 / log(BUCKET_RATIO)
_MILLISECOND = timedelta(milliseconds=1)


class Minute:
    """The lags of the deliveries recorded in one minute, in milliseconds, counted by bucket."""

    def __init__(self) -> None:
        self.recording: Counter[int] = Counter()
        self.projecting: Counter[int] = Counter()
        self.recording_ms_max = 0.0
        self.projecting_ms_max = 0.0
        self.deliveries = 0

    def count(self, recording_ms: float, projecting_ms: float) -> None:
        self.deliveries += 1
        self.recording[bucket_of(recording_ms)] += 1
        self.projecting[bucket_of(projecting_ms)] += 1
        self.recording_ms_max = max(self.recording_ms_max, recording_ms)
        self.projecting_ms_max = max(self.projecting_ms_max, projecting_ms)

    def add(self, row: asyncpg.Record) -> None:
        """What a row of the table holds is in here too."""
        self.deliveries += row["deliveries"]
        self.recording.update(dict(zip(row["recording_buckets"], row["recording_counts"], strict=True)))
        self.projecting.update(dict(zip(row["projecting_buckets"], row["projecting_counts"], strict=True)))
        self.recording_ms_max = max(self.recording_ms_max, row["recording_ms_max"])
        self.projecting_ms_max = max(self.projecting_ms_max, row["projecting_ms_max"])


async def apply(connection: Connection, page: Page) -> None:
    """The minutes of the page have its deliveries too."""
    counted = _count(page.events, page.synced_at)
    if counted:
        for row in await connection.fetch(SQL["read_minutes"], page.ledger.ledger_id, list(counted)):
            counted[row["minute"]].add(row)
        await connection.execute(SQL["upsert_minutes"], _rows(page.ledger, counted))


async def fill(connection: Connection, chunk: Chunk) -> None:
    """The minutes of the chunk have its deliveries; a minute that another chunk shares has one row of each."""
    counted = _count(chunk.events, chunk.synced_at)
    await connection.copy_records_to_table("sync_lag", records=_rows(chunk.ledger, counted))


async def finish(connection: Connection) -> None:
    """A minute that chunks shared has one row."""
    shared: dict[tuple[int, str, datetime], Minute] = defaultdict(Minute)
    for row in await connection.fetch(SQL["take_shared_minutes"]):
        shared[row["ledger_id"], row["ledger"], row["minute"]].add(row)
    rows = [_row(ledger_id, name, at, minute) for (ledger_id, name, at), minute in shared.items()]
    await connection.copy_records_to_table("sync_lag", records=rows)


PROJECTION = Projection(name="sync_lag", version=1, apply=apply, of="events", fill=fill, finish=finish, follows=True)


def bucket_of(milliseconds: float) -> int:
    """The bucket in which a lag is counted."""
    return round(log(max(milliseconds, MILLISECONDS_MIN)) * _PER_BUCKET)


def _count(events: Iterable[RecordedEvent], synced_at: Callable[[int, datetime], datetime]) -> dict[datetime, Minute]:
    """Deliveries by minute."""
    counted: dict[datetime, Minute] = defaultdict(Minute)
    for event in events:
        if event.source != "webhook":
            continue
        recorded_at = event.recorded_at
        counted[recorded_at.replace(second=0, microsecond=0)].count(
            max((recorded_at - event.occurred_at) / _MILLISECOND, 0.0),
            max((synced_at(event.position, recorded_at) - recorded_at) / _MILLISECOND, 0.0),
        )
    return counted


def _rows(ledger: Ledger, counted: dict[datetime, Minute]) -> Sequence[tuple[Any, ...]]:
    return [_row(ledger.ledger_id, ledger.name, at, minute) for at, minute in counted.items()]


def _row(ledger_id: int, ledger_name: str, at: datetime, minute: Minute) -> tuple[Any, ...]:
    """The values of sync_lag, in its order of columns; buckets in order, so that equal counts are equal rows."""
    recording, projecting = sorted(minute.recording.items()), sorted(minute.projecting.items())
    return (
        ledger_id,
        at,
        ledger_name,
        minute.deliveries,
        [bucket for bucket, _ in recording],
        [count for _, count in recording],
        minute.recording_ms_max,
        [bucket for bucket, _ in projecting],
        [count for _, count in projecting],
        minute.projecting_ms_max,
    )
