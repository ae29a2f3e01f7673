"""What each fact does to a booking: the rules that most receivers get wrong, one function each.

Facts come in order of time (`ledger/folding.py`). What a body says of the booking itself is not copied but kept in
`told`, the weightiest first: a full body goes before what is known, a snapshot after it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from ledger.booking import NOTHING, UNKNOWN_TIME, Booking
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
    Redacted,
    Rejected,
    Requested,
    Rescheduled,
    SeatLeft,
    SeatTaken,
    Superseded,
)


def _requested(booking: Booking, fact: Requested) -> None:
    details = fact.details
    _overwrite(booking, details)
    booking.requested = True
    booking.rescheduled_from = details.previous_uid or booking.rescheduled_from
    if booking.rescheduled_from is None and _is_named_after_another(booking, details):
        _doubt(booking, "link_unknown")
    booking.status = booking.status or "pending"


def _payment_initiated(booking: Booking, fact: PaymentInitiated) -> None:
    _overwrite(booking, fact.details)
    booking.payment_initiated = True
    booking.payment_number = fact.payment_number or booking.payment_number
    booking.rescheduled_from = fact.details.previous_uid or booking.rescheduled_from
    booking.status = booking.status or "pending"


def _created(booking: Booking, fact: Created) -> None:
    details = fact.details
    _take(booking, details)
    if details.previous_uid is not None:
        booking.rescheduled_from = details.previous_uid
    if booking.requested and booking.status == "pending" and _is_recurring(booking):
        _doubt(booking, "series_changed")
    _accept(booking)


def _confirmed(booking: Booking, fact: Confirmed) -> None:
    _overwrite(booking, fact.details)
    booking.explicitly_confirmed = True
    _accept(booking)


def _paid(booking: Booking, fact: Paid) -> None:
    _overwrite(booking, fact.details)
    booking.paid = True
    booking.payment_number = fact.payment_number or booking.payment_number
    if fact.accepted:
        _accept(booking)
    else:
        booking.status = booking.status or "pending"


def _rescheduled(booking: Booking, fact: Rescheduled) -> None:
    _overwrite(booking, fact.details)
    booking.rescheduled_from = fact.details.previous_uid
    booking.rescheduled_by = fact.rescheduled_by
    _accept(booking)


def _moved(booking: Booking, fact: Moved) -> None:
    _seat_more(booking, fact.details)
    _imply_accepted(booking)


def _seat_taken(booking: Booking, fact: SeatTaken) -> None:
    _seat_more(booking, fact.details)
    if booking.rescheduled_from is None:
        booking.rescheduled_from, booking.seat_from = fact.details.previous_uid, True
    _accept(booking)


def _changed(booking: Booking, fact: LocationUpdated | Reassigned) -> None:
    _take(booking, fact.details)
    _imply_accepted(booking)


def _meeting_started(booking: Booking, fact: MeetingStarted) -> None:
    booking.started_for = fact.details.start or UNKNOWN_TIME
    _fill(booking, fact.details)


def _meeting_ended(booking: Booking, fact: MeetingEnded) -> None:
    booking.ended_for = fact.details.start or UNKNOWN_TIME
    _fill(booking, fact.details)


def _attendees_marked(booking: Booking, fact: AttendeesMarked) -> None:
    booking.absent = {**booking.absent, **fact.absent}
    booking.marked = True
    _fill(booking, fact.details)


def _host_absent(booking: Booking, fact: HostAbsent) -> None:
    booking.host_absent = True
    _fill(booking, fact.details)


def _guests_absent(booking: Booking, fact: GuestsAbsent) -> None:
    booking.guests_absent = True
    _fill(booking, fact.details)


def _seat_left(booking: Booking, fact: SeatLeft) -> None:
    seated = _seat(booking)
    leavers = {email: seated.pop(email) if email in seated else Person(email=email) for email in fact.emails}
    booking.gave_up = {**booking.gave_up, **leavers}
    if fact.moved_to_uid is not None:
        booking.seats_went_to = (*booking.seats_went_to, fact.moved_to_uid)
    _fill(booking, msgspec.structs.replace(fact.details, attendees=None))
    if not seated or not fact.emails:
        _doubt(booking, "seat_or_whole")


def _cancelled(booking: Booking, fact: Cancelled) -> None:
    _overwrite(booking, fact.details)
    booking.status = "cancelled"
    if fact.details.recurring:
        _doubt(booking, "series_changed")
    booking.cancellation_reason = fact.reason or booking.cancellation_reason
    booking.cancelled_by = fact.cancelled_by or booking.cancelled_by
    booking.reschedule_requested = fact.reschedule_requested


def _rejected(booking: Booking, fact: Rejected) -> None:
    _overwrite(booking, fact.details)
    booking.status = "rejected"
    if booking.requested and _is_recurring(booking):
        _doubt(booking, "series_changed")
    booking.rejection_reason = fact.reason or booking.rejection_reason


def _superseded(booking: Booking, fact: Superseded) -> None:
    if fact.by_snapshot and booking.status is not None:
        if booking.rescheduled_to is None and fact.by_uid not in booking.seats_went_to:
            _doubt(booking, "link_unknown")
        return
    if not fact.by_snapshot or booking.rescheduled_to is None:
        booking.rescheduled_to = fact.by_uid
    booking.told = (*booking.told, fact.details)


def _recording_ready(booking: Booking, fact: RecordingReady) -> None:
    booking.recording_url = fact.recording_url or booking.recording_url
    booking.has_transcript = booking.has_transcript or fact.has_transcript
    _fill(booking, fact.details)


def _observed(booking: Booking, fact: Observed) -> None:
    """Cal.com's own row, as of now: it settles every doubt. What its API does not show (payments) stays.

    A row that is not over has not been replaced, whatever a webhook said; of one that is over the API may hide by what.
    """
    _overwrite(booking, fact.details)
    is_over = fact.status in ("cancelled", "rejected", "rescheduled")
    booking.status = "cancelled" if fact.status == "rescheduled" else fact.status
    booking.rescheduled_from = fact.details.previous_uid or booking.rescheduled_from
    booking.rescheduled_to = fact.rescheduled_to or (booking.rescheduled_to if is_over else None)
    booking.cancellation_reason = fact.cancellation_reason or booking.cancellation_reason
    booking.cancelled_by = fact.cancelled_by or booking.cancelled_by
    booking.absent = fact.absent or booking.absent
    booking.marked = booking.marked or any(fact.absent.values())
    booking.made_at = fact.made_at or booking.made_at
    booking.host_marked = fact.host_absent
    booking.doubts = NOTHING


def _redacted(booking: Booking, fact: Redacted) -> None:
    """Who was erased is none of those who come or left. That somebody was absent stays true, without saying who."""
    booking.is_gone = booking.is_gone or fact.gone
    booking.unnamed = booking.unnamed.union(fact.pseudonyms)


def _accept(booking: Booking) -> None:
    """Accepted now. A cancelled or rejected booking comes back, which Cal.com allows but which wants checking."""
    if booking.status in ("cancelled", "rejected"):
        _doubt(booking, "created_after_end")
    booking.status = "accepted"


def _imply_accepted(booking: Booking) -> None:
    """What was reported only happens to accepted bookings: a pending one was accepted silently; an ended one stays."""
    if booking.status in (None, "pending"):
        booking.status = "accepted"


def _is_recurring(booking: Booking) -> bool:
    return booking.recurring is True


def _is_named_after_another(booking: Booking, details: Details) -> bool:
    """The calendar id is kept over a reschedule: one that names another uid shows that there was one before."""
    ical_uid, uid = details.ical_uid, booking.uid
    if ical_uid is None or uid is None or ical_uid.startswith(uid):
        return False
    return len(ical_uid.partition("@")[0]) == len(uid)


def _doubt(booking: Booking, name: str) -> None:
    """Something is not known; an observation will settle it. The first cause counts."""
    if name not in booking.doubts:
        booking.doubts = {**booking.doubts, name: None}


def _take(booking: Booking, details: Details) -> None:
    """Take what the body says; where there are seats, those it names come in addition to those known."""
    if booking.is_class or details.seats is not None:
        _seat_more(booking, details)
    else:
        _overwrite(booking, details)


def _overwrite(booking: Booking, details: Details) -> None:
    """Take what the body says; those it names are all who come."""
    _hear(booking, details)
    if details.attendees is not None:
        booking.named = details.attendees


def _seat_more(booking: Booking, details: Details) -> None:
    """Take what the body says; those it names come in addition to those known."""
    _hear(booking, details)
    if details.attendees is not None:
        seated = _seat(booking)
        for person in details.attendees:
            seated[person.email] = person


def _hear(booking: Booking, details: Details) -> None:
    told, metadata = booking.told, details.metadata
    booking.told = (details, *told) if told else (details,)
    if details.seats is not None:
        booking.is_class = True
    if metadata is not None:
        booking.metadata = {**booking.metadata, **metadata} if booking.metadata else metadata


def _fill(booking: Booking, details: Details) -> None:
    """Take what the body says where nothing is known yet: a snapshot may be older than what we know."""
    booking.told = (*booking.told, details)
    metadata = details.metadata
    if metadata is not None:
        booking.metadata = {**metadata, **booking.metadata} if booking.metadata else metadata
    if booking.named is None and details.attendees is not None and not booking.seated and not booking.gave_up:
        booking.named = details.attendees
    if booking.rescheduled_from is None:
        booking.rescheduled_from = details.previous_uid
    _imply_accepted(booking)


def _seat(booking: Booking) -> dict[str, Person]:
    """From here on attendees come and go one by one, in the dictionary returned."""
    if booking.named is not None:
        booking.seated, booking.named = {person.email: person for person in booking.named}, None
    return booking.seated


APPLY: dict[type[AnyFact], Callable[[Booking, Any], None]] = {
    Requested: _requested,
    PaymentInitiated: _payment_initiated,
    Created: _created,
    Confirmed: _confirmed,
    Paid: _paid,
    Rescheduled: _rescheduled,
    Moved: _moved,
    SeatTaken: _seat_taken,
    LocationUpdated: _changed,
    Reassigned: _changed,
    MeetingStarted: _meeting_started,
    MeetingEnded: _meeting_ended,
    AttendeesMarked: _attendees_marked,
    HostAbsent: _host_absent,
    GuestsAbsent: _guests_absent,
    SeatLeft: _seat_left,
    Cancelled: _cancelled,
    Rejected: _rejected,
    Superseded: _superseded,
    RecordingReady: _recording_ready,
    Observed: _observed,
    Redacted: _redacted,
}
