"""Read models after an erasure: what follows from the log has followed, and what was copied out of it is gone.

A booking's rows follow by themselves: `booking.redacted` is an event like any other, and is applied here where no
worker does it. What the rows of events hold is written again as a rebuild would write it. Old generations are dropped,
and one that is being built begins anew, since it may have read what is gone.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.comparing import PERSONAL
from ledger.erasures import Taken
from ledger.errors import NotFound, RebuildUnderWay
from ledger.finding import Wanted
from ledger.history import read_event
from ledger.persons import addresses_in
from ledger.postgres import Connection
from ledger.readings import Reading
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent, read_events_at, read_head
from ledger.vocabulary import Position, StreamId
from projections import booking_attendees, calendar_events, facts, rebuild, webhook_logs
from projections.catalogue import BY_NAME
from projections.generations import SHOWN_FIRST, point_at
from projections.runner import Runner
from projections.upkeep import drop_useless

SQL = load_statements(Path(__file__).with_suffix(".sql"))

POSITIONS_AT_ONCE: Final = 1_000
SNAPSHOTS_AT_ONCE: Final = 500
PATIENCE_SECONDS: Final = 300.0
LOOK_AGAIN_SECONDS: Final = 0.1
VACUUMS: Final = {
    "calendar_events": SQL["vacuum_calendar_events"],
    "booking_attendees": SQL["vacuum_booking_attendees"],
    "webhook_logs": SQL["vacuum_webhook_logs"],
    "facts": SQL["vacuum_facts"],
}

log = structlog.get_logger()


class Forgetting:
    """Works on one ledger, on a connection of its own; `runner` applies what no worker does."""

    def __init__(self, connection: Connection, ledger: Ledger, runner: Runner) -> None:
        self._connection = connection
        self._ledger = ledger
        self._runner = runner

    async def forget(self, taken: Taken, tags: Collection[bytes]) -> None:
        """Nothing here holds any more what was taken out. May be repeated."""
        rebuilding = await self._drop_old()
        behind = await self._catch_up((await read_head(self._connection, self._ledger.ledger_id)).position)
        await self._forget_bookings(taken, behind)
        for at in range(0, len(taken.positions), POSITIONS_AT_ONCE):
            await self._write_again(taken.positions[at : at + POSITIONS_AT_ONCE])
        await self._forget_notes(taken)
        await self._forget_snapshots(taken, tags)
        await self._drop_old()
        for name in rebuilding:
            with contextlib.suppress(RebuildUnderWay):
                await rebuild.begin_rebuild(self._connection, name)
        await self._vacuum()

    async def _drop_old(self) -> list[str]:
        """No generation but the live ones has tables; the projections that were being rebuilt."""
        rebuilding = []
        for row in await self._generations("building"):
            with contextlib.suppress(NotFound):
                await rebuild.cancel_rebuild(self._connection, row["projection"])
                rebuilding.append(row["projection"])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await drop_useless(self._connection):
            if time.monotonic() > deadline:
                log.warning("erasure_old_tables_in_use", ledger=self._ledger.name)
                break
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return rebuilding

    async def _catch_up(self, position: Position) -> set[str]:
        """Read models have what the log has; the names of those that have not, being paused or of old code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            await self._runner.catch_up()
            behind = [row for row in await self._generations("live") if row["position"] < position]
            if not _moving(behind) or time.monotonic() > deadline:
                return {row["projection"] for row in behind}
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _generations(self, state: str) -> list[asyncpg.Record]:
        rows = await self._connection.fetch(SQL["read_generations"], self._ledger.ledger_id)
        return [row for row in rows if row["state"] == state]

    async def _forget_bookings(self, taken: Taken, behind: Collection[str]) -> None:
        """What is gone has no rows; shared bookings have none where those could still be of before."""
        ledger_id = self._ledger.ledger_id
        parked = await self._connection.fetch(SQL["read_parked_streams"], ledger_id, [*taken.gone, *taken.shared])
        stuck = [_name(row["stream_id"]) for row in parked]
        everything = [*_names(taken.gone), *_names(taken.shared)]
        for projection, module in (("calendar_events", calendar_events), ("booking_attendees", booking_attendees)):
            names = everything if projection in behind else [*_names(taken.gone), *stuck]
            async with self._live(projection):
                await module.forget(self._connection, self._ledger, names)

    async def _write_again(self, positions: Sequence[Position]) -> None:
        """The rows of these events tell no more than their bodies do."""
        events = await read_events_at(self._connection, self._ledger.ledger_id, positions)
        told: list[tuple[RecordedEvent, Reading]] = [(event, read_event(event)) for event in events if event.is_erased]
        for projection, module in (("webhook_logs", webhook_logs), ("facts", facts)):
            async with self._live(projection):
                await module.write_again(self._connection, self._ledger, told)

    @contextlib.asynccontextmanager
    async def _live(self, projection: str) -> AsyncIterator[None]:
        """A transaction in which tables without a schema are those of the live generation."""
        async with self._connection.transaction():
            for row in await self._generations("live"):
                if row["projection"] == projection:
                    await point_at(self._connection, projection, row["generation"])
            yield

    async def _forget_notes(self, taken: Taken) -> None:
        """What sweeps, questions and errors noted of these bookings."""
        ledger_id, streams = self._ledger.ledger_id, [*taken.gone, *taken.shared]
        async with self._connection.transaction():
            await self._connection.execute(SQL["forget_parked_errors"], ledger_id, taken.positions, streams)
            await self._connection.execute(SQL["forget_drift"], ledger_id, taken.gone, taken.shared, sorted(PERSONAL))
            await self._connection.execute(SQL["forget_questions"], ledger_id, _names(taken.gone))
            await self._connection.execute(SQL["forget_swept"], ledger_id, _names(taken.gone))

    async def _forget_snapshots(self, taken: Taken, tags: Collection[bytes]) -> None:
        """Snapshots of these bookings, and those of other programs in which one of the persons is named."""
        ledger_id, wanted = self._ledger.ledger_id, Wanted(self._ledger, tags)
        named: list[str] = [*taken.gone, *taken.shared]
        place: tuple[str, str, int] = ("", "", -1)
        while rows := await self._connection.fetch(SQL["read_snapshots"], ledger_id, *place, SNAPSHOTS_AT_ONCE):
            named += [row["originator_id"] for row in rows if wanted.among(addresses_in(row["state"]))]
            place = (rows[-1]["recorder"], rows[-1]["originator_id"], rows[-1]["originator_version"])
        await self._connection.execute(SQL["forget_snapshots"], ledger_id, named)

    async def _vacuum(self) -> None:
        """Pages hold nothing of deleted rows any more, where this role may see to it and nobody is in the way."""
        live: Mapping[str, int] = {row["projection"]: row["generation"] for row in await self._generations("live")}
        try:
            for projection, statement in VACUUMS.items():
                if projection in live:
                    await self._connection.execute(SQL["look_into"], projection, live[projection])
                    await self._connection.execute(statement)
            await self._connection.execute(SQL["vacuum_notes"])
        except asyncpg.PostgresError as error:
            log.warning("erasure_not_vacuumed", error=type(error).__name__)
        finally:
            await self._connection.execute(SQL["look_nowhere"])


def _moving(behind: Sequence[asyncpg.Record]) -> bool:
    """Whether somebody keeps one of these current: neither it nor what it follows is paused, or of another release."""
    held = {row["projection"] for row in behind if row["paused"] or not _is_of_this_release(row)}
    return any(
        row["projection"] not in held and not (BY_NAME[row["projection"]].follows and SHOWN_FIRST in held)
        for row in behind
    )


def _is_of_this_release(generation: asyncpg.Record) -> bool:
    projection = BY_NAME.get(generation["projection"])
    return projection is not None and projection.version == generation["version"]


def _names(stream_ids: Sequence[StreamId]) -> list[str]:
    return [_name(stream_id) for stream_id in stream_ids]


def _name(stream_id: StreamId) -> str:
    return stream_id.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX)
