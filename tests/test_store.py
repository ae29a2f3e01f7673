"""The event log: places without a gap, each event once, in the order of commits, so that a reader misses none.

The last part is a hazard with its control: the same reader, following an ordinary sequence, does miss some.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from uuid import uuid4

import asyncpg
import pytest

from ledger.errors import VersionConflict
from ledger.postgres import Connection, connect
from ledger.store import (
    NOTIFY_CHANNEL,
    append,
    read_head,
    read_ledgers,
    read_log,
    read_position_as_of,
    read_stream,
    read_streams,
)
from ledger.vocabulary import Position, StreamId
from tests.builders import MAIN, NOON, add_ledger, new_event

START = Position(0)
POLLS_MAX = 10_000

WRITERS = 16
EVENTS_IN_TOTAL = 20_000
BATCH_EVENTS_MAX = 5
ROLLBACK_SHARE = 0.05
DAWDLING_SHARE = 0.3
PAGE_EVENTS = 1_000
NAIVE_ROWS = 4_000

GROWN_EVENTS = 3_000
BATCH_EVENTS = 50


async def positions(connection: Connection) -> list[int]:
    return [event.position for event in await read_log(connection, MAIN, after=START, events_max=1_000)]


# Places


async def test_positions_count_from_one_without_a_gap(connection: asyncpg.Connection) -> None:
    placed = await append(connection, MAIN, [new_event(), new_event()])
    placed += await append(connection, MAIN, [new_event()])
    assert [place.position for place in placed] == [1, 2, 3]
    assert await positions(connection) == [1, 2, 3]
    assert (await read_head(connection, MAIN)).position == 3


async def test_every_stream_counts_its_own_versions_from_one(connection: asyncpg.Connection) -> None:
    first = await append(connection, MAIN, [new_event("booking-a"), new_event("booking-b"), new_event("booking-a")])
    second = await append(connection, MAIN, [new_event("booking-b"), new_event("booking-a")])
    assert [place.stream_version for place in first + second] == [1, 1, 2, 2, 3]


async def test_every_ledger_counts_alone(connection: asyncpg.Connection) -> None:
    other = await add_ledger(connection)
    event = new_event()
    [here] = await append(connection, MAIN, [event])
    [there] = await append(connection, other, [event])
    assert here == there
    assert not there.duplicate
    assert set(await read_ledgers(connection)) == {"main", "other"}


@pytest.mark.parametrize("body", [b"", b"false", b'{"a": 1}', bytes(range(256)) * 300, b"\xff\x00" * 200_000])
async def test_what_comes_out_is_what_came_in(connection: asyncpg.Connection, body: bytes) -> None:
    event = new_event("booking-ё🐾", body=body, metadata='{"version": "2021-10-20"}', occurred_at=NOON)
    await append(connection, MAIN, [event])
    [read] = await read_log(connection, MAIN, after=START, events_max=10)
    assert (read.event_id, read.stream_id, read.body) == (event.event_id, event.stream_id, body)
    assert (read.occurred_at, read.source, read.metadata) == (NOON, "webhook", '{"version": "2021-10-20"}')


async def test_an_empty_batch_leaves_the_log_as_it_was(connection: asyncpg.Connection) -> None:
    before = await read_head(connection, MAIN)
    assert await append(connection, MAIN, []) == []
    assert await read_head(connection, MAIN) == before


async def test_a_rolled_back_batch_gives_its_positions_back(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event()])
    rolled_back = connection.transaction()
    await rolled_back.start()
    assert [place.position for place in await append(connection, MAIN, [new_event(), new_event()])] == [2, 3]
    await rolled_back.rollback()
    [place] = await append(connection, MAIN, [new_event()])
    assert (place.position, place.stream_version) == (2, 2)
    assert await positions(connection) == [1, 2]


# Once


async def test_an_event_already_in_the_log_is_answered_with_its_place(connection: asyncpg.Connection) -> None:
    event = new_event("booking-a")
    [first] = await append(connection, MAIN, [event])
    again = await append(connection, MAIN, [new_event("booking-b"), event, new_event("booking-a")])
    assert not first.duplicate
    assert [(place.position, place.stream_version, place.duplicate) for place in again] == [
        (2, 1, False),
        (1, 1, True),
        (3, 2, False),
    ]
    assert await positions(connection) == [1, 2, 3]


async def test_an_event_twice_in_one_batch_is_appended_once(connection: asyncpg.Connection) -> None:
    event = new_event()
    placed = await append(connection, MAIN, [event, new_event(), event, event])
    assert [(place.position, place.duplicate) for place in placed] == [(1, False), (2, False), (1, True), (1, True)]
    assert await positions(connection) == [1, 2]


async def test_of_two_events_with_one_id_the_first_stays(connection: asyncpg.Connection) -> None:
    event_id = uuid4()
    await append(connection, MAIN, [new_event("booking-a", event_id=event_id, body=b"first")])
    await append(connection, MAIN, [new_event("booking-b", event_id=event_id, body=b"second")])
    [kept] = await read_log(connection, MAIN, after=START, events_max=10)
    assert (kept.stream_id, kept.body) == ("booking-a", b"first")


async def test_a_batch_of_known_events_alone_leaves_the_head_as_it_was(connection: asyncpg.Connection) -> None:
    events = [new_event(), new_event()]
    await append(connection, MAIN, events)
    before = await read_head(connection, MAIN)
    assert all(place.duplicate for place in await append(connection, MAIN, events))
    assert await read_head(connection, MAIN) == before


async def test_one_event_from_many_connections_at_once_is_appended_once(database: str) -> None:
    event = new_event()
    connections = [await connect(database) for _ in range(8)]
    try:
        answers = await asyncio.gather(*(append(connection, MAIN, [event]) for connection in connections))
        assert sorted(place.duplicate for [place] in answers) == [False] + [True] * 7
        assert {place.position for [place] in answers} == {1}
        assert await positions(connections[0]) == [1]
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_the_second_of_two_waits_for_the_firsts_commit_before_it_knows(database: str) -> None:
    event = new_event()
    first, second = await connect(database), await connect(database)
    try:
        async with first.transaction():
            await append(first, MAIN, [event])
            waiting = asyncio.create_task(append(second, MAIN, [event, new_event()]))
            for _ in range(POLLS_MAX):
                if await first.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"):
                    break
        assert [(place.position, place.duplicate) for place in await waiting] == [(1, True), (2, False)]
    finally:
        await asyncio.gather(first.close(), second.close())


# Expected versions


async def test_an_event_goes_in_when_its_stream_is_where_it_expects(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event(expected=0)])
    [place] = await append(connection, MAIN, [new_event(expected=1)])
    assert place.stream_version == 2


@pytest.mark.parametrize("expected", [0, 1, 3, 2**31 - 1])
async def test_a_conflict_says_where_the_stream_is_and_appends_nothing(
    connection: asyncpg.Connection, expected: int
) -> None:
    await append(connection, MAIN, [new_event(), new_event()])
    before = await read_head(connection, MAIN)
    with pytest.raises(VersionConflict) as conflict:
        await append(connection, MAIN, [new_event("booking-b"), new_event(expected=expected), new_event()])
    assert conflict.value.actual == 2
    assert await read_head(connection, MAIN) == before
    assert await positions(connection) == [1, 2]


async def test_a_conflict_beside_a_known_event_appends_nothing_either(connection: asyncpg.Connection) -> None:
    known = new_event()
    await append(connection, MAIN, [known])
    with pytest.raises(VersionConflict):
        await append(connection, MAIN, [known, new_event("booking-b"), new_event(expected=0)])
    assert await positions(connection) == [1]


async def test_a_known_event_is_answered_whatever_it_expects_by_now(connection: asyncpg.Connection) -> None:
    decided = new_event(expected=0)
    await append(connection, MAIN, [decided])
    await append(connection, MAIN, [new_event()])
    [place] = await append(connection, MAIN, [decided])
    assert (place.position, place.duplicate) == (1, True)


async def test_a_conflict_names_the_stream_that_is_elsewhere(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event("booking-b"), new_event("booking-b")])
    with pytest.raises(VersionConflict, match=r"^booking-b is at version 2, not 1"):
        await append(connection, MAIN, [new_event("booking-a", expected=0), new_event("booking-b", expected=1)])


async def test_of_two_decisions_on_one_version_in_one_batch_only_one_can_hold(connection: asyncpg.Connection) -> None:
    with pytest.raises(VersionConflict):
        await append(connection, MAIN, [new_event(expected=0), new_event(expected=0)])
    assert await positions(connection) == []


async def test_an_event_may_expect_the_version_that_its_own_batch_makes(connection: asyncpg.Connection) -> None:
    placed = await append(connection, MAIN, [new_event(expected=0), new_event(expected=1), new_event("booking-b")])
    assert [place.stream_version for place in placed] == [1, 2, 1]


# Append-only, and in time


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.events SET topic = 'calcom.ping'",
        "UPDATE ledger.events SET topic = topic WHERE false",
        "DELETE FROM ledger.events",
        "TRUNCATE ledger.events",
        "TRUNCATE ledger.events CASCADE",
        """
        INSERT INTO ledger.events SELECT * FROM ledger.events
        ON CONFLICT (ledger_id, position) DO UPDATE SET topic = 'calcom.ping'
        """,
        """
        MERGE INTO ledger.events AS e USING ledger.ledgers AS l ON l.ledger_id = e.ledger_id
        WHEN MATCHED THEN DELETE
        """,
    ],
)
async def test_what_is_in_the_log_cannot_be_changed(connection: asyncpg.Connection, role: str, statement: str) -> None:
    await append(connection, MAIN, [new_event()])
    before = await read_log(connection, MAIN, after=START, events_max=10)
    await connection.execute(f"SET session_replication_role = {role}")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await connection.execute(statement)
    assert await read_log(connection, MAIN, after=START, events_max=10) == before


async def test_recorded_at_never_goes_back_even_when_the_clock_does(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event()])
    ahead = (await read_head(connection, MAIN)).recorded_at + timedelta(hours=1)
    await connection.execute("UPDATE ledger.ledgers SET recorded_at = $1", ahead)
    await append(connection, MAIN, [new_event(), new_event()])
    times = [event.recorded_at for event in await read_log(connection, MAIN, after=START, events_max=10)]
    assert times == sorted(times)
    assert times[1:] == [ahead, ahead]
    assert (await read_head(connection, MAIN)).recorded_at == ahead


async def test_a_session_that_began_on_an_empty_log_does_not_read_all_of_one_that_has_grown(database: str) -> None:
    """A plan that suited an empty table is kept; it must be one that suits a large one."""
    writer, other = await connect(database), await connect(database)
    try:
        await append(writer, MAIN, [new_event("booking-first")])
        await append(other, MAIN, [new_event(f"booking-{number}") for number in range(GROWN_EVENTS)])
        before = await rows_read(writer)
        await append(writer, MAIN, [new_event(f"booking-{number}") for number in range(BATCH_EVENTS)])
        assert await rows_read(writer) - before < 5 * BATCH_EVENTS
    finally:
        await writer.close()
        await other.close()


async def rows_read(connection: asyncpg.Connection) -> int:
    """How many rows of the log all sessions have read, through whichever index or none."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    read: int = await connection.fetchval(
        """
        SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = 'ledger.events'::regclass)
            + (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relid = 'ledger.events'::regclass)
        """
    )
    return read


