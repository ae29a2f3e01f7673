"""Poison: an event that cannot be read or applied is parked, all else goes on, and a retry leaves no trace of it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from math import ceil, log2
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from ledger import filing as filing_module
from ledger import history as history_module
from ledger.calcom.envelope import Envelope, open_envelope
from ledger.calcom.meaning import Meaning, meaning_of
from ledger.postgres import Connection
from ledger.store import Ledger, read_ledgers
from projections import applying as applying_module
from projections import facts as facts_module
from projections import parked as parked_module
from projections.applying import ATTEMPTS_MAX
from projections.catalogue import BY_NAME, CATALOGUE
from projections.generations import Place, move_checkpoints
from projections.parked import Retried, list_parked, retry_parked, skip_parked
from projections.projection import Chunk, Page, Projection
from projections.rebuild import Rebuild
from projections.runner import PAGE_EVENTS_MAX, Runner
from tests.builders import minutes, people, webhook
from tests.rebuilding import (
    NAMES,
    assert_same,
    but_for_when,
    fill_here,
    filled,
    read_models,
    rebuild,
    step,
    tangled,
    traffic,
)
from tests.serving import file, until, until_current
from tests.test_runner import begin_tally, tallied
from tests.worker import PROJECTION as TALLYING
from tests.worker import TALLY

POISON = "poison"
KEYS = "SELECT cal_com_event_id FROM calendar_events ORDER BY 1"


@pytest_asyncio.fixture
async def main(connection: asyncpg.Connection) -> Ledger:
    return (await read_ledgers(connection))["main"]


def created(uid: str, **more: object) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": uid, "attendees": people(f"{uid}@example.com"), **more})


def moved(uid: str, old: str, *, at: int, **more: object) -> bytes:
    return webhook("BOOKING_RESCHEDULED", {"uid": uid, "rescheduleUid": old, "rescheduleId": 1, **more}, at=minutes(at))


STORY = (
    created("before", title="Bath"),
    moved("middle", "before", at=1, title="Bath", metadata={"petId": "p1"}),
    created("other"),
    moved("middle", "before", at=2, title=POISON, metadata={"petId": "p2"}, startTime="2026-12-03T09:00:00Z"),
    moved("after", "middle", at=3, type="clip"),
    webhook("BOOKING_CANCELLED", {"uid": "after"}, at=minutes(4)),
    webhook("BOOKING_CANCELLED", {"uid": "other"}, at=minutes(5)),
    created("last"),
)
"""One event of a chain of three bookings is poison: others of the chain come before it and after it."""


# Ways to be poison


def unreadable(patch: pytest.MonkeyPatch) -> None:
    """A fault in what reads bodies: it raises for this one."""

    def opened(body: bytes) -> Envelope:
        if POISON.encode() in body:
            raise ZeroDivisionError(POISON)
        return open_envelope(body)

    def meant(_envelope: Envelope) -> Meaning:
        raise ZeroDivisionError(POISON)

    patch.setattr(history_module, "open_envelope", opened)
    patch.setattr(filing_module, "meaning_of", meant)


def readable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(history_module, "open_envelope", open_envelope)
    patch.setattr(filing_module, "meaning_of", meaning_of)


def poisoned(projection: Projection) -> Projection:
    """A fault in the projection: it raises for this event, or in a rebuild for the booking that the event is about."""

    async def apply(connection: Connection, page: Page) -> None:
        assert not any(POISON.encode() in event.body for event in page.events), POISON
        await projection.apply(connection, page)

    async def fill(connection: Connection, chunk: Chunk) -> None:
        assert not any(POISON.encode() in event.body for event in chunk.events), POISON
        assert not any(booking.title == POISON for booking in chunk.bookings), POISON
        await projection.fill(connection, chunk)

    return msgspec.structs.replace(projection, apply=apply, fill=fill, reads_bodies=True)


async def retry_all(pool: asyncpg.Pool, ledger: Ledger) -> list[Retried]:
    return [await retry_parked(pool, ledger, projection, None, confirm_on_accept=False) for projection in CATALOGUE]


async def count_parked(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT projection, parked FROM projection_status WHERE parked > 0 ORDER BY 1")
    return {row["projection"]: row["parked"] for row in rows}


async def keys(connection: Connection) -> list[str]:
    return [row[0] for row in await connection.fetch(KEYS)]


# While the runner works


async def test_an_event_that_cannot_be_read_is_parked_with_its_booking_and_every_other_is_current(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    main: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unreadable(monkeypatch)
    runner = Runner(pool, database)
    await file(connection, *STORY[:2])
    await runner.catch_up()
    await file(connection, *STORY[2:], *traffic(bookings=40))
    await runner.catch_up()
    await until_current(connection)
    shown = await keys(connection)
    assert {"before", "middle", "other", "last"} <= set(shown)
    assert "after" not in shown, "what came after it in its chain cannot be told without it"
    (status,) = await connection.fetch("SELECT status FROM calendar_events WHERE cal_com_event_id = 'other'")
    assert status["status"] == "cancelled"
    for one in await list_parked(connection, main, None):
        assert one.attempts == ATTEMPTS_MAX
        assert one.error == f"ZeroDivisionError: {POISON}"
    assert (await count_parked(connection)).keys() == set(NAMES)

    readable(monkeypatch)
    for retried in await retry_all(pool, main):
        assert retried.failed == []
        assert retried.applied == sorted(retried.applied)
    assert await count_parked(connection) == {}
    assert_same(await filled(connection, database), await read_models(connection))
    assert "after" in await keys(connection)


@pytest.mark.parametrize(
    ("name", "in_one_page"), [*((name, True) for name in NAMES), ("calendar_events", False), ("sync_lag", False)]
)
async def test_an_event_that_cannot_be_applied_leaves_no_trace_once_it_was_retried(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, *, name: str, in_one_page: bool
) -> None:
    """Whatever came after it: later events of its bookings are in the rows by then, and stay."""
    catalogue = [poisoned(one) if one.name == name else one for one in CATALOGUE]
    runner = Runner(pool, database, catalogue=catalogue)
    for page in [STORY] if in_one_page else [[body] for body in STORY]:
        await file(connection, *page)
        await runner.catch_up()
    assert await count_parked(connection) == {name: 1}
    await until_current(connection)
    whole = await filled(connection, database)
    live = await read_models(connection)
    others = {table for table in live if not table.startswith(name)}
    assert_same({table: whole[table] for table in others}, {table: live[table] for table in others})

    [position] = [one.position for one in await list_parked(connection, main, name)]
    assert await retry_parked(pool, main, BY_NAME[name], [position], confirm_on_accept=False) == Retried(
        applied=[position], failed=[]
    )
    assert await count_parked(connection) == {}
    whole, mended = await filled(connection, database), await read_models(connection)
    assert_same(but_for_when(whole), but_for_when(mended))
    if name != "calendar_events":  # which shows what is parked there as soon as another event of the booking comes
        assert_same(whole, mended)


@pytest.mark.parametrize("name", [None, "calendar_events"], ids=["unreadable", "not to be applied"])
async def test_finding_the_poison_in_a_full_page_takes_a_few_transactions_not_thousands(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str | None,
) -> None:
    bodies = [created(f"booking-{number}") for number in range(PAGE_EVENTS_MAX)]
    bodies[1_234] = created(POISON)
    if name is None:
        unreadable(monkeypatch)
    await file(connection, *bodies)
    moves = 0

    async def counted(*values: Any, **how: Any) -> datetime:
        nonlocal moves
        moves += 1
        return await move_checkpoints(*values, **how)

    monkeypatch.setattr(applying_module, "move_checkpoints", counted)
    await Runner(pool, database, catalogue=[poisoned(one) if one.name == name else one for one in CATALOGUE]).catch_up()
    await until_current(connection)
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == PAGE_EVENTS_MAX - 1
    assert await count_parked(connection) == (dict.fromkeys(NAMES, 1) if name is None else {name: 1})
    halvings = 2 * ceil(log2(PAGE_EVENTS_MAX))
    assert moves <= 1 + len(NAMES) * (halvings + ATTEMPTS_MAX)


async def test_a_projection_that_raises_now_and_then_parks_nothing(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    """As an event is tried alone before it is given up."""
    failures = iter([True, True, False])

    async def apply(inside: Connection, page: Page) -> None:
        if any(POISON.encode() in event.body for event in page.events):
            assert not next(failures), POISON
        await BY_NAME["calendar_events"].apply(inside, page)

    moody = msgspec.structs.replace(BY_NAME["calendar_events"], apply=apply, reads_bodies=True)
    await file(connection, created(POISON))
    await Runner(pool, database, catalogue=[moody, *CATALOGUE[1:]]).catch_up()
    assert await count_parked(connection) == {}
    assert await keys(connection) == [POISON]
    (state,) = await connection.fetch(
        "SELECT state, last_error FROM projection_status WHERE projection = $1", moody.name
    )
    assert tuple(state) == ("running", None)


# What becomes of the parked


async def park_two(connection: Connection, pool: asyncpg.Pool, database: str) -> list[int]:
    """Two events are parked in `webhook_logs`; their positions."""
    picky = [poisoned(one) if one.name == "webhook_logs" else one for one in CATALOGUE]
    await file(connection, created("a"), created(f"{POISON}-1"), created("b"), created(f"{POISON}-2"), created("c"))
    await Runner(pool, database, catalogue=picky).catch_up()
    return [2, 4]


async def test_a_retry_that_fails_again_leaves_the_event_parked_with_its_new_error_and_one_attempt_more(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    positions = await park_two(connection, pool, database)
    before = await read_models(connection)

    async def worse(_connection: Connection, page: Page) -> None:
        if page.events[0].position == positions[0]:
            raise RuntimeError("worse\x00")
        await BY_NAME["webhook_logs"].apply(_connection, page)

    failing = msgspec.structs.replace(BY_NAME["webhook_logs"], apply=worse)
    retried = await retry_parked(pool, main, failing, None, confirm_on_accept=False)
    assert retried == Retried(applied=positions[1:], failed=positions[:1])
    [left] = await list_parked(connection, main, "webhook_logs")
    assert (left.position, left.attempts, left.error) == (positions[0], ATTEMPTS_MAX + 1, "RuntimeError: worse")
    after = await read_models(connection)
    assert len(after["webhook_logs.webhook_logs"]) == len(before["webhook_logs.webhook_logs"]) + 1


async def test_only_the_positions_that_are_given_are_retried(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    positions = await park_two(connection, pool, database)
    logs = BY_NAME["webhook_logs"]
    asked = [positions[1], 1, 999]
    assert await retry_parked(pool, main, logs, asked, confirm_on_accept=False) == Retried(
        applied=positions[1:], failed=[]
    )
    assert [one.position for one in await list_parked(connection, main, None)] == positions[:1]
    assert await retry_parked(pool, main, logs, [], confirm_on_accept=False) == Retried(applied=[], failed=[])
    other = BY_NAME["facts"]
    assert await retry_parked(pool, main, other, positions, confirm_on_accept=False) == Retried(applied=[], failed=[])
    assert await retry_parked(pool, main, logs, None, confirm_on_accept=False) == Retried(
        applied=positions[:1], failed=[]
    )
    assert_same(await filled(connection, database), await read_models(connection))


async def test_an_event_that_is_skipped_counts_no_more_and_is_retried_by_its_position_alone(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    positions = await park_two(connection, pool, database)
    logs = BY_NAME["webhook_logs"]
    assert await skip_parked(connection, main, logs.name, [*positions[:1], 999]) == positions[:1]
    assert await skip_parked(connection, main, logs.name, positions[:1]) == [], "it was skipped already"
    assert await count_parked(connection) == {logs.name: 1}
    listed = await list_parked(connection, main, logs.name)
    assert [(one.position, one.skipped_at is not None) for one in listed] == [(2, True), (4, False)]
    assert (await retry_parked(pool, main, logs, None, confirm_on_accept=False)).applied == positions[1:]
    assert (await retry_parked(pool, main, logs, positions[:1], confirm_on_accept=False)).applied == positions[:1]
    assert await list_parked(connection, main, logs.name) == []


async def test_an_event_that_two_people_retry_at_once_is_applied_once(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    await begin_tally(connection, TALLY)
    await file(connection, created("a"), created(POISON), created("b"))
    await Runner(pool, database, catalogue=(*CATALOGUE, poisoned(TALLYING))).catch_up()
    assert await tallied(connection, TALLY) == [1, 3]
    retries = [asyncio.create_task(retry_parked(pool, main, TALLYING, None, confirm_on_accept=False)) for _ in range(4)]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def are_several_at_it() -> bool:
        return bool(await connection.fetchval(waiting) > 1)

    async with connection.transaction():
        await connection.execute("SELECT FROM projections.checkpoints WHERE projection = $1 FOR UPDATE", TALLY)
        await until(are_several_at_it)
    retried = await asyncio.gather(*retries)
    assert sorted(one.applied for one in retried) == [[], [], [], [2]]
    assert [one.failed for one in retried] == [[], [], [], []]
    assert await tallied(connection, TALLY) == [1, 2, 3]


async def test_a_retry_while_events_go_on_arriving_loses_none_of_them(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    statistics = BY_NAME["calendar_events"]
    runner = Runner(pool, database, catalogue=[poisoned(one) if one is statistics else one for one in CATALOGUE])
    bodies = tangled(Random(4))
    for number, title in enumerate((POISON, "good") * 4):
        await file(connection, created("a", title=title, type=str(number)), *islice(bodies, 5))
    await runner.catch_up()
    assert await count_parked(connection) == {statistics.name: 4}
    async with runner.running():
        retrying = asyncio.create_task(retry_parked(pool, main, statistics, None, confirm_on_accept=False))
        while not retrying.done():
            await file(connection, next(bodies))
        assert (await retrying).failed == []
        await until_current(connection)
    assert_same(but_for_when(await filled(connection, database)), but_for_when(await read_models(connection)))


# In a rebuild


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_here(monkeypatch)


@pytest.mark.usefixtures("here")
async def test_a_rebuild_takes_up_what_was_parked_and_forgets_that_it_was(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch)
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    assert (await count_parked(connection)).keys() == set(NAMES)
    readable(monkeypatch)
    await rebuild(database)
    assert await connection.fetchval("SELECT count(*) FROM projections.parked_events") == 0
    assert "after" in await keys(connection)
    assert_same(await filled(connection, database), await read_models(connection))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("fault", ["unreadable", "unreadable, though its facts are kept", "not to be filled"])
@pytest.mark.parametrize("late", [False, True], ids=["in what is filled", "in what arrives meanwhile"])
async def test_poison_in_a_rebuild_is_parked_for_the_new_generation_and_everything_else_is_there(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    main: Ledger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    late: bool,
) -> None:
    bodies = [*STORY, *traffic(bookings=40)]
    runner = Runner(pool, database)
    await file(connection, *([] if late else bodies), created("first"))
    await runner.catch_up()
    if late:
        await arrive_before_catching_up(connection, runner, bodies, monkeypatch)
    if fault.startswith("unreadable"):
        unreadable(monkeypatch)
        await runner.catch_up()
        if fault == "unreadable":
            monkeypatch.setattr(facts_module, "are_known", nothing_is_known)
    else:
        for name in NAMES:
            monkeypatch.setitem(BY_NAME, name, poisoned(BY_NAME[name]))
    async with asyncio.timeout(60):
        await rebuild(database)
    monkeypatch.undo()
    generations = await connection.fetch("SELECT DISTINCT projection, generation FROM projections.parked_events")
    spared = {"calendar_events", "booking_attendees"} if fault.endswith("kept") and not late else set()
    assert {row["projection"] for row in generations} == set(NAMES) - spared
    assert {row["generation"] for row in generations} == {2}
    shown = set(await keys(connection))
    assert {"first", "other", "last"} <= shown
    assert len(shown) > len(STORY)
    for retried in await retry_all(pool, main):
        assert retried.failed == []
    await runner.catch_up()
    assert await count_parked(connection) == {}
    assert_same(await filled(connection, database), await read_models(connection))


async def nothing_is_known(*_: object, **_how: object) -> bool:
    return False


async def arrive_before_catching_up(
    connection: Connection, runner: Runner, bodies: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rebuild finds these when it has been filled; the others find them in the log."""
    swap = step("_swap")

    async def arriving(self: Rebuild, inner: Connection) -> None:
        monkeypatch.setattr(Rebuild, "_swap", swap)
        await file(connection, *bodies)
        await runner.catch_up()
        await swap(self, inner)

    monkeypatch.setattr(Rebuild, "_swap", arriving)


@pytest.mark.usefixtures("here")
async def test_a_retry_that_a_swap_overtakes_has_nothing_left_to_do(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    main: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await park_two(connection, pool, database)
    apply = parked_module._apply  # noqa: SLF001  # what a retry does with each event

    async def overtaken(inside: Connection, ledger: Ledger, place: Place, **how: bool) -> bool:
        if place.generation == 1 and place.position == 2:
            await rebuild(database, "webhook_logs")
        return await apply(inside, ledger, place, **how)

    monkeypatch.setattr(parked_module, "_apply", overtaken)
    retried = await retry_parked(pool, main, BY_NAME["webhook_logs"], None, confirm_on_accept=False)
    assert retried == Retried(applied=[], failed=[])
    assert await connection.fetchval("SELECT count(*) FROM projections.parked_events") == 0
    assert_same(await filled(connection, database), await read_models(connection))
