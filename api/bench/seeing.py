"""How soon a delivery that was answered can be seen in `calendar_events`, while others come in at half the full rate.

Asked for by uid, again and again, from the moment of the answer. What `sync_lag` tells of all of them, from recording
to projecting, stands beside it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import uvloop

from api.bench.bodies import patterns
from api.bench.callers import P50, P99
from api.bench.load import LENGTH, SERIALS_A_RUN, Loaded, Order, head_of, loading, next_run
from api.bench.plan import Bench
from api.bench.projecting import catch_up
from api.bench.receiving import CONNECTIONS, checked, put_checked_load
from api.bench.rounds import Comparison, Contender, Sample, in_figure, keeping, percentile
from api.bench.servers import SECRET, Databases, Web, our_server
from ledger.errors import OperatorError
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

OURS = "ours, asked for by uid"
ALL_P50 = "all, recorded to projected, p50 ms"
ALL_P95 = "all, recorded to projected, p95 ms"
RATE = "requests/s meanwhile"
VISIBLE_P50_MS_GOAL = 20.0
VISIBLE_P99_MS_GOAL = 100.0
LOOK_AGAIN_SECONDS = 0.001
SEEN_SECONDS_MAX = 30.0


def compare_visibility(bench: Bench) -> list[Comparison]:
    databases = bench.databases()
    ours = Contender(
        name=OURS,
        run=lambda: _measure(databases, bench.plan.seconds),
        prepare=lambda: catch_up(databases.ours),
    )
    told = bench.compare(
        "answered to visible, p50 at half load",
        "ms",
        [ours],
        rounds=bench.plan.rounds_heavy,
        better="less",
        goals={OURS: VISIBLE_P50_MS_GOAL},
    )
    slowest = in_figure(
        told, P99, title="answered to visible, p99 at half load", unit="ms", goals={OURS: VISIBLE_P99_MS_GOAL}
    )
    return [keeping(told, ALL_P50, ALL_P95, RATE), slowest]


def _measure(databases: Databases, seconds: float) -> Sample:
    with our_server(databases.ours) as web:
        full = put_checked_load(web, CONNECTIONS, seconds)
        catch_up(databases.ours)
        taken, loaded, lag = uvloop.run(_probe(databases.ours, web, seconds, full.rate / 2))
    return Sample(
        value=percentile(taken, 0.5),
        figures={
            P50: percentile(taken, 0.5),
            P99: percentile(taken, 0.99),
            ALL_P50: lag["projected_p50_ms"],
            ALL_P95: lag["projected_p95_ms"],
            RATE: loaded.rate,
        },
    )


def _order(web: Web, seconds: float, rate: float) -> Order:
    return Order(port=web.port, secret=SECRET, run=next_run(), connections=CONNECTIONS, seconds=seconds, rate=rate)


async def _probe(dsn: str, web: Web, seconds: float, rate: float) -> tuple[list[float], Loaded, dict[str, float]]:
    """Deliveries of our own among the others, one after the other, each until it is seen.

    How long each took in milliseconds, in order of length.
    """
    first = next_run() * SERIALS_A_RUN
    taken: list[float] = []
    connection = await asyncpg.connect(dsn)
    try:
        async with _delivering(web) as deliver, loading(_order(web, seconds, rate)) as told:
            await connection.execute(SQL["forget_lag"])
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                uid = await deliver.send(first + len(taken))
                answered = time.perf_counter()
                await _until_seen(connection, uid)
                taken.append((time.perf_counter() - answered) * 1000)
            loaded = checked(await told())
        (lag,) = await connection.fetch(SQL["read_lag"])
        return sorted(taken), loaded, dict(lag)
    finally:
        await connection.close()


async def _until_seen(connection: asyncpg.Connection, uid: str) -> None:
    deadline = time.perf_counter() + SEEN_SECONDS_MAX
    while not await connection.fetchval(SQL["is_visible"], uid):
        if time.perf_counter() > deadline:
            raise OperatorError(f"A booking was not to be seen within {SEEN_SECONDS_MAX:g} s of its delivery.")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


class _Delivering:
    """One connection that is kept alive, one delivery at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, serial: int) -> str:
        """The uid of a delivery that has been answered."""
        chosen = patterns()
        body, uid = chosen[serial % len(chosen)].named(serial)
        self._writer.write(head_of(body, SECRET) + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        await self._reader.readexactly(int(head.partition(LENGTH)[2].split(b"\r", 1)[0]))
        return uid


@contextlib.asynccontextmanager
async def _delivering(web: Web) -> AsyncIterator[_Delivering]:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    try:
        yield _Delivering(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
