"""How far each read model's newest generation is."""

from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the newest generation of a projection is.

    `rate` is in events a second, `eta_seconds` to the end of filling; both are null before it began. `state`: building,
    live, retired, cancelled or dropped.
    """

    projection: str
    generation: int
    version: int
    state: str
    phase: str | None
    paused: bool
    error: str | None
    requested_at: datetime
    live_at: datetime | None
    swap_ms: float | None
    is_driven: bool
    events_total: int
    events_done: int
    filling_seconds: float
    rate: float | None
    eta_seconds: float | None


async def read_progress(connection: Connection, name: str | None = None) -> list[Progress]:
    """The newest generation of each projection, or of one."""
    return [_progress(row) for row in await connection.fetch(SQL["read_progress"], name)]


def _progress(row: asyncpg.Record) -> Progress:
    done, seconds = row["events_done"], row["filling_seconds"]
    rate = done / seconds if done and seconds > 0 else None
    left = row["events_total"] - done
    return Progress(**dict(row), rate=rate, eta_seconds=left / rate if rate else None)
