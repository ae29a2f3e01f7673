"""One booking as its facts tell it: the two status words row by row, and the rules that most receivers get wrong."""

from typing import Any

import pytest

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream
from ledger.facts import (
    AnyFact,
    AttendeesMarked,
    Cancelled,
    Confirmed,
    Created,
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
from ledger.folding import evolve, fold, link_chain
from ledger.vocabulary import StreamId
from tests.builders import NOON, dated, minutes

STREAM = booking_stream("uidAAA")
ADA, BOB, EVA = (Person(email=f"{name}@example.com", name=name) for name in ("ada", "bob", "eva"))
NOTHING = Details()
WHOLE = Details(start=NOON, end=minutes(45), title="Grooming", location="12 Example Street", attendees=(ADA,))
LATER = Details(start=minutes(1_440), end=minutes(1_485))
FROM_OLD = Details(start=NOON, end=minutes(45), attendees=(ADA,), previous_uid="uidOLD")
NOW_ABSENT = AttendeesMarked(absent={ADA.email: True}, details=NOTHING)
NOT_ABSENT = AttendeesMarked(absent={ADA.email: False}, details=NOTHING)

requested, created, cancelled = Requested(details=WHOLE), Created(details=WHOLE), Cancelled(details=WHOLE)
rejected, ended, started = Rejected(details=WHOLE), MeetingEnded(details=WHOLE), MeetingStarted(details=WHOLE)
payment_initiated, paid, superseded = (
    PaymentInitiated(details=WHOLE),
    Paid(details=WHOLE),
    Superseded(by_uid="uidNEW", details=NOTHING),
)


def after(*facts: AnyFact, stream: StreamId = STREAM) -> Booking:
    """The booking after these facts, a minute apart."""
    return fold(stream, [dated(fact, at=minutes(minute)) for minute, fact in enumerate(facts)])


def in_class(*people: Person, **changes: Any) -> Details:
    return Details(seats=6, start=NOON, end=minutes(45), attendees=people, **changes)


def seats(*people: Person) -> list[AnyFact]:
    """A class whose seats were taken one by one."""
    return [Created(details=in_class(person)) for person in people]


def observed(**changes: Any) -> Observed:
    fields: dict[str, Any] = {"status": "accepted", "details": WHOLE, "absent": {}}
    return Observed(**fields | changes)


# The status table, row by row


@pytest.mark.parametrize(
    ("facts", "booking_status", "strict", "lenient"),
    [
        ([requested], "pending", "scheduled", "scheduled"),
        ([payment_initiated], "pending", "scheduled", "scheduled"),
        ([payment_initiated, requested], "pending", "scheduled", "scheduled"),
        ([Paid(details=WHOLE, accepted=False)], "pending", "scheduled", "scheduled"),
        ([payment_initiated, Paid(details=WHOLE, accepted=False), requested], "pending", "scheduled", "scheduled"),
        ([created], "accepted", "scheduled", "confirmed"),
        ([created, created], "accepted", "scheduled", "confirmed"),
        ([Rescheduled(details=FROM_OLD)], "accepted", "scheduled", "confirmed"),
        ([Moved(details=WHOLE)], "accepted", "scheduled", "confirmed"),
        ([SeatTaken(details=FROM_OLD)], "accepted", "scheduled", "confirmed"),
        ([LocationUpdated(details=WHOLE)], "accepted", "scheduled", "confirmed"),
        ([Reassigned(details=WHOLE)], "accepted", "scheduled", "confirmed"),
        ([created, started], "accepted", "scheduled", "confirmed"),
        ([requested, created], "accepted", "confirmed", "confirmed"),
        ([created, requested], "accepted", "confirmed", "confirmed"),
        ([requested, started], "accepted", "confirmed", "confirmed"),
        ([payment_initiated, created], "accepted", "confirmed", "confirmed"),
        ([payment_initiated, created, paid], "accepted", "confirmed", "confirmed"),
        ([paid, created], "accepted", "confirmed", "confirmed"),
        ([Confirmed(details=WHOLE)], "accepted", "confirmed", "confirmed"),
        ([created, ended], "accepted", "completed", "completed"),
        ([requested, created, ended], "accepted", "completed", "completed"),
        ([requested, ended], "accepted", "completed", "completed"),
        ([ended], "accepted", "completed", "completed"),
        ([created, NOW_ABSENT], "accepted", "no_show", "no_show"),
        ([created, ended, NOW_ABSENT], "accepted", "no_show", "no_show"),
        ([created, NOW_ABSENT, ended], "accepted", "no_show", "no_show"),
        ([NOW_ABSENT], "accepted", "no_show", "no_show"),
        ([created, NOW_ABSENT, NOT_ABSENT], "accepted", "scheduled", "confirmed"),
        ([created, ended, NOW_ABSENT, NOT_ABSENT], "accepted", "completed", "completed"),
        ([created, HostAbsent(details=WHOLE), ended], "accepted", "completed", "completed"),
        ([created, GuestsAbsent(emails=(ADA.email,), details=WHOLE), ended], "accepted", "completed", "completed"),
        ([created, RecordingReady(details=WHOLE)], "accepted", "scheduled", "confirmed"),
        ([cancelled], "cancelled", "cancelled", "cancelled"),
        ([created, cancelled], "cancelled", "cancelled", "cancelled"),
        ([requested, cancelled], "cancelled", "cancelled", "cancelled"),
        ([created, NOW_ABSENT, cancelled], "cancelled", "cancelled", "cancelled"),
        ([requested, rejected], "rejected", "cancelled", "cancelled"),
        ([cancelled, rejected], "rejected", "cancelled", "cancelled"),
        ([superseded], "rescheduled", "rescheduled", "rescheduled"),
        ([created, superseded], "rescheduled", "rescheduled", "rescheduled"),
        ([requested, superseded], "rescheduled", "rescheduled", "rescheduled"),
        ([created, cancelled, superseded], "rescheduled", "rescheduled", "rescheduled"),
        ([created, superseded, cancelled], "rescheduled", "rescheduled", "rescheduled"),
        ([created, superseded, ended], "rescheduled", "rescheduled", "rescheduled"),
        ([superseded, created], "rescheduled", "rescheduled", "rescheduled"),
    ],
)
def test_the_status_words_follow_from_what_happened(
    facts: list[AnyFact], booking_status: str, strict: str, lenient: str
) -> None:
    booking = after(*facts)
    assert booking.booking_status == booking_status
    assert booking.calendar_status() == strict
    assert booking.calendar_status(confirm_on_accept=True) == lenient


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(requested, created), (created, cancelled), (payment_initiated, paid), (created, ended), (ended, NOW_ABSENT)],
)
def test_of_one_instant_the_fact_that_must_follow_counts_last(earlier: AnyFact, later: AnyFact) -> None:
    at_once = fold(STREAM, [dated(later), dated(earlier)])
    assert at_once.calendar_status() == after(earlier, later).calendar_status()


