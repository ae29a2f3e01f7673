"""Lists of bookings as they were recorded at an earlier moment.

The past is put together of two parts: bookings that nothing has touched since are as they are now; the others are
folded again from the log up to that moment. So a list of last week costs what has changed since, not the whole log.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX, booking_stream, number_stream
from ledger.errors import BadParameter
from ledger.history import load_histories
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, read_number_streams, read_position_as_of
from ledger.vocabulary import Position, StreamId
from projections.calendar_events import CalendarEvent, calendar_event, number_lookup
from projections.lists import NUMBER_MAX, Cursor, Filter, Listed, cursor_of, list_page
from projections.texts import REPLACEMENT

SQL = load_statements(Path(__file__).with_suffix(".sql"))

_NUMBER_STREAM = re.compile(re.escape(NUMBER_STREAM_PREFIX) + "([0-9]{1,19})")

EVENTS_SINCE_MAX = 200_000
"""How far back, in events, a list of the past may lie: what they touched is folded again for every page."""
NUMBER_STREAMS_MAX = 1_000
"""Streams of numbers are read all, if they are no more than this; else each booking's number is looked for."""


class _Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The bookings that may have been something else then: as they are named now, and where their events lie."""

    uids: list[str]
    streams: set[StreamId]


async def list_page_as_of(
    connection: Connection,
    ledger: Ledger,
    narrowed: Filter,
    *,
    as_of: datetime,
    after: Cursor | None,
    rows_max: int,
    confirm_on_accept: bool,
) -> Listed:
    """The page that `list_page` would have answered at `as_of`.

    Raises BadParameter where more than `EVENTS_SINCE_MAX` events have been recorded since.
    """
    position = await read_position_as_of(connection, ledger.ledger_id, as_of)
    changed = await _find_changed(connection, ledger, position)
    then = await _folded(connection, ledger, changed, position, confirm_on_accept=confirm_on_accept)
    folded = [*changed.uids, *(event.cal_com_event_id for event in then)]
    known = await list_page(connection, ledger, narrowed, after=after, rows_max=rows_max, leave_out=folded)
    roots = {event.root_uid for event in then if event.cal_com_event_id == narrowed.name}
    fitting = [
        event
        for event in then
        if (matches(event, narrowed) or (event.root_uid in roots and matches(event, _without_name(narrowed))))
        and (after is None or _place(event) > _after(after))
        and (known.following is None or _place(event) <= _after(known.following))
    ]
    bookings = sorted([*known.bookings, *fitting], key=_place)
    if len(bookings) > rows_max:
        return Listed(bookings=bookings[:rows_max], following=cursor_of(bookings[rows_max - 1]))
    return Listed(bookings=bookings, following=known.following)


async def _find_changed(connection: Connection, ledger: Ledger, position: Position) -> _Changed:
    """What events after the position have touched, and the others of the same chains. Raises BadParameter."""
    streams: list[StreamId] | None = await connection.fetchval(
        SQL["find_streams_since"], ledger.ledger_id, position, EVENTS_SINCE_MAX
    )
    if streams is None:
        raise BadParameter("as_of", f"lies more than {EVENTS_SINCE_MAX:,} events back; ask for single bookings")
    by_number = [_NUMBER_STREAM.fullmatch(stream_id) for stream_id in streams]
    numbers = [number for found in by_number if found and (number := int(found[1])) <= NUMBER_MAX]
    own = [stream_id for stream_id in streams if stream_id.startswith(BOOKING_STREAM_PREFIX)]
    names = [stream_id.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX) for stream_id in own]
    chains = await connection.fetch(SQL["find_chains"], ledger.ledger_id, names, numbers)
    members = {row["cal_com_event_id"] for row in chains}
    return _Changed(
        uids=[*members.union(names)],
        streams={
            *own,
            *(booking_stream(uid) for uid in members),
            *(number_stream(row["booking_number"]) for row in chains if row["booking_number"] is not None),
        },
    )


async def _folded(
    connection: Connection, ledger: Ledger, changed: _Changed, position: Position, *, confirm_on_accept: bool
) -> list[CalendarEvent]:
    """These bookings as of a position; those that were not known then are absent."""
    if not changed.streams:
        return []
    histories = await load_histories(
        connection,
        ledger.ledger_id,
        changed.streams,
        up_to=position,
        look_up_numbers=number_lookup(connection, ledger),
        number_streams=await read_number_streams(
            connection, ledger.ledger_id, up_to=position, streams_max=NUMBER_STREAMS_MAX
        ),
    )
    return [
        calendar_event(booking, ledger.name, confirm_on_accept=confirm_on_accept)
        for booking in histories.bookings.values()
    ]


def matches(event: CalendarEvent, narrowed: Filter) -> bool:
    """Whether the booking belongs in the list: the same rules as the statement `list_bookings`."""
    emails = [str(attendee["email"]) for attendee in event.attendees]
    plain: tuple[tuple[object, object], ...] = (
        (narrowed.host, event.host_email),
        (narrowed.event_type, event.event_type),
        (narrowed.client, event.client_id),
        (narrowed.pet, event.pet_id),
        (narrowed.salon, event.salon_id),
    )
    return (
        all(wanted is None or wanted == value for wanted, value in plain)
        and (narrowed.statuses is None or event.status in narrowed.statuses)
        and _starts_between(event, narrowed.starts_from, narrowed.starts_before)
        and (narrowed.attendee is None or narrowed.attendee in emails)
        and (narrowed.metadata is None or narrowed.metadata.items() <= event.metadata.items())
        and (narrowed.text is None or _mentions(event, narrowed.text.replace("\x00", REPLACEMENT).lower()))
        and (narrowed.name is None or _is_named(event, narrowed.name, emails))
    )


def _starts_between(event: CalendarEvent, earliest: datetime | None, before: datetime | None) -> bool:
    if event.start_time is None:
        return earliest is None and before is None
    return (earliest is None or event.start_time >= earliest) and (before is None or event.start_time < before)


def _mentions(event: CalendarEvent, text: str) -> bool:
    people = [attendee[field] for attendee in event.attendees for field in ("name", "email")]
    return any(text in str(part or "").lower() for part in (event.title, event.description, *people))


def _without_name(narrowed: Filter) -> Filter:
    return msgspec.structs.replace(narrowed, name=None)


def _is_named(event: CalendarEvent, name: str, emails: Sequence[str]) -> bool:
    number = None if event.booking_number is None else str(event.booking_number)
    names = (event.cal_com_event_id, event.root_uid, number, event.ical_uid)
    return name in names or name.lower() in emails or name in event.metadata.values()


def _place(event: CalendarEvent) -> tuple[bool, float, str]:
    """The order of lists: by start, without a start last, then by uid."""
    return _after(Cursor(event.start_time, event.cal_com_event_id))


def _after(cursor: Cursor) -> tuple[bool, float, str]:
    start = cursor.start_time
    return (start is None, start.timestamp() if start else 0.0, cursor.uid)
