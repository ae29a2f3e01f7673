"""How current the read models are, as people ask it: how far behind, how fast visible."""

from pathlib import Path

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger

SQL = load_statements(Path(__file__).with_suffix(".sql"))


class Visibility(msgspec.Struct, frozen=True, kw_only=True):
    """How much a ledger holds, and how long after recording its bookings became visible."""

    events: int
    bookings: int
    lag_events: int
    median_ms: float
    p95_ms: float


async def read_lag_events(connection: Connection) -> int:
    """How many events the furthest read model of any ledger is behind."""
    lag: int = await connection.fetchval(SQL["read_lag_events"])
    return lag


async def read_visibility(connection: Connection, ledger: Ledger) -> Visibility:
    (row,) = await connection.fetch(SQL["read_visibility"], ledger.ledger_id)
    return Visibility(**dict(row))


async def pick_story(connection: Connection, ledger: Ledger) -> str | None:
    """The booking with the most to tell, for those who want to see a history; None where none was rescheduled."""
    uid: str | None = await connection.fetchval(SQL["pick_story"], ledger.ledger_id)
    return uid
