"""A real server under forged, garbled and slow senders, beside genuine ones; and what it kept of each, byte for byte.

At length, by hand, with the figures:

    pytest -m soak -s tests/test_forgeries_http.py
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import httpx
import msgspec
import pytest

from ledger.store import read_log
from ledger.vocabulary import LedgerId, Position
from tests.builders import minutes, webhook
from tests.fuzzing import fuzzed_body, fuzzed_headers
from tests.serving import (
    WEBHOOK,
    Server,
    connected,
    deliver,
    environment,
    exchange,
    serving,
    signed,
    speaking_to,
    until_current,
)

SENDERS = 16
READ_ROWS_MAX = 5_000
LAG_SECONDS_MAX = 600.0


# Headers


@pytest.mark.parametrize("shapes", [300, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_no_shape_of_headers_is_taken_for_a_proof_or_answered_by_a_failure(
    shared_server: Server, shapes: int
) -> None:
    rng = Random(10_000)
    body = webhook("BOOKING_CREATED", {"uid": "headers"})
    left, statuses = iter(range(shapes)), Counter[int]()

    async def send() -> None:
        for _ in left:
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in fuzzed_headers(rng))
            head = (
                f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n".encode()
            )
            try:
                answer = await exchange(shared_server, head + lines + b"\r\n" + body)
            except ConnectionError:
                answer = b"HTTP/1.1 400 closed before the rest was read"
            statuses[int(answer.split(b" ", 2)[1])] += 1

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    print(f"\n{shapes:,} shapes of headers: {dict(sorted(statuses.items()))}")  # noqa: T201  # the figures
    assert sum(statuses.values()) == shapes
    assert statuses.keys() <= {400, 401, 415, 429, 431}
    async with connected(shared_server.dsn) as log:
        assert await log.fetchval("SELECT count(*) FROM ledger.events WHERE stream_id = 'booking-headers'") == 0


# Bodies


@pytest.mark.parametrize("count", [600, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_every_signed_body_is_kept_byte_for_byte_whatever_it_is_and_no_other(
    durable_database: str, tmp_path: Path, count: int
) -> None:
    rng = Random(count)
    kept, others = list[bytes](), list[bytes]()
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http:
            numbers, statuses = iter(range(count)), Counter[tuple[bool, int]]()

            async def send() -> None:
                for number in numbers:
                    body, is_signed = fuzzed_body(rng, number), number % 2 == 0
                    (kept if is_signed else others).append(body)
                    headers = signed(body) if is_signed else signed(body, "another")
                    answer = await http.post(WEBHOOK, content=body, headers=headers)
                    statuses[is_signed, answer.status_code] += 1

            await asyncio.gather(*(send() for _ in range(SENDERS)))
        print(f"\n{count:,} bodies, (signed, status): {dict(sorted(statuses.items()))}")  # noqa: T201  # the figures
        async with connected(durable_database) as log:
            await until_current(log, seconds=LAG_SECONDS_MAX)
        assert "Traceback" not in server.printed(), server.printed()[-4_000:]
    assert {status for is_signed, status in statuses if is_signed} == {200}
    assert {status for is_signed, status in statuses if not is_signed} <= {401, 429}
    stored = await stored_bodies(durable_database)
    assert set(stored) == set(kept)
    assert set(others).isdisjoint(stored)


async def stored_bodies(dsn: str) -> Counter[bytes]:
    """How often each body of a delivery is in the log, opened."""
    stored, after = Counter[bytes](), Position(0)
    async with connected(dsn) as log:
        while events := await read_log(log, LedgerId(1), after=after, events_max=READ_ROWS_MAX):
            stored.update(event.body for event in events if event.source == "webhook" and event.body is not None)
            after = events[-1].position
        assert await log.fetchval("SELECT count(*) FROM ledger.events WHERE encoding = 0 AND source = 'webhook'") == 0
    return stored


# A storm


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    genuine: int
    forged: int
    slow: int
    p99_seconds_max: float


SMALL = Storm(genuine=400, forged=4_000, slow=200, p99_seconds_max=10.0)
FULL = Storm(genuine=10_000, forged=100_000, slow=500, p99_seconds_max=1.0)


@pytest.mark.parametrize("size", [SMALL, pytest.param(FULL, marks=pytest.mark.soak)], ids=["small", "full"])
async def test_no_genuine_delivery_is_refused_in_a_storm_of_forged_and_slow_ones(
    durable_database: str, tmp_path: Path, size: Storm
) -> None:
    with serving(durable_database, tmp_path) as server:
        storm = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.storming", str(server.port), str(size.forged), str(size.slow),
            cwd=Path(__file__).parent.parent, env=environment({}), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert storm.stdout is not None
        assert await storm.stdout.readline() == b"ready\n"
        ended = asyncio.create_task(storm.stdout.readline())
        begun_at = time.perf_counter()
        statuses, took = await deliver_beside(server, size.genuine, ended)
        refused = msgspec.json.decode(await ended, type=dict[int, int])
        seconds = time.perf_counter() - begun_at
        assert await storm.wait() == 0
    took.sort()
    p50, p99 = (took[len(took) * share // 100] for share in (50, 99))
    print(  # noqa: T201  # the figures
        f"\n{len(took):,} genuine beside {size.forged:,} forged and {size.slow} slow in {seconds:.1f} s: "
        f"{dict(statuses)}, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms; "
        f"forged: {refused}"
    )
    assert statuses.keys() == {200}
    assert len(took) >= size.genuine
    assert refused.keys() <= {401, 429}
    assert sum(refused.values()) == size.forged
    assert p99 < size.p99_seconds_max
    async with connected(durable_database) as log:
        assert await log.fetchval("SELECT count(*) FROM ledger.events") == len(took)


async def deliver_beside(
    server: Server, genuine: int, ended: "asyncio.Task[bytes]"
) -> tuple[Counter[int], list[float]]:
    """Genuine deliveries for as long as the storm lasts, and so many at least; the seconds each took."""
    statuses, took, numbers = Counter[int](), list[float](), itertools.count()

    async def send(http: httpx.AsyncClient) -> None:
        while len(took) < genuine or not ended.done():
            number = next(numbers)
            body = webhook("BOOKING_CREATED", {"uid": f"genuine{number}", "title": "Bath"}, at=minutes(number))
            begun_at = time.perf_counter()
            answer = await deliver(http, body)
            took.append(time.perf_counter() - begun_at)
            statuses[answer.status_code] += 1

    async with speaking_to(server) as http:
        await asyncio.gather(*(send(http) for _ in range(SENDERS)))
    return statuses, took
