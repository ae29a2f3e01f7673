"""`GET /metrics`: numbers that move with what happens, whatever senders try, and whether or not Postgres is there."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from api.metric_names import METRICS
from ledger.api_keys import create_key, new_key
from ledger.vocabulary import LedgerId
from tests.builders import MAIN, add_ledger, people, webhook
from tests.serving import (
    KEY,
    SECRET,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    file,
    postgres_away,
    serving,
    signed,
    speaking_to,
    until,
    until_current,
)

PREFIX = "booking_ledger_"
PROJECTIONS = ("booking_attendees", "calendar_events", "sync_lag", "webhook_logs")
MADE_UP_TRIGGERS = 1_000
AT_ONCE = 50
BODY_BYTES_MAX = 1024 * 1024

Page: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Every sample by name and labels."""


async def read(http: httpx.AsyncClient) -> str:
    answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


def parsed(text: str) -> Page:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    page = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(page) == len(samples)
    return page


async def scrape(http: httpx.AsyncClient) -> Page:
    return parsed(await read(http))


def value(page: Page, name: str, **labels: str) -> float:
    return page[PREFIX + name, frozenset(labels.items())]


def grown(before: Page, after: Page, name: str) -> dict[str, float]:
    """By how much each series of a counter grew; labels in the order of their names."""
    return {
        " ".join(text for _, text in sorted(labels, reverse=True)): after[one, labels] - before[one, labels]
        for one, labels in after
        if one == PREFIX + name and after[one, labels] != before[one, labels]
    }


def booked(uid: str, **fields: object) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": uid, **fields}, at=datetime.now(UTC))


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


# What is counted


async def test_the_page_has_every_metric_that_is_described_and_describes_every_one_that_it_has(
    http: httpx.AsyncClient,
) -> None:
    text = await read(http)
    described = {
        line.split()[2]: (line.split()[3], meaning.split(" ", 3)[3])
        for meaning, line in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if line.startswith("# TYPE")
    }
    ours = {name: told for name, told in described.items() if name.startswith(PREFIX)}
    assert ours == {PREFIX + metric.name: (metric.kind, metric.meaning) for metric in METRICS}
    assert {name for name in described if name not in ours} >= {"process_resident_memory_bytes"}
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    for name, given in parsed(text):
        base = name.removeprefix(PREFIX).removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        if base in labels:
            assert {label for label, _ in given} - {"le"} == labels[base]


async def test_each_delivery_counts_once_under_its_trigger_and_what_became_of_it(http: httpx.AsyncClient) -> None:
    before = await scrape(http)
    first = booked("counted")
    cancelled = webhook("BOOKING_CANCELLED", {"uid": "counted"}, at=datetime.now(UTC))
    await deliver_all(http, first, cancelled, first, first, b"false", b"\xff not even text")
    for headers in ({}, signed(first, "another secret"), {"x-cal-signature-256": "no-secret-provided"}):
        assert (await http.post(WEBHOOK, content=first, headers=headers)).status_code == 401
    assert (await http.post(WEBHOOK, content=b"x" * (BODY_BYTES_MAX + 1), headers=signed(b"x"))).status_code == 413
    packed = await http.post(WEBHOOK, content=first, headers={**signed(first), "content-encoding": "gzip"})
    assert packed.status_code == 415
    after = await scrape(http)
    assert grown(before, after, "webhooks_total") == {
        "BOOKING_CREATED recorded": 1,
        "BOOKING_CREATED duplicate": 2,
        "BOOKING_CANCELLED recorded": 1,
        "unrecognised recorded": 2,
        "unrecognised refused_signature_missing": 1,
        "unrecognised refused_signature_mismatch": 1,
        "unrecognised refused_no_secret_provided": 1,
        "unrecognised refused_body_too_large": 1,
        "unrecognised refused_encoding_unsupported": 1,
    }


async def test_what_was_verified_is_timed_and_batches_are_weighed(http: httpx.AsyncClient) -> None:
    before, begun = await scrape(http), time.perf_counter()
    await deliver_all(http, *(booked(f"timed-{number}") for number in range(5)))
    assert (await http.post(WEBHOOK, content=b"{}")).status_code == 401
    elapsed = time.perf_counter() - begun
    after = await scrape(http)

    def more(name: str) -> float:
        return value(after, name) - value(before, name)

    assert more("webhook_seconds_count") == more("append_seconds_count") == more("append_batch_events_count") == 5
    assert more("append_batch_events_sum") == 5
    assert 0 < more("append_seconds_sum") < more("webhook_seconds_sum") < elapsed
    for name in ("webhook_seconds", "append_seconds", "append_batch_events"):
        buckets = {
            float(dict(labels)["le"]): count
            for (one, labels), count in after.items()
            if one == f"{PREFIX}{name}_bucket"
        }
        counts = [buckets[bound] for bound in sorted(buckets)]
        assert counts == sorted(counts)
        assert buckets[float("inf")] == value(after, f"{name}_count")


