"""Hazards of a rebuild: everybody in it killed at any moment, paused, cancelled, driven twice, read and written to."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice

import asyncpg
import pytest
import pytest_asyncio

from ledger import postgres as postgres_module
from ledger.errors import NotFound, RebuildUnderWay
from ledger.postgres import Connection
from projections import rebuild as rebuild_module
from projections.filling import Filler
from projections.progress import Progress, read_progress
from projections.rebuild import (
    Rebuild,
    WheelLost,
    begin_rebuild,
    cancel_rebuild,
    drive_rebuild,
    set_paused,
)
from projections.runner import Runner
from projections.upkeep import Upkeep
from tests.builders import people
from tests.dying_driver import ARRIVING, POINTS
from tests.rebuilding import (
    RANGE_EVENTS,
    REBUILD_SECONDS_MAX,
    Rows,
    assert_same,
    by_number,
    fill_here,
    filled,
    read_models,
    rebuild,
    step,
    traffic,
)
from tests.serving import connected, file, parked, until, until_current
from tests.sources import ROOT

NAME = "calendar_events"
KILLS = 4
LOOKS = 30
HELD_SECONDS = 2
BLOCKED_SECONDS_MAX = 1.0
SWAP_MS_MAX = 500
BODIES_AT_ONCE = 3


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_here(monkeypatch)


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers look at once whether they are still wanted."""
    monkeypatch.setattr(rebuild_module, "RENEWED_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(rebuild_module, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(rebuild_module, "SWAP_AGAIN_SECONDS", 0.01)


@pytest_asyncio.fixture
async def live(connection: asyncpg.Connection, pool: asyncpg.Pool, database: str) -> Rows:
    """Read models with something in them."""
    await file(connection, *traffic(bookings=50))
    await Runner(pool, database).catch_up()
    return await read_models(connection)


async def state_of(connection: Connection) -> Progress:
    (progress,) = await read_progress(connection, NAME)
    return progress


async def look(database: str) -> None:
    await Upkeep(database, confirm_on_accept=False).look()


# Killed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("point", POINTS)
async def test_a_driver_killed_at_any_point_leaves_a_rebuild_that_another_brings_to_its_end(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, live: Rows, point: str
) -> None:
    generation = await begin_rebuild(connection, NAME)
    dying = [sys.executable, "-m", "tests.dying_driver", database, NAME, str(generation), point]
    ended = await asyncio.to_thread(subprocess.run, dying, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    seen = await read_models(connection)
    assert_same({table: seen[table][:0] for table in seen}, {table: live[table][:0] for table in live})
    assert len(seen[f"{NAME}.{NAME}"]) in {len(live[f"{NAME}.{NAME}"]) + late for late in (0, ARRIVING)}

    async def is_undriven() -> bool:
        progress = await state_of(connection)
        return progress.state == "live" or not progress.is_driven

    await until(is_undriven)
    await look(database)
    assert (await state_of(connection)).state == "live"
    await Runner(pool, database).catch_up()
    assert_same(await filled(connection, database), await read_models(connection))
    if len(seen[f"{NAME}.{NAME}"]) == len(live[f"{NAME}.{NAME}"]):
        assert_same(await read_models(connection), live)
    assert await parked(connection) == []


async def test_filling_processes_that_are_killed_again_and_again_fill_nothing_twice_and_leave_nothing_out(
    connection: asyncpg.Connection, database: str, live: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RANGE_EVENTS, 3)
    start = step("_start_filler")
    running: list[asyncio.subprocess.Process] = []
    killed = 0

    async def remembered(self: Rebuild) -> asyncio.subprocess.Process:
        running.append(await start(self))
        return running[-1]

    async def kill(spared: int) -> None:
        """Whenever some more ranges are done, whatever else is under way just then."""
        nonlocal killed
        for _ in range(KILLS):
            done = (await state_of(connection)).events_done

            async def is_further(done: int = done) -> bool:
                return (await state_of(connection)).events_done > done + spared

            await until(is_further)
            while running:
                with contextlib.suppress(ProcessLookupError):
                    running.pop().kill()
                    killed += 1

    monkeypatch.setattr(Rebuild, "_start_filler", remembered)
    generation = await begin_rebuild(connection, NAME)
    async with asyncio.TaskGroup() as group:
        group.create_task(kill(spared=10))
        group.create_task(drive_rebuild(database, NAME, generation, confirm_on_accept=False))
    assert killed >= KILLS
    assert_same(await read_models(connection), live)


@pytest.mark.usefixtures("attentive")
async def test_filling_that_keeps_failing_waits_for_somebody_to_look_and_goes_on_when_resumed(
    connection: asyncpg.Connection, database: str, live: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "FILLERS_FAILED_MAX", 3)
    tries = 0

    async def failing(_: Rebuild, _count: int) -> int:
        nonlocal tries
        tries += 1
        return 2

    monkeypatch.setattr(Rebuild, "_run_fillers", failing)
    generation = await begin_rebuild(connection, NAME)
    driving = asyncio.create_task(drive_rebuild(database, NAME, generation, confirm_on_accept=False))

    async def is_stuck() -> bool:
        return (await state_of(connection)).error is not None

    await until(is_stuck)
    assert tries == 2
    fill_here(monkeypatch)
    for paused in (True, False):
        await set_paused(connection, NAME, paused=paused)
        await renewed(connection)
    await asyncio.wait_for(driving, REBUILD_SECONDS_MAX)
    assert_same(await read_models(connection), live)
    assert (await state_of(connection)).error is None


async def renewed(connection: Connection) -> None:
    """Whoever drives has looked twice since this was called."""
    query = "SELECT driver_until FROM projections.generations WHERE projection = $1 AND state = 'building'"
    seen = {await connection.fetchval(query, NAME)}

    async def is_renewed_twice() -> bool:
        seen.add(await connection.fetchval(query, NAME))
        return len(seen) > 2

    await until(is_renewed_twice)


@pytest.mark.usefixtures("here", "attentive")
async def test_a_driver_whose_connections_are_killed_ends_and_another_goes_on(
    connection: asyncpg.Connection, database: str, live: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "WHEEL_SECONDS", 0.1)
    index = step("_index")

    async def killed(self: Rebuild, inner: Connection) -> None:
        monkeypatch.setattr(Rebuild, "_index", index)
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await index(self, inner)

    monkeypatch.setattr(Rebuild, "_index", killed)
    generation = await begin_rebuild(connection, NAME)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError, WheelLost)):
        await drive_rebuild(database, NAME, generation, confirm_on_accept=False)
    assert (await state_of(connection)).phase == "indexing"

    async def is_undriven() -> bool:
        return not (await state_of(connection)).is_driven

    await until(is_undriven)
    await look(database)
    assert_same(await read_models(connection), live)


