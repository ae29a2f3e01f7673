"""Leases: of all the workers there may be, one keeps a projection of a ledger current; another takes over when it ends.

The checkpoint's compare-and-set already keeps two workers from applying an event twice. A lease keeps them from doing
the same work, and its fence from coming back: it rises whenever the lease changes hands, and a page is written only
under the fence with which its lease was taken. A worker that was stopped for a while finds a higher one.

A lease runs out when it is not renewed, and at once when the session that its holder named is gone.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

LEASE_SECONDS = 5.0
RENEWED_AFTER_SECONDS = 2.0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session of the database's whose end frees our leases."""

    pid: int
    started_at: datetime


class _Held(msgspec.Struct, kw_only=True):
    fences: Mapping[str, int]
    taken_at: float


class Leases:
    """The leases of one worker."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.holder: UUID = uuid4()
        self._session: Session | None = None
        self._held: dict[LedgerId, _Held] = {}

    async def name_session(self, connection: Connection) -> None:
        """From now on our leases are free as soon as this connection is gone."""
        row = await connection.fetchrow(SQL["read_session"])
        if row is not None:
            self._session = Session(pid=row["pid"], started_at=row["backend_start"])
            self._held.clear()

    def forget_session(self) -> None:
        """The session that was named is gone; until another is named, our leases just run out."""
        self._session = None
        self._held.clear()

    async def fences(self, ledger_id: LedgerId, projections: Sequence[str]) -> Mapping[str, int]:
        """The projections of this ledger that are ours, with their fences; asks the database when it is time to."""
        held = self._held.get(ledger_id)
        ours = held is not None and len(held.fences) == len(projections)
        if held is not None and ours and time.monotonic() - held.taken_at < RENEWED_AFTER_SECONDS:
            return held.fences
        session = self._session
        taken_at = time.monotonic()
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                SQL["take_leases"],
                ledger_id,
                projections,
                self.holder,
                LEASE_SECONDS,
                session and session.pid,
                session and session.started_at,
            )
        fences = {row["projection"]: row["fence"] for row in rows}
        if session is self._session:  # else they are to be taken again, under the one named meanwhile
            self._held[ledger_id] = _Held(fences=fences, taken_at=taken_at)
        return fences

    def doubt(self, ledger_id: LedgerId) -> None:
        """Somebody else has moved a checkpoint of this ledger: ask again before the next page."""
        self._held.pop(ledger_id, None)

    async def release(self) -> None:
        """Whoever waits may take over now."""
        self._held.clear()
        async with self._pool.acquire() as connection:
            await connection.execute(SQL["release_leases"], self.holder)
