"""What a stranger can do to a real server, and what every answer tells a browser."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import cast

import asyncpg
import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api.deliveries import UNVERIFIED, Delivery, DeliveryLog
from tests.builders import MAIN, NOON, minutes, webhook
from tests.serving import (
    KEY,
    SECRET,
    SIGNATURE,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    exchange,
    run,
    serving,
    signed,
    speaking_to,
    until,
)

STRICT = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "object-src 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
}
SLOW_CONNECTIONS = 300
GENUINE = 60
BODY = webhook("BOOKING_CREATED", {"uid": "one", "title": "Bath"}, at=minutes(1))


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


def body_of(number: int) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": f"booking{number}", "title": "Bath"}, at=minutes(number))


# What every answer tells


REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes, int]] = {
    "a delivery": ("POST", WEBHOOK, signed(BODY), BODY, 200),
    "a forged delivery": ("POST", WEBHOOK, signed(BODY, "another"), BODY, 401),
    "a look at the webhook's address": ("GET", WEBHOOK, {}, b"", 200),
    "a glance at the webhook's address": ("HEAD", WEBHOOK, {}, b"", 200),
    "another method on the webhook's address": ("PUT", WEBHOOK, {}, b"", 405),
    "an answer": ("GET", "/api/bookings", {}, b"", 200),
    "an answer to nobody": ("GET", "/api/bookings", {"authorization": "Bearer wrong"}, b"", 401),
    "nothing there": ("GET", "/nothing/here", {}, b"", 404),
    "another method": ("DELETE", "/api/bookings", {}, b"", 405),
    "a wrong question": ("GET", "/api/bookings?limit=many", {}, b"", 400),
    "alive": ("GET", "/livez", {}, b"", 200),
    "the description": ("GET", "/schema/openapi.json", {}, b"", 200),
    "no description": ("GET", "/schema/none", {}, b"", 404),
    "a wrong password": ("POST", "/api/session", {}, b'{"name":"nobody","password":"wrong"}', 401),
    "a question about methods": ("OPTIONS", "/api/bookings", {}, b"", 204),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_answer_carries_the_same_strict_headers(http: httpx.AsyncClient, name: str) -> None:
    method, path, headers, body, status = REQUESTS[name]
    answer = await http.request(method, path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    assert_is_strict(answer.headers)


def assert_is_strict(headers: httpx.Headers) -> None:
    once = {name: headers.get_list(name) for name in headers}
    assert [name for name, values in once.items() if len(values) > 1 and name != "set-cookie"] == []
    assert once["cache-control"] == ["no-store"]
    assert once["x-content-type-options"] == ["nosniff"]
    assert once["referrer-policy"] == ["no-referrer"]
    assert once["cross-origin-opener-policy"] == ["same-origin"]
    assert once["cross-origin-resource-policy"] == ["same-origin"]
    assert set(headers["content-security-policy"].split("; ")) == STRICT
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(headers["permissions-policy"].split(", "))
    assert "server" not in headers
    assert [
        name for name in headers if "version" in name or "powered" in name or name.startswith("access-control")
    ] == []


@pytest.mark.parametrize(
    ("request_line", "statuses"),
    [
        (b"HELO example", (400,)),
        (b"GET /api/bookings HTTP/9.9", (400,)),
        (b"TRACE /api/bookings HTTP/1.1", (405,)),
        (b"TRACE /api/webhooks/cal-com HTTP/1.1", (405,)),
        (b"TRACE / HTTP/1.1", (404, 405)),
        (b"CONNECT example.com:443 HTTP/1.1", (400, 404, 405)),
        (b"PROPFIND /api/bookings HTTP/1.1", (400, 405)),
        (b"FETCH /api/bookings HTTP/1.1", (400, 405)),
        (b"PURGE /api/bookings HTTP/1.1", (400, 405)),
        (b"PATCH /livez HTTP/1.1", (405,)),
    ],
)
async def test_a_method_that_has_no_use_is_refused_with_the_same_headers(
    shared_server: Server, request_line: bytes, statuses: tuple[int, ...]
) -> None:
    answer = await exchange(
        shared_server, request_line + b"\r\nhost: x\r\nx-secret: hunter2\r\nconnection: close\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert int(first.split(" ")[1]) in statuses, answer
    assert_is_strict(httpx.Headers([(name, value) for name, _, value in (line.partition(": ") for line in lines)]))
    assert b"hunter2" not in body


async def test_a_question_of_another_origin_is_not_encouraged(http: httpx.AsyncClient) -> None:
    for method, path in (("OPTIONS", "/api/bookings"), ("GET", "/api/bookings"), ("OPTIONS", WEBHOOK)):
        headers = {"origin": "https://evil.example", "access-control-request-method": "GET"}
        answer = await http.request(method, path, headers=headers)
        assert [name for name in answer.headers if name.startswith("access-control")] == []
        assert "evil" not in str(answer.headers) + answer.text


async def test_where_the_outside_comes_by_https_browsers_are_told_to_stay_with_it(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, PUBLIC_URL="https://ledger.example") as server:
        async with speaking_to(server) as http:
            told = (await http.get("/livez")).headers["strict-transport-security"]
    seconds, *rest = told.split("; ")
    assert int(seconds.removeprefix("max-age=")) >= 365 * 24 * 3600
    assert rest == ["includeSubDomains"]


async def test_without_https_nobody_is_told_so(http: httpx.AsyncClient) -> None:
    assert "strict-transport-security" not in (await http.get("/livez")).headers


# What a crash leaves behind


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="only Linux tells a process's limits there")
def test_a_crash_leaves_no_copy_of_the_memory(shared_server: Server) -> None:
    limits = Path(f"/proc/{shared_server.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


# Deliveries that prove nothing


SHAPES: tuple[Callable[[str], list[tuple[str, str]]], ...] = (
    lambda _: [],
    lambda _: [(SIGNATURE, "")],
    lambda _: [(SIGNATURE, "no-secret-provided")],
    lambda right: [(SIGNATURE, right), (SIGNATURE, right)],
    lambda right: [(SIGNATURE, right), ("x-cal-signature", right)],
    lambda right: [(SIGNATURE, right[:-1])],
    lambda right: [(SIGNATURE, right + "0")],
    lambda right: [(SIGNATURE, f"sha512={right}")],
    lambda right: [(SIGNATURE, f"{right}, {right}")],
    lambda right: [(SIGNATURE, right[::-1])],
    lambda _: [(SIGNATURE, "0" * 64)],
    lambda right: [("x-hub-signature-256", f"sha256={right}")],
)


async def test_twelve_shapes_of_a_header_that_proves_nothing_are_refused(
    shared_server: Server, http: httpx.AsyncClient
) -> None:
    async with connected(shared_server.dsn) as log:
        before = await log.fetchval("SELECT count(*) FROM ledger.events")
        for number, shape in enumerate(SHAPES, start=1):
            headers = shape(signed(body_of(number))[SIGNATURE])
            assert_is_problem(await http.post(WEBHOOK, content=body_of(number), headers=headers), 401)
        assert await log.fetchval("SELECT count(*) FROM ledger.events") == before


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "compress", "x-gzip", "GZIP", "gzip, identity"])
async def test_a_compressed_body_is_refused_however_it_is_signed(http: httpx.AsyncClient, encoding: str) -> None:
    headers = {**signed(BODY), "content-encoding": encoding}
    assert "Content-Encoding" in assert_is_problem(await http.post(WEBHOOK, content=BODY, headers=headers), 415)


async def test_a_body_that_says_it_is_not_compressed_is_taken(http: httpx.AsyncClient) -> None:
    headers = {**signed(BODY), "content-encoding": "identity"}
    assert (await http.post(WEBHOOK, content=BODY, headers=headers)).status_code == 200


@pytest.mark.system("3.12")
async def test_a_storm_of_forged_deliveries_is_only_counted_and_stops_no_genuine_one(
    durable_database: str, tmp_path: Path
) -> None:
    a_storm = UNVERIFIED.at_once + 500
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http:
            storm = asyncio.create_task(ahead(server, a_storm, BODY, signed(BODY, "another")))
            genuine = 0
            while not storm.done():
                assert (await deliver(http, body_of(genuine))).status_code == 200
                genuine += 1
            statuses = await storm
            unheard = await http.post(WEBHOOK, content=BODY, headers=signed(BODY, "another"))
            again = await http.post(WEBHOOK, content=b"{}")
            assert (await deliver(http, body_of(genuine))).status_code == 200
            assert_is_problem(await http.get("/api/bookings/nothing"), 404)
        server.stop()
        assert "Traceback" not in server.printed()
    assert_is_problem(unheard, 429)
    assert unheard.headers["retry-after"] == "60"
    assert_is_strict(unheard.headers)
    assert (again.status_code, again.content) == (429, unheard.content)
    assert statuses.keys() == {401, 429}
    assert sum(statuses.values()) == a_storm
    assert UNVERIFIED.at_once <= statuses[401] < UNVERIFIED.at_once + 100  # some more as time goes by
    async with connected(durable_database) as log:
        assert await log.fetchval("SELECT count(*) FROM ledger.deliveries") == statuses[401]
        assert await log.fetchval("SELECT count(*) FROM ledger.events") == genuine + 1


def test_how_many_were_only_counted_is_told_once_a_minute() -> None:
    deliveries = DeliveryLog(cast("asyncpg.Pool", None))
    delivery = Delivery(ledger_id=MAIN, received_at=NOON, duration_ms=1.0, reason="mismatch")
    with capture_logs() as told:
        noted = [deliveries.note_unverified(delivery, now=0.0) for _ in range(UNVERIFIED.at_once + 7)]
        for now in (0.0, 30.0, 59.0):
            deliveries.tell(now)
        deliveries.note_unverified(delivery, now=0.0)
        for now in (61.0, 200.0):
            deliveries.tell(now)
    assert noted == [True] * UNVERIFIED.at_once + [False] * 7
    assert [(one["event"], one["unverified"]) for one in told] == [
        ("deliveries_only_counted", 7),
        ("deliveries_only_counted", 1),
    ]


async def test_without_a_secret_a_storm_is_still_told_what_is_missing(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="") as server:
        assert await ahead(server, UNVERIFIED.at_once + 100, BODY, {}) == {503: UNVERIFIED.at_once + 100}


async def test_a_delivery_that_was_verified_costs_that_budget_nothing(
    shared_server: Server, http: httpx.AsyncClient
) -> None:
    number = UNVERIFIED.at_once + 100
    assert await ahead(shared_server, number, BODY, signed(BODY)) == {200: number}
    assert_is_problem(await http.post(WEBHOOK, content=BODY, headers=signed(BODY, "another")), 401)


async def ahead(server: Server, number: int, body: bytes, headers: Mapping[str, str]) -> Counter[int]:
    """How often each status was the answer to so many equal deliveries, sent ahead over one connection."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n".encode()
    last = request + b"connection: close\r\n\r\n" + body
    answers = await exchange(server, (request + b"\r\n" + body) * (number - 1) + last)
    return Counter(int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers))


