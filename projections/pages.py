"""Reading the log page by page, each event understood once, with the bookings that a page touches.

What an event says is kept beside the log in most cases (projections/facts.py); only the other bodies are decoded, and
opened only where somebody wants to see them.

A booking's earlier events are needed whenever a later one comes. What was read of late is kept at hand, so that a body
is neither fetched nor decoded again as long as its booking goes on being talked of. Kept readings are complete up to
the end of the last page; they are dropped when the next page does not follow on from there, and when one fails.
"""

import asyncio
from collections import ChainMap, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec
import structlog

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.history import WEBHOOK_TOPICS, NumberLookup, load_histories, read_event
from ledger.postgres import Connection, is_database_trouble
from ledger.readings import Reading, is_number_stream
from ledger.store import (
    TURN_EVENTS,
    Ledger,
    RecordedEvent,
    read_events_at,
    read_log,
    read_number_streams,
    read_outlines,
    read_streams,
)
from ledger.vocabulary import LedgerId, Position, StreamId
from projections import facts
from projections.calendar_events import number_lookup
from projections.generations import read_visibility
from projections.namesakes import without_namesakes
from projections.projection import Page

READINGS_KEPT_MAX = 30_000
NUMBERS_KEPT_MAX = 100_000
STREAM_READINGS_KEPT_MAX = 200

log = structlog.get_logger()

Readings = Mapping[StreamId, Sequence[Reading]]


