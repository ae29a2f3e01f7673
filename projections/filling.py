"""Filling a new generation: one process of several, each taking range after range of the log until none is left.

A range is filled in one transaction with the mark that it is done, and claimed by a lock that goes with the process. So
a process may be killed at any moment: what it was at is there whole, or not at all and free for another.

A range of bookings holds those that began in it, each whole, whatever later positions its events have. Nearly every
booking stands for itself; those that belong to a chain are gathered as the runner gathers them. Bookings that began
under their number come last (`fill_numbered`), when it can be said which numbers have a uid.

    python -m projections.filling    what to do comes as a line of JSON on standard input
"""

import asyncio
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.facts import Dated
from ledger.folding import fold, link_chain
from ledger.history import NumberLookup, load_histories, read_event
from ledger.keyring import NOTHING_SET, Sealing
from ledger.postgres import Connection, connect, is_database_trouble
from ledger.readings import Reading
from ledger.sealing import opened_keyring
from ledger.sql import load_statements
from ledger.store import (
    Ledger,
    RecordedEvent,
    read_begun,
    read_ledgers,
    read_log,
    read_number_streams,
    read_streams,
)
from ledger.vocabulary import LedgerId, Position, StreamId
from projections import facts
from projections.aside import read_order, while_wanted
from projections.calendar_events import number_lookup, number_lookup_here
from projections.catalogue import BY_NAME
from projections.generations import SHOWN_FIRST, Place, SyncedAt, point_at, read_visibility
from projections.namesakes import without_namesakes
from projections.pace import rest
from projections.pages import NUMBERS_KEPT_MAX
from projections.parked import error_told, park_event
from projections.projection import Chunk

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NUMBERED_AT_ONCE = 2_000
STATEMENT_SECONDS_MAX = 3_600.0
GARBAGE_THRESHOLD = 100_000
"""What is made here lives for one range; looking for cycles more often than this finds none and costs a tenth."""

log = structlog.get_logger()


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told to fill. `dsn` leads past any pooler."""

    dsn: str
    projection: str
    generation: int
    confirm_on_accept: bool
    sealing: Sealing = NOTHING_SET


class _Range(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a log; the generation will stand at `up_to`."""

    ledger: Ledger
    after: Position
    last: Position
    up_to: Position


