"""The hash chain: the database and Python compute the same, and whatever was changed is found, and where."""

import asyncio
import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from ledger.chain import Mark, Stretch, Verification, genesis, verify_chain
from ledger.postgres import Connection, connect
from ledger.store import append, read_head, read_ledgers
from ledger.vocabulary import Position
from tests.builders import MAIN, NOON, add_ledger, new_event
from tests.tampering import with_triggers_off

EVENTS = 9
UPDATE = "UPDATE ledger.events SET %s WHERE position = %d"
UPDATE_HEAD = "UPDATE ledger.ledgers SET %s"
CHANGED = 5
TEXTS = (
    "",
    "a",
    "naïve",
    "naïve",
    "🐾" * 300,
    "ـالعربية",
    "שלום עולם",
    "日本語\n\t\r",
    "\x01\x7f\u200b\u202e\ufffd\uffff",
    "\U0001d518\U0001d52b\U0001d526",
    "a\\u0000b'\"\\",
    "0" * 5_000,
)


async def verify(connection: Connection) -> Verification:
    ledgers = await read_ledgers(connection)
    return await verify_chain(connection, ledgers["main"])


@pytest.fixture
async def nine_events(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A log of nine events in three batches and three streams."""
    for batch in range(3):
        await append(
            connection, MAIN, [new_event(f"booking-{n}", body=b"%d/%d" % (batch, n)) for n in range(EVENTS // 3)]
        )
    return connection


# The same digest on both sides


def recomputed(previous: bytes, row: asyncpg.Record) -> bytes:
    """The digest as the docstring of ledger/chain.py words it, written down once more and independently."""

    def sized(text: str) -> bytes:
        return struct.pack(">i", len(text.encode())) + text.encode()

    def since_2000(moment: datetime) -> int:
        return (moment - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    header = b"\x01" + struct.pack(">iqih", 1, row["position"], row["stream_version"], row["encoding"])
    header += struct.pack(">qq", since_2000(row["occurred_at"]), since_2000(row["recorded_at"]))
    header += row["event_id"].bytes
    header += b"".join(sized(row[name]) for name in ("stream_id", "topic", "source", "metadata"))
    return hashlib.sha256(previous + header + hashlib.sha256(row["state"]).digest()).digest()


async def test_the_database_chains_as_the_definition_says(connection: asyncpg.Connection) -> None:
    rng = Random(11)
    moments = [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC), NOON]
    events = [
        new_event(
            f"booking-{stream}",
            topic=topic,
            metadata=metadata,
            body=rng.randbytes(rng.choice((0, 1, 300, 9_000))),
            occurred_at=rng.choice(moments)
            if rng.random() < 0.2
            else NOON + timedelta(microseconds=rng.getrandbits(40)),
        )
        for stream in TEXTS
        for topic in TEXTS
        for metadata in TEXTS[:4]
        if len(stream) < 1_000  # a longer one finds no place in an index
    ]
    while events:
        size = rng.randint(1, 60)
        await append(connection, MAIN, events[:size])
        events = events[size:]
    digest = genesis(MAIN)
    for row in await connection.fetch("SELECT * FROM ledger.events ORDER BY position"):
        digest = recomputed(digest, row)
        assert row["digest"] == digest
    assert (await read_head(connection, MAIN)).digest == digest
    assert (await verify(connection)).ok


async def test_the_chain_does_not_depend_on_the_encoding_of_whoever_appends(connection: asyncpg.Connection) -> None:
    await connection.execute("SET client_encoding = 'LATIN1'")
    await append(connection, MAIN, [new_event("booking-né", metadata='{"place": "Zürich"}')])
    await connection.execute("SET client_encoding = 'UTF8'")
    [row] = await connection.fetch("SELECT * FROM ledger.events")
    assert row["stream_id"] == "booking-né"
    assert row["digest"] == recomputed(genesis(MAIN), row)


async def test_every_ledger_has_a_chain_of_its_own(connection: asyncpg.Connection) -> None:
    other = await add_ledger(connection)
    event = new_event()
    for ledger_id in (MAIN, other):
        await append(connection, ledger_id, [event])
    digests = await connection.fetch("SELECT digest FROM ledger.events")
    assert len({row["digest"] for row in digests}) == 2
    for ledger in (await read_ledgers(connection)).values():
        assert (await verify_chain(connection, ledger)).ok


# What holds


async def test_an_empty_log_holds(connection: asyncpg.Connection) -> None:
    assert await verify(connection) == Verification(ok=True, events=0, head=Position(0))


async def test_an_untouched_log_holds_and_is_counted(nine_events: asyncpg.Connection) -> None:
    assert await verify(nine_events) == Verification(ok=True, events=EVENTS, head=Position(EVENTS))


async def test_a_log_of_several_pages_holds_and_tells_its_progress(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.VERIFY_PAGE_EVENTS", 4)
    await append(connection, MAIN, [new_event() for _ in range(10)])
    told: list[tuple[int, int]] = []
    ledgers = await read_ledgers(connection)
    found = await verify_chain(connection, ledgers["main"], progress=lambda done, total: told.append((done, total)))
    assert found.ok
    assert told == [(4, 10), (8, 10), (10, 10)]


async def test_a_log_is_read_in_stretches_that_end_where_it_was_asked(
    nine_events: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.VERIFY_PAGE_EVENTS", 4)
    ledger = (await read_ledgers(nine_events))["main"]
    reached: list[Stretch] = []
    found = await verify_chain(nine_events, ledger, stops=[0, 2, 4, 7, 9, 12], reached=reached.append)
    assert found.ok
    assert [(stretch.end.position, len(stretch.links)) for stretch in reached] == [
        (2, 2),
        (4, 2),
        (7, 3),
        (8, 1),
        (9, 1),
    ]
    digest = genesis(MAIN)
    for link in (link for stretch in reached for link in stretch.links):
        digest = hashlib.sha256(digest + link).digest()
    assert digest == reached[-1].end.digest == (await read_head(nine_events, MAIN)).digest


def told_to(told: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda done, total: told.append((done, total))


async def test_what_comes_after_a_place_is_verified_from_its_digest_on(nine_events: asyncpg.Connection) -> None:
    ledger = (await read_ledgers(nine_events))["main"]
    digests = await nine_events.fetch("SELECT digest FROM ledger.events ORDER BY position")
    for position, row in enumerate(digests, start=1):
        told: list[tuple[int, int]] = []
        found = await verify_chain(
            nine_events,
            ledger,
            start=Mark(position=Position(position), digest=row["digest"]),
            progress=told_to(told),
        )
        assert found == Verification(ok=True, events=EVENTS - position, head=Position(EVENTS))
        assert told == ([(EVENTS - position, EVENTS - position)] if position < EVENTS else [])
    wrong = await verify_chain(nine_events, ledger, start=Mark(position=Position(4), digest=digests[4]["digest"]))
    assert (wrong.ok, wrong.events, wrong.first_bad_position) == (False, 0, 5)


# What does not


@pytest.mark.parametrize(
    "change",
    [
        "state = 'other'",
        "state = ''",
        "metadata = '{\"secret\":1}'",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "occurred_at = 'infinity'",
        "occurred_at = '-infinity'",
        "occurred_at = '0044-03-15 12:00:00+00 BC'",
        "recorded_at = recorded_at - interval '1 microsecond'",
        "recorded_at = 'infinity'",
        "topic = 'calcom.booking_cancelled'",
        "topic = topic || ' '",
        "source = 'reconcile'",
        "encoding = 1",
        "encoding = -1",
        "stream_id = 'booking-x'",
        "stream_version = 77",
        "event_id = '00000000-0000-8000-8000-000000000000'",
        "digest = sha256('')",
        "digest = ''",
        "ledger_id = 2",
        "position = 77",
        "source = topic, topic = 'webhook'",
        "stream_id = stream_id || left(topic, 1), topic = substr(topic, 2)",
    ],
)
async def test_a_changed_row_is_found_whatever_was_changed(nine_events: asyncpg.Connection, change: str) -> None:
    await with_triggers_off(
        nine_events,
        "ALTER TABLE ledger.events DROP CONSTRAINT events_source_known",
        UPDATE % (change, CHANGED),
    )
    found = await verify(nine_events)
    assert not found.ok
    assert found.first_bad_position == CHANGED
    assert (found.events, found.head) == (CHANGED - 1, EVENTS)


@pytest.mark.parametrize("position", [1, EVENTS])
async def test_a_change_at_either_end_is_found(nine_events: asyncpg.Connection, position: int) -> None:
    await with_triggers_off(nine_events, UPDATE % ("state = 'x'", position))
    found = await verify(nine_events)
    assert (found.ok, found.first_bad_position) == (False, position)


@pytest.mark.parametrize(
    ("what", "first_bad_position", "statements"),
    [
        ("the first row is gone", 1, ["DELETE FROM ledger.events WHERE position = 1"]),
        ("a row in the middle is gone", 5, ["DELETE FROM ledger.events WHERE position = 5"]),
        ("the last row is gone", 9, ["DELETE FROM ledger.events WHERE position = 9"]),
        ("the tail is cut", 7, ["DELETE FROM ledger.events WHERE position >= 7"]),
        ("everything is gone", 1, ["DELETE FROM ledger.events"]),
        (
            "a row is gone and those after it closed up",
            5,
            [
                "DELETE FROM ledger.events WHERE position = 5",
                "UPDATE ledger.events SET position = position + 100 WHERE position > 5",
                "UPDATE ledger.events SET position = position - 101 WHERE position > 100",
                "UPDATE ledger.ledgers SET position = 8",
            ],
        ),
        (
            "two rows changed places",
            4,
            [
                "UPDATE ledger.events SET position = 100 WHERE position = 4",
                "UPDATE ledger.events SET position = 4 WHERE position = 6",
                "UPDATE ledger.events SET position = 6 WHERE position = 100",
            ],
        ),
        (
            "two bodies changed places",
            2,
            [
                """
                UPDATE ledger.events AS e SET state = other.state FROM ledger.events AS other
                WHERE (e.position, other.position) IN ((2, 8), (8, 2))
                """
            ],
        ),
        (
            "a row was added at the end without its digest",
            10,
            [
                """
                INSERT INTO ledger.events (
                    ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at,
                    recorded_at, source, metadata, digest
                )
                SELECT ledger_id, 10, 'booking-new', 1, gen_random_uuid(), topic, state, encoding, occurred_at,
                    recorded_at, source, metadata, digest
                FROM ledger.events WHERE position = 9
                """,
                "UPDATE ledger.ledgers SET position = 10",
            ],
        ),
    ],
)
async def test_rows_removed_moved_or_added_are_found(
    nine_events: asyncpg.Connection, what: str, first_bad_position: int, statements: list[str]
) -> None:
    await with_triggers_off(nine_events, *statements)
    found = await verify(nine_events)
    assert (found.ok, found.first_bad_position) == (False, first_bad_position), what


async def test_a_chain_made_anew_around_a_gap_is_found_by_the_position_that_is_missing(
    nine_events: asyncpg.Connection,
) -> None:
    await with_triggers_off(nine_events, "DELETE FROM ledger.events WHERE position = 5")
    rows = await nine_events.fetch("SELECT * FROM ledger.events ORDER BY position")
    digest = rows[3]["digest"]
    await nine_events.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    for row in rows[4:]:
        digest = recomputed(digest, row)
        await nine_events.execute("UPDATE ledger.events SET digest = $1 WHERE position = $2", digest, row["position"])
    await nine_events.execute("UPDATE ledger.ledgers SET digest = $1", digest)
    found = await verify(nine_events)
    assert (found.ok, found.first_bad_position) == (False, 5)


@pytest.mark.parametrize("position", [1, 3, 4, 8, EVENTS])
async def test_a_second_row_of_one_position_is_found_even_at_the_end_of_a_page(
    nine_events: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setattr("ledger.chain.VERIFY_PAGE_EVENTS", 4)
    await nine_events.execute("ALTER TABLE ledger.events DROP CONSTRAINT events_position_unique")
    await nine_events.execute(
        """
        INSERT INTO ledger.events (
            ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at,
            source, metadata, digest
        )
        SELECT ledger_id, $1, 'booking-x', 1, gen_random_uuid(), topic, state, encoding, occurred_at, recorded_at,
            source, metadata, digest
        FROM ledger.events WHERE position = 2
        """,
        position,
    )
    found = await verify(nine_events)
    assert not found.ok
    assert found.first_bad_position in {position, position + 1}, "which of the two comes first is PostgreSQL's affair"


@pytest.mark.parametrize(
    ("change", "first_bad_position"),
    [
        ("position = 10", 10),
        ("position = 8", 8),
        ("digest = sha256('')", 9),
        ("position = 0, digest = sha256('booking-ledger/1')", 1),
        ("position = 8, digest = (SELECT e.digest FROM ledger.events AS e WHERE e.position = 8)", 9),
    ],
)
async def test_an_edited_head_is_found(nine_events: asyncpg.Connection, change: str, first_bad_position: int) -> None:
    await nine_events.execute(UPDATE_HEAD % change)
    found = await verify(nine_events)
    assert (found.ok, found.first_bad_position) == (False, first_bad_position)


async def test_an_edited_head_of_an_empty_log_is_found(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE ledger.ledgers SET digest = sha256('')")
    found = await verify(connection)
    assert (found.ok, found.first_bad_position) == (False, 1)


async def test_a_log_that_grows_while_it_is_read_holds(
    nine_events: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.VERIFY_PAGE_EVENTS", 2)
    writer = await connect(database)

    async def write() -> None:
        for _ in range(40):
            await append(writer, MAIN, [new_event(), new_event()])

    try:
        writing = asyncio.create_task(write())
        found = [await verify(nine_events)]
        while not writing.done():
            found.append(await verify(nine_events))
        await writing
    finally:
        await writer.close()
    assert all(verification.ok and verification.events == verification.head for verification in found)
    assert (await verify(nine_events)).events == EVENTS + 80
