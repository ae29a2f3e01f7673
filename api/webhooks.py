"""Where Cal.com delivers: a bare ASGI handler, nothing between the socket and the signature check.

Verify on the raw bytes, file, wait for the commit, answer. A body is understood later; here it only has to be kept.
"""

import time
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import uuid4

import msgspec
import structlog
from litestar import asgi
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.auth import PUBLIC
from api.composition import Running
from api.deliveries import Delivery
from api.problems import PROBLEM_JSON, RETRY_AFTER_SECONDS, problem_of
from ledger.calcom.signature import verify
from ledger.calcom.triggers import UNRECOGNISED_TOPIC
from ledger.errors import BodyTooLarge, BookingLedgerError, EventUnsupported, SenderError, SignatureRefused
from ledger.filing import Receipt, file_delivery
from ledger.store import Ledger
from ledger.vocabulary import MAIN_LEDGER_NAME

BODY_BYTES_MAX = 1024 * 1024
VERSION_HEADER = b"x-cal-webhook-version"
VERSION_CHARACTERS_MAX = 32

WEBHOOK_PATHS = (
    "/api/webhooks/cal-com",
    "/api/webhooks/calcom",
    "/api/admin/scheduling/cal-com/webhook",
    "/api/cal/handle-cal-event",
)

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
        receipt = Receipt(received_at=received_at, secret=secret, version=_version(scope))
        answer = await _file(running, ledger, body, receipt, begun)
    except ClientGone:
        return
    except BookingLedgerError as error:
        if isinstance(error, SenderError) and not isinstance(error, EventUnsupported):
            reason = error.reason if isinstance(error, SignatureRefused) else type(error).__name__
            noted = ledger or running.ledgers[MAIN_LEDGER_NAME]
            running.deliveries.note(
                Delivery(
                    ledger_id=noted.ledger_id, received_at=received_at, duration_ms=_elapsed_ms(begun), reason=reason
                )
            )
            log.info("webhook_refused", reason=reason, ledger=noted.name)
        await _refuse(send, error)
        return
    await _answer(send, 200, answer)


async def _file(running: Running, ledger: Ledger, body: bytes, receipt: Receipt, begun: float) -> bytes:
    """The delivery is committed; the body of the answer."""
    filing = file_delivery(ledger, body, receipt, fresh_id=uuid4())
    placed = (await running.appender.append(ledger.ledger_id, filing.events))[0]
    duration_ms = _elapsed_ms(begun)
    if placed.duplicate:
        running.deliveries.note(
            Delivery(
                ledger_id=ledger.ledger_id,
                received_at=receipt.received_at,
                duration_ms=duration_ms,
                position=placed.position,
            )
        )
    log.debug(
        "webhook_recorded",
        event_id=str(filing.events[0].event_id),
        trigger=filing.envelope.trigger,
        booking=filing.envelope.uid or filing.envelope.number,
        position=placed.position,
        duplicate=placed.duplicate,
        duration_ms=round(duration_ms, 1),
    )
    if running.settings.strict_events and filing.events[0].topic == UNRECOGNISED_TOPIC:
        raise EventUnsupported(filing.envelope.trigger)
    return msgspec.json.encode(
        {
            "status": "recorded",
            "event_id": filing.events[0].event_id,
            "ledger": ledger.name,
            "position": placed.position,
            "duplicate": placed.duplicate,
        }
    )


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The raw body. Raises BodyTooLarge as soon as it is known to be, ClientGone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > BODY_BYTES_MAX:
            raise BodyTooLarge(body_bytes_max=BODY_BYTES_MAX)
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
    headers = headers or []
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = [*headers, (b"retry-after", str(RETRY_AFTER_SECONDS).encode())]
    await _answer(send, problem.status, problem.encoded(), content_type=PROBLEM_JSON.encode(), headers=headers)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *(headers or [])]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
