"""The law of the fold: a booking is made by the set of its facts, in whatever order and however often they come.

Any facts at all, also such as Cal.com would never send together; its real lifecycles are in tests/test_samples_fold.py.
"""

from collections.abc import Iterable
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calcom.envelope import booking_stream
from ledger.facts import (
    AnyFact,
    AttendeesMarked,
    Cancelled,
    Confirmed,
    Created,
    Dated,
    Details,
    GuestsAbsent,
    HostAbsent,
    LocationUpdated,
    MeetingEnded,
    MeetingStarted,
    Moved,
    Observed,
    Paid,
    PaymentInitiated,
    Person,
    Reassigned,
    RecordingReady,
    Rejected,
    Requested,
    Rescheduled,
    SeatLeft,
    SeatTaken,
    Superseded,
)
from ledger.folding import BY_ORDER, evolve, fold, link_chain
from ledger.vocabulary import StreamId
from tests.builders import answers, dated, minutes

STREAM = booking_stream("uidAAA")
EMAILS = tuple(f"{name}@example.com" for name in "abc")
UIDS = ("uidAAA", "uidBBB", "uidCCC")
STATUSES = ("pending", "accepted", "cancelled", "rejected", "rescheduled")

emails = st.sampled_from(EMAILS)
uids = st.sampled_from(UIDS)
texts = st.sampled_from(("x", "y"))
flags = st.booleans()
moments = st.sampled_from([minutes(minute) for minute in range(4)])
people = st.lists(st.builds(Person, email=emails, name=st.none() | texts), min_size=1, max_size=3).map(tuple)
marks = st.dictionaries(emails, flags, max_size=3)
some_emails = st.lists(emails, max_size=2, unique=True).map(tuple)
details = st.builds(
    Details,
    number=st.none() | st.just(7),
    title=st.none() | texts,
    ical_uid=st.none() | uids,
    start=st.none() | moments,
    end=st.none() | moments,
    attendees=st.none() | people,
    metadata=st.none() | st.dictionaries(texts, texts, min_size=1, max_size=2),
    seats=st.none() | st.just(6),
    recurring=st.none() | st.just(value=True),
    previous_uid=st.none() | uids,
)
plain_kinds = st.sampled_from(
    (
        *(Requested, PaymentInitiated, Created, Confirmed, Paid, Rescheduled, Moved, SeatTaken, LocationUpdated),
        *(Reassigned, MeetingStarted, MeetingEnded, HostAbsent, Cancelled, Rejected, RecordingReady),
    )
)
facts = st.one_of(
    st.builds(lambda kind, told: kind(details=told), plain_kinds, details),
    st.builds(lambda kind, told: kind(details=told), plain_kinds, details),
    st.builds(Paid, details=details, accepted=flags),
    st.builds(AttendeesMarked, absent=marks, details=details),
    st.builds(GuestsAbsent, emails=some_emails, details=details),
    st.builds(SeatLeft, emails=some_emails, details=details),
    st.builds(Cancelled, details=details, reason=st.none() | texts, reschedule_requested=flags),
    st.builds(Superseded, by_uid=uids, details=details, by_snapshot=flags),
    st.builds(
        Observed,
        status=st.sampled_from(STATUSES),
        details=details,
        absent=marks,
        host_absent=flags,
        rescheduled_to=st.none() | uids,
    ),
)
histories = st.lists(st.builds(lambda fact, at: dated(fact, at=at), facts, moments), max_size=7)


@settings(max_examples=1_000, deadline=None)
@given(histories, st.data())
def test_neither_order_nor_repeats_change_a_booking(history: list[Dated], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=3)) if history else []
    arrived = data.draw(st.permutations(history + repeats))
    assert answers(fold(STREAM, arrived)) == answers(fold(STREAM, history))


@settings(max_examples=300, deadline=None)
@given(histories)
def test_folding_is_evolving_step_by_step_in_order_of_time(history: list[Dated]) -> None:
    steps = {BY_ORDER(step): step for step in history}
    evolved = reduce(evolve, (steps[order] for order in sorted(steps)), fold(STREAM, []))
    assert answers(evolved) == answers(fold(STREAM, history))


@settings(max_examples=300, deadline=None)
@given(histories, facts)
def test_folding_and_evolving_change_nothing_that_they_were_given(history: list[Dated], fact: AnyFact) -> None:
    before = repr(history)
    booking = fold(STREAM, history)
    as_it_was = answers(booking)
    evolve(booking, dated(fact, at=minutes(99)))
    assert answers(booking) == as_it_was
    assert repr(history) == before


@settings(max_examples=300, deadline=None)
@given(histories)
def test_a_booking_never_says_more_than_its_facts(history: list[Dated]) -> None:
    booking = fold(STREAM, history)
    named = {person.email for step in history for person in step.fact.details.attendees or ()}
    assert set(booking.attendees) <= named
    assert booking.first_occurred_at == min((step.occurred_at for step in history), default=None)
    assert booking.last_occurred_at == max((step.occurred_at for step in history), default=None)
    assert booking.paid == any(isinstance(step.fact, Paid) for step in history)
    assert all(cause in history for cause in booking.doubts.values())
    assert (booking.rescheduled_to is not None) == (booking.calendar_status() == "rescheduled")
    if not any(isinstance(step.fact, (Superseded, Observed)) for step in history):
        assert booking.rescheduled_to is None


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({booking_stream(uid): histories for uid in UIDS}), st.permutations(UIDS))
def test_a_chain_is_the_same_whichever_booking_is_looked_at_first(
    told: dict[StreamId, list[Dated]], order: list[str]
) -> None:
    def linked(streams: Iterable[StreamId]) -> dict[StreamId, dict[str, object]]:
        bookings = {stream_id: fold(stream_id, told[stream_id]) for stream_id in streams}
        link_chain(bookings, booking_stream)
        return {stream_id: answers(booking) for stream_id, booking in bookings.items()}

    assert linked(told) == linked(booking_stream(uid) for uid in order)
