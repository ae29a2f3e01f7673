"""Group commit: whatever is waiting goes into the log in one transaction, and everybody is answered after COMMIT.

One task a process, no lingering: while one batch commits, the next one gathers by itself. So one caller alone waits
for one commit, and a thousand at once share a few. The queue is bounded by events and bytes; when it is full callers
wait, and past `WAIT_SECONDS_MAX` get AppenderFull.

A batch whose outcome is unknown (the connection died) is sent again, which is safe: event ids already in the log are
answered with their place. A batch that Postgres refuses for its content is sent event by event, so that one caller's
event cannot fail another's.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec
import structlog

from ledger.errors import AppenderFull, BookingLedgerError, StoreUnavailable, VersionConflict
from ledger.postgres import is_database_trouble
from ledger.store import NewEvent, Placed, append
from ledger.vocabulary import LedgerId

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
QUEUE_EVENTS_MAX = 20_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
WAIT_SECONDS_MAX = 5.0
RETRY_SECONDS_MAX = 5.0
RETRY_PAUSE_SECONDS = 0.1
SHUTTING_DOWN = "this server is shutting down"

log = structlog.get_logger()


class _Request(msgspec.Struct, kw_only=True, eq=False):
    """Events that go in together, and who waits for them."""

    ledger_id: LedgerId
    events: Sequence[NewEvent]
    answer: asyncio.Future[list[Placed]]
    size_bytes: int


class Appender:
    """The one writer of this process; `running` starts and stops it."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        queue_events_max: int = QUEUE_EVENTS_MAX,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self._pool = pool
        self._queue: deque[_Request] = deque()
        self._queued_events = 0
        self._queued_bytes = 0
        self._queue_events_max = queue_events_max
        self._wait_seconds_max = wait_seconds_max
        self._wanted = asyncio.Event()
        self._room = asyncio.Condition()
        self._waiting_for_room = 0
        self._closing = False

    async def append(self, ledger_id: LedgerId, events: Sequence[NewEvent]) -> list[Placed]:
        """The events are committed, in order and in one transaction; one answer for each.

        Raises AppenderFull (nothing kept), StoreUnavailable (perhaps kept: send the same again). Cancelling the
        caller does not take back what is already on its way.
        """
        if self._closing:
            raise StoreUnavailable(SHUTTING_DOWN)
        size_bytes = sum(len(event.body) for event in events)
        if self._is_full():
            await self._wait_for_room()
        request = _Request(
            ledger_id=ledger_id,
            events=events,
            answer=asyncio.get_running_loop().create_future(),
            size_bytes=size_bytes,
        )
        self._queue.append(request)
        self._queued_events += len(events)
        self._queued_bytes += size_bytes
        self._wanted.set()
        return await request.answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Appender"]:
        """The writer runs for as long as the block lasts; what was queued is written before the block ends."""
        task = asyncio.create_task(self._run(), name="appender")
        try:
            yield self
        finally:
            self._closing = True
            self._wanted.set()
            async with self._room:
                self._room.notify_all()
            await task

    def _is_full(self) -> bool:
        return self._queued_events >= self._queue_events_max or self._queued_bytes >= QUEUE_BYTES_MAX

    async def _wait_for_room(self) -> None:
        self._waiting_for_room += 1
        try:
            async with asyncio.timeout(self._wait_seconds_max), self._room:
                await self._room.wait_for(lambda: self._closing or not self._is_full())
        except TimeoutError:
            raise AppenderFull(waited_seconds=self._wait_seconds_max) from None
        finally:
            self._waiting_for_room -= 1
        if self._closing:
            raise StoreUnavailable(SHUTTING_DOWN)

    async def _run(self) -> None:
        while not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                await self._write(self._take_batch())
                if self._waiting_for_room:
                    async with self._room:
                        self._room.notify_all()

    def _take_batch(self) -> list[_Request]:
        """The oldest requests of one ledger, within the bounds of a batch; at least one."""
        batch: list[_Request] = []
        events, size_bytes = 0, 0
        while self._queue and self._queue[0].ledger_id == (batch or self._queue)[0].ledger_id:
            request = self._queue[0]
            events += len(request.events)
            size_bytes += request.size_bytes
            if batch and (events > BATCH_EVENTS_MAX or size_bytes > BATCH_BYTES_MAX):
                break
            batch.append(self._queue.popleft())
            self._queued_events -= len(request.events)
            self._queued_bytes -= request.size_bytes
        return batch

    async def _write(self, batch: list[_Request]) -> None:
        """Every request of the batch is answered."""
        try:
            answers = await self._append([event for request in batch for event in request.events], batch[0].ledger_id)
        except Exception as error:  # whatever it is, everybody is answered and the writer goes on
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                self._fail(batch, error)
            else:
                log.info("append_split", requests=len(batch), error=type(error).__name__)
                for request in batch:
                    await self._write([request])
            return
        at = 0
        for request in batch:
            if not request.answer.done():
                request.answer.set_result(answers[at : at + len(request.events)])
            at += len(request.events)

    async def _append(self, events: list[NewEvent], ledger_id: LedgerId) -> list[Placed]:
        """Try until Postgres takes it or `RETRY_SECONDS_MAX` have passed."""
        deadline = asyncio.get_running_loop().time() + RETRY_SECONDS_MAX
        while True:
            try:
                async with asyncio.timeout_at(deadline), self._pool.acquire() as connection:
                    return await append(connection, ledger_id, events)
            except Exception as error:
                if not is_database_trouble(error):
                    raise
                if asyncio.get_running_loop().time() + RETRY_PAUSE_SECONDS >= deadline:
                    raise StoreUnavailable(type(error).__name__) from error
                log.warning("append_retry", error=type(error).__name__, events=len(events))
                await asyncio.sleep(RETRY_PAUSE_SECONDS)

    def _fail(self, batch: list[_Request], error: Exception) -> None:
        known = isinstance(error, BookingLedgerError)
        if not isinstance(error, VersionConflict):  # that is the caller's ordinary answer
            log.error("append_failed", requests=len(batch), error=type(error).__name__)
        for request in batch:
            if not request.answer.done():
                request.answer.set_exception(error if known else StoreUnavailable(type(error).__name__))
