"""Generations: which build of each read model is live, how far it has come, and the one way to move it on."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import LedgerId, Position
from projections import leases
from projections.projection import Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

ZERO = Position(0)
SHOWN_FIRST = "calendar_events"
"""The projection by which people see a booking: its pages are when things became visible."""


SyncedAt = Callable[[int, datetime], datetime]
"""When a position, recorded at that moment, became visible."""


class CheckpointMoved(Exception):
    """Another worker was faster, has taken over, or has put another generation in its place; nothing was written."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of a projection, and how far it has come in one ledger.

    `fence` is that of the lease under which it is written; None: without one. `up_to` is how far it may go by itself;
    None: as far as there is anything.
    """

    projection: Projection
    generation: int
    position: Position
    fence: int | None = None
    up_to: Position | None = None


async def read_live_places(
    connection: Connection, ledger_id: LedgerId, catalogue: Mapping[str, Projection]
) -> list[Place]:
    """Where each live projection that is to be kept current stands in this ledger, the furthest behind first.

    One that is paused is not, nor one whose tables were made for another version of the code.
    """
    rows = await connection.fetch(SQL["read_live"], ledger_id, list(catalogue))
    shown = next((row["position"] for row in rows if row["projection"] == SHOWN_FIRST), None)
    new = [row for row in rows if row["is_new"]]
    if new:
        await connection.execute(
            SQL["create_checkpoints"], ledger_id, [row["projection"] for row in new], [row["generation"] for row in new]
        )
    return [
        Place(
            projection=catalogue[row["projection"]],
            generation=row["generation"],
            position=Position(row["position"]),
            up_to=shown if catalogue[row["projection"]].follows else None,
        )
        for row in rows
        if not row["paused"] and row["version"] == catalogue[row["projection"]].version
    ]


def in_step(places: Sequence[Place]) -> list[list[Place]]:
    """The places that can go on now, in groups that go on together; one that follows only as far as it may.

    At the same position as the one that it follows it goes on with that one, in the same transaction.
    """
    shown = next((place.position for place in places if place.projection.name == SHOWN_FIRST), None)
    free = [
        msgspec.structs.replace(place, up_to=None) if place.position == shown else place
        for place in places
        if place.up_to is None or place.position < place.up_to or place.position == shown
    ]
    free.sort(key=_step)
    return [list(group) for _, group in groupby(free, key=_step)]


def _step(place: Place) -> tuple[Position, bool]:
    return place.position, place.up_to is not None


async def read_versions(connection: Connection) -> dict[str, int]:
    """The version of the code that each live generation was made for."""
    return {row["projection"]: row["version"] for row in await connection.fetch(SQL["read_versions"])}


async def move_checkpoints(
    connection: Connection, ledger: Ledger, places: Sequence[Place], *, to: Position
) -> datetime:
    """The checkpoints stand at `to`, and until the transaction ends tables without a schema are these generations'.

    All places stand at the same position. Returns the moment. Raises CheckpointMoved.
    """
    moved = await connection.fetch(
        SQL["move_checkpoints"],
        ledger.ledger_id,
        [place.projection.name for place in places],
        [place.generation for place in places],
        places[0].position,
        to,
        [place.fence for place in places],
        f"{leases.LEASE_SECONDS * 1000:.0f}ms",
    )
    if len(moved) < len(places):
        raise CheckpointMoved
    moment: datetime = moved[0]["moved_at"]
    return moment


async def point_at(connection: Connection, projection: str, generation: int) -> None:
    """Until the transaction ends, tables without a schema are those of this generation."""
    await connection.execute(SQL["point_at"], projection, generation)


async def note_visible(connection: Connection, ledger: Ledger, position: Position, synced_at: datetime) -> None:
    """What the page ending here holds became visible at that moment, whatever is rebuilt later."""
    await connection.execute(SQL["note_visible"], ledger.ledger_id, position, synced_at)


async def note_failure(connection: Connection, ledger: Ledger, place: Place, told: str) -> None:
    """People see that the projection stands still, and why."""
    await connection.execute(SQL["note_failure"], ledger.ledger_id, place.projection.name, place.generation, told)


async def read_visibility(
    connection: Connection, ledger: Ledger, *, after: Position = ZERO, until: Position | None = None
) -> SyncedAt:
    """Tells when what follows `after`, until a position, became visible.

    Where nobody noted it, the moment of recording has to do.
    """
    rows = await connection.fetch(SQL["read_visible"], ledger.ledger_id, after, until)
    positions = [row["position"] for row in rows]
    moments: list[datetime] = [row["synced_at"] for row in rows]

    def synced_at(position: int, recorded_at: datetime) -> datetime:
        at = bisect_left(positions, position)
        return moments[at] if at < len(moments) else recorded_at

    return synced_at