# Paused, cancelled, begun twice


def one_range_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RANGE_EVENTS, 5)

    class Short(Filler):
        async def _fill_range(self) -> bool:
            await super()._fill_range()
            return False

    async def run_fillers(self: Rebuild, _count: int) -> int:
        async with connected(self._dsn) as connection:
            await Short(connection, self._order).fill_ranges()
        return 0

    monkeypatch.setattr(Rebuild, "_run_fillers", run_fillers)


async def in_filling(connection: Connection) -> None:
    async def is_filling() -> bool:
        progress = await state_of(connection)
        return progress.phase == "filling" and progress.events_done > 0

    await until(is_filling)


async def in_catching_up(connection: Connection) -> None:
    async def is_catching_up() -> bool:
        return (await state_of(connection)).phase == "catching_up"

    await until(is_catching_up)


@contextlib.asynccontextmanager
async def held(database: str, phase: Callable[[Connection], Awaitable[None]]) -> AsyncIterator[None]:
    """Inside, no swap can be: somebody reads what it would replace. Not needed to stay in filling."""
    async with connected(database) as reader, contextlib.AsyncExitStack() as stack:
        if phase is in_catching_up:
            await stack.enter_async_context(reader.transaction())
            await reader.fetch("SELECT FROM calendar_events LIMIT 1")
        yield


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize("phase", [in_filling, in_catching_up])
async def test_a_rebuild_that_is_paused_stands_still_until_it_is_resumed(
    connection: asyncpg.Connection,
    database: str,
    live: Rows,
    monkeypatch: pytest.MonkeyPatch,
    phase: Callable[[Connection], Awaitable[None]],
) -> None:
    one_range_at_a_time(monkeypatch)
    generation = await begin_rebuild(connection, NAME)
    driving = asyncio.create_task(drive_rebuild(database, NAME, generation, confirm_on_accept=False))
    async with held(database, phase):
        await phase(connection)
        assert await set_paused(connection, NAME, paused=True) == "building"
        await renewed(connection)
    await renewed(connection)
    stands = await state_of(connection)
    assert (stands.paused, stands.state) == (True, "building")
    assert stands.events_done == stands.events_total or phase is in_filling
    for _ in range(LOOKS):
        progress = await state_of(connection)
        assert (progress.events_done, progress.state) == (stands.events_done, "building")
    await look(database)  # a worker does not drive what is paused
    assert await set_paused(connection, NAME, paused=False) == "building"
    await asyncio.wait_for(driving, REBUILD_SECONDS_MAX)
    assert_same(await read_models(connection), live)


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize("phase", [in_filling, in_catching_up])
async def test_a_rebuild_that_is_cancelled_leaves_nothing_but_the_live_generation(
    connection: asyncpg.Connection,
    database: str,
    live: Rows,
    monkeypatch: pytest.MonkeyPatch,
    phase: Callable[[Connection], Awaitable[None]],
) -> None:
    one_range_at_a_time(monkeypatch)
    generation = await begin_rebuild(connection, NAME)
    driving = asyncio.create_task(drive_rebuild(database, NAME, generation, confirm_on_accept=False))
    async with held(database, phase):
        await phase(connection)
        await cancel_rebuild(connection, NAME)
        await look(database)  # its tables go while its driver may still be at them
        with pytest.raises(WheelLost):
            await asyncio.wait_for(driving, REBUILD_SECONDS_MAX)
    await look(database)
    with pytest.raises(NotFound):
        await cancel_rebuild(connection, NAME)
    assert (await state_of(connection)).state == "dropped"
    assert await connection.fetchval("SELECT to_regnamespace($1) IS NULL", f"{NAME}_{generation}")
    for table in ("rebuild_ranges", "checkpoints", "parked_events"):
        left = f"SELECT count(*) FROM projections.{table} WHERE projection = $1 AND generation = $2"  # noqa: S608  # ours
        assert await connection.fetchval(left, NAME, generation) == 0
    assert_same(await read_models(connection), live)
    await rebuild(database, NAME)
    assert (await state_of(connection)).generation == generation + 1
    assert_same(await read_models(connection), live)