# Replaced by a newer uid


def test_a_replaced_booking_knows_by_whom_and_what_its_times_were() -> None:
    old = after(Superseded(by_uid="uidNEW", details=Details(start=NOON, end=minutes(45))))
    assert (old.rescheduled_to, old.start, old.end) == ("uidNEW", NOON, minutes(45))


def test_the_times_that_a_newer_booking_tells_do_not_overrule_its_own() -> None:
    old = after(created, Superseded(by_uid="uidNEW", details=LATER))
    assert (old.start, old.end) == (NOON, minutes(45))


def test_the_booking_that_replaces_knows_which_and_keeps_it_when_confirmed() -> None:
    new = after(Requested(details=FROM_OLD), created)
    assert (new.rescheduled_from, new.booking_status, new.calendar_status()) == ("uidOLD", "accepted", "confirmed")
    assert after(Rescheduled(details=FROM_OLD, rescheduled_by="ada@example.com")).rescheduled_by == "ada@example.com"


def test_a_snapshot_alone_fills_in_the_link_of_a_booking_that_nobody_told_of() -> None:
    assert after(Superseded(by_uid="uidNEW", details=NOTHING, by_snapshot=True)).booking_status == "rescheduled"


def test_a_snapshot_does_not_replace_a_booking_that_others_told_of_but_raises_a_doubt() -> None:
    booking = after(created, Superseded(by_uid="uidNEW", details=NOTHING, by_snapshot=True))
    assert (booking.booking_status, set(booking.doubts)) == ("accepted", {"link_unknown"})


def test_a_snapshot_does_not_overrule_the_link_that_a_webhook_told() -> None:
    booking = after(created, superseded, Superseded(by_uid="uidOTHER", details=NOTHING, by_snapshot=True))
    assert booking.rescheduled_to == "uidNEW"


# Seats


def test_every_seat_of_a_class_adds_its_attendee() -> None:
    booking = after(*seats(ADA, BOB, EVA))
    assert list(booking.attendees.values()) == [ADA, BOB, EVA]
    assert booking.calendar_status() == "scheduled"


def test_a_booking_without_seats_has_the_attendees_named_last() -> None:
    assert after(created, Created(details=Details(attendees=(BOB,)))).attendees == {BOB.email: BOB}


def test_a_seat_that_leaves_does_not_cancel_the_class() -> None:
    booking = after(*seats(ADA, BOB), SeatLeft(emails=(ADA.email,), details=in_class(ADA)))
    assert (booking.booking_status, set(booking.attendees), booking.left) == ("accepted", {BOB.email}, {ADA.email: ADA})
    assert not booking.doubts


