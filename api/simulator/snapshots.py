"""Bodies without a whole booking: the flat MEETING_* snapshots, no-shows, recordings (CALCOM.md 1.6 to 1.8)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from api.simulator.people import Attendee
from api.simulator.studio import Booking
from api.simulator.wire import Json, answers, attendee_row, envelope, milliseconds, organizer

MeetingTrigger = Literal["MEETING_STARTED", "MEETING_ENDED"]
CallTrigger = Literal["AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "AFTER_GUESTS_CAL_VIDEO_NO_SHOW"]

ABSENT_AFTER = timedelta(minutes=5)
"""How long after the start Cal Video waits before it says that somebody did not join."""

TRANSCRIPT_FORMATS = ("json", "srt", "txt", "vtt")


def meeting_of_new_booking(trigger: MeetingTrigger, booking: Booking) -> Json:
    """The whole row, frozen when the booking was made: `createdAt` is the booking's, `status` may be stale."""
    row = meeting_of_old_booking(trigger, booking)
    row["responses"] = answers(booking)
    return row | {
        "cancelledBy": None,
        "rescheduledBy": None,
        "creationSource": "WEBAPP",
        "user": {
            "email": booking.host.email,
            "name": booking.host.name,
            "timeZone": booking.host.time_zone,
            "username": booking.host.username,
        },
        "attendees": [attendee_row(attendee, booking) for attendee in booking.attendees],
        "payment": [],
        "references": [],
    }


def meeting_of_old_booking(trigger: MeetingTrigger, booking: Booking) -> Json:
    """The bare row, as a webhook sends it that was added after the booking was made: no attendees, no host."""
    call: Json = {} if booking.video_url is None else {"videoCallUrl": booking.video_url}
    return {
        "triggerEvent": trigger,
        "id": booking.booking_id,
        "uid": booking.uid,
        "idempotencyKey": booking.request_id,
        "userId": booking.host.id,
        "userPrimaryEmail": booking.host.email,
        "eventTypeId": booking.event_type.id,
        "title": booking.title,
        "description": booking.notes,
        "customInputs": {},
        "responses": {"name": booking.attendees[0].name, "email": booking.attendees[0].email, "guests": []},
        "startTime": milliseconds(booking.starts_at),
        "endTime": milliseconds(booking.ends_at),
        "location": booking.location,
        "createdAt": milliseconds(booking.created_at),
        "updatedAt": None,
        "status": "ACCEPTED",
        "paid": False,
        "destinationCalendarId": None,
        "cancellationReason": None,
        "rejectionReason": None,
        "rescheduled": None,
        "fromReschedule": booking.moved_from,
        "recurringEventId": None,
        "smsReminderNumber": booking.attendees[0].phone,
        "scheduledJobs": [],
        "metadata": {**call, **booking.metadata},
        "isRecorded": False,
        "iCalUID": booking.ical_uid,
        "iCalSequence": booking.ical_sequence,
        "rating": None,
        "noShowHost": False,
    }


def meeting_of_confirmed_booking(trigger: MeetingTrigger, booking: Booking) -> Json:
    """The narrow choice of handleConfirmation: no title, no status, no createdAt, no custom metadata."""
    return {
        "triggerEvent": trigger,
        "eventType": {"slug": booking.event_type.slug, "bookingFields": [], "schedulingType": None, "hosts": []},
        "uid": booking.uid,
        "startTime": milliseconds(booking.starts_at),
        "metadata": {} if booking.video_url is None else {"videoCallUrl": booking.video_url},
        "endTime": milliseconds(booking.ends_at),
        "smsReminderNumber": booking.attendees[0].phone,
        "description": booking.notes,
        "attendees": [attendee_row(attendee, booking) for attendee in booking.attendees],
        "location": booking.location,
        "customInputs": {},
        "id": booking.booking_id,
    }


def no_show_updated(booking: Booking, at: datetime, *, touched: Sequence[Attendee], no_show: bool) -> Json:
    """Only those touched are listed; the booking is named by `bookingUid`, and there are no times."""
    emails = [attendee.email for attendee in touched]
    payload: Json = {
        "message": f"{', '.join(emails)} {'marked' if no_show else 'unmarked'} as no-show",
        "attendees": [{"email": email, "noShow": no_show} for email in emails],
        "bookingUid": booking.uid,
        "bookingId": booking.booking_id,
    }
    return envelope("BOOKING_NO_SHOW_UPDATED", at, payload)


def absent_from_call(trigger: CallTrigger, booking: Booking, at: datetime) -> Json:
    """Cal Video's own finding, with every attendee's `noShow` still false, as the samples have it."""
    rows = [attendee_row(attendee, booking) for attendee in booking.attendees]
    hosts_missing = trigger == "AFTER_HOSTS_CAL_VIDEO_NO_SHOW"
    missing: Json = {"hostEmail": booking.host.email} if hosts_missing else {"guests": rows}
    who = f"Host with email {booking.host.email}" if hosts_missing else "Guest"
    payload: Json = {
        "title": booking.title,
        "bookingId": booking.booking_id,
        "bookingUid": booking.uid,
        "startTime": milliseconds(booking.starts_at),
        "attendees": rows,
        "endTime": milliseconds(booking.ends_at),
        "participants": [],
        **missing,
        "eventType": {"id": booking.event_type.id, "teamId": None, "parentId": None, "calVideoSettings": None},
        "webhook": {
            "id": "0b5e7a52-9d1c-4c3e-8f6a-2f1d3c4b5a69",
            "subscriberUrl": "https://receiver.example.com/hook",
            "appId": None,
            "time": 5,
            "timeUnit": "MINUTE",
            "eventTriggers": ["AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "AFTER_GUESTS_CAL_VIDEO_NO_SHOW"],
            "payloadTemplate": None,
        },
        "message": f"{who} didn't join the call or didn't join before {booking.starts_at + ABSENT_AFTER}",
    }
    return envelope(trigger, at, payload)


def recording_ready(booking: Booking, at: datetime) -> Json:
    payload = _recorded(booking) | {"downloadLink": _recording_link(booking)}
    return envelope("RECORDING_READY", at, payload)


def transcript_ready(booking: Booking, at: datetime) -> Json:
    link = f"https://recordings.example.com/t/{booking.uid}"
    links: Json = {
        "transcription": [{"format": kind, "link": f"{link}.{kind}"} for kind in TRANSCRIPT_FORMATS],
        "recording": _recording_link(booking),
    }
    return envelope("RECORDING_TRANSCRIPTION_GENERATED", at, _recorded(booking) | {"downloadLinks": links})


def _recorded(booking: Booking) -> Json:
    """What both recording triggers share; no bookingId, no status."""
    attendees = [
        {
            "id": attendee.id,
            "name": attendee.name,
            "email": attendee.email,
            "timeZone": attendee.time_zone,
            "language": {"locale": attendee.locale},
            "utcOffset": attendee.utc_offset_minutes,
        }
        for attendee in booking.attendees
    ]
    return {
        "type": booking.title,
        "title": booking.title,
        "startTime": milliseconds(booking.starts_at),
        "endTime": milliseconds(booking.ends_at),
        "organizer": organizer(booking.host, with_id=False),
        "attendees": attendees,
        "uid": booking.uid,
        "customReplyToEmail": None,
    }


def _recording_link(booking: Booking) -> str:
    return f"https://recordings.example.com/r/{booking.uid}"
