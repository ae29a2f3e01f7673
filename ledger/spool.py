"""The spool as a running program uses it: off the event loop, and with one fsync for all who wait.

One thread of its own works on the file. While it commits, the next deliveries gather, as in `ledger/appender.py`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from ledger.errors import SpoolRefused
from ledger.filing import Receipt
from ledger.spool_file import SpoolFile
from ledger.spooled import ROW_BYTES, KnownLedger, LedgerMark, Spooled, SpoolId, SpoolState, Waiting, ledger_mark
from ledger.store import Ledger

BATCH_DELIVERIES_MAX: Final = 1_000
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
READ_DELIVERIES_MAX: Final = 250
PUT_SECONDS_MAX: Final = 5.0
SHUTTING_DOWN: Final = "this server is shutting down"

Result = TypeVar("Result")

log = structlog.get_logger()


class _Request(msgspec.Struct, kw_only=True, eq=False):
    delivery: Spooled
    answer: asyncio.Future[None]


class Spool:
    """One open file; `running` starts and stops its writer. All but `put` raise sqlite3.Error or OSError."""

    def __init__(
        self, file: SpoolFile, *, known: Sequence[KnownLedger] = (), put_seconds_max: float = PUT_SECONDS_MAX
    ) -> None:
        """Of `known` ledgers the key is not needed."""
        self._file = file
        self._put_seconds_max = put_seconds_max
        self._marks = {ledger.ledger_id: ledger.ledger_mark for ledger in known}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._queue: deque[_Request] = deque()
        self._queued_bytes = 0
        self._wanted = asyncio.Event()
        self._closing = False

    @property
    def folder(self) -> Path:
        return self._file.folder

    async def put(self, ledger: Ledger, body: bytes, receipt: Receipt, *, fresh_id: UUID) -> None:
        """The delivery is on disk for good, with all that `file_delivery` takes. Raises SpoolRefused."""
        if self._closing:
            raise SpoolRefused(SHUTTING_DOWN)
        if self._queued_bytes >= QUEUE_BYTES_MAX:
            raise SpoolRefused("more arrives than the disk takes")
        mark = self._marks.get(ledger.ledger_id) or ledger_mark(ledger)
        delivery = Spooled(ledger_mark=mark, event_id=fresh_id, receipt=receipt, body=body)
        request = _Request(delivery=delivery, answer=asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._queued_bytes += len(delivery.body) + ROW_BYTES
        self._wanted.set()
        try:
            async with asyncio.timeout(self._put_seconds_max):
                await request.answer
        except TimeoutError:
            raise SpoolRefused("the disk does not answer") from None

    async def read(self, mark: LedgerMark) -> list[Waiting]:
        """The oldest of a ledger's, in order of arrival; empty when none waits."""
        return await self._do(lambda: self._file.read(mark, deliveries_max=READ_DELIVERIES_MAX))

    async def drop(self, mark: LedgerMark, spool_ids: Sequence[SpoolId]) -> None:
        await self._do(lambda: self._file.drop(mark, spool_ids))

    async def set_aside(self, mark: LedgerMark, spool_id: SpoolId, error: str) -> None:
        await self._do(lambda: self._file.set_aside(mark, spool_id, error))

    async def take_up_again(self, mark: LedgerMark) -> int:
        return await self._do(lambda: self._file.take_up_again(mark))

    async def forget(self, mark: LedgerMark, is_named: Callable[[bytes], bool]) -> int:
        """How many of those set aside were thrown away, since the body names somebody erased."""
        return await self._do(lambda: self._file.forget(mark, is_named))

    async def shrink(self) -> None:
        """What was free in the file is the disk's again."""
        while await self._do(self._file.shrink):
            pass

    async def state(self) -> SpoolState:
        return await self._do(self._file.state)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Spool"]:
        """Deliveries are taken for as long as the block lasts; those that came before its end are written."""
        task = asyncio.create_task(self._run(), name="spool")
        try:
            yield self
        finally:
            self._closing = True
            self._wanted.set()
            await task
            await self._do(self._file.close)
            self._thread.shutdown()

    async def _do(self, work: Callable[[], Result]) -> Result:
        """What the file says, asked on its thread: one at a time, in order."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_DELIVERIES_MAX))]
                self._queued_bytes -= sum(len(request.delivery.body) + ROW_BYTES for request in batch)
                await self._write(batch)

    async def _write(self, batch: Sequence[_Request]) -> None:
        """Every request of the batch is answered."""
        deliveries = [request.delivery for request in batch]
        kept, cause = 0, "it has no room left"
        try:
            kept = await self._do(lambda: self._file.put(deliveries))
        except Exception as error:  # whatever it is, everybody is answered and the writer goes on
            cause = type(error).__name__
        if kept < len(batch):
            log.error("spool_refused", cause=cause, deliveries=len(batch) - kept)
        for place, request in enumerate(batch):
            if request.answer.done():
                continue
            if place < kept:
                request.answer.set_result(None)
            else:
                request.answer.set_exception(SpoolRefused(cause))