async def test_every_batch_that_appends_notifies_once(database: str, connection: asyncpg.Connection) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    listener = await connect(database)
    await listener.add_listener(NOTIFY_CHANNEL, lambda *notification: heard.put_nowait(notification[-1]))
    try:
        known = new_event()
        await append(connection, MAIN, [known, new_event(), new_event()])
        await append(connection, MAIN, [known])
        with pytest.raises(VersionConflict):
            await append(connection, MAIN, [new_event(expected=99)])
        await append(connection, MAIN, [new_event(), known])
        await connection.execute("SELECT pg_notify('ledger_events', 'the end')")
        assert [await heard.get() for _ in range(3)] == ["1", "1", "the end"]
    finally:
        await listener.close()


# Reading


async def test_the_log_is_read_in_pages_that_fit_together(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event(f"booking-{number % 3}") for number in range(10)])
    pages, after = [], START
    while page := await read_log(connection, MAIN, after=after, events_max=4):
        pages.append([event.position for event in page])
        after = page[-1].position
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


async def test_streams_are_read_by_version_up_to_a_position(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event(f"booking-{name}") for name in "abcabcab"])
    wanted = [StreamId("booking-b"), StreamId("booking-a"), StreamId("booking-unknown")]
    events = await read_streams(connection, MAIN, wanted, up_to=Position(5))
    assert [(event.stream_id, event.stream_version, event.position) for event in events] == [
        ("booking-a", 1, 1),
        ("booking-a", 2, 4),
        ("booking-b", 1, 2),
        ("booking-b", 2, 5),
    ]
    assert await read_streams(connection, MAIN, wanted, up_to=START) == []
    assert await read_streams(connection, MAIN, [], up_to=Position(5)) == []