async def test_a_sender_who_hangs_up_counts_as_such(shared_server: Server, http: httpx.AsyncClient) -> None:
    before = await scrape(http)
    head = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", shared_server.port)
    writer.write(head.encode() + b"only half")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    async def is_counted() -> bool:
        return bool(grown(before, await scrape(http), "webhooks_total"))

    await until(is_counted)
    assert grown(before, await scrape(http), "webhooks_total") == {"unrecognised abandoned": 1}


async def test_the_last_webhook_is_known_by_its_ledger_and_after_a_restart(
    durable_database: str, tmp_path: Path
) -> None:
    begun = time.time()
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http:
            assert not any("last_received" in name for name, _ in await scrape(http))
            await deliver_all(http, booked("last"))
            received = value(await scrape(http), "webhook_last_received_timestamp_seconds", ledger="1")
            assert begun < received < time.time()
            assert (await http.post(WEBHOOK, content=b"{}")).status_code == 401
            assert value(await scrape(http), "webhook_last_received_timestamp_seconds", ledger="1") == received
            async with connected(server.dsn) as connection:
                await file(connection, booked("to another server"))
            later = value(await scrape(http), "webhook_last_received_timestamp_seconds", ledger="1")
            assert received < later < time.time()
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http:
            after = await scrape(http)
    assert value(after, "webhook_last_received_timestamp_seconds", ledger="1") == pytest.approx(later, abs=0.001)
    assert value(after, "webhooks_total", trigger="BOOKING_CREATED", result="recorded") == 0


# What senders cannot do to it


async def test_a_thousand_made_up_triggers_make_no_series(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("before all"))
    before = await scrape(http)
    bodies = [webhook(f"MADE_UP_{number}", {"uid": f"made-up-{number}"}) for number in range(MADE_UP_TRIGGERS)]
    for begin in range(0, MADE_UP_TRIGGERS, AT_ONCE):
        answers = await asyncio.gather(*(deliver(http, body) for body in bodies[begin : begin + AT_ONCE]))
        assert {answer.status_code for answer in answers} == {200}
    text = await read(http)
    after = parsed(text)
    assert after.keys() == before.keys()
    assert grown(before, after, "webhooks_total") == {"unrecognised recorded": MADE_UP_TRIGGERS}
    assert "MADE_UP" not in text


async def test_the_page_tells_of_no_person_booking_customer_or_secret(durable_database: str, tmp_path: Path) -> None:
    async with connected(durable_database) as connection:
        await add_ledger(connection)
        await connection.execute("UPDATE ledger.ledgers SET name = 'whiskers-and-co' WHERE ledger_id = 2")
    person = {
        "title": "Canary title",
        "attendees": people("canary@example.com"),
        "responses": {"phone": {"value": "+48 600 700 800"}},
        "metadata": {"canary": "canary"},
    }
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(server.dsn) as connection:
            for path in (WEBHOOK, f"{WEBHOOK}/whiskers-and-co"):
                assert (await deliver(http, booked("canary-uid", **person), path=path)).status_code == 200
            canary = webhook("canary@example.com", {"uid": "canary-uid"})
            await deliver_all(http, canary, canary)
            await http.post(f"{WEBHOOK}/canary", content=canary, headers=signed(canary))
            await until_current(connection)
            text = await read(http)
    page = parsed(text)
    assert value(page, "projection_lag_events", ledger="2", projection="calendar_events") == 0
    assert value(page, "webhook_last_received_timestamp_seconds", ledger="2") > 0
    assert [word for word in ("anary", "600", "whiskers", "main", KEY, SECRET) if word in _labels(page)] == []
    assert [word for word in ("anary", "whiskers", KEY, SECRET) if word in text] == []


def _labels(page: Page) -> str:
    return " ".join(text for _, labels in page for _, text in labels)


# Lag


@pytest.mark.system("3.15")
async def test_lag_is_told_against_the_real_head_although_no_runner_lives(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, options=("--no-worker",)) as server:
        async with speaking_to(server) as http:
            for count in range(3):
                page = await scrape(http)
                assert [
                    value(page, "projection_lag_events", ledger="1", projection=projection)
                    for projection in PROJECTIONS
                ] == [count] * len(PROJECTIONS)
                await deliver_all(http, booked(f"unseen-{count}"))
            page = await scrape(http)
            earlier = value(page, "projection_lag_seconds", ledger="1", projection="calendar_events")
            later = value(await scrape(http), "projection_lag_seconds", ledger="1", projection="calendar_events")
            assert 0 < earlier < later
            assert not any("runner" in name for name, _ in page)
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(server.dsn) as connection:
            await until_current(connection)
            page = await scrape(http)
            assert value(page, "projection_lag_events", ledger="1", projection="calendar_events") == 0
            assert value(page, "projection_lag_seconds", ledger="1", projection="calendar_events") == 0
            assert value(page, "runner_poll_age_seconds") >= 0
            assert value(page, "runner_failing") == 0


