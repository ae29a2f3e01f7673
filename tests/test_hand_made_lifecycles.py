"""Eight lifecycles that the simulator does not play, made by hand for their traps, in every order of arrival.

With the simulator's thirty-two (`tests/test_samples_fold.py`) that makes forty.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import pytest

from ledger.calcom.envelope import booking_stream
from tests.builders import instant, meeting, minutes, people, webhook
from tests.test_samples_fold import all_answers, fold_all, tell

HOUR = 60
ROW = {"id": 1, "bookingId": 7, "locale": "en"}


def slot(start: int, **further: object) -> dict[str, object]:
    """The fields of a booking that begins so many minutes after noon and lasts an hour."""
    return {"startTime": instant(minutes(start)), "endTime": instant(minutes(start + HOUR)), **further}


def seat(email: str, start: int) -> dict[str, object]:
    return slot(start, uid="class", seatsPerTimeSlot=6, attendees=people(email))


def mark(*, absent: bool) -> dict[str, object]:
    return {"bookingUid": "a", "attendees": [{"email": "ada@example.com", "noShow": absent}]}


LIFECYCLES: Mapping[str, tuple[Sequence[bytes], Mapping[str, str]]] = {
    "asked for, moved twice, called off, while the first meeting's end still comes": (
        (
            webhook("BOOKING_REQUESTED", slot(600, uid="a"), at=minutes(0)),
            webhook("BOOKING_CREATED", slot(600, uid="a"), at=minutes(1)),
            webhook("BOOKING_RESCHEDULED", slot(700, uid="b", rescheduleUid="a", rescheduleId=1), at=minutes(2)),
            webhook("BOOKING_RESCHEDULED", slot(800, uid="c", rescheduleUid="b", rescheduleId=2), at=minutes(3)),
            webhook("BOOKING_CANCELLED", slot(800, uid="c", status="CANCELLED"), at=minutes(4)),
            meeting("MEETING_ENDED", slot(600, uid="a")),
            meeting("MEETING_ENDED", slot(800, uid="c")),
        ),
        {"a": "rescheduled", "b": "rescheduled", "c": "cancelled"},
    ),
    "cancelled unpaid, then paid all the same": (
        (
            webhook("BOOKING_PAYMENT_INITIATED", slot(600, uid="a", status="ACCEPTED"), at=minutes(0)),
            webhook("BOOKING_CANCELLED", slot(600, uid="a", status="CANCELLED"), at=minutes(1)),
            webhook("BOOKING_PAID", slot(600, uid="a", status="ACCEPTED"), at=minutes(2)),
            webhook("BOOKING_CREATED", slot(600, uid="a", status="ACCEPTED"), at=minutes(3)),
            meeting("MEETING_STARTED", slot(600, uid="a")),
            meeting("MEETING_ENDED", slot(600, uid="a")),
        ),
        {"a": "completed"},
    ),
    "rejected, then confirmed after all": (
        (
            webhook("BOOKING_REQUESTED", slot(600, uid="a"), at=minutes(0)),
            webhook("BOOKING_REJECTED", slot(600, uid="a", status="REJECTED"), at=minutes(1)),
            webhook("BOOKING_CREATED", slot(600, uid="a", status="ACCEPTED"), at=minutes(2)),
            webhook("BOOKING_LOCATION_UPDATED", slot(600, uid="a", location="12 Example Street"), at=minutes(3)),
        ),
        {"a": "confirmed"},
    ),
    "a class that one leaves and the host moves, its old end still coming": (
        (
            webhook("BOOKING_CREATED", seat("ada@example.com", 600), at=minutes(0)),
            webhook("BOOKING_CREATED", seat("bob@example.com", 600), at=minutes(1)),
            webhook("BOOKING_CREATED", seat("cy@example.com", 600), at=minutes(2)),
            webhook(
                "BOOKING_CANCELLED",
                seat("bob@example.com", 600) | {"attendees": [{"email": "bob@example.com", **ROW}]},
                at=minutes(3),
            ),
            webhook("BOOKING_RESCHEDULED", seat("ada@example.com", 700) | {"rescheduleUid": "class"}, at=minutes(4)),
            meeting("MEETING_ENDED", slot(600, uid="class")),
            meeting("MEETING_STARTED", slot(700, uid="class")),
        ),
        {"class": "scheduled"},
    ),
    "marked absent, no longer, and again": (
        (
            webhook("BOOKING_CREATED", slot(0, uid="a", attendees=people("ada@example.com")), at=minutes(-90)),
            meeting("MEETING_STARTED", slot(0, uid="a")),
            meeting("MEETING_ENDED", slot(0, uid="a")),
            webhook("BOOKING_NO_SHOW_UPDATED", mark(absent=True), at=minutes(70)),
            webhook("BOOKING_NO_SHOW_UPDATED", mark(absent=False), at=minutes(71)),
            webhook("BOOKING_NO_SHOW_UPDATED", mark(absent=True), at=minutes(72)),
            webhook("RECORDING_READY", slot(0, uid="a", downloadLink="https://rec.example.com/a"), at=minutes(80)),
        ),
        {"a": "no_show"},
    ),
    "a chain whose middle never arrived": (
        (
            webhook("BOOKING_CREATED", slot(600, uid="a"), at=minutes(0)),
            webhook("BOOKING_RESCHEDULED", slot(800, uid="c", rescheduleUid="b", rescheduleId=2), at=minutes(2)),
            meeting("MEETING_STARTED", slot(800, uid="c", fromReschedule="b")),
            meeting("MEETING_ENDED", slot(800, uid="c", fromReschedule="b")),
        ),
        {"a": "scheduled", "b": "rescheduled", "c": "completed"},
    ),
    "given to another host, moved from room to room, with nobody in the call": (
        (
            webhook("BOOKING_CREATED", slot(600, uid="a"), at=minutes(0)),
            webhook("BOOKING_REASSIGNED", slot(600, uid="a", organizer={"email": "rosa@example.com"}), at=minutes(1)),
            webhook("BOOKING_LOCATION_UPDATED", slot(600, uid="a", location="Room 1"), at=minutes(2)),
            webhook("BOOKING_LOCATION_UPDATED", slot(600, uid="a", location="Room 2"), at=minutes(3)),
            webhook("AFTER_GUESTS_CAL_VIDEO_NO_SHOW", slot(600, bookingUid="a"), at=minutes(605)),
            webhook("AFTER_HOSTS_CAL_VIDEO_NO_SHOW", slot(600, bookingUid="a"), at=minutes(606)),
            meeting("MEETING_ENDED", slot(600, uid="a")),
        ),
        {"a": "completed"},
    ),
    "the host asks for another time, which is then refused": (
        (
            webhook("BOOKING_CREATED", slot(600, uid="a"), at=minutes(0)),
            webhook("BOOKING_CANCELLED", slot(600, uid="a", requestReschedule=True), at=minutes(1)),
            webhook("BOOKING_REQUESTED", slot(700, uid="b", rescheduleUid="a"), at=minutes(2)),
            webhook("BOOKING_REJECTED", slot(700, uid="b", status="REJECTED"), at=minutes(3)),
            meeting("MEETING_ENDED", slot(600, uid="a")),
        ),
        {"a": "rescheduled", "b": "cancelled"},
    ),
}


@pytest.mark.parametrize("name", LIFECYCLES)
def test_every_order_of_a_hand_made_lifecycle_gives_the_same_bookings(name: str) -> None:
    bodies, statuses = LIFECYCLES[name]
    deliveries = [tell(body) for body in bodies]
    in_order = fold_all(deliveries)
    assert {stream: booking.calendar_status() for stream, booking in in_order.items()} == {
        booking_stream(uid): status for uid, status in statuses.items()
    }
    expected = all_answers(in_order)
    for order in permutations(deliveries):
        assert all_answers(fold_all(order)) == expected
        assert all_answers(fold_all((*order, order[0]))) == expected
