"""Bookings to read: lists from the read model, one booking and its history from the log itself.

One booking is folded on demand, so it is never behind: whoever has just been told "recorded" sees it here.
"""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.errors import NotFound
from ledger.folding import BY_ORDER, evolve, fold
from ledger.history import Histories, load_histories
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, read_head
from ledger.vocabulary import StreamId
from projections.calendar_events import CalendarEvent, calendar_event, number_lookup

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNTOLD = frozenset({"id", "ledger", "appointment_id", "root_uid", "created_at", "updated_at"})
"""Fields that a history does not list: they say where a booking stands, not what happened to it."""


EMPTY: tuple[Any, ...] = (None, False, [], {})


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None: not narrowed. `attendee` and `host` are e-mails in lower case."""

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


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page."""

    start_time: datetime | None
    uid: str


class FoundBooking(msgspec.Struct, frozen=True, kw_only=True):
    """The booking that stands at the end of the chain asked for. `chain`: its uids from the root on."""

    asked_for: str
    booking: CalendarEvent
    chain: list[str]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One field of `calendar_events`, before and after."""

    field: str
    before: Any
    after: Any


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a booking's history, in the order in which things happened.

    `late`: when it was recorded, something that happened after it was known already.
    """

    uid: str
    trigger: str
    fact: str
    position: int
    occurred_at: datetime
    recorded_at: datetime
    late: bool
    changes: list[Change]


async def list_bookings(
    connection: Connection, ledger: Ledger, narrowed: Filter, *, after: Cursor | None, rows_max: int
) -> list[CalendarEvent]:
    """Bookings by start time; fewer than `rows_max` means the end."""
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
    )
    return [_calendar_event(row) for row in rows]


async def find_booking(
    connection: Connection, ledger: Ledger, name: str, *, confirm_on_accept: bool
) -> FoundBooking:
    """The booking by any uid of its chain, or by its number. Raises NotFound."""
    histories = await _load(connection, ledger, name)
    booking = _current(histories, name)
    chain = _chain(histories, booking)
    return FoundBooking(
        asked_for=name,
        booking=calendar_event(booking, ledger.name, confirm_on_accept=confirm_on_accept),
        chain=[member.key for member in chain],
    )


async def read_history(
    connection: Connection, ledger: Ledger, name: str, *, confirm_on_accept: bool
) -> list[HistoryEntry]:
    """What happened to the booking, through its whole chain, each fact with what it changed. Raises NotFound."""
    histories = await _load(connection, ledger, name)
    entries: list[HistoryEntry] = []
    shown: dict[str, Any] = {}
    for booking in _chain(histories, _current(histories, name)):
        told, shown = _entries(booking, histories, ledger, shown, confirm_on_accept=confirm_on_accept)
        entries += told
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.position))


class Visibility(msgspec.Struct, frozen=True, kw_only=True):
    """How much a ledger holds, and how long after recording its bookings became visible."""

    events: int
    bookings: int
    lag_events: int
    median_ms: float
    p95_ms: float


async def read_lag_events(connection: Connection) -> int:
    """How many events the furthest read model of any ledger is behind."""
    lag: int = await connection.fetchval(SQL["read_lag_events"])
    return lag


async def read_visibility(connection: Connection, ledger: Ledger) -> Visibility:
    row = await connection.fetchrow(SQL["read_visibility"], ledger.ledger_id)
    assert row is not None, "ledgers are never removed"
    return Visibility(**dict(row))


async def pick_story(connection: Connection, ledger: Ledger) -> str | None:
    """The booking with the most to tell, for those who want to see a history; None where none was rescheduled."""
    uid: str | None = await connection.fetchval(SQL["pick_story"], ledger.ledger_id)
    return uid


async def _load(connection: Connection, ledger: Ledger, name: str) -> Histories:
    head = await read_head(connection, ledger.ledger_id)
    seeds = [booking_stream(name)]
    if name.isascii() and name.isdigit() and len(name) < len(str(2**63)):
        seeds.append(number_stream(int(name)))
    return await load_histories(
        connection,
        ledger.ledger_id,
        seeds,
        up_to=head.position,
        look_up_numbers=number_lookup(connection, ledger),
    )


def _current(histories: Histories, name: str) -> Booking:
    """The booking named, or the one that has taken its place since."""
    named = [booking for booking in histories.bookings.values() if name in (booking.key, str(booking.number))]
    if not named:
        raise NotFound(f"booking {name}")
    booking = named[0]
    seen: set[StreamId] = set()
    while booking.rescheduled_to is not None and booking.stream_id not in seen:
        seen.add(booking.stream_id)
        booking = histories.bookings.get(booking_stream(booking.rescheduled_to), booking)
    return booking


def _chain(histories: Histories, booking: Booking) -> list[Booking]:
    """The bookings from the chain's root to this one, as far as they are known."""
    chain = [booking]
    while chain[0].rescheduled_from is not None and not chain[0].seat_from:
        previous = histories.bookings.get(booking_stream(chain[0].rescheduled_from))
        if previous is None or previous in chain:
            break
        chain.insert(0, previous)
    return chain


def _entries(
    booking: Booking, histories: Histories, ledger: Ledger, shown: dict[str, Any], *, confirm_on_accept: bool
) -> tuple[list[HistoryEntry], dict[str, Any]]:
    """What happened to one booking, against `shown` (the one before it in its chain), and what it looks like then."""
    entries = []
    state = fold(booking.stream_id, ())
    latest_position = 0
    for dated in sorted(histories.facts[booking.stream_id], key=BY_ORDER):
        state = evolve(state, dated)
        before, shown = shown, _shown(state, ledger, confirm_on_accept=confirm_on_accept)
        entries.append(
            HistoryEntry(
                uid=booking.key,
                trigger=dated.trigger,
                fact=type(dated.fact).__name__,
                position=dated.position,
                occurred_at=dated.occurred_at,
                recorded_at=dated.recorded_at,
                late=dated.position < latest_position,
                changes=_changes(before, shown),
            )
        )
        latest_position = max(latest_position, dated.position)
    return entries, shown


def _shown(booking: Booking, ledger: Ledger, *, confirm_on_accept: bool) -> dict[str, Any]:
    """The fields of `calendar_events` that a history compares."""
    event = calendar_event(booking, ledger.name, confirm_on_accept=confirm_on_accept)
    return {name: value for name, value in msgspec.structs.asdict(event).items() if name not in UNTOLD}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """The differences; against nothing at all, what is not empty."""
    return [
        Change(field=field, before=before.get(field), after=value)
        for field, value in after.items()
        if (value != before[field] if before else value not in EMPTY)
    ]


def _calendar_event(row: asyncpg.Record) -> CalendarEvent:
    values: dict[str, Any] = dict(row)
    values["id"], values["appointment_id"] = UUID(int=row["id"].int), UUID(int=row["appointment_id"].int)
    values["attendees"] = msgspec.json.decode(row["attendees"])
    values["metadata"] = msgspec.json.decode(row["metadata"])
    return CalendarEvent(**values)


def _escaped(text: str) -> str:
    """Text for LIKE, its wildcards taken literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\x00", "")
