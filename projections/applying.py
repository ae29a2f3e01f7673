"""Events on their way into tables: a page in one transaction with its checkpoints, and what cannot go in is parked.

Where a page fails, and it is not the database's trouble, it is halved until the event is alone that fails; that one is
tried `ATTEMPTS_MAX` times and set aside with its error. The others are in the tables after a few transactions more.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from ledger.postgres import Connection, is_database_trouble
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position
from projections.generations import (
    SHOWN_FIRST,
    CheckpointMoved,
    Place,
    SyncedAt,
    move_checkpoints,
    note_failure,
    note_visible,
    read_visibility,
)
from projections.pages import PageReader, Stretch
from projections.parked import error_told, park_event
from projections.projection import Page

ATTEMPTS_MAX = 3

Acquire = Callable[[], contextlib.AbstractAsyncContextManager[Connection]]

log = structlog.get_logger()


class Applier:
    """Writes pages to generations. `acquire` gives a connection for as long as one piece of work needs it."""

    def __init__(self, acquire: Acquire, pages: PageReader) -> None:
        self._acquire = acquire
        self._pages = pages

    async def apply(
        self,
        places: Sequence[Place],
        ledger: Ledger,
        stretch: Stretch,
        *,
        page: Page | None = None,
        synced_at: SyncedAt | None = None,
    ) -> None:
        """The events are in the tables of these places, which stand right before them, or parked.

        `page`: that of the stretch, where it has been prepared. `synced_at` tells when they became visible; None: they
        do now, and that is noted. Raises CheckpointMoved, and what the database raises when it is in trouble.
        """
        try:
            if page is None:
                page = await self._page(ledger, stretch)
            await self._write(places, ledger, page, synced_at)
        except CheckpointMoved:
            raise
        except Exception as error:
            if is_database_trouble(error):
                raise
            names = [place.projection.name for place in places]
            log.warning("page_failed", projections=names, end=stretch.events[-1].position, error=type(error).__name__)
            for place in sorted(places, key=_shown_first):
                await self._isolate(place, ledger, stretch, synced_at)

    async def prepare(self, ledger: Ledger, stretch: Stretch, *, written: asyncio.Event) -> Page | None:
        """The page of these events, for `apply`, as `PageReader.prepare` makes it."""
        async with self._acquire() as connection:
            return await self._pages.prepare(connection, ledger, stretch, written=written)

    async def _page(self, ledger: Ledger, stretch: Stretch) -> Page:
        async with self._acquire() as connection:
            return await self._pages.page(connection, ledger, stretch)

    async def _write(self, places: Sequence[Place], ledger: Ledger, page: Page, synced_at: SyncedAt | None) -> None:
        """One transaction for all of them: one commit, and none of them can be ahead of its rows."""
        async with self._acquire() as connection, connection.transaction():
            moved_at = await move_checkpoints(connection, ledger, places, to=page.end)
            since = synced_at or await _seen(connection, ledger, places, page, moved_at)
            stamped = msgspec.structs.replace(page, synced_at=since)
            for place in places:
                await place.projection.apply(connection, stamped)

    async def _isolate(self, place: Place, ledger: Ledger, stretch: Stretch, synced_at: SyncedAt | None) -> None:
        """Of these events, which failed together, all are applied but those that fail alone too: they are parked."""
        count = len(stretch.events)
        if count == 1:
            await self._try_again(place, ledger, stretch, synced_at)
            return
        for half in (stretch.part(0, count // 2), stretch.part(count // 2, count)):
            here = msgspec.structs.replace(place, position=Position(half.events[0].position - 1))
            try:
                await self._write([here], ledger, await self._page(ledger, half), synced_at)
            except CheckpointMoved:
                raise
            except Exception as error:
                if is_database_trouble(error):
                    raise
                await self._isolate(here, ledger, half, synced_at)

    async def _try_again(self, place: Place, ledger: Ledger, stretch: Stretch, synced_at: SyncedAt | None) -> None:
        """The one event, which has failed alone once, is applied or parked."""
        (event,) = stretch.events
        for attempt in range(2, ATTEMPTS_MAX + 1):
            try:
                await self._write([place], ledger, await self._page(ledger, stretch), synced_at)
            except CheckpointMoved:
                raise
            except Exception as error:
                if is_database_trouble(error):
                    raise
                if attempt == ATTEMPTS_MAX:
                    await self._park(place, ledger, event, error, is_news=synced_at is None)
                    return
                async with self._acquire() as connection:
                    await note_failure(connection, ledger, place, error_told(error))
            else:
                return

    async def _park(
        self, place: Place, ledger: Ledger, event: RecordedEvent, error: Exception, *, is_news: bool
    ) -> None:
        """The event is set aside with its error, and the checkpoint goes past it, in one transaction."""
        log.error("event_parked", projection=place.projection.name, position=event.position, error=type(error).__name__)
        async with self._acquire() as connection, connection.transaction():
            moved_at = await move_checkpoints(connection, ledger, [place], to=event.position)
            if is_news and place.projection.name == SHOWN_FIRST:
                await note_visible(connection, ledger, event.position, moved_at)
            await park_event(connection, ledger, place, event, told=error_told(error), tried=ATTEMPTS_MAX)


def _at(moment: datetime) -> SyncedAt:
    return lambda _position, _recorded_at: moment


async def _seen(
    connection: Connection, ledger: Ledger, places: Sequence[Place], page: Page, moved_at: datetime
) -> SyncedAt:
    """Since when people see what is in the page: from now on, which is noted; where they saw it before, since then."""
    if any(place.projection.name == SHOWN_FIRST for place in places):
        await note_visible(connection, ledger, page.end, moved_at)
    elif any(place.projection.follows for place in places):
        return await read_visibility(connection, ledger, after=Position(page.events[0].position - 1), until=page.end)
    return _at(moved_at)


def _shown_first(place: Place) -> bool:
    """A key of order: the others may ask the tables of the one by which people see a booking."""
    return place.projection.name != SHOWN_FIRST