async def test_a_second_rebuild_of_a_projection_has_to_wait_for_the_first(
    connection: asyncpg.Connection, database: str
) -> None:
    async with connected(database) as other:
        begun = await asyncio.gather(
            begin_rebuild(connection, NAME), begin_rebuild(other, NAME), return_exceptions=True
        )
    assert sorted(map(str, begun)) == sorted(map(str, (2, RebuildUnderWay(NAME))))
    with pytest.raises(RebuildUnderWay):
        await begin_rebuild(connection, NAME)
    assert await begin_rebuild(connection, "webhook_logs") == 2
    with pytest.raises(NotFound):
        await begin_rebuild(connection, "no_such_projection")


# Driven twice


@pytest.mark.usefixtures("here")
async def test_of_two_drivers_one_drives(connection: asyncpg.Connection, database: str, live: Rows) -> None:
    generation = await begin_rebuild(connection, NAME)
    drives = [drive_rebuild(database, NAME, generation, confirm_on_accept=False) for _ in range(2)]
    ended = await asyncio.gather(*drives, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["NoneType", "WheelLost"]
    assert_same(await read_models(connection), live)


@pytest.mark.usefixtures("here", "attentive")
@pytest.mark.parametrize("is_done", [False, True], ids=["and drives", "and is done"])
@pytest.mark.parametrize("phase", ["_plan", "_fill", "_index", "_swap"])
async def test_a_driver_that_slept_while_another_took_over_stops_without_harm(
    connection: asyncpg.Connection,
    database: str,
    live: Rows,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    *,
    is_done: bool,
) -> None:
    whole = step(phase)
    watch = step("_watch")

    async def asleep(_: Rebuild, _tell: object) -> None:
        await asyncio.Event().wait()

    if is_done:  # and the driver sleeps so soundly that it does not even renew its wheel
        monkeypatch.setattr(Rebuild, "_watch", asleep)

    async def sleeping(self: Rebuild, inner: Connection) -> None:
        monkeypatch.setattr(Rebuild, phase, whole)
        await give_to_another(connection, for_seconds=0 if is_done else 3_600)
        if is_done:
            monkeypatch.setattr(Rebuild, "_watch", watch)
            await look(database)
        await whole(self, inner)

    monkeypatch.setattr(Rebuild, phase, sleeping)
    generation = await begin_rebuild(connection, NAME)
    with pytest.raises(WheelLost):
        await drive_rebuild(database, NAME, generation, confirm_on_accept=False)
    assert (await state_of(connection)).state == ("live" if is_done else "building")
    if not is_done:
        await give_to_another(connection, for_seconds=0)
        await look(database)
    assert_same(await read_models(connection), live)
    assert await parked(connection) == []


@pytest.mark.usefixtures("here", "attentive")
async def test_what_a_driver_wrote_in_its_sleep_is_taken_back_when_another_has_gone_on(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has filled the bookings known by number, and sleeps before it commits that."""
    await file(connection, *(by_number("BOOKING_CREATED", number, attendees=people("a@e.com")) for number in (1, 2)))
    await Runner(pool, database).catch_up()
    enter = step("_enter")

    async def sleeping(self: Rebuild, inner: Connection, before: str, phase: str) -> None:
        if before == "filling":
            await give_to_another(connection, for_seconds=3_600)
            await connection.execute("UPDATE projections.generations SET phase = 'indexing' WHERE state = 'building'")
        await enter(self, inner, before, phase)

    monkeypatch.setattr(Rebuild, "_enter", sleeping)
    generation = await begin_rebuild(connection, "booking_attendees")
    with pytest.raises(WheelLost):
        await drive_rebuild(database, "booking_attendees", generation, confirm_on_accept=False)
    assert await connection.fetchval("SELECT count(*) FROM booking_attendees_2.booking_attendees") == 0
    assert await connection.fetchval("SELECT count(*) FROM booking_attendees") == 2


async def give_to_another(connection: Connection, *, for_seconds: int) -> None:
    """As if the wheel had run out, and another driver had taken it."""
    await connection.execute(
        """
        UPDATE projections.generations
        SET driver = 'another', driver_fence = driver_fence + 1,
            driver_until = clock_timestamp() + make_interval(secs => $1)
        WHERE state = 'building'
        """,
        for_seconds,
    )


# Read and written to meanwhile


class Reader:
    """Asks two read models again and again, and notes what no reader may see."""

    def __init__(self, connection: Connection) -> None:
        self.wrong: list[str] = []
        self.answers = 0
        self.slowest_seconds = 0.0
        self._connection = connection
        self._positions: dict[str, int] = {}
        self._deliveries: set[object] = set()

    async def read(self) -> None:
        begun = time.perf_counter()
        rows = await self._connection.fetch("SELECT cal_com_event_id, position FROM projections.calendar_events")
        delivered = await self._connection.fetch("SELECT id FROM webhook_logs")
        self.slowest_seconds = max(self.slowest_seconds, time.perf_counter() - begun)
        self.answers += 1
        positions = {row["cal_com_event_id"]: row["position"] for row in rows}
        self.wrong += [f"{key} is missing" for key in self._positions.keys() - positions.keys()]
        self.wrong += [f"{key} went back" for key, old in self._positions.items() if positions.get(key, old) < old]
        deliveries = {row["id"] for row in delivered}
        self.wrong += [f"{gone} is missing" for gone in self._deliveries - deliveries]
        self._positions, self._deliveries = positions, deliveries


@contextlib.asynccontextmanager
async def reading(database: str) -> AsyncIterator[Reader]:
    """Somebody reads for as long as the block lasts, and saw nothing wrong."""
    async with connected(database) as connection:
        reader, is_over = Reader(connection), asyncio.Event()

        async def read() -> None:
            while not is_over.is_set():
                await reader.read()

        task = asyncio.create_task(read())
        try:
            yield reader
        finally:
            is_over.set()
            await task
    assert reader.wrong == []
    assert reader.answers > 1


@pytest.mark.usefixtures("here")
async def test_deliveries_go_on_and_readers_miss_nothing_while_everything_is_rebuilt(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RANGE_EVENTS, 40)
    bodies = iter(traffic(bookings=400, seed=5))
    is_over = asyncio.Event()
    await file(connection, *islice(bodies, 150))
    await Runner(pool, database).catch_up()

    async def deliver() -> None:
        async with connected(database) as writer:
            while not is_over.is_set() and (some := list(islice(bodies, BODIES_AT_ONCE))):
                await file(writer, *some)

    async with Runner(pool, database).running(), reading(database), asyncio.TaskGroup() as group:
        group.create_task(deliver())
        await rebuild(database)
        is_over.set()
    async with Runner(pool, database).running():
        await until_current(connection)
    for progress in await read_progress(connection):
        assert (progress.generation, progress.state) == (2, "live")
        assert progress.swap_ms is not None
        assert progress.swap_ms < SWAP_MS_MAX
    assert await parked(connection) == []
    assert_same(await filled(connection, database), await read_models(connection))


@pytest.mark.usefixtures("here")
async def test_a_reader_who_holds_on_to_what_is_replaced_delays_the_swap_and_nobody_else(
    connection: asyncpg.Connection, database: str, live: Rows
) -> None:
    async with connected(database) as patient, reading(database) as others:
        async with patient.transaction():
            before = await patient.fetchval("SELECT count(*) FROM calendar_events")
            rebuilding = asyncio.create_task(rebuild(database, NAME))
            await patient.execute("SELECT pg_sleep($1)", HELD_SECONDS)
            assert (await state_of(connection)).phase == "catching_up"
            assert await patient.fetchval("SELECT count(*) FROM calendar_events") == before
        await rebuilding
        assert others.slowest_seconds < BLOCKED_SECONDS_MAX
    assert (await state_of(connection)).state == "live"
    assert_same(await read_models(connection), live)


@pytest.mark.usefixtures("here")
async def test_tables_that_somebody_still_reads_are_dropped_later(
    connection: asyncpg.Connection, database: str, live: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "LOCK_WAIT_SECONDS_MAX", 0.1)
    generation = await begin_rebuild(connection, NAME)
    async with connected(database) as patient, patient.transaction():
        await patient.fetch("SELECT FROM calendar_events_1.calendar_events LIMIT 1")
        await drive_rebuild(database, NAME, generation, confirm_on_accept=False)
        await look(database)
        assert await patient.fetchval("SELECT count(*) FROM calendar_events_1.calendar_events") > 0
    await look(database)
    assert await connection.fetchval("SELECT to_regnamespace('calendar_events_1') IS NULL")
    assert_same(await read_models(connection), live)
