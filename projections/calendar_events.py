"""The read model `calendar_events`: one row per booking, as it is now."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha1
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID

import msgspec
from asyncpg.pgproto import pgproto

from ledger.booking import UNKNOWN_TIME, Booking
from ledger.calcom.envelope import NUMBER_STREAM_PREFIX, booking_stream
from ledger.facts import Person
from ledger.history import NumberLookup
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import BookingStatus, CalendarStatus, StreamId
from projections import booking_statistics, differing
from projections.booking_statistics import Counted, Tally
from projections.differing import Differing
from projections.projection import Chunk, Page, Projection
from projections.texts import storable, storable_json, storable_name

SQL = load_statements(Path(__file__).with_suffix(".sql"))

CLIENT_KEYS = ("barkbookClientId", "clientId", "client_id")
PET_KEYS = ("barkbookPetId", "petId", "pet_id")
SALON_KEYS = ("barkbookSalonId", "salonId", "salon_id")
"""Where the booker's metadata name our users' own records, first one counts."""

ATTENDEE_FIELDS = ("email", "name", "phone", "time_zone", "no_show")
"""The keys of `attendees`, in the order in which we write them."""

DURATION_MINUTES_MAX = 2**31 - 1

WRITTEN_AT_ONCE = 250
"""So many rows are made and sent before the next: what was just made is still in the processor's cache."""

BY_POSITION = attrgetter("position")

_NAMESPACE = NAMESPACE_URL.bytes
_UUID_FIXED_BITS = 0xF000 << 64 | 0xC000 << 48
_UUID_VERSION_5 = 0x5000 << 64 | 0x8000 << 48


async def apply(connection: Connection, page: Page) -> None:
    """Every booking of the page has its row, and the statistics count it as it is now."""
    numbers = [stream_id.removeprefix(NUMBER_STREAM_PREFIX) for stream_id in page.histories.merged]
    await _write(connection, page, page.bookings.values(), gone=[*numbers, *page.gone])


async def compare(connection: Connection, page: Page, gone: Collection[str]) -> list[Differing]:
    """The bookings of the page whose rows are not what it says; those that are `gone` should have none."""
    bookings = page.bookings.values()
    arguments = [_rows(page, bookings)[1], page.ledger.ledger_id, [*(booking.key for booking in bookings), *gone]]
    return await differing.compare(
        connection,
        SQL["read_both"],
        arguments,
        read_model="calendar_events",
        key=["cal_com_event_id"],
        besides=["synced_at"],
    )


async def rewrite(connection: Connection, page: Page, keys: Collection[str]) -> None:
    """The bookings of these keys have their rows anew, or none where the page knows of none."""
    await _write(connection, page, [one for one in page.bookings.values() if one.key in keys], gone=list(keys))


async def _write(connection: Connection, page: Page, bookings: Collection[Booking], *, gone: Sequence[str]) -> None:
    """These bookings have their rows, what went by a `gone` key before has none, and the statistics know it."""
    ledger, tally = page.ledger, Tally()
    keys = {*(booking.key for booking in bookings), *gone}
    if not keys:
        return
    tally.count(await booking_statistics.read_counted(connection, ledger, list(keys)), sign=-1)
    if gone:
        await connection.execute(SQL["delete_bookings"], ledger.ledger_id, gone)
    following = iter(bookings)
    while some := list(islice(following, WRITTEN_AT_ONCE)):
        events, rows = _rows(page, some)
        tally.count(map(_counted, events), sign=1)
        await connection.execute(SQL["upsert_bookings"], rows)
    await booking_statistics.add(connection, ledger, tally)


def _rows(page: Page | Chunk, bookings: Iterable[Booking]) -> tuple[list["CalendarEvent"], list[tuple[Any, ...]]]:
    """The bookings in the words of the read model, and as rows."""
    told = [(calendar_event(one, page.ledger.name, confirm_on_accept=page.confirm_on_accept), one) for one in bookings]
    return [event for event, _ in told], [_row(page.ledger, event, one, page.synced_at) for event, one in told]


async def forget(connection: Connection, ledger: Ledger, keys: Sequence[str]) -> int:
    """These bookings have no rows, and are not counted; how many had."""
    tally = Tally()
    counted = await booking_statistics.read_counted(connection, ledger, keys)
    tally.count(counted, sign=-1)
    await connection.execute(SQL["delete_bookings"], ledger.ledger_id, keys)
    await booking_statistics.add(connection, ledger, tally)
    return len(counted)


async def fill(connection: Connection, chunk: Chunk) -> None:
    """The chunk's bookings have their rows, and are counted."""
    tally = Tally()
    events, rows = _rows(chunk, chunk.bookings)
    tally.count(map(_counted, events), sign=1)
    await connection.copy_records_to_table("calendar_events", records=rows)
    await booking_statistics.fill(connection, chunk.ledger, tally)


async def finish(connection: Connection) -> None:
    """Who was filled before the uid of its successor was known says it now; the statistics are one."""
    await connection.execute(SQL["name_successors"])
    await booking_statistics.unite(connection)


