"""Where Cal.com delivers: a bare ASGI handler, nothing between the socket and the signature check.

Verify on the raw bytes, file, wait for the commit, answer. A body is understood later; here it only has to be kept:
in the log, or where Postgres does not take it in time, in the spool, from which it is filed later.
"""

import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import structlog
from litestar import asgi
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.auth import PUBLIC
from api.composition import Running
from api.deliveries import Delivery
from api.metering import Became
from api.problems import PROBLEM_JSON, problem_of, retry_after
from api.webhook_paths import WEBHOOK_PATHS
from ledger.calcom.signature import received_signature, secret_id, verify
from ledger.calcom.triggers import UNRECOGNISED_TOPIC
from ledger.errors import (
    AppenderFull,
    BodyTooLarge,
    BookingLedgerError,
    EncodingUnsupported,
    EventUnsupported,
    SecretMissing,
    SenderError,
    SignatureRefused,
    StoreUnavailable,
    TooManyTries,
)
from ledger.filing import Filing, Receipt, file_delivery
from ledger.store import Ledger, Placed
from ledger.vocabulary import MAIN_LEDGER_NAME

BODY_BYTES_MAX = 1024 * 1024
NO_STORE = (b"cache-control", b"no-store")
VERSION_HEADER = b"x-cal-webhook-version"
VERSION_CHARACTERS_MAX = 32
SPOOLED = b'{"status":"spooled"}'

TOO_MANY = TooManyTries("deliveries that prove nothing", wait_seconds=60)

log = structlog.get_logger()


class ClientGone(Exception):
    """The sender hung up before the body was complete: nothing was kept, nobody waits for an answer."""


@asgi(list(WEBHOOK_PATHS), is_mount=True, opt=PUBLIC, copy_scope=False)
async def receive_webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """POST records a delivery; GET and HEAD say what this is. What follows the path names the ledger.

    A mount, since Litestar finds no ASGI handler on a path with a parameter.
    """
    running: Running = scope["litestar_app"].state.running
    method = str(scope.get("method"))
    if method == "POST":
        await _record(running, scope, receive, send)
    elif method in ("GET", "HEAD"):
        about = {
            "endpoint": "Cal.com webhooks",
            "how": "POST, signed in X-Cal-Signature-256; every trigger is welcome.",
            "secret_configured": bool(running.webhook_secrets),
        }
        await _answer(send, 200, b"" if method == "HEAD" else msgspec.json.encode(about))
    else:
        await _refuse(send, MethodNotAllowedException(), headers=[(b"allow", b"GET, HEAD, POST")])


async def _record(running: Running, scope: Scope, receive: Receive, send: Send) -> None:
    received_at, begun = datetime.now(UTC), time.perf_counter()
    ledger = running.ledgers.get(scope["path"].strip("/") or MAIN_LEDGER_NAME)
    try:
        body = await _read_body(scope, receive)
        secret = verify(body, scope["headers"], running.webhook_secrets)
        if ledger is None:
            raise SignatureRefused("mismatch")  # a ledger that is not there answers like a wrong secret
        running.usage.note_secret(secret, received_at)
        receipt = Receipt(
            received_at=received_at,
            secret=secret,
            version=_version(scope),
            signature=received_signature(scope["headers"]),
            secret_id=secret_id(running.webhook_secrets[secret]),
        )
        status, answer = await _file(running, ledger, body, receipt, begun)
    except ClientGone:
        running.meter.count_abandoned()
        return
    except BookingLedgerError as error:
        if isinstance(error, SenderError) and not isinstance(error, EventUnsupported):
            noted = ledger or running.ledgers[MAIN_LEDGER_NAME]
            await _refuse(send, _noted(running, noted, error, received_at=received_at, begun=begun))
        else:
            await _refuse(send, error)
        return
    await _answer(send, status, answer)


def _noted(running: Running, ledger: Ledger, error: SenderError, *, received_at: datetime, begun: float) -> SenderError:
    """What to answer to a delivery that proved nothing: its error, or beyond the budget for such, that they are many.

    That no secret is configured is our own fault, and stays the answer.
    """
    reason = error.reason if isinstance(error, SignatureRefused) else type(error).__name__
    running.meter.count_refused(reason)
    delivery = Delivery(
        ledger_id=ledger.ledger_id, received_at=received_at, duration_ms=_elapsed_ms(begun), reason=reason
    )
    if running.deliveries.note_unverified(delivery, now=time.monotonic()):
        log.info("webhook_refused", reason=reason, ledger=ledger.name)
        return error
    return error if isinstance(error, SecretMissing) else TOO_MANY


