"""How fast histories become bookings: decoded facts, whole bodies, and the eventsourcing library beside them."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, Mapper, StoredEvent, UUIDAsHex

from api.bench.plan import Bench
from api.bench.rounds import Comparison, Contender
from api.simulator.lifecycles import LIFECYCLES, Slot, Studio
from api.simulator.traffic import json_bytes
from ledger.calcom.envelope import open_envelope
from ledger.calcom.meaning import meaning_of
from ledger.facts import Dated
from ledger.folding import fold
from ledger.vocabulary import StreamId

SCENARIOS = (
    "created_started_ended",
    "rescheduled",
    "paid_before_created",
    "seats_taken",
    "request_confirmed_and_ended",
)
FIRST_DAY = datetime(2026, 1, 5, 8, tzinfo=UTC)

PAGE_BODIES = 500
"""So many are decoded, and then folded: as where webhooks come in, what was decoded is still in the processor's cache.

The facts of tens of thousands are not, and take twice as long to fold.
"""
PAGE_BOOKINGS = 150
"""Those of about as many bodies."""

History = tuple[StreamId, list[Dated]]


def make_bodies(*, bookings: int, seed: int = 1) -> list[bytes]:
    """Bodies of real size, of whole lifecycles, one after the other."""
    studio = Studio(Random(seed))  # noqa: S311  # made-up traffic, no secret
    bodies: list[bytes] = []
    for number in range(bookings):
        slot = Slot(
            booked_at=FIRST_DAY + timedelta(minutes=number), starts_at=FIRST_DAY + timedelta(days=3, minutes=number)
        )
        bodies += [json_bytes(sent) for sent in LIFECYCLES[SCENARIOS[number % len(SCENARIOS)]](studio, slot).deliveries]
    return bodies


def decode(bodies: Sequence[bytes]) -> list[History]:
    """Every body's facts, by stream."""
    histories: dict[StreamId, list[Dated]] = defaultdict(list)
    for position, body in enumerate(bodies, start=1):
        envelope = open_envelope(body)
        for stream_id, fact in meaning_of(envelope):
            dated = Dated(
                occurred_at=envelope.occurred_at or FIRST_DAY,
                rank=fact.rank,
                digest=position.to_bytes(16),  # in the log this is the event's id
                position=position,
                recorded_at=FIRST_DAY,
                trigger=envelope.trigger or "",
                fact=fact,
            )
            histories[stream_id].append(dated)
    return list(histories.items())


def compare_folding(bench: Bench) -> list[Comparison]:
    bookings, rounds = bench.plan.bookings, bench.plan.rounds
    return [
        bench.compare("folding decoded facts", "facts/s", folding_decoded(bookings=bookings), rounds=rounds),
        bench.compare("decoding and folding bodies", "bodies/s", folding_bodies(bookings=bookings), rounds=rounds),
    ]


def folding_decoded(*, bookings: int) -> list[Contender]:
    """Facts a second, decoding excluded: ours, and the library's aggregate with its JSON transcoder.

    Both fold one page again and again, as if it had just been decoded.
    """
    histories = decode(make_bodies(bookings=min(bookings, PAGE_BOOKINGS)))
    times = max(1, bookings // PAGE_BOOKINGS)
    facts = times * sum(len(told) for _, told in histories)
    mapper, stored = _library_history(histories)

    def ours() -> int:
        for _ in range(times):
            for stream_id, told in histories:
                fold(stream_id, told)
        return facts

    def library() -> int:
        for _ in range(times):
            for events in stored:
                aggregate: Any = None
                for recorded in events:
                    happened: Any = mapper.to_domain_event(recorded)
                    aggregate = happened.mutate(aggregate)
        return facts

    return [Contender(name="ours", run=ours), Contender(name="eventsourcing @event, JSON transcoder", run=library)]


def folding_bodies(*, bookings: int) -> list[Contender]:
    """Bodies a second, from the raw bytes to the folded booking."""
    bodies = make_bodies(bookings=bookings)

    def ours() -> int:
        for at in range(0, len(bodies), PAGE_BODIES):
            for stream_id, told in decode(bodies[at : at + PAGE_BODIES]):
                fold(stream_id, told)
        return len(bodies)

    def parsing_alone() -> int:
        for body in bodies:
            msgspec.json.decode(body)
        return len(bodies)

    return [Contender(name="ours", run=ours), Contender(name="msgspec, parsed to plain JSON alone", run=parsing_alone)]


class LibraryBooking(Aggregate):
    """The same booking as the library's documentation would write it: one event a fact, fields overwritten."""

    @event("Opened")
    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.status = "pending"
        self.fields: dict[str, Any] = {}

    @event("Told")
    def tell(self, status: str, fields: dict[str, Any]) -> None:
        self.status = status
        self.fields.update(fields)


def _library_history(histories: Sequence[History]) -> tuple[Mapper[UUID], list[list[StoredEvent]]]:
    """The same facts as the library stores them."""
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    mapper: Mapper[UUID] = Mapper(transcoder)
    stored = []
    for stream_id, told in histories:
        aggregate = LibraryBooking(uid=stream_id)
        for dated in told:
            fields = {
                name: value for name, value in msgspec.to_builtins(dated.fact.details).items() if value is not None
            }
            aggregate.tell(status=type(dated.fact).__name__, fields=fields)
        stored.append([mapper.to_stored_event(pending) for pending in aggregate.collect_events()])
    return mapper, stored
