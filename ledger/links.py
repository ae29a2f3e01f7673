"""Links: our own events on the stream of a booking that another booking's webhook speaks of.

A reschedule arrives under the new uid only. So that the old booking's stream tells of it, a link is appended to it in
the same transaction. A link is a pointer, no more: what it means is read from the webhook it points to, so that a
better decoder improves the past here too. One link of a kind for a pair of bookings: its event id is
made of these.

A delivery that names no booking gets one by a person's word: `booking.linked` on that booking's stream. It carries the
delivery's body, so that the stream tells all by itself, and means what that body would mean if it named the booking.
One delivery has one booking: the event id is made of the delivery's, and of how often its link was taken back.

A link that was wrong is taken back by `booking.unlinked`, on the same stream: what the linked delivery said of any
booking counts no more, whichever of the two events is read first.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.calcom.envelope import (
    BOOKING_STREAM_PREFIX,
    NUMBER_STREAM_PREFIX,
    Envelope,
    booking_stream,
    open_envelope,
)
from ledger.calcom.meaning import meaning_of, supersedes
from ledger.errors import NotFound, NotLinkable
from ledger.store import Ledger, NewEvent, RecordedEvent
from ledger.vocabulary import BookingUid, StreamId

SUPERSEDED_TOPIC = "booking.superseded"
SEAT_MOVED_TOPIC = "booking.seat_moved"
LINK_TOPICS = frozenset({SUPERSEDED_TOPIC, SEAT_MOVED_TOPIC})
LINKED_TOPIC = "booking.linked"
UNLINKED_TOPIC = "booking.unlinked"


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


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `booking.linked`: the delivery's event, and its body as it came in."""

    by_event: UUID
    body: bytes


class Unlinked(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `booking.unlinked`: the event that counts no more, and the streams of which it said something."""

    event: UUID
    about: tuple[StreamId, ...]


def linked_id(ledger: Ledger, delivery_id: UUID, *, taken_back: int = 0) -> UUID:
    """The id of the event that links a delivery, to whichever booking. `taken_back`: how many of its links were."""
    again = taken_back.to_bytes(2) if taken_back else b""
    return ledger.event_id("linked", delivery_id.bytes + again)


def unlinked_id(ledger: Ledger, linked: UUID) -> UUID:
    """The id of the event that takes a link back."""
    return ledger.event_id("unlinked", linked.bytes)


def unlinked_event(
    ledger: Ledger, linked: RecordedEvent, about: Iterable[StreamId], *, expected_version: int | None = None
) -> NewEvent:
    """What takes the link back. `about`: the streams of which the linked delivery says something."""
    return NewEvent(
        event_id=unlinked_id(ledger, linked.event_id),
        stream_id=linked.stream_id,
        topic=UNLINKED_TOPIC,
        body=msgspec.json.encode(Unlinked(event=linked.event_id, about=tuple(sorted({linked.stream_id, *about})))),
        occurred_at=linked.occurred_at,
        source="command",
        expected_version=expected_version,
    )


def read_unlinked(body: bytes) -> Unlinked:
    return msgspec.json.decode(body, type=Unlinked)


def linked_events(
    ledger: Ledger,
    delivery: RecordedEvent,
    stream_id: StreamId,
    *,
    expected_version: int | None = None,
    taken_back: int = 0,
) -> tuple[NewEvent, ...]:
    """What gives the delivery to the booking of this stream: `booking.linked`, and a link where it replaces another.

    `taken_back`: how many links of this delivery were taken back before.
    Raises NotFound for an event that is no delivery, NotLinkable.
    """
    if delivery.source != "webhook":
        raise NotFound(f"delivery {delivery.event_id}")
    envelope = open_envelope(delivery.body)
    if envelope.uid is not None or envelope.number is not None:
        raise NotLinkable(delivery.event_id, "it names its booking itself")
    attributed = _attributed(envelope, stream_id)
    if not meaning_of(attributed):
        raise NotLinkable(delivery.event_id, "it says nothing of a booking")
    linked = NewEvent(
        event_id=linked_id(ledger, delivery.event_id, taken_back=taken_back),
        stream_id=stream_id,
        topic=LINKED_TOPIC,
        body=msgspec.json.encode(Linked(by_event=delivery.event_id, body=delivery.body)),
        occurred_at=delivery.occurred_at,
        source="command",
        expected_version=expected_version,
    )
    replaced = link_event(
        ledger, attributed, stream_id=stream_id, event_id=linked.event_id, occurred_at=delivery.occurred_at
    )
    return (linked,) if replaced is None else (linked, replaced)


def read_linked(stream_id: StreamId, body: bytes) -> Envelope:
    """The linked delivery's envelope, as if it named the booking on whose stream the link lies."""
    return _attributed(open_envelope(linked_body(body)), stream_id)


def linked_body(body: bytes) -> bytes:
    """The linked delivery's body, as it came in."""
    return msgspec.json.decode(body, type=Linked).body


def _attributed(envelope: Envelope, stream_id: StreamId) -> Envelope:
    if stream_id.startswith(NUMBER_STREAM_PREFIX):
        return msgspec.structs.replace(envelope, number=int(stream_id.removeprefix(NUMBER_STREAM_PREFIX)))
    uid = BookingUid(stream_id.removeprefix(BOOKING_STREAM_PREFIX))
    previous_uid = None if envelope.previous_uid == uid else envelope.previous_uid
    return msgspec.structs.replace(envelope, uid=uid, previous_uid=previous_uid)
