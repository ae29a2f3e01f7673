"""Bookings by the million, made up by the database itself, put where a rebuild would put them."""

from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path

from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BOOKINGS_A_DAY = 400
DAYS_AHEAD = 21
HOSTS, SALONS, EVENT_TYPES = 12, 20, 8
RARE_EVENT_TYPE = "type-rare"
UID_CHARACTERS = 22
BOOKINGS_A_CLIENT, BOOKINGS_A_PET = 10, 8
"""As the statement `fill_bookings` has them."""

GENERATION = 2
PROJECTIONS = ("calendar_events", "booking_attendees", "webhook_logs")
SELDOM_TRIGGER = "BOOKING_REASSIGNED"


async def fill(connection: Connection, bookings: int, *, now: datetime = NOW) -> None:
    """A migrated database shows so many bookings, indexed and analysed, and its log holds one delivery of each.

    They stand in a generation of their own, which nobody keeps current.
    """
    for projection in PROJECTIONS:
        await connection.execute(SQL["create_tables"], projection, GENERATION)
        await connection.execute(SQL["show_tables"], projection, GENERATION)
    await connection.execute(SQL["fill_bookings"], bookings, now, BOOKINGS_A_DAY)
    await connection.execute(SQL["fill_attendees"])
    await connection.execute(SQL["fill_statistics"])
    await connection.execute(SQL["fill_statistics_by_month"])
    await connection.execute(SQL["fill_statistics_in_all"])
    await connection.execute(SQL["fill_log"], now)
    await connection.execute(SQL["fill_deliveries"], bookings)
    await connection.execute(SQL["move_head"], now)
    for projection in PROJECTIONS:
        await connection.execute(SQL["add_indexes"], projection, GENERATION)
        await connection.execute(SQL["analyze_tables"], projection, GENERATION)
    await connection.execute(SQL["analyze_log"])


def uid_of(number: int) -> str:
    """The uid of the booking of this number, as the statement `fill_bookings` makes it."""
    return md5(f"uid{number}".encode(), usedforsecurity=False).hexdigest()[:UID_CHARACTERS]


def host_of(number: int) -> str:
    """The host of every booking whose number leaves this rest when it is divided by `HOSTS`."""
    return f"host-{number}@studio.example.com"
