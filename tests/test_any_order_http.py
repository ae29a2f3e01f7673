"""The law over the wire: any order and any repetition, two servers, two runners, one and the same read model.

Every permutation goes to a ledger of its own, so that the same bookings can be told three hundred times.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from random import Random

import asyncpg
import httpx
import msgspec

from api.simulator.lifecycles import LIFECYCLES, Slot, Studio
from api.simulator.traffic import json_bytes
from tests.serving import WEBHOOK, connected, deliver, serving, speaking_to, until_current

PERMUTATIONS_EACH = 20
PERMUTATIONS_MIN = 300
DELIVERIES_MAX = 7
BOOKED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

CALENDAR_EVENTS = """
SELECT ledger, to_jsonb(c) - '{id,ledger,appointment_id,synced_at}'::text[] AS row
FROM calendar_events AS c ORDER BY ledger, cal_com_event_id
"""
BOOKING_ATTENDEES = """
SELECT ledger, to_jsonb(a) - 'ledger' AS row FROM booking_attendees AS a ORDER BY ledger, uid, email
"""


def orders(name: str) -> list[tuple[bytes, ...]]:
    """The lifecycle in its own order, and samples of the others, some deliveries repeated."""
    rng = Random(name)
    slot = Slot(booked_at=BOOKED_AT, starts_at=BOOKED_AT + timedelta(days=2))
    bodies = tuple(json_bytes(sent) for sent in LIFECYCLES[name](Studio(rng), slot).deliveries)
    others = list(permutations(bodies)) if len(bodies) <= DELIVERIES_MAX else [tuple(rng.sample(bodies, len(bodies)))]
    sampled = rng.sample(others, min(PERMUTATIONS_EACH, len(others)))
    return [bodies, *((*order, rng.choice(order)) for order in sampled)]


async def rows_by_ledger(connection: asyncpg.Connection, query: str) -> dict[str, list[bytes]]:
    told: dict[str, list[bytes]] = {}
    for row in await connection.fetch(query):
        canonical = msgspec.json.encode(msgspec.json.decode(row["row"]), order="deterministic")
        told.setdefault(row["ledger"], []).append(canonical)
    return told


async def post_in_order(http: httpx.AsyncClient, ledger: str, bodies: tuple[bytes, ...]) -> None:
    for body in bodies:
        answer = await deliver(http, body, path=f"{WEBHOOK}/{ledger}")
        assert answer.status_code == 200, answer.text


async def test_any_order_and_any_repetition_gives_byte_equal_read_models(durable_database: str, tmp_path: Path) -> None:
    ledgers = {f"{name.replace('_', '-')}-{n}": order for name in LIFECYCLES for n, order in enumerate(orders(name))}
    async with connected(durable_database) as connection:
        await connection.executemany(
            "INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key) "
            "VALUES ($1, $2, sha256(convert_to('booking-ledger/' || $1::int, 'UTF8')), sha256('key'))",
            list(enumerate(ledgers, start=2)),
        )
        with serving(durable_database, tmp_path) as first, serving(durable_database, tmp_path) as second:
            async with speaking_to(first) as one, speaking_to(second) as other, asyncio.TaskGroup() as posting:
                for number, (name, order) in enumerate(ledgers.items()):
                    posting.create_task(post_in_order((one, other)[number % 2], name, order))
            await until_current(connection)
        told_in = len(ledgers)
        assert told_in >= PERMUTATIONS_MIN
        for query in (CALENDAR_EVENTS, BOOKING_ATTENDEES):
            told = await rows_by_ledger(connection, query)
            for name in LIFECYCLES:
                family = [key for key in ledgers if key.rpartition("-")[0] == name.replace("_", "-")]
                in_order = told.get(family[0])
                assert in_order, name
                assert {tuple(told[key]) for key in family} == {tuple(in_order)}, name
