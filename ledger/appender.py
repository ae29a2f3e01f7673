"""Group commit: whatever is waiting goes into the log in one transaction, and everybody is answered after COMMIT.

One task a process, no lingering: while one batch commits, the next one gathers by itself. So one caller alone waits
for one commit, and a thousand at once share a few. The queue is bounded by events and bytes; when it is full callers
wait, and past `WAIT_SECONDS_MAX` get AppenderFull.

A batch whose outcome is unknown (the connection died) is sent once more, which is safe: event ids already in the log
are answered with their place. A batch that Postgres refuses for its content is sent event by event, so that one
caller's event cannot fail another's.

Nobody waits for a Postgres that is away. When a batch cannot reach it twice, or has kept its first caller waiting for
`ANSWER_SECONDS_MAX`, all callers are turned away with StoreUnavailable, and whoever comes then is turned away at once.
Meanwhile the writer alone asks, every `PROBE_PAUSE_SECONDS`, by appending nothing; the first answer, that of a slow
batch included, lets callers in again.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec
import structlog

from ledger.errors import AppenderFull, BookingLedgerError, StoreUnavailable, VersionConflict
from ledger.postgres import borrowed, is_database_away, is_database_trouble
from ledger.store import NewEvent, Placed, append
from ledger.tally import SECONDS, Tally
from ledger.tombstones import without_erased
from ledger.vocabulary import LedgerId

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
QUEUE_EVENTS_MAX = 20_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
WAIT_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 2.0
ATTEMPTS_MAX = 2
SEND_SECONDS_MAX = 5.0
PROBE_PAUSE_SECONDS = 0.5
PROBE_SECONDS_MAX = 2.0
BATCH_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, BATCH_EVENTS_MAX)
"""Bounds by which batches are counted."""
SHUTTING_DOWN = "this server is shutting down"
AWAY = "it is away"
SLOW = "it is too slow"

log = structlog.get_logger()


class _Request(msgspec.Struct, kw_only=True, eq=False):
    """Events that go in together, and who waits for them, since when by the loop's clock."""

    ledger_id: LedgerId
    events: Sequence[NewEvent]
    answer: asyncio.Future[list[Placed]]
    size_bytes: int
    since: float


