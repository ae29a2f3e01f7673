"""A server's worker, in a process of its own: while it folds and writes, the server goes on receiving webhooks."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator

import msgspec
import structlog

from projections.aside import end_aside, start_aside
from projections.pulse import PULSE_BYTES, Pulse

MODULE = "api.working"
END_SECONDS_MAX = 5.0
START_AGAIN_SECONDS = 1.0

log = structlog.get_logger()


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All settings but the database's are the environment's. `pulse` is an open file's number."""

    dsn: str
    pulse: int


@contextlib.asynccontextmanager
async def working_aside(dsn: str) -> AsyncIterator[Pulse]:
    """A worker process for as long as the block lasts, and another where one ends before."""
    with tempfile.TemporaryFile() as file:
        file.truncate(PULSE_BYTES)
        pulse = Pulse(file.fileno())
        keeping = asyncio.create_task(_keep(Order(dsn=dsn, pulse=file.fileno()), pulse), name="worker")
        try:
            yield pulse
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def _keep(order: Order, pulse: Pulse) -> None:
    while True:
        try:
            why = f"exit code {await _run(order)}"
        except OSError as error:
            why = type(error).__name__
        pulse.failed()
        log.warning("worker_ended", why=why, again_in_seconds=START_AGAIN_SECONDS)
        await asyncio.sleep(START_AGAIN_SECONDS)


async def _run(order: Order) -> int:
    process = await start_aside(MODULE, order, share=(order.pulse,))
    try:
        return await process.wait()
    finally:
        await end_aside(process, END_SECONDS_MAX)
