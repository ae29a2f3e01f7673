"""A booking as Cal.com's API v2 answers it (2024-08-13; CALCOM.md section 5.3), as a fact. Pure."""

from typing import Any

import msgspec

from ledger.calcom.envelope import booking_stream
from ledger.calcom.payloads import is_link, read_instant
from ledger.facts import Details, Observed, Person
from ledger.vocabulary import BookingStatus, StreamId

OBSERVED_TOPIC = "calcom.observed"

STATUS_WORDS: dict[str, BookingStatus] = {
    "accepted": "accepted",
    "pending": "pending",
    "awaiting_host": "pending",
    "cancelled": "cancelled",
    "rejected": "rejected",
}


class ObservedAttendee(msgspec.Struct, rename="camel"):
    """`display_email` is the address without the suffix that a managed user's `email` carries."""

    email: str | None = None
    display_email: str | None = None
    name: str | None = None
    time_zone: str | None = None
    phone_number: str | None = None
    absent: bool = False


class ObservedHost(msgspec.Struct, rename="camel"):
    """Where Cal.com no longer knows the host, every field says "unknown"."""

    email: str | None = None
    display_email: str | None = None
    name: str | None = None


class ObservedEventType(msgspec.Struct):
    id: int | None = None
    slug: str | None = None


class ObservedBooking(msgspec.Struct, rename="camel"):
    """The API's booking object. Not there: payments, rejection reasons."""

    uid: str
    status: str
    id: int | None = None
    title: str | None = None
    description: str | None = None
    start: str | None = None
    end: str | None = None
    location: str | None = None
    meeting_url: str | None = None
    hosts: list[ObservedHost] = []
    attendees: list[ObservedAttendee] = []
    event_type: ObservedEventType | None = None
    event_type_id: int | None = None
    metadata: dict[str, Any] | None = None
    ical_uid: str | None = msgspec.field(default=None, name="icsUid")
    absent_host: bool = False
    cancellation_reason: str | None = None
    cancelled_by_email: str | None = None
    rescheduled_from_uid: str | None = None
    rescheduled_to_uid: str | None = None
    recurring_booking_uid: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


def read_observation(body: bytes) -> tuple[StreamId, Observed]:
    """The fact that an observation's body states. Raises msgspec.DecodeError for what is no booking object."""
    return observed_of(read_row(body))


def read_row(body: bytes) -> ObservedBooking:
    """The booking object. Raises msgspec.DecodeError for what is none."""
    return msgspec.json.decode(body, type=ObservedBooking)


def observed_of(booking: ObservedBooking) -> tuple[StreamId, Observed]:
    """What the booking object says, and of which stream.

    A booking that another has replaced is cancelled, in Cal.com's own row; where a row that goes on leads to another
    booking, only a seat of it went there.
    """
    status = STATUS_WORDS.get(booking.status, "pending")
    is_over = status in ("cancelled", "rejected")
    people = tuple(
        Person(
            email=attendee.email.lower(),
            name=attendee.name,
            phone=attendee.phone_number,
            time_zone=attendee.time_zone,
        )
        for attendee in booking.attendees
        if attendee.email
    )
    return booking_stream(booking.uid), Observed(
        status="rescheduled" if is_over and booking.rescheduled_to_uid else status,
        details=_details(booking, people),
        absent={attendee.email.lower(): attendee.absent for attendee in booking.attendees if attendee.email},
        host_absent=booking.absent_host,
        rescheduled_to=(booking.rescheduled_to_uid or None) if is_over else None,
        cancellation_reason=(booking.cancellation_reason or "").strip() or None,
        cancelled_by=booking.cancelled_by_email,
        made_at=read_instant(booking.created_at),
    )


def _details(booking: ObservedBooking, people: tuple[Person, ...]) -> Details:
    host = booking.hosts[0] if booking.hosts else ObservedHost()
    event_type = booking.event_type or ObservedEventType()
    return Details(
        number=booking.id,
        ical_uid=booking.ical_uid,
        title=booking.title,
        description=booking.description or None,
        event_type=event_type.slug,
        event_type_number=event_type.id or booking.event_type_id,
        start=read_instant(booking.start),
        end=read_instant(booking.end),
        location=booking.location or None,
        meeting_url=booking.meeting_url if is_link(booking.meeting_url) else None,
        host_email=host.email.lower() if host.email and "@" in host.email else None,
        host_name=host.name if host.email != "unknown" else None,
        attendees=people or None,
        metadata={key: text for key, text in (booking.metadata or {}).items() if isinstance(text, str)} or None,
        recurring=True if booking.recurring_booking_uid else None,
        previous_uid=booking.rescheduled_from_uid or None,
    )
