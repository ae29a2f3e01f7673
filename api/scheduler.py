"""The one leader among all workers, and its jobs: APScheduler rings, the database says who runs and when.

Every worker would lead. A lease decides (projections/leases.py): it runs out when it is not renewed, and at once when
the leader's session is gone, so a killed leader is replaced within a second or two. When each job had its last turn
stands in the database (ledger/schedule.py): a new leader rings at the time at which the old one would have, at once
where that is past or where the old one did not get to the end. A turn is taken there before it is run, so two leaders,
of whom one does not know yet that it no longer is, run it once.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec
import structlog

from ledger.errors import BookingLedgerError
from ledger.postgres import DATABASE_ERRORS, connect
from ledger.schedule import Taken, end_turn, read_waits, take_turn
from ledger.store import Ledger
from projections.leases import LEASE_SECONDS, Leases

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import (  # type: ignore[import-untyped]  # it has no types
        AsyncIOScheduler,
    )

LEADERSHIP: Final = "schedule"
"""The name of the lease, beside those of projections."""
LOOK_EVERY_SECONDS: Final = 1.0
TURN_APART: Final = 0.5
"""Two turns of a job lie at least this part of its interval apart."""

log = structlog.get_logger()


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is run every `seconds`. `is_remembered`: its turns are kept in the database; else it just looks for work."""

    name: str
    seconds: float
    run: Callable[[Taken], Awaitable[None]]
    is_remembered: bool = True


class Scheduler:
    """One worker's part: it leads, or waits until it may. `dsn` leads past any pooler."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        dsn: str,
        ledger: Ledger,
        jobs: Sequence[Job],
        *,
        look_every_seconds: float = LOOK_EVERY_SECONDS,
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._ledger = ledger
        self._jobs = jobs
        self._look_every_seconds = look_every_seconds
        self._leases = Leases(pool)
        self._bell: AsyncIOScheduler | None = None
        self._fresh: set[str] = set()
        """Jobs that have not been run since we lead: what a leader before us did not finish is ours."""
        self._turns: set[asyncio.Task[None]] = set()
        self._told: dict[str, str] = {}
        self._renewed_at = time.monotonic()
        self._is_named = asyncio.Event()

    @property
    def leads(self) -> bool:
        return self._bell is not None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Scheduler"]:
        """This worker takes part for as long as the block lasts; then another may lead at once."""
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # what there is to say of turns, we say
        tasks = [asyncio.create_task(self._stay(), name="leader-stay"), asyncio.create_task(self._run(), name="leader")]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._step_down()
            with contextlib.suppress(*DATABASE_ERRORS):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    await self._leases.release()

    async def _run(self) -> None:
        """Lead when the lease is ours, and only then.

        A lease without our session's name would outlive us, so that comes first, where it can be had.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEASE_SECONDS):
                await self._is_named.wait()
        while True:
            try:
                is_ours = await self._is_ours()
                if is_ours and not self.leads:
                    await self._lead()
                elif self.leads and not is_ours:
                    await self._step_down()
            except Exception as error:
                log.warning("scheduler_backs_off", error=type(error).__name__)
                if self.leads and time.monotonic() - self._renewed_at > LEASE_SECONDS:
                    await self._step_down()
            await asyncio.sleep(self._look_every_seconds)

    async def _stay(self) -> None:
        """Keep one session open by which the others see that we are there."""
        while True:
            try:
                await self._name_session()
            except Exception as error:
                log.info("scheduler_session_lost", error=type(error).__name__)
            self._leases.forget_session()
            await asyncio.sleep(self._look_every_seconds)

    async def _name_session(self) -> None:
        """The session is named, until it is lost."""
        connection = await connect(self._dsn)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            await self._leases.name_session(connection)
            self._is_named.set()
            await lost.wait()
        finally:
            connection.terminate()

    async def _is_ours(self) -> bool:
        async with asyncio.timeout(LEASE_SECONDS):
            is_ours = bool(await self._leases.fences(self._ledger.ledger_id, [LEADERSHIP]))
        self._renewed_at = time.monotonic()
        return is_ours

    async def _lead(self) -> None:
        """Every job rings when its next turn is due."""
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]  # it has no types

        remembered = {job.name: job.seconds for job in self._jobs if job.is_remembered}
        async with self._pool.acquire() as connection:
            waits = await read_waits(connection, self._ledger, remembered)
        self._fresh = set(remembered)
        bell = AsyncIOScheduler(timezone=UTC)
        now = datetime.now(UTC)
        for job in self._jobs:
            bell.add_job(
                self._ring,
                IntervalTrigger(seconds=job.seconds, timezone=UTC),
                args=[job],
                id=job.name,
                next_run_time=now + timedelta(seconds=max(waits.get(job.name, 0.0), 0.0)),
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
        bell.start()
        self._bell = bell
        log.info("schedule_led", ledger=self._ledger.name, jobs=[job.name for job in self._jobs])

    async def _step_down(self) -> None:
        """Nothing rings any more, and no turn of ours is under way."""
        if self._bell is None:
            return
        self._bell.shutdown(wait=False)
        self._bell = None
        turns = list(self._turns)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        log.info("schedule_left", ledger=self._ledger.name)

    async def _ring(self, job: Job) -> None:
        turn = asyncio.current_task()
        if turn is None or not self.leads:
            return
        self._turns.add(turn)
        try:
            await self._turn(job)
        finally:
            self._turns.discard(turn)

    async def _turn(self, job: Job) -> None:
        """The job was run, if it is its turn. One that is cut off is not finished, and the next leader's to run."""
        error = None
        try:
            taken = await self._take(job)
            if taken is None:
                return
            await job.run(taken)
        except Exception as failed:
            error = str(failed) if isinstance(failed, BookingLedgerError) else type(failed).__name__
        self._tell(job, error)
        if job.is_remembered:
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._pool.acquire() as connection:
                    await end_turn(connection, self._ledger, job.name, error=error)

    async def _take(self, job: Job) -> Taken | None:
        if not job.is_remembered:
            return Taken()
        async with self._pool.acquire() as connection:
            taken = await take_turn(
                connection,
                self._ledger,
                job.name,
                seconds_between=job.seconds * TURN_APART,
                takes_up=job.name in self._fresh,
            )
        self._fresh.discard(job.name)
        return taken

    def _tell(self, job: Job, error: str | None) -> None:
        """An error is told once, and that it is over."""
        if error is not None and self._told.get(job.name) != error:
            log.warning("job_failed", job=job.name, error=error)
        elif error is None and job.name in self._told:
            log.info("job_recovered", job=job.name)
        self._told.pop(job.name, None)
        if error is not None:
            self._told[job.name] = error
