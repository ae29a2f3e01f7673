"""What the schedule's leader does: sweeps, questions, alarms, checkpoints, retention; each only where it is set up."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from api.alarms import read_raised
from api.cal_com import cal_com_api
from api.erasing import erasing
from api.scheduler import Job, Scheduler
from ledger.alarms import Alarm
from ledger.calcom.api import CalComApi
from ledger.postgres import connect
from ledger.publishing import signing_key, write_checkpoint
from ledger.reconcile import Reconciler
from ledger.schedule import Taken
from ledger.settings import Settings
from ledger.store import Ledger, read_ledgers
from ledger.sweeping import (
    SweepKind,
    SweepLost,
    ask_for_sweep,
    read_beginning,
    read_last,
    read_left,
)
from ledger.vocabulary import MAIN_LEDGER_NAME
from projections import known_bookings

CHECKPOINT_STATEMENT_SECONDS_MAX: Final = 3600.0

log = structlog.get_logger()


class Intervals(msgspec.Struct, frozen=True, kw_only=True):
    """How often each job has its turn, in seconds."""

    incremental: float = 300.0
    upcoming: float = 900.0
    full: float = 86_400.0
    questions: float = 30.0
    requests: float = 1.0
    unfinished: float = 60.0
    alarms: float = 60.0
    checkpoint: float = 3_600.0
    retention: float = 86_400.0


INTERVALS: Final = Intervals()


@contextlib.asynccontextmanager
async def scheduling(
    settings: Settings, pool: asyncpg.Pool, dsn: str, *, intervals: Intervals | None = None
) -> AsyncIterator[Scheduler | None]:
    """This worker takes part in the schedule for as long as the block lasts; None: nothing is to be scheduled.

    `dsn` leads past any pooler. There is one Cal.com account, and it belongs to the ledger `main`.
    """
    intervals = intervals or INTERVALS
    has_checkpoints = settings.checkpoint_key is not None and (
        settings.checkpoint_folder or settings.checkpoint_command
    )
    if settings.cal_com_api_key is None and not has_checkpoints and settings.retention_days is None:
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        async with pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        main = ledgers[MAIN_LEDGER_NAME]
        jobs: list[Job] = []
        if settings.cal_com_api_key is not None:
            api = await stack.enter_async_context(cal_com_api(settings))
            jobs += reconciliation_jobs(api, pool, dsn, main, intervals)
        if has_checkpoints:
            jobs.append(checkpoint_job(settings, dsn, ledgers, intervals))
        if settings.retention_days is not None:
            jobs.append(retention_job(settings, dsn, ledgers, intervals, days=settings.retention_days))
        yield await stack.enter_async_context(Scheduler(pool, dsn, main, jobs).running())


def reconciliation_jobs(
    api: CalComApi, pool: asyncpg.Pool, dsn: str, ledger: Ledger, intervals: Intervals
) -> list[Job]:
    work = Reconciliation(Reconciler(api, pool, dsn, ledger, known_bookings, is_patient=True))
    return [
        Job(name="requests", seconds=intervals.requests, run=work.begin_requested, is_remembered=False),
        Job(name="unfinished", seconds=intervals.unfinished, run=work.go_on, is_remembered=False),
        Job(name="incremental", seconds=intervals.incremental, run=work.sweep_changed),
        Job(name="upcoming", seconds=intervals.upcoming, run=work.sweep_upcoming),
        Job(name="full", seconds=intervals.full, run=work.sweep_everything),
        Job(name="questions", seconds=intervals.questions, run=work.ask),
        Job(name="alarms", seconds=intervals.alarms, run=work.look_out),
    ]


class Reconciliation:
    """The jobs of one ledger."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._raised: dict[str, Alarm] = {}

    async def begin_requested(self, _taken: Taken) -> None:
        """What somebody has asked for is done."""
        await self._drive_left(unbegun_only=True)

    async def go_on(self, _taken: Taken) -> None:
        """What was left half-way, by whomever, is done."""
        await self._drive_left(unbegun_only=False)

    async def _drive_left(self, *, unbegun_only: bool) -> None:
        async with self._reconciler.pool.acquire() as connection:
            left = await read_left(connection, self._reconciler.ledger, unbegun_only=unbegun_only)
        for sweep_id in left:
            await self._drive(sweep_id)

    async def sweep_changed(self, taken: Taken) -> None:
        """Before anything was ever read, that is the full sweep's affair."""
        async with self._reconciler.pool.acquire() as connection:
            beginning = await read_beginning(connection, self._reconciler.ledger, "incremental")
        if beginning is not None:
            await self._sweep("incremental", taken)

    async def sweep_upcoming(self, taken: Taken) -> None:
        await self._sweep("upcoming", taken)

    async def sweep_everything(self, taken: Taken) -> None:
        await self._sweep("full", taken)

    async def _sweep(self, kind: SweepKind, taken: Taken) -> None:
        """A turn that was cut off after its sweep had been asked for is that sweep's, and not another's."""
        ledger = self._reconciler.ledger
        async with self._reconciler.pool.acquire() as connection:
            last = await read_last(connection, ledger, kind)
            was_asked = last is not None and taken.cut_off_at is not None and last.asked_at >= taken.cut_off_at
            sweep = last if was_asked else await ask_for_sweep(connection, ledger, kind, cause="schedule")
        if sweep is not None and sweep.state != "done":
            await self._drive(sweep.sweep_id)

    async def _drive(self, sweep_id: UUID) -> None:
        """The sweep is done, or another drives it."""
        try:
            done = await self._reconciler.drive(sweep_id)
        except SweepLost:
            log.info("sweep_driven_elsewhere", sweep=str(sweep_id))
            return
        log.info(
            "sweep_done",
            kind=done.kind,
            cause=done.cause,
            seen=done.seen,
            missing=done.missing,
            stale=done.stale,
            extra=done.extra,
            observed=done.observed,
        )

    async def ask(self, _taken: Taken) -> None:
        """Doubts that arose have their times, and what was due has been asked."""
        await self._reconciler.notice_doubts()
        observed = await self._reconciler.answer_questions()
        if observed:
            log.info("questions_answered", observed=observed)

    async def look_out(self, _taken: Taken) -> None:
        """Alarms are told when they begin and when they are over."""
        async with self._reconciler.pool.acquire() as connection:
            raised = await read_raised(connection, [self._reconciler.ledger], now=datetime.now(UTC))
        now: dict[str, Alarm] = {one.alarm.name: one.alarm for one in raised}
        for alarm in now.values():
            if alarm.name not in self._raised:
                log.error("alarm_raised", alarm=alarm.name, count=alarm.count, what=alarm.sentence)
        for name in self._raised.keys() - now.keys():
            log.info("alarm_over", alarm=name)
        self._raised = now


