"""Bodies of the BOOKING_* deliveries with a whole booking in them, one function for each thing that happens.

The keys they share come from `spreads.py`; here is what each trigger adds, and where it misleads (CALCOM.md 1.4).
Flat and small bodies are in `snapshots.py`.
"""

from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from api.simulator import spreads
from api.simulator.people import Attendee, Host
from api.simulator.studio import Booking
from api.simulator.wire import Json, attendee_row, envelope, organizer, seconds

CALENDAR_FILE_TRIGGERS = frozenset(
    {"BOOKING_CREATED", "BOOKING_RESCHEDULED", "BOOKING_REASSIGNED", "BOOKING_CANCELLED", "BOOKING_PAID"}
)


def created(booking: Booking, at: datetime) -> Json:
    return envelope("BOOKING_CREATED", at, _accepted(booking))


def seat_taken(booking: Booking, at: datetime, *, seat: Attendee) -> Json:
    """One more seat of a class: the same uid created again, showing only that attendee."""
    return envelope("BOOKING_CREATED", at, _accepted(_seen_by(booking, seat)) | _seat_reference(seat))


def requested(booking: Booking, at: datetime, *, old: Booking | None = None) -> Json:
    """A pending booking; with `old`, a reschedule that the host has to confirm."""
    payload = spreads.direct(booking, in_calendar=False) | {"metadata": booking.metadata, "status": "PENDING"}
    return envelope("BOOKING_REQUESTED", at, payload if old is None else payload | _moved_from(old))


def requested_after_payment(booking: Booking, at: datetime) -> Json:
    """The request that follows a payment has neither status nor metadata."""
    return envelope("BOOKING_REQUESTED", at, spreads.direct(booking, in_calendar=False))


def rescheduled(booking: Booking, at: datetime, *, old: Booking, by: str) -> Json:
    """A new uid that names the old one and its times; `by` is an e-mail address."""
    return envelope("BOOKING_RESCHEDULED", at, _accepted(booking) | _moved_from(old) | {"rescheduledBy": by})


def class_moved(booking: Booking, at: datetime, *, old: Booking) -> Json:
    """A class moved by its host: the uid names itself, no `rescheduleId`, and one attendee stands for all."""
    payload = _accepted(_seen_by(booking, booking.attendees[0])) | _moved_from(old)
    del payload["rescheduleId"]
    return envelope("BOOKING_RESCHEDULED", at, payload)


def seat_moved(booking: Booking, at: datetime, *, old: Booking, seat: Attendee) -> Json:
    """One seat moved to another slot: it names the old slot's uid, without `rescheduleId` and old times."""
    payload = _accepted(_seen_by(booking, seat)) | _seat_reference(seat)
    return envelope("BOOKING_RESCHEDULED", at, payload | {"rescheduleUid": old.uid, "rescheduledBy": seat.email})


def payment_initiated(booking: Booking, at: datetime) -> Json:
    """An unpaid booking: its row is pending, `status` says ACCEPTED all the same."""
    payload = _accepted(booking) | {"paymentId": booking.payment_id}
    payload["organizer"] = organizer(booking.host, numeric_time_format=True)
    return envelope("BOOKING_PAYMENT_INITIATED", at, payload)


def location_updated(booking: Booking, at: datetime, *, previous_location: str) -> Json:
    return envelope("BOOKING_LOCATION_UPDATED", at, _accepted(booking) | {"previousLocation": previous_location})


def reassigned(booking: Booking, at: datetime, *, previous_host: Host) -> Json:
    hosts: Json = {"addedHostUserIds": [booking.host.id], "removedHostUserIds": [previous_host.id]}
    return envelope("BOOKING_REASSIGNED", at, _accepted(booking) | hosts)


def confirmed(booking: Booking, at: datetime) -> Json:
    """BOOKING_CREATED for a booking that was pending: custom metadata and any link to an older uid are lost."""
    payload = spreads.settled(booking) | {"status": "ACCEPTED"}
    if booking.video_url is not None:
        payload["metadata"] = {"videoCallUrl": booking.video_url}
    return envelope("BOOKING_CREATED", at, payload)


