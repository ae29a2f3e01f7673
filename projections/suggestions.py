"""Which bookings a delivery may mean that names none but an attendee: suggestions, for a person to confirm.

An e-mail is no identity: one person has many bookings, and many people may share an address. So nothing is matched by
itself; what a person confirms is a fact of the log (`ledger/links.py`).
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from ledger.calcom.envelope import open_envelope
from ledger.calcom.meaning import details_of
from ledger.calcom.triggers import BOOKING_TRIGGERS, TOPICS
from ledger.linked import find_linked
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent, read_head, read_unattributed
from ledger.vocabulary import CalendarStatus, Position
from projections.texts import storable

SQL = load_statements(Path(__file__).with_suffix(".sql"))

BOOKINGS_MAX = 5
"""How many bookings are suggested for one delivery, the likeliest."""
PAGE_DELIVERIES = 100
PAGES_MAX = 10
"""How many pages of deliveries are looked through for one answer."""

BOOKING_TOPICS = frozenset(TOPICS[trigger] for trigger in BOOKING_TRIGGERS)

Reason = Literal["same_start", "only_booking_of_attendee", "attendee"]
"""What speaks for a booking, the strongest first; every one of them has the attendee."""


class SuggestedBooking(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that a delivery may mean, in the words of `calendar_events`."""

    cal_com_event_id: str
    reason: Reason
    title: str | None
    start_time: datetime | None
    status: CalendarStatus


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that names no booking, and the bookings that it may mean, the likeliest first."""

    event_id: UUID
    position: Position
    trigger: str
    occurred_at: datetime
    attendee: str
    start_time: datetime | None
    bookings: list[SuggestedBooking]


class SuggestionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Suggestions by delivery, the latest first. `next_before`: where the next page begins; None on the last one.

    A page may be short, or empty, and still not be the last.
    """

    suggestions: list[Suggestion]
    next_before: Position | None


async def list_suggestions(
    connection: Connection, ledger: Ledger, *, before: Position | None = None, suggestions_max: int
) -> SuggestionPage:
    """What a person may confirm: deliveries before a position, or all, that no one has linked yet."""
    found: list[Suggestion] = []
    place = before or Position((await read_head(connection, ledger.ledger_id)).position + 1)
    for _ in range(PAGES_MAX):
        deliveries = await read_unattributed(
            connection, ledger.ledger_id, topics=BOOKING_TOPICS, before=place, events_max=PAGE_DELIVERIES
        )
        found += await _suggest(connection, ledger, await _without_linked(connection, ledger, deliveries))
        if len(found) > suggestions_max:
            page = found[:suggestions_max]
            return SuggestionPage(suggestions=page, next_before=page[-1].position)
        if len(deliveries) < PAGE_DELIVERIES:
            return SuggestionPage(suggestions=found, next_before=None)
        place = deliveries[-1].position
    return SuggestionPage(suggestions=found, next_before=place)


async def _without_linked(
    connection: Connection, ledger: Ledger, deliveries: Sequence[RecordedEvent]
) -> list[RecordedEvent]:
    linked = await find_linked(connection, ledger, [delivery.event_id for delivery in deliveries])
    return [delivery for delivery in deliveries if delivery.event_id not in linked]


async def _suggest(connection: Connection, ledger: Ledger, deliveries: Sequence[RecordedEvent]) -> list[Suggestion]:
    """A suggestion for each of the deliveries whose attendee has a booking, in their order."""
    asked = [about for delivery in deliveries if (about := _about(delivery)) is not None]
    rows = await connection.fetch(
        SQL["find_bookings_of_attendees"],
        ledger.ledger_id,
        [about.attendee for about in asked],
        [about.start_time for about in asked],
        [about.occurred_at for about in asked],
        BOOKINGS_MAX,
    )
    for row in rows:
        booking = {name: value for name, value in row.items() if name != "ordinal"}
        asked[row["ordinal"] - 1].bookings.append(SuggestedBooking(**booking))
    return [about for about in asked if about.bookings]


def _about(delivery: RecordedEvent) -> Suggestion | None:
    """What the delivery says that helps to find its booking; None where it names nobody."""
    envelope = open_envelope(delivery.body)
    details = details_of(envelope, envelope.payload) if envelope.payload is not None else None
    attendee = storable(details.attendees[0].email) if details is not None and details.attendees else None
    if details is None or attendee is None or envelope.uid is not None or envelope.number is not None:
        return None
    return Suggestion(
        event_id=delivery.event_id,
        position=delivery.position,
        trigger=envelope.trigger or delivery.topic,
        occurred_at=delivery.occurred_at,
        attendee=attendee,
        start_time=details.start,
        bookings=[],
    )
