"""Rebuilds in tests: read models as bytes, generations filled in this process, and a log with everything in it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from api.simulator.rarities import RARITIES
from api.simulator.studio import Studio
from api.simulator.traffic import json_bytes, simulate
from ledger.calcom.observation import OBSERVED_TOPIC
from ledger.filing import Receipt, file_delivery
from ledger.links import linked_events
from ledger.postgres import Connection, connect
from ledger.store import Ledger, NewEvent, append, read_ledgers, read_log
from ledger.vocabulary import Position, StreamId
from projections import rebuild as rebuild_module
from projections import upkeep as upkeep_module
from projections.catalogue import BY_NAME, CATALOGUE
from projections.filling import Filler, Order
from projections.generations import point_at
from projections.rebuild import SQL as REBUILD_SQL
from projections.rebuild import Rebuild, WheelLost, begin_rebuild, drive_rebuild
from projections.upkeep import Upkeep
from tests.builders import NOON, instant, meeting, minutes, people, webhook

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
NAMES = tuple(projection.name for projection in CATALOGUE)
PAGE_EVENTS = "projections.runner.PAGE_EVENTS_MAX"
RANGE_EVENTS = "projections.rebuild.RANGE_EVENTS"
REBUILD_SECONDS_MAX = 120.0

Rows = Mapping[str, list[bytes]]
"""Every row of every table as canonical JSON, by table."""


# Reading


async def read_models(connection: Connection) -> Rows:
    """All that the live generations hold."""
    return {
        f"{name}.{table}": await rows_of(connection, "projections", table)
        for name in NAMES
        for table in await tables_of(connection, name)
    }


async def tables_of(connection: Connection, name: str) -> list[str]:
    """The tables of each generation of a projection."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = ($1 || '_0')::regnamespace AND relkind = 'r' ORDER BY 1",
        name,
    )
    return [row["relname"] for row in rows]


async def rows_of(connection: Connection, schema: str, table: str) -> list[bytes]:
    """The rows of one table; of the statistics those that count a booking: a key may be left behind with none."""
    counted = "bookings > 0" if table.startswith("booking_statistics") else "true"
    rows = await connection.fetch(f"SELECT to_jsonb(t)::text FROM {schema}.{table} AS t WHERE {counted} ORDER BY 1")  # noqa: S608  # ours
    return [row[0].encode() for row in rows]


def of_ledger(rows: Rows, ledger: Ledger) -> Rows:
    """The rows of one log."""
    mark = f'"ledger_id": {ledger.ledger_id},'.encode()
    return {table: [row for row in told if mark in row] for table, told in rows.items()}


def but_for_when(rows: Rows) -> Rows:
    """The same without what tells when a row was written: for those that were written late."""
    timeless: dict[str, list[bytes]] = {table: told for table, told in rows.items() if table != "sync_lag.sync_lag"}
    told = [json.loads(row) for row in rows["calendar_events.calendar_events"]]
    timeless["calendar_events.calendar_events"] = [
        json.dumps({key: value for key, value in row.items() if key != "synced_at"}).encode() for row in told
    ]
    return timeless


def assert_same(rebuilt: Rows, live: Rows) -> None:
    """Told by row where they differ."""
    assert rebuilt.keys() == live.keys()
    for table in live:
        both = {*rebuilt[table]} & {*live[table]}
        told = [f"live    {row.decode()}" for row in live[table] if row not in both]
        told += [f"rebuilt {row.decode()}" for row in rebuilt[table] if row not in both]
        assert rebuilt[table] == live[table], "\n".join([table, *told])


# Rebuilding


def fill_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuilds are driven and fill their tables in this process, without the half second that each other one needs."""

    async def run_fillers(self: Rebuild, _count: int) -> int:
        order = self._order  # what it would write to the process
        connection = await connect(order.dsn)
        try:
            await Filler(connection, order).fill_ranges()
        finally:
            connection.terminate()
        return 0

    async def drive_here(order: Order) -> None:
        with contextlib.suppress(WheelLost):
            await drive_rebuild(
                order.dsn, order.projection, order.generation, confirm_on_accept=order.confirm_on_accept
            )

    monkeypatch.setattr(Rebuild, "_run_fillers", run_fillers)
    monkeypatch.setattr(upkeep_module, "drive_aside", drive_here)


def step(name: str) -> Callable[..., Awaitable[Any]]:
    """A step of the rebuild's driver, by its name, for tests that put something else in its place."""
    whole: Callable[..., Awaitable[Any]] = getattr(Rebuild, name)
    return whole


