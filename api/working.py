"""What a worker does besides receiving: read models, their generations, and its part in the schedule."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from api.jobs import scheduling
from ledger.sealing import sealing_of
from ledger.settings import Settings
from projections.runner import Runner
from projections.upkeep import Upkeep


@contextlib.asynccontextmanager
async def working(settings: Settings, pool: asyncpg.Pool, dsn: str) -> AsyncIterator[Runner]:
    """A worker for as long as the block lasts, on a pool of `dsn`."""
    direct = settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn
    async with (
        Runner(pool, direct, confirm_on_accept=settings.confirm_on_accept).running() as runner,
        Upkeep(direct, confirm_on_accept=settings.confirm_on_accept, sealing=sealing_of(settings)).running(),
        scheduling(settings, pool, direct),
    ):
        yield runner
