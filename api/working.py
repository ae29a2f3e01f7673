"""What a worker does besides receiving: read models, their generations, and its part in the schedule.

python -m api.working    for a server: which database to work on comes as a line of JSON on standard input
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import asyncpg
import structlog
import uvloop

from api.garbage import settle_garbage
from api.hardening import forbid_core_dumps
from api.jobs import scheduling
from api.log_output import configure_logging
from api.pools import opened_pool
from api.working_aside import START_AGAIN_SECONDS, Order
from ledger.errors import BookingLedgerError
from ledger.sealing import sealing_of
from ledger.settings import Settings, load_settings
from projections.aside import read_order, while_wanted
from projections.pulse import Pulse
from projections.runner import Runner
from projections.upkeep import Upkeep

WORKER_CONNECTIONS_MAX = 6

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def projecting(
    settings: Settings, pool: asyncpg.Pool, dsn: str, pulse: Pulse | None = None
) -> AsyncIterator[None]:
    """The read models are kept current and rebuilt for as long as the block lasts, on a pool of `dsn`."""
    direct = _past_pooler(settings, dsn)
    async with (
        Runner(pool, direct, confirm_on_accept=settings.confirm_on_accept, pulse=pulse).running(),
        Upkeep(direct, confirm_on_accept=settings.confirm_on_accept, sealing=sealing_of(settings)).running(),
    ):
        yield


@contextlib.asynccontextmanager
async def working(settings: Settings, pool: asyncpg.Pool, dsn: str, pulse: Pulse | None = None) -> AsyncIterator[None]:
    """A whole worker for as long as the block lasts, on a pool of `dsn`."""
    async with projecting(settings, pool, dsn, pulse), scheduling(settings, pool, _past_pooler(settings, dsn)):
        yield


def _past_pooler(settings: Settings, dsn: str) -> str:
    return settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn


async def _work(settings: Settings, dsn: str, pulse: Pulse) -> None:
    async with (
        opened_pool(settings, dsn, connections_max=WORKER_CONNECTIONS_MAX) as pool,
        working(settings, pool, dsn, pulse),
    ):
        settle_garbage()
        await asyncio.Event().wait()


async def _work_when_possible(settings: Settings, order: Order) -> None:
    """Work for as long as the server is there."""
    pulse = Pulse(order.pulse)
    while True:
        try:
            await _work(settings, order.dsn, pulse)
        except (BookingLedgerError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            pulse.failed()
            log.warning("worker_cannot_start", error=type(error).__name__, again_in_seconds=START_AGAIN_SECONDS)
            await asyncio.sleep(START_AGAIN_SECONDS)


def main() -> None:
    """The work goes on until standard input ends."""
    forbid_core_dumps()
    order = read_order(Order)
    settings = load_settings(os.environ)
    configure_logging(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(while_wanted(_work_when_possible(settings, order)))


if __name__ == "__main__":
    main()
