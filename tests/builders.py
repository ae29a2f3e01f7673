"""What many tests are made of: events for the log, and bodies as Cal.com writes them.

Everything has a default; a test names only what it is about.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import msgspec
from hypothesis import strategies as st

from ledger.booking import Booking
from ledger.calcom.payloads import Attendee, Payload, Wrapper
from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.facts import AnyFact, Dated
from ledger.filing import Receipt, file_delivery
from ledger.postgres import Connection
from ledger.store import Ledger, NewEvent, Placed, RecordedEvent, append, read_ledgers, read_log
from ledger.vocabulary import LedgerId, Position, StreamId

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


def dated(fact: AnyFact, *, at: datetime = NOON, position: int = 1) -> Dated:
    """The fact in its place; its digest is that of its words and its time."""
    digest = sha256(repr((fact, at)).encode()).digest()[:16]
    return Dated(
        occurred_at=at,
        rank=fact.rank,
        digest=digest,
        position=position,
        recorded_at=at,
        trigger=type(fact).__name__,
        fact=fact,
    )


async def main_ledger(connection: Connection) -> Ledger:
    return (await read_ledgers(connection))["main"]


async def add_ledger(connection: Connection) -> LedgerId:
    """A second, empty ledger beside the main one."""
    await connection.execute(
        """
        INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key)
        VALUES (2, 'other', sha256('booking-ledger/2'), sha256('key'))
        """
    )
    return LedgerId(2)


async def deliver(connection: Connection, *bodies: bytes, received_at: datetime = NOON) -> list[list[Placed]]:
    """Every body is filed and appended as the webhook route does it; one answer an event, the delivery's first."""
    ledger = await main_ledger(connection)
    receipt = Receipt(received_at=received_at)
    filings = [file_delivery(ledger, body, receipt, fresh_id=uuid4()) for body in bodies]
    return [await append(connection, ledger.ledger_id, filing.events) for filing in filings]


ANSWERS = (
    *("stream_id", "key", "uid", "number", "ical_uid", "root_uid", "rescheduled_from", "rescheduled_to", "seat_from"),
    *("title", "description", "event_type", "event_type_number", "start", "end", "location", "meeting_url"),
    *("host_email", "host_name", "attendees", "left", "absent", "metadata", "seats", "recurring"),
    *("status", "booking_status", "requested", "payment_initiated", "payment_number", "paid", "explicitly_confirmed"),
    *("cancellation_reason", "cancelled_by", "reschedule_requested", "rejection_reason", "rescheduled_by", "doubts"),
    *("started", "started_for", "ended", "ended_for", "no_show", "host_absent", "guests_absent"),
    *("recording_url", "has_transcript", "first_occurred_at", "last_occurred_at", "last_position"),
)
"""What can be read of a booking."""


async def whole_log(connection: Connection, ledger_id: LedgerId = MAIN) -> list[RecordedEvent]:
    """All events, bodies opened."""
    return await read_log(connection, ledger_id, after=Position(0), events_max=1_000_000)


def answers(booking: Booking) -> dict[str, object]:
    """All that a booking answers, mappings with their order."""
    read = {name: getattr(booking, name) for name in ANSWERS}
    statuses = (booking.calendar_status(), booking.calendar_status(confirm_on_accept=True))
    ordered = {name: list(value.items()) if isinstance(value, Mapping) else value for name, value in read.items()}
    return {**ordered, "statuses": statuses}


def minutes(count: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=count)


def instant(moment: datetime) -> str:
    """`2026-12-01T12:00:00.000Z`, as envelopes have it."""
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


CAL_COM_KEYS = sorted(
    {field.encode_name for kind in (Payload, Attendee, Wrapper) for field in msgspec.structs.fields(kind)}
    | {"value", "videoCallUrl", "url", "slug", "recording", "transcription"}
)
CAL_COM_TEXTS = (
    "", "uidAAA", "uidBBB", "id-7", "4711", "ACCEPTED", "PENDING", "A@Example.com", "b@example.com", "https://x.example",
    "2026-12-01T12:00:00Z", "2026-12-01T12:00:00.000Z", "2026-12-01T13:00:00+01:00", "0001-01-01T00:00:00+09:00",
    "9999-12-31T23:59:59.999999-09:00", "Please reschedule. ", "\x00", "\ud83d", "🐾",
)  # fmt: skip


def bodies_like_cal_coms() -> st.SearchStrategy[bytes]:
    """JSON with Cal.com's keys in all the wrong places, and values of all kinds, now and then a right one."""
    values: st.SearchStrategy[object] = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats()
        | st.sampled_from(CAL_COM_TEXTS)
        | st.text(max_size=5),
        lambda children: (
            st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(CAL_COM_KEYS), children, max_size=6)
        ),
        max_leaves=12,
    )
    payloads = st.dictionaries(st.sampled_from(CAL_COM_KEYS), values, max_size=12)
    triggers = st.sampled_from([*sorted(KNOWN_TRIGGERS), "BOOKING_RATED", "booking.created", "\n"])
    wrapped = st.fixed_dictionaries(
        {"triggerEvent": triggers, "payload": payloads},
        optional={"createdAt": st.sampled_from(CAL_COM_TEXTS), "data": payloads},
    )
    flat = st.builds(lambda trigger, payload: {**payload, "triggerEvent": trigger}, triggers, payloads)
    bodies = wrapped | flat | payloads | st.lists(wrapped, max_size=2)
    return st.builds(_as_json, bodies, ensure_ascii=st.booleans())


def _as_json(value: object, *, ensure_ascii: bool) -> bytes:
    """NaN and lone surrogates as they come."""
    return json.dumps(value, ensure_ascii=ensure_ascii).encode(errors="surrogatepass")