class Filler:
    """Fills ranges of one generation on one connection."""

    def __init__(self, connection: Connection, order: Order) -> None:
        self._connection = connection
        self._projection = BY_NAME[order.projection]
        self._order = order
        self._ledgers: Mapping[LedgerId, Ledger] = {}
        self._synced_at: dict[LedgerId, SyncedAt] = {}
        self._numbers: dict[LedgerId, set[StreamId] | None] = {}

    async def fill_ranges(self) -> None:
        """No range is left, or the rebuild was paused or cancelled."""
        await self._connection.execute(SQL["prepare_session"])
        ledgers = await read_ledgers(self._connection)
        self._ledgers = {ledger.ledger_id: ledger for ledger in ledgers.values()}
        begun = time.monotonic()
        while await self._fill_range():
            await rest(self._connection, since=begun)
            begun = time.monotonic()

    async def _fill_range(self) -> bool:
        name, generation = self._order.projection, self._order.generation
        async with self._connection.transaction():
            row = await self._connection.fetchrow(SQL["claim_range"], name, generation)
            if row is None:
                return False
            claimed = _Range(
                ledger=self._ledgers[row["ledger_id"]],
                after=row["after_position"],
                last=row["last_position"],
                up_to=row["up_to"],
            )
            await point_at(self._connection, name, generation)
            if self._projection.of == "bookings":
                bookings = await self._bookings(claimed)
                await self.fill(await self._chunk(claimed.ledger, bookings=bookings))
            else:
                count = claimed.last - claimed.after
                events = await read_log(
                    self._connection, claimed.ledger.ledger_id, after=claimed.after, events_max=count
                )
                told = await self._understood(claimed.ledger, events)
                chunk = await self._chunk(claimed.ledger)
                await self.fill(
                    msgspec.structs.replace(
                        chunk, events=[event for event, _ in told], readings=[reading for _, reading in told]
                    )
                )
            await self._connection.execute(
                SQL["finish_range"], name, generation, claimed.ledger.ledger_id, claimed.after
            )
        return True

    async def _bookings(self, claimed: _Range) -> list[Booking]:
        """The bookings that began in the range, as of where the generation will stand."""
        ledger, up_to = claimed.ledger, claimed.up_to
        if await facts.are_known(self._connection, ledger, up_to=up_to):
            return await self._bookings_by_facts(claimed)
        readings = await self._readings(claimed)
        return await self._gathered(ledger, readings.keys(), readings, up_to)

    async def _bookings_by_facts(self, claimed: _Range) -> list[Booking]:
        """The same from what is kept of the bodies; nearly all of them without a look at any other."""
        ledger, up_to = claimed.ledger, claimed.up_to
        told = await facts.read_begun(self._connection, ledger, after=claimed.after, until=claimed.last, up_to=up_to)
        alone = {stream_id: said for stream_id, said in told.items() if said}
        numbers = await self._number_streams(ledger, up_to, alone)
        if numbers:
            alone = {stream_id: said for stream_id, said in alone.items() if numbers.isdisjoint(_numbers(said))}
        folded = _fold_each(alone)
        together = told.keys() - folded.keys()
        readings = await facts.read_readings(self._connection, ledger, together, up_to=up_to)
        named = {one for said in readings.values() for reading in said for one in (*reading.chain, *reading.glances)}
        readings |= await facts.read_readings(self._connection, ledger, named - readings.keys(), up_to=up_to)
        return [*folded.values(), *await self._gathered(ledger, together, readings, up_to)]

    async def _number_streams(
        self, ledger: Ledger, up_to: Position, told: Mapping[StreamId, Iterable[Dated]]
    ) -> set[StreamId]:
        """The streams named by numbers that there are; where they are too many, those of these bookings' numbers."""
        if ledger.ledger_id not in self._numbers:
            self._numbers[ledger.ledger_id] = await read_number_streams(
                self._connection, ledger.ledger_id, up_to=up_to, streams_max=NUMBERS_KEPT_MAX
            )
        known = self._numbers[ledger.ledger_id]
        if known is not None:
            return known
        numbered = {number for said in told.values() for number in _numbers(said)}
        rows = await self._connection.fetch(SQL["find_streams"], ledger.ledger_id, list(numbered), up_to)
        return {row["stream_id"] for row in rows}

    async def _readings(self, claimed: _Range) -> dict[StreamId, list[Reading]]:
        """What the bodies say of the bookings that began in the range."""
        ledger, up_to = claimed.ledger, claimed.up_to
        events = await read_begun(
            self._connection, ledger.ledger_id, after=claimed.after, until=claimed.last, up_to=up_to
        )
        told = await self._understood(ledger, events)
        readings: dict[StreamId, list[Reading]] = defaultdict(list)
        for event, reading in told:
            readings[event.stream_id].append(reading)
        if len(told) < len(events):
            understood = {event.position for event, _ in told}
            for stream_id in {event.stream_id for event in events if event.position not in understood}:
                readings.pop(stream_id, None)
        return readings

    async def _understood(
        self, ledger: Ledger, events: Sequence[RecordedEvent]
    ) -> Sequence[tuple[RecordedEvent, Reading]]:
        """Each event with what it says; without those that cannot be understood, which are parked."""
        told = []
        for event in events:
            try:
                told.append((event, read_event(event)))
            except Exception as error:
                await self._park(ledger, event, error)
        return told

    async def _gathered(
        self,
        ledger: Ledger,
        stream_ids: Collection[StreamId],
        known: Mapping[StreamId, Sequence[Reading]],
        up_to: Position,
    ) -> list[Booking]:
        """The bookings of these streams, each with its whole chain in view; none that turned out to be another's.

        Without those that cannot be told, whose last events are parked.
        """
        if not stream_ids:
            return []
        try:
            async with self._connection.transaction():
                histories = await load_histories(
                    self._connection,
                    ledger.ledger_id,
                    stream_ids,
                    up_to=up_to,
                    look_up_numbers=self._number_lookup(ledger),
                    known=known,
                )
                histories = await without_namesakes(self._connection, ledger, histories, up_to=up_to)
        except Exception as error:
            if is_database_trouble(error):
                raise
            in_order = sorted(stream_ids)
            if len(in_order) == 1:
                events = await read_streams(self._connection, ledger.ledger_id, in_order, up_to=up_to)
                await self._park(ledger, events[-1], error)
                return []
            middle = len(in_order) // 2
            first = await self._gathered(ledger, set(in_order[:middle]), known, up_to)
            return [*first, *await self._gathered(ledger, set(in_order[middle:]), known, up_to)]
        return [booking for stream_id, booking in histories.bookings.items() if stream_id in stream_ids]

    async def fill_numbered(self, ledger: Ledger, *, up_to: Position) -> None:
        """The bookings that began under their number, and go by it still, are in the tables."""
        after = Position(0)
        while True:
            rows = await self._connection.fetch(SQL["read_numbered"], ledger.ledger_id, after, up_to, NUMBERED_AT_ONCE)
            if not rows:
                return
            after = rows[-1]["position"]
            bookings = await self._gathered(ledger, {StreamId(row["stream_id"]) for row in rows}, {}, up_to)
            await self.fill(await self._chunk(ledger, bookings=bookings))

    def _number_lookup(self, ledger: Ledger) -> NumberLookup:
        """From the tables being filled where they can tell, so that what was wrong in the old ones does no harm."""
        here = self._order.projection == SHOWN_FIRST
        return (number_lookup_here if here else number_lookup)(self._connection, ledger)

    async def _chunk(self, ledger: Ledger, *, bookings: Sequence[Booking] = ()) -> Chunk:
        if ledger.ledger_id not in self._synced_at:
            self._synced_at[ledger.ledger_id] = await read_visibility(self._connection, ledger)
        return Chunk(
            ledger=ledger,
            bookings=bookings,
            synced_at=self._synced_at[ledger.ledger_id],
            confirm_on_accept=self._order.confirm_on_accept,
        )

    async def fill(self, chunk: Chunk) -> None:
        """The chunk is in the tables, but for what cannot be, which is parked. Halves what fails until one is left."""
        if not chunk.bookings and not chunk.events:
            return
        try:
            async with self._connection.transaction():
                await self._projection.fill(self._connection, chunk)
        except Exception as error:
            if is_database_trouble(error):
                raise
            parts = _halves(chunk)
            if parts is None:
                await self._park(chunk.ledger, await self._last_event(chunk), error)
                return
            for part in parts:
                await self.fill(part)

    async def _last_event(self, chunk: Chunk) -> RecordedEvent:
        """The only event of the chunk, or the last one that says something of its only booking."""
        if chunk.events:
            return chunk.events[0]
        before = Position(chunk.bookings[0].last_position - 1)
        (event,) = await read_log(self._connection, chunk.ledger.ledger_id, after=before, events_max=1)
        return event

    async def _park(self, ledger: Ledger, event: RecordedEvent, error: Exception) -> None:
        log.error("event_parked", projection=self._projection.name, position=event.position, error=type(error).__name__)
        place = Place(projection=self._projection, generation=self._order.generation, position=event.position)
        await park_event(self._connection, ledger, place, event, told=error_told(error), tried=1)


