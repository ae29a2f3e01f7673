"""Bookings read from the log: every event of theirs decoded, every booking of the same chain along with it.

A booking's facts lie in several streams: its own, those of bookings that replaced it, and the one that carries its
number where a body named nothing else. Starting from any of them the whole chain is gathered, however it arrived.
"""

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
from ledger.facts import AnyFact, Dated, Observed, SeatLeft, SeatTaken, Superseded
from ledger.folding import fold, link_chain
from ledger.links import LINK_TOPICS, LINKED_TOPIC, read_link, read_linked
from ledger.postgres import Connection
from ledger.store import RecordedEvent, read_streams
from ledger.vocabulary import LedgerId, Position, StreamId

WEBHOOK_TOPICS = "calcom."
CHAIN_LENGTH_MAX = 100
"""Each round of reading gets one booking further along a chain, in both directions."""

NOTHING_KNOWN: Mapping[StreamId, Sequence["Reading"]] = MappingProxyType({})

NumberLookup = Callable[[Sequence[int]], Awaitable[dict[int, StreamId]]]
"""Which of these numbers belong to a booking whose uid is known, and to which stream: a hint, it may know too much."""


Stated = Iterable[tuple[StreamId, AnyFact]]


class Reading(msgspec.Struct, kw_only=True, gc=False):
    """What one event says: facts, each about one stream.

    `chain`: streams of the same chain; `glances`: streams whose bodies say more about this one. Whether those belong to
    its chain is for their bodies to say: a booking that replaced it does, a slot to which one seat went does not.
    `trigger`, `named` (the booking as the body names it) and `error` are those of a webhook's envelope.
    """

    facts: tuple[tuple[StreamId, Dated], ...] = ()
    chain: tuple[StreamId, ...] = ()
    glances: tuple[StreamId, ...] = ()
    trigger: str | None = None
    named: str | None = None
    error: str | None = None


class Histories(msgspec.Struct, frozen=True, kw_only=True):
    """Folded bookings by stream, and their facts. `merged`: streams known by number that turned out to be another's.

    `readings`: what all the streams said that were looked at on the way, up to the position asked for.
    """

    bookings: dict[StreamId, Booking]
    facts: dict[StreamId, list[Dated]]
    merged: dict[StreamId, StreamId]
    readings: dict[StreamId, list[Reading]]


def read_event(event: RecordedEvent) -> Reading:
    """What the event means; no facts for an event that is about no booking."""
    if event.topic in LINK_TOPICS:
        return Reading(chain=(event.stream_id,), glances=(read_link(event.body).by_stream,))
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


def _read(event: RecordedEvent, stated: Stated, *, trigger: str, occurred_at: datetime) -> Reading:
    return reading_of(
        stated,
        digest=event.event_id.bytes,
        position=event.position,
        occurred_at=occurred_at,
        recorded_at=event.recorded_at,
        trigger=trigger,
    )


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
    """The stated facts in their place; `chain` is what follows from them unless it is given."""
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
    return Reading(facts=facts, chain=_chain(facts) if chain is None else chain, glances=glances)


def _chain(facts: Iterable[tuple[StreamId, Dated]]) -> tuple[StreamId, ...]:
    """The streams that belong with these facts; a seat that moved ties no chain."""
    chain: list[StreamId] = []
    for stream_id, dated in facts:
        fact = dated.fact
        kind = fact.__class__
        if isinstance(fact, SeatLeft) and fact.moved_to_uid is not None:
            continue
        chain.append(stream_id)
        details = fact.details
        if details.number is not None:
            chain.append(number_stream(details.number))
        if details.previous_uid is not None and kind is not SeatTaken:
            chain.append(booking_stream(details.previous_uid))
        if isinstance(fact, Observed) and fact.rescheduled_to is not None:
            chain.append(booking_stream(fact.rescheduled_to))
    return tuple(chain)


