"""One booking and its history, straight from the log: by any of its names, at any moment of either clock.

A booking is folded on demand, so it is never behind: whoever has just been told "recorded" sees it here.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.errors import NotFound
from ledger.facts import Dated
from ledger.folding import BY_ORDER, evolve, fold
from ledger.history import Histories, load_histories
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, read_head, read_position_as_of, read_stream_version, read_streams
from ledger.vocabulary import Position, StreamId, StreamVersion
from projections.calendar_events import CalendarEvent, calendar_event, number_lookup

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNTOLD = frozenset({"id", "ledger", "appointment_id", "root_uid", "created_at", "updated_at", "marked"})
"""Fields that a history does not list: they say where a booking stands, not what happened to it."""

EMPTY: tuple[Any, ...] = (None, False, [], {})


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Where on the two clocks to stand. `as_of`: what had been recorded by then; `valid_at`: what had happened by then.

    None: now.
    """

    as_of: datetime | None = None
    valid_at: datetime | None = None


NOW = Moment()


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """What webhooks alone could not decide, and the event that raised it."""

    name: str
    trigger: str
    position: int
    occurred_at: datetime


class FoundBooking(msgspec.Struct, frozen=True, kw_only=True):
    """The booking that stands at the end of the chain asked for. `chain`: its uids from the root on.

    `is_current`: the name asked for is this booking's own, not that of one it has replaced. `stream_version` counts the
    events of its own stream: what a command may expect.
    """

    asked_for: str
    is_current: bool
    stream_version: StreamVersion
    as_of: datetime | None
    valid_at: datetime | None
    booking: CalendarEvent
    chain: list[str]
    doubts: list[Doubt]


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


async def find_booking(
    connection: Connection, ledger: Ledger, name: str, *, moment: Moment = NOW, confirm_on_accept: bool
) -> FoundBooking:
    """The booking by any uid of its chain, by its number or its calendar id. Raises NotFound."""
    up_to = await _end(connection, ledger, moment)
    histories, uid = await _load(connection, ledger, name, up_to=up_to, valid_at=moment.valid_at)
    booking = _current(histories, uid)
    version = await read_stream_version(connection, ledger.ledger_id, booking.stream_id, up_to=up_to)
    causes = [(doubt, cause) for doubt, cause in booking.doubts.items() if cause is not None]
    return FoundBooking(
        asked_for=name,
        is_current=uid in (booking.key, str(booking.number)),
        stream_version=version,
        as_of=moment.as_of,
        valid_at=moment.valid_at,
        booking=calendar_event(booking, ledger.name, confirm_on_accept=confirm_on_accept),
        chain=[member.key for member in _chain(histories, booking)],
        doubts=[
            Doubt(name=doubt, trigger=cause.trigger, position=cause.position, occurred_at=cause.occurred_at)
            for doubt, cause in causes
        ],
    )


async def read_history(
    connection: Connection, ledger: Ledger, name: str, *, moment: Moment = NOW, confirm_on_accept: bool
) -> list[HistoryEntry]:
    """What happened to the booking, through its whole chain, each fact with what it changed. Raises NotFound."""
    up_to = await _end(connection, ledger, moment)
    histories, uid = await _load(connection, ledger, name, up_to=up_to, valid_at=moment.valid_at)
    if _is_erased(histories, booking_stream(uid)):
        return await _read_erased(connection, ledger, uid, up_to=up_to)
    entries: list[HistoryEntry] = []
    shown: dict[str, Any] = {}
    for booking in _chain(histories, _current(histories, uid)):
        told, shown = _entries(booking, histories, ledger, shown, confirm_on_accept=confirm_on_accept)
        entries += told
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.position))


def _is_erased(histories: Histories, stream_id: StreamId) -> bool:
    readings = histories.readings.get(stream_id, ())
    return any(reading.redacted is not None and reading.redacted.gone for reading in readings)


async def _read_erased(connection: Connection, ledger: Ledger, uid: str, *, up_to: Position) -> list[HistoryEntry]:
    """All that is left of a booking that was erased: that something was told, and when."""
    events = await read_streams(connection, ledger.ledger_id, [booking_stream(uid)], up_to=up_to)
    return [
        HistoryEntry(
            uid=uid,
            trigger=event.topic,
            fact="Erased",
            position=event.position,
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
            late=False,
            changes=[],
        )
        for event in events
        if event.is_erased
    ]


async def find_streams(connection: Connection, ledger: Ledger, name: str) -> tuple[StreamId, ...]:
    """The streams of the very booking that is named, rescheduled or not: its own, its number's. Raises NotFound."""
    up_to = await _end(connection, ledger, NOW)
    booking = _named(*await _load(connection, ledger, name, up_to=up_to))
    return (booking.stream_id,) if booking.number is None else (booking.stream_id, number_stream(booking.number))


async def _end(connection: Connection, ledger: Ledger, moment: Moment) -> Position:
    """The position of the last event that counts."""
    if moment.as_of is None:
        return (await read_head(connection, ledger.ledger_id)).position
    return await read_position_as_of(connection, ledger.ledger_id, moment.as_of)


async def _load(
    connection: Connection, ledger: Ledger, name: str, *, up_to: Position, valid_at: datetime | None = None
) -> tuple[Histories, str]:
    """The histories of the booking named, and the name to look for in them: a calendar id has become a uid."""
    if not name.isprintable():
        raise NotFound("booking of that name")
    names = [name]
    if "@" in name:
        rows = await connection.fetch(SQL["find_uids_by_ical_uid"], ledger.ledger_id, name)
        names = [row["cal_com_event_id"] for row in rows]
    seeds = [booking_stream(uid) for uid in names]
    if name.isascii() and name.isdigit() and len(name) < len(str(2**63)):
        seeds.append(number_stream(int(name)))
    histories = await load_histories(
        connection,
        ledger.ledger_id,
        seeds,
        up_to=up_to,
        look_up_numbers=number_lookup(connection, ledger),
        valid_at=valid_at,
    )
    return histories, next((uid for uid in names if booking_stream(uid) in histories.bookings), name)


def _named(histories: Histories, name: str) -> Booking:
    named = [booking for booking in histories.bookings.values() if name in (booking.key, str(booking.number))]
    if not named:
        raise NotFound(f"booking {name}")
    return named[0]


def _current(histories: Histories, name: str) -> Booking:
    """The booking named, or the one that has taken its place since."""
    booking = _named(histories, name)
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
    in_order = sorted(histories.facts[booking.stream_id], key=BY_ORDER)
    late = _late(in_order)
    for dated in in_order:
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
                late=dated.position in late,
                changes=_changes(before, shown),
            )
        )
    return entries, shown


def _late(in_order: Sequence[Dated]) -> set[int]:
    """The positions of events that were recorded after something that happened later."""
    late: set[int] = set()
    earliest_of_later = None
    for dated in reversed(in_order):
        if earliest_of_later is not None and dated.position > earliest_of_later:
            late.add(dated.position)
        earliest_of_later = dated.position if earliest_of_later is None else min(earliest_of_later, dated.position)
    return late


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
