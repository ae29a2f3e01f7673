"""A thousand of ten thousand forgotten, beside a server that goes on; in a run of its own, since it takes minutes."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from ledger.chain import verify_chain
from tests.account import fold_bodies, show
from tests.builders import main_ledger
from tests.rebuilding import assert_same, read_models, rebuild
from tests.reconciling import bench
from tests.serving import connected, file, run, serving, speaking_to, until_current
from tests.test_erasing import BEGUN, Household, assert_others_are_as_before, dump
from tests.town import build, numbers_in

PEOPLE = 10_000
ERASED = 1_000
AT_ONCE = 500
MINUTES_MAX = 10


@pytest.mark.soak
async def test_a_thousand_of_ten_thousand_are_forgotten(durable_database: str, tmp_path: Path) -> None:
    town = build(PEOPLE, begun=BEGUN)
    erased = town.citizens[:: PEOPLE // ERASED]
    gone = {one.number for one in erased}
    addresses = tmp_path / "addresses"
    addresses.write_text("\n".join(one.written for one in erased))
    where = {"DATABASE_URL": durable_database, "BOOKING_LEDGER_HOME": str(tmp_path)}
    async with connected(durable_database) as connection:
        with serving(durable_database, tmp_path, LOG_LEVEL="debug") as server:
            await file_all(connection, town.bodies)
            await until_current(connection, seconds=300)
            before = await read_models(connection)
            assert numbers_in(await dump(connection)) >= gone
            begun = time.monotonic()
            done = run("erase", "--emails-from", str(addresses), "--yes", "--json", **where)
            assert done.returncode == 0, done.stderr
            assert time.monotonic() - begun < MINUTES_MAX * 60
            await until_current(connection)
            assert numbers_in(await dump(connection)) & gone == set()
            assert_others_are_as_before(before, await read_models(connection), town, erased)
            assert (await verify_chain(connection, await main_ledger(connection))).ok
            after = await read_models(connection)
            async with speaking_to(server) as http:
                told = [await everything(http, "/api/bookings?limit=500"), done.stdout.encode(), done.stderr.encode()]
        told += [run("events", "export", **where).stdout.encode(), server.log.read_bytes()]
        assert [numbers_in(text) & gone for text in told] == [set()] * len(told)
        await file_all(connection, town.bodies)
        await Household(durable_database, tmp_path).catch_up()
        assert_same(await read_models(connection), after)
        await rebuild(durable_database)
        assert_same(await read_models(connection), after)
        assert numbers_in(await dump(connection)) & gone == set()
    await reconcile(durable_database, town.bodies, gone)


async def file_all(connection: asyncpg.Connection, bodies: Sequence[bytes]) -> None:
    for at in range(0, len(bodies), AT_ONCE):
        await file(connection, *bodies[at : at + AT_ONCE])


async def everything(http: httpx.AsyncClient, path: str) -> bytes:
    """All pages."""
    pages, cursor = [], ""
    while True:
        answer = await http.get(f"{path}{cursor}")
        pages.append(answer.content)
        following = answer.json()["next_cursor"]
        if following is None:
            return b"".join(pages)
        cursor = f"&cursor={following}"


async def reconcile(dsn: str, bodies: Sequence[bytes], gone: set[int]) -> None:
    """A Cal.com that still has them all brings none of them back."""
    shown = [show(booking) for booking in fold_bodies(bodies).values() if booking.uid]
    async with bench(dsn, shown) as account, account.pool.acquire() as connection:
        account.clock.ahead = timedelta(days=90)
        await account.reconcile()
        assert numbers_in(await dump(connection)) & gone == set()
