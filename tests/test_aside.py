"""Processes of their own for rebuilds: they give way, and end with whoever started them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from projections.aside import NICENESS, give_way, start_aside, wait_aside
from projections.progress import read_progress
from projections.rebuild import Rebuild, begin_rebuild
from projections.runner import Runner
from projections.upkeep import Upkeep
from tests.rebuilding import REBUILD_SECONDS_MAX, assert_same, read_models, traffic
from tests.serving import PATIENCE_SECONDS, file
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
    """None where Linux does not share processors out among sessions."""
    told = Path(f"/proc/{pid}/autogroup")
    return int(told.read_text().split()[-1]) if told.exists() else None


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
