"""The runner, and why nothing is skipped or applied twice.

Every projection of every ledger has a checkpoint: the position up to which its tables are complete. A step reads a
page of events past it, folds the bookings they touch, and then, in one transaction, moves the checkpoint from the
position it started at to the end of the page, and writes the rows.

Nothing is skipped: positions are contiguous and are committed in order (ledger/store.py), so what lies past the
checkpoint is all there is to do, whether or not a notification of it arrived. Notifications only save waiting; the
runner looks by itself every `POLL_SECONDS_MAX`.

Nothing is applied twice: the move is a compare-and-set on the checkpoint's row. Of two workers that read the same
page one finds the checkpoint where it left it and the other does not, and then the other's transaction, rows and
all, is rolled back. The same holds for a worker that slept for an hour in the middle of a step, and for a crash
between rows and checkpoint, since there is no between.

What a page folds to depends on events up to its end alone, read from the immutable log, so a page that is read
before the transaction cannot be out of date inside it.

An event that cannot be applied is tried alone, `ATTEMPTS_MAX` times, and then parked with its error; the others go
on. Trouble of the database's is not the event's fault: then the runner backs off and tries again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from pathlib import Path

import asyncpg
import msgspec
import structlog

from ledger.history import load_histories, read_event
from ledger.postgres import Connection, connect, is_database_trouble
from ledger.sql import load_statements
from ledger.store import NOTIFY_CHANNEL, Ledger, RecordedEvent, read_ledgers, read_log
from ledger.vocabulary import Position, StreamId
from projections.calendar_events import number_lookup
from projections.catalogue import CATALOGUE
from projections.projection import Page, Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

PAGE_EVENTS_MAX = 2_000
POLL_SECONDS_MAX = 1.0
BACK_OFF_SECONDS_MAX = 10.0
ATTEMPTS_MAX = 3
ERROR_CHARACTERS_MAX = 500

log = structlog.get_logger()


class CheckpointMoved(Exception):
    """Another worker was faster; nothing of ours was written."""


class Runner:
    """Brings every read model up to the head of every ledger, and keeps it there.

    `dsn` is for the one connection that listens; it must lead past any pooler.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        dsn: str,
        *,
        confirm_on_accept: bool = False,
        catalogue: Sequence[Projection] = CATALOGUE,
        poll_seconds_max: float = POLL_SECONDS_MAX,
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._confirm_on_accept = confirm_on_accept
        self._catalogue = {projection.name: projection for projection in catalogue}
        self._poll_seconds_max = poll_seconds_max
        self._wanted = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Runner"]:
        """The runner works for as long as the block lasts."""
        tasks = [asyncio.create_task(self._listen(), name="listen"), asyncio.create_task(self._run(), name="runner")]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def catch_up(self) -> int:
        """Every read model has what was in the log when this was called. Returns the number of pages applied."""
        pages = 0
        async with self._pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        for ledger in ledgers.values():
            while applied := await self.step(ledger):
                pages += applied
        return pages

    async def step(self, ledger: Ledger) -> int:
        """One page for every projection that is behind; those at the same position share the folding."""
        places = await self._read_checkpoints(ledger)
        applied = 0
        for position, group in groupby(places, key=lambda place: place[0]):
            page = await self._read_page(ledger, position)
            if page is not None:
                applied += await self._apply([projection for _, projection in group], page)
        return applied

    async def _read_checkpoints(self, ledger: Ledger) -> list[tuple[Position, Projection]]:
        """Where each projection stands in this ledger, the furthest behind first; a new one stands at 0."""
        names = list(self._catalogue)
        generations = [projection.generation for projection in self._catalogue.values()]
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(SQL["read_checkpoints"], ledger.ledger_id, names, generations)
            if len(rows) < len(names):
                await connection.execute(SQL["create_checkpoints"], ledger.ledger_id, names, generations)
                rows = await connection.fetch(SQL["read_checkpoints"], ledger.ledger_id, names, generations)
        return [(Position(row["position"]), self._catalogue[row["projection"]]) for row in rows]

    async def _read_page(self, ledger: Ledger, after: Position) -> Page | None:
        """The next events and the bookings they touch; None at the head."""
        async with self._pool.acquire() as connection:
            events = await read_log(connection, ledger.ledger_id, after=after, events_max=PAGE_EVENTS_MAX)
            return await self._page(connection, ledger, events) if events else None

    async def _page(self, connection: Connection, ledger: Ledger, events: Sequence[RecordedEvent]) -> Page:
        touched = {stream for event in events for stream in _touched(event)}
        histories = await load_histories(
            connection,
            ledger.ledger_id,
            touched,
            up_to=events[-1].position,
            look_up_numbers=number_lookup(connection, ledger),
        )
        return Page(
            ledger=ledger,
            events=tuple(events),
            histories=histories,
            synced_at=events[-1].recorded_at,
            confirm_on_accept=self._confirm_on_accept,
        )

    async def _apply(self, projections: Sequence[Projection], page: Page) -> int:
        """The page is in the projections' tables, or another worker had it there first, or its poison is parked."""
        try:
            await self._apply_once(projections, page)
        except CheckpointMoved:
            return 0
        except Exception as error:
            if is_database_trouble(error):
                raise
            names = [projection.name for projection in projections]
            log.warning("page_failed", projections=names, end=page.end, error=type(error).__name__)
            for projection in projections:
                await self._apply_singly(projection, page)
        return 1

    async def _apply_once(self, projections: Sequence[Projection], page: Page) -> None:
        """One transaction for all of them: one commit, and none of them can be ahead of its rows."""
        async with self._pool.acquire() as connection, connection.transaction():
            moved = await connection.fetch(
                SQL["move_checkpoints"],
                page.ledger.ledger_id,
                [projection.name for projection in projections],
                [projection.generation for projection in projections],
                page.events[0].position - 1,
                page.end,
            )
            if len(moved) < len(projections):
                raise CheckpointMoved
            stamped = msgspec.structs.replace(page, synced_at=moved[0]["moved_at"])
            for projection in projections:
                await projection.apply(connection, stamped)

    async def _apply_singly(self, projection: Projection, page: Page) -> None:
        """Event by event, so that just the one that fails is parked."""
        for event in page.events:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                try:
                    async with self._pool.acquire() as connection:
                        single = await self._page(connection, page.ledger, [event])
                    await self._apply_once([projection], single)
                    break
                except CheckpointMoved:
                    return
                except Exception as error:
                    if is_database_trouble(error):
                        raise
                    if attempt == ATTEMPTS_MAX:
                        await self._park(projection, page.ledger, event, error)
                    else:
                        await self._note_failure(projection, page.ledger, error)

    async def _note_failure(self, projection: Projection, ledger: Ledger, error: Exception) -> None:
        """People see that the projection stands still, and why."""
        async with self._pool.acquire() as connection:
            await connection.execute(
                SQL["note_failure"], ledger.ledger_id, projection.name, projection.generation, _told(error)
            )

    async def _park(self, projection: Projection, ledger: Ledger, event: RecordedEvent, error: Exception) -> None:
        """The event is set aside with its error, and the checkpoint goes past it, in one transaction."""
        log.error("event_parked", projection=projection.name, position=event.position, error=type(error).__name__)
        place = (ledger.ledger_id, projection.name, projection.generation)
        async with self._pool.acquire() as connection, connection.transaction():
            moved = await connection.fetch(
                SQL["move_checkpoints"],
                ledger.ledger_id,
                [projection.name],
                [projection.generation],
                event.position - 1,
                event.position,
            )
            if moved:
                await connection.execute(
                    SQL["park_event"], *place, event.position, event.stream_id, _told(error), ATTEMPTS_MAX
                )

    async def _run(self) -> None:
        """Work whenever there is a notification, and every `poll_seconds_max` without one."""
        back_off_seconds = self._poll_seconds_max
        while True:
            self._wanted.clear()
            try:
                await self.catch_up()
                back_off_seconds = self._poll_seconds_max
            except Exception as error:
                log.warning("runner_backs_off", error=type(error).__name__, seconds=back_off_seconds)
                await asyncio.sleep(back_off_seconds)
                back_off_seconds = min(back_off_seconds * 2, BACK_OFF_SECONDS_MAX)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds_max):
                    await self._wanted.wait()

    async def _listen(self) -> None:
        """Keep one connection that hears of new events; without it the runner polls."""
        while True:
            try:
                await self._hear()
            except Exception as error:
                log.warning("listen_lost", error=type(error).__name__)
            await asyncio.sleep(self._poll_seconds_max)

    async def _hear(self) -> None:
        """Wake the runner at every notification, until the connection is lost."""
        connection = await connect(self._dsn)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(NOTIFY_CHANNEL, lambda *_notification: self._wanted.set())
            self._wanted.set()
            await lost.wait()
        finally:
            connection.terminate()


def _told(error: Exception) -> str:
    """The error as a short text that the database takes."""
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX].replace("\x00", "")


def _touched(event: RecordedEvent) -> set[StreamId]:
    """The streams whose bookings this event may change."""
    reading = read_event(event)
    return {stream_id for stream_id, _ in reading.facts} | {*reading.chain}
