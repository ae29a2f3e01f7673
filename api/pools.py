"""Pools on which bodies are sealed and opened as the settings say."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from ledger.postgres import close_pool, open_pool
from ledger.sealing import opened_keyring, sealing_of
from ledger.settings import Settings


@contextlib.asynccontextmanager
async def opened_pool(settings: Settings, dsn: str, *, connections_max: int) -> AsyncIterator[asyncpg.Pool]:
    """A pool for as long as the block lasts. Raises ServerUnreachable."""
    async with opened_keyring(sealing_of(settings)) as keyring:
        pool = await open_pool(
            dsn,
            connections_max=connections_max,
            behind_pooler=settings.database_direct_url is not None,
            keyring=keyring,
        )
        try:
            yield pool
        finally:
            await close_pool(pool)
