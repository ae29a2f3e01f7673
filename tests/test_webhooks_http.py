"""Deliveries over HTTP, to a real server: what is kept, what is refused and in which words, and what harms nobody."""

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from ledger.store import RecordedEvent, read_log
from ledger.vocabulary import Position
from tests.builders import MAIN, minutes, webhook, whole_log
from tests.serving import (
    SECRET,
    SIGNATURE,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    exchange,
    parked,
    serving,
    signed,
    speaking_to,
    until,
    until_current,
)

PATHS = (
    "/api/webhooks/cal-com",
    "/api/webhooks/calcom",
    "/api/admin/scheduling/cal-com/webhook",
    "/api/cal/handle-cal-event",
)
BODY_BYTES_MAX = 1024 * 1024
HANG_UPS = 20
SENDERS = 40

_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key, as Cal.com is."""
    async with speaking_to(shared_server, key=None) as client:
        yield client


@pytest_asyncio.fixture
async def log(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


def fresh_body(**fields: object) -> bytes:
    """A booking that nobody has sent before."""
    number = next(_numbers)
    return webhook("BOOKING_CREATED", {"uid": f"booking{number}", "title": "Bath", **fields}, at=minutes(number))


async def head(log: asyncpg.Connection) -> int:
    position: int = await log.fetchval("SELECT position FROM ledger.ledgers WHERE name = 'main'")
    return position


async def last_event(log: asyncpg.Connection) -> RecordedEvent:
    [event] = await read_log(log, MAIN, after=Position(await head(log) - 1), events_max=1)
    return event


# What is kept


@pytest.mark.parametrize("path", [path + suffix for path in PATHS for suffix in ("", "/main")])
async def test_a_signed_delivery_is_recorded_under_every_address(
    http: httpx.AsyncClient, log: asyncpg.Connection, path: str
) -> None:
    body = fresh_body()
    answer = await deliver(http, body, path=path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    event = await last_event(log)
    assert answer.json() == {
        "status": "recorded",
        "event_id": str(event.event_id),
        "ledger": "main",
        "position": await head(log),
        "duplicate": False,
    }
    assert (event.body, event.topic, event.source) == (body, "calcom.booking_created", "webhook")


async def test_an_exact_repeat_is_answered_with_the_first_ones_position(
    http: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    body = fresh_body()
    first = (await deliver(http, body)).json()
    await deliver(http, fresh_body())
    before = await head(log)
    again = await deliver(http, body, path="/api/webhooks/calcom/main")
    assert again.status_code == 200
    assert again.json() == first | {"duplicate": True}
    assert await head(log) == before


async def test_a_body_without_a_time_of_its_own_counts_every_time(
    http: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "timeless", "title": "A, then B, then A again"}, at=None)
    first, second = (await deliver(http, body)).json(), (await deliver(http, body)).json()
    assert (first["duplicate"], second["duplicate"]) == (False, False)
    assert second["position"] == first["position"] + 1 == await head(log)


async def test_of_many_senders_of_one_delivery_at_once_all_learn_of_one_event(
    http: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    body, before = fresh_body(), await head(log)
    answers = [answer.json() for answer in await asyncio.gather(*(deliver(http, body) for _ in range(SENDERS)))]
    assert {answer["position"] for answer in answers} == {before + 1}
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    assert await head(log) == before + 1


async def test_the_version_of_the_payload_is_noted_where_it_can_be_read(
    http: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    noted = []
    for version in (b"2021-10-20", b"x" * 100, b"\xff"):
        body = fresh_body()
        headers = [(NAME, signed(body)[SIGNATURE].encode()), (b"x-cal-webhook-version", version)]
        answer = await http.post(WEBHOOK, content=body, headers=headers)
        assert answer.status_code == 200
        noted.append(
            await log.fetchval("SELECT metadata::jsonb->>'v' FROM ledger.events ORDER BY position DESC LIMIT 1")
        )
    assert noted == ["2021-10-20", None, None]


# Signatures


def test_the_signature_is_an_hmac_over_the_raw_body() -> None:
    body = fresh_body()
    assert signed(body)[SIGNATURE] == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "variant",
    [
        lambda right: {SIGNATURE: right},
        lambda right: {SIGNATURE: right.upper()},
        lambda right: {SIGNATURE: f"sha256={right}"},
        lambda right: {"X-Cal-Signature": right},
    ],
    ids=["as Cal.com sends it", "upper case", "with a prefix", "the older header"],
)
async def test_a_right_signature_is_understood_as_senders_write_it(http: httpx.AsyncClient, variant: Any) -> None:
    body = fresh_body()
    answer = await http.post(WEBHOOK, content=body, headers=variant(signed(body)[SIGNATURE]))
    assert answer.status_code == 200
    assert answer.json()["duplicate"] is False


NAME, OLDER_NAME = SIGNATURE.encode(), b"x-cal-signature"

WRONG_SIGNATURES: dict[str, tuple[str, Callable[[bytes], list[tuple[bytes, bytes]]]]] = {
    "none": ("missing", lambda _: []),
    "sent twice": ("repeated", lambda right: [(NAME, right), (NAME, right)]),
    "sent under two names": ("repeated", lambda right: [(NAME, right), (OLDER_NAME, right)]),
    "no secret at Cal.com": ("no_secret_provided", lambda _: [(NAME, b"no-secret-provided")]),
    "empty": ("malformed", lambda _: [(NAME, b"")]),
    "one digit short": ("malformed", lambda right: [(NAME, right[:-1])]),
    "one digit long": ("malformed", lambda right: [(NAME, right + b"0")]),
    "not hexadecimal": ("malformed", lambda right: [(NAME, b"g" + right[1:])]),
    "digits of another script": ("malformed", lambda _: [(NAME, "٣".encode() * 32)]),
    "bytes above ASCII": ("malformed", lambda _: [(NAME, b"\xff" * 64)]),
    "two in one header": ("malformed", lambda right: [(NAME, right + b", " + right)]),
    "a prefix alone": ("malformed", lambda _: [(NAME, b"sha256=")]),
    "one bit off": ("mismatch", lambda right: [(NAME, (b"1" if right[:1] == b"0" else b"0") + right[1:])]),
    "of another body": ("mismatch", lambda _: [(NAME, signed(b"{}")[SIGNATURE].encode())]),
    "all zeros": ("mismatch", lambda _: [(NAME, b"0" * 64)]),
}


@pytest.mark.parametrize("name", WRONG_SIGNATURES)
async def test_a_delivery_whose_signature_proves_nothing_is_refused(
    http: httpx.AsyncClient, log: asyncpg.Connection, name: str
) -> None:
    body, before = fresh_body(), await head(log)
    right = signed(body)[SIGNATURE]
    answer = await http.post(WEBHOOK, content=body, headers=WRONG_SIGNATURES[name][1](right.encode()))
    assert_is_problem(answer, 401)
    assert SECRET not in answer.text
    assert right not in answer.text
    assert await head(log) == before


async def test_refused_deliveries_leave_a_line_each_in_the_logs_and_nothing_else(
    http: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    body, before, begun = fresh_body(title="Rosebud"), await head(log), datetime.now(UTC)
    for _, variant in WRONG_SIGNATURES.values():
        await http.post(WEBHOOK, content=body, headers=variant(signed(body)[SIGNATURE].encode()))

    async def told() -> list[asyncpg.Record]:
        return await log.fetch(
            """
            SELECT webhook_type, payload, status, error_message, duplicate, cal_com_event_id, duration_ms >= 0 AS timed
            FROM webhook_logs WHERE created_at > $1 AND webhook_type = 'refused' ORDER BY created_at
            """,
            begun,
        )

    async def is_all_told() -> bool:
        return len(await told()) == len(WRONG_SIGNATURES)

    await until(is_all_told)
    reasons = [reason for reason, _ in WRONG_SIGNATURES.values()]
    assert [tuple(row) for row in await told()] == [
        ("refused", None, "error", reason, False, None, True) for reason in reasons
    ]
    assert await head(log) == before
    assert [event.position for event in await whole_log(log) if b"Rosebud" in event.body] == []


async def test_a_body_with_one_bit_changed_is_refused(http: httpx.AsyncClient, log: asyncpg.Connection) -> None:
    body, before = fresh_body(), await head(log)
    headers = signed(body)
    for place in range(0, len(body), 7):
        changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        assert_is_problem(await http.post(WEBHOOK, content=changed, headers=headers), 401)
    assert await head(log) == before


@pytest.mark.parametrize("name", ["nobody", "MAIN", "main%00", "%F0%9F%90%BE", "x" * 2_000, "1"])
async def test_a_ledger_that_is_not_there_answers_like_a_wrong_secret(
    http: httpx.AsyncClient, log: asyncpg.Connection, name: str
) -> None:
    body, before = fresh_body(), await head(log)

    def told(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
        return answer.status_code, answer.content, [pair for pair in answer.headers.multi_items() if pair[0] != "date"]

    wrong_secret = told(await http.post(WEBHOOK, content=body, headers=signed(body, "another")))
    assert wrong_secret[0] == 401
    assert told(await http.post(f"{WEBHOOK}/{name}", content=body, headers=signed(body))) == wrong_secret
    assert told(await http.post(f"{WEBHOOK}/{name}", content=body, headers=signed(body, "another"))) == wrong_secret
    assert told(await http.post(f"{WEBHOOK}/{name}", content=body)) == told(await http.post(WEBHOOK, content=body))
    assert await head(log) == before


async def test_every_active_secret_is_good_and_the_log_notes_which_it_was(
    durable_database: str, tmp_path: Path
) -> None:
    both = serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="old,new", CALCOM_WEBHOOK_SECRET="third")
    with both as server:
        async with speaking_to(server, key=None) as http, connected(durable_database) as log:
            for secret, status in (("new", 200), ("old", 200), ("third", 200), ("old,new", 401), ("", 401)):
                body = fresh_body()
                answer = await http.post(WEBHOOK, content=body, headers=signed(body, secret))
                assert answer.status_code == status, secret
            rows = await log.fetch(
                "SELECT coalesce(metadata::jsonb->>'secret', '0') AS n FROM ledger.events ORDER BY position"
            )
            assert [row["n"] for row in rows] == ["1", "0", "2"]


# Size and method


@pytest.mark.parametrize("chunk_bytes", [None, 1_000, 70_000], ids=["declared", "small chunks", "large chunks"])
async def test_a_mebibyte_is_kept_and_one_byte_more_is_refused(
    http: httpx.AsyncClient, log: asyncpg.Connection, chunk_bytes: int | None
) -> None:
    def sent(body: bytes) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for place in range(0, len(body), chunk_bytes or 1):
                yield body[place : place + (chunk_bytes or 1)]

        return http.post(WEBHOOK, content=body if chunk_bytes is None else chunks(), headers=signed(body))

    largest = fresh_body().ljust(BODY_BYTES_MAX)
    assert (await sent(largest)).status_code == 200
    assert (await last_event(log)).body == largest
    before = await head(log)
    assert "1,048,576" in assert_is_problem(await sent(largest + b" "), 413)
    assert (await deliver(http, largest)).json()["duplicate"] is True
    assert await head(log) == before


async def test_a_declared_length_that_is_too_large_is_refused_before_anything_is_sent(shared_server: Server) -> None:
    request = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2000000\r\n\r\n"
    assert (await exchange(shared_server, request.encode())).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", [path + suffix for path in PATHS for suffix in ("", "/main", "/nobody")])
async def test_a_look_at_the_address_says_what_it_is_and_tells_no_secrets(http: httpx.AsyncClient, path: str) -> None:
    seen = await http.get(path)
    assert (seen.status_code, seen.headers["content-type"]) == (200, "application/json")
    told = seen.json()
    assert told["secret_configured"] is True
    assert "Cal.com" in told["endpoint"]
    assert SECRET not in seen.text
    assert [value for value in told.values() if type(value) in (int, float)] == [], "no counts"
    glanced = await http.head(path)
    assert (glanced.status_code, glanced.content) == (200, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_are_told_which_ones_there_are(
    http: httpx.AsyncClient, log: asyncpg.Connection, method: str
) -> None:
    body, before = fresh_body(), await head(log)
    answer = await http.request(method, WEBHOOK, content=body, headers=signed(body))
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "HEAD", "POST"}
    assert_is_problem(answer, 405)
    assert await head(log) == before


# Senders that break off or talk nonsense


MALFORMED = {
    "a length that is no number": b"content-length: many\r\n\r\n{}",
    "a negative length": b"content-length: -1\r\n\r\n{}",
    "a length with a sign": b"content-length: +2\r\n\r\n{}",
    "a length of 5,000 digits": b"content-length: " + b"9" * 5_000 + b"\r\n\r\n{}",
    "two lengths": b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a length and chunks": b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size that is no number": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a header without a colon": b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_is_the_senders_problem_alone(
    shared_server: Server, http: httpx.AsyncClient, log: asyncpg.Connection, name: str
) -> None:
    before = await head(log)
    start = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{SIGNATURE}: {signed(b'{}')[SIGNATURE]}\r\n"
    answer = await exchange(shared_server, start.encode() + MALFORMED[name])
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413"), answer
    assert await head(log) == before
    assert (await deliver(http, fresh_body())).status_code == 200


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.parametrize("framing", ["content-length: 1000\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n5\r\n{}"])
async def test_a_sender_who_hangs_up_in_the_middle_of_a_body_harms_nobody(
    shared_server: Server, http: httpx.AsyncClient, log: asyncpg.Connection, framing: str, ending: str
) -> None:
    before = await head(log)
    for _ in range(HANG_UPS):
        with contextlib.closing(socket.create_connection(("127.0.0.1", shared_server.port))) as sender:
            sender.sendall(f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\n{framing}".encode())
            if ending == "reset":
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answers = await asyncio.gather(*(deliver(http, fresh_body()) for _ in range(HANG_UPS)))
    assert {answer.status_code for answer in answers} == {200}
    assert await head(log) == before + HANG_UPS
    await until_current(log)
    assert await parked(log) == []
