"""The async store for callers without an event loop: one thread runs a loop and a pool, others wait for its answers.

This is the one place where our store has a synchronous face, because the `eventsourcing` library is synchronous. A
call blocks its thread, so it has no business in a thread whose own event loop is running.

Saves take turns in the process before they take a connection: the head's lock lets one of them through at a time, and
those who wait must not keep connections from readers. A call whose connection was lost is made again where that is
safe (`is_repeatable`).
"""

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import Final, TypeVar

import asyncpg
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

from ledger.errors import BadSetting, BookingLedgerError, ServerUnreachable, VersionConflict
from ledger.migrate import refuse_unknown_schema
from ledger.postgres import Connection, connect, open_pool
from ledger.store import NOTIFY_CHANNEL, read_ledgers
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


class LedgerThread:
    """One ledger for callers in any thread. The thread starts with the first call and ends with `close`.

    `direct_dsn` leads past the pooler that stands before `dsn`; None where there is none.
    """

    _pool: asyncpg.Pool
    _ledger_id: LedgerId
    _ending: asyncio.Event
    _is_listened_to: asyncio.Event
    _turn: asyncio.Lock

    def __init__(self, dsn: str, *, direct_dsn: str | None = None, ledger_name: str) -> None:
        self._dsn = dsn
        self._direct_dsn = direct_dsn
        self._ledger_name = ledger_name
        # Whoever holds it waits for nothing. Reentrant: a garbage collection anywhere in here may lead to `close`.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ready: Future[asyncio.AbstractEventLoop] | None = None
        self._is_closed = False
        self._wakes: set[Callable[[], None]] = set()

    def call(self, work: Work[Answer], *, is_save: bool = False, is_repeatable: bool = True) -> Answer:
        """What `work` returned, on a connection of the pool. Raises the library's errors, or an OperatorError."""
        loop = self._started()
        with self._lock:
            self._refuse_if_closed()
            answer = asyncio.run_coroutine_threadsafe(self._answer(work, is_save, is_repeatable), loop)
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
        self._ending, self._is_listened_to, self._turn = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        is_pooled = self._direct_dsn is not None
        async with await open_pool(self._dsn, connections_max=CONNECTIONS_MAX, behind_pooler=is_pooled) as self._pool:
            async with self._pool.acquire() as connection:
                await refuse_unknown_schema(connection)
                ledgers = await read_ledgers(connection)
            if self._ledger_name not in ledgers:
                raise BadSetting("LEDGER", f"must name a ledger ({', '.join(ledgers)}), not {self._ledger_name!r}")
            self._ledger_id = ledgers[self._ledger_name].ledger_id
            listening = asyncio.create_task(self._listen())
            with self._lock:
                ready.set_result(asyncio.get_running_loop())
                if self._is_closed:
                    self._ending.set()
            await self._ending.wait()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        self._wake_all()

    async def _answer(self, work: Work[Answer], is_save: bool, is_repeatable: bool) -> Answer:  # noqa: FBT001
        time = asyncio.get_running_loop().time
        deadline = time() + RETRY_SECONDS_MAX
        async with self._turn if is_save else contextlib.nullcontext():
            while True:
                try:
                    async with self._pool.acquire() as connection:
                        return await work(connection, self._ledger_id)
                except _CONNECTION_LOST:
                    if not is_repeatable or time() + RETRY_PAUSE_SECONDS >= deadline:
                        raise
                await asyncio.sleep(RETRY_PAUSE_SECONDS)

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
