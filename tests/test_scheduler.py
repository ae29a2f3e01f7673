"""The schedule's leader: one among all, replaced as soon as it is gone, no turn skipped and none run twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api.scheduler import Job, Scheduler
from ledger.errors import CalComUnavailable
from ledger.postgres import open_pool
from ledger.schedule import Taken, list_turns
from ledger.store import Ledger, read_ledgers
from tests.serving import PATIENCE_SECONDS, until

HOUR = 3_600.0
TICK = 0.05


class Runs:
    """A job that counts its runs; `work` is what it does besides."""

    def __init__(self, work: Callable[[], Awaitable[object]] | None = None) -> None:
        self.count = 0
        self.ended = 0
        self.taken = Taken()
        self._work = work
        self._changed = asyncio.Condition()

    async def __call__(self, taken: Taken) -> None:
        self.count += 1
        self.taken = taken
        if self._work is not None:
            await self._work()
        self.ended += 1
        async with self._changed:
            self._changed.notify_all()

    async def reached(self, count: int) -> None:
        """So many runs came to their end."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.ended >= count)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, connections_max=8) as opened:
        yield opened


@pytest_asyncio.fixture
async def ledger(pool: asyncpg.Pool) -> Ledger:
    async with pool.acquire() as connection:
        return (await read_ledgers(connection))["main"]


@pytest.fixture
def scheduler(pool: asyncpg.Pool, database: str, ledger: Ledger) -> Callable[..., Scheduler]:
    def make(**jobs: tuple[float, Runs]) -> Scheduler:
        told = [Job(name=name, seconds=seconds, run=run) for name, (seconds, run) in jobs.items()]
        return Scheduler(pool, database, ledger, told, look_every_seconds=TICK)

    return make


async def test_of_several_one_leads_and_its_jobs_have_their_turns(scheduler: Callable[..., Scheduler]) -> None:
    ticks = [Runs(), Runs(), Runs()]
    async with contextlib.AsyncExitStack() as stack:
        for one in ticks:
            await stack.enter_async_context(scheduler(tick=(TICK, one)).running())
        waiting = [asyncio.create_task(one.reached(5)) for one in ticks]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    assert sorted(one.count > 0 for one in ticks) == [False, False, True]


async def test_who_leaves_lets_another_lead_at_once(scheduler: Callable[..., Scheduler]) -> None:
    first, second = Runs(), Runs()
    async with contextlib.AsyncExitStack() as stack:
        one, other = scheduler(tick=(TICK, first)), scheduler(tick=(TICK, second))
        async with one.running():
            await first.reached(1)
            await stack.enter_async_context(other.running())
            await first.reached(3)
            assert (one.leads, other.leads) == (True, False)
        await second.reached(2)
        assert (one.leads, other.leads) == (False, True)


async def test_a_leader_whose_session_is_gone_is_replaced(
    scheduler: Callable[..., Scheduler], pool: asyncpg.Pool
) -> None:
    """Its lease would run for seconds yet; but nobody is there any more."""
    ticks = Runs()
    async with pool.acquire() as connection:
        fence = await connection.fetchval(
            """
            INSERT INTO projections.leases (ledger_id, projection, holder, expires_at, session_pid, session_start)
            VALUES (1, 'schedule', gen_random_uuid(), now() + interval '1 hour', 1, '2000-01-01')
            RETURNING fence
            """
        )
        async with scheduler(tick=(TICK, ticks)).running():
            await ticks.reached(1)
            now = await connection.fetchval("SELECT fence FROM projections.leases WHERE projection = 'schedule'")
    assert now > fence


async def test_a_turn_that_was_had_is_not_repeated_by_the_next_leader(
    scheduler: Callable[..., Scheduler], pool: asyncpg.Pool, ledger: Ledger
) -> None:
    ticks, hourly, again = Runs(), Runs(), Runs()
    async with scheduler(hourly=(HOUR, hourly)).running():
        await until(lambda: is_over(pool, ledger))
    async with scheduler(hourly=(HOUR, again), tick=(TICK, ticks)).running():
        await ticks.reached(3)
    assert (hourly.count, again.count) == (1, 0)


async def is_over(pool: asyncpg.Pool, ledger: Ledger) -> bool:
    """Whether a job had its turn, to the end."""
    async with pool.acquire() as connection:
        return any(turn.finished_at is not None for turn in await list_turns(connection, ledger))


async def test_a_turn_that_was_cut_off_is_the_next_leaders_at_once(scheduler: Callable[..., Scheduler]) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    cut_off, again = Runs(hang), Runs()
    async with scheduler(hourly=(HOUR, cut_off)).running():
        async with asyncio.timeout(30):
            await began.wait()
    assert (cut_off.count, cut_off.ended) == (1, 0)
    async with scheduler(hourly=(HOUR, again)).running():
        await again.reached(1)
    assert again.count == 1
    assert again.taken.cut_off_at is not None


async def test_a_turn_that_is_overdue_is_had_at_once(scheduler: Callable[..., Scheduler], pool: asyncpg.Pool) -> None:
    hourly = Runs()
    async with pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO ledger.schedule (ledger_id, job, started_at, finished_at)
            VALUES (1, 'hourly', now() - interval '61 minutes', now())
            """
        )
    async with scheduler(hourly=(HOUR, hourly)).running():
        await hourly.reached(1)
    assert hourly.count == 1


async def test_two_who_both_think_that_they_lead_have_a_turn_once(
    scheduler: Callable[..., Scheduler], pool: asyncpg.Pool, ledger: Ledger
) -> None:
    """One was stopped for a while, and the other took over, before either looks again."""
    first, second, ticks = Runs(), Runs(), Runs()
    async with scheduler(hourly=(HOUR, first)).running():
        await until(lambda: is_over(pool, ledger))
        async with pool.acquire() as connection:
            await connection.execute("UPDATE projections.leases SET expires_at = '-infinity'")
        async with scheduler(hourly=(HOUR, second), tick=(TICK, ticks)).running():
            await ticks.reached(2)
    assert (first.count, second.count) == (1, 0)


async def test_a_job_that_fails_is_told_once_and_has_its_next_turn(
    scheduler: Callable[..., Scheduler], pool: asyncpg.Pool, ledger: Ledger
) -> None:
    failures = iter([CalComUnavailable("GET /bookings", "502")] * 3)

    async def fail() -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    runs = Runs(fail)
    with capture_logs() as logs:
        async with scheduler(job=(TICK, runs)).running():
            await runs.reached(2)
    told: list[Any] = [(one["event"], one.get("error")) for one in logs if one["event"].startswith("job_")]
    assert told == [("job_failed", str(CalComUnavailable("GET /bookings", "502"))), ("job_recovered", None)]
    async with pool.acquire() as connection:
        (turn,) = await list_turns(connection, ledger)
    assert (turn.job, turn.error) == ("job", None)


async def test_a_leader_that_cannot_reach_the_database_lets_go(
    scheduler: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.scheduler.LEASE_SECONDS", 0.1)
    ticks = Runs()
    one = scheduler(tick=(TICK, ticks))

    async def away(*_arguments: object) -> dict[str, int]:
        raise ConnectionError

    async def has_let_go() -> bool:
        await asyncio.sleep(0)
        return not one.leads

    async with one.running():
        await ticks.reached(1)
        monkeypatch.setattr("projections.leases.Leases.fences", away)
        await until(has_let_go)
    assert not one.leads
