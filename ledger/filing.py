"""From a verified body to the events that file it in the log. Pure: time and a fresh identity come in."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.calcom.envelope import Envelope, open_envelope
from ledger.calcom.meaning import meaning_of
from ledger.kept_facts import tell_beforehand
from ledger.links import link_event
from ledger.store import Ledger, NewEvent
from ledger.vocabulary import StreamId


class Filing(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, ready for the appender: `events[0]` is the delivery itself, a link may follow."""

    envelope: Envelope
    events: tuple[NewEvent, ...]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event's metadata: how the delivery came. `secret` is the index of the secret that verified it.

    `signature` is Cal.com's, by which the body can be checked again, and `secret_id` tells under which secret; events
    of before they were kept have neither. Written under short names: it lies beside every body of a few hundred bytes.
    """

    received_at: datetime = msgspec.field(name="at")
    secret: int = 0
    version: str | None = msgspec.field(default=None, name="v")
    signature: bytes | None = msgspec.field(default=None, name="mac")
    secret_id: str | None = msgspec.field(default=None, name="key")


def file_delivery(ledger: Ledger, body: bytes, receipt: Receipt, *, fresh_id: UUID) -> Filing:
    """What to append for one verified delivery.

    A body that carries its own time has an event id made of its content, so an exact repeat is recognised. A body
    without one gets `fresh_id`: the same words twice may well be two changes.
    """
    return file_new_delivery(ledger, body, receipt, draw_id=lambda: fresh_id)


def file_new_delivery(ledger: Ledger, body: bytes, receipt: Receipt, *, draw_id: Callable[[], UUID]) -> Filing:
    """As `file_delivery`; the fresh id is drawn only for a body that needs it, which few do."""
    envelope = open_envelope(body)
    event_id = ledger.event_id("delivery", body) if envelope.occurred_at is not None else draw_id()
    occurred_at = envelope.occurred_at or receipt.received_at
    stream_id = envelope.stream_id(receipt.received_at)
    delivery = NewEvent(
        event_id=event_id,
        stream_id=stream_id,
        topic=envelope.topic,
        body=body,
        occurred_at=occurred_at,
        source="webhook",
        metadata=msgspec.json.encode(receipt).decode(),
        told=_told(envelope, stream_id, event_id, occurred_at),
    )
    link = link_event(ledger, envelope, stream_id=stream_id, event_id=event_id, occurred_at=occurred_at)
    return Filing(envelope=envelope, events=(delivery,) if link is None else (delivery, link))


def _told(envelope: Envelope, stream_id: StreamId, event_id: UUID, occurred_at: datetime) -> bytes | None:
    """What the delivery says, where that can be told beforehand.

    What cannot be understood is filed all the same: whoever reads the log meets the same error, and says so.
    """
    try:
        return tell_beforehand(
            stream_id,
            meaning_of(envelope),
            occurred_at=occurred_at,
            digest=event_id.bytes,
            trigger=envelope.trigger or envelope.topic,
        )
    except Exception:
        return None
