"""Deliveries read again, as they are understood today: what the read models would say, and making them say it.

A decoder that has learnt something changes what the log means, not what it holds. So nothing is sent, and nothing is
appended. What deliveries mean now is compared, row by row, with what the live read models hold, and only rows that
differ are written: once more finds nothing to do.

Rows are written as a parked event is retried: on what bookings are at the checkpoint, under the checkpoint's lock, so
that a running worker neither skips an event nor applies one twice. What a rebuild would believe without decoding
(projections/facts.py) comes first, and no rebuild goes on meanwhile.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import structlog

from ledger.calcom.envelope import booking_stream, number_stream
from ledger.calcom.triggers import TOPICS, UNRECOGNISED_TOPIC
from ledger.errors import RebuildUnderWay
from ledger.linked import read_links
from ledger.postgres import Connection, is_database_trouble
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent, read_log, read_position_as_of
from ledger.vocabulary import Position, StreamId
from projections import facts, leases
from projections.again import Again, read_once_more
from projections.catalogue import BY_NAME, CATALOGUE
from projections.deliveries import RECOGNISED, Outcome
from projections.differing import Differing, keys_of
from projections.generations import point_at
from projections.parked import error_told, retry_parked
from projections.projection import Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

STRETCH_EVENTS = 5_000
"""How much of the log is looked through at a time for deliveries that were asked for."""
BATCH_DELIVERIES = 200
"""So many share a transaction: a worker may have to wait for it."""
TOLD_MAX = 1_000
"""How many rows that differ, and how many deliveries that cannot be read, are told one by one; all are counted."""
DIGITS_MAX = 19

REREAD: Sequence[Projection] = sorted(
    (projection for projection in CATALOGUE if projection.compare is not None), key=lambda one: one.of == "bookings"
)
"""Those of events come first: a rebuild of the others believes them."""
REREAD_NAMES = [projection.name for projection in REREAD]

log = structlog.get_logger()


class ReplayFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are read again; None: not narrowed. `booking` is the uid, or the number, that they name.

    `after` and `until` are positions; `recorded_before` is not included.
    """

    triggers: list[str] | None = None
    booking: str | None = None
    status: Outcome | None = None
    is_unrecognised: bool = False
    event_ids: list[UUID] | None = None
    recorded_from: datetime | None = None
    recorded_before: datetime | None = None
    after: Position = Position(0)
    until: Position | None = None


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with which something raises an error: its own body, or what else is known of its booking."""

    position: int
    error: str


class Replayed(msgspec.Struct, kw_only=True):
    """What came of it. `differing` counts rows by read model; those of `facts`, which nobody sees, are not listed.

    `applied`: they were written. `parked` counts what a projection could not apply before, `parked_left` what it cannot
    still. `next_position`: where to go on, if an end was set to the work; None: all is done.
    """

    ledger: str
    applied: bool
    deliveries: int = 0
    differing: dict[str, int] = {}
    unreadable: int = 0
    parked: int = 0
    parked_left: int = 0
    next_position: Position | None = None
    rows: list[Differing] = []
    failures: list[Unreadable] = []

    @property
    def is_settled(self) -> bool:
        """Whether the read models say what the deliveries mean, as far as was looked."""
        return not self.unreadable and not self.parked_left and (self.applied or not self.differing)


Tell = Callable[[int, int], None]


async def replay(
    pool: asyncpg.Pool,
    ledger: Ledger,
    narrowed: ReplayFilter,
    *,
    is_applied: bool,
    confirm_on_accept: bool,
    tell: Tell,
    deliveries_max: int | None = None,
) -> Replayed:
    """The deliveries that were asked for, as far as the read models have come, mean in these what they mean today.

    Without `is_applied` it is only told what that would change. `tell` hears how many events of how many have been
    looked at. With `deliveries_max` it may stop before the end. Raises RebuildUnderWay, and what the database raises
    when it is in trouble; what was done by then stays done.
    """
    work = _Replay(pool, ledger, is_applied=is_applied, confirm_on_accept=confirm_on_accept)
    after, until = await work.limits(narrowed)
    first = after
    while after < until:
        if deliveries_max is not None and work.told.deliveries >= deliveries_max:
            work.told.next_position = Position(after + 1)
            break
        end = Position(min(after + STRETCH_EVENTS, until))
        after = await work.read_stretch(narrowed, after, end)
        tell(after - first, until - first)
    return work.told


class _Replay:
    """One replay of one ledger, and what has come of it so far."""

    def __init__(self, pool: asyncpg.Pool, ledger: Ledger, *, is_applied: bool, confirm_on_accept: bool) -> None:
        self._pool = pool
        self._ledger = ledger
        self._confirm_on_accept = confirm_on_accept
        self._rows: set[tuple[str, str, str | None]] = set()
        self._unreadable: set[int] = set()
        self._shared: tuple[tuple[int, int, Position], Again] | None = None
        self.told = Replayed(ledger=ledger.name, applied=is_applied)

    async def limits(self, narrowed: ReplayFilter) -> tuple[Position, Position]:
        """The positions between which the deliveries lie that were asked for."""
        async with self._pool.acquire() as connection:
            until = await connection.fetchval(SQL["read_standing"], self._ledger.ledger_id, REREAD_NAMES) or 0
            after = narrowed.after
            if narrowed.recorded_from is not None:
                after = max(after, await self._before(connection, narrowed.recorded_from))
            if narrowed.recorded_before is not None:
                until = min(until, await self._before(connection, narrowed.recorded_before))
        return after, Position(until if narrowed.until is None else min(until, narrowed.until))

    async def _before(self, connection: Connection, moment: datetime) -> Position:
        """The last position that was recorded before that moment."""
        return await read_position_as_of(connection, self._ledger.ledger_id, moment - datetime.resolution)

    async def read_stretch(self, narrowed: ReplayFilter, after: Position, end: Position) -> Position:
        """What follows a position has been read again; returns up to where."""
        async with self._pool.acquire() as connection:
            chosen = await connection.fetch(SQL["choose_deliveries"], *self._arguments(narrowed, after, end))
            linking = await self._linking(connection, chosen)
        positions = [row["position"] for row in chosen]
        if positions:
            self.told.deliveries += len(positions)
            named = {stream for row in chosen if row["named"] for stream in _streams_named(row["named"])}
            await self._read_again([*positions, *linking], frozenset(named))
        return positions[-1] if len(positions) == BATCH_DELIVERIES else end

    def _arguments(self, narrowed: ReplayFilter, after: Position, end: Position) -> tuple[object, ...]:
        triggers, booking = narrowed.triggers, narrowed.booking
        return (
            self._ledger.ledger_id,
            after,
            end,
            triggers,
            [TOPICS.get(trigger, UNRECOGNISED_TOPIC) for trigger in triggers or ()],
            booking,
            [] if booking is None else _streams_named(booking),
            narrowed.status,
            RECOGNISED if narrowed.is_unrecognised else None,
            UNRECOGNISED_TOPIC,
            narrowed.event_ids,
            BATCH_DELIVERIES,
        )

    async def _linking(self, connection: Connection, chosen: Sequence[asyncpg.Record]) -> list[Position]:
        """Where the events are by which a person gave deliveries to their bookings: they mean what those mean."""
        return [
            link.linked.position
            for row in chosen
            if row["stream_id"].startswith("unattributed-")
            for link in await read_links(connection, self._ledger, row["event_id"])
        ]

    async def _read_again(self, positions: Sequence[Position], named: frozenset[StreamId]) -> None:
        """`named`: the bookings that the events at these positions were taken to be about before."""
        async with self._pool.acquire() as connection:
            parked = await connection.fetch(SQL["find_parked"], self._ledger.ledger_id, positions)
        self.told.parked += len(parked)
        if not self.told.applied:
            self.told.parked_left += len(parked)
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                live = await connection.fetch(SQL["read_live"], self._ledger.ledger_id, REREAD_NAMES)
                await self._settle_all(connection, live, positions, named)
            return
        await self._retry([(row["projection"], row["position"]) for row in parked])
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["hold_generations"])
            building = await connection.fetchval(SQL["find_building"])
            if building is not None:
                raise RebuildUnderWay(building)
            sleep = f"{leases.LEASE_SECONDS * 1000:.0f}ms"
            live = await connection.fetch(SQL["lock_live"], self._ledger.ledger_id, REREAD_NAMES, sleep)
            await self._settle_all(connection, live, positions, named)

    async def _settle_all(
        self,
        connection: Connection,
        live: Sequence[asyncpg.Record],
        positions: Sequence[Position],
        named: frozenset[StreamId],
    ) -> None:
        """Bodies are read under the lock: what somebody erases meanwhile is cleared from the tables after us."""
        self._shared = None
        standing = {row["projection"]: row for row in live}
        events = await self._read(connection, sorted(positions))
        named |= await facts.read_streams(connection, events, self._ledger)
        for projection in REREAD:
            if projection.name in standing:
                await self._settle(connection, projection, standing[projection.name], events, named)

    async def _read(self, connection: Connection, positions: Sequence[Position]) -> list[RecordedEvent]:
        """The events at these positions, in order: all at once where they lie close together."""
        ledger_id, before = self._ledger.ledger_id, Position(positions[0] - 1)
        count, wanted = positions[-1] - before, {*positions}
        if count <= 2 * len(positions):
            events = await read_log(connection, ledger_id, after=before, events_max=count)
            return [event for event in events if event.position in wanted]
        apart = [await read_log(connection, ledger_id, after=Position(one - 1), events_max=1) for one in positions]
        return [event for (event,) in apart]

    async def _retry(self, parked: Sequence[tuple[str, int]]) -> None:
        """What a projection could not apply is in its tables now, or stays parked with its new error."""
        for name in dict(parked):
            positions = [position for projection, position in parked if projection == name]
            retried = await retry_parked(
                self._pool, self._ledger, BY_NAME[name], positions, confirm_on_accept=self._confirm_on_accept
            )
            self.told.parked_left += len(retried.failed)

    async def _settle(
        self,
        connection: Connection,
        projection: Projection,
        live: asyncpg.Record,
        events: Sequence[RecordedEvent],
        named: frozenset[StreamId],
    ) -> None:
        """What differs in one read model is told, and written where that is asked for."""
        standing = Position(live["position"])
        await point_at(connection, projection.name, live["generation"])
        reached = [event for event in events if event.position <= standing]
        await self._settle_or_halve(connection, projection, reached, standing, named)

    async def _settle_or_halve(
        self,
        connection: Connection,
        projection: Projection,
        events: Sequence[RecordedEvent],
        standing: Position,
        named: frozenset[StreamId],
    ) -> None:
        """An event that cannot be read, or written, is told of; the others are settled."""
        if not events:
            return
        try:
            async with connection.transaction():
                again = await self._once_more(connection, events, standing, named)
                found = await self._settle_once(connection, projection, again)
        except Exception as error:
            if is_database_trouble(error):
                raise
            if len(events) == 1:
                self._tell_unreadable(events[0], error)
                return
            middle = len(events) // 2
            for half in (events[:middle], events[middle:]):
                await self._settle_or_halve(connection, projection, half, standing, frozenset())
        else:
            self._tell_differing(found)

    async def _once_more(
        self, connection: Connection, events: Sequence[RecordedEvent], standing: Position, named: frozenset[StreamId]
    ) -> Again:
        """The page depends on the log up to a position alone, so projections that stand there share it."""
        key = events[0].position, len(events), standing
        if self._shared is None or self._shared[0] != key:
            again = await read_once_more(
                connection, self._ledger, events, named, up_to=standing, confirm_on_accept=self._confirm_on_accept
            )
            self._shared = key, again
        return self._shared[1]

    async def _settle_once(self, connection: Connection, projection: Projection, again: Again) -> list[Differing]:
        if projection.compare is None or projection.rewrite is None:
            return []
        found = await projection.compare(connection, again.page, again.gone)
        if found and self.told.applied:
            await projection.rewrite(connection, again.page, keys_of(found))
            log.info("rows_rewritten", projection=projection.name, rows=len(found))
        return found

    def _tell_differing(self, found: Sequence[Differing]) -> None:
        told = self.told
        for one in found:
            mark = (one.read_model, one.key, one.part)
            if mark in self._rows:
                continue
            self._rows.add(mark)
            told.differing[one.read_model] = told.differing.get(one.read_model, 0) + 1
            if one.read_model != "facts" and len(told.rows) < TOLD_MAX:
                told.rows.append(one)

    def _tell_unreadable(self, event: RecordedEvent, error: Exception) -> None:
        if event.position in self._unreadable:
            return
        self._unreadable.add(event.position)
        self.told.unreadable += 1
        if len(self.told.failures) < TOLD_MAX:
            self.told.failures.append(Unreadable(position=event.position, error=error_told(error)))


def _streams_named(name: str) -> list[StreamId]:
    """The streams of the booking that goes by this name."""
    is_number = name.isascii() and name.isdigit() and len(name) < DIGITS_MAX
    return [booking_stream(name), *([number_stream(int(name))] if is_number else [])]
