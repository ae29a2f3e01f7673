"""Parked events: what a projection could not apply, set aside with its error until somebody retries or skips it.

A retry applies the event alone, on what its bookings are at the checkpoint, under the checkpoint's lock: later events
of the same bookings may have been applied since, and then the rows say what those say too. So a read model whose
parked events were all retried is the one that was never poisoned.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec

from ledger.postgres import Connection, is_database_trouble
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent, read_log
from ledger.vocabulary import Position
from projections.generations import Place, point_at
from projections.pages import read_again
from projections.projection import Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

ERROR_CHARACTERS_MAX = 500
LISTED_MAX = 1_000


class ParkedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside; `skipped_at`: when somebody decided to do without it."""

    projection: str
    position: Position
    stream_id: str
    error: str
    attempts: int
    parked_at: datetime
    skipped_at: datetime | None


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry: the positions that are in the read model now, and those that failed again."""

    applied: list[int]
    failed: list[int]


async def park_event(
    connection: Connection, ledger: Ledger, place: Place, event: RecordedEvent, *, told: str, tried: int
) -> None:
    """The event is set aside, with what was told of its failure; `tried`: how often, just now."""
    await connection.execute(
        SQL["park_event"],
        ledger.ledger_id,
        place.projection.name,
        place.generation,
        event.position,
        event.stream_id,
        told,
        tried,
    )


async def list_parked(connection: Connection, ledger: Ledger, projection: str | None) -> list[ParkedEvent]:
    """The first `LISTED_MAX` parked events of the live generations, skipped ones too."""
    rows = await connection.fetch(SQL["list_parked"], ledger.ledger_id, projection, LISTED_MAX)
    return [ParkedEvent(**dict(row)) for row in rows]


async def skip_parked(connection: Connection, ledger: Ledger, projection: str, positions: Sequence[int]) -> list[int]:
    """These are no longer counted as parked; returns those that were."""
    rows = await connection.fetch(SQL["skip_events"], ledger.ledger_id, projection, positions)
    return sorted(row["position"] for row in rows)


async def retry_parked(
    pool: asyncpg.Pool,
    ledger: Ledger,
    projection: Projection,
    positions: Sequence[int] | None,
    *,
    confirm_on_accept: bool,
) -> Retried:
    """Each of these (None: of all) has been applied, or stays parked with its new error. In order of position."""
    async with pool.acquire() as connection:
        found = await connection.fetch(SQL["find_parked"], ledger.ledger_id, projection.name, positions)
    applied: list[int] = []
    failed: list[int] = []
    for row in found:
        place = Place(projection=projection, generation=row["generation"], position=row["position"])
        try:
            async with pool.acquire() as connection, connection.transaction():
                is_applied = await _apply(connection, ledger, place, confirm_on_accept=confirm_on_accept)
        except Exception as error:
            if is_database_trouble(error):
                raise
            failed.append(place.position)
            async with pool.acquire() as connection:
                await connection.execute(SQL["note_retry"], *_key(ledger, place), place.position, error_told(error))
        else:
            applied += [place.position] if is_applied else []
    return Retried(applied=applied, failed=failed)


def error_told(error: Exception) -> str:
    """The error as a short text that the database takes."""
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX].replace("\x00", "")


async def _apply(connection: Connection, ledger: Ledger, place: Place, *, confirm_on_accept: bool) -> bool:
    """The event at the place's position is in the read model, and no longer parked.

    False where somebody else has done that meanwhile, or another generation has taken the place of this one.
    """
    key = _key(ledger, place)
    standing = await connection.fetchval(SQL["lock_checkpoint"], *key)
    if standing is None or await connection.fetchval(SQL["unpark_event"], *key, place.position) is None:
        return False
    event = await _event(connection, ledger, place.position)
    page = await read_again(connection, ledger, [event], up_to=standing, confirm_on_accept=confirm_on_accept)
    await point_at(connection, place.projection.name, place.generation)
    await place.projection.apply(connection, page)
    return True


def _key(ledger: Ledger, place: Place) -> tuple[int, str, int]:
    return ledger.ledger_id, place.projection.name, place.generation


async def _event(connection: Connection, ledger: Ledger, position: Position) -> RecordedEvent:
    (event,) = await read_log(connection, ledger.ledger_id, after=Position(position - 1), events_max=1)
    return event