class Appender:
    """The one writer of this process; `running` starts and stops it."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        queue_events_max: int = QUEUE_EVENTS_MAX,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
    ) -> None:
        self.is_away = False
        """Postgres did not answer when it was last asked: whoever appends now is turned away."""
        self.batch_events = Tally(BATCH_EVENTS)
        self.append_seconds = Tally(SECONDS)
        """Of the batches that were committed: how many events, how long it took with all tries."""
        self._pool = pool
        self._queue: deque[_Request] = deque()
        self._writing: Sequence[_Request] = ()
        self._queued_events = 0
        self._queued_bytes = 0
        self._queue_events_max = queue_events_max
        self._wait_seconds_max = wait_seconds_max
        self._answer_seconds_max = answer_seconds_max
        self._wanted = asyncio.Event()
        self._room = asyncio.Condition()
        self._waiting_for_room = 0
        self._closing = False

    @property
    def queued_events(self) -> int:
        return self._queued_events

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    async def append(self, ledger_id: LedgerId, events: Sequence[NewEvent]) -> list[Placed]:
        """The events are committed, in order and in one transaction; one answer for each.

        Raises AppenderFull (nothing kept), StoreUnavailable (perhaps kept: send the same again), each within a few
        seconds. Cancelling the caller does not take back what is already on its way.
        """
        if self._closing or self.is_away:
            await asyncio.sleep(0)  # a caller who tries again at once must not keep the others from running
            raise StoreUnavailable(SHUTTING_DOWN if self._closing else AWAY)
        loop = asyncio.get_running_loop()
        since = loop.time()
        if self._is_full():
            await self._wait_for_room()
        return await self._put(ledger_id, events, loop, since)

    def offer(self, ledger_id: LedgerId, events: Sequence[NewEvent]) -> asyncio.Future[list[Placed]] | None:
        """What `append` would wait for, for who has no task to wait in; it may raise the same.

        None where that is not all: where there is no room yet, or nobody is let in.
        """
        if self._closing or self.is_away or self._is_full():
            return None
        loop = asyncio.get_running_loop()
        return self._put(ledger_id, events, loop, loop.time())

    def _put(
        self, ledger_id: LedgerId, events: Sequence[NewEvent], loop: asyncio.AbstractEventLoop, since: float
    ) -> asyncio.Future[list[Placed]]:
        """The events are in the queue."""
        size_bytes = 0
        for event in events:
            size_bytes += len(event.body)
        answer: asyncio.Future[list[Placed]] = loop.create_future()
        self._queue.append(
            _Request(ledger_id=ledger_id, events=events, answer=answer, size_bytes=size_bytes, since=since)
        )
        self._queued_events += len(events)
        self._queued_bytes += size_bytes
        self._wanted.set()
        return answer

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
        if self._closing or self.is_away:
            raise StoreUnavailable(SHUTTING_DOWN if self._closing else AWAY)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                self._writing = batch = self._take_batch()
                # One timer a batch, for the one who has waited longest.
                too_slow = loop.call_at(batch[0].since + self._answer_seconds_max, self._turn_away, SLOW)
                await self._write(batch)
                too_slow.cancel()
                if self._waiting_for_room:
                    async with self._room:
                        self._room.notify_all()
            if self.is_away:
                await self._await_postgres(self._writing[0].ledger_id)
            self._writing = ()

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

    async def _write(self, batch: Sequence[_Request]) -> None:
        """Every request of the batch is answered."""
        try:
            answers = await self._append([event for request in batch for event in request.events], batch[0].ledger_id)
        except Exception as error:  # whatever it is, everybody is answered and the writer goes on
            if is_database_away(error):
                self._turn_away(type(error).__name__)
            elif len(batch) == 1 or is_database_trouble(error):
                self._fail(batch, error)
            else:
                log.info("append_split", requests=len(batch), error=type(error).__name__)
                for request in batch:
                    if not request.answer.done():
                        await self._write([request])
            return
        at = 0
        for request in batch:
            if not request.answer.done():
                request.answer.set_result(answers[at : at + len(request.events)])
            at += len(request.events)

    async def _append(self, events: Sequence[NewEvent], ledger_id: LedgerId) -> list[Placed]:
        """Send it, and where the connection is lost on the way once more, on another."""
        begun = time.perf_counter()  # uvloop's own clock counts whole milliseconds
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SEND_SECONDS_MAX
        attempts_left = ATTEMPTS_MAX
        while True:
            attempts_left -= 1
            try:
                async with borrowed(self._pool, seconds_max=deadline - loop.time()) as connection:
                    placed = await append(connection, ledger_id, events, admit=without_erased)
            except Exception as error:
                if not attempts_left or isinstance(error, TimeoutError) or not is_database_trouble(error):
                    raise
                log.warning("append_retry", error=type(error).__name__, events=len(events))
            else:
                self.append_seconds.add(time.perf_counter() - begun)
                self.batch_events.add(len(events))
                self._let_in()
                return placed

    async def _await_postgres(self, ledger_id: LedgerId) -> None:
        """Postgres takes writes again, or this server ends."""
        while self.is_away:
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_PAUSE_SECONDS):
                    await self._wanted.wait()
            if self._closing:
                return
            try:
                async with borrowed(self._pool, seconds_max=PROBE_SECONDS_MAX) as connection:
                    await append(connection, ledger_id, [])  # takes the head's lock, as any append does
            except Exception as error:  # any that comes from a server in reach will do: it answers
                if is_database_away(error):
                    log.debug("postgres_still_away", error=type(error).__name__)
                    continue
            self._let_in()

    def _turn_away(self, cause: str) -> None:
        """Nobody waits any longer, neither those whose events are on their way nor those in the queue."""
        if not self.is_away:
            log.warning("postgres_away", cause=cause)
        self.is_away = True
        waiting = [request for request in (*self._writing, *self._queue) if not request.answer.done()]
        self._queue.clear()
        self._queued_events = self._queued_bytes = 0
        for request in waiting:
            request.answer.set_exception(StoreUnavailable(cause))

    def _let_in(self) -> None:
        if self.is_away:
            log.info("postgres_back")
        self.is_away = False

    def _fail(self, batch: Sequence[_Request], error: Exception) -> None:
        known = isinstance(error, BookingLedgerError)
        if not isinstance(error, VersionConflict):  # that is the caller's ordinary answer
            log.error("append_failed", requests=len(batch), error=type(error).__name__)
        for request in batch:
            if not request.answer.done():
                request.answer.set_exception(error if known else StoreUnavailable(type(error).__name__))
