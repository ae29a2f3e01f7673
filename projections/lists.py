"""Lists of bookings from the read model, now or as they were recorded at an earlier moment.

The past is put together of two parts: bookings that nothing has touched since are as they are now; the others are
folded again from the log up to that moment. So a list of last week costs what has changed since, not the whole log.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from ledger.calcom.envelope import booking_stream, number_stream
from ledger.errors import BadParameter
from ledger.history import load_histories
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, read_position_as_of
from ledger.vocabulary import Position
from projections.calendar_events import ATTENDEE_FIELDS, CalendarEvent, calendar_event, number_lookup

SQL = load_statements(Path(__file__).with_suffix(".sql"))

CHANGED_BOOKINGS_MAX = 50_000
"""How many bookings a list of the past folds again, at the most."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None: not narrowed. `attendee` and `host` are e-mails in lower case.

    `name` is any name of a booking: a uid of its chain, number, calendar id, attendee's e-mail or metadata value.
    """

    statuses: list[str] | None = None
    starts_from: datetime | None = None
    starts_before: datetime | None = None
    attendee: str | None = None
    host: str | None = None
    event_type: str | None = None
    client: str | None = None
    pet: str | None = None
    salon: str | None = None
    metadata: dict[str, str] | None = None
    text: str | None = None
    name: str | None = None


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page."""

    start_time: datetime | None
    uid: str


async def list_bookings(
    connection: Connection,
    ledger: Ledger,
    narrowed: Filter,
    *,
    after: Cursor | None,
    rows_max: int,
    leave_out: Sequence[str] | None = None,
) -> list[CalendarEvent]:
    """Bookings by start time, those without one last; fewer than `rows_max` means the end."""
    pattern = None if narrowed.text is None else f"%{_escaped(narrowed.text)}%"
    rows = await connection.fetch(
        SQL["list_bookings"],
        ledger.ledger_id,
        narrowed.statuses,
        narrowed.starts_from,
        narrowed.starts_before,
        narrowed.attendee,
        narrowed.host,
        narrowed.event_type,
        narrowed.client,
        narrowed.pet,
        narrowed.salon,
        None if narrowed.metadata is None else msgspec.json.encode(narrowed.metadata).decode(),
        pattern,
        after.start_time if after else None,
        after.uid if after else None,
        rows_max,
        narrowed.name,
        leave_out,
    )
    return [_calendar_event(row) for row in rows]


async def list_bookings_as_of(
    connection: Connection,
    ledger: Ledger,
    narrowed: Filter,
    *,
    as_of: datetime,
    after: Cursor | None,
    rows_max: int,
    confirm_on_accept: bool,
) -> list[CalendarEvent]:
    """The same list as it would have been answered at `as_of`.

    Raises BadParameter where more than `CHANGED_BOOKINGS_MAX` bookings have changed since.
    """
    position = await read_position_as_of(connection, ledger.ledger_id, as_of)
    changed = await connection.fetch(SQL["find_changed_since"], ledger.ledger_id, position, CHANGED_BOOKINGS_MAX + 1)
    if len(changed) > CHANGED_BOOKINGS_MAX:
        raise BadParameter("as_of", f"lies more than {CHANGED_BOOKINGS_MAX:,} changed bookings back; ask by booking")
    uids = [row["cal_com_event_id"] for row in changed]
    numbers = [row["booking_number"] for row in changed if row["booking_number"] is not None]
    then = await _folded(connection, ledger, uids, numbers, position, confirm_on_accept=confirm_on_accept)
    folded = [*uids, *(event.cal_com_event_id for event in then)]
    known = await list_bookings(connection, ledger, narrowed, after=after, rows_max=rows_max, leave_out=folded)
    roots = {event.root_uid for event in then if event.cal_com_event_id == narrowed.name}
    fitting = [
        event
        for event in then
        if (matches(event, narrowed) or (event.root_uid in roots and matches(event, _without_name(narrowed))))
        and (after is None or _place(event) > _after(after))
    ]
    return sorted([*known, *fitting], key=_place)[:rows_max]


async def _folded(
    connection: Connection,
    ledger: Ledger,
    uids: Sequence[str],
    numbers: Sequence[int],
    position: Position,
    *,
    confirm_on_accept: bool,
) -> list[CalendarEvent]:
    """These bookings as of a position; those that were not known then are absent."""
    if not uids:
        return []
    histories = await load_histories(
        connection,
        ledger.ledger_id,
        {booking_stream(uid) for uid in uids} | {number_stream(number) for number in numbers},
        up_to=position,
        look_up_numbers=number_lookup(connection, ledger),
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
        and (narrowed.text is None or _mentions(event, narrowed.text.lower()))
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


def _calendar_event(row: asyncpg.Record) -> CalendarEvent:
    values: dict[str, Any] = dict(row)
    values["id"], values["appointment_id"] = UUID(int=row["id"].int), UUID(int=row["appointment_id"].int)
    people = msgspec.json.decode(row["attendees"])
    values["attendees"] = [{field: person[field] for field in ATTENDEE_FIELDS} for person in people]
    values["metadata"] = dict(sorted(msgspec.json.decode(row["metadata"]).items()))
    return CalendarEvent(**values)


def _escaped(text: str) -> str:
    """Text for LIKE, its wildcards taken literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\x00", "")
