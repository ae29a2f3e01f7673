"""Measures are read by index, however much there is; and counting in plain numbers counts what it should."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.metering import Meter
from ledger.appender import BATCH_EVENTS_MAX, Appender
from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.errors import SignatureRefused
from ledger.postgres import open_pool
from ledger.store import append, read_ledgers
from ledger.tally import SECONDS, Tally
from projections.measures import (
    LOOKED_AT_EVENTS_MAX,
    SQL,
    TARGET_MS,
    count_deliveries,
    read_lags,
    read_last_webhooks,
    read_processing_times,
    read_rebuilds,
    read_status,
    sum_lags,
)
from tests.builders import MAIN, NOON, add_ledger, deliver, minutes, new_event, webhook

A_MONTH_OF_LOGS = """
INSERT INTO webhook_logs_1.webhook_logs (
    ledger_id, position, id, ledger, webhook_type, in_log, status, duration_ms, created_at
)
SELECT 1, n, gen_random_uuid(), 'main', 'BOOKING_CREATED', true, 'success', n % 50,
    now() - interval '30 days' * (1 - n::float8 / 200000)
FROM generate_series(1, 200000) AS n;

INSERT INTO ledger.deliveries (ledger_id, delivery_id, received_at, outcome, reason, position, duration_ms)
SELECT 1, gen_random_uuid(), now() - interval '30 days' * (1 - n::float8 / 40000),
    CASE n % 2 WHEN 0 THEN 'refused' ELSE 'duplicate' END,
    CASE n % 2 WHEN 0 THEN 'mismatch' END,
    CASE n % 2 WHEN 1 THEN n * 5 END,
    n % 50
FROM generate_series(1, 40000) AS n;

INSERT INTO sync_lag_1.sync_lag
SELECT 1, date_trunc('minute', now()) - interval '1 minute' * n, 'main', 10,
    '{1,2}', '{5,5}', 2, '{1,2}', '{5,5}', 2
FROM generate_series(0, 30 * 24 * 60) AS n;

INSERT INTO ledger.events (
    ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
)
SELECT 1, n, 'booking-' || n, 1, gen_random_uuid(), 'calcom.ping', '{}', 0, now(), now(), 'webhook', '{}', ''
FROM generate_series(1, 40000) AS n;

