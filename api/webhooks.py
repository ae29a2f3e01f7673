"""Where Cal.com delivers: two ways to the same code, nothing between the socket and the signature check on either.

An ordinary delivery takes the short way (api/short_way.py). Every other comes through this ASGI handler, and so does
whoever only asks what is here.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache

import msgspec
from litestar import Litestar, asgi
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.auth import PUBLIC
from api.composition import Running
from api.recording import Arrival, concluded, kept, refusal, refused, verified
from api.short_way import Answer, Header, Later, ShortWay, Taken
from api.webhook_paths import WEBHOOK_PATHS
from ledger.errors import BodyTooLarge, BookingLedgerError, EncodingUnsupported
from ledger.store import Placed

BODY_BYTES_MAX = 1024 * 1024
NO_STORE = (b"cache-control", b"no-store")


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
        answer = await _receive(running, scope, receive)
    elif method in ("GET", "HEAD"):
        about = {
            "endpoint": "Cal.com webhooks",
            "how": "POST, signed in X-Cal-Signature-256; every trigger is welcome.",
            "secret_configured": bool(running.webhook_secrets),
        }
        answer = Answer(body=b"" if method == "HEAD" else msgspec.json.encode(about))
    else:
        answer = refusal(MethodNotAllowedException(), (b"allow", b"GET, HEAD, POST"))
    if answer is not None:
        await _send(send, answer)


async def _receive(running: Running, scope: Scope, receive: Receive) -> Answer | None:
    """The answer to a delivery; None: its sender is gone."""
    arrival, ledger_name = _arriving(), scope["path"].strip("/")
    try:
        body = await _read_body(scope, receive)
        delivery = verified(running, ledger_name, scope["headers"], body, arrival)
    except ClientGone:
        running.meter.count_abandoned()
        return None
    except BookingLedgerError as error:
        return refused(running, ledger_name, error, arrival)
    return await kept(running, delivery, running.appender.append(delivery.ledger.ledger_id, delivery.filing.events))


def short_way(app: Litestar) -> ShortWay:
    """How ordinary deliveries come past the application."""
    paths = "|".join(map(re.escape, WEBHOOK_PATHS))

    @cache
    def running() -> Running:
        """There as soon as the server takes connections. To ask Litestar each time costs a delivery 1 %."""
        found: Running = app.state.running
        return found

    def take(ledger_name: str, headers: Iterable[Header], body: bytes) -> Taken:
        return _take(running(), ledger_name, headers, body)

    def miss() -> None:
        running().meter.count_abandoned()

    return ShortWay(path=re.compile(f"(?:{paths})(?:/([a-z0-9-]+))?".encode()), take=take, fail=refusal, miss=miss)


def _take(running: Running, ledger_name: str, headers: Iterable[Header], body: bytes) -> Taken:
    """What `_receive` does, without a task of its own as long as only the commit is to be waited for."""
    arrival = _arriving()
    try:
        delivery = verified(running, ledger_name, headers, body, arrival)
    except BookingLedgerError as error:
        return refused(running, ledger_name, error, arrival)
    events, ledger_id = delivery.filing.events, delivery.ledger.ledger_id
    placing = running.appender.offer(ledger_id, events)
    if placing is None:
        return kept(running, delivery, running.appender.append(ledger_id, events))

    def conclude(placing: asyncio.Future[list[Placed]]) -> Taken:
        if placing.exception() is not None:
            return kept(running, delivery, placing)
        return concluded(running, delivery, placing.result()[0])

    return Later(until=placing, then=conclude)


def _arriving() -> Arrival:
    return Arrival(received_at=datetime.now(UTC), begun=time.perf_counter())


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


async def _send(send: Send, answer: Answer) -> None:
    content = [(b"content-type", answer.content_type), (b"content-length", str(len(answer.body)).encode()), NO_STORE]
    await send({"type": "http.response.start", "status": answer.status, "headers": [*content, *answer.headers]})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
