"""Bookings read from the log: every event of theirs decoded, every booking of the same chain along with it.

A booking's facts lie in several streams: its own, those of bookings that replaced it, and the one that carries its
number where a body named nothing else. Starting from any of them the whole chain is gathered, however it arrived.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import (
    BOOKING_STREAM_PREFIX,
    NUMBER_STREAM_PREFIX,
    booking_stream,
    number_stream,
    open_envelope,
)
from ledger.calcom.meaning import meaning_of
from ledger.calcom.observation import OBSERVED_TOPIC, read_observation
from ledger.errors import BodyUnreadable
from ledger.facts import AnyFact, Dated, Redacted
from ledger.folding import fold, link_chain
from ledger.links import LINK_TOPICS, LINKED_TOPIC, UNLINKED_TOPIC, read_link, read_linked, read_unlinked
from ledger.postgres import Connection
from ledger.readings import Reading, chain_of, is_alone, is_number_stream, numbers_said, replaces, same_chain, standing
from ledger.redaction import REDACTED_TOPIC, read_redaction, unfold
from ledger.store import TURN_EVENTS, RecordedEvent, read_streams
from ledger.vocabulary import LedgerId, Position, StreamId

WEBHOOK_TOPICS = "calcom."
CHAIN_LENGTH_MAX = 1_000
"""Each round of reading gets one booking further along a chain, in both directions; what is at hand is not read."""

NOTHING_KNOWN: Mapping[StreamId, Sequence[Reading]] = MappingProxyType({})

NumberLookup = Callable[[Sequence[int]], Awaitable[dict[int, StreamId]]]
"""Which of these numbers belong to a booking whose uid is known, and to which stream: a hint, it may know too much."""


Stated = Iterable[tuple[StreamId, AnyFact]]


class Histories(msgspec.Struct, frozen=True, kw_only=True):
    """Folded bookings by stream, and their facts. `merged`: streams known by number that turned out to be another's.

    `readings`: what all the streams said that were looked at on the way, up to the position asked for.
    """

    bookings: dict[StreamId, Booking]
    facts: dict[StreamId, list[Dated]]
    merged: dict[StreamId, StreamId]
    readings: Mapping[StreamId, Sequence[Reading]]


def read_event(event: RecordedEvent) -> Reading:
    """What the event means; no facts for an event that is about no booking, nor for one that was erased.

    Raises BodyUnreadable.
    """
    if event.fault is not None:
        raise BodyUnreadable(event.fault)
    if event.is_erased:
        return Reading(position=event.position)
    if event.topic in LINK_TOPICS or event.topic == UNLINKED_TOPIC:
        return _read_link(event)
    if event.topic == REDACTED_TOPIC:
        return _read_redacted(event)
    if event.topic == OBSERVED_TOPIC:
        return _read(event, [read_observation(event.body)], trigger=event.topic, occurred_at=event.occurred_at)
    if event.topic == LINKED_TOPIC:
        envelope = read_linked(event.stream_id, event.body)
    elif event.topic.startswith(WEBHOOK_TOPICS):
        envelope = open_envelope(event.body)
    else:
        return Reading()
    reading = _read(
        event,
        meaning_of(envelope),
        trigger=envelope.trigger or event.topic,
        occurred_at=envelope.occurred_at or event.occurred_at,
    )
    reading.trigger = envelope.trigger
    reading.named = envelope.uid or (None if envelope.number is None else str(envelope.number))
    reading.error = envelope.error
    return reading


def _read_link(event: RecordedEvent) -> Reading:
    if event.topic == UNLINKED_TOPIC:
        unlinked = read_unlinked(event.body)
        return Reading(chain=unlinked.about, voids=unlinked.event.bytes, position=event.position)
    return Reading(chain=(event.stream_id,), glances=(read_link(event.body).by_stream,), position=event.position)


def _read_redacted(event: RecordedEvent) -> Reading:
    redaction = read_redaction(event.body)
    reading = reading_of(
        [(event.stream_id, redaction.redacted)],
        digest=event.event_id.bytes,
        position=event.position,
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        trigger=event.topic,
        chain=redaction.chain,
        glances=redaction.glances,
    )
    reading.trigger = redaction.trigger
    return reading


def _read(event: RecordedEvent, stated: Stated, *, trigger: str, occurred_at: datetime) -> Reading:
    reading = reading_of(
        stated,
        digest=event.event_id.bytes,
        position=event.position,
        occurred_at=occurred_at,
        recorded_at=event.recorded_at,
        trigger=trigger,
    )
    reading.alone = is_alone(event.stream_id, reading.facts, reading.chain)
    return reading


def reading_of(
    stated: Stated,
    *,
    digest: bytes,
    position: int,
    occurred_at: datetime,
    recorded_at: datetime,
    trigger: str,
    chain: tuple[StreamId, ...] | None = None,
    glances: tuple[StreamId, ...] = (),
) -> Reading:
    """The stated facts in their place; `chain` is what follows from them unless it is given.

    Of a redaction the facts are those that it kept.
    """
    facts = tuple(
        [
            (
                stream_id,
                Dated(
                    occurred_at=occurred_at,
                    rank=fact.rank,
                    digest=digest,
                    position=position,
                    recorded_at=recorded_at,
                    trigger=trigger,
                    fact=fact,
                ),
            )
            for stream_id, fact in stated
        ]
    )
    redacted = facts[0][1].fact if facts else None
    if not isinstance(redacted, Redacted):
        redacted = None
    else:
        stream_id = facts[0][0]
        facts = unfold(
            stream_id,
            redacted,
            digest=digest,
            position=position,
            occurred_at=occurred_at,
            recorded_at=recorded_at,
            trigger=trigger,
        )
    return Reading(
        facts=facts,
        chain=chain_of(facts) if chain is None else chain,
        glances=glances,
        position=position,
        redacted=redacted,
    )


async def load_histories(
    connection: Connection,
    ledger_id: LedgerId,
    stream_ids: Collection[StreamId],
    *,
    up_to: Position,
    look_up_numbers: NumberLookup,
    valid_at: datetime | None = None,
    known: Mapping[StreamId, Sequence[Reading]] = NOTHING_KNOWN,
    number_streams: Collection[StreamId] | None = None,
) -> Histories:
    """The bookings of these streams and of their whole chains, from the events up to a position.

    `known` are streams that need not be read any more: all they hold up to the position. `valid_at` leaves out what
    happened after it. `number_streams` are all the streams of numbers up to the position, where somebody knows them.
    `look_up_numbers` is a hint where to look: a number belongs to a uid once a body up to the position says so. A chain
    longer than `CHAIN_LENGTH_MAX` is cut there: a booking beyond the cut, which has not been read, is left out, so that
    none is told by half.
    """
    if number_streams is not None:
        stream_ids = [one for one in stream_ids if one in number_streams or not is_number_stream(one)]
    alone, numbers = await _standing_alone(
        connection, ledger_id, stream_ids, up_to=up_to, known=known, number_streams=number_streams
    )
    gathered = _Gathered(set(stream_ids) - alone.keys() - {number for number, said in numbers.items() if not said})
    for _ in range(CHAIN_LENGTH_MAX):
        missing = gathered.take_missing(numbers, known)
        told = [one for one in missing if number_streams is None or one in number_streams or not is_number_stream(one)]
        for event in await read_streams(connection, ledger_id, told, up_to=up_to) if told else ():
            gathered.readings[event.stream_id].append(read_event(event))
        for stream_id in missing:
            gathered.readings[stream_id] = list(standing(gathered.readings[stream_id]))
        gathered.settle()
        unknown = gathered.take_unknown_numbers()
        if unknown:
            gathered.join((await look_up_numbers(unknown)).values())
        if gathered.is_whole():
            break
    chain = gathered.chain if gathered.is_whole() else gathered.chain & gathered.readings.keys()
    return await _fold(gathered.readings, chain, gathered.uid_streams, alone, valid_at)


async def _standing_alone(
    connection: Connection,
    ledger_id: LedgerId,
    stream_ids: Collection[StreamId],
    *,
    up_to: Position,
    known: Mapping[StreamId, Sequence[Reading]],
    number_streams: Collection[StreamId] | None,
) -> tuple[dict[StreamId, Sequence[Reading]], dict[StreamId, list[Reading]]]:
    """Of these bookings those that bear on no other: nearly all, and they need no looking around.

    And what is said under the numbers that they are called by: one whose number has a stream of its own is not among
    them.
    """
    candidates: dict[StreamId, Sequence[Reading]] = {}
    numbers_of: dict[StreamId, set[StreamId]] = {}
    spoken_of: set[StreamId] = set()
    for stream_id in stream_ids:
        said = known.get(stream_id)
        if said and not is_number_stream(stream_id) and all(reading.alone for reading in said):
            candidates[stream_id] = said
            if number_streams is None:
                numbers_of[stream_id] = {one for reading in said for one in reading.chain if one != stream_id}
            elif number_streams:
                numbers_of[stream_id] = {one for reading in said for one in reading.chain if one in number_streams}
        else:
            spoken_of |= {about for reading in said or () for about, _ in reading.facts}
    for stream_id in spoken_of & candidates.keys():
        del candidates[stream_id]
        numbers_of.pop(stream_id, None)
    numbers: dict[StreamId, list[Reading]] = {one: [] for named in numbers_of.values() for one in named}
    for event in await read_streams(connection, ledger_id, list(numbers), up_to=up_to) if numbers else ():
        numbers[event.stream_id].append(read_event(event))
    alone = {
        stream_id: said
        for stream_id, said in candidates.items()
        if not any(numbers[one] for one in numbers_of.get(stream_id, ()))
    }
    return alone, numbers


class _Gathered:
    """The streams that belong together, as far as their bodies have said so; each stream is looked at once.

    `chain` are the streams of the bookings asked for and of their chains; `glances` are read for what they say of them.
    """

    def __init__(self, stream_ids: Collection[StreamId]) -> None:
        self.chain = set(stream_ids)
        self.glances: set[StreamId] = set()
        self.readings: dict[StreamId, list[Reading]] = {}
        self.uid_streams: dict[StreamId, StreamId] = {}
        self._unread = list(self.chain)
        self._unsettled = list(self.chain)
        self._asked: set[StreamId] = set()
        self._numbers: list[StreamId] = [stream_id for stream_id in self.chain if is_number_stream(stream_id)]

    def is_whole(self) -> bool:
        """Whether nothing is left to read, nor to heed of what has been read."""
        return not self._unread and not self._unsettled

    def take_missing(self, *known: Mapping[StreamId, Sequence[Reading]]) -> list[StreamId]:
        """The streams that have to be read now; all have a place in `readings` afterwards."""
        missing = []
        for stream_id in self._unread:
            if stream_id in self.readings:
                continue
            found = next((told[stream_id] for told in known if stream_id in told), None)
            self.readings[stream_id] = [] if found is None else list(standing(found))
            if found is None:
                missing.append(stream_id)
        self._unread = []
        return missing

    def join(self, stream_ids: Iterable[StreamId]) -> None:
        """These belong to the chain."""
        for stream_id in stream_ids:
            if stream_id not in self.chain:
                self.chain.add(stream_id)
                self._unsettled.append(stream_id)
                if stream_id not in self.readings:
                    self._unread.append(stream_id)
                if is_number_stream(stream_id):
                    self._numbers.append(stream_id)

    def settle(self) -> None:
        """Everything that the streams read so far say about who belongs together has been heeded."""
        while True:
            settling = [stream_id for stream_id in self._unsettled if stream_id in self.readings]
            self._unsettled = [stream_id for stream_id in self._unsettled if stream_id not in self.readings]
            for stream_id in settling:
                self._heed(stream_id)
            self.join([one for one in self.glances - self.chain if self._has_replaced(one)])
            self.join([self.uid_streams[one] for one in self._numbers if one in self.uid_streams])
            if not any(stream_id in self.readings for stream_id in self._unsettled):
                return

    def _heed(self, stream_id: StreamId) -> None:
        readings = self.readings[stream_id]
        self.join(same_chain(readings))
        for reading in readings:
            for glance in reading.glances:
                if glance not in self.glances:
                    self.glances.add(glance)
                    if glance not in self.readings:
                        self._unread.append(glance)
        self.uid_streams |= numbers_said(readings)

    def _has_replaced(self, stream_id: StreamId) -> bool:
        return stream_id in self.readings and replaces(self.readings[stream_id], self.chain)

    def take_unknown_numbers(self) -> list[int]:
        """Numbers of the chain of which no body has said to what uid they belong, each once."""
        unknown = [one for one in self._numbers if one not in self.uid_streams and one not in self._asked]
        self._asked.update(unknown)
        return [_number_of(stream_id) for stream_id in unknown]


async def _fold(
    readings: dict[StreamId, list[Reading]],
    chain: set[StreamId],
    uid_streams: dict[StreamId, StreamId],
    alone: Mapping[StreamId, Sequence[Reading]],
    valid_at: datetime | None,
) -> Histories:
    """Others have their turn in between."""
    facts, merged = _facts_told(readings, chain, uid_streams, alone, valid_at)
    bookings = {}
    for count, (stream_id, told) in enumerate(facts.items(), 1):
        booking = fold(stream_id, told)
        if not booking.is_gone:
            bookings[stream_id] = booking
        if count % TURN_EVENTS == 0:
            await asyncio.sleep(0)
    for booking in bookings.values():
        booking.rescheduled_to = _uid_named(booking.rescheduled_to, uid_streams, bookings)
    link_chain(bookings, booking_stream)
    return Histories(bookings=bookings, facts=facts, merged=merged, readings={**alone, **readings})


def _facts_told(
    readings: Mapping[StreamId, Sequence[Reading]],
    chain: Collection[StreamId],
    uid_streams: Mapping[StreamId, StreamId],
    alone: Mapping[StreamId, Sequence[Reading]],
    valid_at: datetime | None,
) -> tuple[dict[StreamId, list[Dated]], dict[StreamId, StreamId]]:
    """What is told of each booking, and the streams known by number that turned out to be another's."""
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    for stream_id, said in alone.items():
        told = [dated for reading in said for _, dated in reading.facts]
        if valid_at is not None:
            told = [dated for dated in told if dated.occurred_at <= valid_at]
        if told and stream_id not in chain:
            facts[stream_id] = told
    merged: dict[StreamId, StreamId] = {}
    for said in readings.values():
        for stream_id, dated in (pair for reading in said for pair in reading.facts):
            if stream_id in uid_streams:
                merged[stream_id] = uid_streams[stream_id]
            if stream_id in chain and (valid_at is None or dated.occurred_at <= valid_at):
                facts[uid_streams.get(stream_id, stream_id)].append(dated)
    return dict(facts), merged


def _uid_named(name: str | None, uid_streams: Mapping[StreamId, StreamId], uids: Collection[StreamId]) -> str | None:
    """The uid of a booking that was named by number, once that is known; a uid may read like a number too."""
    if name is None or not (name.isascii() and name.isdigit()) or booking_stream(name) in uids:
        return name
    uid_stream = uid_streams.get(number_stream(int(name)))
    return name if uid_stream is None else uid_stream.removeprefix(BOOKING_STREAM_PREFIX)


def _number_of(stream_id: StreamId) -> int:
    return int(stream_id.removeprefix(NUMBER_STREAM_PREFIX))
