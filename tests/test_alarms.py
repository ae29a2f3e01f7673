"""Alarms: there as long as their cause is, and each says what to do. And the jobs that look out for them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from api.jobs import INTERVALS, Reconciliation, checkpoint_job, reconciliation_jobs
from ledger.alarms import (
    BEHIND_SECONDS_MAX,
    DRIFT_BOOKINGS_MAX,
    MISMATCHES_MAX,
    SILENT_AFTER,
    drift_high,
    read_alarms,
    read_models_behind,
    signatures_refused,
    spool_in_use,
    webhooks_silent,
)
from ledger.checkpoints import read_checkpoint
from ledger.notes import SigningKey
from ledger.postgres import Connection
from ledger.schedule import Taken
from ledger.settings import Secret, Settings
from ledger.store import append, read_ledgers
from tests.builders import NOON, main_ledger, new_event
from tests.reconciling import bench
from tests.test_sweeping import created, many

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("last", "unheard", "is_raised"),
    [
        (NOON - SILENT_AFTER, 1, True),
        (NOON - SILENT_AFTER + HOUR, 1, False),
        (NOON - SILENT_AFTER, 0, False),
        (None, 1, True),
        (None, 0, False),
    ],
)
def test_silence_is_an_alarm_only_where_there_was_something_to_tell(
    last: datetime | None, unheard: int, *, is_raised: bool
) -> None:
    alarm = webhooks_silent(last, unheard, now=NOON)
    assert (alarm is not None) is is_raised
    if alarm is not None:
        assert "booking-ledger webhooks list" in alarm.sentence


def test_many_wrong_signatures_suggest_a_rotated_secret() -> None:
    assert signatures_refused(MISMATCHES_MAX - 1) is None
    alarm = signatures_refused(MISMATCHES_MAX)
    assert alarm is not None
    assert "CAL_COM_WEBHOOK_SECRET" in alarm.sentence


def test_drift_above_its_bound_and_a_spool_in_use_are_alarms() -> None:
    assert drift_high(DRIFT_BOOKINGS_MAX) is None
    assert drift_high(DRIFT_BOOKINGS_MAX + 1) is not None
    assert spool_in_use("empty", 0) is None
    waiting = spool_in_use("in use", 3)
    assert waiting is not None
    assert waiting.count == 3


def test_a_read_model_far_behind_is_named() -> None:
    assert read_models_behind({"calendar_events": BEHIND_SECONDS_MAX, "facts": 0.0}) is None
    alarm = read_models_behind({"calendar_events": BEHIND_SECONDS_MAX + 1, "facts": 0.0})
    assert alarm is not None
    assert (alarm.count, alarm.sentence.partition(":")[0]) == (1, "calendar_events")


async def names(connection: Connection) -> list[str]:
    ledger = await main_ledger(connection)
    return [alarm.name for alarm in await read_alarms(connection, ledger, now=datetime.now(UTC))]


async def test_what_the_database_shows_raises_alarms(connection: asyncpg.Connection) -> None:
    assert await names(connection) == []
    await connection.execute(
        """
        INSERT INTO ledger.deliveries (ledger_id, delivery_id, received_at, outcome, reason, duration_ms)
        SELECT 1, gen_random_uuid(), now(), 'refused', 'mismatch', 1 FROM generate_series(1, $1)
        """,
        MISMATCHES_MAX,
    )
    assert await names(connection) == ["signatures_refused"]
    await connection.execute("DELETE FROM ledger.deliveries")
    await connection.execute(
        """
        INSERT INTO ledger.drift (ledger_id, stream_id, field, found_at, kind, is_import, healed_at)
        SELECT 1, 'booking-' || n, 'status', now(), 'stale', n > $1, now() FROM generate_series(1, 2 * $1) AS n
        """,
        DRIFT_BOOKINGS_MAX + 1,
    )
    assert await names(connection) == ["webhooks_silent", "drift_high"]
    await append(connection, (await read_ledgers(connection))["main"].ledger_id, [new_event()])
    assert await names(connection) == ["drift_high"]


async def test_an_import_is_no_drift(database: str) -> None:
    async with bench(database, many(DRIFT_BOOKINGS_MAX * 2)) as table:
        await table.sweep()
        async with table.pool.acquire() as connection:
            assert await names(connection) == []


async def test_an_alarm_is_told_when_it_begins_and_when_it_is_over(database: str) -> None:
    async with bench(database) as table:
        work = Reconciliation(table.reconciler)
        await table.rows(
            """
            INSERT INTO ledger.drift (ledger_id, stream_id, field, found_at, kind, healed_at)
            SELECT 1, 'booking-' || n, 'status', now(), 'stale', now() FROM generate_series(1, 99) AS n RETURNING kind
            """
        )
        await table.deliver(created())
        with capture_logs() as logs:
            await work.look_out(Taken())
            await work.look_out(Taken())
            await table.rows("DELETE FROM ledger.drift RETURNING kind")
            await work.look_out(Taken())
    told = [(one["event"], one["alarm"], one.get("count")) for one in logs if one["event"].startswith("alarm_")]
    assert told == [("alarm_raised", "drift_high", 99), ("alarm_over", "drift_high", None)]


# The jobs


async def test_the_schedule_does_all_that_is_to_be_done(database: str) -> None:
    """Every job once, in the order in which they stand, on an account nobody has ever looked at."""
    async with bench(database, many(3)) as table:
        reconciler = table.reconciler
        jobs = reconciliation_jobs(reconciler.api, table.pool, table.dsn, table.ledger, INTERVALS)
        for job in jobs:
            await job.run(Taken())
        sweeps = await table.rows("SELECT kind, state, cause FROM ledger.sweeps ORDER BY asked_at")
        assert [tuple(row.values()) for row in sweeps] == [
            ("upcoming", "done", "schedule"),
            ("full", "done", "schedule"),
        ], "what changed is read once there is a beginning"
        for job in jobs:
            await job.run(Taken())
        assert len(await table.rows("SELECT 1 FROM ledger.sweeps WHERE kind = 'incremental' AND state = 'done'")) == 1
        assert len(await table.observations()) == 3


async def test_a_turn_that_was_cut_off_is_its_sweeps_and_not_anothers(database: str) -> None:
    """The leader died right after its sweep was done, or somewhere in it, or before it had asked for one."""
    async with bench(database, many(3)) as table:
        work = Reconciliation(table.reconciler)
        began = datetime.now(UTC)
        await work.sweep_everything(Taken())
        await work.sweep_everything(Taken(cut_off_at=began))
        assert len(await table.rows("SELECT 1 FROM ledger.sweeps")) == 1
        await work.sweep_everything(Taken(cut_off_at=datetime.now(UTC)))
        assert len(await table.rows("SELECT 1 FROM ledger.sweeps")) == 2
        began = datetime.now(UTC)
        await table.begin("full", cause="schedule")
        await work.sweep_everything(Taken(cut_off_at=began))
        assert len(await table.rows("SELECT 1 FROM ledger.sweeps WHERE state = 'done'")) == 3


async def test_checkpoints_are_written_by_the_schedule(database: str, tmp_path: Path) -> None:
    key = SigningKey("ledger.example.com", bytes(32))
    settings = Settings(checkpoint_key=Secret(key.secret_text().encode()), checkpoint_folder=tmp_path)
    async with bench(database) as table:
        await table.deliver(created())
        job = checkpoint_job(settings, database, {"main": table.ledger}, INTERVALS)
        await job.run(Taken())
        await job.run(Taken())
    (written,) = (tmp_path / "main").iterdir()
    assert read_checkpoint(written.read_bytes(), key.verifier).position == 1
