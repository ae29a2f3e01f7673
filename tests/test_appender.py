"""Group commit: answered after the commit, no fault shared, and a dead connection costs nothing but time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from ledger import appender as appender_module
from ledger.appender import BATCH_EVENTS_MAX, PROBE_PAUSE_SECONDS, Appender
from ledger.errors import AppenderFull, StoreUnavailable, VersionConflict
from ledger.postgres import LedgerConnection, connect, open_pool
from ledger.store import Placed, append, read_log
from ledger.vocabulary import LedgerId, Position
from tests.builders import MAIN, SMALL_BODY, add_ledger, new_event
from tests.serving import connected, postgres_away, until

CALLERS = 50
APPENDS_EACH = 40
APPENDS_BETWEEN_KILLS = 100
ANSWER_SECONDS_MAX = 30
START = Position(0)
TURNS_MAX = 1_000

READ_IDS = "SELECT event_id FROM ledger.events ORDER BY position"
COUNT_TRANSACTIONS = "SELECT count(DISTINCT recorded_at) FROM ledger.events"
KILL_OTHERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, connections_max=4) as opened:
        yield opened


async def turns(count: int = 20) -> None:
    """The event loop has gone round, so that whoever could go on has done so."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def head_locked(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Somebody else is appending (position 1, in an empty log): whoever comes later waits for the end of the block."""
    async with connection.transaction():
        await append(connection, MAIN, [new_event()])
        yield


# Everybody is answered