def test_when_the_last_seat_leaves_it_may_have_been_the_whole_class() -> None:
    booking = after(*seats(ADA), SeatLeft(emails=(ADA.email,), details=in_class(ADA)))
    assert (booking.booking_status, set(booking.doubts)) == ("accepted", {"seat_or_whole"})


def test_when_a_nameless_seat_leaves_everybody_stays_and_it_is_doubted() -> None:
    booking = after(*seats(ADA, BOB), SeatLeft(emails=(), details=NOTHING))
    assert (set(booking.attendees), set(booking.doubts)) == ({ADA.email, BOB.email}, {"seat_or_whole"})


def test_a_seat_that_comes_back_is_taken_again() -> None:
    booking = after(*seats(ADA, BOB), SeatLeft(emails=(ADA.email,), details=in_class(ADA)), *seats(ADA))
    assert set(booking.attendees) == {ADA.email, BOB.email}


def test_a_snapshot_brings_back_no_seat_that_was_given_up() -> None:
    booking = after(*seats(ADA), SeatLeft(emails=(ADA.email,), details=NOTHING), MeetingStarted(details=in_class(ADA)))
    assert set(booking.attendees) == set()


def test_a_class_that_its_host_moves_keeps_everybody() -> None:
    moved = Moved(details=Details(start=LATER.start, end=LATER.end, attendees=(ADA,)))
    booking = after(*seats(ADA, BOB), moved)
    assert (booking.start, set(booking.attendees)) == (LATER.start, {ADA.email, BOB.email})
    assert (booking.booking_status, booking.rescheduled_from, booking.rescheduled_to) == ("accepted", None, None)


def test_a_seat_that_comes_from_another_slot_joins_those_who_are_here() -> None:
    booking = after(*seats(ADA), SeatTaken(details=in_class(BOB, previous_uid="uidOLD")))
    assert set(booking.attendees) == {ADA.email, BOB.email}
    assert (booking.rescheduled_from, booking.seat_from) == ("uidOLD", True)


# Meetings tell what was true when the booking was made


def test_a_snapshot_fills_gaps_and_overwrites_nothing() -> None:
    stale = Details(
        title="Stale", location="elsewhere", description="A note", attendees=(BOB,), metadata={"a": "s", "b": "s"}
    )
    known = Created(details=Details(title="Grooming", attendees=(ADA,), metadata={"a": "known"}))
    for snapshot in (MeetingStarted(details=stale), MeetingEnded(details=stale), HostAbsent(details=stale)):
        booking = after(known, snapshot)
        assert (booking.title, booking.location, booking.description) == ("Grooming", "elsewhere", "A note")
        assert (set(booking.attendees), booking.metadata) == ({ADA.email}, {"a": "known", "b": "s"})


def test_what_comes_after_a_snapshot_overwrites_it() -> None:
    booking = after(started, Created(details=Details(title="Bath", attendees=(BOB,))))
    assert (booking.title, set(booking.attendees)) == ("Bath", {BOB.email})


@pytest.mark.parametrize("end", [cancelled, rejected])
def test_a_meeting_never_revives_what_was_called_off(end: AnyFact) -> None:
    for silent in (started, ended, NOW_ABSENT, LocationUpdated(details=WHOLE), Moved(details=WHOLE)):
        booking = after(created, end, silent)
        assert (booking.calendar_status(), booking.doubts) == ("cancelled", {})


def test_the_end_of_a_meeting_that_was_moved_since_does_not_complete_it() -> None:
    assert after(created, Moved(details=LATER), ended).calendar_status() == "scheduled"
    assert after(created, ended, Moved(details=LATER)).calendar_status() == "scheduled"
    assert after(created, Moved(details=LATER), ended, MeetingEnded(details=LATER)).calendar_status() == "completed"
    assert after(created, MeetingEnded(details=NOTHING)).calendar_status() == "completed"


# Nothing is over for good


@pytest.mark.parametrize("end", [cancelled, rejected])
@pytest.mark.parametrize("revival", [created, paid, Confirmed(details=WHOLE)])
def test_a_booking_can_come_back_and_wants_checking(end: AnyFact, revival: AnyFact) -> None:
    booking = after(created, end, revival)
    assert (booking.booking_status, set(booking.doubts)) == ("accepted", {"created_after_end"})
    assert booking.doubts["created_after_end"] == dated(revival, at=minutes(2))


def test_a_request_after_the_end_or_after_the_acceptance_changes_no_status() -> None:
    assert after(created, requested).booking_status == "accepted"
    assert after(requested, cancelled, requested).booking_status == "cancelled"
    assert after(requested, rejected, payment_initiated).booking_status == "rejected"


