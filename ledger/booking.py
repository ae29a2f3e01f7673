"""A booking, and how facts make it: `fold` and `evolve`, pure and total.

The state depends on the set of facts alone, never on the order in which they came or on how often: facts are sorted
by (occurred_at, rank, digest), equal ones count once, and each is folded in. A late fact re-folds its stream.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

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
from ledger.vocabulary import BookingStatus, CalendarStatus, StreamId

BY_ORDER = attrgetter("occurred_at", "rank", "digest")
"""The key by which dated facts are folded."""

UNKNOWN_TIME = datetime.min
"""Stands for the start of a meeting whose own body did not give it."""


class Booking(msgspec.Struct, kw_only=True, gc=False):
    """One booking as its facts tell it. A value: only `fold` and `evolve` make new ones, nobody changes one.

    `status` is Cal.com's word without regard to a newer uid; read `booking_status` and `calendar_status` instead.
    `named` are attendees that wait to be put by e-mail; `told` is what bodies said of the booking itself, the weightiest first; the plain fields are what results.
    `seat_from`: `rescheduled_from` is a slot from which one seat came, and which lives on.
    `started_for` and `ended_for` are the start for which the meeting was reported: they count while it is still that.
    """

    stream_id: StreamId
    uid: str | None = None
    number: int | None = None
    ical_uid: str | None = None
    title: str | None = None
    description: str | None = None
    event_type: str | None = None
    event_type_number: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    location: str | None = None
    meeting_url: str | None = None
    host_email: str | None = None
    host_name: str | None = None
    attendees: dict[str, Person] = {}
    named: tuple[Person, ...] | None = None
    left: dict[str, Person] = {}
    absent: dict[str, bool] = {}
    metadata: dict[str, str] = {}
    seats: int | None = None
    recurring: bool | None = None
    status: BookingStatus | None = None
    requested: bool = False
    payment_initiated: bool = False
    payment_number: int | None = None
    paid: bool = False
    explicitly_confirmed: bool = False
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    reschedule_requested: bool = False
    rejection_reason: str | None = None
    rescheduled_by: str | None = None
    rescheduled_from: str | None = None
    rescheduled_to: str | None = None
    seat_from: bool = False
    root_uid: str | None = None
    started_for: datetime | None = None
    ended_for: datetime | None = None
    host_absent: bool = False
    guests_absent: bool = False
    recording_url: str | None = None
    has_transcript: bool = False
    doubts: tuple[str, ...] = ()
    told: tuple[Details, ...] = ()
    first_occurred_at: datetime | None = None
    last_occurred_at: datetime | None = None
    last_position: int = 0

    @property
    def key(self) -> str:
        """The uid, or the number as text while no uid is known."""
        return self.uid or str(self.number)

    @property
    def booking_status(self) -> BookingStatus:
        """Cal.com's truth."""
        if self.rescheduled_to is not None:
            return "rescheduled"
        return self.status or "accepted"

    @property
    def no_show(self) -> bool:
        """Whether anybody is marked absent now."""
        return any(self.absent.values())

    @property
    def started(self) -> bool:
        return _counts_for(self.started_for, self.start)

    @property
    def ended(self) -> bool:
        return _counts_for(self.ended_for, self.start)

    def calendar_status(self, *, confirm_on_accept: bool = False) -> CalendarStatus:
        """The word of `calendar_events.status` (DESIGN.md section 3)."""
        match self.booking_status:
            case "rescheduled":
                return "rescheduled"
            case "cancelled" | "rejected":
                return "cancelled"
            case "pending":
                return "scheduled"
            case "accepted":
                return self._accepted_status(confirm_on_accept=confirm_on_accept)

    def _accepted_status(self, *, confirm_on_accept: bool) -> CalendarStatus:
        if self.no_show:
            return "no_show"
        if self.ended:
            return "completed"
        confirmed = self.requested or self.payment_initiated or self.paid or self.explicitly_confirmed
        return "confirmed" if confirmed or confirm_on_accept else "scheduled"


def fold(stream_id: StreamId, facts: Sequence[Dated]) -> Booking:
    """The booking that these facts tell, in whatever order and however often they are given."""
    booking = _blank(stream_id)
    previous = None
    for dated in sorted(facts, key=BY_ORDER) if len(facts) > 1 else facts:
        fact = dated.fact
        if previous is None or dated.occurred_at != previous.occurred_at or BY_ORDER(dated) != BY_ORDER(previous):
            _APPLY[type(fact)](booking, fact)
            previous = dated
            if dated.position > booking.last_position:
                booking.last_position = dated.position
            if booking.first_occurred_at is None:
                booking.first_occurred_at = dated.occurred_at
    if previous is not None:
        booking.last_occurred_at = previous.occurred_at
    _settle(booking)
    return booking


