"""What many tests are made of: events for the log, and bodies as Cal.com writes them.

Everything has a default; a test names only what it is about.
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from ledger.store import NewEvent
from ledger.vocabulary import LedgerId, StreamId

MAIN = LedgerId(1)
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
"""A whole second: what Cal.com writes with and without milliseconds is the same instant."""

SMALL_BODY = b'{"triggerEvent":"BOOKING_CREATED"}'

_numbers = itertools.count(1)


def new_event(
    stream: str = "booking-a",
    *,
    event_id: UUID | None = None,
    body: bytes = SMALL_BODY,
    topic: str = "calcom.booking_created",
    occurred_at: datetime = NOON,
    metadata: str = "{}",
    expected: int | None = None,
) -> NewEvent:
    """One event, another id each time unless given."""
    return NewEvent(
        event_id=event_id or uuid4(),
        stream_id=StreamId(stream),
        topic=topic,
        body=body,
        occurred_at=occurred_at,
        source="webhook",
        metadata=metadata,
        expected_version=expected,
    )


def minutes(count: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=count)


def instant(moment: datetime) -> str:
    """`2026-12-01T12:00:00.000Z`"""
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def webhook(trigger: str, payload: Mapping[str, object], *, at: datetime | None = NOON) -> bytes:
    """A body in the envelope of Cal.com's, sent at `at`; without a time of its own where that is None."""
    stamp = {} if at is None else {"createdAt": instant(at)}
    return msgspec.json.encode({"triggerEvent": trigger, **stamp, "payload": payload})


def meeting(trigger: str, fields: Mapping[str, object]) -> bytes:
    """A flat MEETING_* body."""
    return msgspec.json.encode({"triggerEvent": trigger, **fields})


def people(*emails: str) -> Sequence[Mapping[str, object]]:
    return [{"email": email, "name": email.partition("@")[0]} for email in emails]
