"""What a worker does for generations besides keeping the live ones current."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import structlog

from ledger.errors import RebuildUnderWay
from ledger.keyring import NOTHING_SET, Sealing
from ledger.postgres import Connection, connect
from projections.catalogue import BY_NAME
from projections.driving import drive_aside
from projections.filling import Order
from projections.generations import read_versions
from projections.rebuild import SQL, begin_rebuild

UPKEEP_EVERY_SECONDS = 2.0
GROWN_UP_ROWS = 1_000
"""A table with so many gets its statistics at once. Of one without, PostgreSQL thinks that every index leads to a few
rows, and it may read all of them for each page; by itself it looks once a minute."""

log = structlog.get_logger()


class Upkeep:
    """Sees to it that rebuilds which nobody drives are driven, and begins and ends the lives of generations.

    A projection whose code is newer than its tables gets a new one; the tables of those that are of no use are dropped.
    Young tables are analyzed as they grow.
    """

    def __init__(self, dsn: str, *, confirm_on_accept: bool, sealing: Sealing = NOTHING_SET) -> None:
        self._dsn = dsn
        self._sealing = sealing
        self._confirm_on_accept = confirm_on_accept

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Upkeep"]:
        """Generations are looked after for as long as the block lasts."""
        task = asyncio.create_task(self._run(), name="upkeep")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:
                log.warning("upkeep_failed", error=type(error).__name__)
            await asyncio.sleep(UPKEEP_EVERY_SECONDS)

    async def look(self) -> None:
        """Everything that was to be done for generations is done."""
        connection = await connect(self._dsn)
        try:
            await self._begin_outdated(connection)
            for row in await connection.fetch(SQL["find_unanalyzed"], GROWN_UP_ROWS):
                await connection.execute(SQL["analyze_tables"], row["projection"], row["generation"])
            undriven = await connection.fetch(SQL["find_undriven"])
            await drop_useless(connection)
        finally:
            connection.terminate()
        for row in undriven:
            if row["projection"] in BY_NAME:
                order = Order(
                    dsn=self._dsn,
                    projection=row["projection"],
                    generation=row["generation"],
                    confirm_on_accept=self._confirm_on_accept,
                    sealing=self._sealing,
                )
                await drive_aside(order)

    async def _begin_outdated(self, connection: Connection) -> None:
        versions = await read_versions(connection)
        for name, projection in BY_NAME.items():
            if versions.get(name, projection.version) < projection.version:
                with contextlib.suppress(RebuildUnderWay):
                    await begin_rebuild(connection, name)
                    log.info("rebuild_begun", projection=name, version=projection.version)


async def drop_useless(connection: Connection) -> bool:
    """Tables of generations that are of no use are gone; whether all are: those that somebody still reads stay."""
    dropped_all = True
    for row in await connection.fetch(SQL["find_undropped"]):
        key = (row["projection"], row["generation"])
        try:
            async with connection.transaction():
                await connection.execute(SQL["drop_tables"], *key)
                await connection.execute(SQL["forget_others"], row["projection"])
                await connection.execute(SQL["note_dropped"], *key)
        except (asyncpg.LockNotAvailableError, asyncpg.DependentObjectsStillExistError):
            dropped_all = False
            log.info("generation_still_read", projection=row["projection"], generation=row["generation"])
    return dropped_all
