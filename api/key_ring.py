"""Which keys open, asked of memory: every live key is read at once, and read again when that is some seconds old.

So a key that is revoked opens nothing more after `KEPT_SECONDS` (and the time that one query takes), on every server.
A key that nobody has heard of makes the ring look again, since it may have been made this moment; it looks at most
every `PAUSE_SECONDS`, however many such keys come in, so guessing costs the database nothing.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import asyncpg

from ledger.api_keys import LiveKey, digest_of, is_well_formed, read_live_keys

KEPT_SECONDS: Final = 4.0
PAUSE_SECONDS: Final = 0.2


class KeyRing:
    """Every live key of this database, at most LIVE_KEYS_MAX."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._keys: Mapping[bytes, LiveKey] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, given: str) -> LiveKey | None:
        """The key, where it opens now. A mistyped one is told without looking it up."""
        if not is_well_formed(given):
            return None
        digest, asked_at = digest_of(given), time.monotonic()
        if digest not in self._keys or self._read_at < asked_at - KEPT_SECONDS:
            await self._look_again(asked_at)
        key = self._keys.get(digest)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            return None
        return key

    async def _look_again(self, asked_at: float) -> None:
        """The ring holds what was live when this was asked, or later; who asks meanwhile shares the answer."""
        async with self._reading:
            if self._read_at >= asked_at:
                return
            await asyncio.sleep(max(self._read_at + PAUSE_SECONDS - time.monotonic(), 0))
            began_at = time.monotonic()
            async with self._pool.acquire() as connection:
                self._keys = await read_live_keys(connection)
            self._read_at = began_at