async def load_histories(
    connection: Connection,
    ledger_id: LedgerId,
    stream_ids: Collection[StreamId],
    *,
    up_to: Position,
    look_up_numbers: NumberLookup,
    valid_at: datetime | None = None,
    known: Mapping[StreamId, Sequence[Reading]] = NOTHING_KNOWN,
) -> Histories:
    """The bookings of these streams and of their whole chains, from the events up to a position.

    `known` are streams that need not be read any more: all they hold up to the position. `valid_at` leaves out what
    happened after it. `look_up_numbers` is a hint where to look: a number belongs to a uid once a body up to the
    position says so. A chain longer than `CHAIN_LENGTH_MAX` is cut there.
    """
    gathered = _Gathered(stream_ids)
    for _ in range(CHAIN_LENGTH_MAX):
        missing = gathered.take_missing(known)
        for event in await read_streams(connection, ledger_id, missing, up_to=up_to) if missing else ():
            gathered.readings[event.stream_id].append(read_event(event))
        gathered.settle()
        unknown = gathered.take_unknown_numbers()
        if unknown:
            gathered.join((await look_up_numbers(unknown)).values())
        if gathered.is_whole():
            break
    return _fold(gathered.readings, gathered.chain, gathered.uid_streams, valid_at)


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
        self._numbers: list[StreamId] = [stream_id for stream_id in self.chain if _is_number_stream(stream_id)]

    def is_whole(self) -> bool:
        """Whether nothing is left to read, nor to heed of what has been read."""
        return not self._unread and not self._unsettled

    def take_missing(self, known: Mapping[StreamId, Sequence[Reading]]) -> list[StreamId]:
        """The streams that have to be read now; all have a place in `readings` afterwards."""
        missing = []
        for stream_id in self._unread:
            if stream_id in self.readings:
                continue
            found = known.get(stream_id)
            self.readings[stream_id] = [] if found is None else list(found)
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
                if _is_number_stream(stream_id):
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
        self.join(_same_chain(readings))
        for reading in readings:
            for glance in reading.glances:
                if glance not in self.glances:
                    self.glances.add(glance)
                    if glance not in self.readings:
                        self._unread.append(glance)
        self.uid_streams |= _numbers_said(readings)

    def _has_replaced(self, stream_id: StreamId) -> bool:
        return stream_id in self.readings and _replaces(self.readings[stream_id], self.chain)

    def take_unknown_numbers(self) -> list[int]:
        """Numbers of the chain of which no body has said to what uid they belong, each once."""
        unknown = [one for one in self._numbers if one not in self.uid_streams and one not in self._asked]
        self._asked.update(unknown)
        return [_number_of(stream_id) for stream_id in unknown]


def _fold(
    readings: dict[StreamId, list[Reading]],
    chain: set[StreamId],
    uid_streams: dict[StreamId, StreamId],
    valid_at: datetime | None,
) -> Histories:
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    merged: dict[StreamId, StreamId] = {}
    for told in readings.values():
        for stream_id, dated in (pair for reading in told for pair in reading.facts):
            if stream_id in uid_streams:
                merged[stream_id] = uid_streams[stream_id]
            if stream_id in chain and (valid_at is None or dated.occurred_at <= valid_at):
                facts[uid_streams.get(stream_id, stream_id)].append(dated)
    bookings = {stream_id: fold(stream_id, told) for stream_id, told in facts.items()}
    for booking in bookings.values():
        booking.rescheduled_to = _uid_named(booking.rescheduled_to, uid_streams)
    link_chain(bookings, booking_stream)
    return Histories(bookings=bookings, facts=dict(facts), merged=merged, readings=readings)


def _uid_named(name: str | None, uid_streams: dict[StreamId, StreamId]) -> str | None:
    """The uid of a booking that was named by number, once that is known."""
    if name is None or not (name.isascii() and name.isdigit()):
        return name
    uid_stream = uid_streams.get(number_stream(int(name)))
    return name if uid_stream is None else uid_stream.removeprefix(BOOKING_STREAM_PREFIX)


def _replaces(readings: Iterable[Reading], chain: set[StreamId]) -> bool:
    """Whether these bodies say that their booking came after one of the chain, and not just a seat of it."""
    told = [(stream_id, dated.fact) for reading in readings for stream_id, dated in reading.facts]
    replaced = {stream_id for stream_id, fact in told if isinstance(fact, Superseded) and not fact.by_snapshot}
    named = {stream_id for stream_id, fact in told if isinstance(fact, Superseded)} | {
        booking_stream(fact.details.previous_uid)
        for _, fact in told
        if fact.details.previous_uid is not None and not isinstance(fact, SeatTaken)
    }
    left = {stream_id for stream_id, fact in told if isinstance(fact, SeatLeft)}
    return not chain.isdisjoint(replaced | (named - left))


def _same_chain(readings: Sequence[Reading]) -> set[StreamId]:
    """The streams that belong to one stream's chain; a slot from which just a seat came does not."""
    named = {stream_id for reading in readings for stream_id in reading.chain}
    left = {
        stream_id for reading in readings for stream_id, dated in reading.facts if dated.fact.__class__ is SeatLeft
    } & named
    if not left:
        return named
    said = [(stream_id, dated.fact) for reading in readings for stream_id, dated in reading.facts]
    replaced = {stream_id for stream_id, fact in said if isinstance(fact, Superseded) and not fact.by_snapshot}
    return named - (left - replaced)


def _numbers_said(readings: Iterable[Reading]) -> dict[StreamId, StreamId]:
    """The streams of numbers that these bodies give together with a uid."""
    return {
        number_stream(dated.fact.details.number): stream_id
        for reading in readings
        for stream_id, dated in reading.facts
        if dated.fact.details.number is not None and not _is_number_stream(stream_id)
    }


def _is_number_stream(stream_id: StreamId) -> bool:
    return stream_id.startswith(NUMBER_STREAM_PREFIX)


def _number_of(stream_id: StreamId) -> int:
    return int(stream_id.removeprefix(NUMBER_STREAM_PREFIX))
