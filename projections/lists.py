"""Lists of bookings from the read model, page by page.

A list goes along one index, by the filter that the fewest bookings pass. Whatever else is asked for is looked for in
what lies there: of two filters that many bookings pass, but none passes both, there would be no end. Two filters have
no index at all, on purpose: a status changes so often that one would make most writes dearer, and an index of all texts
would cost more than all the others together. So one page looks at `LOOKED_AT_MAX` bookings at the most and then says
how far it came. It may be short, or empty, and still not be the last.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from ledger.errors import BadParameter
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections.calendar_events import ATTENDEE_FIELDS, CalendarEvent
from projections.texts import storable

SQL = load_statements(Path(__file__).with_suffix(".sql"))

LOOKED_AT_MAX = 1_000
"""How many bookings one page looks at, at the most, for those that fit; a list does not go by metadata of more."""
NAMED_MAX = 10_000
"""How many bookings may have one name; a metadata value that more have is none."""
NUMBER_MAX = 2**63 - 1
BROAD = ("host", "salon", "event_type")
"""Filters that many bookings pass; those that the fewest do come first."""
LITERALLY = "***="
"""What follows in a regular expression of PostgreSQL is text."""


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
    """A booking's place in a list: what comes after it is the next page."""

    start_time: datetime | None
    uid: str


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    rows: int = msgspec.field(name="Plan Rows")