PROJECTION = Projection(
    name="calendar_events",
    version=1,
    apply=apply,
    of="bookings",
    fill=fill,
    finish=finish,
    compare=compare,
    rewrite=rewrite,
)


def number_lookup(connection: Connection, ledger: Ledger) -> NumberLookup:
    """Answers which numbers belong to bookings whose uid is known, from the generation that is live."""
    return partial(_find_streams, connection, ledger, SQL["find_streams_by_number"])


def number_lookup_here(connection: Connection, ledger: Ledger) -> NumberLookup:
    """The same from the generation that the search path names."""
    return partial(_find_streams, connection, ledger, SQL["find_streams_by_number_here"])


def booking_id(ledger_name: str, key: str) -> UUID:
    """The row's id, the same in every rebuild: a UUID of version 5 in the namespace of URLs, as the driver has it."""
    digest = sha1(_NAMESPACE + f"booking-ledger:{ledger_name}/{key}".encode(), usedforsecurity=False).digest()
    fixed = int.from_bytes(digest[:16]) & ~_UUID_FIXED_BITS | _UUID_VERSION_5
    return pgproto.UUID(fixed.to_bytes(16))


async def _find_streams(
    connection: Connection, ledger: Ledger, statement: str, numbers: Sequence[int]
) -> dict[int, StreamId]:
    rows = await connection.fetch(statement, ledger.ledger_id, numbers)
    return {row["booking_number"]: booking_stream(row["cal_com_event_id"]) for row in rows}


class CalendarEvent(msgspec.Struct, frozen=True, gc=False):
    """A booking in the words of `calendar_events`, in the order of the view's first columns.

    It is made by position: to name so many fields takes as long as to find out what is in them. `attendees` are objects
    with email, name, phone, time_zone and no_show.
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


ATTENDEES_COLUMN = CalendarEvent.__struct_fields__.index("attendees")
METADATA_COLUMN = CalendarEvent.__struct_fields__.index("metadata")


def calendar_event(booking: Booking, ledger_name: str, *, confirm_on_accept: bool) -> CalendarEvent:
    """The booking as the read model tells it."""
    key = booking.key
    own_id = booking_id(ledger_name, key)
    root = booking.root_uid or key
    told, people, metadata = booking.details, booking.attendees, booking.metadata
    first = next(iter(people.values()), None) or next(iter(booking.left.values()), None)
    return CalendarEvent(
        own_id,
        key,
        ledger_name,
        _linked(metadata, SALON_KEYS) if metadata else None,
        _linked(metadata, CLIENT_KEYS) if metadata else None,
        _linked(metadata, PET_KEYS) if metadata else None,
        storable(told.title),
        storable(told.description),
        told.start,
        told.end,
        _minutes(told.start, told.end),
        booking.calendar_status(confirm_on_accept=confirm_on_accept),
        booking.booking_status,
        storable(first.email) if first else None,
        storable(first.name) if first else None,
        storable(first.phone) if first else None,
        [_attendee(person, booking.absent) for person in people.values()],
        storable_name(told.host_email),
        storable(told.host_name),
        storable_name(told.event_type),
        storable(told.location),
        storable(told.meeting_url),
        own_id if root == key else booking_id(ledger_name, root),
        root,
        booking.rescheduled_from,
        booking.rescheduled_to,
        booking.paid,
        booking.no_show,
        storable(booking.cancellation_reason),
        storable(booking.cancelled_by),
        storable(booking.rejection_reason),
        storable(booking.recording_url),
        dict(sorted(metadata.items())) if metadata else {},
        list(booking.doubts),
        told.number,
        storable(told.ical_uid),
        booking.started,
        booking.ended,
        booking.marked,
        booking.first_occurred_at,
        booking.last_occurred_at,
    )


def _row(
    ledger: Ledger, event: CalendarEvent, booking: Booking, synced_at: Callable[[int, datetime], datetime]
) -> tuple[Any, ...]:
    """The values of calendar_events, in its order of columns."""
    latest = max(booking.facts, key=BY_POSITION)
    values = list(msgspec.structs.astuple(event))
    values[ATTENDEES_COLUMN], values[METADATA_COLUMN] = _json(event.attendees), _json(event.metadata)
    return (ledger.ledger_id, *values, latest.position, synced_at(latest.position, latest.recorded_at))


def _counted(event: CalendarEvent) -> Counted:
    return Counted(
        event.status,
        event.start_time,
        event.created_at or UNKNOWN_TIME,
        event.duration_minutes,
        event.event_type,
        event.host_email,
    )


def _attendee(person: Person, absent: Mapping[str, bool]) -> dict[str, str | bool | None]:
    return {
        "email": person.email,
        "name": person.name,
        "phone": person.phone,
        "time_zone": person.time_zone,
        "no_show": absent.get(person.email, False),
    }


def _linked(metadata: Mapping[str, str], keys: Sequence[str]) -> str | None:
    for key in keys:
        value = metadata.get(key)
        if value:
            return storable_name(value)
    return None


def _minutes(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None or end < start:
        return None
    return min(int((end - start).total_seconds() // 60), DURATION_MINUTES_MAX)


def _json(value: object) -> str:
    return storable_json(msgspec.json.encode(value).decode())
