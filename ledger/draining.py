"""From the spool into the log, as soon as Postgres takes it: by one process at a time, in order of arrival.

A batch is appended, then dropped. Killed in between, the next one who drains appends it again, and the log answers
with the places that it has. Deliveries that arrive meanwhile go past the spool: order in the log means nothing, since
bookings are folded by the time of what happened.

A delivery that Postgres refuses for its content is set aside with its error, so that the others go on; it is tried
again whenever a program starts, which may be a newer one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
import structlog

from ledger.filing import file_delivery
from ledger.postgres import borrowed, is_database_trouble
from ledger.spool import Spool
from ledger.spool_folder import locked
from ledger.spooled import SpoolLevel, Waiting, ledger_mark
from ledger.store import Ledger, append, read_ledgers
from ledger.tombstones import without_erased

PAUSE_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 5.0
PATIENCE_SECONDS_MAX: Final = 40.0
ATTEMPTS_MAX: Final = 2
PROGRESS_DELIVERIES: Final = 5_000

log = structlog.get_logger()


class Drain:
    """Keeps the spool empty while Postgres is there."""

    def __init__(self, pool: asyncpg.Pool, spool: Spool) -> None:
        self._pool = pool
        self._spool = spool
        self._took_up_again = False
        self._patience_seconds = PATIENCE_SECONDS
        self._trouble: str | None = None
        self._level: SpoolLevel = "empty"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Drain"]:
        """What waits in the spool is drained for as long as the block lasts."""
        task = asyncio.create_task(self._run(), name="drain")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def drain(self) -> int:
        """How many deliveries went from the spool into the logs of this database; none that waited is left.

        Unless another process is draining just now. Raises what keeps Postgres from taking them.
        """
        state = await self._spool.state()
        self._tell_level(state.level)
        if not state.waiting and (self._took_up_again or not state.set_aside):
            return 0
        async with borrowed(self._pool, seconds_max=PATIENCE_SECONDS) as connection:
            ledgers = await read_ledgers(connection)
        drained = 0
        for ledger in ledgers.values():
            if not self._took_up_again:
                await self._spool.take_up_again(ledger_mark(ledger))
            drained += await self._drain_ledger(ledger)
        self._took_up_again = True
        if drained:
            await self._spool.shrink()
        return drained

    async def _drain_ledger(self, ledger: Ledger) -> int:
        mark = ledger_mark(ledger)
        with locked(self._spool.folder / f"drain-{mark.hex()}.lock", wait=False) as is_alone:
            drained, told = 0, 0
            while is_alone and (batch := await self._spool.read(mark)):
                drained += await self._move(ledger, batch)
                if drained - told >= PROGRESS_DELIVERIES:
                    told = drained
                    log.info("spool_draining", ledger=ledger.name, drained=drained)
        if drained:
            log.info("spool_drained", ledger=ledger.name, drained=drained)
        return drained

    async def _move(self, ledger: Ledger, batch: Sequence[Waiting]) -> int:
        """None of the batch waits any longer; how many of it the log has. Raises what is no fault of theirs."""
        try:
            await self._append(ledger, batch)
        except Exception as error:
            if is_database_trouble(error):
                raise
            return sum([await self._move_alone(ledger, one) for one in batch])
        await self._spool.drop(ledger_mark(ledger), [one.spool_id for one in batch])
        return len(batch)

    async def _move_alone(self, ledger: Ledger, one: Waiting) -> int:
        reason = ""
        for _ in range(ATTEMPTS_MAX):
            try:
                await self._append(ledger, [one])
            except Exception as error:
                if is_database_trouble(error):
                    raise
                reason = type(error).__name__
            else:
                await self._spool.drop(ledger_mark(ledger), [one.spool_id])
                return 1
        log.error("spooled_delivery_set_aside", ledger=ledger.name, spool_id=one.spool_id, error=reason)
        await self._spool.set_aside(ledger_mark(ledger), one.spool_id, reason)
        return 0

    async def _append(self, ledger: Ledger, batch: Sequence[Waiting]) -> None:
        filings = [
            file_delivery(ledger, one.delivery.body, one.delivery.receipt, fresh_id=one.delivery.event_id)
            for one in batch
        ]
        async with borrowed(self._pool, seconds_max=self._patience_seconds) as connection:
            events = [event for filing in filings for event in filing.events]
            await append(connection, ledger.ledger_id, events, admit=without_erased)

    async def _run(self) -> None:
        """Look every `PAUSE_SECONDS`: other processes fill the spool too, and Postgres comes back unannounced."""
        while True:
            try:
                await self.drain()
                self._trouble, self._patience_seconds = None, PATIENCE_SECONDS
            except Exception as error:
                if isinstance(error, TimeoutError):  # a lost connection, or a slow server, which wants more of it
                    self._patience_seconds = min(self._patience_seconds * 2, PATIENCE_SECONDS_MAX)
                if self._trouble != type(error).__name__:
                    self._trouble = type(error).__name__
                    log.warning("spool_waits", error=self._trouble)
            await asyncio.sleep(PAUSE_SECONDS)

    def _tell_level(self, level: SpoolLevel) -> None:
        if level != self._level and level in ("nearly full", "full"):
            log.error("spool_level", level=level)
        self._level = level
