"""What each body means: which facts, about which booking; and where two meanings are possible, that both are kept."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calcom.envelope import open_envelope
from ledger.calcom.meaning import Meaning, meaning_of, supersedes
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
from ledger.folding import fold
from ledger.history import read_event
from ledger.store import RecordedEvent
from ledger.vocabulary import Position, StreamId, StreamVersion
from tests.builders import NOON, bodies_like_cal_coms, meeting, minutes, new_event, people, webhook

UID = {"uid": "uidAAA", "bookingId": 4711}
ROW = {"id": 9001, "bookingId": 4711, "locale": "en", "noShow": False}
TIMES = {"startTime": "2026-12-01T12:00:00Z", "endTime": "2026-12-01T12:45:00Z"}
OLD_TIMES = {"rescheduleStartTime": "2026-11-30T12:00:00Z", "rescheduleEndTime": "2026-11-30T12:45:00Z"}
MOVED_FROM_OLD = {"rescheduleUid": "uidOLD", "rescheduleId": 4700, **OLD_TIMES}


def meaning(body: bytes) -> Meaning:
    return meaning_of(open_envelope(body))


def told(trigger: str, **payload: object) -> list[tuple[str, str]]:
    """Stream and kind of each fact of a body about uidAAA."""
    return [(stream, type(fact).__name__) for stream, fact in meaning(webhook(trigger, {**UID, **payload}))]


def only_fact(trigger: str, **payload: object) -> AnyFact:
    [(stream, fact)] = meaning(webhook(trigger, {**UID, **payload}))
    assert stream == "booking-uidAAA"
    return fact


def details(**payload: object) -> Details:
    return only_fact("BOOKING_CREATED", **payload).details


# Which fact each trigger states


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        ("BOOKING_CREATED", Created),
        ("BOOKING_REQUESTED", Requested),
        ("BOOKING_CONFIRMED", Confirmed),
        ("BOOKING_PAYMENT_INITIATED", PaymentInitiated),
        ("BOOKING_PAID", Paid),
        ("BOOKING_RESCHEDULED", Moved),
        ("BOOKING_CANCELLED", Cancelled),
        ("BOOKING_REJECTED", Rejected),
        ("BOOKING_NO_SHOW_UPDATED", AttendeesMarked),
        ("BOOKING_LOCATION_UPDATED", LocationUpdated),
        ("BOOKING_REASSIGNED", Reassigned),
        ("AFTER_HOSTS_CAL_VIDEO_NO_SHOW", HostAbsent),
        ("AFTER_GUESTS_CAL_VIDEO_NO_SHOW", GuestsAbsent),
        ("RECORDING_READY", RecordingReady),
        ("RECORDING_TRANSCRIPTION_GENERATED", RecordingReady),
        ("MEETING_STARTED", MeetingStarted),
        ("MEETING_ENDED", MeetingEnded),
    ],
)
def test_each_trigger_states_its_fact_about_its_booking(trigger: str, kind: type[AnyFact]) -> None:
    assert type(only_fact(trigger)) is kind
    assert type(meaning(meeting(trigger, UID))[0][1]) is kind


@pytest.mark.parametrize("trigger", ["PING", "FORM_SUBMITTED", "OOO_CREATED", "INSTANT_MEETING", "BOOKING_RATED"])
def test_other_triggers_mean_nothing_for_a_booking(trigger: str) -> None:
    assert told(trigger) == []


def test_a_body_that_names_no_booking_means_nothing() -> None:
    assert meaning(webhook("BOOKING_CREATED", {"title": "Test trigger event", **TIMES})) == ()
    assert meaning(b"false") == ()


def test_a_body_with_a_number_alone_is_about_the_booking_of_that_number() -> None:
    [(stream, fact)] = meaning(webhook("BOOKING_CREATED", {"bookingId": "4711"}))
    assert (stream, fact) == ("booking-id-4711", Created(details=Details(number=4711)))


# What it says of the booking


def test_details_are_read_from_a_whole_body() -> None:
    whole = details(
        **TIMES,
        title="Full Grooming between Rosa and Ada",
        type="full-grooming",
        eventTypeId=37001,
        description="Two dogs",
        location="12 Example Street",
        iCalUID="uidAAA@Cal.com",
        organizer={"email": "Rosa@Studio.example.com", "name": "Rosa"},
        attendees=[
            {"email": "Ada@Example.com", "name": "Ada", "phoneNumber": "+15550001111", "timeZone": "Asia/Tokyo"}
        ],
        metadata={"petId": "p1", "videoCallUrl": "https://rooms.example.com/1", "count": 3, "nested": {}},
        seatsPerTimeSlot=6,
        recurringEvent={"freq": 2, "count": 3, "interval": 1},
    )
    assert whole == Details(
        number=4711,
        ical_uid="uidAAA@Cal.com",
        title="Full Grooming between Rosa and Ada",
        description="Two dogs",
        event_type="full-grooming",
        event_type_number=37001,
        start=NOON,
        end=minutes(45),
        location="12 Example Street",
        meeting_url="https://rooms.example.com/1",
        host_email="rosa@studio.example.com",
        host_name="Rosa",
        attendees=(Person(email="ada@example.com", name="Ada", phone="+15550001111", time_zone="Asia/Tokyo"),),
        metadata={"petId": "p1"},
        seats=6,
        recurring=True,
    )


def test_what_a_body_leaves_out_or_leaves_empty_it_does_not_say() -> None:
    empty = {
        "title": "",
        "description": "",
        "location": "",
        "type": "",
        "attendees": [],
        "metadata": {},
        "organizer": {},
    }
    assert details() == details(**empty) == details(**dict.fromkeys(empty)) == Details(number=4711)
    assert details(recurringEvent=None) == details(recurringEvent={}) == Details(number=4711)


def test_attendees_that_are_bare_addresses_are_people_all_the_same() -> None:
    mixed: list[object] = ["Ada@Example.com", {"email": "bob@example.com", "name": "Bob"}]
    expected = (Person(email="ada@example.com"), Person(email="bob@example.com", name="Bob"))
    assert details(attendees=mixed).attendees == expected


@pytest.mark.parametrize("metadata", ["", "text", None, [], 5])
def test_metadata_of_another_kind_costs_nothing_else(metadata: object) -> None:
    read = details(metadata=metadata, attendees=people("a@example.com"), **TIMES)
    assert read.metadata is None
    assert read.start == NOON
    assert [person.email for person in read.attendees or ()] == ["a@example.com"]


@pytest.mark.parametrize(
    "responses",
    [
        {"email": "Ada@Example.com", "name": "Ada"},
        {"email": {"label": "email", "value": "Ada@Example.com"}, "name": {"label": "name", "value": "Ada"}},
    ],
)
def test_where_no_attendee_is_listed_the_booker_answers_for_them(responses: dict[str, object]) -> None:
    assert details(responses=responses).attendees == (Person(email="ada@example.com", name="Ada"),)
    assert details(responses=responses, attendees=people("b@example.com")).attendees == (
        Person(email="b@example.com", name="b"),
    )


@pytest.mark.parametrize(
    ("payload", "url"),
    [
        ({"metadata": {"videoCallUrl": "https://rooms.example.com/1"}, "location": "https://other.example"}, "1"),
        ({"videoCallData": {"url": "https://rooms.example.com/1"}, "location": "integrations:daily"}, "1"),
        ({"location": "https://rooms.example.com/1"}, "1"),
        ({"location": "12 Example Street"}, None),
        ({"location": "javascript:alert(1)", "metadata": {"videoCallUrl": "data:text/html,x"}}, None),
    ],
)
def test_where_to_join_is_a_link_or_nothing(payload: dict[str, object], url: str | None) -> None:
    assert details(**payload).meeting_url == (url and f"https://rooms.example.com/{url}")


def test_the_metadata_of_a_payment_are_not_the_bookers() -> None:
    paid = only_fact("BOOKING_PAID", metadata={"identifier": "cal.com", "externalId": "pi_1"}, paymentId=33)
    assert paid == Paid(details=Details(number=4711), payment_number=33, accepted=True)
    assert only_fact("BOOKING_PAID", status="PENDING") == Paid(details=Details(number=4711), accepted=False)


# Which booking it replaces


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        ("BOOKING_RESCHEDULED", "Rescheduled"),
        ("BOOKING_REQUESTED", "Requested"),
        ("BOOKING_PAYMENT_INITIATED", "PaymentInitiated"),
        ("BOOKING_CREATED", "Created"),
    ],
)
def test_a_body_that_names_an_older_uid_supersedes_it(trigger: str, kind: str) -> None:
    body = webhook(trigger, {**UID, **TIMES, **MOVED_FROM_OLD, "rescheduledBy": "ada@example.com"})
    new, (old_stream, superseded) = meaning(body)
    assert (new[0], type(new[1]).__name__) == ("booking-uidAAA", kind)
    assert new[1].details.previous_uid == "uidOLD"
    assert old_stream == "booking-uidOLD"
    assert isinstance(superseded, Superseded)
    assert (superseded.by_uid, superseded.by_snapshot) == ("uidAAA", False)
    assert supersedes(open_envelope(body))


def test_a_reschedule_says_what_the_old_times_were_and_who_did_it() -> None:
    (_, rescheduled), (_, superseded) = meaning(
        webhook("BOOKING_RESCHEDULED", {**UID, **TIMES, **MOVED_FROM_OLD, "rescheduledBy": "ada@example.com"})
    )
    assert isinstance(rescheduled, Rescheduled)
    assert (rescheduled.rescheduled_by, rescheduled.details.start) == ("ada@example.com", NOON)
    assert superseded.details == Details(
        start=datetime(2026, 11, 30, 12, tzinfo=UTC), end=datetime(2026, 11, 30, 12, 45, tzinfo=UTC)
    )


def test_a_snapshot_that_names_an_older_uid_says_so_as_a_snapshot() -> None:
    _, (stream, superseded) = meaning(meeting("MEETING_ENDED", {"uid": "uidAAA", "fromReschedule": "uidOLD", **TIMES}))
    assert (stream, superseded) == (
        "booking-uidOLD",
        Superseded(by_uid="uidAAA", details=Details(), by_snapshot=True),
    )


def test_a_class_moved_by_its_host_names_itself_and_replaces_nothing() -> None:
    body = {**UID, **TIMES, **OLD_TIMES, "rescheduleUid": "uidAAA", "seatsPerTimeSlot": 6}
    envelope = open_envelope(webhook("BOOKING_RESCHEDULED", body))
    assert not supersedes(envelope)
    [(stream, fact)] = meaning_of(envelope)
    assert (stream, type(fact), fact.details.previous_uid) == ("booking-uidAAA", Moved, None)


@pytest.mark.parametrize("reschedule_id", [{}, {"rescheduleId": None}])
def test_a_seat_that_moves_leaves_the_old_class_alone(reschedule_id: dict[str, object]) -> None:
    payload = {**UID, "rescheduleUid": "uidOLD", "seatsPerTimeSlot": 6, "attendees": people("Ada@example.com")}
    envelope = open_envelope(webhook("BOOKING_RESCHEDULED", {**payload, **reschedule_id}))
    assert not supersedes(envelope)
    (new_stream, taken), (old_stream, left) = meaning_of(envelope)
    assert (new_stream, type(taken)) == ("booking-uidAAA", SeatTaken)
    assert (old_stream, left) == (
        "booking-uidOLD",
        SeatLeft(emails=("ada@example.com",), moved_to_uid="uidAAA", details=Details()),
    )


def test_a_whole_class_that_moves_to_another_uid_supersedes_the_old_one() -> None:
    kinds = told("BOOKING_RESCHEDULED", seatsPerTimeSlot=6, attendees=people("a@example.com"), **MOVED_FROM_OLD)
    assert kinds == [("booking-uidAAA", "Rescheduled"), ("booking-uidOLD", "Superseded")]


# Cancelled: the booking, or one seat of it


def test_a_cancellation_says_who_and_why() -> None:
    cancelled = only_fact("BOOKING_CANCELLED", cancellationReason=" Conflict ", cancelledBy="rosa@studio.example.com")
    assert cancelled == Cancelled(
        details=Details(number=4711), reason="Conflict", cancelled_by="rosa@studio.example.com"
    )
    assert only_fact("BOOKING_CANCELLED", cancellationReason="") == Cancelled(details=Details(number=4711))


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        ({"requestReschedule": True, "cancellationReason": "Bitte neuen Termin"}, True),
        ({"cancellationReason": "Please reschedule. Need another day"}, True),
        ({"requestReschedule": False, "cancellationReason": "Please reschedule. Need another day"}, False),
        ({"cancellationReason": "I am ill"}, False),
    ],
)
def test_a_host_who_asks_for_another_time_is_told_from_one_who_cancels(payload: dict[str, object], asked: bool) -> None:  # noqa: FBT001  # parametrized
    cancelled = only_fact("BOOKING_CANCELLED", **payload)
    assert isinstance(cancelled, Cancelled)
    assert cancelled.reschedule_requested is asked


def test_one_row_of_the_database_on_a_seated_booking_is_a_seat_that_leaves() -> None:
    leaver = {**people("Ada@example.com")[0], **ROW}
    left = only_fact("BOOKING_CANCELLED", seatsPerTimeSlot=6, attendees=[leaver], cancellationReason="Conflict")
    assert isinstance(left, SeatLeft)
    assert (left.emails, left.reason, left.moved_to_uid) == (("ada@example.com",), "Conflict", None)


def test_a_seat_whose_row_was_no_longer_found_leaves_nameless() -> None:
    left = only_fact("BOOKING_CANCELLED", seatsPerTimeSlot=6, attendees=[])
    assert isinstance(left, SeatLeft)
    assert left.emails == ()


@pytest.mark.parametrize(
    "change",
    [
        {"seatsPerTimeSlot": None},
        {"cancelledBy": "rosa@studio.example.com"},
        {"attendees": people("a@example.com")},
        {"attendees": [{**person, **ROW} for person in people("a@example.com", "b@example.com")]},
    ],
)
def test_anything_else_cancels_the_whole_booking(change: dict[str, object]) -> None:
    payload = {"seatsPerTimeSlot": 6, "attendees": [{**people("a@example.com")[0], **ROW}], **change}
    assert told("BOOKING_CANCELLED", **payload) == [("booking-uidAAA", "Cancelled")]


# Absences and recordings


def test_marks_are_told_by_e_mail_in_both_directions() -> None:
    marks = [{"email": "A@example.com", "noShow": True}, {"email": "b@example.com", "noShow": False}, {"email": "c@x"}]
    [(stream, marked)] = meaning(
        webhook("BOOKING_NO_SHOW_UPDATED", {"bookingUid": "uidAAA", "bookingId": 4711, "attendees": marks})
    )
    assert stream == "booking-uidAAA"
    assert marked == AttendeesMarked(
        absent={"a@example.com": True, "b@example.com": False}, details=Details(number=4711)
    )


def test_cal_video_names_the_guests_it_missed() -> None:
    absent = only_fact("AFTER_GUESTS_CAL_VIDEO_NO_SHOW", guests=[{**people("A@example.com")[0], **ROW}])
    assert isinstance(absent, GuestsAbsent)
    assert absent.emails == ("a@example.com",)


def test_a_recording_has_a_link_and_repeats_the_title_as_its_type() -> None:
    ready = only_fact("RECORDING_READY", type="Intro Call", title="Intro Call", downloadLink="https://r.example/1")
    assert isinstance(ready, RecordingReady)
    assert (ready.recording_url, ready.has_transcript, ready.details.event_type) == ("https://r.example/1", False, None)
    links = {"recording": "https://r.example/1", "transcription": [{"format": "vtt", "link": "https://r.example/t"}]}
    transcript = only_fact("RECORDING_TRANSCRIPTION_GENERATED", downloadLinks=links)
    assert isinstance(transcript, RecordingReady)
    assert (transcript.recording_url, transcript.has_transcript) == ("https://r.example/1", True)


# Total


def recorded(body: bytes) -> RecordedEvent:
    event = new_event(body=body)
    return RecordedEvent(
        position=Position(1),
        stream_id=event.stream_id,
        stream_version=StreamVersion(1),
        event_id=event.event_id,
        topic=event.topic,
        body=body,
        occurred_at=NOON,
        recorded_at=NOON,
        source="webhook",
        metadata="{}",
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(max_size=100) | bodies_like_cal_coms(), min_size=1, max_size=4))
def test_whatever_the_bodies_are_they_mean_something_that_folds(bodies: list[bytes]) -> None:
    facts = [pair for body in bodies for pair in read_event(recorded(body)).facts]
    for stream_id in {stream for stream, _ in facts}:
        assert stream_id.startswith("booking-")
        booking = fold(StreamId(stream_id), [dated for stream, dated in facts if stream == stream_id])
        assert booking.calendar_status() in {
            "scheduled",
            "confirmed",
            "completed",
            "no_show",
            "cancelled",
            "rescheduled",
        }
        assert all(email == email.lower() for email in (*booking.attendees, *booking.left, *booking.absent))
