"""The read model `calendar_events`: one row per booking, as it is now."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import NUMBER_STREAM_PREFIX, booking_stream
from ledger.history import NumberLookup
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import BookingStatus, CalendarStatus, StreamId
from projections.projection import Page, Projection
from projections.texts import storable, storable_json

SQL = load_statements(Path(__file__).with_suffix(".sql"))

CLIENT_KEYS = ("barkbookClientId", "clientId", "client_id")
PET_KEYS = ("barkbookPetId", "petId", "pet_id")
SALON_KEYS = ("barkbookSalonId", "salonId", "salon_id")
"""Where the booker's metadata name our users' own records, first one counts."""

ATTENDEE_FIELDS = ("email", "name", "phone", "time_zone", "no_show")
"""The keys of `attendees`, in the order in which we write them."""

DURATION_MINUTES_MAX = 2**31 - 1


async def apply(connection: Connection, page: Page) -> None:
    """Every booking of the page has its row."""
    numbers = [stream_id.removeprefix(NUMBER_STREAM_PREFIX) for stream_id in page.histories.merged]
    if numbers:
        await connection.execute(SQL["delete_merged"], page.ledger.ledger_id, numbers)
    rows = [_row(booking, page) for booking in page.histories.bookings.values()]
    if rows:
        await connection.execute(SQL["upsert_bookings"], rows)


PROJECTION = Projection(name="calendar_events", generation=1, apply=apply)


def number_lookup(connection: Connection, ledger: Ledger) -> NumberLookup:
    """Answers which numbers belong to bookings whose uid is known, from this read model."""
    return partial(_find_streams, connection, ledger)


def booking_id(ledger_name: str, key: str) -> UUID:
    """The row's id: the same in every rebuild."""
    return uuid5(NAMESPACE_URL, f"booking-ledger:{ledger_name}/{key}")


async def _find_streams(connection: Connection, ledger: Ledger, numbers: Sequence[int]) -> dict[int, StreamId]:
    rows = await connection.fetch(SQL["find_streams_by_number"], ledger.ledger_id, numbers)
    return {row["booking_number"]: booking_stream(row["cal_com_event_id"]) for row in rows}


class CalendarEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A booking in the words of `calendar_events`, in the order of the view's first columns.

    `attendees` are objects with email, name, phone, time_zone and no_show.
    """

    id: UUID
    cal_com_event_id: str
    ledger: str
    salon_id: str | None
    client_id: str | None
    pet_id: str | None
    title: str | None
    description: str | None
    start_time: datetime | None
    end_time: datetime | None
    duration_minutes: int | None
    status: CalendarStatus
    booking_status: BookingStatus
    attendee_email: str | None
    attendee_name: str | None
    attendee_phone: str | None
    attendees: list[dict[str, str | bool | None]]
    host_email: str | None
    host_name: str | None
    event_type: str | None
    location: str | None
    meeting_url: str | None
    appointment_id: UUID
    root_uid: str
    rescheduled_from: str | None
    rescheduled_to: str | None
    paid: bool
    no_show: bool
    cancellation_reason: str | None
    cancelled_by: str | None
    rejection_reason: str | None
    recording_url: str | None
    metadata: dict[str, str]
    doubts: list[str]
    booking_number: int | None
    ical_uid: str | None
    started: bool
    ended: bool
    marked: bool
    created_at: datetime | None
    updated_at: datetime | None


def calendar_event(booking: Booking, ledger_name: str, *, confirm_on_accept: bool) -> CalendarEvent:
    """The booking as the read model tells it."""
    root = booking.root_uid or booking.key
    first = next(iter(booking.attendees.values()), None) or next(iter(booking.left.values()), None)
    return CalendarEvent(
        id=booking_id(ledger_name, booking.key),
        cal_com_event_id=booking.key,
        ledger=ledger_name,
        salon_id=_linked(booking, SALON_KEYS),
        client_id=_linked(booking, CLIENT_KEYS),
        pet_id=_linked(booking, PET_KEYS),
        title=storable(booking.title),
        description=storable(booking.description),
        start_time=booking.start,
        end_time=booking.end,
        duration_minutes=_minutes(booking.start, booking.end),
        status=booking.calendar_status(confirm_on_accept=confirm_on_accept),
        booking_status=booking.booking_status,
        attendee_email=storable(first.email) if first else None,
        attendee_name=storable(first.name) if first else None,
        attendee_phone=storable(first.phone) if first else None,
        attendees=[_attendee(booking, email) for email in booking.attendees],
        host_email=storable(booking.host_email),
        host_name=storable(booking.host_name),
        event_type=storable(booking.event_type),
        location=storable(booking.location),
        meeting_url=storable(booking.meeting_url),
        appointment_id=booking_id(ledger_name, root),
        root_uid=root,
        rescheduled_from=booking.rescheduled_from,
        rescheduled_to=booking.rescheduled_to,
        paid=booking.paid,
        no_show=booking.no_show,
        cancellation_reason=storable(booking.cancellation_reason),
        cancelled_by=storable(booking.cancelled_by),
        rejection_reason=storable(booking.rejection_reason),
        recording_url=storable(booking.recording_url),
        metadata=dict(sorted(booking.metadata.items())),
        doubts=list(booking.doubts),
        booking_number=booking.number,
        ical_uid=storable(booking.ical_uid),
        started=booking.started,
        ended=booking.ended,
        marked=booking.marked,
        created_at=booking.first_occurred_at,
        updated_at=booking.last_occurred_at,
    )


def _row(booking: Booking, page: Page) -> tuple[Any, ...]:
    """The values of projections.calendar_events_1, in its order of columns."""
    event = calendar_event(booking, page.ledger.name, confirm_on_accept=page.confirm_on_accept)
    written = msgspec.structs.replace(event, attendees=_json(event.attendees), metadata=_json(event.metadata))
    return (page.ledger.ledger_id, *msgspec.structs.astuple(written), booking.last_position, page.synced_at)


def _attendee(booking: Booking, email: str) -> dict[str, str | bool | None]:
    person = booking.attendees[email]
    return {
        "email": email,
        "name": person.name,
        "phone": person.phone,
        "time_zone": person.time_zone,
        "no_show": booking.absent.get(email, False),
    }


def _linked(booking: Booking, keys: Sequence[str]) -> str | None:
    return next((storable(booking.metadata[key]) for key in keys if booking.metadata.get(key)), None)


def _minutes(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None or end < start:
        return None
    return min(int((end - start).total_seconds() // 60), DURATION_MINUTES_MAX)


def _json(value: object) -> str:
    return storable_json(msgspec.json.encode(value).decode())