def evolve(booking: Booking, dated: Dated) -> Booking:
    """The next state, where `dated` is not earlier than any fact folded so far. Total: any fact is accepted."""
    following = copy.copy(booking)
    _APPLY[type(dated.fact)](following, dated.fact)
    following.first_occurred_at = booking.first_occurred_at or dated.occurred_at
    following.last_occurred_at = dated.occurred_at
    following.last_position = max(booking.last_position, dated.position)
    _settle(following)
    return following


def link_chain(bookings: Mapping[StreamId, Booking], stream_of: Callable[[str], StreamId]) -> None:
    """Every booking knows its chain's root and carries forward the metadata of those it replaced.

    Fills `root_uid` and `metadata` in place, once, right after folding. A chain that runs in a circle ends where it
    began.
    """
    own_metadata = {stream_id: booking.metadata for stream_id, booking in bookings.items()}
    for booking in bookings.values():
        booking.root_uid = booking.key
        seen = {booking.stream_id}
        at: Booking | None = booking
        while at is not None and at.rescheduled_from is not None and stream_of(at.rescheduled_from) not in seen:
            booking.root_uid = at.rescheduled_from
            stream_id = stream_of(at.rescheduled_from)
            seen.add(stream_id)
            at = None if at.seat_from else bookings.get(stream_id)
            if at is not None:
                booking.metadata = {**own_metadata[stream_id], **booking.metadata}


def _blank(stream_id: StreamId) -> Booking:
    name = stream_id[len("booking-") :]
    if name.startswith("id-") and name[3:].isdigit():
        return Booking(stream_id=stream_id, told=(Details(number=int(name[3:])),))
    return Booking(stream_id=stream_id, uid=name)


def _counts_for(reported: datetime | None, start: datetime | None) -> bool:
    """Whether a meeting reported for one start still speaks of the booking's present start."""
    return reported is not None and (start is None or reported in (UNKNOWN_TIME, start))


def _requested(booking: Booking, fact: Requested) -> None:
    _overwrite(booking, fact.details)
    booking.requested = True
    booking.rescheduled_from = fact.details.previous_uid or booking.rescheduled_from
    booking.status = booking.status or "pending"


def _payment_initiated(booking: Booking, fact: PaymentInitiated) -> None:
    _overwrite(booking, fact.details)
    booking.payment_initiated = True
    booking.payment_number = fact.payment_number or booking.payment_number
    booking.rescheduled_from = fact.details.previous_uid or booking.rescheduled_from
    booking.status = booking.status or "pending"


def _created(booking: Booking, fact: Created) -> None:
    _overwrite(booking, fact.details, joins=_is_seated(booking, fact.details))
    booking.rescheduled_from = fact.details.previous_uid or booking.rescheduled_from
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
    _overwrite(booking, fact.details, joins=True)
    _imply_accepted(booking)


def _seat_taken(booking: Booking, fact: SeatTaken) -> None:
    _overwrite(booking, fact.details, joins=True)
    if booking.rescheduled_from is None:
        booking.rescheduled_from, booking.seat_from = fact.details.previous_uid, True
    _accept(booking)


def _changed(booking: Booking, fact: LocationUpdated | Reassigned) -> None:
    _overwrite(booking, fact.details, joins=_is_seated(booking, fact.details))
    _imply_accepted(booking)


def _meeting_started(booking: Booking, fact: MeetingStarted) -> None:
    booking.started_for = fact.details.start or UNKNOWN_TIME
    _fill(booking, fact.details)


def _meeting_ended(booking: Booking, fact: MeetingEnded) -> None:
    booking.ended_for = fact.details.start or UNKNOWN_TIME
    _fill(booking, fact.details)


def _attendees_marked(booking: Booking, fact: AttendeesMarked) -> None:
    booking.absent = {**booking.absent, **fact.absent}
    _fill(booking, fact.details)


def _host_absent(booking: Booking, fact: HostAbsent) -> None:
    booking.host_absent = True
    _fill(booking, fact.details)


def _guests_absent(booking: Booking, fact: GuestsAbsent) -> None:
    booking.guests_absent = True
    _fill(booking, fact.details)


