"""What becomes of a delivery, whichever way it came in (api/webhooks.py).

Verify on the raw bytes, file, wait for the commit, answer. A body is understood later; here it only has to be kept:
in the log, or where Postgres does not take it in time, in the spool, from which it is filed later.
"""

import time
from collections.abc import Awaitable, Iterable
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from api.composition import Running
from api.deliveries import Delivery
from api.metering import Became
from api.problems import PROBLEM_JSON, problem_of, retry_after
from api.short_way import Answer, Header
from ledger.calcom.signature import secret_id, verify
from ledger.calcom.triggers import UNRECOGNISED_TOPIC
from ledger.errors import (
    AppenderFull,
    BookingLedgerError,
    EventUnsupported,
    SecretMissing,
    SenderError,
    SignatureRefused,
    StoreUnavailable,
    TooManyTries,
)
from ledger.event_ids import fresh_event_id
from ledger.filing import Filing, Receipt, file_new_delivery
from ledger.store import Ledger, Placed
from ledger.vocabulary import MAIN_LEDGER_NAME

VERSION_HEADER = b"x-cal-webhook-version"
VERSION_CHARACTERS_MAX = 32
SPOOLED = Answer(status=202, body=b'{"status":"spooled"}')

TOO_MANY = TooManyTries("deliveries that prove nothing", wait_seconds=60)

log = structlog.get_logger()


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When a delivery came, by the calendar and by a clock that never goes back."""

    received_at: datetime
    begun: float

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.begun) * 1000


class Incoming(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that is Cal.com's, ready for the log."""

    ledger: Ledger
    body: bytes
    receipt: Receipt
    filing: Filing
    arrival: Arrival


def verified(running: Running, ledger_name: str, headers: Iterable[Header], body: bytes, arrival: Arrival) -> Incoming:
    """The delivery, filed. Raises SecretMissing, SignatureRefused."""
    proof = verify(body, headers, running.webhook_secrets)
    ledger = running.ledgers.get(ledger_name or MAIN_LEDGER_NAME)
    if ledger is None:
        raise SignatureRefused("mismatch")  # a ledger that is not there answers like a wrong secret
    running.usage.note_secret(proof.secret, arrival.received_at)
    receipt = Receipt(
        received_at=arrival.received_at,
        secret=proof.secret,
        version=_version(headers),
        signature=proof.signature,
        secret_id=secret_id(running.webhook_secrets[proof.secret]),
    )
    filing = file_new_delivery(ledger, body, receipt, draw_id=fresh_event_id)
    return Incoming(ledger=ledger, body=body, receipt=receipt, filing=filing, arrival=arrival)


async def kept(running: Running, delivery: Incoming, placing: Awaitable[list[Placed]]) -> Answer:
    """The delivery is in the log, where `placing` puts it, or in the spool; or nowhere, as the answer says."""
    is_kept = False
    try:
        placed = await _placed(running, delivery, placing)
        is_kept = True
    except BookingLedgerError as error:
        return refusal(error)
    finally:
        if not is_kept:
            _count(running, delivery, "failed")
    return concluded(running, delivery, placed)


async def _placed(running: Running, delivery: Incoming, placing: Awaitable[list[Placed]]) -> Placed | None:
    """Where it stands in the log; None: it waits in the spool."""
    try:
        return (await placing)[0]
    except (AppenderFull, StoreUnavailable):
        if running.spool is None:
            raise
        envelope, event = delivery.filing.envelope, delivery.filing.events[0]
        # With the same fresh id, where it has one, since the log may have it all the same.
        fresh_id = event.event_id if envelope.occurred_at is None else fresh_event_id()
        await running.spool.put(delivery.ledger, delivery.body, delivery.receipt, fresh_id=fresh_id)
        log.debug("webhook_spooled", trigger=envelope.trigger, booking=envelope.uid or envelope.number)
        return None


