"""Leases between real processes: one keeps a projection current, another takes over, and nobody comes back."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from uuid import UUID

import asyncpg
import msgspec
import pytest

from ledger.store import read_ledgers, read_log
from ledger.vocabulary import Position
from projections.applying import Applier
from projections.catalogue import BY_NAME, CATALOGUE
from projections.generations import CheckpointMoved, read_live_places
from projections.leases import Leases
from projections.pages import PageReader, Stretch
from projections.runner import Runner
from tests.builders import MAIN, webhook
from tests.rebuilding import NAMES, PAGE_EVENTS, assert_same, filled, read_models
from tests.serving import file, parked, until, until_current
from tests.sources import ROOT
from tests.test_runner import begin_tally, tallied
from tests.worker import PROJECTION, TALLY

ROUNDS = 4
LONG_ROUNDS = 50
SHORT_LEASE_SECONDS = 1.0
ENDLESS_LEASE_SECONDS = 3_600.0
LONG_SLEEP_SECONDS = 30
LISTENERS_KILLED = 20
MORE_LISTENERS_KILLED = 100
QUICK_POLL_SECONDS = 0.25
POLL_SECONDS = 1.0

uids = count()


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    holder: UUID
    process: "subprocess.Popen[str]"


@contextlib.contextmanager
def working(dsn: str, *, lease_seconds: float) -> Iterator[Worker]:
    """A worker process for as long as the block lasts, asked to end then unless it is gone."""
    command = [sys.executable, "-m", "tests.worker", dsn, str(lease_seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Worker(holder=UUID(process.stdout.readline().strip()), process=process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        process.stdout.close()
        assert process.wait(timeout=30) in {0, -signal.SIGKILL}


async def lease(connection: asyncpg.Connection, projection: str = TALLY) -> tuple[UUID | None, int]:
    """Whose it is, and its fence; nobody's where it was never taken."""
    row = await connection.fetchrow("SELECT holder, fence FROM projections.leases WHERE projection = $1", projection)
    return (None, 0) if row is None else (row["holder"], row["fence"])


async def arrive(connection: asyncpg.Connection, deliveries: int = 3) -> None:
    for _ in range(deliveries):
        await file(connection, webhook("BOOKING_CREATED", {"uid": f"booking-{next(uids)}"}))


async def until_held_by(connection: asyncpg.Connection, worker: Worker) -> None:
    async def is_held() -> bool:
        return (await lease(connection))[0] == worker.holder

    await until(is_held)


async def assert_each_event_once(connection: asyncpg.Connection, database: str) -> None:
    await until_current(connection)
    head = await connection.fetchval("SELECT position FROM ledger.ledgers")
    assert await tallied(connection, TALLY) == list(range(1, head + 1))
    assert await parked(connection) == []
    assert_same(await filled(connection, database), await read_models(connection))


# Between processes


async def put_to_sleep_and_wake(
    connection: asyncpg.Connection, sleeper: Worker, other: Worker, *, after: int, for_seconds: int
) -> None:
    """The sleeper is stopped right after so many deliveries, until the other has everything, and then comes back."""
    _, fence = await lease(connection)
    await arrive(connection, after)
    sleeper.process.send_signal(signal.SIGSTOP)
    for _ in range(for_seconds):
        await connection.execute("SELECT pg_sleep(1)")
    await arrive(connection)
    await until_held_by(connection, other)
    assert (await lease(connection))[1] == fence + 1
    await until_current(connection)
    await arrive(connection)
    sleeper.process.send_signal(signal.SIGCONT)
    await arrive(connection)
    await until_current(connection)
    assert await lease(connection) == (other.holder, fence + 1), "who slept does not take it back"


