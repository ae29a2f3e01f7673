"""A Cal.com body as typed fields: every field optional, since Cal.com lists none as required.

One decoder (msgspec) for the whole code base. A body whose fields have the expected types is decoded at once; one
where a field has another type (attendees as strings, `metadata: ""`) is read field by field, and what does not fit
is left out. Bytes that are no JSON at all raise Unreadable: they are kept in the log and mean nothing.
"""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeGuard, TypeVar

import msgspec
from msgspec.structs import FieldInfo

EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
LATEST = datetime(9998, 12, 31, tzinfo=UTC)
"""At the edges of the calendar Postgres and Python no longer agree; instants there are nobody's meeting."""


class Unreadable(Exception):
    """The bytes are not JSON that can be read; `str(error)` says why."""


ABSENT = msgspec.Raw(b"")
"""A part that the body does not have."""


class Attendee(msgspec.Struct, rename="camel", gc=False):
    """As in `attendees`; rows straight from Cal.com's database also have `id` and `bookingId`."""

    email: str | None = None
    name: str | None = None
    time_zone: str | None = None
    phone_number: str | None = None
    no_show: bool | None = None
    id: int | str | None = None
    booking_id: int | str | None = None


class Account(msgspec.Struct, rename="camel", gc=False):
    """The organizer (`organizer`), or in a flat body the user (`user`)."""

    email: str | None = None
    name: str | None = None


class VideoCall(msgspec.Struct, gc=False):
    url: str | None = None


class EventType(msgspec.Struct, gc=False):
    slug: str | None = None
    title: str | None = None
    id: int | None = None


class Payload(msgspec.Struct, rename="camel", gc=False):
    """The fields we read, whichever envelope they came in; parts that are seldom wanted are left as they are.

    They stand in the order in which Cal.com sends them, in which they are the quickest to find.
    `cancelled_by` keeps whether the key was there.
    """

    title: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    additional_notes: str | None = None
    type: str | None = None
    description: str | None = None
    event_type_id: int | None = None
    seats_per_time_slot: int | None = None
    organizer: Account | None = None
    attendees: list[Attendee] | None = None
    responses: msgspec.Raw = ABSENT
    location: str | None = None
    ical_uid: str | None = msgspec.field(default=None, name="iCalUID")
    uid: str | None = None
    video_call_data: VideoCall | None = None
    booking_id: int | str | None = None
    metadata: dict[str, Any] | None = None
    status: str | None = None
    payment_id: int | str | None = None
    reschedule_id: int | str | None = None
    reschedule_uid: str | None = None
    reschedule_start_time: datetime | None = None
    reschedule_end_time: datetime | None = None
    rescheduled_by: str | None = None
    cancellation_reason: str | None = None
    cancelled_by: str | msgspec.UnsetType | None = msgspec.UNSET
    request_reschedule: bool | None = None
    rejection_reason: str | None = None
    from_reschedule: str | None = None
    recurring_event: msgspec.Raw = ABSENT
    recurring_event_id: str | None = None
    event_type: EventType | None = None
    id: int | str | None = None
    user: Account | None = None
    user_primary_email: str | None = None
    booking_uid: str | None = None
    guests: list[Attendee] | None = None
    download_link: str | None = None
    download_links: msgspec.Raw = ABSENT
    booking: msgspec.Raw = ABSENT


class Wrapper(msgspec.Struct, rename="camel", gc=False):
    """What lies around the payload: `triggerEvent` + `payload`, or system 001's `trigger` + `data`."""

    trigger_event: str | None = None
    trigger: str | None = None
    created_at: datetime | None = None
    payload: Payload | None = None
    data: Payload | None = None


class FlatBody(Payload, rename="camel", gc=False):
    """MEETING_STARTED and MEETING_ENDED: the payload's fields lie beside the trigger."""

    trigger_event: str | None = None
    created_at: datetime | None = None


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body, read: `payload` is what speaks of the booking; in a flat body that is the body itself."""

    trigger: str | None
    created_at: datetime | None
    payload: Payload


S = TypeVar("S", bound=msgspec.Struct)
Answer = TypeVar("Answer")

NESTING_MAX = 1_000
"""More than any reader gets through without `with_room`: what can be read with it or without is the same."""
FRAMES_A_LEVEL = 3

_NESTED: dict[str, type[msgspec.Struct]] = {
    "organizer": Account,
    "user": Account,
    "attendees": Attendee,
    "guests": Attendee,
    "video_call_data": VideoCall,
    "event_type": EventType,
}

_wrapper_decoder = msgspec.json.Decoder(Wrapper)
_payload_decoder = msgspec.json.Decoder(Payload)
_flat_decoder = msgspec.json.Decoder(FlatBody)
_FLAT_BEGINNING = b'{"triggerEvent":"MEETING_'
_any_decoder = msgspec.json.Decoder()

_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_NO_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^][{}"]+', re.DOTALL)
_WRAPPED_UNDER = ("payload", "data")


def read_body(body: bytes) -> Body:
    """The body's fields. Raises Unreadable."""
    return with_room(_read_body, body)


