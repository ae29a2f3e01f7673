"""Rebuilding a read model while people go on using it: a new generation beside the live one, then a swap.

    planning     the tables are made, the log up to its head is cut into ranges
    filling      processes take range after range (projections/filling.py)
    indexing     what is one over all ranges is made one, indexes are built, statistics gathered
    catching_up  what arrived meanwhile is applied page by page, until the live generation is overtaken
    live         one transaction shows the new generation and retires the old

Every step leaves the database where another driver can go on: a phase is entered in the transaction of the work that
ends the one before, a range carries its own mark, an index is there or not. Whoever drives holds the wheel under a
fence (as with leases); one that lost it finds that out at its next step. A rebuild writes read models and nothing else:
no message is sent by it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import structlog

from ledger.errors import NotFound, RebuildUnderWay
from ledger.keyring import NOTHING_SET, Sealing
from ledger.postgres import Connection, connect
from ledger.sealing import opened_keyring
from ledger.sql import load_statements
from ledger.store import Ledger, read_ledgers, read_log
from ledger.vocabulary import LedgerId, Position
from projections.applying import Applier
from projections.aside import give_way, start_aside, wait_aside
from projections.catalogue import BY_NAME
from projections.filling import STATEMENT_SECONDS_MAX, Filler, Order
from projections.generations import SHOWN_FIRST, CheckpointMoved, Place, point_at, read_visibility
from projections.pace import REST_SHARE, is_lively, rest
from projections.pages import PageReader, Stretch
from projections.progress import Progress, read_progress
from projections.projection import Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

RANGE_EVENTS = 3_000
SHOWN_SECONDS_MAX = 1.0
"""How long a plan waits until people see all that it holds, so that it is known since when they see it."""
PROCESSES_MAX = 4
WHEEL_SECONDS = 5.0
RENEWED_EVERY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 0.25
FILLERS_FAILED_MAX = 20
"""So often may the filling processes end in error or be killed before the rebuild waits for somebody to look."""
SWAP_LOCK_MS_MAX = 25
"""How long the swap waits for a query that runs on the old tables, and keeps others waiting, before it steps back."""
SWAP_AGAIN_SECONDS = 0.2
CATCH_UP_EVENTS = 2_000
"""So many at once: more are hardly cheaper, and keep others from the processors for longer."""
SWAP_EVENTS_MAX = 200
"""So many events may be applied while the live generation is held still; it is usually a handful."""

log = structlog.get_logger()


class WheelLost(Exception):
    """Another drives, or the rebuild was cancelled: nothing more is to be done here."""


Tell = Callable[[Progress], Awaitable[None]]


async def begin_rebuild(connection: Connection, name: str) -> int:
    """The number of the new generation, to be built by whoever drives. Raises NotFound, RebuildUnderWay."""
    projection = find_projection(name)
    generation: int | None = await connection.fetchval(SQL["begin_generation"], projection.name, projection.version)
    if generation is None:
        raise RebuildUnderWay(projection.name)
    return generation


async def set_paused(connection: Connection, name: str, *, paused: bool) -> str:
    """A rebuild under way is paused or goes on; where there is none, the live projection. Returns which: the state."""
    find_projection(name)
    for state in ("building", "live"):
        if await connection.fetchval(SQL["set_paused"], name, paused, state) is not None:
            return state
    raise NotFound(f"generation of {name}")


async def cancel_rebuild(connection: Connection, name: str) -> None:
    """The rebuild under way ends; what it made is dropped by the next worker that looks. Raises NotFound."""
    find_projection(name)
    if await connection.fetchval(SQL["cancel_generation"], name) is None:
        raise NotFound(f"rebuild of {name} under way")


def find_projection(name: str) -> Projection:
    """Raises NotFound."""
    if name not in BY_NAME:
        raise NotFound(f"projection {name}")
    return BY_NAME[name]


class Rebuild:
    """One driver of one generation. `dsn` leads past any pooler."""

    def __init__(
        self,
        dsn: str,
        projection: Projection,
        generation: int,
        *,
        confirm_on_accept: bool,
        processes: int | None = None,
        sealing: Sealing = NOTHING_SET,
    ) -> None:
        self._dsn = dsn
        self._projection = projection
        self._generation = generation
        self._processes = processes or min(os.cpu_count() or 1, PROCESSES_MAX)
        self._order = Order(
            dsn=dsn,
            projection=projection.name,
            generation=generation,
            confirm_on_accept=confirm_on_accept,
            sealing=sealing,
        )
        self._pages = PageReader(confirm_on_accept=confirm_on_accept)
        self._driver = str(uuid4())
        self._fence = 0
        self._is_paused = False
        self._lost = False

    async def drive(self, tell: Tell | None = None) -> None:
        """The generation is live. Raises WheelLost when another drives or it was cancelled."""
        async with opened_keyring(self._order.sealing) as keyring:
            connection = await connect(self._dsn, statement_seconds_max=STATEMENT_SECONDS_MAX, keyring=keyring)
            await connection.execute(SQL["commit_lazily"])
            await self._drive(connection, tell)

    async def _drive(self, connection: Connection, tell: Tell | None) -> None:
        watching: asyncio.Task[None] | None = None
        try:
            phase = await self._take_wheel(connection)
            watching = asyncio.create_task(self._watch(tell), name="rebuild-watch")
            watching.add_done_callback(self._lose)
            steps = {"planning": self._plan, "filling": self._fill, "indexing": self._index, "catching_up": self._swap}
            for name in list(steps)[list(steps).index(phase) :]:
                await steps[name](connection)
        except (CheckpointMoved, asyncpg.PostgresError) as error:
            if await self._is_elsewhere():
                raise WheelLost from error
            raise
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            if not connection.is_closed():
                await connection.execute(SQL["leave_wheel"], *self._key, self._driver)
            connection.terminate()

    @property
    def _key(self) -> tuple[str, int]:
        return self._projection.name, self._generation

    async def _take_wheel(self, connection: Connection) -> str:
        """The phase at which the generation stands; the wheel is ours for `WHEEL_SECONDS`."""
        row = await connection.fetchrow(SQL["take_wheel"], *self._key, self._driver, WHEEL_SECONDS)
        if row is None:
            raise WheelLost
        self._fence, self._is_paused = row["driver_fence"], row["paused"]
        phase: str = row["phase"]
        return phase

    async def _is_elsewhere(self) -> bool:
        """Whether another drives by now, or the rebuild was cancelled: what fails us then is that other's work."""
        connection = await connect(self._dsn)
        try:
            return bool(await connection.fetchval(SQL["read_fence"], *self._key) != self._fence)
        finally:
            connection.terminate()

    async def _watch(self, tell: Tell | None) -> None:
        """The wheel is renewed, and somebody told of the progress, until this is cancelled or the wheel is lost."""
        connection = await connect(self._dsn)
        try:
            while True:
                await self._take_wheel(connection)
                if tell is not None:
                    for progress in await read_progress(connection, self._projection.name):
                        await tell(progress)
                await asyncio.sleep(RENEWED_EVERY_SECONDS)
        finally:
            connection.terminate()

    def _lose(self, _watching: "asyncio.Task[None]") -> None:
        """Nobody renews the wheel any more: another may take it."""
        self._lost = True

    async def _enter(self, connection: Connection, before: str, phase: str) -> None:
        if await connection.fetchval(SQL["enter_phase"], *self._key, self._fence, before, phase) is None:
            raise WheelLost

    async def _plan(self, connection: Connection) -> None:
        stands = await self._heads(connection)
        async with connection.transaction():
            await connection.execute(SQL["create_tables"], *self._key)
            await connection.execute(SQL["plan_filling"], *self._key, RANGE_EVENTS, list(stands), list(stands.values()))
            await self._enter(connection, "planning", "filling")

    async def _heads(self, connection: Connection) -> dict[LedgerId, Position]:
        """Where the logs ended when this was called; no further than people see them where the projection follows."""
        rows = await connection.fetch(SQL["read_heads"], SHOWN_FIRST)
        heads = {row["ledger_id"]: row["position"] for row in rows}
        if self._projection.name != SHOWN_FIRST and not self._projection.follows:
            return heads
        deadline = time.monotonic() + SHOWN_SECONDS_MAX
        while time.monotonic() < deadline and any(row["shown"] < heads.get(row["ledger_id"], 0) for row in rows):
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            rows = await connection.fetch(SQL["read_heads"], SHOWN_FIRST)
        if self._projection.name == SHOWN_FIRST:
            return heads
        return {row["ledger_id"]: min(heads.get(row["ledger_id"], Position(0)), row["shown"]) for row in rows}

    async def _fill(self, connection: Connection) -> None:
        """Every range is filled, and what is one over all of them is made one."""
        failed = 0
        while await self._is_unfilled(connection):
            if self._lost:
                raise WheelLost
            if self._is_paused or failed > FILLERS_FAILED_MAX:
                failed = 0 if self._is_paused else failed
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                continue
            failed += await self._run_fillers(1 if await is_lively(connection) else self._processes)
            if failed > FILLERS_FAILED_MAX:
                told = "the filling processes keep failing; see the log, then cancel or resume"
                await connection.execute(SQL["note_error"], *self._key, told)
        filler = Filler(connection, self._order)
        async with connection.transaction():
            await point_at(connection, *self._key)
            for ledger, place in await self._places(connection):
                await filler.fill_numbered(ledger, up_to=place.position)
            if self._projection.finish is not None:
                await self._projection.finish(connection)
            await self._enter(connection, "filling", "indexing")

    async def _is_unfilled(self, connection: Connection) -> bool:
        (progress,) = await read_progress(connection, self._projection.name)
        return progress.events_done < progress.events_total

    async def _run_fillers(self, count: int) -> int:
        """So many processes have come to an end; returns how many of them failed."""
        running = [await self._start_filler() for _ in range(count)]
        codes = await asyncio.gather(*map(wait_aside, running))
        failed = [code for code in codes if code != 0]
        if failed:
            log.warning("rebuild_fillers_failed", projection=self._projection.name, codes=failed)
        return len(failed)

    async def _start_filler(self) -> asyncio.subprocess.Process:
        process = await start_aside("projections.filling", self._order)
        give_way(process.pid)
        return process

    async def _index(self, connection: Connection) -> None:
        """Indexes are built two at a time: they are of different cost, and each reads the table by itself.

        One at a time where much is being appended.
        """
        missing = [row["name"] for row in await connection.fetch(SQL["missing_indexes"], *self._key)]
        other = await connect(self._dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
        builders: list[Connection] = [connection, other]
        if await is_lively(connection):
            builders.pop()
        try:
            await asyncio.gather(*(self._add_indexes(one, missing) for one in builders))
        finally:
            other.terminate()
        await connection.execute(SQL["analyze_tables"], *self._key)
        await self._enter(connection, "indexing", "catching_up")

    async def _add_indexes(self, connection: Connection, missing: list[str]) -> None:
        while missing:
            begun = time.monotonic()
            await connection.execute(SQL["add_index"], *self._key, missing.pop(0))
            await rest(connection, since=begun)

    async def _swap(self, connection: Connection) -> None:
        """The new generation has everything the live one has, and is live in its place."""
        while True:
            if self._lost:
                raise WheelLost
            await connection.execute(SQL["add_ledgers"], *self._key)
            for ledger, place in await self._places(connection):
                await self._catch_up(connection, ledger, place)
            if self._is_paused:
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                continue
            try:
                milliseconds = await self._try_swap(connection)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                log.info("rebuild_swap_waits", projection=self._projection.name)
                await asyncio.sleep(SWAP_AGAIN_SECONDS)
                continue
            if milliseconds is not None:
                await connection.execute(SQL["note_swap"], *self._key, milliseconds)
                log.info("rebuild_live", projection=self._projection.name, swap_ms=round(milliseconds, 1))
                return

    async def _places(self, connection: Connection) -> list[tuple[Ledger, Place]]:
        """Where the new generation stands, ledger by ledger."""
        ledgers = {ledger.ledger_id: ledger for ledger in (await read_ledgers(connection)).values()}
        rows = await connection.fetch(SQL["read_places"], *self._key)
        return [(ledgers[row["ledger_id"]], self._place(row["position"])) for row in rows]

    def _place(self, position: Position) -> Place:
        return Place(projection=self._projection, generation=self._generation, position=position)

    async def _catch_up(self, connection: Connection, ledger: Ledger, place: Place) -> None:
        """The new generation has what the live one had when this was called.

        Rests are so short that it gains at least as much on the live one as that goes on.
        """
        position, goal = place.position, await self._live_position(connection, ledger)
        live = goal
        while position < goal and not self._lost:
            begun, before, live_before = time.monotonic(), position, live
            position = await self._apply_page(connection, ledger, position, goal)
            live = await self._live_position(connection, ledger)
            ahead = (position - before) / max(live - live_before, 1) / 2
            await rest(connection, since=begun, share=min(max(ahead - 1, 0), REST_SHARE))

    async def _live_position(self, connection: Connection, ledger: Ledger) -> Position:
        return Position(await connection.fetchval(SQL["read_live_position"], ledger.ledger_id, self._projection.name))

    async def _apply_page(self, connection: Connection, ledger: Ledger, position: Position, goal: Position) -> Position:
        """The next page, no further than `goal`, is in the new generation, as visible as it became in the live one."""
        count = min(CATCH_UP_EVENTS, goal - position)
        events = await read_log(connection, ledger.ledger_id, after=position, events_max=count)
        synced_at = await read_visibility(connection, ledger, after=position)
        applier = Applier(lambda: contextlib.nullcontext(connection), self._pages)
        await applier.apply([self._place(position)], ledger, Stretch(events=events), synced_at=synced_at)
        return events[-1].position

    async def _try_swap(self, connection: Connection) -> float | None:
        """For how many milliseconds people waited; None where the live generation was too far ahead to wait for."""
        async with connection.transaction():
            await connection.execute(SQL["wait_briefly"], f"{SWAP_LOCK_MS_MAX}ms")
            live = {row["ledger_id"]: row["position"] for row in await connection.fetch(SQL["lock_live"], self._key[0])}
            places = await self._places(connection)
            if live.keys() - {ledger.ledger_id for ledger, _ in places}:
                return None
            for ledger, place in places:
                goal = live.get(ledger.ledger_id, Position(0))
                if goal - place.position > SWAP_EVENTS_MAX:
                    return None
                if goal > place.position:
                    await self._apply_page(connection, ledger, place.position, goal)
            await connection.execute(SQL["retire_live"], self._projection.name)
            if await connection.fetchval(SQL["make_live"], *self._key, self._fence) is None:
                raise WheelLost
            await connection.execute(SQL["forget_others"], self._projection.name)
            begun = time.perf_counter()
            await connection.execute(SQL["show_generation"], *self._key)
        return (time.perf_counter() - begun) * 1000


async def drive_rebuild(
    dsn: str, name: str, generation: int, *, confirm_on_accept: bool, tell: Tell | None = None
) -> None:
    """The generation is live. Raises WheelLost when another drives or it was cancelled."""
    await Rebuild(dsn, find_projection(name), generation, confirm_on_accept=confirm_on_accept).drive(tell)