def _halves(chunk: Chunk) -> tuple[Chunk, Chunk] | None:
    """The chunk in two; None where it holds but one booking or event."""
    if len(chunk.bookings) + len(chunk.events) <= 1:
        return None
    replace = msgspec.structs.replace
    at, middle = len(chunk.bookings) // 2, len(chunk.events) // 2
    return (
        replace(chunk, bookings=chunk.bookings[:at], events=chunk.events[:middle], readings=chunk.readings[:middle]),
        replace(chunk, bookings=chunk.bookings[at:], events=chunk.events[middle:], readings=chunk.readings[middle:]),
    )


def _fold_each(told: Mapping[StreamId, Sequence[Dated]]) -> dict[StreamId, Booking]:
    """Bookings of which each stands for itself; none of them where one cannot be told, for that one has to be found."""
    try:
        folded = {stream_id: fold(stream_id, said) for stream_id, said in told.items()}
        link_chain(folded, booking_stream)
    except Exception as error:
        log.warning("booking_not_folded", error=type(error).__name__)
        return {}
    return folded


def _numbers(said: Iterable[Dated]) -> set[StreamId]:
    """The streams of the numbers that a booking was called by."""
    numbers = {dated.fact.details.number for dated in said}
    return {number_stream(number) for number in numbers if number is not None}


async def _run(order: Order) -> None:
    async with opened_keyring(order.sealing) as keyring:
        connection = await connect(order.dsn, statement_seconds_max=STATEMENT_SECONDS_MAX, keyring=keyring)
        try:
            await Filler(connection, order).fill_ranges()
        finally:
            connection.terminate()


def main() -> None:
    """What standard input orders has been done as far as there is anything to do."""
    order = read_order(Order)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the driver's
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    asyncio.run(while_wanted(_run(order)))


if __name__ == "__main__":
    main()