async def test_a_whole_stream_is_read_in_order_of_version(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [new_event("booking-a"), new_event("booking-b"), new_event("booking-a")])
    whole = await read_stream(connection, MAIN, StreamId("booking-a"))
    assert [(event.stream_version, event.position) for event in whole] == [(1, 1), (2, 3)]
    assert await read_stream(connection, MAIN, StreamId("booking-z")) == []


async def test_the_position_at_a_moment_is_the_last_recorded_until_then(connection: asyncpg.Connection) -> None:
    for _ in range(5):
        await append(connection, MAIN, [new_event(), new_event()])
    recorded = {
        event.recorded_at: event.position for event in await read_log(connection, MAIN, after=START, events_max=99)
    }
    assert [await read_position_as_of(connection, MAIN, moment) for moment in recorded] == [2, 4, 6, 8, 10]
    assert await read_position_as_of(connection, MAIN, min(recorded) - timedelta(microseconds=1)) == 0


# Hazard: a reader that follows positions passes over what commits late

ReadPage = Callable[[int], Awaitable[list[int]]]
"""The positions that follow one, in order, at most a page of them."""


async def follow(read_page: ReadPage, writers: Awaitable[object]) -> list[int]:
    """All positions that a reader sees who remembers but the last, until the writers are done and nothing follows."""
    writing = asyncio.ensure_future(writers)
    seen = [0]
    while True:
        over = writing.done()
        page = await read_page(seen[-1])
        seen += page
        if over and not page:
            await writing
            return seen[1:]


