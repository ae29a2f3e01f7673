"""A booking, and the two words for how it stands: Cal.com's own and the calendar's."""

from datetime import UTC, datetime

import msgspec

from ledger.facts import Dated, Details, Person
from ledger.vocabulary import BookingStatus, CalendarStatus, StreamId

UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)
"""Stands for the start of a meeting whose own body did not give it."""


class Booking(msgspec.Struct, kw_only=True, gc=False):
    """One booking as its facts tell it. A value: only `fold` and `evolve` make new ones, nobody changes one.

    `status` is Cal.com's word without regard to a newer uid; read `booking_status` and `calendar_status` instead.
    `named` are attendees that wait to be put by e-mail; `told` is what bodies said of the booking, the weightiest
    first: the plain fields are what results. `doubts` are what webhooks could not decide, each with the fact that
    raised it. `seat_from`: `rescheduled_from` is a slot from which one seat came, and which lives on. `started_for` and
    `ended_for` are the start for which the meeting was reported: they count while it is still that.
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
    doubts: dict[str, Dated | None] = {}
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


def _counts_for(reported: datetime | None, start: datetime | None) -> bool:
    """Whether a meeting reported for one start still speaks of the booking's present start."""
    return reported is not None and (start is None or reported in (UNKNOWN_TIME, start))
