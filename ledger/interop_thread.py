"""The async store for callers without an event loop: one thread runs a loop and a pool, others wait for its answers.

This is the one place where our store has a synchronous face, because the `eventsourcing` library is synchronous. A
call blocks its thread, so it has no business in a thread whose own event loop is running.

Saves of all threads go through one writer, which commits whatever has gathered while it committed the last batch, as
`ledger/appender.py` does. It differs from that one in that a conflict is an ordinary answer here, that a save may bring
its own writes to be done in its transaction (`Track`), and in who hears of errors.

What a lost connection leaves unknown is tried again where that is safe: reads, and saves, since their event ids are
given once.
"""

import asyncio
import atexit
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    PersistenceError,
    ProgrammingError,
)

from ledger.appender import BATCH_BYTES_MAX, BATCH_EVENTS_MAX
from ledger.errors import BadSetting, BookingLedgerError, ServerUnreachable, VersionConflict
from ledger.keyring import NOTHING_SET, Sealing
from ledger.migrate import refuse_unknown_schema
from ledger.postgres import Connection, connect, open_pool
from ledger.sealing import opened_keyring
from ledger.store import NOTIFY_CHANNEL, NewEvent, Placed, append, read_ledgers
from ledger.vocabulary import LedgerId

CONNECTIONS_MAX: Final = 10
RETRY_SECONDS_MAX: Final = 5.0
RETRY_PAUSE_SECONDS: Final = 0.1
POLL_SECONDS_MAX: Final = 1.0
"""How long a listener sleeps at most, should a notification be lost."""
CLOSE_SECONDS_MAX: Final = 10.0

Answer = TypeVar("Answer")
Work = Callable[[Connection, LedgerId], Awaitable[Answer]]
"""What to do with a connection, in a ledger."""
Track = Callable[[Connection, LedgerId], Awaitable[None]]
"""What to write in the transaction of a save."""

