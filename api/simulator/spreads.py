"""The three spreads from which Cal.com makes bodies with a whole booking in them, key for key and in its order.

    direct     RegularBookingService: times without milliseconds, long labels
    settled    handleConfirmation: times with `.000Z`, short labels, no organizer id (but in PAID), a calendar list
    cancelled  handleCancelBooking: times with `+00:00`, no metadata, null where the others say 0 or false

What Cal.com leaves out is absent here, not null. Sources: CALCOM.md 1.3 to 1.5, PAYLOADS.md 3.
"""

from api.simulator.people import Attendee, Host
from api.simulator.studio import Booking
from api.simulator.wire import (
    BOOKER_URL,
    Json,
    answers,
    milliseconds,
    organizer,
    own_questions,
    seconds,
    seconds_with_offset,
    short_answers,
)

APPS_STATUS: Json = {
    "appName": "google-calendar",
    "type": "google_calendar",
    "success": 1,
    "failures": 0,
    "errors": [],
    "warnings": [],
}
CREDENTIAL_MADE_AT = "2025-10-30T13:45:46.463Z"


def direct(booking: Booking, *, in_calendar: bool = True) -> Json:
    """Up to the keys that each trigger adds; `in_calendar` is false while the host has not agreed."""
    event_type = booking.event_type
    return {
        "bookerUrl": BOOKER_URL,
        "title": booking.title,
        "startTime": seconds(booking.starts_at),
        "endTime": seconds(booking.ends_at),
        "additionalNotes": booking.notes,
        "type": event_type.slug,
        "description": booking.notes,
        "eventTypeId": event_type.id,
        "hideCalendarNotes": False,
        "hideCalendarEventDetails": False,
        "hideOrganizerEmail": False,
        "schedulingType": "ROUND_ROBIN",
        "seatsPerTimeSlot": event_type.seats,
        "seatsShowAttendees": True,
        "seatsShowAvailabilityCount": True,
        "customReplyToEmail": None,
        "disableRescheduling": False,
        "disableCancelling": False,
        "organizer": organizer(booking.host),
        "attendees": [_named(attendee) for attendee in booking.attendees],
        "customInputs": {},
        "responses": answers(booking),
        "userFieldsResponses": own_questions(booking),
        "location": booking.location,
        "destinationCalendar": None,
        "iCalUID": booking.ical_uid,
        "iCalSequence": booking.ical_sequence,
        "requiresConfirmation": event_type.requires_confirmation,
        "oneTimePassword": None,
        "organizationId": None,
        "hashedLink": None,
        "uid": booking.uid,
        **_series(booking),
        "conferenceData": {"createRequest": {"requestId": booking.request_id}},
        **_video(booking),
        **({"appsStatus": [APPS_STATUS]} if in_calendar else {}),
        **_event_facts(booking),
    }


def settled(booking: Booking) -> Json:
    """Up to the keys that each trigger adds."""
    return {
        "type": booking.event_type.slug,
        "title": booking.title,
        "description": booking.notes,
        "bookerUrl": BOOKER_URL,
        "userFieldsResponses": {},
        "responses": short_answers(booking),
        "customInputs": {},
        "startTime": milliseconds(booking.starts_at),
        "endTime": milliseconds(booking.ends_at),
        "organizer": organizer(booking.host, with_id=False),
        "attendees": plain_attendees(booking),
        "location": booking.location,
        "uid": booking.uid,
        "destinationCalendar": [_calendar(booking.host)],
        "requiresConfirmation": booking.event_type.requires_confirmation,
        "hideOrganizerEmail": False,
        "eventTypeId": booking.event_type.id,
        "customReplyToEmail": None,
        **_video(booking),
        **_event_facts(booking),
    }


def cancelled(booking: Booking, *, attendees: list[Json], reason: str, ical_sequence: int) -> Json:
    """Up to `status`, after which `cancelledBy` may follow or not."""
    event_type = booking.event_type
    return {
        "bookerUrl": BOOKER_URL,
        "title": booking.title,
        "length": event_type.minutes,
        "type": event_type.slug,
        "additionalNotes": booking.notes or None,
        "description": booking.notes or None,
        "customInputs": {},
        "eventTypeId": event_type.id,
        "userFieldsResponses": {},
        "responses": answers(booking),
        "startTime": seconds_with_offset(booking.starts_at),
        "endTime": seconds_with_offset(booking.ends_at),
        "organizer": organizer(booking.host),
        "attendees": attendees,
        "uid": booking.uid,
        "bookingId": booking.booking_id,
        "location": booking.location,
        "destinationCalendar": [],
        "cancellationReason": reason,
        "seatsPerTimeSlot": event_type.seats,
        "seatsShowAttendees": event_type.seats is not None,
        "iCalUID": booking.ical_uid,
        "iCalSequence": ical_sequence,
        "hideOrganizerEmail": False,
        "customReplyToEmail": None,
        "organizationId": None,
        "eventTitle": event_type.title,
        "eventDescription": None,
        "price": event_type.price or None,
        "currency": "eur",
        "requiresConfirmation": event_type.requires_confirmation or None,
        "status": "CANCELLED",
    }


def plain_attendees(booking: Booking) -> list[Json]:
    """Attendees on the settled and cancelled paths: the telephone number is null where none was given."""
    return [
        {
            "name": attendee.name,
            "email": attendee.email,
            "timeZone": attendee.time_zone,
            "phoneNumber": attendee.phone,
            "language": {"locale": attendee.locale},
            "utcOffset": attendee.utc_offset_minutes,
        }
        for attendee in booking.attendees
    ]


def _named(attendee: Attendee) -> Json:
    """An attendee on the direct path: the telephone number is absent where none was given."""
    phone: Json = {} if attendee.phone is None else {"phoneNumber": attendee.phone}
    return {
        "email": attendee.email,
        "name": attendee.name,
        **phone,
        "firstName": "",
        "lastName": "",
        "timeZone": attendee.time_zone,
        "language": {"locale": attendee.locale},
        "utcOffset": attendee.utc_offset_minutes,
    }


def _event_facts(booking: Booking) -> Json:
    return {
        "eventTitle": booking.event_type.title,
        "eventDescription": None,
        "price": booking.event_type.price,
        "currency": "eur",
        "length": booking.event_type.minutes,
        "bookingId": booking.booking_id,
    }


def _series(booking: Booking) -> Json:
    if booking.series_count is None:
        return {}
    return {"recurringEvent": {"freq": 2, "count": booking.series_count, "interval": 1}}


def _video(booking: Booking) -> Json:
    if booking.video_url is None:
        return {}
    return {"videoCallData": {"type": "daily_video", "id": booking.uid[:12], "password": "", "url": booking.video_url}}


def _calendar(host: Host) -> Json:
    return {
        "id": 900_000 + host.id,
        "integration": "google_calendar",
        "externalId": host.email,
        "primaryEmail": host.email,
        "userId": host.id,
        "eventTypeId": None,
        "credentialId": 1_400_000 + host.id,
        "createdAt": CREDENTIAL_MADE_AT,
        "updatedAt": CREDENTIAL_MADE_AT,
        "delegationCredentialId": None,
    }