UPDATE ledger.ledgers SET position = 40000;
"""
ASKED_FOR_A_STRETCH: dict[str, list[Any]] = {
    "read_lags": [],
    "sum_lags": [],
    "count_deliveries": [list(KNOWN_TRIGGERS)],
    "read_processing_times": [TARGET_MS],
}
LARGE = {"webhook_logs", "deliveries", "sync_lag", "events"}


# By index


@pytest.mark.system("3.13", "3.14")
async def test_an_hour_and_a_day_are_read_without_reading_the_month(connection: asyncpg.Connection) -> None:
    await connection.execute(A_MONTH_OF_LOGS)
    await connection.execute("ANALYZE")
    now = datetime.now(UTC)
    stretches = [(now - timedelta(hours=1), now), (now - timedelta(days=1), now)]
    asked: list[tuple[str, tuple[Any, ...]]] = [
        (name, (1, since, until, *more)) for name, more in ASKED_FOR_A_STRETCH.items() for since, until in stretches
    ]
    for plans in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"SET plan_cache_mode = {plans}")
        for name, values in [*asked, ("read_last_webhooks", (LOOKED_AT_EVENTS_MAX,)), ("read_status", ())]:
            told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {SQL[name]}", *values)
            read_whole = [
                node["Relation Name"]
                for node in nodes(json.loads(told)[0]["Plan"])
                if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE
            ]
            assert read_whole == [], f"{name} under {plans}: {told}"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


# What is read


async def test_the_last_webhook_of_a_ledger_is_the_last_of_its_webhooks_by_when_it_came_in(
    connection: asyncpg.Connection,
) -> None:
    other = await add_ledger(connection)
    assert await read_last_webhooks(connection) == {}
    await deliver(connection, webhook("PING", {}, at=minutes(1)), received_at=minutes(2))
    await deliver(connection, webhook("PING", {}, at=minutes(3)), received_at=minutes(4))
    await append(connection, other, [new_event()])
    recorded_at = await connection.fetchval("SELECT recorded_at FROM ledger.events WHERE ledger_id = $1", other)
    assert await read_last_webhooks(connection) == {MAIN: minutes(4), other: recorded_at}
    await connection.execute(
        """
        INSERT INTO ledger.events (
            ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at,
            source, metadata, digest
        )
        SELECT 1, n, 'booking-' || n, 1, gen_random_uuid(), 'calcom.observed', '', 0, now(), now(), 'reconcile', '{}',
            ''
        FROM generate_series(3, 1002) AS n;
        UPDATE ledger.ledgers SET position = 1001 WHERE ledger_id = 1
        """
    )
    assert (await read_last_webhooks(connection))[MAIN] == minutes(4)
    await connection.execute("UPDATE ledger.ledgers SET position = 1002 WHERE ledger_id = 1")
    assert MAIN not in await read_last_webhooks(connection)


async def test_the_status_is_that_of_the_public_table_for_every_ledger(connection: asyncpg.Connection) -> None:
    await add_ledger(connection)
    await deliver(connection, webhook("PING", {}))
    told = await read_status(connection)
    shown = await connection.fetch(
        "SELECT ledger, projection, generation, position, head, lag_events, state, parked FROM projection_status"
    )
    assert {(one.ledger, one.projection): one.lag_events for one in told} == {
        (row["ledger"], row["projection"]): row["lag_events"] for row in shown
    }
    assert {one.lag_events for one in told if one.ledger_id == MAIN} == {1}
    assert {one.lag_events for one in told if one.ledger_id != MAIN} == {0}
    assert await read_rebuilds(connection) == []


async def test_one_ledgers_measures_hold_nothing_of_anothers(connection: asyncpg.Connection) -> None:
    await add_ledger(connection)
    await connection.execute(
        """
        INSERT INTO projections.webhook_logs
        SELECT n % 2 + 1, n, gen_random_uuid(), '', 'PING', NULL, true, 'success', NULL, NULL, n, '2026-12-01 12:00Z'
        FROM generate_series(1, 5) AS n;
        INSERT INTO ledger.deliveries
        SELECT n % 2 + 1, gen_random_uuid(), '2026-12-01 12:00Z', 'refused', 'mismatch', NULL, n
        FROM generate_series(1, 3) AS n;
        INSERT INTO projections.sync_lag
        SELECT n, '2026-12-01 12:00Z', '', n, ARRAY[n], ARRAY[n], n, ARRAY[n], ARRAY[n], n
        FROM generate_series(1, 2) AS n
        """
    )
    ledgers = {ledger.name: ledger for ledger in (await read_ledgers(connection)).values()}
    told = {}
    for name, ledger in ledgers.items():
        hour = {"since": NOON, "until": minutes(60)}
        counted = await count_deliveries(connection, ledger, **hour)
        timed = await read_processing_times(connection, ledger, **hour)
        summed = await sum_lags(connection, ledger, **hour)
        assert [minute.count for minute in await read_lags(connection, ledger, **hour)] == [summed.count]
        told[name] = (counted.triggers, counted.refusals, timed.max_ms, summed.count, summed.recorded_max_ms)
    assert told == {
        "main": ({"PING": 2}, {"mismatch": 1}, 4.0, 1, 1.0),
        "other": ({"PING": 3}, {"mismatch": 2}, 5.0, 2, 2.0),
    }


# What is counted


@given(st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), max_size=50))
def test_a_tally_puts_everything_below_the_first_bound_that_it_does_not_pass(sizes: list[float]) -> None:
    tally = Tally(SECONDS)
    for size in sizes:
        tally.add(size)
    assert sum(tally.counts) == len(sizes)
    assert tally.total == pytest.approx(sum(sizes))
    for place, bound in enumerate(SECONDS):
        assert sum(tally.counts[: place + 1]) == sum(size <= bound for size in sizes)


def test_every_reason_for_a_refusal_has_a_result_of_its_own_and_a_new_one_has_the_last() -> None:
    meter = Meter()
    series = list(meter.webhooks)
    reasons = [*SignatureRefused.SENTENCES, "BodyTooLarge", "EncodingUnsupported", "SecretMissing", "SomethingNew"]
    for reason in reasons:
        meter.count_refused(reason)
    counted = [result for (_, result), count in meter.webhooks.items() if count]
    assert len(counted) == len(reasons)
    assert "refused_otherwise" in counted
    assert list(meter.webhooks) == series


def test_only_triggers_that_we_know_have_a_name() -> None:
    meter = Meter()
    for trigger in (*KNOWN_TRIGGERS, "MADE_UP", "", None):
        meter.count_verified(trigger, "recorded", ledger_id=MAIN, received_at=NOON, seconds=0.002)
    counted = {trigger: count for (trigger, _), count in meter.webhooks.items() if count}
    assert counted == dict.fromkeys(KNOWN_TRIGGERS, 1) | {"unrecognised": 3}
    assert meter.last_received == {MAIN: NOON}
    assert sum(meter.webhook_seconds.counts) == len(KNOWN_TRIGGERS) + 3


async def test_the_appender_tells_what_waits_and_how_large_its_batches_were(
    database: str, connection: asyncpg.Connection
) -> None:
    async with await open_pool(database) as pool, Appender(pool).running() as appender:
        async with connection.transaction():
            await append(connection, MAIN, [new_event()])  # whoever appends now waits for the head
            waiting = [asyncio.create_task(appender.append(MAIN, [new_event("booking-first")]))]
            while not await connection.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"):
                pass
            bodies = [b"x" * 1_000, b"y" * 500]
            waiting += [asyncio.create_task(appender.append(MAIN, [new_event(body=body)])) for body in bodies]
            await asyncio.sleep(0)
            assert (appender.queued_events, appender.queued_bytes) == (2, 1_500)
            assert sum(appender.batch_events.counts) == 0
        await asyncio.gather(*waiting)
        await appender.append(MAIN, [new_event(f"booking-{number}") for number in range(BATCH_EVENTS_MAX + 1)])
    assert (appender.queued_events, appender.queued_bytes) == (0, 0)
    assert appender.batch_events.bounds[:2] == (1, 2)
    one, two, *others, more = appender.batch_events.counts
    assert (one, two, sum(others), more) == (1, 1, 0, 1)
    assert appender.batch_events.total == 3 + BATCH_EVENTS_MAX + 1
    assert sum(appender.append_seconds.counts) == 3