def with_room(read: Callable[[bytes], Answer], body: bytes) -> Answer:
    """What `read` makes of the body, however deep the stack is from which it is called. Raises Unreadable.

    A body must mean the same to whoever reads it, so it is its own nesting alone that can be too deep.
    """
    try:
        return read(body)
    except RecursionError:
        if _is_too_deep(body):
            raise Unreadable("nested too deeply") from None
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + FRAMES_A_LEVEL * NESTING_MAX)
    try:
        return read(body)
    finally:
        sys.setrecursionlimit(limit)


def _is_too_deep(body: bytes) -> bool:
    """Whether arrays and objects lie in each other deeper than `NESTING_MAX`."""
    depth = 0
    for bracket in _NO_BRACKETS.sub(b"", body):
        depth += 1 if bracket in b"[{" else -1
        if depth > NESTING_MAX:
            return True
    return False


def _read_body(body: bytes) -> Body:
    try:
        if body.startswith(_FLAT_BEGINNING):
            flat = _flat_decoder.decode(body)
            if flat.uid is not None:
                return Body(flat.trigger_event, flat.created_at, flat)
        wrapper = _wrapper_decoder.decode(body)
        payload = wrapper.payload or wrapper.data or _payload_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        wrapper, payload = _read_leniently(body)
    if payload.booking and payload.uid is None:
        payload = _inner(payload.booking) or payload
    return Body(wrapper.trigger_event or wrapper.trigger, wrapper.created_at, payload)


def read_part(part: msgspec.Raw) -> object:
    """A part of the body that is only looked into where it is needed; None where it is absent or unreadable."""
    if not part:
        return None
    try:
        return read_json(bytes(part))
    except Unreadable:
        return None


def read_json(body: bytes) -> object:
    """The body as plain JSON values, lone surrogates replaced by U+FFFD. Raises Unreadable."""
    return with_room(_read_json, body)


def _read_json(body: bytes) -> object:
    try:
        return _any_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        mended = _SURROGATES.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], body)
        if mended == body:
            raise Unreadable(str(error)) from None
    try:
        return _any_decoder.decode(mended)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from None


def _read_leniently(body: bytes) -> tuple[Wrapper, Payload]:
    value = read_json(body)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    wrapped = next((value[key] for key in _WRAPPED_UNDER if isinstance(value.get(key), dict)), value)
    outer = {key: part for key, part in value.items() if key not in _WRAPPED_UNDER}
    return _fitting(Wrapper, outer), _fitting(Payload, wrapped)


def _inner(booking: msgspec.Raw) -> Payload | None:
    """The `booking` inside a payload, as some senders nest it."""
    value = read_part(booking)
    return _fitting(Payload, value) if isinstance(value, dict) else None


def _fitting(kind: type[S], value: dict[str, Any]) -> S:
    """The struct with those of its fields that have the right type; the others keep their defaults."""
    fitted = kind()
    for field in msgspec.structs.fields(kind):
        if field.encode_name in value:
            try:
                setattr(fitted, field.name, _fitting_part(field, value[field.encode_name]))
            except (msgspec.MsgspecError, ValueError):
                continue
    return fitted


def _fitting_part(field: FieldInfo, value: object) -> object:
    """The value as the field wants it. Raises msgspec.ValidationError where it does not fit."""
    if field.type == datetime | None:
        return read_instant(value)
    kind = _NESTED.get(field.name)
    if kind is Attendee and isinstance(value, list):  # people may be given as bare e-mails
        return [_fitting(Attendee, item if isinstance(item, dict) else {"email": item}) for item in value]
    if kind not in (None, Attendee) and isinstance(value, dict):
        return _fitting(kind, value)
    return msgspec.json.decode(msgspec.json.encode(value), type=field.type)


def is_link(text: object) -> TypeGuard[str]:
    """Whether a browser may be sent there: `javascript:` and the like are none."""
    return isinstance(text, str) and text.startswith(("https://", "http://"))


def read_instant(text: object) -> datetime | None:
    """An instant from any of Cal.com's formats, in UTC; a time without an offset is taken as UTC. None: unreadable.

    >>> read_instant("2026-12-01T09:00:00Z") == read_instant("2026-12-01T10:00:00.000+01:00")
    True
    """
    if not isinstance(text, str) or len(text) < len("2026-12-01"):
        return None
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        return None


def in_utc(moment: datetime | None) -> datetime | None:
    """The same instant in UTC; None where there is none, or none that a calendar can have (`EARLIEST`, `LATEST`)."""
    if moment is None:
        return None
    instant = moment
    if moment.tzinfo is not UTC:
        try:
            instant = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except OverflowError:
            return None
    return instant if EARLIEST <= instant <= LATEST else None
