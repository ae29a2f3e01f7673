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
async def projecting(settings: Settings, pool: asyncpg.Pool, dsn: str) -> AsyncIterator[Runner]:
    """The read models are kept current and rebuilt for as long as the block lasts, on a pool of `dsn`."""
    direct = _past_pooler(settings, dsn)
    async with (
        Runner(pool, direct, confirm_on_accept=settings.confirm_on_accept).running() as runner,
        Upkeep(direct, confirm_on_accept=settings.confirm_on_accept, sealing=sealing_of(settings)).running(),
    ):
        yield runner


@contextlib.asynccontextmanager
async def working(settings: Settings, pool: asyncpg.Pool, dsn: str) -> AsyncIterator[Runner]:
    """A whole worker for as long as the block lasts, on a pool of `dsn`."""
    async with projecting(settings, pool, dsn) as runner, scheduling(settings, pool, _past_pooler(settings, dsn)):
        yield runner


def _past_pooler(settings: Settings, dsn: str) -> str:
    return settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn
