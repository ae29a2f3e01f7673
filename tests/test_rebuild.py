"""Rebuilt is live: whatever the log holds, wherever it is cut, every row of every read model is the same again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from random import Random
from uuid import UUID

import asyncpg
import msgspec
import pytest

from ledger.calcom.envelope import Envelope, open_envelope
from ledger.filing import Receipt
from ledger.postgres import Connection
from ledger.store import NewEvent, append, read_ledgers
from projections.catalogue import BY_NAME
from projections.pages import NUMBERS_KEPT_MAX
from projections.progress import read_progress
from projections.rebuild import SQL, Rebuild
from projections.runner import Runner
from projections.upkeep import Upkeep
from tests.builders import MAIN, meeting, minutes, people, webhook
from tests.rebuilding import (
    NAMES,
    PAGE_EVENTS,
    RANGE_EVENTS,
    Rows,
    add_ledgers,
    assert_same,
    by_number,
    file_in,
    fill_here,
    filled,
    link_first_unnamed,
    observed,
    read_models,
    rebuild,
    tangled,
    traffic,
)
from tests.serving import file, parked
from tests.test_golden import NAMES as HISTORIES
from tests.test_golden import filed, golden
from tests.test_read_models import HOSTILE

PREFIXES = 100
TANGLES = 40
SWAP_MS_MAX = 500

Pages = Callable[[], object]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_here(monkeypatch)


async def file_everything(connection: Connection) -> None:
    """All we know of: traffic and hostile bodies in one log, dialects in another, each golden history in its own."""
    await file(connection, *traffic(bookings=100), *HOSTILE.values())
    logs = {name: name.replace("_", "-") for name in HISTORIES}
    await add_ledgers(connection, "dialects", "empty", *logs.values())
    for case in CASES.values():
        await file_in(connection, "dialects", *case)
    ledgers = await read_ledgers(connection)
    for name, log in logs.items():
        for number, given in enumerate(golden(name).given):
            events = filed(ledgers[log], given, fresh_id=UUID(int=number))
            await append(connection, ledgers[log].ledger_id, [with_receipt(event) for event in events])


def with_receipt(event: NewEvent) -> NewEvent:
    """The golden files' events have no metadata; a webhook's always tell when it was received."""
    receipt = Receipt(received_at=event.occurred_at)
    metadata = event.metadata if event.source != "webhook" else msgspec.json.encode(receipt).decode()
    return msgspec.structs.replace(event, metadata=metadata)


@pytest.mark.parametrize("confirm_on_accept", [False, True])
async def test_a_rebuild_gives_every_row_of_every_read_model_again_byte_for_byte(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    confirm_on_accept: bool,
) -> None:
    monkeypatch.setattr(PAGE_EVENTS, 53)
    monkeypatch.setattr(RANGE_EVENTS, 70)
    await file_everything(connection)
    await Runner(pool, database, confirm_on_accept=confirm_on_accept).catch_up()
    live = await read_models(connection)
    assert all(live.values())
    await rebuild(database, confirm_on_accept=confirm_on_accept)
    assert_same(await read_models(connection), live)
    assert await parked(connection) == []
    events = await connection.fetchval("SELECT sum(position) FROM ledger.ledgers")
    for progress in await read_progress(connection):
        assert (progress.generation, progress.state, progress.phase, progress.error) == (2, "live", None, None)
        assert progress.events_done == progress.events_total == events
        assert progress.swap_ms is not None
        assert progress.swap_ms < SWAP_MS_MAX
    statuses = {row["status"] for row in await connection.fetch("SELECT DISTINCT status FROM calendar_events")}
    assert ("confirmed" in statuses, "scheduled" in statuses) == (True, True)
    schemas = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '_[1-9]+$' ORDER BY 1")
    assert [row["nspname"] for row in schemas] == sorted(f"{name}_2" for name in NAMES)


async def test_wherever_the_log_is_cut_what_is_rebuilt_is_what_was_live_there(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that grows in a hundred steps, in pages and ranges of all sizes; several logs take turns."""
    rng = Random(11)
    await add_ledgers(connection, "other", "tangled")
    bodies = [*traffic(bookings=40), *HOSTILE.values(), *(body for case in CASES.values() for body in case)]
    tangle = tangled(rng)
    cuts = sorted(rng.sample(range(1, len(bodies)), PREFIXES - 1))
    runner = Runner(pool, database)
    for begin, end in zip([0, *cuts], [*cuts, len(bodies)], strict=True):
        monkeypatch.setattr(PAGE_EVENTS, rng.choice((1, 3, 10, 2_000)))
        monkeypatch.setattr(RANGE_EVENTS, rng.choice((70, 200, 4_000)))
        await file(connection, *bodies[begin:end])
        await file_in(connection, "tangled", next(tangle))
        await file_in(connection, "other", *bodies[begin:end:5])
        await runner.catch_up()
        assert_same(await filled(connection, database), await read_models(connection))
    assert await parked(connection) == []


