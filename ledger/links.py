"""Links: our own events on the stream of a booking that another booking's webhook speaks of.

A reschedule arrives under the new uid only. So that the old booking's stream tells of it, a link is appended to it in
the same transaction. A link is a pointer, no more: what it means is read from the webhook it points to, so that a
better decoder improves the past here too. One link of a kind for a pair of bookings: its event id is
made of these.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from ledger.calcom.envelope import Envelope, booking_stream
from ledger.calcom.meaning import supersedes
from ledger.store import Ledger, NewEvent
from ledger.vocabulary import StreamId

SUPERSEDED_TOPIC = "booking.superseded"
SEAT_MOVED_TOPIC = "booking.seat_moved"
LINK_TOPICS = frozenset({SUPERSEDED_TOPIC, SEAT_MOVED_TOPIC})


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a link event: the stream and the event that speak of this booking."""

    by_stream: StreamId
    by_event: UUID
    trigger: str


def link_event(
    ledger: Ledger, envelope: Envelope, *, stream_id: StreamId, event_id: UUID, occurred_at: datetime
) -> NewEvent | None:
    """The link that belongs beside a webhook's event; None where it speaks of no other booking."""
    if envelope.previous_uid is None or envelope.trigger is None:
        return None
    link = Link(by_stream=stream_id, by_event=event_id, trigger=envelope.trigger)
    topic = SUPERSEDED_TOPIC if supersedes(envelope) else SEAT_MOVED_TOPIC
    pair = msgspec.json.encode([topic, envelope.previous_uid, stream_id])
    return NewEvent(
        event_id=ledger.event_id("link", pair),
        stream_id=booking_stream(envelope.previous_uid),
        topic=topic,
        body=msgspec.json.encode(link),
        occurred_at=occurred_at,
        source="link",
    )


def read_link(body: bytes) -> Link:
    return msgspec.json.decode(body, type=Link)