_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_CONNECTION_LOST = (
    OSError,
    asyncpg.InternalClientError,  # a server killed in the middle of an answer
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
_LIBRARY_ERRORS: Final[tuple[tuple[type[BaseException], type[PersistenceError]], ...]] = (
    (VersionConflict, IntegrityError),
    (asyncpg.IntegrityConstraintViolationError, IntegrityError),
    (asyncpg.CardinalityViolationError, IntegrityError),  # one place twice in one statement
    (asyncpg.DataError, DataError),
    (asyncpg.FeatureNotSupportedError, NotSupportedError),
    (asyncpg.SyntaxOrAccessError, ProgrammingError),
    (asyncpg.InternalServerError, InternalError),
    (asyncpg.PostgresConnectionError, OperationalError),
    (asyncpg.OperatorInterventionError, OperationalError),
    (asyncpg.InsufficientResourcesError, OperationalError),
    (asyncpg.TransactionRollbackError, OperationalError),
    (asyncpg.ObjectNotInPrerequisiteStateError, OperationalError),
    (asyncpg.PostgresError, DatabaseError),
    (ValueError, DataError),  # the driver's, of a value that its column's type cannot hold
    (asyncpg.InterfaceError, InterfaceError),
    (CancelledError, InterfaceError),
    (asyncpg.InternalClientError, OperationalError),
    (OSError, OperationalError),
)
"""The first kind that fits; as the library's own Postgres recorder has it."""


class _Save(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Events that go in together, and who waits for them."""

    events: Sequence[NewEvent]
    track: Track | None
    answer: asyncio.Future[list[Placed]]

    @property
    def size_bytes(self) -> int:
        return sum(len(event.body) for event in self.events)


class LedgerThread:
    """One ledger for callers in any thread. The thread starts with the first call and ends with `close`.

    `direct_dsn` leads past the pooler that stands before `dsn`; None where there is none.
    """

    _pool: asyncpg.Pool
    _ledger_id: LedgerId
    _ending: asyncio.Event
    _is_listened_to: asyncio.Event
    _is_saved_to: asyncio.Event

    def __init__(
        self, dsn: str, *, direct_dsn: str | None = None, ledger_name: str, sealing: Sealing = NOTHING_SET
    ) -> None:
        self._dsn = dsn
        self._sealing = sealing
        self._direct_dsn = direct_dsn
        self._ledger_name = ledger_name
        # Whoever holds it waits for nothing. Reentrant: a garbage collection anywhere in here may lead to `close`.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ready: Future[asyncio.AbstractEventLoop] | None = None
        self._is_closed = False
        self._wakes: set[Callable[[], None]] = set()
        self._saves: deque[_Save] = deque()

    def call(self, work: Work[Answer], *, is_repeatable: bool = True) -> Answer:
        """What `work` returned, on a connection of the pool. Raises the library's errors, or an OperatorError."""
        return self._wait_for(lambda: self._answer(work, is_repeatable=is_repeatable))

    def save(self, events: Sequence[NewEvent], track: Track | None = None) -> list[Placed]:
        """All of the events are committed, and what `track` wrote with them; one answer for each event, in order.

        A save that had been committed when its connection was lost is answered as duplicates; `track` is not called
        again for it. Without any event to tell by, nothing is tried again. Raises as `call` does.
        """
        return self._wait_for(lambda: self._queue(events, track))

    def _wait_for(self, start: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        loop = self._started()
        with self._lock:
            self._refuse_if_closed()
            answer = asyncio.run_coroutine_threadsafe(start(), loop)
        try:
            return answer.result()
        except (VersionConflict, CancelledError, *_DRIVER_ERRORS) as error:
            kind = next(kind for known, kind in _LIBRARY_ERRORS if isinstance(error, known))
            raise kind(str(error)) from error
        finally:
            answer.cancel()  # changes nothing, unless this thread was interrupted while it waited

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """`wake` is called now, after every append to the ledger, and every `POLL_SECONDS_MAX`.

        Returns what ends it.
        """
        loop = self._started()
        with self._lock:
            self._refuse_if_closed()
            self._wakes.add(wake)
            loop.call_soon_threadsafe(self._is_listened_to.set)
        wake()
        return lambda: self._wakes.discard(wake)

    def close(self) -> None:
        """No call is taken any more, those under way are answered, connections are closed, listeners are woken."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            thread, ready = self._thread, self._ready
            if ready is not None and ready.done():
                ready.result().call_soon_threadsafe(self._ending.set)
        atexit.unregister(self.close)
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS_MAX)

    def _started(self) -> asyncio.AbstractEventLoop:
        """The loop of the thread, which runs and has its pool. Where starting fails, the next call tries again."""
        with self._lock:
            self._refuse_if_closed()
            if self._ready is None:
                self._ready = Future()
                self._thread = threading.Thread(target=self._main, args=(self._ready,), name="ledger", daemon=True)
                self._thread.start()
                # An interpreter that ends stops daemon threads: too late to wait for them when objects go after that.
                atexit.register(self.close)
            ready = self._ready
        return ready.result()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise InterfaceError("The ledger's thread was closed.")

    def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        failure: BaseException = OperationalError("The ledger's thread ended before it was ready.")
        try:
            asyncio.run(self._serve(ready))
        except (BookingLedgerError, *_DRIVER_ERRORS) as error:
            if ready.done():
                raise
            failure = error
        finally:
            if not ready.done():
                with self._lock:
                    self._ready = self._thread = None
                ready.set_exception(failure)

    async def _serve(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._ending, self._is_listened_to, self._is_saved_to = asyncio.Event(), asyncio.Event(), asyncio.Event()
        is_pooled = self._direct_dsn is not None
        async with (
            opened_keyring(self._sealing) as keyring,
            await open_pool(
                self._dsn, connections_max=CONNECTIONS_MAX, behind_pooler=is_pooled, keyring=keyring
            ) as self._pool,
        ):
            async with self._pool.acquire() as connection:
                await refuse_unknown_schema(connection)
                ledgers = await read_ledgers(connection)
            if self._ledger_name not in ledgers:
                raise BadSetting("LEDGER", f"must name a ledger ({', '.join(ledgers)}), not {self._ledger_name!r}")
            self._ledger_id = ledgers[self._ledger_name].ledger_id
            listening, writing = asyncio.create_task(self._listen()), asyncio.create_task(self._write_saves())
            with self._lock:
                ready.set_result(asyncio.get_running_loop())
                if self._is_closed:
                    self._ending.set()
            await self._ending.wait()
            listening.cancel()
            self._is_saved_to.set()
            await asyncio.gather(listening, writing, return_exceptions=True)
        self._wake_all()

    async def _answer(self, work: Work[Answer], *, is_repeatable: bool) -> Answer:
        time = asyncio.get_running_loop().time
        deadline = time() + RETRY_SECONDS_MAX
        while True:
            try:
                async with self._pool.acquire() as connection:
                    return await work(connection, self._ledger_id)
            except _CONNECTION_LOST:
                if not is_repeatable or time() + RETRY_PAUSE_SECONDS >= deadline:
                    raise
            await asyncio.sleep(RETRY_PAUSE_SECONDS)

    async def _queue(self, events: Sequence[NewEvent], track: Track | None) -> list[Placed]:
        save = _Save(events=events, track=track, answer=asyncio.get_running_loop().create_future())
        self._saves.append(save)
        self._is_saved_to.set()
        return await save.answer

    async def _write_saves(self) -> None:
        """The writer: until the end, and then whatever is queued."""
        while self._saves or not self._ending.is_set():
            await self._is_saved_to.wait()
            self._is_saved_to.clear()
            while self._saves:
                await self._write(self._take_batch())

    def _take_batch(self) -> list[_Save]:
        """The oldest saves, within the bounds of a batch; at least one, and alone one that tracks."""
        batch = [self._saves.popleft()]
        events, size_bytes = len(batch[0].events), batch[0].size_bytes
        while self._saves and batch[0].track is None and self._saves[0].track is None:
            events += len(self._saves[0].events)
            size_bytes += self._saves[0].size_bytes
            if events > BATCH_EVENTS_MAX or size_bytes > BATCH_BYTES_MAX:
                break
            batch.append(self._saves.popleft())
        return batch

    async def _write(self, batch: list[_Save]) -> None:
        """Every save of the batch is answered; where they fail together, each for itself."""
        events = [event for save in batch for event in save.events]

        async def write(connection: Connection, ledger_id: LedgerId) -> list[Placed]:
            track = batch[0].track
            if track is None:
                return await append(connection, ledger_id, events)
            async with connection.transaction():
                placed = await append(connection, ledger_id, events)
                if not placed or not all(place.duplicate for place in placed):
                    await track(connection, ledger_id)
                return placed

        writing = self._answer(write, is_repeatable=bool(events))
        [outcome] = await asyncio.gather(writing, return_exceptions=True)
        if isinstance(outcome, BaseException):
            for save in batch:
                if len(batch) > 1:
                    await self._write([save])
                elif not save.answer.done():
                    save.answer.set_exception(outcome)
            return
        for save in batch:
            if not save.answer.done():
                save.answer.set_result(outcome[: len(save.events)])
            outcome = outcome[len(save.events) :]

    async def _listen(self) -> None:
        """Once somebody listens: a connection that hears of appends, made again where it was lost."""
        await self._is_listened_to.wait()
        connection: asyncpg.Connection | None = None
        try:
            while True:
                if connection is None or connection.is_closed():
                    with contextlib.suppress(ServerUnreachable, *_DRIVER_ERRORS):
                        connection = await connect(self._direct_dsn or self._dsn)
                        await connection.add_listener(NOTIFY_CHANNEL, self._heard)
                self._wake_all()
                await asyncio.sleep(POLL_SECONDS_MAX)
        finally:
            if connection is not None:
                with contextlib.suppress(*_DRIVER_ERRORS):
                    await connection.close(timeout=CLOSE_SECONDS_MAX / 10)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == str(self._ledger_id):
            self._wake_all()

    def _wake_all(self) -> None:
        for wake in tuple(self._wakes):
            wake()