def paid(booking: Booking, at: datetime, *, status: Literal["ACCEPTED", "PENDING"] = "ACCEPTED") -> Json:
    """PENDING where the host has yet to confirm. The metadata are the payment's, not the booker's."""
    payload = spreads.settled(booking) | {"status": status, "paymentId": booking.payment_id}
    payload["organizer"] = organizer(booking.host, numeric_time_format=True)
    payload["metadata"] = {
        "identifier": "cal.com",
        "bookingId": booking.booking_id,
        "eventTypeId": booking.event_type.id,
        "bookerEmail": booking.attendees[0].email,
        "eventTitle": booking.event_type.title,
        "externalId": f"pi_{booking.uid}",
    }
    return envelope("BOOKING_PAID", at, payload)


def rejected(booking: Booking, at: datetime, *, reason: str) -> Json:
    payload = spreads.settled(booking) | {"status": "REJECTED", "rejectionReason": reason}
    return envelope("BOOKING_REJECTED", at, payload)


def cancelled(booking: Booking, at: datetime, *, by: str, reason: str = "", asks_to_reschedule: bool = False) -> Json:
    """The whole booking; `by` is an e-mail address."""
    payload = spreads.cancelled(
        booking,
        attendees=spreads.plain_attendees(booking),
        reason=reason,
        ical_sequence=booking.ical_sequence + 1,
    )
    return envelope("BOOKING_CANCELLED", at, payload | {"cancelledBy": by, "requestReschedule": asks_to_reschedule})


def seat_cancelled(booking: Booking, at: datetime, *, seat: Attendee, reason: str = "") -> Json:
    """One seat given back: the leaver as a database row, no `cancelledBy`, and CANCELLED though the class lives on."""
    leaver = attendee_row(seat, booking) | {"language": {"locale": seat.locale}, "utcOffset": seat.utc_offset_minutes}
    payload = spreads.cancelled(
        _seen_by(booking, seat),
        attendees=[leaver],
        reason=reason,
        ical_sequence=booking.ical_sequence,
    )
    return envelope("BOOKING_CANCELLED", at, payload | {"requestReschedule": False})


def with_calendar_files(body: Json, booking: Booking) -> Json:
    """The same body as payload version 2026-07-27 sends it: some triggers gain two calendar files, unless pending."""
    trigger, payload = body["triggerEvent"], body.get("payload")
    if trigger not in CALENDAR_FILE_TRIGGERS or not isinstance(payload, dict) or payload["status"] == "PENDING":
        return body
    lines = (
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "METHOD:CANCEL" if trigger == "BOOKING_CANCELLED" else "METHOD:REQUEST",
        "BEGIN:VEVENT",
        f"UID:{booking.ical_uid}",
        f"SEQUENCE:{booking.ical_sequence}",
        f"DTSTART:{booking.starts_at:%Y%m%dT%H%M%SZ}",
        "END:VEVENT",
        "END:VCALENDAR",
    )
    file = "\r\n".join(lines)
    return body | {"payload": payload | {"attendeeIcsContent": file, "organizerIcsContent": file}}


def _accepted(booking: Booking) -> Json:
    """A direct body of an accepted booking, with the metadata that its booker gave."""
    call = {} if booking.video_url is None else {"videoCallUrl": booking.video_url}
    return spreads.direct(booking) | {"metadata": {**call, **booking.metadata}, "status": "ACCEPTED"}


def _seen_by(booking: Booking, seat: Attendee) -> Booking:
    """A class as the body about one of its seats shows it: nobody else is in it."""
    return replace(booking, attendees=(seat,))


def _moved_from(old: Booking) -> Json:
    return {
        "rescheduleId": old.booking_id,
        "rescheduleUid": old.uid,
        "rescheduleStartTime": seconds(old.starts_at),
        "rescheduleEndTime": seconds(old.ends_at),
    }


def _seat_reference(seat: Attendee) -> Json:
    return {"attendeeSeatId": f"5ea75ea7-0000-4000-8000-{seat.id:012}"}
