"""Sync lag, success rate and processing time as JSON: what the public views tell, and quickly."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from projections.measures import SQL, TARGET_MS
from tests.builders import MAIN, webhook
from tests.serving import (
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver_all,
    speaking_to,
    until,
    until_current,
)

SYNC_LAG = "/api/metrics/sync-lag"
WEBHOOKS = "/api/metrics/webhooks"

# System 003's own words.
SUCCESS_RATE = """
SELECT status, COUNT(*), ROUND(COUNT(*)*100.0/SUM(COUNT(*)) OVER(),2) percentage FROM webhook_logs
WHERE created_at > NOW() - INTERVAL '24 hours' GROUP BY status
"""
PROCESSED = """
SELECT duration_ms FROM webhook_logs WHERE webhook_type <> 'refused' ORDER BY duration_ms
"""


def booked(uid: str, *, seconds_ago: float = 0, trigger: str = "BOOKING_CREATED") -> bytes:
    return webhook(trigger, {"uid": uid}, at=datetime.now(UTC) - timedelta(seconds=seconds_ago))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(shared_server: Server) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """Both answers after some deliveries of every kind."""
    repeated = booked("measured-1", seconds_ago=30)
    bodies = [booked(f"measured-{number}", seconds_ago=number) for number in range(2, 9)]
    cancelled = booked("measured-1", seconds_ago=300, trigger="BOOKING_CANCELLED")
    made_up = [booked("measured-1", trigger=f"MADE_UP_{number}") for number in range(3)]
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        await deliver_all(http, repeated, *bodies, cancelled, *made_up, b"false", repeated, repeated)
        for headers in ({}, {"x-cal-signature-256": "x"}, {}):
            assert (await http.post(WEBHOOK, content=repeated, headers=headers)).status_code == 401

        async def is_all_logged() -> bool:
            return bool(await connection.fetchval("SELECT count(*) = 18 FROM webhook_logs"))

        await until(is_all_logged)
        await until_current(connection)
        yield {path: (await http.get(path)).json() for path in (SYNC_LAG, WEBHOOKS)}


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


# Webhooks


@pytest.mark.system("3.13")
async def test_the_success_rate_is_the_one_that_the_salons_own_query_tells(
    told: dict[str, dict[str, Any]], models: asyncpg.Connection
) -> None:
    answer = told[WEBHOOKS]
    rates = {row["status"]: (row["count"], row["percentage"]) for row in await models.fetch(SUCCESS_RATE)}
    assert rates == {"success": (14, Decimal("77.78")), "error": (4, Decimal("22.22"))}
    assert {
        one["status"]: (one["count"], Decimal(str(one["percentage"]))) for one in answer["deliveries"]["statuses"]
    } == rates
    assert answer["success_rate"] == 77.78
    assert datetime.fromisoformat(answer["to"]) - datetime.fromisoformat(answer["from"]) == timedelta(days=1)


async def test_deliveries_are_told_by_trigger_and_refusals_by_reason(told: dict[str, dict[str, Any]]) -> None:
    deliveries = told[WEBHOOKS]["deliveries"]
    assert deliveries["triggers"] == {"BOOKING_CREATED": 10, "unrecognised": 4, "BOOKING_CANCELLED": 1}
    assert deliveries["refusals"] == {"missing": 2, "malformed": 1}
    assert (deliveries["count"], deliveries["duplicates"]) == (18, 2)


@pytest.mark.system("3.14")
async def test_the_processing_time_is_that_of_the_logs_beside_its_target(
    told: dict[str, dict[str, Any]], models: asyncpg.Connection
) -> None:
    answer = told[WEBHOOKS]["processing_time"]
    logged = [row["duration_ms"] for row in await models.fetch(PROCESSED)]
    assert len(logged) == 15
    assert answer == {
        "count": 15,
        "p50_ms": pytest.approx(logged[7], abs=0.001),
        "p95_ms": pytest.approx(logged[14], abs=0.001),
        "max_ms": pytest.approx(logged[14], abs=0.001),
        "target_ms": 1000,
        "within_target": sum(duration_ms < TARGET_MS for duration_ms in logged),
    }
    assert 0 < answer["p50_ms"] <= answer["max_ms"]


# Sync lag


@pytest.mark.system("3.15")
async def test_the_lags_of_each_minute_are_those_of_the_public_table(
    told: dict[str, dict[str, Any]], models: asyncpg.Connection
) -> None:
    answer = told[SYNC_LAG]
    rows = await models.fetch(
        """
        SELECT minute, count, recorded_p50_ms, recorded_p95_ms, recorded_max_ms, projected_p50_ms, projected_p95_ms,
            projected_max_ms
        FROM sync_lag ORDER BY minute
        """
    )
    assert [{**minute, "minute": datetime.fromisoformat(minute["minute"])} for minute in answer["minutes"]] == [
        dict(row) for row in rows
    ]
    assert answer["summary"]["count"] == sum(row["count"] for row in rows) == 13
    assert answer["summary"]["recorded_max_ms"] == max(row["recorded_max_ms"] for row in rows) > 300_000
    assert 4_000 < answer["summary"]["recorded_p50_ms"] < 60_000
    assert 0 < answer["summary"]["projected_p50_ms"] <= answer["summary"]["projected_p95_ms"]
    assert answer["ledger"] == "main"


async def test_several_minutes_are_summed_up_by_counting_not_by_averaging(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        """
        INSERT INTO projections.sync_lag VALUES
            (1, '2026-12-01 12:00Z', 'main', 99, '{100,110}', '{90,9}', 9.0, '{0}', '{99}', 1.0),
            (1, '2026-12-01 12:01Z', 'main', 1, '{400}', '{1}', 2755.0, '{50}', '{1}', 2.7)
        """
    )
    hour = (MAIN, datetime(2026, 12, 1, 12, tzinfo=UTC), datetime(2026, 12, 1, 13, tzinfo=UTC))
    (row,) = await connection.fetch(SQL["sum_lags"], *hour)
    assert row["count"] == 100
    assert row["recorded_p50_ms"] == pytest.approx(1.02**100, abs=0.001)
    assert row["recorded_p95_ms"] == pytest.approx(1.02**110, abs=0.001)
    assert row["recorded_max_ms"] == 2755.0
    assert (row["projected_p50_ms"], row["projected_max_ms"]) == (1.0, 2.7)
    first, second = await connection.fetch(SQL["read_lags"], *hour)
    assert (first["recorded_p95_ms"], second["recorded_p95_ms"]) == (
        pytest.approx(1.02**110, abs=0.001),
        pytest.approx(1.02**400, abs=0.001),
    )
    shown = await connection.fetch("SELECT * FROM public.sync_lag ORDER BY minute")
    assert [dict(row) for row in shown] == [{"ledger": "main", **dict(row)} for row in (first, second)]


# Stretches of time


@pytest.mark.parametrize("path", [SYNC_LAG, WEBHOOKS])
async def test_a_time_in_which_nothing_came_is_answered_with_nothing(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, params={"from": "2020-01-01", "to": "2020-01-02T00:00:00+01:00"})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["from"], told["to"]) == ("2020-01-01T00:00:00Z", "2020-01-01T23:00:00Z")
    if path == SYNC_LAG:
        assert told["minutes"] == []
        assert told["summary"]["count"] == 0
        assert told["summary"]["recorded_p50_ms"] is None
    else:
        assert told["success_rate"] is None
        assert told["deliveries"] == {"count": 0, "duplicates": 0, "statuses": [], "triggers": {}, "refusals": {}}
        assert told["processing_time"]["p50_ms"] is None


@pytest.mark.usefixtures("told")
async def test_a_stretch_begins_with_its_first_moment_and_ends_before_its_last(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    row = await models.fetchrow("SELECT min(created_at) AS first, max(created_at) AS last FROM webhook_logs")
    assert row is not None
    counts = {}
    for name, since, until_ in (
        ("both", row["first"], row["last"] + timedelta(microseconds=1)),
        ("first", row["first"], row["last"]),
        ("last", row["first"] + timedelta(microseconds=1), row["last"] + timedelta(microseconds=1)),
    ):
        answer = await http.get(WEBHOOKS, params={"from": since.isoformat(), "to": until_.isoformat()})
        counts[name] = answer.json()["deliveries"]["count"]
    assert counts == {"both": 18, "first": 17, "last": 17}


@pytest.mark.parametrize("path", [SYNC_LAG, WEBHOOKS])
@pytest.mark.parametrize(
    "parameters",
    [
        {"from": "yesterday"},
        {"to": ""},
        {"from": "2026-12-01", "to": "2026-12-01"},
        {"from": "2026-12-02", "to": "2026-12-01"},
        {"from": "2026-12-01", "to": "2026-12-08T00:00:00.000001Z"},
        {"to": "0001-01-01"},
        {"from": "0001-01-01T00:00:00+23:00"},
    ],
    ids=str,
)
async def test_a_stretch_that_cannot_be_understood_or_is_too_long_is_the_callers_problem(
    http: httpx.AsyncClient, path: str, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get(path, params=parameters), 400)


@pytest.mark.parametrize("path", [SYNC_LAG, WEBHOOKS])
async def test_the_longest_stretch_is_answered_and_another_ledger_is_not_there(
    http: httpx.AsyncClient, path: str
) -> None:
    assert (await http.get(path, params={"from": "0002-01-01", "to": "0002-01-08"})).status_code == 200
    assert_is_problem(await http.get(path, params={"ledger": "another"}), 404)
