"""Turns of scheduled jobs, remembered in the database: whoever takes over neither repeats nor skips one."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger

SQL = load_statements(Path(__file__).with_suffix(".sql"))


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A job's last turn; `finished_at` null: it runs, or was cut off. `error`: why it failed."""

    job: str
    started_at: datetime
    finished_at: datetime | None
    error: str | None


async def read_waits(connection: Connection, ledger: Ledger, intervals: Mapping[str, float]) -> dict[str, float]:
    """How many seconds until each job's next turn, by its interval in seconds; 0 or less: it is due."""
    rows = await connection.fetch(SQL["read_waits"], ledger.ledger_id, list(intervals), list(intervals.values()))
    return {row["job"]: row["wait_seconds"] for row in rows}


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that is ours. `cut_off_at`: when the one before it began, if whoever had it did not get to its end."""

    cut_off_at: datetime | None = None


async def take_turn(
    connection: Connection, ledger: Ledger, job: str, *, seconds_between: float, takes_up: bool
) -> Taken | None:
    """None where it is not ours to run now. `takes_up`: also a turn that was cut off."""
    row = await connection.fetchrow(SQL["take_turn"], ledger.ledger_id, job, seconds_between, takes_up)
    return None if row is None else Taken(cut_off_at=row["cut_off_at"])


async def end_turn(connection: Connection, ledger: Ledger, job: str, *, error: str | None) -> None:
    await connection.execute(SQL["end_turn"], ledger.ledger_id, job, error)


async def list_turns(connection: Connection, ledger: Ledger) -> list[Turn]:
    """The last turn of every job that ever had one, by name."""
    return [Turn(**dict(row)) for row in await connection.fetch(SQL["list_turns"], ledger.ledger_id)]
