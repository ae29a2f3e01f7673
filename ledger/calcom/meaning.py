"""What a body means: the facts it states, each with the stream of the booking it is about.

Pure and total. The rules are CALCOM.md sections 1 and 3 and PAYLOADS.md section 3; where a body could mean two things
the booking says so as a doubt (`ledger/rules.py`), nothing is guessed silently.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import msgspec

from ledger.calcom.envelope import NUMBER_MAX, Envelope, booking_stream, number_stream
from ledger.calcom.payloads import Payload, in_utc, is_link, read_part
from ledger.calcom.triggers import FLAT_TRIGGERS
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
from ledger.vocabulary import StreamId

EMAIL_CHARACTERS_MAX = 320
CALENDAR_ID_CHARACTERS_MAX = 500

Meaning = tuple[tuple[StreamId, AnyFact], ...]


def meaning_of(envelope: Envelope) -> Meaning:
    """The facts of one body; empty where it says nothing of a booking that can be named."""
    payload = envelope.payload
    read = _READERS.get(envelope.trigger or "")
    stream = _stream(envelope)
    if payload is None or read is None or stream is None:
        return ()
    facts = read(envelope, payload, details_of(envelope, payload))
    return tuple([(named or stream, fact) for named, fact in facts])


def supersedes(envelope: Envelope) -> bool:
    """Whether the whole of `previous_uid` has moved here; false where one seat of it did, or nothing."""
    payload = envelope.payload
    if envelope.previous_uid is None or payload is None:
        return False
    return not (envelope.trigger == "BOOKING_RESCHEDULED" and _is_seat_move(payload))


def details_of(envelope: Envelope, payload: Payload) -> Details:
    """What the body says of the booking itself."""
    host, event_type, metadata = payload.organizer or payload.user, payload.event_type, payload.metadata
    ical_uid, host_email = payload.ical_uid, host.email if host else None
    slug, number = (None, None) if event_type is None else (event_type.slug, event_type.id)
    # The first five by place: a call with more than fifteen names takes five times as long.
    return Details(
        envelope.number,
        ical_uid if ical_uid and len(ical_uid) <= CALENDAR_ID_CHARACTERS_MAX else None,
        payload.title or None,
        payload.description or payload.additional_notes or None,
        payload.type or slug,
        event_type_number=_countable(payload.event_type_id) or _countable(number),
        start=in_utc(payload.start_time),
        end=in_utc(payload.end_time),
        location=payload.location or None,
        meeting_url=_meeting_url(payload),
        host_email=(host_email or payload.user_primary_email or "").lower() or None,
        host_name=host.name if host else None,
        attendees=_attendees(payload),
        metadata=_own(metadata) if metadata else None,
        seats=_countable(payload.seats_per_time_slot),
        recurring=True if payload.recurring_event_id or _is_series(payload.recurring_event) else None,
        previous_uid=envelope.previous_uid,
    )


NOTHING = (b"", b"null", b"{}", b"[]")

Facts = list[tuple[StreamId | None, AnyFact]]
"""Facts of one body; None stands for the stream that the body itself names."""


def _created(envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    created = Created(details=details)
    return [(None, created), *_superseded(envelope, details)] if details.previous_uid else [(None, created)]


def _requested(envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, Requested(details=details)), *_superseded(envelope, details)]


def _confirmed(envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, Confirmed(details=details)), *_superseded(envelope, details)]


def _payment_initiated(envelope: Envelope, payload: Payload, details: Details) -> Facts:
    number = _payment_number(payload)
    return [(None, PaymentInitiated(details=details, payment_number=number)), *_superseded(envelope, details)]


def _paid(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    accepted = (payload.status or "").upper() != "PENDING"
    spoken = msgspec.structs.replace(
        details, metadata=None
    )  # here Cal.com's metadata are the payment's, not the booker's
    return [(None, Paid(details=spoken, payment_number=_payment_number(payload), accepted=accepted))]


def _rescheduled(envelope: Envelope, payload: Payload, details: Details) -> Facts:
    if details.previous_uid is None:
        return [(None, Moved(details=details))]
    if _is_seat_move(payload):
        emails = tuple(person.email for person in details.attendees or ())
        left = SeatLeft(emails=emails, moved_to_uid=payload.uid, details=Details())
        return [(None, SeatTaken(details=details)), (booking_stream(details.previous_uid), left)]
    rescheduled = Rescheduled(details=details, rescheduled_by=payload.rescheduled_by)
    old = Details(start=in_utc(payload.reschedule_start_time), end=in_utc(payload.reschedule_end_time))
    return [(None, rescheduled), *_superseded(envelope, details, old)]


def _cancelled(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    reason = (payload.cancellation_reason or "").strip() or None
    if _is_seat_leaver(payload):
        emails = tuple(person.email for person in details.attendees or ())
        return [(None, SeatLeft(emails=emails, details=details, reason=reason))]
    return [
        (
            None,
            Cancelled(
                details=details,
                reason=reason,
                cancelled_by=payload.cancelled_by or None,
                reschedule_requested=bool(payload.request_reschedule) or _asks_to_reschedule(payload),
            ),
        )
    ]


def _rejected(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    return [(None, Rejected(details=details, reason=payload.rejection_reason or None))]


def _no_show_updated(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    marks = {
        attendee.email.lower(): bool(attendee.no_show)
        for attendee in payload.attendees or ()
        if attendee.email and attendee.no_show is not None
    }
    return [(None, AttendeesMarked(absent=marks, details=Details(number=details.number)))]


def _hosts_absent(_envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, HostAbsent(details=details))]


def _guests_absent(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    emails = tuple(guest.email.lower() for guest in payload.guests or () if guest.email)
    return [(None, GuestsAbsent(emails=emails, details=details))]


def _started(envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, MeetingStarted(details=details)), *_superseded(envelope, details)]


def _ended(envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, MeetingEnded(details=details)), *_superseded(envelope, details)]


def _location_updated(_envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, LocationUpdated(details=details))]


def _reassigned(_envelope: Envelope, _payload: Payload, details: Details) -> Facts:
    return [(None, Reassigned(details=details))]


def _recording(_envelope: Envelope, payload: Payload, details: Details) -> Facts:
    told = read_part(payload.download_links)
    links = told if isinstance(told, dict) else {}
    url = payload.download_link or links.get("recording")
    return [
        (
            None,
            RecordingReady(
                details=msgspec.structs.replace(details, event_type=None),  # `type` repeats the title here
                recording_url=url if isinstance(url, str) else None,
                has_transcript=bool(links.get("transcription")),
            ),
        )
    ]


_READERS: dict[str, Callable[[Envelope, Payload, Details], Facts]] = {
    "BOOKING_CREATED": _created,
    "BOOKING_REQUESTED": _requested,
    "BOOKING_CONFIRMED": _confirmed,
    "BOOKING_PAYMENT_INITIATED": _payment_initiated,
    "BOOKING_PAID": _paid,
    "BOOKING_RESCHEDULED": _rescheduled,
    "BOOKING_CANCELLED": _cancelled,
    "BOOKING_REJECTED": _rejected,
    "BOOKING_NO_SHOW_UPDATED": _no_show_updated,
    "AFTER_HOSTS_CAL_VIDEO_NO_SHOW": _hosts_absent,
    "AFTER_GUESTS_CAL_VIDEO_NO_SHOW": _guests_absent,
    "MEETING_STARTED": _started,
    "MEETING_ENDED": _ended,
    "BOOKING_LOCATION_UPDATED": _location_updated,
    "BOOKING_REASSIGNED": _reassigned,
    "RECORDING_READY": _recording,
    "RECORDING_TRANSCRIPTION_GENERATED": _recording,
}


def _stream(envelope: Envelope) -> StreamId | None:
    if envelope.uid is not None:
        return booking_stream(envelope.uid)
    return number_stream(envelope.number) if envelope.number is not None else None


def _superseded(envelope: Envelope, details: Details, old: Details | None = None) -> Facts:
    """The fact that the booking named as the previous one has been replaced by this one."""
    by_uid = envelope.uid or (str(envelope.number) if envelope.number else None)
    if details.previous_uid is None or by_uid is None:
        return []
    by_snapshot = envelope.trigger in FLAT_TRIGGERS
    superseded = Superseded(by_uid=by_uid, details=old or Details(), by_snapshot=by_snapshot)
    return [(booking_stream(details.previous_uid), superseded)]


def _is_seat_move(payload: Payload) -> bool:
    """RESCHEDULED without `rescheduleId` on a seated booking: one attendee moved, the old slot lives on."""
    return payload.seats_per_time_slot is not None and payload.reschedule_id is None


def _is_seat_leaver(payload: Payload) -> bool:
    """CANCELLED of a seated booking by nobody named, with just the leaver as a database row, or with nobody at all.

    The cancellation of the whole booking lists everybody.
    """
    if payload.seats_per_time_slot is None or isinstance(payload.cancelled_by, str) or payload.attendees is None:
        return False
    return not payload.attendees or (len(payload.attendees) == 1 and payload.attendees[0].booking_id is not None)


def _asks_to_reschedule(payload: Payload) -> bool:
    """Before 2026-01 only the reason's wording told (PAYLOADS.md section 3)."""
    return payload.request_reschedule is None and (payload.cancellation_reason or "").startswith("Please reschedule")