class _Recent(msgspec.Struct, kw_only=True):
    """What is at hand of one ledger: streams, whole up to `end`, the longest untouched first."""

    end: Position
    numbers: set[StreamId] | None
    """All streams of numbers up to there; None where they are too many to keep."""
    streams: OrderedDict[StreamId, Sequence[Reading]]
    weight: int = 0
    """A reading weighs one, and so does a stream."""

    async def keep(self, readings: Readings) -> None:
        """These are whole up to the new end. Others have their turn in between."""
        for count, (stream_id, told) in enumerate(readings.items(), 1):
            self.drop(stream_id)
            if len(told) <= STREAM_READINGS_KEPT_MAX:
                self.streams[stream_id] = told
                self.weight += len(told) + 1
            while self.weight > READINGS_KEPT_MAX:
                self.drop(next(iter(self.streams)))
            if count % TURN_EVENTS == 0:
                await asyncio.sleep(0)

    def heed_numbers(self, events: Iterable[RecordedEvent]) -> None:
        """The streams of numbers that begin with these events are known."""
        begun = [one.stream_id for one in events if one.stream_version == 1 and is_number_stream(one.stream_id)]
        if self.numbers is not None:
            self.numbers.update(begun)
            if len(self.numbers) > NUMBERS_KEPT_MAX:
                self.numbers = None

    def drop(self, stream_id: StreamId) -> None:
        dropped = self.streams.pop(stream_id, None)
        if dropped is not None:
            self.weight -= len(dropped) + 1


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events, and what each says where that was found out already; where not, they have their bodies."""

    events: Sequence[RecordedEvent]
    readings: Sequence[Reading] | None = None

    def until(self, position: Position | None) -> "Stretch":
        """Those of the events that are no further than this; None: all."""
        if position is None or not self.events or self.events[-1].position <= position:
            return self
        return self.part(0, max(position - self.events[0].position + 1, 0))

    def part(self, begin: int, end: int) -> "Stretch":
        """Some of the events, by their places here."""
        return Stretch(events=self.events[begin:end], readings=self.readings and self.readings[begin:end])


async def read_stretch(
    connection: Connection, ledger: Ledger, *, after: Position, events_max: int, bodies: bool
) -> Stretch:
    """What follows `after`, with what it says; without, where an event cannot be understood.

    `bodies`: with all of them. Others have their turn in between.
    """
    try:
        return await _read_stretch(connection, ledger, after, events_max, bodies=bodies)
    except Exception as error:
        if is_database_trouble(error):
            raise
        log.warning("event_not_understood", error=type(error).__name__)
    return Stretch(events=await read_log(connection, ledger.ledger_id, after=after, events_max=events_max))


async def _read_stretch(
    connection: Connection, ledger: Ledger, after: Position, events_max: int, *, bodies: bool
) -> Stretch:
    kept = await facts.read_page(connection, ledger, after=after, until=Position(after + events_max))
    read = read_log if bodies else read_outlines
    events = await read(connection, ledger.ledger_id, after=after, events_max=events_max)
    readings: list[Reading | None] = []
    for begin in range(0, len(events), TURN_EVENTS):
        readings += [_known(event, kept.get(event.position)) for event in events[begin : begin + TURN_EVENTS]]
        await asyncio.sleep(0)
    places = [at for at, reading in enumerate(readings) if reading is None]
    if places and not bodies:
        found = await read_events_at(connection, ledger.ledger_id, [events[at].position for at in places])
        for at, event in zip(places, found, strict=True):
            events[at] = event
    for at, reading in zip(places, await _read_events([events[at] for at in places]), strict=True):
        readings[at] = reading
    return Stretch(events=events, readings=cast("list[Reading]", readings))


def _known(event: RecordedEvent, kept: Reading | None) -> Reading | None:
    """What is kept of a delivery, as if its body had been decoded; None where that has to be done.

    A body that says something names its booking, and that on whose stream it lies.
    """
    if kept is None or not kept.facts or not event.topic.startswith(WEBHOOK_TOPICS):
        return None
    if event.is_erased or event.fault is not None:
        return None
    kept.trigger = kept.facts[0][1].trigger
    kept.named = event.stream_id.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX)
    return kept


class PageReader:
    """Reads the pages of one worker."""

    def __init__(self, *, confirm_on_accept: bool) -> None:
        self._confirm_on_accept = confirm_on_accept
        self._recent: dict[LedgerId, _Recent] = {}

    async def prepare(
        self, connection: Connection, ledger: Ledger, stretch: Stretch, *, written: asyncio.Event
    ) -> Page | None:
        """The page of these events, while what comes before them is being written; `written` is set once it is.

        None where it cannot be told: what is the matter is found by who applies them.
        """
        if not stretch.events or stretch.readings is None:
            return None

        async def look_up(numbers: Sequence[int]) -> dict[int, StreamId]:
            await written.wait()
            return await number_lookup(connection, ledger)(numbers)

        try:
            return await self.page(connection, ledger, stretch, look_up_numbers=look_up)
        except Exception as error:
            if is_database_trouble(error):
                raise
            log.warning("page_not_prepared", end=stretch.events[-1].position, error=type(error).__name__)
        return None

    async def page(
        self, connection: Connection, ledger: Ledger, stretch: Stretch, *, look_up_numbers: NumberLookup | None = None
    ) -> Page:
        """The page of these events. `look_up_numbers`: unless in the tables as they are now."""
        events = stretch.events
        after, end = Position(events[0].position - 1), events[-1].position
        recent = self._recent.pop(ledger.ledger_id, None)
        if recent is None or recent.end != after:
            numbers = await read_number_streams(connection, ledger.ledger_id, up_to=after, streams_max=NUMBERS_KEPT_MAX)
            recent = _Recent(end=after, numbers=numbers, streams=OrderedDict())
        readings = stretch.readings if stretch.readings is not None else await _read_events(events)
        told = _by_stream(events, readings)
        recent.heed_numbers(events)
        earlier = await _earlier(connection, ledger, events, told, recent.streams)
        spoken: dict[StreamId, Sequence[Reading]] = {
            stream_id: [*earlier[stream_id], *said] for stream_id, said in told.items()
        }
        histories = await load_histories(
            connection,
            ledger.ledger_id,
            _touched(events, readings),
            up_to=end,
            look_up_numbers=look_up_numbers or number_lookup(connection, ledger),
            known=ChainMap(spoken, recent.streams),
            number_streams=recent.numbers,
        )
        for stream_id in told:
            recent.drop(stream_id)
        await recent.keep(histories.readings)
        recent.end = end
        self._recent[ledger.ledger_id] = recent
        return Page(
            ledger=ledger,
            events=events,
            readings=readings,
            histories=await without_namesakes(connection, ledger, histories, up_to=end),
            synced_at=_when_recorded,
            confirm_on_accept=self._confirm_on_accept,
        )


async def read_again(
    connection: Connection,
    ledger: Ledger,
    events: Sequence[RecordedEvent],
    *,
    up_to: Position,
    confirm_on_accept: bool,
    also: Collection[StreamId] = (),
) -> Page:
    """A page of events that were applied, or should have been, before: its bookings are what they are at `up_to`.

    `also`: streams of further bookings. Each event's own is one of them where it is a booking's, whatever it says.
    """
    readings = [read_event(event) for event in events]
    own = {event.stream_id for event in events if event.stream_id.startswith(BOOKING_STREAM_PREFIX)}
    histories = await load_histories(
        connection,
        ledger.ledger_id,
        {*own, *also, *_touched(events, readings)},
        up_to=up_to,
        look_up_numbers=number_lookup(connection, ledger),
    )
    histories = await without_namesakes(connection, ledger, histories, up_to=up_to)
    positions = [event.position for event in events]
    first = min([*positions, *(booking.last_position for booking in histories.bookings.values())])
    return Page(
        ledger=ledger,
        events=events,
        readings=readings,
        histories=histories,
        synced_at=await read_visibility(connection, ledger, after=Position(first - 1)),
        confirm_on_accept=confirm_on_accept,
    )


def _when_recorded(_position: int, recorded_at: datetime) -> datetime:
    """Until it is known when the page became visible."""
    return recorded_at


async def _read_events(events: Sequence[RecordedEvent]) -> list[Reading]:
    readings: list[Reading] = []
    for begin in range(0, len(events), TURN_EVENTS):
        readings += map(read_event, events[begin : begin + TURN_EVENTS])
        await asyncio.sleep(0)
    return readings


def _by_stream(events: Sequence[RecordedEvent], readings: Sequence[Reading]) -> dict[StreamId, list[Reading]]:
    """What the page says, stream by stream, without what is about no booking."""
    told: dict[StreamId, list[Reading]] = {}
    for event, reading in zip(events, readings, strict=True):
        if reading.chain or reading.facts:
            told.setdefault(event.stream_id, []).append(reading)
    return told


async def _earlier(
    connection: Connection,
    ledger: Ledger,
    events: Sequence[RecordedEvent],
    told: Collection[StreamId],
    recent: Readings,
) -> dict[StreamId, Sequence[Reading]]:
    """What the page's streams said before it. Only a stream that neither began here nor is at hand is read."""
    earlier: dict[StreamId, Sequence[Reading]] = {}
    unread: dict[StreamId, list[Reading]] = {}
    for event in events:
        stream_id = event.stream_id
        if stream_id in earlier or stream_id not in told:
            continue
        if event.stream_version == 1:
            earlier[stream_id] = ()
        elif stream_id in recent:
            earlier[stream_id] = recent[stream_id]
        else:
            earlier[stream_id] = unread[stream_id] = []
    if unread:
        before = Position(events[0].position - 1)
        found = await read_streams(connection, ledger.ledger_id, list(unread), up_to=before)
        for event, reading in zip(found, await _read_events(found), strict=True):
            unread[event.stream_id].append(reading)
    return earlier


def _touched(events: Sequence[RecordedEvent], readings: Sequence[Reading]) -> set[StreamId]:
    """The streams whose bookings these readings may change.

    What an event says of its own booking alone may change the one that goes by its number, too: that is looked for
    along with it (`load_histories`).
    """
    touched: set[StreamId] = set()
    for event, reading in zip(events, readings, strict=True):
        if not reading.alone:
            touched.update([stream_id for stream_id, _ in reading.facts], reading.chain)
        elif reading.chain:
            touched.add(event.stream_id)
    return touched