async def _file(running: Running, ledger: Ledger, body: bytes, receipt: Receipt, begun: float) -> tuple[int, bytes]:
    """The delivery is kept; status and body of the answer."""
    fresh_id = uuid4()
    filing = file_delivery(ledger, body, receipt, fresh_id=fresh_id)
    became: Became = "failed"
    try:
        placed = await _keep(running, ledger, body, receipt, filing=filing, fresh_id=fresh_id)
        became = "spooled" if placed is None else "duplicate" if placed.duplicate else "recorded"
    finally:
        duration_ms = _elapsed_ms(begun)
        running.meter.count_verified(
            filing.envelope.trigger,
            became,
            ledger_id=ledger.ledger_id,
            received_at=receipt.received_at,
            seconds=duration_ms / 1000,
        )
    if placed is None:
        _refuse_unsupported(running, filing)
        return 202, SPOOLED
    if placed.duplicate:
        running.deliveries.note(
            Delivery(
                ledger_id=ledger.ledger_id,
                received_at=receipt.received_at,
                duration_ms=duration_ms,
                position=placed.position,
            )
        )
    if running.announcements.may_tell(begun):
        log.info(
            "webhook_recorded",
            event_id=str(filing.events[0].event_id),
            trigger=filing.envelope.trigger,
            booking=filing.envelope.uid or filing.envelope.number,
            position=placed.position,
            duplicate=placed.duplicate,
            duration_ms=round(duration_ms, 1),
        )
    _refuse_unsupported(running, filing)
    return 200, msgspec.json.encode(
        {
            "status": "recorded",
            "event_id": filing.events[0].event_id,
            "ledger": ledger.name,
            "position": placed.position,
            "duplicate": placed.duplicate,
        }
    )


async def _keep(
    running: Running, ledger: Ledger, body: bytes, receipt: Receipt, *, filing: Filing, fresh_id: UUID
) -> Placed | None:
    """Where it stands in the log; None: it waits in the spool."""
    try:
        return (await running.appender.append(ledger.ledger_id, filing.events))[0]
    except (AppenderFull, StoreUnavailable):
        if running.spool is None:
            raise
        # With the same fresh id, since the log may have it all the same.
        await running.spool.put(ledger, body, receipt, fresh_id=fresh_id)
        booking = filing.envelope.uid or filing.envelope.number
        log.debug("webhook_spooled", trigger=filing.envelope.trigger, booking=booking)
        return None


def _refuse_unsupported(running: Running, filing: Filing) -> None:
    if running.settings.strict_events and filing.events[0].topic == UNRECOGNISED_TOPIC:
        raise EventUnsupported(filing.envelope.trigger)


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The raw body. Raises BodyTooLarge as soon as it is known to be, EncodingUnsupported, ClientGone.

    How long it may take is the server's affair (api/connections.py).
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > BODY_BYTES_MAX:
            raise BodyTooLarge(body_bytes_max=BODY_BYTES_MAX)
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise EncodingUnsupported
    message = await receive()
    body: bytes = message.get("body", b"")  # type: ignore[assignment]  # a union of messages, told apart by `type`
    if message["type"] == "http.request" and not message["more_body"]:
        return body
    parts, size_bytes = [body], len(body)
    while message["type"] == "http.request" and message["more_body"]:
        message = await receive()
        if message["type"] == "http.request":
            parts.append(message["body"])
            size_bytes += len(message["body"])
        if size_bytes > BODY_BYTES_MAX:
            raise BodyTooLarge(body_bytes_max=BODY_BYTES_MAX)
    if message["type"] != "http.request":
        raise ClientGone
    return b"".join(parts)


def _version(scope: Scope) -> str | None:
    """What Cal.com calls its payload version; unsigned, hence only noted."""
    version = next((value for name, value in scope["headers"] if name == VERSION_HEADER), None)
    if version is None or len(version) > VERSION_CHARACTERS_MAX or not version.isascii():
        return None
    text = version.decode()
    return text if text.isprintable() else None


def _elapsed_ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000


async def _refuse(send: Send, error: Exception, *, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    problem = problem_of(error)
    later = [(name.encode(), value.encode()) for name, value in retry_after(error, problem.status).items()]
    headers = [*(headers or []), *later]
    await _answer(send, problem.status, problem.encoded(), content_type=PROBLEM_JSON.encode(), headers=headers)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), NO_STORE]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *(headers or [])]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
