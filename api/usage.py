"""When each key and each webhook secret was last used: noted in memory, written once a minute, nobody waits for it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from ledger.api_keys import KeyId, note_key_uses
from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

FLUSH_SECONDS: Final = 60.0
FINGERPRINT_CHARACTERS: Final = 4

log = structlog.get_logger()


class Usage:
    """What was used since the last writing. As many entries as there are live keys and secrets, so it is bounded."""

    def __init__(self, pool: asyncpg.Pool, webhook_secrets: Sequence[bytes]) -> None:
        self._pool = pool
        self._fingerprints = [fingerprint_of(secret) for secret in webhook_secrets]
        self._keys: dict[KeyId, datetime] = {}
        self._secrets: dict[str, datetime] = {}

    def note_key(self, key_id: KeyId, at: datetime) -> None:
        self._keys[key_id] = at

    def note_secret(self, index: int, at: datetime) -> None:
        """`index` counts the active secrets from 0."""
        self._secrets[self._fingerprints[index]] = at

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Usage"]:
        """Written once a minute for as long as the block lasts, and a last time at its end."""
        task = asyncio.create_task(self._run(), name="usage")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._flush_or_log()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush_or_log()

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except Exception as error:  # whatever it is, the next minute is another chance
            log.warning("usage_not_written", error=type(error).__name__)

    async def flush(self) -> None:
        """What has been noted is in the tables; on an error it is noted still."""
        keys, secrets = dict(self._keys), dict(self._secrets)
        if not keys and not secrets:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await note_key_uses(connection, keys)
            await connection.execute(SQL["note_secret_uses"], list(secrets), list(secrets.values()))
        self._keys = {key_id: at for key_id, at in self._keys.items() if keys.get(key_id) != at}
        self._secrets = {secret: at for secret, at in self._secrets.items() if secrets.get(secret) != at}


def fingerprint_of(secret: bytes) -> str:
    """Enough to tell one's own secrets apart."""
    return hashlib.sha256(secret).hexdigest()[:FINGERPRINT_CHARACTERS]


async def read_secret_uses(connection: Connection, webhook_secrets: Sequence[bytes]) -> Mapping[str, datetime]:
    """When each secret was last used, by fingerprint; those that never were are missing."""
    rows = await connection.fetch(SQL["read_secret_uses"], [fingerprint_of(secret) for secret in webhook_secrets])
    return {row["fingerprint"]: row["last_used_at"] for row in rows}
