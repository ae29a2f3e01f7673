"""From the spool into the log: everything, once, in order, into its own ledger, and past what is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from ledger.draining import Drain
from ledger.filing import Receipt
from ledger.postgres import open_pool
from ledger.spool import Spool
from ledger.spool_file import SpoolFile
from ledger.spool_folder import locked
from ledger.spooled import ledger_mark
from ledger.store import Ledger, read_ledgers
from tests.builders import MAIN, NOON, minutes, webhook, whole_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "spool"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, connections_max=4) as opened:
        yield opened


@pytest_asyncio.fixture
async def ledger(connection: asyncpg.Connection) -> Ledger:
    return (await read_ledgers(connection))["main"]


def main_of_another_database() -> Ledger:
    return Ledger(ledger_id=MAIN, name="main", event_id_key=bytes(32))


async def put(spool: Spool, ledger: Ledger, body: bytes, fresh_id: UUID | None = None) -> None:
    await spool.put(ledger, body, Receipt(received_at=NOON), fresh_id=fresh_id or uuid4())


async def log(connection: asyncpg.Connection) -> list[bytes]:
    return [event.body for event in await whole_log(connection)]


def numbered(count: int) -> list[bytes]:
    return [webhook("BOOKING_CREATED", {"uid": f"booking{number}"}, at=minutes(number)) for number in range(count)]


@contextlib.asynccontextmanager
async def draining(pool: asyncpg.Pool, folder: Path) -> AsyncIterator[tuple[Spool, Drain]]:
    async with Spool(SpoolFile(folder)).running() as spool:
        yield spool, Drain(pool, spool)


async def test_a_drained_spool_is_empty_and_the_log_has_all_in_order(
    pool: asyncpg.Pool, folder: Path, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    async with draining(pool, folder) as (spool, drain):
        await asyncio.gather(*(put(spool, ledger, body) for body in numbered(1_100)))
        assert await drain.drain() == 1_100
        assert (await spool.state()).level == "empty"
        assert await drain.drain() == 0
    assert await log(connection) == numbered(1_100)


async def test_what_the_log_has_already_stays_there_once(
    pool: asyncpg.Pool, folder: Path, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    timeless, fresh_id = webhook("BOOKING_CREATED", {"uid": "timeless"}, at=None), uuid4()
    timed = numbered(1)[0]
    async with draining(pool, folder) as (spool, drain):
        for _ in range(2):
            await put(spool, ledger, timeless, fresh_id)
            await put(spool, ledger, timed)
            assert await drain.drain() == 2
        await put(spool, ledger, timeless)
        await drain.drain()
    assert await log(connection) == [timeless, timed, timeless], "another fresh id is another delivery"


async def test_a_crash_between_the_logs_commit_and_the_drop_repeats_nothing(
    pool: asyncpg.Pool, folder: Path, ledger: Ledger, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_arguments: object) -> None:
        raise ConnectionAbortedError

    async with draining(pool, folder) as (spool, drain):
        await asyncio.gather(*(put(spool, ledger, body) for body in numbered(20)))
        with monkeypatch.context() as patch:
            patch.setattr(SpoolFile, "drop", crash)
            with pytest.raises(ConnectionAbortedError):
                await drain.drain()
        assert len(await log(connection)) == 20
        assert await drain.drain() == 20
    assert await log(connection) == numbered(20)


async def test_deliveries_of_another_database_stay_where_they_are(
    pool: asyncpg.Pool, folder: Path, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    other = main_of_another_database()
    async with draining(pool, folder) as (spool, drain):
        await put(spool, other, b"theirs")
        await put(spool, ledger, b"ours")
        assert await drain.drain() == 1
        assert (await spool.state()).waiting == {ledger_mark(other): 1}
    assert await log(connection) == [b"ours"]


async def test_a_delivery_that_postgres_refuses_is_set_aside_and_tried_again_by_the_next_program(
    pool: asyncpg.Pool, folder: Path, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE ledger.events ADD CONSTRAINT odd CHECK (octet_length(state) % 2 = 1)")
    async with draining(pool, folder) as (spool, drain):
        await asyncio.gather(*(put(spool, ledger, body) for body in (b"1", b"22", b"333", b"4444", b"55555")))
        assert await drain.drain() == 3
        assert (await spool.state()).set_aside == {ledger_mark(ledger): 2}
        assert await drain.drain() == 0
    assert await log(connection) == [b"1", b"333", b"55555"]
    with contextlib.closing(SpoolFile(folder)) as file:
        assert file.errors() == ["CheckViolationError"]
    await connection.execute("ALTER TABLE ledger.events DROP CONSTRAINT odd")
    async with draining(pool, folder) as (spool, drain):
        assert await drain.drain() == 2
        assert (await spool.state()).set_aside == {}
    assert sorted(await log(connection)) == [b"1", b"22", b"333", b"4444", b"55555"]


async def test_one_process_drains_at_a_time(pool: asyncpg.Pool, folder: Path, ledger: Ledger) -> None:
    async with draining(pool, folder) as (spool, drain):
        await put(spool, ledger, b"{}")
        with locked(folder / f"drain-{ledger_mark(ledger).hex()}.lock", wait=False) as is_alone:
            assert is_alone
            assert await drain.drain() == 0
        assert await drain.drain() == 1
