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
before the transaction cannot be out of date inside it.

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
from projections.projection import Projection

PAGE_EVENTS_MAX = 5_000
POLL_SECONDS_MAX = 1.0
BACK_OFF_SECONDS_MAX = 10.0

log = structlog.get_logger()


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
        self._catalogue = {projection.name: projection for projection in catalogue}
        self._poll_seconds_max = poll_seconds_max
        self._wanted = asyncio.Event()
        self._applier = Applier(pool.acquire, PageReader(confirm_on_accept=confirm_on_accept))
        self._ahead: dict[LedgerId, tuple[tuple[Position, bool], asyncio.Task[Stretch]]] = {}
        self._leases: Leases | None = None
        self._polled_at = time.monotonic()
        self.trouble: str | None = None

    @property
    def seconds_since_poll(self) -> float:
        """How long ago the runner last looked at every ledger: a sign of life that needs no event."""
        return time.monotonic() - self._polled_at

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
            tasks += [task for _, task in self._ahead.values()]
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
        async with self._pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        for ledger in ledgers.values():
            while applied := await self.step(ledger):
                pages += applied
        self._polled_at = time.monotonic()
        return pages

    async def step(self, ledger: Ledger) -> int:
        """One page for every projection of ours that is behind; those at the same position share the folding."""
        applied = 0
        for places in in_step(await self._read_places(ledger)):
            bodies = any(place.projection.reads_bodies for place in places)
            stretch = (await self._take(ledger, places[0].position, bodies=bodies)).until(places[0].up_to)
            if not stretch.events:
                continue
            try:
                await self._applier.apply(places, ledger, stretch)
            except CheckpointMoved:
                if self._leases is not None:
                    self._leases.doubt(ledger.ledger_id)
            else:
                applied += 1
        return applied

    async def _take(self, ledger: Ledger, after: Position, *, bodies: bool) -> Stretch:
        """What follows `after`. While it is being written, what comes next is read."""
        wanted = (after, bodies)
        expected, reading = self._ahead.pop(ledger.ledger_id, (None, None))
        if reading is not None and expected == wanted:
            stretch = await reading
        else:
            if reading is not None:
                reading.cancel()
            stretch = await self._read(ledger, *wanted)
        if len(stretch.events) == PAGE_EVENTS_MAX:
            following = (stretch.events[-1].position, bodies)
            self._ahead[ledger.ledger_id] = (
                following,
                asyncio.create_task(self._read(ledger, *following), name="read-ahead"),
            )
        return stretch

    async def _read(self, ledger: Ledger, after: Position, bodies: bool) -> Stretch:  # noqa: FBT001  # with its place
        async with self._pool.acquire() as connection:
            return await read_stretch(connection, ledger, after=after, events_max=PAGE_EVENTS_MAX, bodies=bodies)

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
            try:
                await self.catch_up()
                back_off_seconds, self.trouble = self._poll_seconds_max, None
            except Exception as error:
                self.trouble = type(error).__name__
                log.warning("runner_backs_off", error=self.trouble, seconds=back_off_seconds)
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