@pytest.mark.parametrize(
    ("rounds", "lease_seconds", "asleep_seconds"),
    [
        (ROUNDS, SHORT_LEASE_SECONDS, 0),
        pytest.param(LONG_ROUNDS, 5.0, LONG_SLEEP_SECONDS, marks=pytest.mark.soak),
    ],
)
async def test_a_worker_that_slept_longer_than_its_lease_is_refused_and_nothing_is_applied_twice_or_skipped(
    connection: asyncpg.Connection, database: str, rounds: int, lease_seconds: float, asleep_seconds: int
) -> None:
    await begin_tally(connection, TALLY)
    with (
        working(database, lease_seconds=lease_seconds) as first,
        working(database, lease_seconds=lease_seconds) as second,
    ):
        await arrive(connection)
        await until_current(connection)
        for number in range(rounds):
            holder, _ = await lease(connection)
            sleeper, other = (first, second) if holder == first.holder else (second, first)
            await put_to_sleep_and_wake(connection, sleeper, other, after=number % 4 * 2, for_seconds=asleep_seconds)
        await assert_each_event_once(connection, database)


async def test_a_worker_that_falls_asleep_in_the_middle_of_a_page_does_not_hold_up_the_next_one(
    connection: asyncpg.Connection, database: str
) -> None:
    """What it holds then is locked rows: they are freed by the server."""
    await begin_tally(connection, TALLY)
    in_the_middle = """
        SELECT count(*) > 0 FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()
    """
    with working(database, lease_seconds=SHORT_LEASE_SECONDS) as first:
        await arrive(connection)
        await until_held_by(connection, first)
        with working(database, lease_seconds=SHORT_LEASE_SECONDS) as second:

            async def is_asleep_in_the_middle() -> bool:
                await arrive(connection, 1)
                first.process.send_signal(signal.SIGSTOP)
                if await connection.fetchval(in_the_middle):
                    return True
                first.process.send_signal(signal.SIGCONT)
                return False

            await until(is_asleep_in_the_middle)
            await until_held_by(connection, second)
            await until_current(connection)
            first.process.send_signal(signal.SIGCONT)
            await assert_each_event_once(connection, database)


async def test_a_worker_that_is_killed_is_replaced_at_once(connection: asyncpg.Connection, database: str) -> None:
    """Its leases would last for an hour; its session is gone with it."""
    await begin_tally(connection, TALLY)
    with working(database, lease_seconds=ENDLESS_LEASE_SECONDS) as first:
        await arrive(connection)
        await until_held_by(connection, first)
        await until_current(connection)
        with working(database, lease_seconds=ENDLESS_LEASE_SECONDS) as second:
            await arrive(connection)
            await until_current(connection)
            assert await lease(connection) == (first.holder, 1), "nobody takes what is held"
            first.process.kill()
            await arrive(connection)
            await until_held_by(connection, second)
            await assert_each_event_once(connection, database)


