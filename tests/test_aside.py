"""Rebuilds beside traffic: in processes of their own that give way, with rests where much is appended."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from ledger.postgres import Connection
from projections import pace
from projections.aside import NICENESS, give_way, start_aside, wait_aside
from projections.pace import REST_SECONDS_MAX, is_lively, rest
from projections.progress import read_progress
from projections.rebuild import Rebuild, begin_rebuild, drive_rebuild
from projections.runner import Runner
from projections.upkeep import Upkeep
from tests.builders import webhook
from tests.rebuilding import RANGE_EVENTS, REBUILD_SECONDS_MAX, assert_same, fill_here, read_models, traffic
from tests.serving import PATIENCE_SECONDS, file, until
from tests.sources import ROOT
from tests.waiting_aside import Order

NAME = "calendar_events"
WAITING = "tests.waiting_aside"
PARENT = f"""
import asyncio
from projections.aside import start_aside, wait_aside
from tests.waiting_aside import Order

async def main():
    process = await start_aside({WAITING!r}, Order(word="waiting"))
    await wait_aside(process)

asyncio.run(main())
"""


async def test_a_process_that_gives_way_is_nice_and_so_is_its_session() -> None:
    process = await start_aside(WAITING, Order(word="waiting"))
    try:
        give_way(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == NICENESS
        assert session_niceness(process.pid) in {None, NICENESS}
        assert session_niceness(os.getpid()) in {None, 0}
    finally:
        process.kill()
        await process.wait()


def session_niceness(pid: int) -> int | None:
    """None where Linux does not share processors out among sessions, or did not when this one began."""
    told = Path(f"/proc/{pid}/autogroup")
    words = told.read_text().split() if told.exists() else []
    return int(words[-1]) if words else None


async def test_nobody_gives_way_for_others_of_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    monkeypatch.setattr(os, "getsid", lambda _: 1)
    monkeypatch.setattr(Path, "write_text", lambda self, *_, **__: written.append(str(self)))
    give_way(os.getpid())
    assert written == []


def test_a_process_ends_with_the_one_that_started_it_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == "waiting\n"
        parent.send_signal(signal.SIGKILL)
        told, _ = parent.communicate(timeout=PATIENCE_SECONDS)  # to the end of what either of them has open
        assert "given up" in told
    finally:
        parent.kill()
        parent.wait()


async def test_a_process_that_nobody_waits_for_any_more_is_killed() -> None:
    process = await start_aside(WAITING, Order(word="waiting"))
    waiting = asyncio.create_task(wait_aside(process))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == -signal.SIGKILL


async def test_a_worker_drives_a_rebuild_in_another_process(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own may be receiving webhooks."""
    await file(connection, *traffic(bookings=20))
    await Runner(pool, database).catch_up()
    live = await read_models(connection)

    async def never(_self: Rebuild, _tell: object = None) -> None:
        raise AssertionError("not here")

    monkeypatch.setattr(Rebuild, "drive", never)
    await begin_rebuild(connection, NAME)
    async with asyncio.timeout(REBUILD_SECONDS_MAX):
        await Upkeep(database, confirm_on_accept=False).look()
    (progress,) = await read_progress(connection, NAME)
    assert (progress.generation, progress.state) == (2, "live")
    assert_same(await read_models(connection), live)


# Rests


async def test_it_is_lively_for_a_second_after_many_events(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LIVELY_EVENTS", 5)
    assert not await is_lively(connection)
    for count in range(5):
        assert not await is_lively(connection)
        await file(connection, webhook("BOOKING_CREATED", {"uid": f"booking-{count}"}))
    assert await is_lively(connection)

    async def is_quiet() -> bool:
        return not await is_lively(connection)

    await until(is_quiet)


@pytest.mark.parametrize(
    ("turn_seconds", "share", "rested_seconds"), [(2, 1.0, 2), (2, 0.5, 1), (2, 0, 0), (900, 1, REST_SECONDS_MAX)]
)
async def test_a_rest_is_as_long_as_a_share_of_the_turn_and_has_a_bound(
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    turn_seconds: float,
    share: float,
    rested_seconds: float,
) -> None:
    rested = rests(monkeypatch, lively=True)
    await rest(connection, since=time.monotonic() - turn_seconds, share=share)
    assert [round(seconds) for seconds in rested] == [rested_seconds]


async def test_nobody_rests_where_nobody_appends(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested = rests(monkeypatch, lively=False)
    await rest(connection, since=time.monotonic() - 2)
    assert rested == []


def rests(monkeypatch: pytest.MonkeyPatch, *, lively: bool) -> list[float]:
    """How long each rest would have been."""
    rested: list[float] = []

    async def sleep(seconds: float) -> None:
        rested.append(seconds)

    async def is_it_lively(_connection: Connection) -> bool:
        return lively

    monkeypatch.setattr("projections.pace.asyncio.sleep", sleep)
    monkeypatch.setattr(pace, "is_lively", is_it_lively)
    return rested


async def test_a_rebuild_amid_traffic_gives_every_row_again(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One filler, one index at a time, pages in turns: as if more were appended all the time than can be."""
    fill_here(monkeypatch)
    monkeypatch.setattr(pace, "LIVELY_EVENTS", 0)
    monkeypatch.setattr(RANGE_EVENTS, 50)
    monkeypatch.setattr("projections.rebuild.CATCH_UP_EVENTS", 7)
    bodies = traffic(bookings=40)
    await file(connection, *bodies[:100])
    await Runner(pool, database).catch_up()
    index = Rebuild._index  # noqa: SLF001  # what arrives while it runs is caught up with

    async def meanwhile(self: Rebuild, inner: Connection) -> None:
        await file(connection, *bodies[100:])
        await Runner(pool, database).catch_up()
        await index(self, inner)

    monkeypatch.setattr(Rebuild, "_index", meanwhile)
    generation = await begin_rebuild(connection, NAME)
    live = await read_models(connection)
    await asyncio.wait_for(drive_rebuild(database, NAME, generation, confirm_on_accept=False), REBUILD_SECONDS_MAX)
    rebuilt = await read_models(connection)
    assert len(rebuilt[f"{NAME}.{NAME}"]) > len(live[f"{NAME}.{NAME}"])
    (progress,) = await read_progress(connection, NAME)
    assert (progress.generation, progress.state) == (2, "live")
    generation = await begin_rebuild(connection, NAME)
    monkeypatch.setattr(Rebuild, "_index", index)
    await asyncio.wait_for(drive_rebuild(database, NAME, generation, confirm_on_accept=False), REBUILD_SECONDS_MAX)
    assert_same(await read_models(connection), rebuilt)