def checkpoint_job(settings: Settings, dsn: str, ledgers: Mapping[str, Ledger], intervals: Intervals) -> Job:
    async def write(_taken: Taken) -> None:
        """Each log is signed as it is now. Raises what speaks against that; the next turn tries again."""
        if settings.checkpoint_key is None:
            return
        key = signing_key(settings.checkpoint_key)
        connection = await connect(dsn, statement_seconds_max=CHECKPOINT_STATEMENT_SECONDS_MAX)
        try:
            for ledger in ledgers.values():
                written = await write_checkpoint(
                    connection,
                    ledger,
                    key=key,
                    now=datetime.now(UTC),
                    folder=settings.checkpoint_folder and settings.checkpoint_folder / ledger.name,
                    command=settings.checkpoint_command,
                )
                if written.is_new:
                    log.info("checkpoint_written", ledger=ledger.name, position=written.checkpoint.position)
        finally:
            connection.terminate()

    return Job(name="checkpoint", seconds=intervals.checkpoint, run=write)


def retention_job(
    settings: Settings, dsn: str, ledgers: Mapping[str, Ledger], intervals: Intervals, *, days: int
) -> Job:
    async def erase(_taken: Taken) -> None:
        """In each log, what has been over for long enough is gone."""
        async with erasing(settings, dsn) as work:
            for ledger in ledgers.values():
                bookings = await work.erase_old(ledger, days=days, now=datetime.now(UTC))
                if bookings:
                    log.info("retention_done", ledger=ledger.name, bookings=bookings)

    return Job(name="retention", seconds=intervals.retention, run=erase)
