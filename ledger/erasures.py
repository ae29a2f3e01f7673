"""Erasures as they are noted: tombstones from the moment they are asked for, receipts once they are done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import msgspec

from ledger.errors import ErasureUnderWay
from ledger.postgres import Connection
from ledger.sealing import destroy_keys
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import Position, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

WAIT_SECONDS_MAX: Final = 600.0
LOOK_AGAIN_SECONDS: Final = 0.2

Cause = Literal["request", "retention"]
"""Somebody asked for it; or it was over for long enough."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One person, by tag, or bookings for their age (None)."""

    erasure_id: UUID
    person_tag: bytes | None
    erased_at: datetime


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many bookings were erased, how many others lost somebody, how many bodies were made unreadable."""

    bookings: int
    shared_bookings: int
    events: int


class ErasureTold(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure as people are told of it. `person_tag` tells nobody who it was; null: for their age."""

    erasure_id: UUID
    person_tag: str | None
    cause: Cause
    state: str
    erased_at: datetime
    finished_at: datetime | None
    receipt: Counts | None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What erasures took out of the log: streams that are gone, shared ones, events whose bodies are unreadable."""

    gone: list[StreamId]
    shared: list[StreamId]
    positions: list[Position]


@contextlib.asynccontextmanager
async def erasing_alone(connection: Connection, ledger: Ledger) -> AsyncIterator[None]:
    """Nobody else erases in this ledger meanwhile. `connection` leads past any pooler. Raises ErasureUnderWay."""
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                if not await is_erasing(connection, ledger, keep=True):
                    break
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise ErasureUnderWay(ledger.name) from None
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(SQL["unlock_erasing"], ledger.ledger_id)


async def is_erasing(connection: Connection, ledger: Ledger, *, keep: bool = False) -> bool:
    """Whether another process is erasing in this ledger right now. Where none is, `keep` lets nobody else begin."""
    if not await connection.fetchval(SQL["lock_erasing"], ledger.ledger_id):
        return True
    if not keep:
        await connection.execute(SQL["unlock_erasing"], ledger.ledger_id)
    return False


async def begin(
    connection: Connection,
    ledger: Ledger,
    tags: Mapping[UUID, bytes | None],
    *,
    cause: Cause,
    erased_at: datetime | None,
) -> None:
    """The tombstones are in force: by erasure the tag of a person, or None. `erased_at` None: now."""
    async with connection.transaction():
        at = erased_at or await connection.fetchval(SQL["read_now"])
        await connection.execute(
            SQL["insert_erasures"], ledger.ledger_id, list(tags), list(tags.values()), cause, [at] * len(tags)
        )
        await destroy_keys(connection, ledger.ledger_id, [])


async def read_unfinished(connection: Connection, ledger: Ledger) -> dict[Cause, list[Erasure]]:
    """What was begun and not finished."""
    found: dict[Cause, list[Erasure]] = {"request": [], "retention": []}
    for row in await connection.fetch(SQL["read_unfinished"], ledger.ledger_id):
        found[row["cause"]].append(
            Erasure(erasure_id=row["erasure_id"], person_tag=row["person_tag"], erased_at=row["erased_at"])
        )
    return found


async def set_redacted(connection: Connection, ledger: Ledger, erasures: Sequence[Erasure]) -> None:
    """What is left to do for these is not in the log."""
    ids = [one.erasure_id for one in erasures]
    await connection.execute(SQL["set_redacted"], ledger.ledger_id, ids)


async def finish(connection: Connection, ledger: Ledger, erasure_ids: Sequence[UUID], *, at: datetime) -> None:
    """They are done, and say how much they took out."""
    await connection.execute(SQL["finish"], ledger.ledger_id, erasure_ids, at)


async def read_taken(connection: Connection, ledger: Ledger, erasure_ids: Sequence[UUID]) -> Taken:
    (row,) = await connection.fetch(SQL["read_erased"], ledger.ledger_id, erasure_ids)
    return Taken(gone=row["gone"], shared=row["shared"], positions=row["positions"])


async def read_gone(connection: Connection, ledger: Ledger, erasure_id: UUID) -> list[StreamId]:
    """The streams that one erasure took out whole."""
    rows = await connection.fetch(SQL["read_gone_streams"], ledger.ledger_id, erasure_id)
    return [row["stream_id"] for row in rows]


async def find_done(connection: Connection, ledger: Ledger, erasure_ids: Collection[UUID]) -> set[UUID]:
    """Those of these erasures that were done in this database."""
    rows = await connection.fetch(SQL["find_known"], ledger.ledger_id, list(erasure_ids))
    return {row["erasure_id"] for row in rows}


async def list_erasures(
    connection: Connection, ledger: Ledger, *, erasure_ids: Collection[UUID] | None = None, rows_max: int
) -> list[ErasureTold]:
    """The latest first."""
    ids = None if erasure_ids is None else list(erasure_ids)
    rows = await connection.fetch(SQL["list_erasures"], ledger.ledger_id, ids, rows_max)
    return [
        ErasureTold(**{**dict(row), "receipt": row["receipt"] and msgspec.json.decode(row["receipt"], type=Counts)})
        for row in rows
    ]