async def test_states_parked_events_and_rebuilds_are_told(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, options=("--no-worker",)) as server:
        async with speaking_to(server) as http, connected(server.dsn) as connection:
            page = await scrape(http)
            assert value(page, "projection_state", ledger="1", projection="sync_lag", state="running") == 1
            assert not any("rebuild" in name for name, _ in page)
            await file(connection, *(booked(f"rebuilt-{number}") for number in range(9)))
            await connection.execute(
                """
                UPDATE projections.generations SET paused = true WHERE projection = 'sync_lag';
                INSERT INTO projections.checkpoints (projection, ledger_id, generation, state, error)
                VALUES ('webhook_logs', 1, 1, 'failing', 'for some reason');
                INSERT INTO projections.parked_events (
                    ledger_id, projection, generation, position, stream_id, error, attempts, skipped_at
                )
                VALUES (1, 'webhook_logs', 1, 3, 'booking-x', 'ValueError: x', 3, NULL),
                       (1, 'webhook_logs', 1, 4, 'booking-x', 'ValueError: x', 3, now());
                INSERT INTO projections.generations (projection, generation, version, state, phase)
                VALUES ('calendar_events', 2, 1, 'building', 'filling'), ('sync_lag', 2, 1, 'building', 'planning');
                INSERT INTO projections.rebuild_ranges (
                    projection, generation, ledger_id, after_position, last_position, done_at
                )
                VALUES ('calendar_events', 2, 1, 0, 4, now()), ('calendar_events', 2, 1, 4, 9, NULL);
                """
            )
            page = await scrape(http)
    for projection, state in (("sync_lag", "paused"), ("webhook_logs", "failing"), ("calendar_events", "running")):
        told = {
            one: value(page, "projection_state", ledger="1", projection=projection, state=one)
            for one in ("running", "failing", "paused")
        }
        assert told == {"running": 0, "failing": 0, "paused": 0} | {state: 1}
    assert value(page, "projection_parked", ledger="1", projection="webhook_logs") == 1
    assert value(page, "projection_parked", ledger="1", projection="sync_lag") == 0
    assert value(page, "rebuild_events_done", projection="calendar_events") == 4
    assert value(page, "rebuild_events_total", projection="calendar_events") == 9
    assert value(page, "rebuild_events_total", projection="sync_lag") == 0


# While Postgres is away


async def test_the_page_is_there_while_postgres_is_away_and_says_so(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(durable_cluster) as admin:
            await deliver_all(http, booked("kept before"))
            before = await scrape(http)
            assert (value(before, "database_up"), value(before, "appender_away")) == (1, 0)
            assert value(before, "spool_usable") == 1
            async with postgres_away(admin, durable_database):
                assert value(await scrape(http), "database_up") == 0
                spooled = await deliver(http, booked("kept meanwhile"))
                assert (spooled.status_code, spooled.json()) == (202, {"status": "spooled"})

                async def is_failing() -> bool:
                    return value(await scrape(http), "runner_failing") == 1

                await until(is_failing)
                away = await scrape(http)
                assert (value(away, "database_up"), value(away, "appender_away")) == (0, 1)
                assert grown(before, away, "webhooks_total") == {"BOOKING_CREATED spooled": 1}
                assert value(away, "spool_deliveries", state="waiting") == 1
                assert value(away, "spool_oldest_age_seconds") > 0
                assert value(away, "runner_poll_age_seconds") > 0
                assert value(away, "webhook_last_received_timestamp_seconds", ledger="1") > value(
                    before, "webhook_last_received_timestamp_seconds", ledger="1"
                )
                assert not any("projection" in name for name, _ in away)

            async def is_back() -> bool:
                page = await scrape(http)
                if value(page, "database_up") == 0:
                    return False
                behind = value(page, "projection_lag_events", ledger="1", projection="calendar_events")
                return (value(page, "spool_deliveries", state="waiting"), behind) == (0, 0)

            await until(is_back)


async def test_a_delivery_that_nothing_takes_counts_as_failed(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("in the way")
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(durable_cluster) as admin:
            before = await scrape(http)
            assert (value(before, "spool_usable"), value(before, "spool_deliveries", state="waiting")) == (0, 0)
            async with postgres_away(admin, durable_database):
                assert_is_problem(await deliver(http, booked("lost")), 503)
                assert grown(before, await scrape(http), "webhooks_total") == {"BOOKING_CREATED failed": 1}


# Who may read it


async def test_a_viewers_key_opens_the_page_but_not_one_that_is_bound_to_a_ledger(shared_server: Server) -> None:
    viewer = await _key(shared_server, ledger_id=None)
    bound = await _key(shared_server, ledger_id=MAIN)
    async with speaking_to(shared_server, key=viewer) as http:
        assert (await http.get("/metrics")).status_code == 200
    async with speaking_to(shared_server, key=bound) as http:
        assert_is_problem(await http.get("/metrics"), 403)
        assert (await http.get("/api/metrics/webhooks")).json()["ledger"] == "main"
    async with speaking_to(shared_server, key=None) as http:
        for path in ("/metrics", "/api/metrics/sync-lag", "/api/metrics/webhooks"):
            assert_is_problem(await http.get(path), 401)


async def _key(server: Server, *, ledger_id: LedgerId | None) -> str:
    key = new_key()
    async with connected(server.dsn) as connection:
        await create_key(connection, key, name="monitoring", role="viewer", ledger_id=ledger_id, expires_at=None)
    return key