async def rebuild(dsn: str, *names: str, confirm_on_accept: bool = False) -> None:
    """These read models (none: all) are of another generation, and the tables of the one before are gone."""
    connection = await connect(dsn)
    try:
        async with asyncio.timeout(REBUILD_SECONDS_MAX):
            for name in names or NAMES:
                generation = await begin_rebuild(connection, name)
                await drive_rebuild(dsn, name, generation, confirm_on_accept=confirm_on_accept)
    finally:
        await connection.close()
    await Upkeep(dsn, confirm_on_accept=confirm_on_accept).look()


async def filled(
    connection: asyncpg.Connection, dsn: str, *, confirm_on_accept: bool = False, only: str | None = None
) -> Rows:
    """What a rebuild of every read model would fill, up to where the logs end, or one; nothing of it stays."""
    told: dict[str, list[bytes]] = {}
    for name in NAMES:
        transaction = connection.transaction()
        await transaction.start()
        try:
            generation = await _fill(connection, dsn, name, confirm_on_accept=confirm_on_accept, only=only)
            for table in await tables_of(connection, name):
                told[f"{name}.{table}"] = await rows_of(connection, f"{name}_{generation}", table)
            parked = "SELECT count(*) FROM projections.parked_events WHERE projection = $1 AND generation = $2"
            assert await connection.fetchval(parked, name, generation) == 0
        finally:
            await transaction.rollback()
    return told


async def _fill(
    connection: asyncpg.Connection, dsn: str, name: str, *, confirm_on_accept: bool, only: str | None
) -> int:
    generation = await begin_rebuild(connection, name)
    ledgers = [one for log, one in (await read_ledgers(connection)).items() if only in {None, log}]
    rows = await connection.fetch(
        "SELECT ledger_id, position FROM ledger.ledgers WHERE ledger_id = ANY($1) ORDER BY 1",
        [ledger.ledger_id for ledger in ledgers],
    )
    heads = {row["ledger_id"]: row["position"] for row in rows}
    await connection.execute(REBUILD_SQL["create_tables"], name, generation)
    events = rebuild_module.RANGE_EVENTS
    await connection.execute(REBUILD_SQL["plan_filling"], name, generation, events, list(heads), list(heads.values()))
    await connection.execute("UPDATE projections.generations SET phase = 'filling' WHERE state = 'building'")
    order = Order(dsn=dsn, projection=name, generation=generation, confirm_on_accept=confirm_on_accept)
    filler = Filler(connection, order)
    await filler.fill_ranges()
    await point_at(connection, name, generation)
    for ledger in ledgers:
        await filler.fill_numbered(ledger, up_to=heads[ledger.ledger_id])
    finish = BY_NAME[name].finish
    if finish is not None:
        await finish(connection)
    return generation


# A log with everything in it


async def add_ledgers(connection: Connection, *names: str) -> None:
    """More logs beside the main one, all empty."""
    for name in names:
        await connection.execute(
            """
            INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key)
            SELECT max(ledger_id) + 1, $1, sha256(convert_to($1, 'UTF8')), sha256('key') FROM ledger.ledgers
            """,
            name,
        )


async def file_in(connection: Connection, ledger_name: str, *bodies: bytes) -> None:
    """The deliveries are in this log, in this order, each with its links."""
    ledger = (await read_ledgers(connection))[ledger_name]
    receipt = Receipt(received_at=datetime.now(UTC))
    filings = [file_delivery(ledger, body, receipt, fresh_id=uuid4()) for body in bodies]
    await append(connection, ledger.ledger_id, [event for filing in filings for event in filing.events])


def traffic(*, bookings: int, seed: int = 2) -> list[bytes]:
    """Every lifecycle, repeated and late deliveries, noise."""
    deliveries = simulate(seed=seed, now=NOW, bookings=bookings, secret=b"s", noise_share=0.1)
    studio = Studio(Random(seed))
    return [*(one.body for one in deliveries), *(json_bytes(rarity(studio, NOW)) for rarity in RARITIES.values())]