class _Explained(msgspec.Struct, frozen=True, kw_only=True):
    plan: _Plan = msgspec.field(name="Plan")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page of bookings. `following`: the place after which the next page begins; None: this is the last one."""

    bookings: list[CalendarEvent]
    following: Cursor | None


async def list_bookings(
    connection: Connection, ledger: Ledger, narrowed: Filter, *, after: Cursor | None, rows_max: int
) -> list[CalendarEvent]:
    """Bookings by start time, those without one last; fewer than `rows_max` means the end, however far that is."""
    bookings: list[CalendarEvent] = []
    while True:
        page = await list_page(connection, ledger, narrowed, after=after, rows_max=rows_max - len(bookings))
        bookings += page.bookings
        after = page.following
        if after is None or len(bookings) == rows_max:
            return bookings


async def list_page(
    connection: Connection,
    ledger: Ledger,
    narrowed: Filter,
    *,
    after: Cursor | None,
    rows_max: int,
    leave_out: Sequence[str] | None = None,
) -> Listed:
    """Bookings by start time, those without one last, as many as are found among the next `LOOKED_AT_MAX`."""
    bookings: list[CalendarEvent] = []
    named = None if narrowed.name is None else await _find_named(connection, ledger, narrowed.name)
    text = storable(narrowed.text)
    along = await _choose_way(connection, ledger, narrowed)
    for with_start, begin in _stretches(narrowed, after):
        starts_from = narrowed.starts_from
        if narrowed.statuses is not None and with_start:
            starts_from = await _first_start(connection, ledger, narrowed, begin)
            if starts_from is None:
                continue
        rows = await fetch_planned(
            connection,
            SQL["list_bookings"],
            *_conditions(ledger, narrowed, starts_from),
            None if text is None else LITERALLY + text,
            begin and begin.start_time,
            begin and begin.uid,
            rows_max + 1 - len(bookings),
            named,
            leave_out,
            with_start,
            max(LOOKED_AT_MAX, rows_max + 1),
            _attendee_path(text),
            along,
        )
        bookings += [calendar_event_of(row) for row in rows if row["fits"]]
        if len(bookings) > rows_max:
            return Listed(bookings=bookings[:rows_max], following=cursor_of(bookings[rows_max - 1]))
        if rows and rows[-1]["is_last"]:
            return Listed(bookings=bookings, following=cursor_of(calendar_event_of(rows[-1])))
    return Listed(bookings=bookings, following=None)


async def fetch_planned(connection: Connection, statement: str, *values: object) -> list[asyncpg.Record]:
    """The rows, by a plan that is made for these values and for no others.

    The driver keeps statements prepared, and after five executions PostgreSQL keeps a plan that fits any values: for a
    statement whose filters may be null, that plan can use hardly any index. Under no name a statement is not kept.
    """
    prepared = await connection.prepare(statement, name="")
    rows: list[asyncpg.Record] = await prepared.fetch(*values)
    return rows


def calendar_event_of(row: asyncpg.Record) -> CalendarEvent:
    """The booking of a row that has the columns of `calendar_events`; others are passed over."""
    values: dict[str, Any] = {field: row[field] for field in CalendarEvent.__struct_fields__}
    values["id"], values["appointment_id"] = UUID(int=row["id"].int), UUID(int=row["appointment_id"].int)
    people = msgspec.json.decode(row["attendees"])
    values["attendees"] = [{field: person[field] for field in ATTENDEE_FIELDS} for person in people]
    values["metadata"] = dict(sorted(msgspec.json.decode(row["metadata"]).items()))
    return CalendarEvent(**values)


def cursor_of(event: CalendarEvent) -> Cursor:
    return Cursor(event.start_time and event.start_time.astimezone(UTC), event.cal_com_event_id)


def _stretches(narrowed: Filter, after: Cursor | None) -> Iterator[tuple[bool | None, Cursor | None]]:
    """What is left of the list, each part with the place after which it goes on.

    True: bookings with a start; False: those without; None: both at once, where nothing asked for depends on the start.
    """
    is_timed = narrowed.starts_from is not None or narrowed.starts_before is not None
    if after is None and narrowed.statuses is None and not is_timed:
        yield None, None
        return
    if after is None or after.start_time is not None:
        yield True, after
        after = None
    if not is_timed:
        yield False, after


def _conditions(ledger: Ledger, narrowed: Filter, starts_from: datetime | None) -> tuple[object, ...]:
    return (
        ledger.ledger_id,
        narrowed.statuses,
        starts_from,
        narrowed.starts_before,
        narrowed.attendee,
        narrowed.host,
        narrowed.event_type,
        narrowed.client,
        narrowed.pet,
        narrowed.salon,
        _told_in_json(narrowed.metadata),
    )


async def _choose_way(connection: Connection, ledger: Ledger, narrowed: Filter) -> str | None:
    """The filter along which the list goes; None where one that few pass leads the way by itself, or there is none."""
    if any(one is not None for one in (narrowed.name, narrowed.attendee, narrowed.client, narrowed.pet)):
        return None
    if narrowed.metadata is not None and await _leads(connection, ledger, narrowed):
        return "metadata"
    return next((name for name in BROAD if getattr(narrowed, name) is not None), None)


async def _leads(connection: Connection, ledger: Ledger, narrowed: Filter) -> bool:
    """Whether a list goes by its metadata: where nothing else is asked for, or few bookings have it."""
    if narrowed.text is None and narrowed.statuses is None and all(getattr(narrowed, name) is None for name in BROAD):
        return True
    rows = await connection.fetch(SQL["guess_bookings"], ledger.ledger_id, _told_in_json(narrowed.metadata))
    (explained,) = msgspec.json.decode(rows[0][0], type=list[_Explained])
    return explained.plan.rows <= LOOKED_AT_MAX


async def _first_start(
    connection: Connection, ledger: Ledger, narrowed: Filter, after: Cursor | None
) -> datetime | None:
    """Before this moment none of the wanted statuses is left; None: they are nowhere."""
    begin = max((moment for moment in (narrowed.starts_from, after and after.start_time) if moment), default=None)
    rows = await fetch_planned(
        connection,
        SQL["find_first_day"],
        ledger.ledger_id,
        narrowed.statuses,
        begin,
        narrowed.host,
        narrowed.event_type,
    )
    first_day: datetime | None = rows[0][0]
    return first_day if first_day is None or begin is None else max(first_day, begin)


async def _find_named(connection: Connection, ledger: Ledger, name: str) -> list[str]:
    """The uids of the bookings of this name. Raises BadParameter where that is a word which very many have."""
    is_number = name.isascii() and name.isdigit() and len(name) <= len(str(NUMBER_MAX)) and str(int(name)) == name
    number = int(name) if is_number and int(name) <= NUMBER_MAX else None
    rows = await connection.fetch(SQL["find_named"], ledger.ledger_id, name, name.lower(), number, NAMED_MAX + 1)
    if len(rows) > NAMED_MAX:
        raise BadParameter("name", f"is that of more than {NAMED_MAX:,} bookings; narrow the list by metadata.<key>")
    return [row[0] for row in rows]


def _told_in_json(metadata: dict[str, str] | None) -> str | None:
    return None if metadata is None else msgspec.json.encode(metadata).decode()


def _attendee_path(text: str | None) -> str | None:
    """The path of JSON to attendees with the text in their name or e-mail: quicker than to take each of them out."""
    if text is None:
        return None
    quoted = msgspec.json.encode(text).decode()
    return f'$[*] ? (@.name like_regex {quoted} flag "iq" || @.email like_regex {quoted} flag "iq")'
