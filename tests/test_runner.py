"""The runner on a real database: every event once, whatever dies; what is the event's fault is parked, nothing else."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from api.simulator.traffic import simulate
from ledger import history as history_module
from ledger.booking import Booking
from ledger.facts import Dated
from ledger.filing import Receipt, file_delivery
from ledger.folding import fold
from ledger.history import Histories, load_histories
from ledger.postgres import Connection, LedgerConnection, open_pool
from ledger.store import Ledger, append, read_ledgers
from ledger.vocabulary import StreamId
from projections import pages as pages_module
from projections import runner as runner_module
from projections.applying import ATTEMPTS_MAX
from projections.catalogue import BY_NAME, CATALOGUE
from projections.projection import Chunk, Page, Projection
from projections.runner import POLL_SECONDS_MAX, Runner
from tests.builders import NOON, add_ledger, minutes, people, webhook
from tests.serving import connected, file, parked, until, until_current

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
PAGE_EVENTS = 7
BOOKINGS = 120
KILLS = 40
QUERIES_BEFORE_KILL_MAX = 40
DAWDLING_QUERIES = 20
FAILURES = 4
"""More than a runner tries an event before it parks it."""

Trouble = Callable[[Connection], Awaitable[object]]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PAGE_EVENTS_MAX", PAGE_EVENTS)


def traffic() -> list[bytes]:
    return [delivery.body for delivery in simulate(seed=2, now=NOW, bookings=BOOKINGS, secret=b"s")]


async def tally_of(connection: asyncpg.Connection, *, begun: asyncio.Event | None = None) -> Projection:
    """A projection that forgives nothing: each event that it is given adds a row, and nothing makes rows unique.

    It says when it has begun, and dawdles between its rows and the end of the transaction.
    """
    await begin_tally(connection, "tally")

    async def apply(inside: Connection, page: Page) -> None:
        if begun is not None:
            begun.set()
        await inside.execute("INSERT INTO tally SELECT unnest($1::bigint[])", [event.position for event in page.events])
        for _ in range(DAWDLING_QUERIES):
            await inside.fetchval("SELECT true")

    return Projection(name="tally", version=1, apply=apply, of="events", fill=never)


async def begin_tally(connection: asyncpg.Connection, name: str) -> None:
    """A projection of this name has a live generation with the table `tally`."""
    await connection.execute(f"CREATE SCHEMA {name}_1; CREATE TABLE {name}_1.tally (position bigint)")
    await connection.execute(
        "INSERT INTO projections.generations (projection, generation, version, state) VALUES ($1, 1, 1, 'live')", name
    )


async def never(_connection: Connection, _chunk: Chunk) -> None:
    raise AssertionError("nothing is rebuilt here")


async def tallied(connection: asyncpg.Connection, name: str = "tally") -> list[int]:
    rows = await connection.fetch(f"SELECT position FROM {name}_1.tally ORDER BY position")  # noqa: S608  # ours
    return [row["position"] for row in rows]


async def read_models(connection: asyncpg.Connection) -> list[list[str]]:
    """Every row of every read model as text, but for when it was written."""
    found = (
        await connection.fetch("SELECT (to_jsonb(t) - 'synced_at')::text FROM calendar_events AS t ORDER BY 1"),
        await connection.fetch("SELECT to_jsonb(t)::text FROM booking_attendees AS t ORDER BY 1"),
        await connection.fetch("SELECT to_jsonb(t)::text FROM webhook_logs AS t ORDER BY 1"),
    )
    return [[row[0] for row in rows] for rows in found]


async def assert_every_event_once(connection: asyncpg.Connection, pool: asyncpg.Pool, dsn: str) -> None:
    """The tally has each position once, and the read models are what one undisturbed runner makes of the log."""
    head = await connection.fetchval("SELECT position FROM ledger.ledgers")
    assert await tallied(connection) == list(range(1, head + 1))
    assert await parked(connection) == []
    disturbed = await read_models(connection)
    assert all(disturbed)
    await connection.execute(
        """
        TRUNCATE
            calendar_events_1.calendar_events, calendar_events_1.booking_statistics,
            calendar_events_1.booking_statistics_by_month, calendar_events_1.booking_statistics_in_all,
            booking_attendees_1.booking_attendees, webhook_logs_1.webhook_logs, sync_lag_1.sync_lag;
        UPDATE projections.checkpoints SET position = 0 WHERE projection <> 'tally';
        """
    )
    await Runner(pool, dsn).catch_up()
    assert await read_models(connection) == disturbed


# Every event once


@pytest.mark.usefixtures("small_pages")
async def test_two_runners_on_one_database_give_every_row_once(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    catalogue = (*CATALOGUE, await tally_of(connection))
    bodies = traffic()
    half = len(bodies) // 2
    await file(connection, *bodies[:half])
    async with contextlib.AsyncExitStack() as stack:
        for one in (pool, await stack.enter_async_context(await open_pool(database))):
            await stack.enter_async_context(Runner(one, database, catalogue=catalogue).running())
        for body in bodies[half:]:
            await file(connection, body)
        await until_current(connection)
    await assert_every_event_once(connection, pool, database)


@pytest.mark.usefixtures("small_pages")
async def test_a_crash_between_rows_and_checkpoint_repeats_nothing(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    """All backends are terminated around the moment at which rows are written, again and again."""
    begun = asyncio.Event()
    catalogue = (*CATALOGUE, await tally_of(connection, begun=begun))
    runner = Runner(pool, database, catalogue=catalogue)
    await file(connection, *traffic())
    interrupted = 0
    killing = asyncio.create_task(kill_backends(database, begun, spared=connection.get_server_pid()))
    while not killing.done():
        try:
            if not await runner.catch_up():
                await file(connection, webhook("PING", {}, at=None))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            interrupted += 1
    await killing
    assert interrupted > KILLS // 4
    async with await open_pool(database) as calm:
        await Runner(calm, database, catalogue=catalogue).catch_up()
        await assert_every_event_once(connection, calm, database)


async def kill_backends(dsn: str, begun: asyncio.Event, *, spared: int) -> None:
    """So many times, some moments after something has begun: every backend of the database has been terminated."""
    rng = Random(3)
    async with connected(dsn) as admin:
        for _ in range(KILLS):
            begun.clear()
            await begun.wait()
            for _ in range(rng.randrange(QUERIES_BEFORE_KILL_MAX)):
                await admin.fetchval("SELECT true")
            await admin.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> ALL($1)
                """,
                [admin.get_server_pid(), spared],
            )


