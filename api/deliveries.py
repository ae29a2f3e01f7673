"""Deliveries that became no event, refusals and exact repeats, on their way to `ledger.deliveries`.

They are written once a second, in one statement, so that forged traffic costs the log nothing. What does not fit
the queue is counted, not kept: this is telemetry, the log itself is never dropped from.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec
import structlog

from ledger.store import SQL
from ledger.vocabulary import LedgerId

QUEUE_MAX = 5_000
FLUSH_SECONDS = 1.0

log = structlog.get_logger()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One request that became no event: `position` is the first's for a repeat, `reason` why another was refused."""

    ledger_id: LedgerId
    received_at: datetime
    duration_ms: float
    position: int | None = None
    reason: str | None = None


class DeliveryLog:
    """The queue and its writer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._queue: deque[tuple[UUID, Delivery]] = deque()
        self.dropped = 0

    def note(self, delivery: Delivery) -> None:
        if len(self._queue) < QUEUE_MAX:
            self._queue.append((uuid4(), delivery))
        else:
            self.dropped += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["DeliveryLog"]:
        """Written once a second for as long as the block lasts, and a last time at its end."""
        task = asyncio.create_task(self._run(), name="deliveries")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._flush_or_log()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush_or_log()

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except Exception as error:  # whatever it is, the next second is another chance
            log.warning("deliveries_not_written", error=type(error).__name__, waiting=len(self._queue))

    async def flush(self) -> None:
        """What has been noted is in the table; on an error it stays in the queue."""
        taken = list(self._queue)
        if not taken:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            for ledger_id in {delivery.ledger_id for _, delivery in taken}:
                rows = [(key, delivery) for key, delivery in taken if delivery.ledger_id == ledger_id]
                await connection.execute(
                    SQL["insert_deliveries"],
                    ledger_id,
                    [key for key, _ in rows],
                    [delivery.received_at for _, delivery in rows],
                    ["refused" if delivery.position is None else "duplicate" for _, delivery in rows],
                    [delivery.reason for _, delivery in rows],
                    [delivery.position for _, delivery in rows],
                    [delivery.duration_ms for _, delivery in rows],
                )
        for _ in taken:
            self._queue.popleft()