async def write_events(connection: Connection, rng: Random, *, events: int) -> None:
    """Batches of random sizes, some thought over for a while before the commit, some rolled back and then repeated."""
    while events:
        batch = [
            new_event(f"booking-{rng.randrange(500)}") for _ in range(min(events, rng.randint(1, BATCH_EVENTS_MAX)))
        ]
        transaction = connection.transaction()
        await transaction.start()
        await append(connection, MAIN, batch)
        if rng.random() < DAWDLING_SHARE:
            await connection.execute("SELECT 1")
        if rng.random() < ROLLBACK_SHARE:
            await transaction.rollback()
        else:
            await transaction.commit()
            events -= len(batch)


async def insert_naively(connection: Connection, rng: Random, *, rows: int) -> None:
    for _ in range(rows):
        async with connection.transaction():
            await connection.execute("INSERT INTO naive DEFAULT VALUES")
            await connection.execute("SELECT pg_sleep($1)", rng.uniform(0, 0.003))


async def test_a_reader_that_follows_positions_sees_every_event_of_sixteen_writers(database: str) -> None:
    tail, *writers = [await connect(database) for _ in range(1 + WRITERS)]

    async def read_page(after: int) -> list[int]:
        page = await read_log(tail, MAIN, after=Position(after), events_max=PAGE_EVENTS)
        return [event.position for event in page]

    try:
        writing = (
            write_events(writer, Random(seed), events=EVENTS_IN_TOTAL // WRITERS) for seed, writer in enumerate(writers)
        )
        seen = await follow(read_page, asyncio.gather(*writing))
        assert seen == list(range(1, EVENTS_IN_TOTAL + 1))
    finally:
        await asyncio.gather(*(connection.close() for connection in (tail, *writers)))


async def test_the_same_reader_over_a_plain_sequence_misses_rows(empty_database: str) -> None:
    tail, *writers = [await connect(empty_database) for _ in range(1 + WRITERS)]
    await tail.execute("CREATE TABLE naive (position bigserial PRIMARY KEY)")

    async def read_page(after: int) -> list[int]:
        rows = await tail.fetch("SELECT position FROM naive WHERE position > $1 ORDER BY position LIMIT 1000", after)
        return [row["position"] for row in rows]

    try:
        writing = (
            insert_naively(writer, Random(seed), rows=NAIVE_ROWS // WRITERS) for seed, writer in enumerate(writers)
        )
        seen = await follow(read_page, asyncio.gather(*writing))
        committed = await tail.fetchval("SELECT count(*) FROM naive")
        assert committed == NAIVE_ROWS
        assert len(seen) < committed
    finally:
        await asyncio.gather(*(connection.close() for connection in (tail, *writers)))