@pytest.mark.usefixtures("here")
async def test_however_bodies_tangle_their_bookings_pages_and_ranges_make_no_difference(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small logs of bodies such as Cal.com would never send together, each read in pages of another size."""
    names = [f"tangle-{seed}" for seed in range(TANGLES)]
    await add_ledgers(connection, *names)
    ledgers = await read_ledgers(connection)
    for seed, name in enumerate(names):
        rng = Random(seed)
        monkeypatch.setattr(PAGE_EVENTS, rng.choice((1, 2, 3, 7, 50)))
        runner, bodies = Runner(pool, database), tangled(rng)
        for _ in range(rng.randrange(3, 9)):
            await file_in(connection, name, *islice(bodies, rng.randrange(1, 5)))
            while await runner.step(ledgers[name]):
                pass
    live = await read_models(connection)
    for events in (1, 3, 4_000):
        monkeypatch.setattr(RANGE_EVENTS, events)
        await rebuild(database)
        assert_same(await read_models(connection), live)
    assert await parked(connection) == []


# What lies apart in the log


def rescheduled(uid: str, old: str, *, at: int, **more: object) -> bytes:
    return webhook("BOOKING_RESCHEDULED", {"uid": uid, "rescheduleUid": old, "rescheduleId": 1, **more}, at=minutes(at))


def seat(trigger: str, uid: str, email: str, *, at: int, **more: object) -> bytes:
    return webhook(trigger, {"uid": uid, "seatsPerTimeSlot": 5, "attendees": people(email), **more}, at=minutes(at))


CREATED = partial(webhook, "BOOKING_CREATED")
UNNAMED = webhook("BOOKING_CANCELLED", {"cancellationReason": "Rain"}, at=minutes(9))

CASES: Mapping[str, Sequence[bytes]] = {
    "a chain of bookings": (
        CREATED(
            {"uid": "chain-a", "bookingId": 101, "metadata": {"petId": "p1"}, "attendees": people("a@example.com")}
        ),
        rescheduled("chain-b", "chain-a", at=1, bookingId=102),
        rescheduled("chain-c", "chain-b", at=2, bookingId=103, attendees=people("b@example.com")),
        webhook("BOOKING_CANCELLED", {"uid": "chain-c"}, at=minutes(3)),
        webhook("BOOKING_CREATED", {"uid": "chain-a", "metadata": {"clientId": "late"}}, at=minutes(-1)),
    ),
    "a chain that came backwards": (
        rescheduled("back-c", "back-b", at=2),
        rescheduled("back-b", "back-a", at=1),
        CREATED({"uid": "back-a", "metadata": {"petId": "p1"}}),
    ),
    "a booking of which only its successor told": (rescheduled("known", "never-seen", at=1),),
    "a number whose uid came later": (
        by_number("BOOKING_CREATED", 201, attendees=people("n@example.com")),
        by_number("BOOKING_CANCELLED", 201),
        CREATED({"uid": "numbered", "bookingId": 201}),
        by_number("BOOKING_CONFIRMED", 201),
    ),
    "a number whose uid never came": (by_number("BOOKING_CREATED", 202), by_number("BOOKING_RESCHEDULED", 202)),
    "a uid whose number came later": (
        CREATED({"uid": "numbered-late", "attendees": people("u@example.com")}),
        by_number("BOOKING_CANCELLED", 203),
        CREATED({"uid": "numbered-late", "bookingId": 203}, at=minutes(1)),
    ),
    "a successor known by its number, then by its uid": (
        CREATED({"uid": "followed", "metadata": {"petId": "p2"}}),
        webhook(
            "BOOKING_RESCHEDULED", {"bookingId": 204, "rescheduleUid": "followed", "rescheduleId": 1}, at=minutes(1)
        ),
        CREATED({"uid": "following", "bookingId": 204}, at=minutes(2)),
        webhook("BOOKING_CREATED", {"uid": "followed", "title": "late"}, at=minutes(-1)),
    ),
    "a seat that its number first told of as left": (
        by_number("BOOKING_CREATED", 205, attendees=people("s@example.com"), seatsPerTimeSlot=5),
        seat("BOOKING_CANCELLED", "left-class", "s@example.com", at=1, bookingId=205).replace(
            b'"email"', b'"bookingId":205,"email"'
        ),
    ),
    "seats that move between classes": (
        *(seat("BOOKING_CREATED", "class-1", f"{name}@example.com", at=0) for name in "ab"),
        seat("BOOKING_CREATED", "class-2", "c@example.com", at=1),
        seat("BOOKING_RESCHEDULED", "class-2", "a@example.com", at=2, rescheduleUid="class-1"),
        seat("BOOKING_RESCHEDULED", "class-3", "b@example.com", at=3, rescheduleUid="class-1"),
        meeting("MEETING_ENDED", {"uid": "class-3", "fromReschedule": "class-1", "metadata": {"room": "2"}}),
        webhook("BOOKING_CREATED", {"uid": "class-1", "metadata": {"room": "1"}}, at=minutes(4)),
    ),
    "a class to which a seat went, and a snapshot by number": (
        *(seat("BOOKING_CREATED", "left", f"{name}@example.com", at=0) for name in "ab"),
        seat("BOOKING_RESCHEDULED", "taken", "a@example.com", at=1, rescheduleUid="left", bookingId=206),
        meeting("MEETING_STARTED", {"bookingId": 206, "fromReschedule": "left", "metadata": {"room": "3"}}),
        webhook("BOOKING_CREATED", {"uid": "left", "metadata": {"room": "1"}}, at=minutes(4)),
    ),
    "a successor that only a snapshot or a report names": (
        CREATED({"uid": "before", "metadata": {"k": "1"}}),
        webhook("AFTER_HOSTS_CAL_VIDEO_NO_SHOW", {"uid": "after", "fromReschedule": "before"}, at=minutes(1)),
        CREATED({"uid": "before", "metadata": {"k": "2", "l": "3"}}, at=minutes(2)),
    ),
    "what names no booking": (UNNAMED, webhook("PING", {}), b"false", webhook("BOOKING_RATED", {"rating": 5})),
}


async def assert_rebuilt_is_live(
    connection: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await read_models(connection)
    for events in (1, 2, 4_000):
        monkeypatch.setattr(RANGE_EVENTS, events)
        assert_same(await filled(connection, database), live)


@pytest.mark.parametrize("numbers_kept", [NUMBERS_KEPT_MAX, 1])
async def test_what_lies_apart_in_the_log_is_found_whatever_range_it_lies_in(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    numbers_kept: int,
) -> None:
    """Each case as it came and backwards, body by body and all at once, in logs of their own.

    Whether bookings known by number are few, or too many to be remembered.
    """
    for reader in ("pages", "filling"):
        monkeypatch.setattr(f"projections.{reader}.NUMBERS_KEPT_MAX", numbers_kept)
    runner = Runner(pool, database)
    stories = {f"case-{number}": bodies for number, bodies in enumerate(CASES.values())}
    stories |= {f"{log}-backwards": bodies[::-1] for log, bodies in stories.items()}
    await add_ledgers(connection, *stories, *(f"{log}-at-once" for log in stories))
    for at in range(max(map(len, stories.values()))):
        for log, bodies in stories.items():
            await file_in(connection, log, *bodies[at : at + 1])
        await runner.catch_up()
    for log, bodies in stories.items():
        await file_in(connection, f"{log}-at-once", *bodies)
    await runner.catch_up()
    await assert_rebuilt_is_live(connection, database, monkeypatch)
    assert await connection.fetchval("SELECT count(DISTINCT ledger) FROM webhook_logs") == 4 * len(CASES)


async def test_observations_and_links_are_found_whatever_range_they_lie_in(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(pool, database)
    await file(connection, CREATED({"uid": "a", "bookingId": 1}), UNNAMED, rescheduled("b", "a", at=1, bookingId=2))
    await append(connection, MAIN, [observed("a", at=minutes(5), id=1, status="cancelled", rescheduledToUid="b")])
    await runner.catch_up()
    await append(connection, MAIN, [observed("b", at=minutes(6), id=2, rescheduledFromUid="a", metadata={"k": "1"})])
    await runner.catch_up()
    await link_first_unnamed(connection, "main", "b")
    await file(connection, CREATED({"uid": "a", "metadata": {"l": "2"}}, at=minutes(7)), by_number("BOOKING_PAID", 2))
    await runner.catch_up()
    await append(connection, MAIN, [observed("never-delivered", at=minutes(8), id=3)])
    await runner.catch_up()
    rows = await connection.fetch("SELECT cal_com_event_id, status, paid FROM calendar_events ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("a", "rescheduled", False),
        ("b", "cancelled", True),
        ("never-delivered", "scheduled", False),
    ]
    await assert_rebuilt_is_live(connection, database, monkeypatch)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("events", [0, 1, 7, 8])
async def test_a_log_that_is_empty_or_ends_with_a_range_or_right_after_it_is_rebuilt(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    monkeypatch.setattr(RANGE_EVENTS, 7)
    await file(connection, *islice(tangled(Random(3)), events)) if events else None
    assert await connection.fetchval("SELECT position >= $1 FROM ledger.ledgers", events)
    await Runner(pool, database).catch_up()
    live = await read_models(connection)
    await rebuild(database)
    assert_same(await read_models(connection), live)
    await file(connection, CREATED({"uid": "one-more"}))
    await Runner(pool, database).catch_up()
    assert await connection.fetchval("SELECT count(*) FROM calendar_events WHERE cal_com_event_id = 'one-more'") == 1


def deeper(frames: int, body: bytes) -> Envelope:
    """What the body is read as so many frames further down the stack."""
    return deeper(frames - 1, body) if frames else open_envelope(body)


@pytest.mark.parametrize("levels", [900, 960, 998, 1_000, 50_000])
def test_a_body_means_the_same_however_deep_the_stack_is_from_which_it_is_read(levels: int) -> None:
    """Or what the web server took for a booking would be unreadable to a worker."""
    deep = b"[" * levels + b"]" * levels
    body = webhook("BOOKING_CREATED", {"uid": "deep", "title": "HERE"}).replace(b'"HERE"', deep)
    read = [deeper(frames, body) for frames in (0, 100, 300, 600)]
    assert {(one.uid, one.error) for one in read} == {("deep", None) if levels < 1_000 else (None, "nested too deeply")}


# What goes on meanwhile


@pytest.mark.usefixtures("here")
async def test_what_arrives_in_every_phase_is_there_after_the_swap(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries to every log, and whole new logs, before and after each phase; also such as nobody has seen yet."""
    monkeypatch.setattr(RANGE_EVENTS, 5)
    bodies = tangled(Random(8))
    runner = Runner(pool, database)
    logs = 0

    def interrupted(step: Callable[..., object], *, is_seen: bool) -> Callable[..., object]:
        async def between(self: Rebuild, inner: Connection) -> None:
            nonlocal logs
            logs += 1
            await add_ledgers(connection, f"log-{logs}")
            for ledger in await read_ledgers(connection):
                await file_in(connection, ledger, *islice(bodies, 3))
            if is_seen:
                await runner.catch_up()
            await step(self, inner)  # type: ignore[misc]  # it is one of the methods below

        return between

    await file(connection, *islice(bodies, 20))
    await runner.catch_up()
    for phase, is_seen in (("_plan", True), ("_plan", False), ("_fill", True), ("_index", False), ("_swap", True)):
        monkeypatch.setattr(Rebuild, phase, interrupted(getattr(Rebuild, phase), is_seen=is_seen))
    await rebuild(database)
    await runner.catch_up()
    live = await read_models(connection)
    assert logs >= len(NAMES) * 5
    assert_same(await filled(connection, database), live)
    assert await parked(connection) == []


async def everything_else(connection: Connection, name: str) -> Rows:
    """What a rebuild of this projection has no business with: the log, the other read models, what else we remember."""
    rows: dict[str, list[bytes]] = {}
    for row in await connection.fetch(
        """
        SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
          AND NOT (n.nspname = 'projections' AND c.relname = ANY($1)) AND n.nspname !~ ('^' || $2 || '_[0-9]+$')
        ORDER BY 1, 2
        """,
        ["generations", "rebuild_ranges", "checkpoints"],
        name,
    ):
        table = f"{row['nspname']}.{row['relname']}"
        told = await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1")  # noqa: S608  # ours
        rows[table] = [one[0].encode() for one in told]
    others = "SELECT to_jsonb(t)::text FROM projections.checkpoints AS t WHERE projection <> $1 ORDER BY 1"
    rows["checkpoints"] = [one[0].encode() for one in await connection.fetch(others, name)]
    return rows


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", NAMES)
async def test_a_rebuild_writes_nothing_but_its_own_tables(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, name: str
) -> None:
    await file(connection, *traffic(bookings=40))
    await Runner(pool, database).catch_up()
    before = await everything_else(connection, name)
    assert {"ledger.events", "projections.visible_pages", "checkpoints"} <= before.keys()
    await rebuild(database, name)
    assert_same(await everything_else(connection, name), before)


# Another version of the code


@pytest.mark.usefixtures("here")
async def test_code_of_a_newer_version_gets_a_generation_of_its_own_while_the_old_one_serves_on(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file(connection, CREATED({"uid": "a"}))
    await Runner(pool, database).catch_up()
    newer = msgspec.structs.replace(BY_NAME["calendar_events"], version=2)
    catalogue = {**BY_NAME, "calendar_events": newer}
    await file(connection, CREATED({"uid": "b"}))
    runner = Runner(pool, database, catalogue=tuple(catalogue.values()))
    await runner.catch_up()
    count = "SELECT count(*) FROM calendar_events"
    assert await connection.fetchval(count) == 1, "what was made for the old code is left to the old code, but serves"
    assert await connection.fetchval("SELECT count(*) FROM webhook_logs") == 2

    for module in ("projections.rebuild", "projections.filling", "projections.upkeep"):
        monkeypatch.setattr(f"{module}.BY_NAME", catalogue)
    looking = Upkeep(database, confirm_on_accept=False)
    await looking.look()
    rows = await connection.fetch(
        "SELECT generation, version, state FROM projections.generations WHERE projection = $1 ORDER BY 1", newer.name
    )
    assert [tuple(row) for row in rows] == [(1, 1, "retired"), (2, 2, "live")]
    await runner.catch_up()
    assert await connection.fetchval(count) == 2
    assert await connection.fetchval("SELECT max(lag_events) FROM projection_status") == 0
    await looking.look()
    assert await connection.fetchval("SELECT to_regnamespace('calendar_events_1') IS NULL")
    assert await connection.fetchval("SELECT count(*) FROM projections.generations WHERE state = 'building'") == 0


async def test_a_young_table_gets_its_statistics_as_soon_as_it_has_grown(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL looks once a minute; until then each page would read every row of the table."""
    monkeypatch.setattr("projections.upkeep.GROWN_UP_ROWS", 20)
    known = "SELECT reltuples FROM pg_class WHERE oid = 'calendar_events_1.calendar_events'::regclass"
    upkeep = Upkeep(database, confirm_on_accept=False)
    await file(connection, *(CREATED({"uid": f"first-{count}"}) for count in range(19)))
    await _caught_up_and_counted(pool, database)
    await upkeep.look()
    assert await connection.fetchval(known) == -1
    await file(connection, CREATED({"uid": "grown-up"}))
    await _caught_up_and_counted(pool, database)
    await upkeep.look()
    assert await connection.fetchval(known) == 20
    assert await connection.fetch(SQL["find_unanalyzed"], 20) == []


async def _caught_up_and_counted(pool: asyncpg.Pool, dsn: str) -> None:
    """The read models are current, and the server's counts of their rows are, too."""
    await Runner(pool, dsn).catch_up()
    for one in [await pool.acquire() for _ in range(pool.get_size())]:
        await one.execute("SELECT pg_stat_force_next_flush()")
        await pool.release(one)


async def test_old_code_leaves_a_generation_of_newer_code_alone(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    """As where one of two servers has been updated already."""
    await connection.execute("UPDATE projections.generations SET version = 2 WHERE projection = 'webhook_logs'")
    await file(connection, CREATED({"uid": "a"}))
    await Runner(pool, database).catch_up()
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 1
    assert await connection.fetchval("SELECT count(*) FROM webhook_logs") == 0
    assert await parked(connection) == []
