"""The read model `booking_statistics`: bookings by day of start, event type and host; the same by month, and in all.

It belongs to the projection `calendar_events`: a booking that changes is taken out where it was counted before, as that
table still has it, and counted where it belongs now.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import CalendarStatus

SQL = load_statements(Path(__file__).with_suffix(".sql"))

STATUSES: tuple[CalendarStatus, ...] = ("scheduled", "confirmed", "completed", "no_show", "cancelled", "rescheduled")
NOT_HELD = ("cancelled", "rescheduled")
NAME_CHARACTERS_MAX = 200
"""Longer names are cut: they are part of the table's key."""

SCHEDULED, CONFIRMED = 1 + STATUSES.index("scheduled"), 1 + STATUSES.index("confirmed")
BOOKINGS, MINUTES, LEAD_MINUTES, LED = 0, 1 + len(STATUSES), 2 + len(STATUSES), 3 + len(STATUSES)
FIGURES = 4 + len(STATUSES)


class Counted(NamedTuple):
    """What the statistics want to know of a booking. `minutes` is its duration."""

    status: str
    start_time: datetime | None
    created_at: datetime
    minutes: int | None
    event_type: str | None
    host_email: str | None


Key = tuple[date, str, str]


class Tally:
    """Figures by day, event type and host; a booking may be counted in, and out again."""

    def __init__(self) -> None:
        self.figures: dict[Key, list[int]] = defaultdict(lambda: [0] * FIGURES)

    def count(self, bookings: Iterable[Counted], *, sign: int) -> None:
        for booking in bookings:
            day = (booking.start_time or booking.created_at).astimezone(UTC).date()
            event_type, host_email = (booking.event_type or ""), (booking.host_email or "")
            figures = self.figures[day, event_type[:NAME_CHARACTERS_MAX], host_email[:NAME_CHARACTERS_MAX]]
            figures[BOOKINGS] += sign
            figures[1 + STATUSES.index(booking.status)] += sign
            if booking.status not in NOT_HELD:
                figures[MINUTES] += sign * (booking.minutes or 0)
            if booking.start_time is not None and booking.start_time >= booking.created_at:
                figures[LEAD_MINUTES] += sign * int((booking.start_time - booking.created_at).total_seconds() // 60)
                figures[LED] += sign

    def rows(self, ledger: Ledger) -> list[tuple[Any, ...]]:
        """The values of `booking_statistics`, in its order of columns, in order of the key; nothing of no change."""
        return [
            (ledger.ledger_id, *key, ledger.name, *figures, figures[SCHEDULED] > 0 or figures[CONFIRMED] > 0)
            for key, figures in sorted(self.figures.items())
            if any(figures)
        ]


async def read_counted(connection: Connection, ledger: Ledger, uids: Sequence[str]) -> list[Counted]:
    """These bookings as they are counted now; those that are not in the table are absent."""
    return [Counted(*row) for row in await connection.fetch(SQL["read_counted"], ledger.ledger_id, uids)]


async def add(connection: Connection, ledger: Ledger, tally: Tally) -> None:
    """The statistics have moved by the tally."""
    rows = tally.rows(ledger)
    if rows:
        await connection.execute(SQL["add_figures"], rows)


async def fill(connection: Connection, ledger: Ledger, tally: Tally) -> None:
    """A new generation has the tally, perhaps beside others of the same key: `unite` comes after the last."""
    await connection.copy_records_to_table("booking_statistics", records=tally.rows(ledger))


async def unite(connection: Connection) -> None:
    """One row for each key, and the months and all are summed."""
    await connection.execute(SQL["unite_rows"])
    await connection.execute(SQL["sum_months"])
    await connection.execute(SQL["sum_all"])
