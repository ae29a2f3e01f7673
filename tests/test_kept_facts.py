"""What deliveries say is kept along with them, and read instead of their bodies, as if those had been decoded."""

from datetime import UTC, datetime
from random import Random

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from api.simulator.traffic import simulate
from ledger import filing as filing_module
from ledger.calcom.envelope import Envelope
from ledger.history import read_event
from ledger.kept_facts import DECODER_VERSION, tell
from ledger.links import LINK_TOPICS
from ledger.postgres import LedgerConnection
from ledger.readings import Reading
from ledger.store import Ledger, read_ledgers, read_log
from ledger.vocabulary import Position
from projections import facts
from projections.catalogue import CATALOGUE
from projections.filling import SQL as FILLING
from projections.pages import Stretch, read_stretch
from projections.runner import Runner
from tests.builders import webhook
from tests.serving import file, until_current

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
BOOKINGS = 150
EVERYTHING = 10_000
KEPT = "SELECT position, stream_id, stream_version, alone, told FROM projections.facts ORDER BY position"
CREATED = webhook("BOOKING_CREATED", {"uid": "a", "title": "Bath"})
MOVED = webhook("BOOKING_RESCHEDULED", {"uid": "b", "rescheduleUid": "a", "rescheduleId": 1})


@pytest_asyncio.fixture
async def main(connection: LedgerConnection) -> Ledger:
    return (await read_ledgers(connection))["main"]


def traffic(seed: int) -> list[bytes]:
    """Whole lifecycles, in no order, with repeats."""
    sent = [delivery.body for delivery in simulate(seed=seed, now=NOW, bookings=BOOKINGS, secret=b"s")]
    Random(seed).shuffle(sent)
    return sent


async def stretch(connection: LedgerConnection, ledger: Ledger, *, bodies: bool) -> Stretch:
    return await read_stretch(connection, ledger, after=Position(0), events_max=EVERYTHING, bodies=bodies)


async def test_what_is_kept_with_an_event_is_what_its_projection_would_keep(
    connection: LedgerConnection, main: Ledger, pool: asyncpg.Pool, database: str
) -> None:
    await file(connection, *traffic(1))
    beforehand = {row["position"]: tuple(row) for row in await connection.fetch(KEPT)}
    events = await read_log(connection, main.ledger_id, after=Position(0), events_max=EVERYTHING)
    assert len(beforehand) > len(events) / 2, "most deliveries speak of their own booking alone"
    for event in events:
        reading = read_event(event)
        if event.position in beforehand:
            told = tell([dated for _, dated in reading.facts])
            assert beforehand[event.position] == (event.position, event.stream_id, event.stream_version, True, told)
        else:
            is_simple = reading.alone and len(reading.facts) == 1
            assert not is_simple, f"{event.topic} could have been told beforehand"
    await Runner(pool, database, catalogue=CATALOGUE).catch_up()
    await until_current(connection)
    kept = {row["position"]: tuple(row) for row in await connection.fetch(KEPT)}
    assert kept.items() >= beforehand.items()
    assert len(kept) > len(beforehand)


@pytest.mark.parametrize("bodies", [True, False])
@pytest.mark.parametrize("seed", range(3))
async def test_a_page_says_the_same_whether_its_bodies_are_decoded_or_what_they_say_was_kept(
    connection: LedgerConnection, main: Ledger, *, seed: int, bodies: bool
) -> None:
    await file(connection, *traffic(seed))
    events = await read_log(connection, main.ledger_id, after=Position(0), events_max=EVERYTHING)
    read = await stretch(connection, main, bodies=bodies)
    assert read.readings is not None
    decoded = [read_event(event) for event in events]
    assert [reading_of(reading) for reading in read.readings] == [reading_of(reading) for reading in decoded]
    assert [event.position for event in read.events] == [event.position for event in events]
    if bodies:
        assert read.events == events
    else:
        unopened = [event for event in read.events if not event.body]
        assert len(unopened) > len(events) / 2
        assert all(event.body for event in read.events if event.topic in LINK_TOPICS)


def reading_of(reading: Reading) -> dict[str, object]:
    return msgspec.structs.asdict(reading)


async def test_a_delivery_that_speaks_of_two_bookings_is_left_to_the_projection(connection: LedgerConnection) -> None:
    await file(connection, CREATED, MOVED)
    assert [(row["position"], row["stream_id"]) for row in await connection.fetch(KEPT)] == [(1, "booking-a")]


async def test_a_repeat_is_kept_once(connection: LedgerConnection) -> None:
    await file(connection, CREATED, CREATED)
    await file(connection, CREATED, webhook("BOOKING_CANCELLED", {"uid": "c"}))
    assert [(row["position"], row["stream_id"]) for row in await connection.fetch(KEPT)] == [
        (1, "booking-a"),
        (2, "booking-c"),
    ]


async def test_what_another_decoder_found_is_neither_kept_nor_believed(
    connection: LedgerConnection, main: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file(connection, CREATED)
    await connection.execute("UPDATE projections.generations SET version = version + 1 WHERE projection = 'facts'")
    await file(connection, webhook("BOOKING_CREATED", {"uid": "c"}))
    assert [row["stream_id"] for row in await connection.fetch(KEPT)] == ["booking-a"]
    assert await facts.read_page(connection, main, after=Position(0), until=Position(9)) == {}
    read = await stretch(connection, main, bodies=False)
    assert all(event.body for event in read.events)
    monkeypatch.setattr("projections.facts.DECODER_VERSION", DECODER_VERSION + 1)
    assert list(await facts.read_page(connection, main, after=Position(0), until=Position(9))) == [1]


async def test_a_delivery_that_is_not_understood_is_filed_all_the_same(
    connection: LedgerConnection, main: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbling(envelope: Envelope) -> None:
        raise ZeroDivisionError(envelope.uid)

    monkeypatch.setattr(filing_module, "meaning_of", stumbling)
    await file(connection, CREATED)
    (event,) = await read_log(connection, main.ledger_id, after=Position(0), events_max=EVERYTHING)
    assert event.body == CREATED
    assert await connection.fetch(KEPT) == []


async def test_what_is_kept_and_cannot_be_read_is_decoded_again(connection: LedgerConnection, main: Ledger) -> None:
    await file(connection, CREATED)
    await connection.execute("UPDATE projections.facts SET told = '\\x93'")
    (event,) = (await stretch(connection, main, bodies=False)).events
    assert event.body == CREATED


@pytest.mark.parametrize(("name", "values"), [("read_begun", (1, 0, 9, 9)), ("read_streams", (1, ["booking-a"], 9))])
async def test_the_facts_of_a_booking_are_found_by_its_stream(
    connection: LedgerConnection, name: str, values: tuple[object, ...]
) -> None:
    """Where texts of the two tables are not compared alike, the whole log is read for each booking."""
    await file(connection, CREATED, MOVED)
    await connection.execute(FILLING["prepare_session"])
    plan = [row[0] for row in await connection.fetch(f"EXPLAIN {facts.SQL[name]}", *values)]
    assert any("Index Cond" in line and "stream_id = " in line for line in plan), "\n".join(plan)
