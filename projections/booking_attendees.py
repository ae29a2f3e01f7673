"""The read model `booking_attendees`: one row per attendee of a booking, those who left a seat included."""

from pathlib import Path
from typing import Any

from ledger.booking import Booking
from ledger.calcom.envelope import NUMBER_STREAM_PREFIX
from ledger.facts import Person
from ledger.postgres import Connection
from ledger.sql import load_statements
from projections.projection import Page, Projection
from projections.texts import storable

SQL = load_statements(Path(__file__).with_suffix(".sql"))


UID_COLUMN, EMAIL_COLUMN = 1, 2


async def apply(connection: Connection, page: Page) -> None:
    """Every booking of the page has exactly its attendees."""
    bookings = page.histories.bookings.values()
    merged = [stream_id.removeprefix(NUMBER_STREAM_PREFIX) for stream_id in page.histories.merged]
    rows = [row for booking in bookings for row in _rows(booking, page)]
    keys = [booking.key for booking in bookings] + merged
    if not keys:
        return
    await connection.execute(
        SQL["delete_others"],
        page.ledger.ledger_id,
        keys,
        [row[UID_COLUMN] for row in rows],
        [row[EMAIL_COLUMN] for row in rows],
    )
    if rows:
        await connection.execute(SQL["upsert_attendees"], rows)


PROJECTION = Projection(name="booking_attendees", generation=1, apply=apply)


def _rows(booking: Booking, page: Page) -> list[tuple[Any, ...]]:
    """One row an address, those who come before those who left; addresses may be alike only once stored."""
    gone = [_row(booking, person, page, removed=True) for person in booking.left.values()]
    coming = [_row(booking, person, page, removed=False) for person in booking.attendees.values()]
    return list({row[EMAIL_COLUMN]: row for row in [*gone, *coming]}.values())


def _row(booking: Booking, person: Person, page: Page, *, removed: bool) -> tuple[Any, ...]:
    """The values of projections.booking_attendees_1, in its order of columns."""
    return (
        page.ledger.ledger_id,
        booking.key,
        storable(person.email),
        page.ledger.name,
        storable(person.name),
        storable(person.phone),
        storable(person.time_zone),
        booking.absent.get(person.email, False),
        removed,
    )
