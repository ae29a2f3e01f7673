"""Which booking a verified body is about, what it reports, and when that happened: all the log needs to file it.

Three envelopes (DESIGN: the five systems): `triggerEvent` + `payload`; flat MEETING_*; `trigger` + `data`.
Total: whatever the bytes are, there is an Envelope.
"""

from datetime import UTC, datetime

import msgspec

from ledger.calcom.payloads import Payload, Unreadable, in_utc, read_body
from ledger.calcom.triggers import (
    FLAT_TRIGGERS,
    KNOWN_TRIGGERS,
    TOPICS,
    UNRECOGNISED_TOPIC,
    canonical_trigger,
)
from ledger.vocabulary import BookingUid, StreamId

UID_CHARACTERS_MAX = 200
NUMBER_MAX = 2**63 - 1


BOOKING_STREAM_PREFIX = "booking-"
NUMBER_STREAM_PREFIX = "booking-id-"
"""Streams are named by uid, or by number while no uid is known; no uid begins with `id-`."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one body is filed.

    `occurred_at` is None where the body carries no time of its own; then the time of receipt counts.
    `previous_uid` is another booking that this body speaks of: the one it replaces, or that a seat came from.
    `error` says why the body could not be read.
    """

    topic: str
    trigger: str | None = None
    payload: Payload | None = None
    uid: BookingUid | None = None
    number: int | None = None
    occurred_at: datetime | None = None
    previous_uid: BookingUid | None = None
    error: str | None = None

    def stream_id(self, received_at: datetime) -> StreamId:
        """Where the event is filed: by uid, else by number, else with the others of its day."""
        if self.uid is not None:
            return booking_stream(self.uid)
        if self.number is not None:
            return number_stream(self.number)
        return StreamId(f"unattributed-{received_at.astimezone(UTC):%Y-%m-%d}")


def booking_stream(uid: str) -> StreamId:
    return StreamId(BOOKING_STREAM_PREFIX + uid)


def number_stream(number: int) -> StreamId:
    return StreamId(f"{NUMBER_STREAM_PREFIX}{number}")


def open_envelope(body: bytes) -> Envelope:
    """The envelope of any bytes; what cannot be read is `calcom.unrecognised` with its `error`."""
    try:
        fields = read_body(body)
    except Unreadable as error:
        return Envelope(topic=UNRECOGNISED_TOPIC, error=str(error))
    payload, trigger = fields.payload, fields.trigger
    if trigger not in KNOWN_TRIGGERS:
        trigger = canonical_trigger(trigger) if trigger and trigger.isprintable() else None
    uid = _uid(payload.uid) or _uid(payload.booking_uid)
    previous = None
    if payload.reschedule_uid or payload.from_reschedule:
        previous = _uid(payload.reschedule_uid) or _uid(payload.from_reschedule)
    return Envelope(
        topic=TOPICS.get(trigger or "", UNRECOGNISED_TOPIC),
        trigger=trigger,
        payload=payload,
        uid=uid,
        number=_number(payload.booking_id) or _number(payload.id),
        occurred_at=_occurred_at(fields.created_at, payload, trigger),
        previous_uid=previous if previous != uid else None,
        error=None if trigger else "no trigger in the body",
    )


def _uid(text: str | None) -> BookingUid | None:
    """A uid that can name a stream and cannot be taken for a number's: anything else is no name."""
    if not text or len(text) > UID_CHARACTERS_MAX or not text.isprintable() or text.startswith("id-"):
        return None
    return BookingUid(text)


def _number(value: int | str | None) -> int | None:
    """Cal.com's numeric id, which system 001 sends as text."""
    if isinstance(value, str):
        value = int(value) if len(value) < len(str(NUMBER_MAX)) and value.isascii() and value.isdigit() else None
    return value if value is not None and 0 < value <= NUMBER_MAX else None


def _occurred_at(created_at: datetime | None, payload: Payload, trigger: str | None) -> datetime | None:
    """When it happened: the scheduled start or end of a meeting, else the time of dispatch (`createdAt`)."""
    if trigger in FLAT_TRIGGERS:
        return in_utc(payload.start_time if trigger == "MEETING_STARTED" else payload.end_time)
    return in_utc(created_at) if trigger else None
