"""Reconciliation in real processes: the command and its death, several servers and workers, and who of them leads."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from ledger.postgres import Connection
from tests.account import lose, play
from tests.fake_calcom import KEY, FakeCalCom, fake_calcom
from tests.serving import COMMAND, SECRET, connected, environment, file, free_port, run, until, until_current
from tests.sources import ROOT
from tests.test_sweeping import many

INTERVAL = 0.5
TAKEN_OVER_SECONDS_MAX = 5.0
"""The promise; it is nearer to two."""
SCHEDULE = {"incremental": INTERVAL, "requests": 0.2, "unfinished": 0.5, "upcoming": 3_600.0, "full": 3_600.0}
BOOKINGS = 2_500
PAGES = 10


def settings(dsn: str, fake: FakeCalCom, home: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "CAL_COM_API_KEY": KEY,
        "CAL_COM_API_URL": fake.url,
        "CAL_COM_WEBHOOK_SECRET": SECRET,
        "BOOKING_LEDGER_HOME": str(home),
    }


@pytest.fixture
def fake() -> Iterator[FakeCalCom]:
    with fake_calcom() as server:
        server.requests_per_minute = None
        yield server


def begin(*words: str, **given: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([COMMAND, *words], env=environment(given), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def ended(process: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
    out, _ = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out


# The command


@pytest.mark.system("1.7", "1.10", "2.4")
async def test_the_command_heals_and_says_so(durable_database: str, fake: FakeCalCom, tmp_path: Path) -> None:
    account = play(5, bookings=60, silent_share=0.2)
    arrived, _ = lose(account.sent, 0.2, Random(5))
    fake.bookings = [dict(one) for one in account.shown.values()]
    ours = settings(durable_database, fake, tmp_path)
    async with connected(durable_database) as connection:
        await file(connection, *arrived)
        dry = run("reconcile", "--full", "--dry-run", "--json", **ours)
        assert await connection.fetchval("SELECT count(*) FROM ledger.events WHERE source = 'reconcile'") == 0
        assert await connection.fetchval("SELECT count(*) FROM ledger.sweeps") == 0
        real = run("reconcile", "--full", "--json", **ours)
        again = run("reconcile", "--full", "--json", **ours)
        changed = run("reconcile", "--json", **ours)
        observed = await connection.fetchval("SELECT count(*) FROM ledger.events WHERE source = 'reconcile'")
    would, was = json.loads(dry.stdout), json.loads(real.stdout)
    assert set(was) == {"seen", "missing", "stale", "extra", "observed", "doubts_open"}
    assert (was["seen"], was["extra"], was["observed"]) == (len(fake.bookings), 0, observed)
    assert was["missing"] > 0 < was["stale"]
    assert would == was | {"observed": 0, "doubts_open": would["doubts_open"]}
    nothing = {"seen": len(fake.bookings), "missing": 0, "stale": 0, "extra": 0, "observed": 0, "doubts_open": 0}
    assert json.loads(again.stdout) == nothing
    assert json.loads(changed.stdout) == nothing | {"seen": 0}, "nothing has changed since"
    assert [one.returncode for one in (dry, real, again, changed)] == [1, 1, 0, 0]
    assert "Reconciling" in real.stderr
    assert "@" not in real.stderr + real.stdout


def test_the_command_speaks_to_people(durable_database: str, fake: FakeCalCom, tmp_path: Path) -> None:
    fake.bookings = [dict(one) for one in many(3)]
    ours = settings(durable_database, fake, tmp_path)
    dry, first, second = (run("reconcile", *words, **ours) for words in (["--dry-run"], [], []))
    assert "3 bookings seen: 3 were missing here" in dry.stdout
    assert "Nothing was written" in dry.stdout
    assert "3 observations appended" in first.stdout
    assert "0 observations appended" in second.stdout
    assert [one.returncode for one in (dry, first, second)] == [1, 1, 0]


def test_without_a_key_nobody_is_asked(durable_database: str, tmp_path: Path) -> None:
    done = run("reconcile", DATABASE_URL=durable_database, BOOKING_LEDGER_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "CAL_COM_API_KEY must be set" in done.stderr


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_at_any_page_the_next_one_goes_on_from_there(
    durable_database: str, fake: FakeCalCom, tmp_path: Path, seed: int
) -> None:
    fake.bookings = [dict(one) for one in many(BOOKINGS)]
    ours = settings(durable_database, fake, tmp_path)
    killed_at = Random(seed).randrange(2, PAGES)
    process = begin("reconcile", "--full", "--json", **ours)
    fake.faults.extend([*[None] * killed_at, process.kill])
    await ended(process)
    asked = len(fake.requests)
    async with connected(durable_database) as connection:
        kept = await connection.fetchval("SELECT count(*) FROM ledger.events")
        assert 0 < kept < BOOKINGS
        done = run("reconcile", "--full", "--json", **ours)
        report = json.loads(done.stdout)
        assert (report["seen"], report["missing"]) == (BOOKINGS, BOOKINGS)
        assert len(fake.requests) - asked <= PAGES - killed_at + 3, "not from the top"
        assert await connection.fetchval("SELECT count(*) FROM ledger.events") == BOOKINGS
        assert await connection.fetchval("SELECT count(DISTINCT stream_id) FROM ledger.events") == BOOKINGS
        assert await connection.fetchval("SELECT count(*) FROM ledger.swept_bookings") == 0
    assert json.loads(run("verify", "--json", DATABASE_URL=durable_database).stdout)["ok"]


async def holds(connection: Connection, statement: str) -> bool:
    return bool(await connection.fetchval(statement))


# The schedule


class Fleet:
    """Servers and workers in a hurry, by name; each has its log."""

    def __init__(self, given: dict[str, str], folder: Path) -> None:
        self._given = given
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str) -> None:
        """A server or a worker more, in place of one that was killed under the same name."""
        home = self._folder / name
        home.mkdir(exist_ok=True)
        given = {**self._given, "BOOKING_LEDGER_HOME": str(home), "PORT": str(free_port()), "LOG_LEVEL": "info"}
        with (self._folder / f"{name}.log").open("wb") as printed:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.hurried", json.dumps(SCHEDULE), *words],
                env=environment(given),
                cwd=ROOT,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def leaders(self) -> list[str]:
        """Those that lead now, by what they say."""
        return [name for name, process in self._processes.items() if process.poll() is None and self._leads(name)]

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def printed(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _leads(self, name: str) -> bool:
        printed = self.printed(name)
        return printed.count("schedule_led") > printed.count("schedule_left")


FLEET = {"server-1": "serve", "server-2": "serve", "worker-1": "worker", "worker-2": "worker"}


@contextlib.asynccontextmanager
async def fleet(dsn: str, fake: FakeCalCom, folder: Path) -> AsyncIterator[Fleet]:
    """Two servers and two workers on one database."""
    ships = Fleet(settings(dsn, fake, folder), folder)
    try:
        for name, word in FLEET.items():
            ships.start(name, word)
        yield ships
    finally:
        ships.end()


async def incremental_starts(connection: Connection) -> list[float]:
    rows = await connection.fetch(
        "SELECT extract(epoch FROM started_at)::float8 AS at FROM ledger.sweeps "
        "WHERE kind = 'incremental' AND state = 'done' ORDER BY started_at"
    )
    return [row["at"] for row in rows]


def assert_each_turn_was_had_once(starts: list[float], *, gap_seconds_max: float) -> None:
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert min(gaps) >= INTERVAL * 0.4, "none was run twice"
    assert max(gaps) <= gap_seconds_max, "none was skipped"


async def test_of_two_servers_and_two_workers_one_reconciles(
    durable_database: str, fake: FakeCalCom, tmp_path: Path
) -> None:
    fake.bookings = [dict(one) for one in many(5)]
    async with connected(durable_database) as connection, fleet(durable_database, fake, tmp_path) as ships:
        await until(lambda: are_done(connection, 6), seconds=60)
        assert len(ships.leaders()) == 1
        await until_current(connection)
        ships.end()
        starts = await incremental_starts(connection)
        begun = await connection.fetchval("SELECT count(*) FROM ledger.sweeps WHERE kind = 'incremental'")
        observed = await connection.fetchval("SELECT count(*) FROM ledger.events WHERE source = 'reconcile'")
    assert observed == 5
    assert_each_turn_was_had_once(starts, gap_seconds_max=TAKEN_OVER_SECONDS_MAX)
    lists = [one.query for one in fake.requests if one.path == "/v2/bookings"]
    assert len([query for query in lists if "afterUpdatedAt" in query]) in (begun, begun - 1)
    assert len([query for query in lists if "status" in query]) == 1, "the upcoming ones, once an hour"
    assert len([query for query in lists if not {"status", "afterUpdatedAt"} & query.keys()]) == 1, "all, once an hour"
    assert not any("Traceback" in ships.printed(name) for name in FLEET)


async def are_done(connection: Connection, count: int) -> bool:
    return len(await incremental_starts(connection)) >= count


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
async def test_a_killed_leader_is_replaced_within_seconds_and_no_turn_is_skipped(
    durable_database: str, fake: FakeCalCom, tmp_path: Path, kills: int, record_property: Callable[[str, object], None]
) -> None:
    fake.bookings = [dict(one) for one in many(5)]
    taken_over: list[float] = []
    async with connected(durable_database) as connection, fleet(durable_database, fake, tmp_path) as ships:
        await until(lambda: are_done(connection, 2), seconds=60)
        for _ in range(kills):
            (leader,) = ships.leaders()
            wanted = len(await incremental_starts(connection)) + 2
            ships.kill(leader)
            begun = time.monotonic()
            await until(partial(are_done, connection, wanted), seconds=30)
            taken_over.append(time.monotonic() - begun)
            ships.start(leader, FLEET[leader])
        starts = await incremental_starts(connection)
    record_property("taken_over_seconds", [round(seconds, 2) for seconds in taken_over])
    assert max(taken_over) < TAKEN_OVER_SECONDS_MAX
    assert_each_turn_was_had_once(starts, gap_seconds_max=TAKEN_OVER_SECONDS_MAX)


async def test_what_a_killed_leader_was_reading_is_read_on_by_the_next(
    durable_database: str, fake: FakeCalCom, tmp_path: Path
) -> None:
    """The daily sweep: nobody waits another day for it."""
    fake.bookings = [dict(one) for one in many(600)]
    stalled, may_answer = threading.Event(), threading.Event()

    def stall() -> None:
        stalled.set()
        may_answer.wait(30)

    fake.faults.extend([None, stall])
    async with connected(durable_database) as connection, fleet(durable_database, fake, tmp_path) as ships:
        assert await asyncio.to_thread(stalled.wait, 60)
        (leader,) = ships.leaders()
        ships.kill(leader)
        may_answer.set()
        done = "SELECT count(*) = 1 FROM ledger.sweeps WHERE kind = 'full' AND state = 'done'"
        begun = time.monotonic()
        await until(lambda: holds(connection, done), seconds=30)
        assert time.monotonic() - begun < TAKEN_OVER_SECONDS_MAX
        assert await connection.fetchval("SELECT count(DISTINCT stream_id) FROM ledger.events") == 600
        assert len(ships.leaders()) == 1