def _seat_left(booking: Booking, fact: SeatLeft) -> None:
    _flush(booking)
    leavers = {email: booking.attendees.get(email) or Person(email=email) for email in fact.emails}
    booking.left = {**booking.left, **leavers}
    booking.attendees = {email: person for email, person in booking.attendees.items() if email not in leavers}
    _fill(booking, msgspec.structs.replace(fact.details, attendees=None))
    if not booking.attendees:
        _doubt(booking, "seat_or_whole")


def _cancelled(booking: Booking, fact: Cancelled) -> None:
    _overwrite(booking, fact.details)
    booking.status = "cancelled"
    booking.cancellation_reason = fact.reason or booking.cancellation_reason
    booking.cancelled_by = fact.cancelled_by or booking.cancelled_by
    booking.reschedule_requested = fact.reschedule_requested


def _rejected(booking: Booking, fact: Rejected) -> None:
    _overwrite(booking, fact.details)
    booking.status = "rejected"
    booking.rejection_reason = fact.reason or booking.rejection_reason


def _superseded(booking: Booking, fact: Superseded) -> None:
    if fact.by_snapshot and booking.status is not None and booking.rescheduled_to is None:
        _doubt(booking, "link_unknown")
        return
    booking.rescheduled_to = fact.by_uid
    booking.told = (*booking.told, fact.details)


def _recording_ready(booking: Booking, fact: RecordingReady) -> None:
    booking.recording_url = fact.recording_url or booking.recording_url
    booking.has_transcript = booking.has_transcript or fact.has_transcript
    _fill(booking, fact.details)


_APPLY: dict[type[AnyFact], Callable[[Booking, Any], None]] = {
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
}


def _accept(booking: Booking) -> None:
    """Accepted now. A cancelled or rejected booking comes back, which Cal.com allows but which wants checking."""
    if booking.status in ("cancelled", "rejected"):
        _doubt(booking, "created_after_end")
    booking.status = "accepted"


def _imply_accepted(booking: Booking) -> None:
    """What was reported only happens to accepted bookings: a pending one was accepted silently; an ended one stays."""
    if booking.status in (None, "pending"):
        booking.status = "accepted"


def _is_seated(booking: Booking, details: Details) -> bool:
    return details.seats is not None or any(told.seats is not None for told in booking.told)


def _doubt(booking: Booking, name: str) -> None:
    if name not in booking.doubts:
        booking.doubts = (*booking.doubts, name)


def _overwrite(booking: Booking, details: Details, *, joins: bool = False) -> None:
    """Take what the body says. Where `joins`, the people named come in addition to those known."""
    booking.told = (details, *booking.told)
    if details.metadata is not None:
        booking.metadata = {**booking.metadata, **details.metadata}
    if details.attendees is not None:
        if joins:
            _flush(booking)
            booking.attendees = {**booking.attendees, **_by_email(details.attendees)}
        else:
            booking.named = details.attendees


def _fill(booking: Booking, details: Details) -> None:
    """Take what the body says where nothing is known yet: a snapshot may be older than what we know."""
    booking.told = (*booking.told, details)
    if details.metadata is not None:
        booking.metadata = {**details.metadata, **booking.metadata}
    if details.attendees is not None and booking.named is None and not booking.attendees:
        booking.named = details.attendees
    if booking.rescheduled_from is None:
        booking.rescheduled_from = details.previous_uid
    _imply_accepted(booking)


def _flush(booking: Booking) -> None:
    """The people named last are the attendees."""
    if booking.named is not None:
        booking.attendees, booking.named = _by_email(booking.named), None


def _by_email(people: tuple[Person, ...]) -> dict[str, Person]:
    return {person.email: person for person in people}


_TOLD = attrgetter(
    "number",
    "ical_uid",
    "title",
    "description",
    "event_type",
    "event_type_number",
    "start",
    "end",
    "location",
    "meeting_url",
    "host_email",
    "host_name",
    "seats",
    "recurring",
)
_NOTHING_TOLD = _TOLD(Details())


def _settle(booking: Booking) -> None:
    """The plain fields are what the weightiest body says that says anything of them."""
    _flush(booking)
    told = booking.told
    values = _TOLD(told[0]) if told else _NOTHING_TOLD
    for details in told[1:]:
        if None not in values:
            break
        values = tuple(
            [below if value is None else value for value, below in zip(values, _TOLD(details), strict=True)]
        )
    (
        booking.number,
        booking.ical_uid,
        booking.title,
        booking.description,
        booking.event_type,
        booking.event_type_number,
        booking.start,
        booking.end,
        booking.location,
        booking.meeting_url,
        booking.host_email,
        booking.host_name,
        booking.seats,
        booking.recurring,
    ) = values
