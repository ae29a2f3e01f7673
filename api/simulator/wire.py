"""How Cal.com writes what all its bodies share: three time formats, the envelope, people, answers to questions."""

from datetime import datetime
from typing import TypeAlias

from api.simulator.people import Attendee, Host
from api.simulator.studio import Booking

Json: TypeAlias = dict[str, object]

BOOKER_URL = "https://book.example.com"


def seconds(time: datetime) -> str:
    """`2026-12-01T09:00:00Z`, on the direct path."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(time: datetime) -> str:
    """`2026-12-01T09:00:00.000Z`, on the settled path, in snapshots and in every envelope."""
    return time.isoformat(timespec="milliseconds")[:-6] + "Z"


def seconds_with_offset(time: datetime) -> str:
    """`2026-12-01T09:00:00+00:00`, on the cancelled path."""
    return time.isoformat(timespec="seconds")


def envelope(trigger: str, at: datetime, payload: Json) -> Json:
    return {"triggerEvent": trigger, "createdAt": milliseconds(at), "payload": payload}


def organizer(host: Host, *, with_id: bool = True, numeric_time_format: bool = False) -> Json:
    """The host. Payment bodies may say the number 12 where others say "h:mma"."""
    person: Json = {"id": host.id} if with_id else {}
    return person | {
        "name": host.name,
        "email": host.email,
        "username": host.username,
        "timeZone": host.time_zone,
        "language": {"locale": "en"},
        "timeFormat": 12 if numeric_time_format and host.time_format == "h:mma" else host.time_format,
        "utcOffset": host.utc_offset_minutes,
    }


def attendee_row(attendee: Attendee, booking: Booking, *, no_show: bool = False) -> Json:
    """An attendee as the database row that snapshots and seat cancellations show."""
    return {
        "id": attendee.id,
        "email": attendee.email,
        "name": attendee.name,
        "timeZone": attendee.time_zone,
        "phoneNumber": attendee.phone,
        "locale": attendee.locale,
        "bookingId": booking.booking_id,
        "noShow": no_show,
    }


def answers(booking: Booking) -> Json:
    """`responses` with long labels; what was left empty has no value."""
    booker = booking.attendees[0]
    return {
        "name": _answer("your_name", booker.name),
        "email": _answer("email_address", booker.email),
        "attendeePhoneNumber": _answer("phone_number", booker.phone, hidden=booker.phone is None),
        "location": _answer("location", {"optionValue": "", "value": booking.location}),
        "title": _answer("what_is_this_meeting_about", None, hidden=True),
        "notes": _answer("additional_notes", booking.notes or None),
        "guests": _answer("additional_guests", [guest.email for guest in booking.attendees[1:]]),
        "rescheduleReason": _answer("reason_for_reschedule", None),
        **own_questions(booking),
    }


def own_questions(booking: Booking) -> Json:
    """`userFieldsResponses`: only the questions that the host added."""
    return {} if booking.dog is None else {"dog": _answer("Your dog's name", booking.dog)}


def short_answers(booking: Booking) -> Json:
    """`responses` as the settled path has them: the slug is the label, and nothing says isHidden."""
    booker = booking.attendees[0]
    answered: Json = {
        "name": booker.name,
        "email": booker.email,
        "location": {"optionValue": "", "value": booking.location},
        "notes": booking.notes or None,
        "guests": [guest.email for guest in booking.attendees[1:]],
        "dog": booking.dog,
    }
    return {slug: {"label": slug, "value": value} for slug, value in answered.items() if value is not None}


def _answer(label: str, value: object, *, hidden: bool = False) -> Json:
    if value is None:
        return {"label": label, "isHidden": hidden}
    return {"label": label, "value": value, "isHidden": hidden}