# Slow senders


@contextlib.asynccontextmanager
async def slow(server: Server, number: int, begun: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that have sent this and then nothing."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", server.port) for _ in range(number)))
    try:
        for _, writer in opened:
            writer.write(begun)
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


HALF_A_HEAD = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nx-slow: ".encode()
HALF_A_BODY = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{".encode()


@pytest.mark.parametrize("begun", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["nothing", "half a head", "half a body"])
async def test_slow_senders_do_not_stop_genuine_ones(
    shared_server: Server, http: httpx.AsyncClient, begun: bytes
) -> None:
    async with slow(shared_server, SLOW_CONNECTIONS, begun):
        begun_at = time.monotonic()
        answers = await asyncio.gather(*(deliver(http, body_of(number)) for number in range(GENUINE)))
        took_seconds = time.monotonic() - begun_at
    assert {answer.status_code for answer in answers} == {200}
    assert took_seconds < 10, "an order of magnitude more than it takes"


async def test_what_does_not_come_within_ten_seconds_is_waited_for_no_longer(shared_server: Server) -> None:
    async def last_words(reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(25):
            return await reader.read()

    async with (
        slow(shared_server, 1, b"") as silent,
        slow(shared_server, 2, HALF_A_HEAD) as heads,
        slow(shared_server, 2, HALF_A_BODY) as bodies,
    ):
        begun_at = time.monotonic()
        nothing, *answers = await asyncio.gather(*(last_words(reader) for reader in [*silent, *heads, *bodies]))
        took_seconds = time.monotonic() - begun_at
    assert nothing == b""
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nx-content-type-options: nosniff\r\n" in answer
        assert b'"status":408' in answer
    assert 5 < took_seconds < 25


# Secrets in use


async def test_doctor_tells_when_each_secret_was_last_used_and_never_the_secret(
    durable_database: str, tmp_path: Path
) -> None:
    secrets = f"an-old-one,{SECRET}"
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET=secrets) as server:
        async with speaking_to(server) as http:
            assert (await http.post(WEBHOOK, content=BODY, headers=signed(BODY, "a-forged-one"))).status_code == 401
            assert (await deliver(http, BODY)).status_code == 200
        server.stop()
    told = run("doctor", DATABASE_URL=durable_database, CAL_COM_WEBHOOK_SECRET=secrets).stdout
    (line,) = [line for line in told.splitlines() if "secret 2 of 2" in line]
    first, second = line.split("; ")
    assert first.endswith("never used")
    assert "last used 20" in second
    assert SECRET not in told
    assert "an-old-one" not in told
    async with connected(durable_database) as connection:
        kept = await connection.fetch("SELECT fingerprint FROM access.webhook_secrets")
        assert [len(row["fingerprint"]) for row in kept] == [4]


def test_doctor_lists_every_route_that_asks_for_no_key(durable_cluster: str) -> None:
    told = run("doctor", DATABASE_URL=durable_cluster, INTERNAL_API_KEY=KEY).stdout
    (line,) = [line for line in told.splitlines() if line.split()[1:2] == ["public"]]
    for route in ("ANY /api/webhooks/cal-com", "GET /livez", "GET /readyz", "POST /api/session"):
        assert route in line
    assert "/api/bookings" not in line


async def test_who_was_refused_is_in_the_logs_as_before(shared_server: Server, http: httpx.AsyncClient) -> None:
    assert_is_problem(await http.post(WEBHOOK, content=BODY, headers={**signed(BODY), "content-encoding": "br"}), 415)
    async with connected(shared_server.dsn) as log:

        async def is_told() -> bool:
            return bool(await _reasons(log) & {"EncodingUnsupported"})

        await until(is_told)


async def _reasons(log: asyncpg.Connection) -> set[str]:
    return {row["reason"] for row in await log.fetch("SELECT reason FROM ledger.deliveries")}
