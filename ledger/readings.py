"""What events say of bookings, and what of it counts and belongs together. Pure."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ledger.calcom.envelope import NUMBER_STREAM_PREFIX, booking_stream, number_stream
from ledger.facts import Dated, Observed, Redacted, SeatLeft, SeatTaken, Superseded
from ledger.vocabulary import StreamId


class Reading(msgspec.Struct, kw_only=True, gc=False):
    """What one event says: facts, each about one stream.

    `chain`: streams of the same chain; `glances`: streams whose bodies say more about this one. Whether those belong to
    its chain is for their bodies to say: a booking that replaced it does, a slot to which one seat went does not.
    `alone`: it bears on no booking but the one on whose stream it lies, if on any, and on that one's number. `trigger`,
    `named` (the booking as the body names it) and `error` are those of a webhook's envelope. `redacted`: the event
    stands for what was erased, and its facts are those that were kept. `voids`: the event, by the digest of its facts,
    of which nothing counts any more.
    """

    facts: tuple[tuple[StreamId, Dated], ...] = ()
    chain: tuple[StreamId, ...] = ()
    glances: tuple[StreamId, ...] = ()
    alone: bool = False
    position: int = 0
    redacted: Redacted | None = None
    voids: bytes | None = None
    trigger: str | None = None
    named: str | None = None
    error: str | None = None


def standing(readings: Sequence[Reading]) -> Sequence[Reading]:
    """What one stream still says: nothing that a redaction of it covers, whoever could still read it.

    Nor what a delivery said whose link was taken back, not even where a redaction has kept it.
    """
    covered, voided = 0, set()
    for reading in readings:
        if reading.redacted is not None and reading.redacted.covers > covered:
            covered = reading.redacted.covers
        if reading.voids is not None:
            voided.add(reading.voids)
    if voided:
        readings = [_without(reading, voided) for reading in readings]
    return [reading for reading in readings if reading.position > covered] if covered else readings


def _without(reading: Reading, voided: Collection[bytes]) -> Reading:
    """The reading without the facts of events that count no more."""
    facts = tuple(pair for pair in reading.facts if pair[1].digest not in voided)
    if len(facts) == len(reading.facts):
        return reading
    chain = reading.chain if reading.redacted is not None else chain_of(facts)
    return msgspec.structs.replace(reading, facts=facts, chain=chain)


def chain_of(facts: Iterable[tuple[StreamId, Dated]]) -> tuple[StreamId, ...]:
    """The streams that belong with these facts; a seat that moved ties no chain."""
    chain: list[StreamId] = []
    for stream_id, dated in facts:
        fact = dated.fact
        if type(fact) is SeatLeft and fact.moved_to_uid is not None:
            continue
        chain.append(stream_id)
        details = fact.details
        if details.number is not None:
            chain.append(number_stream(details.number))
        if details.previous_uid is not None and type(fact) is not SeatTaken:
            chain.append(booking_stream(details.previous_uid))
        if type(fact) is Observed and fact.rescheduled_to is not None:
            chain.append(booking_stream(fact.rescheduled_to))
    return tuple(chain)


def is_alone(own_stream: StreamId, facts: Iterable[tuple[StreamId, Dated]], chain: Iterable[StreamId]) -> bool:
    """Whether facts of an event on this stream, and the chain that follows from them, name no other booking."""
    return all(about == own_stream for about, _ in facts) and all(
        one == own_stream or is_number_stream(one) for one in chain
    )


def same_chain(readings: Sequence[Reading]) -> set[StreamId]:
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


def replaces(readings: Iterable[Reading], chain: set[StreamId]) -> bool:
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


def numbers_said(readings: Iterable[Reading]) -> dict[StreamId, StreamId]:
    """The streams of numbers that these bodies give together with a uid."""
    return {
        number_stream(dated.fact.details.number): stream_id
        for reading in readings
        for stream_id, dated in reading.facts
        if dated.fact.details.number is not None and not is_number_stream(stream_id)
    }


def is_number_stream(stream_id: StreamId) -> bool:
    return stream_id.startswith(NUMBER_STREAM_PREFIX)