def test_reasons_are_kept_and_the_last_word_on_another_time_counts() -> None:
    asked = Cancelled(details=NOTHING, reason="Ill", cancelled_by="rosa@example.com", reschedule_requested=True)
    booking = after(created, asked, cancelled)
    assert (booking.cancellation_reason, booking.cancelled_by) == ("Ill", "rosa@example.com")
    assert (after(created, asked).reschedule_requested, booking.reschedule_requested) == (True, False)
    assert after(Rejected(details=NOTHING, reason="Full")).rejection_reason == "Full"


def test_a_payment_is_kept_whatever_follows() -> None:
    booking = after(payment_initiated, Paid(details=NOTHING, payment_number=33), created, cancelled)
    assert (booking.paid, booking.payment_number) == (True, 33)


def test_marks_are_kept_for_each_attendee() -> None:
    both = AttendeesMarked(absent={ADA.email: True, BOB.email: True}, details=NOTHING)
    booking = after(created, both, NOT_ABSENT)
    assert booking.absent == {ADA.email: False, BOB.email: True}
    assert booking.no_show


def test_metadata_come_together_and_a_body_without_them_takes_none_away() -> None:
    first, second = (Created(details=Details(metadata=given)) for given in ({"a": "1", "b": "1"}, {"b": "2"}))
    assert after(first, created, second, cancelled).metadata == {"a": "1", "b": "2"}


def test_a_series_that_was_settled_by_one_webhook_wants_checking() -> None:
    weekly = Details(recurring=True, start=NOON)
    assert set(after(Requested(details=weekly), Created(details=weekly)).doubts) == {"series_changed"}
    assert set(after(Requested(details=weekly), Rejected(details=NOTHING)).doubts) == {"series_changed"}
    assert set(after(Created(details=weekly), Cancelled(details=weekly)).doubts) == {"series_changed"}
    assert not after(Created(details=weekly), Created(details=weekly)).doubts


def test_an_observation_settles_doubts_and_later_webhooks_count_again() -> None:
    doubted = (*seats(ADA), SeatLeft(emails=(ADA.email,), details=NOTHING))
    settled = after(*doubted, paid, observed(status="cancelled", cancellation_reason="Conflict"))
    assert (settled.booking_status, settled.doubts, settled.paid) == ("cancelled", {}, True)
    assert settled.cancellation_reason == "Conflict"
    assert after(*doubted, observed(), cancelled).booking_status == "cancelled"
    assert after(created, observed(status="rescheduled", rescheduled_to="uidNEW")).booking_status == "rescheduled"
    assert after(created, NOW_ABSENT, observed(absent={ADA.email: False})).calendar_status() == "scheduled"


# Chains


def chain(*links: tuple[str, str | None, dict[str, str]], seat: bool = False) -> dict[str, Booking]:
    """Bookings by uid: each with the one it replaced and its own metadata."""
    kind = SeatTaken if seat else Rescheduled
    bookings = {
        booking_stream(uid): after(
            kind(details=Details(previous_uid=previous, metadata=metadata))
            if previous
            else Created(details=Details(metadata=metadata)),
            stream=booking_stream(uid),
        )
        for uid, previous, metadata in links
    }
    link_chain(bookings, booking_stream)
    return {booking.key: booking for booking in bookings.values()}


def test_metadata_are_carried_along_a_chain_and_the_newest_count() -> None:
    bookings = chain(("a", None, {"pet": "1", "x": "a"}), ("b", "a", {"x": "b"}), ("c", "b", {"y": "c"}))
    assert bookings["c"].metadata == {"pet": "1", "x": "b", "y": "c"}
    assert bookings["a"].metadata == {"pet": "1", "x": "a"}
    assert {booking.root_uid for booking in bookings.values()} == {"a"}


def test_a_chain_whose_beginning_is_unknown_has_the_oldest_name_as_its_root() -> None:
    assert chain(("c", "b", {}), ("b", "a", {}))["c"].root_uid == "a"


def test_a_seat_carries_nothing_over_from_the_slot_it_left() -> None:
    assert chain(("a", None, {"pet": "1"}), ("b", "a", {"x": "b"}), seat=True)["b"].metadata == {"x": "b"}


def test_a_chain_in_a_circle_ends() -> None:
    bookings = chain(("a", "c", {"x": "a"}), ("b", "a", {}), ("c", "b", {}))
    assert all(booking.metadata == {"x": "a"} for booking in bookings.values())


# Values


def test_a_booking_is_named_by_its_number_while_no_uid_is_known() -> None:
    assert (after(created).key, after(stream=StreamId("booking-id-4711")).key) == ("uidAAA", "4711")


def test_evolving_a_booking_leaves_the_one_before_as_it_was() -> None:
    before, same = after(*seats(ADA, BOB)), after(*seats(ADA, BOB))
    for fact in (cancelled, SeatLeft(emails=(ADA.email,), details=NOTHING), NOW_ABSENT, superseded, observed(), ended):
        assert evolve(before, dated(fact, at=minutes(10))) != before
        assert before == same