async def test_one_caller_is_answered_after_the_commit(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    async with Appender(pool).running() as appender:
        placed = await appender.append(MAIN, [new_event("booking-a"), new_event("booking-b")])
        assert [(place.position, place.stream_version, place.duplicate) for place in placed] == [
            (1, 1, False),
            (2, 1, False),
        ]
        assert len(await read_log(connection, MAIN, after=START, events_max=10)) == 2


async def test_many_callers_at_once_share_a_few_transactions(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    events = [[new_event(f"booking-{caller}"), new_event("booking-shared")] for caller in range(500)]
    async with Appender(pool).running() as appender:
        answers = await asyncio.gather(*(appender.append(MAIN, pair) for pair in events))
    kept = {event.event_id: event.position for event in await read_log(connection, MAIN, after=START, events_max=2_000)}
    assert list(kept.values()) == list(range(1, 1_001))
    for pair, placed in zip(events, answers, strict=True):
        assert [place.position for place in placed] == [kept[event.event_id] for event in pair]
        assert placed[1].position == placed[0].position + 1
    assert await connection.fetchval(COUNT_TRANSACTIONS) <= 10


async def test_a_batch_has_a_bound_which_one_caller_alone_may_pass(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    many = [[new_event() for _ in range(400)] for _ in range(4)]
    async with Appender(pool).running() as appender:
        await asyncio.gather(*(appender.append(MAIN, events) for events in many))
        await appender.append(MAIN, [new_event() for _ in range(BATCH_EVENTS_MAX + 500)])
    sizes = await connection.fetch("SELECT count(*) FROM ledger.events GROUP BY recorded_at ORDER BY recorded_at")
    assert sum(size["count"] for size in sizes) == 1_600 + BATCH_EVENTS_MAX + 500
    assert sizes[-1]["count"] == BATCH_EVENTS_MAX + 500
    assert all(size["count"] <= BATCH_EVENTS_MAX for size in sizes[:-1])


async def test_every_ledger_gets_its_own_events(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    ledgers = [MAIN, await add_ledger(connection)]
    async with Appender(pool).running() as appender:
        answers = await asyncio.gather(*(appender.append(ledgers[number % 2], [new_event()]) for number in range(100)))
    assert sorted(placed[0].position for placed in answers[::2]) == list(range(1, 51))
    assert sorted(placed[0].position for placed in answers[1::2]) == list(range(1, 51))


async def test_the_same_event_from_many_callers_at_once_is_kept_once(pool: asyncpg.Pool) -> None:
    event = new_event()
    async with Appender(pool).running() as appender:
        answers = await asyncio.gather(*(appender.append(MAIN, [event]) for _ in range(30)))
    assert {placed[0].position for placed in answers} == {1}
    assert sorted(placed[0].duplicate for placed in answers) == [False] + [True] * 29


# Nobody pays for another's event


async def test_a_conflict_is_answered_to_the_one_who_expected_wrongly(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with Appender(pool).running() as appender:
        good = [appender.append(MAIN, [new_event(f"booking-{caller}", expected=0)]) for caller in range(20)]
        bad = appender.append(MAIN, [new_event("booking-b"), new_event("booking-a", expected=7)])
        *answers, refused = await asyncio.gather(*good[:10], *good[10:], bad, return_exceptions=True)
    assert isinstance(refused, VersionConflict)
    assert str(refused).startswith("booking-a is at version 0, not 7")
    assert all(isinstance(answer, list) for answer in answers)
    assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 20


async def test_of_callers_who_decided_on_the_same_version_exactly_one_wins(pool: asyncpg.Pool) -> None:
    async with Appender(pool).running() as appender:
        answers = await asyncio.gather(
            *(appender.append(MAIN, [new_event(expected=0)]) for _ in range(10)), return_exceptions=True
        )
    won = [answer for answer in answers if isinstance(answer, list)]
    assert len(won) == 1
    assert sum(isinstance(answer, VersionConflict) for answer in answers) == 9


@pytest.mark.parametrize("stream", ["booking-\x00", "booking-\ud800", "booking-" + Random(1).randbytes(5_000).hex()])
async def test_an_event_that_postgres_refuses_fails_only_its_own_caller(pool: asyncpg.Pool, stream: str) -> None:
    async with Appender(pool).running() as appender:
        first, refused, last = await asyncio.gather(
            appender.append(MAIN, [new_event()]),
            appender.append(MAIN, [new_event(), new_event(stream)]),
            appender.append(MAIN, [new_event()]),
            return_exceptions=True,
        )
        assert isinstance(refused, StoreUnavailable)
        assert [answer[0].position for answer in (first, last) if isinstance(answer, list)] == [1, 2]
        assert [place.position for place in await appender.append(MAIN, [new_event()])] == [3]


async def test_a_caller_who_gives_up_harms_nobody(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    async with Appender(pool).running() as appender:
        callers = [asyncio.create_task(appender.append(MAIN, [new_event()])) for _ in range(30)]
        await turns(1)
        for caller in callers[::2]:
            caller.cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        await appender.append(MAIN, [new_event()])
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(isinstance(answer, list) for answer in answers[1::2])
    assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 31


# The queue has a bound


@pytest.mark.parametrize("bound", ["events", "bytes"])
async def test_callers_wait_while_the_queue_is_full_and_then_go_in(
    pool: asyncpg.Pool, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(appender_module, "QUEUE_BYTES_MAX", 10 * len(SMALL_BODY) if bound == "bytes" else 10**9)
    async with Appender(pool, queue_events_max=10 if bound == "events" else 10**9).running() as appender:
        async with head_locked(connection):
            first = asyncio.create_task(appender.append(MAIN, [new_event()]))
            await turns()
            callers = [asyncio.create_task(appender.append(MAIN, [new_event()])) for _ in range(100)]
            await turns()
            assert not any(caller.done() for caller in (first, *callers))
        answers = await asyncio.gather(first, *callers)
    assert sorted(placed[0].position for placed in answers) == list(range(2, 103))
    transactions = await connection.fetch("SELECT count(*) FROM ledger.events GROUP BY recorded_at")
    assert max(row["count"] for row in transactions) <= 10


async def test_past_the_time_a_waiting_caller_is_told_that_the_queue_is_full(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with Appender(pool, queue_events_max=1, wait_seconds_max=0.05).running() as appender:
        async with head_locked(connection):
            on_its_way = asyncio.create_task(appender.append(MAIN, [new_event()]))
            await turns()
            queued = asyncio.create_task(appender.append(MAIN, [new_event()]))
            await turns()
            with pytest.raises(AppenderFull, match=r"0\.05 s"):
                await appender.append(MAIN, [new_event()])
        assert [(await caller)[0].position for caller in (on_its_way, queued)] == [2, 3]
        assert (await appender.append(MAIN, [new_event()]))[0].position == 4


async def test_a_caller_who_gives_up_waiting_for_room_leaves_it_to_the_others(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with Appender(pool, queue_events_max=2).running() as appender:
        async with head_locked(connection):
            callers = [asyncio.create_task(appender.append(MAIN, [new_event()])) for _ in range(20)]
            await turns()
            for caller in callers[10:15]:
                caller.cancel()
            await turns()
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [isinstance(answer, list) for answer in answers] == [True] * 10 + [False] * 5 + [True] * 5


# Closing


async def test_what_is_queued_is_written_before_closing_is_over(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with Appender(pool).running() as appender:
        callers = [asyncio.create_task(appender.append(MAIN, [new_event()])) for _ in range(2_500)]
        await turns(1)
    assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 2_500
    assert len(await asyncio.gather(*callers)) == 2_500


async def test_closing_answers_those_who_still_wait_for_room(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with Appender(pool, queue_events_max=2).running() as appender, head_locked(connection):
        callers = [asyncio.create_task(appender.append(MAIN, [new_event()])) for _ in range(10)]
        await turns()
    async with asyncio.timeout(ANSWER_SECONDS_MAX / 10):
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(answer, (list, StoreUnavailable)) for answer in answers)


async def test_a_closed_appender_answers_at_once_that_it_takes_nothing(pool: asyncpg.Pool) -> None:
    appender = Appender(pool)
    async with appender.running():
        pass
    async with asyncio.timeout(ANSWER_SECONDS_MAX / 10):
        with pytest.raises(StoreUnavailable):
            await appender.append(MAIN, [new_event()])


# Hazard: the connection dies while a batch is on its way


async def test_backends_killed_while_appending_lose_nothing_and_repeat_nothing(
    pool: asyncpg.Pool, database: str
) -> None:
    executioner = await connect(database)
    answered: dict[object, Placed] = {}
    killed, one_at_a_time = 0, asyncio.Lock()

    async def call(appender: Appender, caller: int) -> None:
        nonlocal killed
        for _ in range(APPENDS_EACH):
            event = new_event(f"booking-{caller}")
            while event.event_id not in answered:
                with contextlib.suppress(StoreUnavailable):  # which says: perhaps kept, send the same again
                    answered[event.event_id] = (await appender.append(MAIN, [event]))[0]
            if len(answered) % APPENDS_BETWEEN_KILLS == 0:
                async with one_at_a_time:
                    killed += await executioner.fetchval(KILL_OTHERS)

    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX), Appender(pool).running() as appender:
            await asyncio.gather(*(call(appender, caller) for caller in range(CALLERS)))
        kept = [row["event_id"] for row in await executioner.fetch(READ_IDS)]
        assert killed >= 10
        assert len(kept) == len(set(kept)) == CALLERS * APPENDS_EACH
        assert {event_id: place.position for event_id, place in answered.items()} == {
            event_id: position for position, event_id in enumerate(kept, start=1)
        }
    finally:
        await executioner.close()


async def test_a_batch_whose_outcome_is_unknown_is_sent_again_and_kept_once(pool: asyncpg.Pool, database: str) -> None:
    """The backend is killed while it waits for the head's lock: the writer cannot know how far it came."""
    executioner = await connect(database)
    try:
        async with Appender(pool).running() as appender:
            blocking = executioner.transaction()
            await blocking.start()
            await append(executioner, MAIN, [new_event()])
            event_id = uuid4()
            caller = asyncio.create_task(appender.append(MAIN, [new_event(event_id=event_id)]))
            for _ in range(TURNS_MAX):
                if await executioner.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"):
                    break
            assert await executioner.fetchval(KILL_OTHERS) >= 1
            await blocking.commit()
            assert (await caller)[0].position == 2
        assert (await executioner.fetch(READ_IDS))[-1]["event_id"] == event_id
    finally:
        await executioner.close()


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        AttributeError("'NoneType' object has no attribute '_is_cancelling'"),
    ],
)
async def test_an_error_inside_the_driver_does_not_stop_the_writer(database: str, error: Exception) -> None:
    """As seen when a backend is killed at the wrong moment: giving the connection back fails after the commit."""
    failures = [error]

    async def reset(_connection: asyncpg.Connection) -> None:
        if failures:
            raise failures.pop()

    async with (
        asyncio.timeout(ANSWER_SECONDS_MAX),
        asyncpg.create_pool(database, min_size=1, max_size=2, reset=reset, connection_class=LedgerConnection) as pool,
        Appender(pool).running() as appender,
    ):
        async with asyncio.timeout(ANSWER_SECONDS_MAX / 10):
            with contextlib.suppress(StoreUnavailable):
                await appender.append(MAIN, [new_event()])
            assert (await appender.append(MAIN, [new_event()]))[0].position == 2


# Nobody waits for a Postgres that is away


async def is_back(appender: Appender) -> None:
    async def is_asked_again() -> bool:
        await asyncio.sleep(0)
        return not appender.is_away

    await until(is_asked_again)


async def test_while_postgres_is_away_callers_are_turned_away_at_once_and_let_in_when_it_is_back(
    pool: asyncpg.Pool, cluster: str, database: str
) -> None:
    event = new_event()
    async with Appender(pool).running() as appender:
        await appender.append(MAIN, [new_event()])
        async with connected(cluster) as admin, postgres_away(admin, database):
            first = await asyncio.gather(
                *(appender.append(MAIN, [new_event()]) for _ in range(CALLERS)), return_exceptions=True
            )
            assert {type(answer) for answer in first} == {StoreUnavailable}
            async with asyncio.timeout(PROBE_PAUSE_SECONDS):
                for _ in range(CALLERS):
                    with pytest.raises(StoreUnavailable, match="it is away"):
                        await appender.append(MAIN, [event])
        await is_back(appender)
        assert (await appender.append(MAIN, [event]))[0].position == 2


async def test_a_postgres_that_is_too_slow_turns_all_away_until_it_answers(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    on_its_way, queued, late = ([new_event()] for _ in range(3))
    async with Appender(pool, answer_seconds_max=0.2).running() as appender:
        async with head_locked(connection):
            first = asyncio.create_task(appender.append(MAIN, on_its_way))
            await turns()
            second = asyncio.create_task(appender.append(MAIN, queued))
            with pytest.raises(StoreUnavailable, match="too slow"):
                await first
            with pytest.raises(StoreUnavailable, match="too slow"):
                await second
            with pytest.raises(StoreUnavailable, match="it is away"):
                await appender.append(MAIN, late)
        await is_back(appender)
        again = [await appender.append(MAIN, events) for events in (on_its_way, queued, late)]
    assert [(placed[0].position, placed[0].duplicate) for placed in again] == [(2, True), (3, False), (4, False)]


async def test_a_postgres_that_was_silent_for_long_is_asked_again_on_another_connection(
    pool: asyncpg.Pool, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "SEND_SECONDS_MAX", 0.3)
    event = new_event()
    async with Appender(pool, answer_seconds_max=0.1).running() as appender:
        async with connection.transaction():
            await connection.execute("LOCK TABLE ledger.ledgers")
            with pytest.raises(StoreUnavailable):
                await appender.append(MAIN, [event])
        await is_back(appender)
        assert (await appender.append(MAIN, [event]))[0].position == 1


async def test_trouble_with_one_ledger_turns_nobody_away_from_another(pool: asyncpg.Pool) -> None:
    nowhere = LedgerId(99)
    async with Appender(pool).running() as appender:
        with pytest.raises(StoreUnavailable):
            await appender.append(nowhere, [new_event()])
        assert (await appender.append(MAIN, [new_event()]))[0].position == 1


async def test_a_server_that_ends_while_postgres_is_away_does_not_wait_for_it(
    pool: asyncpg.Pool, cluster: str, database: str
) -> None:
    async with connected(cluster) as admin, postgres_away(admin, database):
        async with asyncio.timeout(ANSWER_SECONDS_MAX / 10), Appender(pool).running() as appender:
            with pytest.raises(StoreUnavailable):
                await appender.append(MAIN, [new_event()])
        assert appender.is_away