async def test_a_new_read_model_is_filled_from_the_beginning_while_the_others_stay(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    await file(connection, *traffic()[:50])
    await Runner(pool, database).catch_up()
    before = await read_models(connection)
    await Runner(pool, database, catalogue=(*CATALOGUE, await tally_of(connection))).catch_up()
    assert await read_models(connection) == before
    await assert_every_event_once(connection, pool, database)


# Waking up


async def test_a_runner_whose_listener_was_killed_is_current_within_its_poll_interval_and_a_second(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'"

    async def is_listening() -> bool:
        return bool(await connection.fetchval(f"SELECT count(*) {listeners}"))  # a text of ours

    async with Runner(pool, database).running():
        for number in range(3):
            await until(is_listening)
            await connection.fetch(f"SELECT pg_terminate_backend(pid, 5000) {listeners}")
            await file(connection, webhook("BOOKING_CREATED", {"uid": f"booking-{number}"}))
            await until_current(connection, seconds=POLL_SECONDS_MAX + 1)
            assert await connection.fetchval("SELECT count(*) FROM calendar_events") == number + 1


async def test_a_runner_that_can_never_listen_is_current_within_its_poll_interval_and_a_second(
    connection: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    async with Runner(pool, "postgresql://nobody@127.0.0.1:1/nowhere").running():
        for number in range(3):
            await file(connection, webhook("BOOKING_CREATED", {"uid": f"booking-{number}"}))
            await until_current(connection, seconds=POLL_SECONDS_MAX + 1)
            assert await connection.fetchval("SELECT count(*) FROM calendar_events") == number + 1


async def test_a_ledger_that_is_written_to_all_the_time_leaves_others_their_turn(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    await add_ledger(connection)

    class NeverDone(Runner):
        async def step(self, ledger: Ledger) -> int:
            """Whoever looks at the main ledger finds something."""
            if ledger.name == "main":
                await file(connection, webhook("BOOKING_CREATED", {"uid": str(uuid4())}))
            return await super().step(ledger)

    shown = "SELECT count(*) FROM calendar_events WHERE ledger = $1"
    async with NeverDone(pool, database).running(), connected(database) as other:
        ledger = (await read_ledgers(other))["other"]
        body = webhook("BOOKING_CREATED", {"uid": "in the other"})
        filing = file_delivery(ledger, body, Receipt(received_at=NOON), fresh_id=uuid4())
        await append(other, ledger.ledger_id, filing.events)

        async def is_shown() -> bool:
            return bool(await other.fetchval(shown, "other"))

        await until(is_shown)
        assert await other.fetchval(shown, "other") == 1
        assert await other.fetchval(shown, "main") > 0, "which has not come to an end"


async def test_a_notification_wakes_a_runner_that_would_look_in_an_hour(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    async with Runner(pool, database, poll_seconds_max=3_600).running():
        for number in range(3):
            await file(connection, webhook("BOOKING_CREATED", {"uid": f"booking-{number}"}))
            await until_current(connection)
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 3


# Whose fault it is


def failing_at(stream: str, trouble: Trouble, *, failures: float = float("inf")) -> tuple[Projection, list[int]]:
    """A projection in trouble whenever a page has this stream, so many times; and the sizes of those pages."""
    pages: list[int] = []

    async def apply(inside: Connection, page: Page) -> None:
        if stream in {event.stream_id for event in page.events} and len(pages) < failures:
            pages.append(len(page.events))
            await trouble(inside)
        await inside.execute("INSERT INTO tally SELECT unnest($1::bigint[])", [event.position for event in page.events])

    return Projection(name="picky", version=1, apply=apply, of="events", fill=never), pages


def raising(error: Exception) -> Trouble:
    async def trouble(_: Connection) -> object:
        raise error

    return trouble


def running(statement: str, *values: object) -> Trouble:
    async def trouble(inside: Connection) -> object:
        return await inside.execute(statement, *values)

    return trouble


THREE = tuple(webhook("BOOKING_CREATED", {"uid": uid}) for uid in ("good", "poison", "fine"))

POISON: dict[str, Trouble] = {
    "an error in our code": raising(ValueError("no\x00pe " + "x" * 10_000)),
    "a value that Postgres refuses": running("SELECT 1 / 0"),
    "a rule of the table": running("INSERT INTO projections.checkpoints VALUES ('x', 1, 1, -1)"),
    "a value that does not fit its type": running("SELECT $1::int", 2**40),
    "text that no encoding has": running("SELECT $1::text", "\ud800"),
}


@pytest.mark.parametrize("name", POISON)
async def test_an_event_that_cannot_be_applied_is_parked_with_its_error_and_the_others_go_on(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, name: str
) -> None:
    await begin_tally(connection, "picky")
    picky, pages = failing_at("booking-poison", POISON[name])
    await file(connection, *THREE)
    async with asyncio.timeout(10):
        await Runner(pool, database, catalogue=(*CATALOGUE, picky)).catch_up()
    assert pages == [3, 2, *[1] * ATTEMPTS_MAX], "in ever smaller company, then alone"
    [told] = await parked(connection)
    assert told.startswith("picky 2 ")
    assert len(told) < 1_000
    row = await connection.fetchrow("SELECT stream_id, attempts FROM projections.parked_events")
    assert row is not None
    assert tuple(row) == ("booking-poison", ATTEMPTS_MAX)
    assert await tallied(connection, "picky") == [1, 3]
    status = await connection.fetch("SELECT projection, lag_events, parked FROM projection_status ORDER BY parked")
    assert [row["lag_events"] for row in status] == [0] * (len(CATALOGUE) + 1)
    assert [row["parked"] for row in status] == [*[0] * len(CATALOGUE), 1]
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 3


TROUBLE: dict[str, Trouble] = {
    "a deadlock": raising(asyncpg.DeadlockDetectedError("x")),
    "a serialization failure": raising(asyncpg.SerializationError("x")),
    "a statement that took too long": raising(asyncpg.QueryCanceledError("x")),
    "a lock that took too long": raising(asyncpg.LockNotAvailableError("x")),
    "a shutdown": raising(asyncpg.AdminShutdownError("x")),
    "a full disk": raising(asyncpg.DiskFullError("x")),
    "no memory": raising(asyncpg.OutOfMemoryError("x")),
    "too many connections": raising(asyncpg.TooManyConnectionsError("x")),
    "a lost connection": raising(asyncpg.ConnectionDoesNotExistError("x")),
    "a reset connection": raising(ConnectionResetError()),
    "no answer": raising(TimeoutError()),
    "a standby": raising(asyncpg.ReadOnlySQLTransactionError("x")),
    "a disk that cannot be read": raising(asyncpg.PostgresIOError("x")),
    "a damaged page": raising(asyncpg.DataCorruptedError("x")),
    "a table that is not there": running("SELECT FROM nowhere"),
    "a right that is missing": raising(asyncpg.InsufficientPrivilegeError("x")),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_trouble_of_the_database_is_no_events_fault_and_passes(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, name: str
) -> None:
    await begin_tally(connection, "picky")
    picky, pages = failing_at("booking-poison", TROUBLE[name], failures=FAILURES)
    await file(connection, *THREE)
    async with Runner(pool, database, catalogue=(*CATALOGUE, picky), poll_seconds_max=0.01).running():
        await until_current(connection)
    assert await parked(connection) == []
    assert pages == [3] * FAILURES
    assert await tallied(connection, "picky") == [1, 2, 3]


async def test_a_table_that_somebody_locks_is_waited_for(connection: asyncpg.Connection, database: str) -> None:
    await file(connection, *THREE)
    impatient = asyncpg.create_pool(
        database, min_size=1, max_size=2, server_settings={"lock_timeout": "20"}, connection_class=LedgerConnection
    )
    async with impatient as pool:
        runner = Runner(pool, database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE calendar_events_1.calendar_events IN ACCESS EXCLUSIVE MODE")
            for _ in range(ATTEMPTS_MAX + 1):
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await runner.catch_up()
        await runner.catch_up()
    assert await parked(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 3


# What comes next is prepared meanwhile


@pytest.mark.usefixtures("small_pages")
async def test_the_next_page_is_folded_while_one_is_being_written(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin_tally(connection, "patient")
    folded: list[int] = []
    followed = asyncio.Event()

    async def load(*values: Any, **how: Any) -> Histories:
        histories = await load_histories(*values, **how)
        folded.append(how["up_to"])
        if len(folded) > 1:
            followed.set()
        return histories

    async def apply(inside: Connection, page: Page) -> None:
        async with asyncio.timeout(10):
            await followed.wait()
        await inside.execute("INSERT INTO tally SELECT unnest($1::bigint[])", [event.position for event in page.events])

    monkeypatch.setattr(pages_module, "load_histories", load)
    await file(connection, *traffic()[: 3 * PAGE_EVENTS])
    patient = Projection(name="patient", version=1, apply=apply, of="events", fill=never, reads_bodies=True)
    await Runner(pool, database, catalogue=[patient]).catch_up()
    head = await connection.fetchval("SELECT position FROM ledger.ledgers")
    assert await tallied(connection, "patient") == list(range(1, head + 1))
    assert folded == sorted({*folded}), "each page once, in order"


@pytest.mark.usefixtures("small_pages")
async def test_a_page_prepared_early_knows_the_uid_that_the_one_before_gave_to_a_number(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    others = [webhook("BOOKING_CREATED", {"uid": f"other-{number}"}) for number in range(PAGE_EVENTS - 1)]
    await file(connection, WITH_UID, *others, BY_NUMBER)
    await Runner(pool, database, catalogue=(*CATALOGUE, await tally_of(connection))).catch_up()
    bookings, attendees = await keys(connection)
    assert "7" not in bookings
    assert attendees == [("u", "b@example.com")]


@pytest.mark.usefixtures("small_pages")
async def test_a_booking_that_cannot_be_folded_in_a_page_prepared_early_parks_its_event_alone(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folded(stream_id: StreamId, facts: Sequence[Dated]) -> Booking:
        if stream_id == "booking-poison":
            raise ZeroDivisionError
        return fold(stream_id, facts)

    monkeypatch.setattr(history_module, "fold", folded)
    others = [webhook("BOOKING_CREATED", {"uid": f"other-{number}"}) for number in range(2 * PAGE_EVENTS)]
    others.insert(PAGE_EVENTS + 1, THREE[1])
    await file(connection, *others)
    async with asyncio.timeout(10):
        await Runner(pool, database).catch_up()
    assert {told.split(" ")[1] for told in await parked(connection)} == {str(PAGE_EVENTS + 2)}
    assert len(await parked(connection)) == len(CATALOGUE)
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 2 * PAGE_EVENTS


async def test_pages_are_longer_where_nobody_wants_bodies(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "PAGE_EVENTS_MAX", 2)
    monkeypatch.setattr(runner_module, "PAGE_OUTLINES_MAX", 5)
    await file(connection, *[webhook("BOOKING_CREATED", {"uid": f"booking-{number}"}) for number in range(10)])
    assert await Runner(pool, database, catalogue=[BY_NAME["calendar_events"]]).catch_up() == 10 / 5
    assert await Runner(pool, database, catalogue=[BY_NAME["webhook_logs"]]).catch_up() == 10 / 2
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 10


# Bookings that are first, or later, known by their number alone


def by_number(trigger: str, *, at: datetime, **fields: object) -> bytes:
    return webhook(trigger, {"bookingId": 7, **fields}, at=at)


WITH_UID = webhook("BOOKING_CREATED", {"uid": "u", "bookingId": 7, "attendees": people("ada@example.com")}, at=NOON)
BY_NUMBER = by_number("BOOKING_CANCELLED", at=minutes(5), cancellationReason="Rain", attendees=people("b@example.com"))


async def keys(connection: asyncpg.Connection) -> tuple[list[str], list[tuple[str, str]]]:
    bookings = await connection.fetch("SELECT cal_com_event_id FROM calendar_events ORDER BY 1")
    attendees = await connection.fetch("SELECT uid, email FROM booking_attendees ORDER BY 1, 2")
    return [row[0] for row in bookings], [(row[0], row[1]) for row in attendees]


@pytest.mark.parametrize("bodies", [(WITH_UID, BY_NUMBER), (BY_NUMBER, WITH_UID)], ids=["uid first", "number first"])
@pytest.mark.parametrize("pages", [1, 2])
async def test_a_body_that_knows_only_the_number_joins_the_booking_with_the_uid(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, bodies: Sequence[bytes], pages: int
) -> None:
    runner = Runner(pool, database)
    for page in [bodies] if pages == 1 else [[body] for body in bodies]:
        await file(connection, *page)
        await runner.catch_up()
    assert await keys(connection) == (["u"], [("u", "b@example.com")])
    row = await connection.fetchrow("SELECT status, cancellation_reason, booking_number FROM calendar_events")
    assert row is not None
    assert tuple(row) == ("cancelled", "Rain", 7)


async def test_a_booking_known_by_its_number_alone_has_a_row_under_it_until_its_uid_comes(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    runner = Runner(pool, database)
    await file(connection, BY_NUMBER, by_number("BOOKING_CREATED", at=NOON))
    await runner.catch_up()
    assert await keys(connection) == (["7"], [("7", "b@example.com")])
    await file(connection, webhook("BOOKING_CREATED", {"uid": "u"}, at=NOON))
    await runner.catch_up()
    assert (await keys(connection))[0] == ["7", "u"], "nothing says yet that they are one"
    await file(connection, webhook("BOOKING_RESCHEDULED", {"uid": "v", "rescheduleUid": "u"}, at=minutes(1)), WITH_UID)
    await runner.catch_up()
    bookings, attendees = await keys(connection)
    assert bookings == ["u", "v"]
    assert {uid for uid, _ in attendees} == {"u"}


async def test_a_late_fact_is_folded_in_where_it_belongs(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    runner = Runner(pool, database)
    told = []
    for trigger, at in (
        ("BOOKING_CANCELLED", 30),
        ("BOOKING_CREATED", 20),
        ("BOOKING_CREATED", 40),
        ("BOOKING_REJECTED", 10),
    ):
        await file(connection, webhook(trigger, {"uid": "late", "title": f"at {at}"}, at=minutes(at)))
        await runner.catch_up()
        row = await connection.fetchrow("SELECT status, title, created_at, updated_at FROM calendar_events")
        assert row is not None
        told.append(tuple(row))
    assert told == [
        ("cancelled", "at 30", minutes(30), minutes(30)),
        ("cancelled", "at 30", minutes(20), minutes(30)),
        ("scheduled", "at 40", minutes(20), minutes(40)),
        ("scheduled", "at 40", minutes(10), minutes(40)),
    ]
