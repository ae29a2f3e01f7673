"""Who comes when: how many on a day, and the visits of one client or one pet."""

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections.booking_statistics import NOT_HELD, STATUSES
from projections.days import Day
from projections.lists import Cursor, Filter, Listed, calendar_event_of, cursor_of, fetch_planned

SQL = load_statements(Path(__file__).with_suffix(".sql"))

APPOINTMENTS: Final[list[str]] = [status for status in STATUSES if status not in NOT_HELD]
"""The status words of what somebody has come to, should have come to, or will."""


class Visits(msgspec.Struct, frozen=True, kw_only=True):
    """Whose visits, one of both, and which; None: not narrowed."""

    client: str | None = None
    pet: str | None = None
    statuses: list[str] | None = None
    starts_from: datetime | None = None
    starts_before: datetime | None = None


async def count_by_status(connection: Connection, ledger: Ledger, day: Day, narrowed: Filter) -> dict[str, int]:
    """How many bookings of each status start on the day, for every status word; by host, salon and client."""
    rows = await connection.fetch(
        SQL["count_by_status"],
        ledger.ledger_id,
        day.begins,
        day.ends,
        narrowed.host,
        narrowed.salon,
        narrowed.client,
    )
    return dict.fromkeys(STATUSES, 0) | {row["status"]: row["bookings"] for row in rows}


async def list_visits(
    connection: Connection, ledger: Ledger, visits: Visits, *, after: Cursor | None, rows_max: int
) -> Listed:
    """The visits, the latest start first; those whose start nobody has told yet come before."""
    rows = await fetch_planned(
        connection,
        SQL["list_visits"],
        ledger.ledger_id,
        visits.client,
        visits.pet,
        visits.statuses,
        visits.starts_from,
        visits.starts_before,
        after and after.start_time,
        after and after.uid,
        rows_max + 1,
    )
    bookings = [calendar_event_of(row) for row in rows[:rows_max]]
    return Listed(bookings=bookings, following=cursor_of(bookings[-1]) if len(rows) > rows_max else None)