def by_number(trigger: str, number: int, **fields: object) -> bytes:
    """System 001's dialect: ids as text, no uid, no time of sending."""
    data = {"id": str(number), "bookingId": str(number), **fields}
    return msgspec.json.encode({"trigger": trigger, "data": data})


def observed(uid: str, *, at: datetime, **fields: object) -> NewEvent:
    """What Cal.com's API said of a booking."""
    told = {"uid": uid, "status": "accepted", "start": instant(NOON), "end": instant(minutes(30)), **fields}
    return NewEvent(
        event_id=uuid4(),
        stream_id=StreamId(f"booking-{uid}"),
        topic=OBSERVED_TOPIC,
        body=json.dumps(told).encode(),
        occurred_at=at,
        source="reconcile",
    )


async def link_first_unnamed(connection: Connection, ledger_name: str, uid: str) -> None:
    """The first delivery that names no booking is given to this one, by a person's word."""
    ledger = (await read_ledgers(connection))[ledger_name]
    events = await read_log(connection, ledger.ledger_id, after=Position(0), events_max=1_000)
    unnamed = next(event for event in events if event.stream_id.startswith("unattributed-"))
    await append(connection, ledger.ledger_id, linked_events(ledger, unnamed, StreamId(f"booking-{uid}")))


TRIGGERS = (
    *("BOOKING_CREATED", "BOOKING_REQUESTED", "BOOKING_RESCHEDULED", "BOOKING_CANCELLED", "BOOKING_REJECTED"),
    *("BOOKING_PAID", "BOOKING_PAYMENT_INITIATED", "BOOKING_NO_SHOW_UPDATED", "BOOKING_CONFIRMED", "RECORDING_READY"),
    *("BOOKING_LOCATION_UPDATED", "BOOKING_REASSIGNED", "AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "MEETING_STARTED"),
    "MEETING_ENDED",
)
UIDS = "abcd"


def tangled(rng: Random) -> Iterator[bytes]:
    """Bodies about a few bookings without end: any trigger, by uid or number or both, after any other, seats and all.

    Of Cal.com's rules one is kept: a number is always the same uid's.
    """
    count = 0
    while True:
        count += 1
        yield _tangle(rng, count)


def _tangle(rng: Random, count: int) -> bytes:
    trigger, at = rng.choice(TRIGGERS), rng.randrange(len(UIDS))
    named = rng.choice((("uid",), ("uid",), ("bookingId",), ("uid", "bookingId")))
    payload: dict[str, object] = {"uid": UIDS[at], "bookingId": at + 1}
    payload = {key: payload[key] for key in named}
    before = rng.randrange(len(UIDS))
    if before != at and (trigger == "BOOKING_RESCHEDULED" or _happens(rng, 0.4)):
        payload[rng.choice(("rescheduleUid", "fromReschedule"))] = UIDS[before]
        payload |= {"rescheduleId": before + 1} if _happens(rng, 0.7) else {}
    rows = [{**person, "bookingId": at + 1} if _happens(rng, 0.4) else person for person in _people(rng)]
    start = 600 + 60 * rng.randrange(3)
    payload |= {"seatsPerTimeSlot": 5} if _happens(rng, 0.3) else {}
    payload |= {"attendees": rows} if _happens(rng, 0.7) else {}
    payload |= {"metadata": {rng.choice("kl"): str(count)}} if _happens(rng, 0.5) else {}
    payload |= (
        {"startTime": instant(minutes(start)), "endTime": instant(minutes(start + 30))} if _happens(rng, 0.5) else {}
    )
    payload |= {"title": f"title {count}"} if _happens(rng, 0.3) else {}
    payload |= {"type": "bath", "organizer": {"email": "host@example.com"}} if _happens(rng, 0.2) else {}
    if trigger.startswith("MEETING"):
        return meeting(trigger, payload)
    return webhook(
        trigger, payload, at=None if _happens(rng, 0.05) else minutes(rng.choice((count, rng.randrange(60))))
    )


def _people(rng: Random) -> Sequence[Mapping[str, object]]:
    return people(*rng.sample(("x@example.com", "y@example.com", "z@example.com"), rng.randrange(3)))


def _happens(rng: Random, share: float) -> bool:
    return rng.random() < share
