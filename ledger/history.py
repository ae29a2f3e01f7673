"""Bookings read from the log: every event of theirs decoded, every booking of the same chain along with it.

A booking's facts lie in several streams: its own, those of bookings that replaced it, and the one that carries its
number where a body named nothing else. Starting from any of them the whole chain is gathered, however it arrived.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime

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
from ledger.links import LINK_TOPICS, read_link
from ledger.postgres import Connection
from ledger.store import RecordedEvent, read_streams
from ledger.vocabulary import LedgerId, Position, StreamId

WEBHOOK_TOPICS = "calcom."
CHAIN_LENGTH_MAX = 100
ROUNDS_A_BOOKING = 2
"""One to glance at a booking, one to read on from there."""

NumberLookup = Callable[[Sequence[int]], Awaitable[dict[int, StreamId]]]
"""Which of these numbers belong to a booking whose uid is known, and to which stream: a hint, it may know too much."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one event says: facts, each about one stream.

    `chain`: streams of the same chain; `glances`: streams whose bodies say more about this one. Whether those belong to
    its chain is for their bodies to say: a booking that replaced it does, a slot to which one seat went does not.
    """

    facts: tuple[tuple[StreamId, Dated], ...] = ()
    chain: tuple[StreamId, ...] = ()
    glances: tuple[StreamId, ...] = ()


class Histories(msgspec.Struct, frozen=True, kw_only=True):
    """Folded bookings by stream, and their facts. `merged`: streams known by number that turned out to be another's."""

    bookings: dict[StreamId, Booking]
    facts: dict[StreamId, list[Dated]]
    merged: dict[StreamId, StreamId]


def read_event(event: RecordedEvent) -> Reading:
    """What the event means; nothing for an event that is about no booking."""
    if event.topic in LINK_TOPICS:
        return Reading(chain=(event.stream_id,), glances=(read_link(event.body).by_stream,))
    if event.topic == OBSERVED_TOPIC:
        return _reading(event, event.occurred_at, event.topic, [read_observation(event.body)])
    if not event.topic.startswith(WEBHOOK_TOPICS):
        return Reading()
    envelope = open_envelope(event.body)
    occurred_at = envelope.occurred_at or event.occurred_at
    return _reading(event, occurred_at, envelope.trigger or event.topic, meaning_of(envelope))


def _reading(
    event: RecordedEvent, occurred_at: datetime, trigger: str, stated: Iterable[tuple[StreamId, AnyFact]]
) -> Reading:
    """The stated facts in their place."""
    facts = tuple(
        (
            stream_id,
            Dated(
                occurred_at=occurred_at,
                rank=fact.rank,
                digest=event.event_id.bytes,
                position=event.position,
                recorded_at=event.recorded_at,
                trigger=trigger,
                fact=fact,
            ),
        )
        for stream_id, fact in stated
    )
    return Reading(facts=facts, chain=tuple(_chain(facts)))


def _chain(facts: Iterable[tuple[StreamId, Dated]]) -> Iterable[StreamId]:
    """The other streams that belong with these facts; a seat that moved ties no chain."""
    for stream_id, dated in facts:
        if isinstance(dated.fact, SeatLeft):
            continue
        yield stream_id
        details = dated.fact.details
        if details.number is not None:
            yield number_stream(details.number)
        if details.previous_uid is not None and not isinstance(dated.fact, SeatTaken):
            yield booking_stream(details.previous_uid)
        if isinstance(dated.fact, Observed) and dated.fact.rescheduled_to is not None:
            yield booking_stream(dated.fact.rescheduled_to)


async def load_histories(
    connection: Connection,
    ledger_id: LedgerId,
    stream_ids: Collection[StreamId],
    *,
    up_to: Position,
    look_up_numbers: NumberLookup,
    valid_at: datetime | None = None,
) -> Histories:
    """The bookings of these streams and of their whole chains, from the events up to a position.

    `valid_at` leaves out what happened after it. `look_up_numbers` is a hint where to look: a number belongs to a uid
    once a body up to the position says so. A chain longer than `CHAIN_LENGTH_MAX` is cut there.
    """
    readings: dict[StreamId, list[Reading]] = {}
    uid_streams: dict[StreamId, StreamId] = {}
    asked: set[StreamId] = set()
    chain, glances = set(stream_ids), set[StreamId]()
    for _ in range(ROUNDS_A_BOOKING * CHAIN_LENGTH_MAX):
        known = len(chain), len(glances)
        missing = (chain | glances) - readings.keys()
        readings |= {stream_id: [] for stream_id in missing}
        if missing:
            for event in await read_streams(connection, ledger_id, list(missing), up_to=up_to):
                readings[event.stream_id].append(read_event(event))
        in_chain = [reading for stream_id in chain & readings.keys() for reading in readings[stream_id]]
        chain |= {stream_id for member in chain & readings.keys() for stream_id in _same_chain(readings[member])}
        glances |= {stream_id for reading in in_chain for stream_id in reading.glances}
        chain |= {stream_id for stream_id in glances & readings.keys() if _replaces(readings[stream_id], chain)}
        uid_streams |= _numbers_said(in_chain)
        chain |= {uid_streams[stream_id] for stream_id in chain & uid_streams.keys()}
        unknown = {stream_id for stream_id in chain if _is_number_stream(stream_id)} - uid_streams.keys() - asked
        if unknown:
            asked |= unknown
            chain |= set((await look_up_numbers([_number_of(stream_id) for stream_id in unknown])).values())
        if not missing and known == (len(chain), len(glances)):
            break
    return _fold(readings, chain, uid_streams, valid_at)


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
    return Histories(bookings=bookings, facts=dict(facts), merged=merged)


def _uid_named(name: str | None, uid_streams: dict[StreamId, StreamId]) -> str | None:
    """The uid of a booking that was named by number, once that is known."""
    if name is None or not (name.isascii() and name.isdigit()):
        return name
    uid_stream = uid_streams.get(number_stream(int(name)))
    return name if uid_stream is None else uid_stream.removeprefix(BOOKING_STREAM_PREFIX)


def _replaces(readings: Iterable[Reading], chain: set[StreamId]) -> bool:
    """Whether these bodies say that their booking took the place of one of the chain, and not just a seat of it."""
    said = [dated.fact for reading in readings for stream_id, dated in reading.facts if stream_id in chain]
    replacing = [fact for fact in said if isinstance(fact, Superseded)]
    by_snapshot_alone = all(fact.by_snapshot for fact in replacing)
    return bool(replacing) and not (by_snapshot_alone and any(isinstance(fact, SeatLeft) for fact in said))


def _same_chain(readings: Sequence[Reading]) -> set[StreamId]:
    """The streams that belong to one stream's chain; a slot from which just a seat came does not."""
    named = {stream_id for reading in readings for stream_id in reading.chain}
    said = [(stream_id, dated.fact) for reading in readings for stream_id, dated in reading.facts]
    left = {stream_id for stream_id, fact in said if isinstance(fact, SeatLeft)}
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
