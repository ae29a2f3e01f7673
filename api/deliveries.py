"""Deliveries that became no event, refusals and exact repeats, on their way to `ledger.deliveries`.

They are written once a second, in one statement, so that forged traffic costs the log nothing. What does not fit
the queue is counted, not kept: this is telemetry, the log itself is never dropped from.

A delivery that proves nothing is anybody's. So many of them are written one by one as help to find out what is wrong
with a webhook's secret; beyond `UNVERIFIED` they are counted. What was verified is never counted against that.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec
import structlog

from api.budget import Allowance, Budget
from ledger.store import SQL
from ledger.vocabulary import LedgerId

QUEUE_MAX = 5_000
FLUSH_SECONDS = 1.0
UNVERIFIED = Allowance(at_once=1_000, a_minute=60)
TELL_SECONDS = 60.0

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
        self._unverified = Budget(UNVERIFIED)
        self._told, self._told_at = 0, float("-inf")
        self.dropped = 0
        self.only_counted = 0

    def note(self, delivery: Delivery) -> None:
        if len(self._queue) < QUEUE_MAX:
            self._queue.append((uuid4(), delivery))
        else:
            self.dropped += 1

    def note_unverified(self, delivery: Delivery, *, now: float) -> bool:
        """Whether it will be written; beyond the budget it is only counted. `now`: of a clock that never goes back."""
        if self._unverified.take(now):
            self.note(delivery)
            return True
        self.only_counted += 1
        return False

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
            self.tell(time.monotonic())
            await self._flush_or_log()

    def tell(self, now: float) -> None:
        """Once a minute at most, how many were only counted since the last time."""
        if self.only_counted > self._told and now - self._told_at >= TELL_SECONDS:
            log.warning("deliveries_only_counted", unverified=self.only_counted - self._told)
            self._told, self._told_at = self.only_counted, now

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