def _payment_number(payload: Payload) -> int | None:
    return _countable(payload.payment_id) if isinstance(payload.payment_id, int) else None


def _countable(number: int | None) -> int | None:
    """A number of Cal.com's; one that no table of theirs can hold is none."""
    return number if number is not None and -NUMBER_MAX <= number <= NUMBER_MAX else None


def _is_series(recurring_event: msgspec.Raw) -> bool:
    return bool(recurring_event) and bytes(recurring_event) not in NOTHING


def _meeting_url(payload: Payload) -> str | None:
    """Where to join: Cal.com's own room, another provider's, or a location that is a link."""
    url = payload.metadata.get("videoCallUrl") if payload.metadata else None
    if url is not None and is_link(url):
        return url
    if payload.video_call_data is not None and is_link(payload.video_call_data.url):
        return payload.video_call_data.url
    return payload.location if is_link(payload.location) else None


def _own(metadata: dict[str, Any]) -> dict[str, str] | None:
    """The booker's own metadata: texts only, without Cal.com's video link."""
    return {key: value for key, value in metadata.items() if isinstance(value, str) and key != "videoCallUrl"} or None


def _attendees(payload: Payload) -> tuple[Person, ...] | None:
    """Those listed, else the booker from the answers; None where the body names nobody."""
    if payload.attendees:
        listed = tuple(
            [
                Person(
                    email=attendee.email.lower(),
                    name=attendee.name or None,
                    phone=attendee.phone_number or None,
                    time_zone=attendee.time_zone or None,
                )
                for attendee in payload.attendees
                if _is_address(attendee.email)
            ]
        )
        if listed:
            return listed
    answers = read_part(payload.responses)
    email = _answer(answers, "email")
    return (Person(email=email.lower(), name=_answer(answers, "name")),) if _is_address(email) else None


def _is_address(email: str | None) -> TypeGuard[str]:
    """Longer ones are none that mail could reach (RFC 5321), and none that an index could hold."""
    return email is not None and 0 < len(email) <= EMAIL_CHARACTERS_MAX


def _answer(answers: object, slug: str) -> str | None:
    """The booker's answer, bare or as `{label, value}`."""
    answer = answers.get(slug) if isinstance(answers, dict) else None
    value = answer.get("value") if isinstance(answer, dict) else answer
    return value if isinstance(value, str) and value else None
