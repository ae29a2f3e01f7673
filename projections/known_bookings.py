"""What reconciliation asks of the read model: which bookings are in doubt, and which Cal.com would have to show.

The read model may be behind: what comes of it is looked at again in the log.
"""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec

from ledger.history import NumberLookup
from ledger.postgres import Connection
from ledger.questions import Doubted
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.sweeping import Expected
from projections.calendar_events import number_lookup

SQL = load_statements(Path(__file__).with_suffix(".sql"))


def look_up(connection: Connection, ledger: Ledger) -> NumberLookup:
    """Which numbers belong to which bookings."""
    return number_lookup(connection, ledger)


async def read_doubted(connection: Connection, ledger: Ledger, *, rows_max: int) -> list[Doubted]:
    """Bookings in doubt, the latest heard of first."""
    rows = await connection.fetch(SQL["read_doubted"], ledger.ledger_id, rows_max)
    return [Doubted(uid=row["cal_com_event_id"], since=row["updated_at"]) for row in rows]


async def read_unlisted(
    connection: Connection,
    ledger: Ledger,
    listed: Collection[str],
    *,
    ends_after: datetime | None,
    heard_before: datetime,
) -> list[Expected]:
    """Bookings that are neither over nor `listed`, and of which we last heard before `heard_before`.

    `ends_after`: only those that are still to come then.
    """
    rows = await connection.fetch(SQL["read_unlisted"], ledger.ledger_id, list(listed), ends_after, heard_before)
    return [
        Expected(uid=row["cal_com_event_id"], status=row["booking_status"], heard_at=row["updated_at"]) for row in rows
    ]


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that is over; `is_number`: it goes by its number, no uid is known."""

    uid: str
    is_number: bool


async def read_over(
    connection: Connection, ledger: Ledger, *, before: datetime, after: str, rows_max: int
) -> list[Over]:
    """Bookings that were over, and last heard of, before a moment, in order of name, after this one."""
    rows = await connection.fetch(SQL["read_over"], ledger.ledger_id, before, after, rows_max)
    return [Over(uid=row["cal_com_event_id"], is_number=row["is_number"]) for row in rows]
