"""The read model `booking_attendees`: one row per attendee of a booking, those who left a seat included."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ledger.booking import Booking
from ledger.calcom.envelope import NUMBER_STREAM_PREFIX
from ledger.facts import Person
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections import differing
from projections.differing import Differing
from projections.projection import Chunk, Page, Projection
from projections.texts import storable

SQL = load_statements(Path(__file__).with_suffix(".sql"))


UID_COLUMN, EMAIL_COLUMN = 1, 2


async def apply(connection: Connection, page: Page) -> None:
    """Every booking of the page has exactly its attendees."""
    merged = [stream_id.removeprefix(NUMBER_STREAM_PREFIX) for stream_id in page.histories.merged]
    await _write(connection, page, [*(booking.key for booking in page.bookings.values()), *merged, *page.gone])


async def compare(connection: Connection, page: Page, gone: Collection[str]) -> list[Differing]:
    """The attendees of the page's bookings whose rows are not what it says; bookings that are `gone` have none."""
    bookings = page.bookings.values()
    rows = [row for booking in bookings for row in _rows(booking, page.ledger)]
    arguments = [rows, page.ledger.ledger_id, [*(booking.key for booking in bookings), *gone]]
    return await differing.compare(
        connection, SQL["read_both"], arguments, read_model="booking_attendees", key=["uid", "email"]
    )


async def rewrite(connection: Connection, page: Page, keys: Collection[str]) -> None:
    """The bookings of these keys have exactly their attendees."""
    await _write(connection, page, list(keys))


async def _write(connection: Connection, page: Page, keys: Collection[str]) -> None:
    named = {*keys}
    rows = [row for booking in page.bookings.values() if booking.key in named for row in _rows(booking, page.ledger)]
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


async def fill(connection: Connection, chunk: Chunk) -> None:
    """The chunk's bookings have their attendees."""
    rows = [row for booking in chunk.bookings for row in _rows(booking, chunk.ledger)]
    await connection.copy_records_to_table("booking_attendees", records=rows)


async def forget(connection: Connection, ledger: Ledger, keys: Sequence[str]) -> None:
    """These bookings have no attendees."""
    await connection.execute(SQL["delete_others"], ledger.ledger_id, keys, [], [])


PROJECTION = Projection(
    name="booking_attendees",
    version=1,
    apply=apply,
    of="bookings",
    fill=fill,
    compare=compare,
    rewrite=rewrite,
    follows=True,
)


def _rows(booking: Booking, ledger: Ledger) -> list[tuple[Any, ...]]:
    """One row an address, those who come before those who left; addresses may be alike only once stored."""
    gone = [_row(booking, person, ledger, removed=True) for person in booking.left.values()]
    coming = [_row(booking, person, ledger, removed=False) for person in booking.attendees.values()]
    return list({row[EMAIL_COLUMN]: row for row in [*gone, *coming]}.values())


def _row(booking: Booking, person: Person, ledger: Ledger, *, removed: bool) -> tuple[Any, ...]:
    """The values of booking_attendees, in its order of columns."""
    return (
        ledger.ledger_id,
        booking.key,
        storable(person.email),
        ledger.name,
        storable(person.name),
        storable(person.phone),
        storable(person.time_zone),
        booking.absent.get(person.email, False),
        removed,
    )
