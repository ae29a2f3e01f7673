"""Bodies that no booking's lifecycle brings forth: instant meetings, routing, reports, credentials (CALCOM.md 1.8).

What Cal.com does not document (CALENDAR_ENTRY_REJECTED, ROUTING_FORM_FALLBACK_HIT) is a guess at the least of it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from api.simulator.noise import form_submitted
from api.simulator.story import Sent
from api.simulator.studio import Booking, Slot, Studio
from api.simulator.wire import Json, answers, envelope, milliseconds

RarityFunction = Callable[[Studio, datetime], Sent]

CREDENTIAL_LIFE = timedelta(days=14)


def confirmed_in_dialect(studio: Studio, at: datetime) -> Sent:
    """BOOKING_CONFIRMED, which Cal.com itself never sends, as system 001 was told to expect it."""
    booking = _booking(studio, at)
    data: Json = {
        "id": str(booking.booking_id),
        "bookingId": str(booking.booking_id),
        "startTime": milliseconds(booking.starts_at),
        "endTime": milliseconds(booking.ends_at),
        "attendees": [{"email": booking.attendees[0].email}],
        "responses": {"email": booking.attendees[0].email},
    }
    return Sent(
        body={"trigger": "BOOKING_CONFIRMED", "data": data}, trigger="BOOKING_CONFIRMED", uid=None, occurred_at=at
    )


def instant_meeting(studio: Studio, at: datetime) -> Sent:
    booking = _booking(studio, at)
    payload: Json = {
        "uid": booking.uid,
        "responses": answers(booking),
        "connectAndJoinUrl": f"https://book.example.com/connect-and-join?token={booking.request_id}",
        "eventTypeId": booking.event_type.id,
        "eventTypeTitle": booking.event_type.title,
        "customInputs": {},
    }
    return _sent("INSTANT_MEETING", at, payload)


def instant_meeting_accepted(studio: Studio, at: datetime) -> Sent:
    booking = _booking(studio, at)
    return _sent("INSTANT_MEETING_ACCEPTED", at, {"bookingId": booking.booking_id, "bookingUid": booking.uid})


def calendar_entry_rejected(studio: Studio, at: datetime) -> Sent:
    booking = _booking(studio, at)
    return _sent("CALENDAR_ENTRY_REJECTED", at, {"bookingId": booking.booking_id, "bookingUid": booking.uid})


def form_submitted_without_booking(studio: Studio, at: datetime) -> Sent:
    """What FORM_SUBMITTED says, a quarter of an hour later, when nobody booked after it."""
    body = form_submitted(studio, at).body
    assert isinstance(body, dict)  # noqa: S101  # a form's body is an object
    return Sent(
        body=body | {"triggerEvent": "FORM_SUBMITTED_NO_EVENT"},
        trigger="FORM_SUBMITTED_NO_EVENT",
        uid=None,
        occurred_at=at,
    )


def routing_fallback(studio: Studio, at: datetime) -> Sent:
    return _sent("ROUTING_FORM_FALLBACK_HIT", at, {"formId": studio.uuid(), "formName": "Before your first visit"})


def wrong_assignment(studio: Studio, at: datetime) -> Sent:
    booking = _booking(studio, at)
    row: Json = {
        "uid": booking.uid,
        "id": booking.booking_id,
        "title": booking.title,
        "startTime": milliseconds(booking.starts_at),
        "endTime": milliseconds(booking.ends_at),
        "status": "ACCEPTED",
        "eventType": {"id": booking.event_type.id, "slug": booking.event_type.slug},
    }
    return _sent("WRONG_ASSIGNMENT_REPORT", at, {"booking": row, "report": {"additionalNotes": "Not my dog"}})


def credential_error(studio: Studio, at: datetime) -> Sent:
    host = studio.some_host()
    payload: Json = {
        "error": {"type": "CalendarAppDelegationCredentialInvalidGrantError", "message": "invalid_grant"},
        "credential": {"id": -1, "type": "google_calendar", "appId": "google-calendar"},
        "user": {"id": host.id, "email": host.email},
    }
    return _sent("DELEGATION_CREDENTIAL_ERROR", at, payload)


def credential_rotation_failed(studio: Studio, at: datetime) -> Sent:
    error: Json = {"error": {"type": "RotationError", "message": "The new secret was refused"}}
    return _sent("DELEGATION_CREDENTIAL_SECRET_ROTATION_FAILED", at, _credential(studio, at) | error)


def credential_rotation_required(studio: Studio, at: datetime) -> Sent:
    return _sent("DELEGATION_CREDENTIAL_ROTATION_REQUIRED", at, _credential(studio, at))


def credential_rotated(studio: Studio, at: datetime) -> Sent:
    return _sent("DELEGATION_CREDENTIAL_SECRET_ROTATED", at, _credential(studio, at))


RARITIES: Mapping[str, RarityFunction] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            *(confirmed_in_dialect, instant_meeting, instant_meeting_accepted, calendar_entry_rejected),
            *(form_submitted_without_booking, routing_fallback, wrong_assignment, credential_error),
            *(credential_rotation_failed, credential_rotation_required, credential_rotated),
        )
    }
)


def _sent(trigger: str, at: datetime, payload: Json) -> Sent:
    return Sent(body=envelope(trigger, at, payload), trigger=trigger, uid=None, occurred_at=at)


def _booking(studio: Studio, at: datetime) -> Booking:
    return studio.book("plain", Slot(booked_at=at, starts_at=at + timedelta(days=1)))


def _credential(studio: Studio, at: datetime) -> Json:
    credential: Json = {
        "id": studio.uuid(),
        "workspacePlatform": "office365",
        "domain": "studio.example.com",
        "organizationId": studio.rng.randrange(1, 10_000),
        "secretExpiresAt": milliseconds(at + CREDENTIAL_LIFE),
    }
    return {"delegationCredential": credential}