def concluded(running: Running, delivery: Incoming, placed: Placed | None) -> Answer:
    """What to answer to a delivery that was kept, which is counted and told of. None: it is in the spool."""
    envelope, event = delivery.filing.envelope, delivery.filing.events[0]
    became: Became = "spooled" if placed is None else "duplicate" if placed.duplicate else "recorded"
    duration_ms = _count(running, delivery, became)
    if placed is not None:
        if placed.duplicate:
            running.deliveries.note(
                Delivery(
                    ledger_id=delivery.ledger.ledger_id,
                    received_at=delivery.receipt.received_at,
                    duration_ms=duration_ms,
                    position=placed.position,
                )
            )
        if running.announcements.may_tell(delivery.arrival.begun):
            log.info(
                "webhook_recorded",
                event_id=str(event.event_id),
                trigger=envelope.trigger,
                booking=envelope.uid or envelope.number,
                position=placed.position,
                duplicate=placed.duplicate,
                duration_ms=round(duration_ms, 1),
            )
    if event.topic == UNRECOGNISED_TOPIC and running.settings.strict_events:
        return refusal(EventUnsupported(envelope.trigger))
    return SPOOLED if placed is None else Answer(body=_recorded(delivery.ledger, event.event_id, placed))


def _recorded(ledger: Ledger, event_id: UUID, placed: Placed) -> bytes:
    """A JSON object, in which nothing needs to be escaped."""
    duplicate = "true" if placed.duplicate else "false"
    return (
        f'{{"status":"recorded","event_id":"{event_id}","ledger":"{ledger.name}",'
        f'"position":{placed.position},"duplicate":{duplicate}}}'
    ).encode()


def _count(running: Running, delivery: Incoming, became: Became) -> float:
    """How many milliseconds it took."""
    duration_ms = delivery.arrival.elapsed_ms()
    running.meter.count_verified(
        delivery.filing.envelope.trigger,
        became,
        ledger_id=delivery.ledger.ledger_id,
        received_at=delivery.receipt.received_at,
        seconds=duration_ms / 1000,
    )
    return duration_ms


def refused(running: Running, ledger_name: str, error: BookingLedgerError, arrival: Arrival) -> Answer:
    """What to answer to a delivery that was not taken; one that proves nothing is noted."""
    if isinstance(error, SenderError):
        ledger = running.ledgers.get(ledger_name) or running.ledgers[MAIN_LEDGER_NAME]
        error = _noted(running, ledger, error, arrival)
    return refusal(error)


def _noted(running: Running, ledger: Ledger, error: SenderError, arrival: Arrival) -> SenderError:
    """What to answer to a delivery that proved nothing: its error, or beyond the budget for such, that they are many.

    That no secret is configured is our own fault, and stays the answer.
    """
    reason = error.reason if isinstance(error, SignatureRefused) else type(error).__name__
    running.meter.count_refused(reason)
    delivery = Delivery(
        ledger_id=ledger.ledger_id, received_at=arrival.received_at, duration_ms=arrival.elapsed_ms(), reason=reason
    )
    if running.deliveries.note_unverified(delivery, now=time.monotonic()):
        log.info("webhook_refused", reason=reason, ledger=ledger.name)
        return error
    return error if isinstance(error, SecretMissing) else TOO_MANY


def refusal(error: Exception, *headers: Header) -> Answer:
    problem = problem_of(error)
    later = ((name.encode(), value.encode()) for name, value in retry_after(error, problem.status).items())
    return Answer(
        status=problem.status,
        body=problem.encoded(),
        content_type=PROBLEM_JSON.encode(),
        headers=(*headers, *later),
    )


def _version(headers: Iterable[Header]) -> str | None:
    """What Cal.com calls its payload version; unsigned, hence only noted."""
    version = dict(headers).get(VERSION_HEADER)
    if version is None or len(version) > VERSION_CHARACTERS_MAX or not version.isascii():
        return None
    text = version.decode()
    return text if text.isprintable() else None
