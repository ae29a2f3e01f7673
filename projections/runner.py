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
between rows and checkpoint, since there is no between. A lease (projections/leases.py) spares workers the race; a
worker whose lease went to another is refused by its fence.

A page is written to the generation that is live. When a rebuild puts another in its place, the old one's checkpoint
goes in the same transaction, so a page on its way to the old one finds none to move, and is read again for the new.

What a page folds to depends on events up to its end alone, read from the immutable log, so a page that is read
before the transaction cannot be out of date inside it. So the next page is read and folded while one is being written;
where it has to ask the tables, which it does for a number alone, it waits until that one is in them.

An event that cannot be applied is parked with its error (projections/applying.py); the others go on. Trouble of the
database's is not the event's fault: then the runner backs off and tries again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec
import structlog

from ledger.postgres import connect
from ledger.store import NOTIFY_CHANNEL, Ledger, read_ledgers
from ledger.vocabulary import LedgerId, Position
from projections.applying import Applier
from projections.catalogue import CATALOGUE
from projections.generations import CheckpointMoved, Place, in_step, read_live_places
from projections.leases import Leases
from projections.pages import PageReader, Stretch, read_stretch
from projections.projection import Page, Projection
from projections.pulse import Pulse

PAGE_EVENTS_MAX = 5_000
PAGE_OUTLINES_MAX = 20_000
"""Without bodies so many events take less memory than the others with them. In a long stretch more of them are of the
same booking, whose row is written once."""
GATHER_SECONDS = 0.01
"""What comes in so soon after a page was begun makes up the next: many small ones take time from whoever receives."""
POLL_SECONDS_MAX = 1.0
BACK_OFF_SECONDS_MAX = 10.0

log = structlog.get_logger()


