"""What analysts query, after deliveries to a real server: every lifecycle's truth in any order, and hostile bodies."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from api.simulator.lifecycles import LIFECYCLES, Lifecycle, Slot, Studio, Truth
from api.simulator.noise import NOISE
from api.simulator.traffic import json_bytes
from ledger.store import read_log
from ledger.vocabulary import Position
from tests.builders import MAIN, NOON, minutes, people, webhook
from tests.serving import (
    WEBHOOK,
    Server,
    connected,
    deliver,
    deliver_all,
    parked,
    serving,
    speaking_to,
    until,
    until_current,
)

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
SEEDS = (1, 2, 3)
REPEATED_SHARE = 0.3
TABLES = ("calendar_events", "booking_attendees", "status_words", "meetings")
ATTENDEES = "SELECT email, no_show FROM booking_attendees WHERE uid = $1 AND NOT removed"

# SYSTEMS.md 3.13 and 3.15, word for word.
SUCCESS_RATE = """
SELECT status, COUNT(*), ROUND(COUNT(*)*100.0/SUM(COUNT(*)) OVER(),2) percentage FROM webhook_logs
WHERE created_at > NOW() - INTERVAL '24 hours' GROUP BY status
"""
SYNC_LAG = """
SELECT cal_com_event_id, created_at, synced_at, EXTRACT(EPOCH FROM (synced_at - created_at)) lag_seconds
FROM calendar_events ORDER BY created_at DESC LIMIT 10
"""


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


# Lifecycles


def every_lifecycle() -> list[Lifecycle]:
    """Each at several seeds, one after the other: no two share a uid."""
    studio_of = {seed: Studio(Random(seed)) for seed in SEEDS}
    slots = {
        seed: Slot(booked_at=NOW - timedelta(days=9), starts_at=NOW - timedelta(days=2, hours=seed)) for seed in SEEDS
    }
    return [play(studio_of[seed], slots[seed]) for seed in SEEDS for play in LIFECYCLES.values()]


def bodies(lifecycles: Sequence[Lifecycle]) -> list[bytes]:
    return [json_bytes(sent) for lifecycle in lifecycles for sent in lifecycle.deliveries]


async def told_of(connection: asyncpg.Connection, truth: Truth) -> Truth:
    """The same as the read models have it; `attendees` from `booking_attendees`."""
    row = await connection.fetchrow("SELECT * FROM calendar_events WHERE cal_com_event_id = $1", truth.uid)
    assert row is not None, truth
    attendees = await connection.fetch(
        "SELECT email, no_show FROM booking_attendees WHERE uid = $1 AND NOT removed", truth.uid
    )
    assert {attendee["email"] for attendee in msgspec.json.decode(row["attendees"])} == {a["email"] for a in attendees}
    assert any(attendee["no_show"] for attendee in attendees) == row["no_show"]
    return Truth(
        uid=row["cal_com_event_id"],
        booking_status=row["booking_status"],
        status=row["status"],
        start=row["start_time"],
        end=row["end_time"],
        attendees=frozenset(attendee["email"] for attendee in attendees),
        rescheduled_to=row["rescheduled_to"],
        paid=row["paid"],
        no_show=row["no_show"],
    )


async def rows(connection: asyncpg.Connection, table: str) -> list[Any]:
    """Every row as JSON, but for when it was written."""
    found = await connection.fetch(f"SELECT (to_jsonb(t) - 'synced_at')::text FROM {table} AS t ORDER BY 1")  # noqa: S608  # ours
    return [msgspec.json.decode(row[0]) for row in found]


async def test_every_lifecycle_is_told_as_it_truly_was_and_in_any_order_the_same(
    server: Server, another_durable_database: str, tmp_path: Path
) -> None:
    lifecycles = every_lifecycle()
    deliveries = bodies(lifecycles)
    async with connected(server.dsn) as connection, speaking_to(server) as http:
        await deliver_all(http, *deliveries)
        await until_current(connection)
        truths = [truth for lifecycle in lifecycles for truth in lifecycle.truth]
        wrong = [(truth, told) for truth in truths if (told := await told_of(connection, truth)) != truth]
        assert wrong == []
        assert await connection.fetchval("SELECT count(*) FROM calendar_events") == len(truths)
        in_order = {table: await rows(connection, table) for table in TABLES}

    rng = Random(7)
    shuffled = [*deliveries, *(body for body in deliveries if rng.random() < REPEATED_SHARE)]
    rng.shuffle(shuffled)
    with serving(another_durable_database, tmp_path) as other:
        async with connected(other.dsn) as connection, speaking_to(other) as http:
            await deliver_all(http, *shuffled)
            await until_current(connection)
            for table, expected in in_order.items():
                found = await rows(connection, table)
                assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == [], table


# Hostile bodies, validly signed


def created(**fields: object) -> bytes:
    return webhook(
        "BOOKING_CREATED", {"uid": "hostile", "title": "Bath", "attendees": people("ada@example.com"), **fields}
    )


def raw(inner: bytes) -> bytes:
    """A whole body, with these bytes as its title."""
    return created(title="HERE").replace(b'"HERE"', inner)


def nested(depth: int) -> bytes:
    return raw(b"[" * depth + b"]" * depth)


UNCOMPRESSIBLE = Random(1).randbytes(6_000).hex()

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "false": b"false",
    "null": b"null",
    "a list": b"[]",
    "a list of a body": b"[" + created() + b"]",
    "a number": b"7",
    "plain text": "New booking with Zoë 🐾".encode(),
    "invalid UTF-8": raw(b'"\xff\xfe"'),
    "UTF-16": created().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + created(),
    "a NUL byte": raw(b'"a\x00b"'),
    "NUL bytes alone": b"\x00" * 1_000,
    "an escaped NUL": raw(rb'"a\u0000b"'),
    "an escaped backslash before u0000": raw(rb'"a\\u0000b\\\u0000"'),
    "escaped NULs everywhere": created(
        description="\0",
        location="\0",
        type="\0",
        attendees=[{"email": "\0@example.com", "name": "\0", "phoneNumber": "\0", "timeZone": "\0"}],
        organizer={"email": "\0", "name": "\0"},
        metadata={"\0": "\0", "clientId": "\0", "petId": "\0", "salonId": "\0"},
        iCalUID="\0",
    ),
    "a lone high surrogate": raw(rb'"a\ud800b"'),
    "a lone low surrogate": raw(rb'"\udc00"'),
    "surrogates the wrong way round": raw(rb'"\udc00\ud800"'),
    "a surrogate in a key": raw(rb'"x", "\ud800": 1, "more": {"\udfff": "\ud800"}'),
    "nested 10,000 deep": nested(10_000),
    "nested 200,000 deep": nested(200_000),
    "nested about as deep as Python goes": nested(960),
    "open brackets alone": b"[" * 100_000,
    "an integer of 5,000 digits": raw(b"9" * 5_000),
    "an integer of 65 bits": created(bookingId=2**64, id=-(2**63), eventTypeId=2**64),
    "NaN": raw(b"NaN"),
    "Infinity": raw(b"-Infinity"),
    "a float too large": raw(b"1e400"),
    "the same key twice": raw(b'"x", "title": "y", "uid": "other"'),
    "trailing garbage": created() + b"}}",
    "no uid": webhook("BOOKING_CREATED", {"title": "x"}),
    "a uid with control characters": created(uid="a\nb\x1b[31m"),
    "a uid of 10,000 characters": created(uid="u" * 10_000),
    "a uid like a number's stream": created(uid="id-7", bookingId=8),
    "a uid that is a path": created(uid="../../etc/passwd?x=%00"),
    "it replaces itself": created(rescheduleUid="hostile", rescheduleId=1),
    "everything of the wrong type": created(
        uid=["x"], attendees="ada", organizer=[], metadata="", startTime=1, endTime={}, eventType="x", responses=[[]]
    ),
    "attendees of every kind": created(attendees=[None, 1, "ada@example.com", [], {}, {"email": None}, {"email": 7}]),
    "two addresses that look the same once stored": created(attendees=people("\0@example.com", "\ufffd@example.com")),
    "the same attendee three times": created(attendees=people("ada@example.com", "ADA@example.com", "ada@example.com")),
    "an address longer than an index entry": created(attendees=people(f"{UNCOMPRESSIBLE}@example.com")),
    "a calendar id longer than an index entry": created(iCalUID=UNCOMPRESSIBLE),
    "the year 1": created(startTime="0001-01-01T00:00:00+14:00", endTime="0001-01-01T00:00:00Z"),
    "the year 9999": created(startTime="9999-12-31T23:59:59.999Z", endTime="9999-12-31T23:59:59-14:00"),
    "ends before it starts": created(startTime="2026-12-01T10:00:00Z", endTime="2026-12-01T09:00:00Z"),
    "from the first year to the last": created(startTime="0001-01-01T00:00:00Z", endTime="9999-12-31T00:00:00Z"),
    "sent in the year 1": webhook("BOOKING_CREATED", {"uid": "old"}, at=datetime(1, 1, 1, tzinfo=UTC)),
    "sent in the year 9999": webhook("BOOKING_CREATED", {"uid": "new"}, at=datetime(9999, 12, 31, tzinfo=UTC)),
    "a trigger of 100,000 characters": webhook("X" * 100_000, {"uid": "x"}),
    "a trigger with control characters": webhook("BOOKING_CREATED\x1b[2J", {"uid": "x"}),
    "a trigger that is no text": b'{"triggerEvent": {"a": 1}, "createdAt": 5, "payload": {"uid": "x"}}',
    "names of Python's own": created(__class__="x", metadata={"__proto__": "x", "constructor": "y"}),
    "half a mebibyte of metadata": created(metadata={f"k{n}": "v" * 1_000 for n in range(500)}),
}


def about(body: bytes, *, uid: str) -> bytes:
    return body.replace(b'"hostile"', f'"{uid}"'.encode())


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_kept_byte_for_byte_and_stops_nothing(
    http: httpx.AsyncClient, models: asyncpg.Connection, name: str
) -> None:
    body = about(HOSTILE[name], uid=f"hostile-{list(HOSTILE).index(name)}")
    answer = await deliver(http, body)
    assert answer.status_code == 200, answer.text
    position = answer.json()["position"]
    [event] = await read_log(models, MAIN, after=Position(position - 1), events_max=1)
    assert event.body == body
    await until_current(models)
    assert [line for line in await parked(models) if f" {position} " in line] == []
    assert (
        await models.fetchval("SELECT count(*) FROM webhook_logs WHERE id::text = $1", answer.json()["event_id"]) == 1
    )


async def test_after_all_hostile_bodies_a_booking_is_still_a_booking(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, *HOSTILE.values(), webhook("BOOKING_CREATED", {"uid": "good", "title": "Bath"}))
    await until_current(models)
    assert await models.fetchval("SELECT title FROM calendar_events WHERE cal_com_event_id = 'good'") == "Bath"
    listed = await http.get("/api/bookings", params={"limit": 500})
    assert "good" in [booking["cal_com_event_id"] for booking in listed.json()["bookings"]]
    assert (await http.get("/api/bookings/hostile/history")).status_code == 200


# What was said in a way that Postgres cannot hold


async def test_text_that_postgres_cannot_hold_is_shown_with_a_replacement_character(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "nul", "title": "a\0b", "metadata": {"petId": "p\0"}})
    await deliver_all(http, body, body.replace(b'"nul"', b'"lone"').replace(rb"a\u0000b", rb"a\ud800b"))
    await until_current(models)
    told = await models.fetch(
        "SELECT title, pet_id FROM calendar_events WHERE cal_com_event_id IN ('lone', 'nul') ORDER BY 1"
    )
    assert [tuple(row) for row in told] == [("a\ufffdb", "p\ufffd")] * 2


# webhook_logs and the older systems' SQL


async def test_every_delivery_has_its_line_in_the_logs(http: httpx.AsyncClient, models: asyncpg.Connection) -> None:
    begun = datetime.now(UTC)
    studio = Studio(Random(11))
    noise = [json_bytes(make(studio, NOW)) for make in NOISE.values()]
    known = webhook("BOOKING_CREATED", {"uid": "logged"}, at=minutes(1))
    await deliver_all(http, known, known, *noise)
    assert (await http.post(WEBHOOK, content=known)).status_code == 401

    async def logged() -> list[asyncpg.Record]:
        return await models.fetch(
            """
            SELECT webhook_type, status, error_message IS NULL, cal_com_event_id, duplicate, payload IS NULL
            FROM webhook_logs WHERE created_at > $1 ORDER BY created_at
            """,
            begun,
        )

    async def is_complete() -> bool:
        return len(await logged()) == len(noise) + 3

    await until(is_complete)
    assert [tuple(row) for row in await logged()] == [
        ("BOOKING_CREATED", "success", True, "logged", False, False),
        ("BOOKING_CREATED", "success", True, "logged", True, False),
        ("PING", "success", True, None, False, False),
        ("BOOKING_CREATED", "success", True, None, False, False),
        ("FORM_SUBMITTED", "success", True, None, False, False),
        ("OOO_CREATED", "success", True, None, False, False),
        ("unrecognised", "error", False, None, False, True),
        ("BOOKING_RATED", "success", True, None, False, False),
        ("refused", "error", False, None, False, True),
    ]


async def test_the_success_rate_of_3_13_is_answered_as_written(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, webhook("PING", {}, at=minutes(2)), b"false")
    await until_current(models)
    async with models.transaction(isolation="repeatable_read"):
        told = {row["status"]: (row["count"], row["percentage"]) for row in await models.fetch(SUCCESS_RATE)}
        total = await models.fetchval("SELECT count(*) FROM webhook_logs")
    assert set(told) == {"success", "error"}
    assert sum(count for count, _ in told.values()) == total
    assert told["error"][1] == round(Decimal(told["error"][0]) * 100 / total, 2)
    assert abs(sum(share for _, share in told.values()) - 100) <= Decimal("0.01")


async def test_the_sync_lag_of_3_15_is_the_time_from_what_happened_to_what_is_shown(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    before = datetime.now(UTC)
    happened_at = datetime(2199, 12, 31, tzinfo=UTC)  # later than anything else here
    await deliver_all(http, webhook("BOOKING_CREATED", {"uid": "lagging"}, at=happened_at))
    await until_current(models)
    told = await models.fetch(SYNC_LAG)
    assert len(told) <= 10
    [row] = [row for row in told if row["cal_com_event_id"] == "lagging"]
    assert row["created_at"] == happened_at
    assert before <= row["synced_at"] <= datetime.now(UTC)
    assert float(row["lag_seconds"]) == pytest.approx((row["synced_at"] - happened_at).total_seconds())


async def test_a_row_that_says_the_same_as_before_keeps_the_time_of_its_last_change(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "steady", "title": "Bath"}, at=NOON)
    await deliver_all(http, body)
    await until_current(models)
    query = "SELECT synced_at FROM calendar_events WHERE cal_com_event_id = 'steady'"
    first = await models.fetchval(query)
    await deliver_all(http, body, webhook("BOOKING_CREATED", {"uid": "another"}, at=NOON))
    await until_current(models)
    assert await models.fetchval(query) == first
    await deliver_all(http, webhook("BOOKING_CANCELLED", {"uid": "steady"}, at=NOON + timedelta(hours=1)))
    await until_current(models)
    assert await models.fetchval(query) > first
