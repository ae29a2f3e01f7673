"""Load over HTTP, put by a process of its own: signed webhooks, each about another booking.

Closed loop: every connection sends its next request when it is answered. Open loop: requests are sent at a rate,
whether or not others are answered, a few each millisecond; the time of an answer counts from the millisecond in which
the request was due, however late it could be sent, so a server that stalls is charged for everybody it kept waiting.

How much of a processor the generator took, and how late it was, is part of what it tells. What it can do at most shows
beside a server that reads nothing (api/bench/peers/unread.py).
"""

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import msgspec

from api.bench.bodies import patterns
from ledger.calcom.signature import sign

PATH = "/api/webhooks/cal-com"
SECONDS_OVERHEAD_MAX = 120.0
SERIALS_A_RUN = 10**6
next_run = itertools.count(1).__next__
"""A number for each load that this process orders."""
COMMAND = (sys.executable, "-m", "api.bench.generator")
BEGUN = b"begun\n"
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` is in requests a second; without one it is a closed loop. No two runs name the same bookings.

    `distinct` is for servers that keep what they get: no two requests of the run name the same booking either.
    """

    port: int
    secret: str
    run: int
    connections: int
    seconds: float
    warm_seconds: float = 0.3
    rate: float | None = None
    distinct: bool = True


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. `statuses` are of all answers, the warming-up's too; the rest is of the time that counts.

    `lost` requests never got an answer. `late_ms` is how late, at the median, the generator was with what it was to
    send; `processor_share` is what it used of one processor.
    """

    statuses: dict[str, int]
    lost: int
    rate: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    processor_share: float


def put_load(order: Order) -> Loaded:
    """What came of it, seen by a process of its own."""
    ended = subprocess.run(
        COMMAND,
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        timeout=order.seconds + SECONDS_OVERHEAD_MAX,
        check=True,
    )
    return msgspec.json.decode(ended.stdout.removeprefix(BEGUN), type=Loaded)


@contextlib.asynccontextmanager
async def loading(order: Order) -> AsyncIterator[Callable[[], Awaitable[Loaded]]]:
    """The load has begun to count when the block does; awaiting what is given tells what came of it."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    # Both were asked for.
    stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    stdin.write(msgspec.json.encode(order))
    stdin.close()

    async def told() -> Loaded:
        return msgspec.json.decode(await stdout.read(), type=Loaded)

    try:
        async with asyncio.timeout(order.seconds + SECONDS_OVERHEAD_MAX):
            await stdout.readline()
            yield told
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def request_of(order: Order, serial: int) -> bytes:
    """The delivery of a booking that nobody else has, ready to be sent."""
    chosen = patterns()
    body, _ = chosen[serial % len(chosen)].named(order.run * SERIALS_A_RUN + serial)
    return head_of(body, order.secret) + body


def head_of(body: bytes, secret: str) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-cal-signature-256: {sign(body, secret.encode())}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