async def test_a_worker_that_ends_leaves_its_leases_to_others(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    async with Runner(pool, database).running():
        await arrive(connection)
        await until_current(connection)
        held = await connection.fetch("SELECT projection FROM projections.leases WHERE expires_at > now() ORDER BY 1")
        assert [row["projection"] for row in held] == sorted(NAMES)
    assert await connection.fetchval("SELECT count(*) FROM projections.leases WHERE expires_at > now()") == 0
    other = Leases(pool)
    assert await other.fences(MAIN, NAMES) == dict.fromkeys(NAMES, 2)


# What a lease is


async def test_a_lease_is_one_holders_until_it_runs_out_and_its_fence_rises_with_every_change_of_hands(
    connection: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    ours, theirs = Leases(pool), Leases(pool)
    assert await ours.fences(MAIN, NAMES) == dict.fromkeys(NAMES, 1)
    assert await theirs.fences(MAIN, NAMES) == {}
    ours.doubt(MAIN)
    assert await ours.fences(MAIN, NAMES) == dict.fromkeys(NAMES, 1), "renewed, not changed"
    fence = 1
    for taking, losing in ((theirs, ours), (ours, theirs), (theirs, ours)):
        await connection.execute("UPDATE projections.leases SET expires_at = now() - interval '1 second'")
        fence += 1
        taking.doubt(MAIN)
        losing.doubt(MAIN)
        assert await taking.fences(MAIN, NAMES) == dict.fromkeys(NAMES, fence)
        assert await losing.fences(MAIN, NAMES) == {}
    await theirs.release()
    assert await ours.fences(MAIN, NAMES[:2]) == dict.fromkeys(NAMES[:2], fence + 1)
    assert await theirs.fences(MAIN, NAMES) == dict.fromkeys(NAMES[2:], fence), "each projection by itself"


async def test_a_lease_whose_session_lives_is_not_taken_and_one_whose_session_ended_is(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    ours, theirs = Leases(pool), Leases(pool)
    session = await asyncpg.connect(database)
    await ours.name_session(session)
    assert await ours.fences(MAIN, NAMES) == dict.fromkeys(NAMES, 1)
    assert await theirs.fences(MAIN, NAMES) == {}
    await session.close()

    async def is_theirs() -> bool:
        theirs.doubt(MAIN)
        return await theirs.fences(MAIN, NAMES) == dict.fromkeys(NAMES, 2)

    await until(is_theirs)
    assert await connection.fetchval("SELECT count(*) FROM projections.leases WHERE expires_at > now()") == len(NAMES)


async def test_a_page_under_an_old_fence_is_refused_whole(connection: asyncpg.Connection, pool: asyncpg.Pool) -> None:
    await arrive(connection)
    ledger = (await read_ledgers(connection))["main"]
    fences = await Leases(pool).fences(MAIN, NAMES)
    live = await read_live_places(connection, MAIN, BY_NAME)
    places = [msgspec.structs.replace(place, fence=fences[place.projection.name], up_to=None) for place in live]
    events = await read_log(connection, MAIN, after=Position(0), events_max=10)
    await connection.execute("UPDATE projections.leases SET fence = fence + 1 WHERE projection = 'webhook_logs'")
    applier = Applier(pool.acquire, PageReader(confirm_on_accept=False))
    with pytest.raises(CheckpointMoved):
        await applier.apply(places, ledger, Stretch(events=events))
    held = {table for table, rows in (await read_models(connection)).items() if rows}
    assert held == {"facts.facts"}, "not one of the page's projections was written; facts came in with the events"
    others = [place for place in places if place.projection.name != "webhook_logs"]
    await applier.apply(others, ledger, Stretch(events=events))
    written = {table for table, rows in (await read_models(connection)).items() if rows}
    assert "webhook_logs.webhook_logs" not in written
    assert "calendar_events.calendar_events" in written


async def test_workers_that_ask_for_no_lease_still_apply_each_event_once(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint alone decides whose page it is."""
    monkeypatch.setattr(PAGE_EVENTS, 3)
    await begin_tally(connection, TALLY)
    runners = [Runner(pool, database, catalogue=(*CATALOGUE, PROJECTION)) for _ in range(3)]
    for _ in range(ROUNDS):
        await arrive(connection, 10)
        await asyncio.gather(*(runner.catch_up() for runner in runners))
    await assert_each_event_once(connection, database)


# Who listens


@pytest.mark.parametrize(
    ("kills", "poll_seconds"),
    [
        (LISTENERS_KILLED, QUICK_POLL_SECONDS),
        pytest.param(MORE_LISTENERS_KILLED, POLL_SECONDS, marks=pytest.mark.soak),
    ],
)
async def test_a_runner_whose_listener_dies_again_and_again_is_never_behind_for_longer_than_its_poll_and_a_second(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, kills: int, poll_seconds: float
) -> None:
    listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'"

    async def is_listening() -> bool:
        return bool(await connection.fetchval(f"SELECT count(*) {listeners}"))

    async with Runner(pool, database, poll_seconds_max=poll_seconds).running():
        for _ in range(kills):
            await until(is_listening)
            await connection.fetch(f"SELECT pg_terminate_backend(pid, 5000) {listeners}")
            await arrive(connection, 1)
            await until_current(connection, seconds=poll_seconds + 1)
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == kills
    assert await lease(connection, "calendar_events") != (None, 0)
