"""`booking.redacted`: others' bookings fold to what they were, in any order, and who was erased is not in them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from random import Random
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.booking import Booking
from ledger.facts import Dated, Redacted
from ledger.filing import Receipt, file_delivery
from ledger.folding import evolve, fold
from ledger.history import read_event
from ledger.persons import Traits
from ledger.readings import Reading, standing
from ledger.redacting import Erased, person_tag, pseudonym, redact_stream
from ledger.redaction import REDACTED_TOPIC, read_redaction, write_redaction
from ledger.store import Ledger, NewEvent, RecordedEvent
from ledger.tombstones import Tombstones
from ledger.vocabulary import LedgerId, Position, StreamId, StreamVersion
from tests.builders import NOON, answers, meeting, minutes, people, webhook
from tests.rebuilding import tangled

LEDGER = Ledger(ledger_id=LedgerId(1), name="main", event_id_key=b"k" * 32)
NOBODY = Erased.of({}, Traits())
X = "x@example.com"

Events = Mapping[StreamId, Sequence[RecordedEvent]]


def recorded(*bodies: bytes) -> Events:
    """The bodies as a log has them, by stream."""
    streams: dict[StreamId, list[RecordedEvent]] = defaultdict(list)
    count = 0
    for body in bodies:
        for event in file_delivery(LEDGER, body, Receipt(received_at=NOON), fresh_id=uuid4()).events:
            count += 1
            streams[event.stream_id].append(_recorded(event, count, len(streams[event.stream_id]) + 1))
    return streams


def _recorded(event: NewEvent, position: int, version: int) -> RecordedEvent:
    return RecordedEvent(
        position=Position(position),
        stream_id=event.stream_id,
        stream_version=StreamVersion(version),
        event_id=event.event_id,
        topic=event.topic,
        body=event.body,
        occurred_at=event.occurred_at,
        recorded_at=minutes(position),
        source=event.source,
        metadata=event.metadata,
    )


def redacted(events: Events, erased: Erased) -> dict[StreamId, list[Reading]]:
    """What each stream says once its events are covered, which can be read still."""
    readings = {}
    for stream_id, own in events.items():
        told = [read_event(event) for event in own]
        redaction = redact_stream(stream_id, told, erased, gone=frozenset(), covers=own[-1].position)
        body = write_redaction(redaction)
        assert read_redaction(body) == redaction
        event = NewEvent(
            event_id=uuid4(),
            stream_id=stream_id,
            topic=REDACTED_TOPIC,
            body=body,
            occurred_at=own[-1].occurred_at,
            source="command",
        )
        readings[stream_id] = list(standing([*told, read_event(_recorded(event, 10_000, len(own) + 1))]))
    return readings


def facts_of(readings: Mapping[StreamId, Sequence[Reading]]) -> dict[StreamId, list[Dated]]:
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    for told in readings.values():
        for stream_id, dated in (pair for reading in told for pair in reading.facts):
            facts[stream_id].append(dated)
    return facts


def read(events: Events) -> dict[StreamId, list[Reading]]:
    return {stream_id: [read_event(event) for event in own] for stream_id, own in events.items()}


def of_others(booking: Booking) -> dict[str, object]:
    """All but who comes, and whose words raised a doubt."""
    rest = {name: told for name, told in answers(booking).items() if name not in ("attendees", "left", "absent")}
    return rest | {"doubts": list(booking.doubts)}


def is_there(booking: Booking, email: str) -> bool:
    return email in booking.attendees or email in booking.left


@given(st.integers(0, 2**32), st.integers(1, 14))
def test_redacting_nobody_changes_no_booking(seed: int, count: int) -> None:
    events = recorded(*islice(tangled(Random(seed)), count))
    before, after = facts_of(read(events)), facts_of(redacted(events, NOBODY))
    assert after.keys() == before.keys()
    for stream_id, facts in before.items():
        assert answers(fold(stream_id, after[stream_id])) == answers(fold(stream_id, facts))


@given(st.integers(0, 2**32), st.integers(1, 14), st.randoms(use_true_random=False))
def test_in_any_order_and_however_often_a_redacted_booking_is_the_same(seed: int, count: int, rng: Random) -> None:
    events = recorded(*islice(tangled(Random(seed)), count))
    late = facts_of(read(recorded(*islice(tangled(Random(seed + 1)), 4))))
    erased = Erased.of({X: person_tag(LEDGER, X)}, Traits())
    for stream_id, facts in facts_of(redacted(events, erased)).items():
        told = [*facts, *late.get(stream_id, [])]
        booking = fold(stream_id, told)
        shuffled = [*told, *rng.sample(told, rng.randrange(len(told)))]
        rng.shuffle(shuffled)
        assert answers(fold(stream_id, shuffled)) == answers(booking)


@example(2404, 13)  # whose seats are all of who is erased, before a snapshot names somebody else
@given(st.integers(0, 2**32), st.integers(1, 14))
def test_who_was_erased_is_in_no_booking_and_the_others_are_as_before(seed: int, count: int) -> None:
    events = recorded(*islice(tangled(Random(seed)), count))
    erased = Erased.of({X: person_tag(LEDGER, X)}, Traits())
    before, after = facts_of(read(events)), facts_of(redacted(events, erased))
    for stream_id, facts in before.items():
        was, now = fold(stream_id, facts), fold(stream_id, after[stream_id])
        assert not is_there(now, X)
        assert not is_there(now, pseudonym(person_tag(LEDGER, X)))
        assert of_others(now) == of_others(was)
        assert [one for one in was.attendees.values() if one.email != X] == list(now.attendees.values())
        assert [one for one in was.left.values() if one.email != X] == list(now.left.values())


def test_evolving_a_redacted_booking_folds_it() -> None:
    events = recorded(
        webhook("BOOKING_CREATED", {"uid": "a", "attendees": people(X, "y@example.com")}),
        webhook("BOOKING_CANCELLED", {"uid": "a", "attendees": people(X)}, at=minutes(5)),
    )
    erased = Erased.of({X: person_tag(LEDGER, X)}, Traits())
    (stream_id,) = events
    facts = sorted(facts_of(redacted(events, erased))[stream_id], key=lambda one: (one.occurred_at, one.rank))
    booking = fold(stream_id, ())
    for dated in facts:
        booking = evolve(booking, dated)
    assert answers(booking) == answers(fold(stream_id, facts))
    assert isinstance(facts[-1].fact, Redacted)


# Deliveries that come late


TAGS = {person_tag(LEDGER, X): NOON}


def tombstones(**streams: bool) -> Tombstones:
    named = {StreamId(f"booking-{uid}"): is_gone for uid, is_gone in streams.items()}
    return Tombstones(LEDGER, erasures=1, tags=TAGS, streams=named)


def late(uid: str, *emails: str, at: datetime = NOON) -> NewEvent:
    body = webhook("BOOKING_CREATED", {"uid": uid, "attendees": people(*emails)}, at=at)
    receipt = Receipt(received_at=NOON, signature=b"0" * 32, secret_id="s")
    return file_delivery(LEDGER, body, receipt, fresh_id=uuid4()).events[0]


@pytest.mark.parametrize(
    ("event", "known", "kept"),
    [
        pytest.param(late("a", "y@example.com"), {}, None, id="about others"),
        pytest.param(late("a", X, at=minutes(1)), {}, None, id="a new booking of theirs"),
        pytest.param(late("a", X), {}, set(), id="an old one of theirs"),
        pytest.param(late("a", X, "y@example.com"), {}, {"y@example.com"}, id="an old one with others"),
        pytest.param(late("a", "y@example.com", at=minutes(9)), {"a": True}, set(), id="about what is gone"),
        pytest.param(late("a", X, at=minutes(9)), {"a": False}, set(), id="their seat in what others have"),
        pytest.param(late("a", "y@example.com", at=minutes(9)), {"a": False}, None, id="others' seat in it"),
    ],
)
def test_a_late_delivery_comes_in_without_them(event: NewEvent, known: dict[str, bool], kept: set[str] | None) -> None:
    admitted = tombstones(**known).admit(event)
    if kept is None:
        assert admitted is event
        return
    assert (admitted.event_id, admitted.stream_id) == (event.event_id, event.stream_id)
    assert admitted.topic == REDACTED_TOPIC
    assert X.encode() not in admitted.body
    assert "mac" not in admitted.metadata
    reading = read_event(_recorded(admitted, 7, 1))
    assert reading.trigger == "BOOKING_CREATED"
    facts = [dated for _, dated in reading.facts]
    assert set(fold(event.stream_id, facts).attendees) == kept
    assert {dated.position for dated in facts} <= {7}


def test_a_meeting_says_itself_when_it_was_booked() -> None:
    flat = {"uid": "a", "startTime": "2027-01-01T10:00:00Z", "endTime": "2027-01-01T11:00:00Z", "attendees": people(X)}
    for made, is_old in (("2026-11-01T10:00:00.000Z", True), ("2026-12-02T10:00:00.000Z", False)):
        body = meeting("MEETING_ENDED", {**flat, "createdAt": made})
        event = file_delivery(LEDGER, body, Receipt(received_at=NOON), fresh_id=uuid4()).events[0]
        assert (tombstones().admit(event) is not event) == is_old


def test_what_has_no_time_of_its_own_is_as_old_as_the_meeting() -> None:
    for start, is_old in (("2026-11-01T10:00:00Z", True), ("2027-01-01T10:00:00Z", False), (None, True)):
        body = webhook("BOOKING_CREATED", {"uid": "a", "startTime": start, "attendees": people(X)}, at=None)
        event = file_delivery(LEDGER, body, Receipt(received_at=minutes(90)), fresh_id=uuid4()).events[0]
        assert (tombstones().admit(event) is not event) == is_old