class _Coming(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be applied next; the page is None where it has to be told anew."""

    stretch: Stretch
    page: Page | None


class _Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """What follows `after`, while the page that ends there is being written. `bodies`: with all of them."""

    after: Position
    bodies: bool
    coming: asyncio.Task[_Coming]


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
        pulse: Pulse | None = None,
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._catalogue = {projection.name: projection for projection in catalogue}
        self._poll_seconds_max = poll_seconds_max
        self._wanted = asyncio.Event()
        self._applier = Applier(pool.acquire, PageReader(confirm_on_accept=confirm_on_accept))
        self._ahead: dict[LedgerId, _Ahead] = {}
        self._leases: Leases | None = None
        self._pulse = pulse or Pulse()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Runner"]:
        """The runner works, under leases, for as long as the block lasts; then another may take over at once."""
        self._leases = Leases(self._pool)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._listen(), name="listen"),
            asyncio.create_task(self._run(), name="runner"),
        ]
        try:
            yield self
        finally:
            tasks += [ahead.coming for ahead in self._ahead.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._release(self._leases)
            self._leases = None

    async def catch_up(self) -> int:
        """Every read model that is not another worker's has what was in the log when this was called.

        Returns the number of pages applied. Outside of `running` no lease is asked for: the checkpoints suffice.
        """
        pages = 0
        while applied := await self._look():
            pages += applied
        return pages

    async def _look(self) -> int:
        """Every ledger had its turn, which ends with a page that is not full; how many pages were applied."""
        pages = 0
        async with self._pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        for ledger in ledgers.values():
            while applied := await self.step(ledger):
                pages += applied
                if ledger.ledger_id not in self._ahead:
                    break
        self._pulse.looked()
        return pages

    async def step(self, ledger: Ledger) -> int:
        """One page for every projection of ours that is behind; those at the same position share the folding."""
        groups = in_step(await self._read_places(ledger))
        return sum([await self._step(places, ledger, is_alone=len(groups) == 1) for places in groups])

    async def _step(self, places: Sequence[Place], ledger: Ledger, *, is_alone: bool) -> bool:
        """Whether a page was applied for these, which go on together. While it is being written, the next is prepared.

        Unless there are others: what was prepared for these would be out of place for those.
        """
        bodies = any(place.projection.reads_bodies for place in places)
        coming = await self._take(ledger, places[0].position, bodies=bodies)
        stretch = coming.stretch.until(places[0].up_to)
        if not stretch.events:
            return False
        written = asyncio.Event()
        if is_alone and len(stretch.events) == _events_max(bodies=bodies):
            self._look_ahead(ledger, stretch.events[-1].position, bodies=bodies, written=written)
        try:
            page = coming.page if stretch is coming.stretch else None
            await self._applier.apply(places, ledger, stretch, page=page)
            written.set()
        except CheckpointMoved:
            if self._leases is not None:
                self._leases.doubt(ledger.ledger_id)
        finally:
            if not written.is_set():
                self._drop_ahead(ledger)
        return written.is_set()

    async def _take(self, ledger: Ledger, after: Position, *, bodies: bool) -> _Coming:
        """What follows `after`: as it has been prepared, or prepared now."""
        ahead = self._ahead.get(ledger.ledger_id)
        if ahead is not None and (ahead.after, ahead.bodies) == (after, bodies):
            del self._ahead[ledger.ledger_id]
            return await ahead.coming
        self._drop_ahead(ledger)
        written = asyncio.Event()
        written.set()
        return await self._prepare(ledger, after, bodies=bodies, written=written)

    def _look_ahead(self, ledger: Ledger, after: Position, *, bodies: bool, written: asyncio.Event) -> None:
        """What follows `after` is being prepared; `written` will be set once what ends there is in the tables."""
        preparing = self._prepare(ledger, after, bodies=bodies, written=written)
        self._ahead[ledger.ledger_id] = _Ahead(
            after=after, bodies=bodies, coming=asyncio.create_task(preparing, name="look-ahead")
        )

    def _drop_ahead(self, ledger: Ledger) -> None:
        ahead = self._ahead.pop(ledger.ledger_id, None)
        if ahead is not None:
            ahead.coming.cancel()

    async def _prepare(self, ledger: Ledger, after: Position, *, bodies: bool, written: asyncio.Event) -> _Coming:
        async with self._pool.acquire() as connection:
            events_max = _events_max(bodies=bodies)
            stretch = await read_stretch(connection, ledger, after=after, events_max=events_max, bodies=bodies)
        return _Coming(stretch=stretch, page=await self._applier.prepare(ledger, stretch, written=written))

    async def _read_places(self, ledger: Ledger) -> list[Place]:
        """Where the projections that are ours stand, the furthest behind first."""
        fences: Mapping[str, int] | None = None
        if self._leases is not None:
            fences = await self._leases.fences(ledger.ledger_id, list(self._catalogue))
            if not fences:
                return []
        async with self._pool.acquire() as connection:
            live = await read_live_places(connection, ledger.ledger_id, self._catalogue)
        if fences is None:
            return live
        return [
            msgspec.structs.replace(place, fence=fences[place.projection.name])
            for place in live
            if place.projection.name in fences
        ]

    async def _run(self) -> None:
        """Work whenever there is a notification, and every `poll_seconds_max` without one."""
        back_off_seconds = self._poll_seconds_max
        while True:
            self._wanted.clear()
            begun = time.monotonic()
            try:
                pages = await self._look()
                back_off_seconds = self._poll_seconds_max
            except Exception as error:
                self._pulse.failed()
                log.warning("runner_backs_off", error=type(error).__name__, seconds=back_off_seconds)
                await asyncio.sleep(back_off_seconds)
                back_off_seconds = min(back_off_seconds * 2, BACK_OFF_SECONDS_MAX)
                continue
            if pages:
                await asyncio.sleep(max(begun + GATHER_SECONDS - time.monotonic(), 0))
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
            if self._leases is not None:
                self._leases.forget_session()
            await asyncio.sleep(self._poll_seconds_max)

    async def _hear(self) -> None:
        """Wake the runner at every notification, until the connection is lost."""
        connection = await connect(self._dsn)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            if self._leases is not None:
                await self._leases.name_session(connection)
            await connection.add_listener(NOTIFY_CHANNEL, lambda *_notification: self._wanted.set())
            self._wanted.set()
            await lost.wait()
        finally:
            connection.terminate()

    async def _release(self, leases: Leases) -> None:
        """Others may take over; where that cannot be said now, they wait until our leases run out."""
        try:
            async with asyncio.timeout(self._poll_seconds_max):
                await leases.release()
        except Exception as error:
            log.info("leases_run_out", error=type(error).__name__)


def _events_max(*, bodies: bool) -> int:
    return PAGE_EVENTS_MAX if bodies else PAGE_OUTLINES_MAX
