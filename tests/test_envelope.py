"""Any bytes at all have an envelope: what they are about, what they report, and when that happened."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.calcom.envelope import NUMBER_MAX, UID_CHARACTERS_MAX, open_envelope
from ledger.calcom.payloads import Payload, read_instant
from ledger.calcom.triggers import KNOWN_TRIGGERS, TOPICS, UNRECOGNISED_TOPIC
from tests.builders import NOON, bodies_like_cal_coms, meeting, minutes, webhook

RECEIVED = datetime(2026, 12, 24, 23, 30, tzinfo=timezone(timedelta(hours=-2)))

# The three envelopes


def test_a_body_in_cal_coms_envelope_is_filed_by_uid_and_time_of_dispatch() -> None:
    envelope = open_envelope(webhook("BOOKING_CREATED", {"uid": "uidAAA", "bookingId": 4711}))
    assert (envelope.topic, envelope.trigger) == ("calcom.booking_created", "BOOKING_CREATED")
    assert (envelope.uid, envelope.number, envelope.occurred_at) == ("uidAAA", 4711, NOON)
    assert (envelope.previous_uid, envelope.error) == (None, None)
    assert envelope.stream_id(RECEIVED) == "booking-uidAAA"


@pytest.mark.parametrize(("trigger", "expected"), [("MEETING_STARTED", NOON), ("MEETING_ENDED", minutes(45))])
def test_a_flat_body_happened_when_the_meeting_did(trigger: str, expected: datetime) -> None:
    times = {"startTime": "2026-12-01T12:00:00.000Z", "endTime": "2026-12-01T12:45:00.000Z"}
    body = meeting(trigger, {"uid": "uidAAA", "id": 4711, "createdAt": "2026-11-01T08:00:00.000Z", **times})
    envelope = open_envelope(body)
    assert (envelope.topic, envelope.uid, envelope.number) == (f"calcom.{trigger.lower()}", "uidAAA", 4711)
    assert envelope.occurred_at == expected


def test_a_flat_body_without_its_time_has_none_though_it_says_when_the_booking_was_made() -> None:
    envelope = open_envelope(meeting("MEETING_ENDED", {"uid": "uidAAA", "createdAt": "2026-11-01T08:00:00.000Z"}))
    assert envelope.occurred_at is None


def test_a_body_with_trigger_and_data_is_filed_alike() -> None:
    data = {"uid": "uidAAA", "bookingId": "4711"}
    body = msgspec.json.encode({"trigger": "booking.confirmed", "data": data})
    envelope = open_envelope(body)
    assert (envelope.topic, envelope.trigger) == ("calcom.booking_confirmed", "BOOKING_CONFIRMED")
    assert (envelope.uid, envelope.number, envelope.occurred_at) == ("uidAAA", 4711, None)


@pytest.mark.parametrize("name", ["BOOKING.CREATED", "booking.created", "Booking_Created", " BOOKING_CREATED "])
@pytest.mark.parametrize("key", ["triggerEvent", "trigger"])
def test_a_trigger_is_known_however_it_is_written(name: str, key: str) -> None:
    envelope = open_envelope(msgspec.json.encode({key: name, "payload": {"uid": "uidAAA"}}))
    assert (envelope.topic, envelope.trigger) == ("calcom.booking_created", "BOOKING_CREATED")


def test_every_known_trigger_has_a_topic_of_its_own() -> None:
    topics = {open_envelope(webhook(trigger, {})).topic for trigger in KNOWN_TRIGGERS}
    assert topics == set(TOPICS.values())
    assert len(topics) == len(KNOWN_TRIGGERS)


@pytest.mark.parametrize("name", ["BOOKING_RATED", "ЗАПИСЬ", "x" * 500])
def test_a_trigger_that_nobody_knows_yet_is_kept_with_its_booking(name: str) -> None:
    envelope = open_envelope(webhook(name, {"uid": "uidAAA"}))
    assert (envelope.topic, envelope.trigger, envelope.uid) == (UNRECOGNISED_TOPIC, name.upper(), "uidAAA")
    assert envelope.error is None


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_body_alone_in_a_list_is_unwrapped(wrapped: bool) -> None:  # noqa: FBT001  # parametrized
    inner = {"uid": "uidAAA"}
    payload = {"booking": inner} if wrapped else inner
    body = b"[" + webhook("BOOKING_CREATED", payload) + b"]"
    envelope = open_envelope(body)
    assert (envelope.topic, envelope.uid, envelope.occurred_at) == ("calcom.booking_created", "uidAAA", NOON)


@pytest.mark.parametrize("beside", [{}, {"metadata": ""}, {"title": 5}, {"booking_id": 1}])
@pytest.mark.parametrize("inside", [{}, {"metadata": ""}, {"attendees": ["a@example.com"]}])
def test_a_booking_inside_the_payload_is_what_the_body_is_about(
    beside: dict[str, object], inside: dict[str, object]
) -> None:
    booking = {"uid": "uidAAA", "id": 4711, "startTime": "2026-12-01T12:00:00Z"}
    envelope = open_envelope(webhook("BOOKING_CREATED", {"booking": {**booking, **inside}, **beside}))
    assert (envelope.uid, envelope.number) == ("uidAAA", 4711)


def test_a_payload_with_a_uid_is_not_exchanged_for_the_booking_inside_it() -> None:
    envelope = open_envelope(webhook("BOOKING_CREATED", {"uid": "uidAAA", "booking": {"uid": "uidBBB"}}))
    assert envelope.uid == "uidAAA"


# What it is about


def test_a_no_show_names_its_booking_in_another_place() -> None:
    envelope = open_envelope(webhook("BOOKING_NO_SHOW_UPDATED", {"bookingUid": "uidAAA", "bookingId": 4711}))
    assert (envelope.uid, envelope.number) == ("uidAAA", 4711)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (4711, 4711),
        ("4711", 4711),
        ("004711", 4711),
        (NUMBER_MAX, NUMBER_MAX),
        (NUMBER_MAX + 1, None),
        (2**64 - 1, None),
        (2**64, None),
        (10**30, None),
        (0, None),
        (-4711, None),
        ("", None),
        ("-4711", None),
        ("4711.0", None),
        ("²", None),
        ("٤٧", None),
        ("9" * 19, None),
        ("9" * 5_000, None),
        (True, None),
        (None, None),
        ([4711], None),
    ],
)
@pytest.mark.parametrize("key", ["bookingId", "id"])
def test_a_booking_without_a_uid_is_filed_by_its_number(key: str, written: object, number: int | None) -> None:
    envelope = open_envelope(json.dumps({"triggerEvent": "BOOKING_CREATED", "payload": {key: written}}).encode())
    assert (envelope.topic, envelope.number) == ("calcom.booking_created", number)
    expected = "unattributed-2026-12-25" if number is None else f"booking-id-{number}"
    assert envelope.stream_id(RECEIVED) == expected


@pytest.mark.parametrize(
    "uid",
    [
        "",
        "id-4711",
        "id-",
        "a\u0000b",
        "a\nb",
        "\u202eevil",
        "x" * (UID_CHARACTERS_MAX + 1),
        4711,
        None,
        ["u"],
    ],
)
def test_what_cannot_name_a_stream_is_no_uid(uid: object) -> None:
    body = json.dumps({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": uid, "bookingId": 5}}).encode()
    envelope = open_envelope(body)
    assert (envelope.uid, envelope.number) == (None, 5)


@pytest.mark.parametrize(
    "uid", ["uidAAA", "a" * UID_CHARACTERS_MAX, "идентификатор", "🐾", "a b", "Id-5", "booking-id-5"]
)
def test_any_other_text_is_a_uid(uid: str) -> None:
    envelope = open_envelope(webhook("BOOKING_CREATED", {"uid": uid, "bookingId": 5}))
    assert envelope.stream_id(RECEIVED) == f"booking-{uid}"


@pytest.mark.parametrize("key", ["rescheduleUid", "fromReschedule"])
def test_the_booking_that_is_replaced_is_named_unless_it_is_the_same(key: str) -> None:
    assert open_envelope(webhook("BOOKING_RESCHEDULED", {"uid": "new", key: "old"})).previous_uid == "old"
    assert open_envelope(webhook("BOOKING_RESCHEDULED", {"uid": "new", key: "new"})).previous_uid is None
    assert open_envelope(webhook("BOOKING_RESCHEDULED", {"uid": "new", key: "id-5"})).previous_uid is None


# When it happened


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-01T12:00:00Z",
        "2026-12-01T12:00:00.000Z",
        "2026-12-01T12:00:00.000000Z",
        "2026-12-01T12:00:00+00:00",
        "2026-12-01T13:00:00+01:00",
        "2026-12-01T17:45:00.000+05:45",
        "2026-12-01T02:30:00-09:30",
        "2026-12-01T12:00:00",
        "2026-12-01 12:00:00+00:00",
        "2026-12-01T12:00Z",
    ],
)
def test_every_way_to_write_a_time_is_the_same_instant(text: str) -> None:
    assert read_instant(text) == NOON
    body = msgspec.json.encode({"triggerEvent": "BOOKING_CREATED", "createdAt": text, "payload": {"uid": "u"}})
    occurred_at = open_envelope(body).occurred_at
    assert occurred_at == NOON
    assert occurred_at is not None
    assert occurred_at.tzinfo == UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "1764590400000",
        "2026-13-01T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-12-01T25:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "10000-01-01T00:00:00Z",
        "2026-12-01T12:00:00Z" * 100,
        "\ud800026-12-01T12:00:00Z",
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_instant(text) is None


@pytest.mark.parametrize("created_at", [1764590400000, None, "", [], {"$date": "2026-12-01"}])
def test_a_body_whose_time_cannot_be_read_has_none(created_at: object) -> None:
    body = msgspec.json.encode({"triggerEvent": "BOOKING_CREATED", "createdAt": created_at, "payload": {"uid": "u"}})
    envelope = open_envelope(body)
    assert (envelope.uid, envelope.occurred_at) == ("u", None)


# Bodies that cannot be read, and bodies that nearly cannot

UNREADABLE = {
    "empty": b"",
    "the word false": b"false",
    "null": b"null",
    "a number": b"1",
    "a text": b'"BOOKING_CREATED"',
    "an empty list": b"[]",
    "two bodies in a list": b'[{"triggerEvent":"PING"},{"triggerEvent":"PING"}]',
    "a list in a list": b'[[{"triggerEvent":"PING"}]]',
    "plain text": "New booking with Łatka 🐾".encode(),
    "a form": b"triggerEvent=BOOKING_CREATED&uid=uidAAA",
    "a byte order mark": b'\xef\xbb\xbf{"triggerEvent":"PING"}',
    "UTF-16": '{"triggerEvent":"PING"}'.encode("utf-16"),
    "a raw NUL": b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"a\x00b"}}',
    "only NULs": b"\x00" * 100,
    "not a number": b'{"triggerEvent":"BOOKING_CREATED","payload":{"price":NaN}}',
    "infinity": b'{"triggerEvent":"BOOKING_CREATED","payload":{"price":-Infinity}}',
    "cut off": b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"uid',
    "something after the end": b'{"triggerEvent":"PING"} {"triggerEvent":"PING"}',
    "invalid UTF-8 where we read": b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"\xff\xfe"}}',
    "a surrogate in UTF-8 where we read": b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"\xed\xa0\x80"}}',
    "a broken escape": b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"\\ud8"}}',
    "lists 10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "payloads 10,000 deep": b'{"payload":' * 10_000 + b"{}" + b"}" * 10_000,
    "bookings 10,000 deep": b'{"triggerEvent":"PING","payload":' + b'{"booking":' * 10_000 + b"1" + b"}" * 10_001,
    "a value 10,000 deep": b'{"triggerEvent":"PING","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_cannot_be_read_is_kept_as_unrecognised_and_says_why(name: str) -> None:
    envelope = open_envelope(UNREADABLE[name])
    assert (envelope.topic, envelope.trigger, envelope.uid) == (UNRECOGNISED_TOPIC, None, None)
    assert envelope.error
    assert envelope.occurred_at is None
    assert envelope.stream_id(RECEIVED) == "unattributed-2026-12-25"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"a\u0000b", "a\u0000b"),
        (rb"\ud83d\udc3e", "🐾"),
        (rb"\ud83d", "\ufffd"),
        (rb"\udc3e\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\udc3e", "\ufffd🐾"),
        (rb"\uD83D-\uDC3E", "\ufffd-\ufffd"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\\\\ud83d\ud83d", "\\\\ud83d\ufffd"),
        (rb"\"\ud83d\"", '"\ufffd"'),
        (rb"\ud83dd", "\ufffdd"),
        (rb"\ud83d\n\udc3e", "\ufffd\n\ufffd"),
        (rb"\u00e9\/", "é/"),
    ],
)
def test_text_that_cannot_be_stored_as_text_is_read_with_replacement_characters(written: bytes, read: str) -> None:
    body = b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"uidAAA","title":"' + written + b'"}}'
    envelope = open_envelope(body)
    assert (envelope.uid, envelope.error) == ("uidAAA", None)
    assert envelope.payload is not None
    assert envelope.payload.title == read


@pytest.mark.parametrize(
    "stranger",
    [
        b'"createdAt":"2026-12-01T12:00:00Z","createdAt":"2026-12-01T12:00:00Z"',
        b'"number":' + b"9" * 5_000,
        b'"number":1e400',
        b'"text":"\xff"',
        b'"text":"' + b"x" * 1_000_000 + b'"',
        b'"__proto__":{},"constructor":null,"":[]',
        b'"payload":null',
        b'"data":5',
    ],
)
def test_what_we_do_not_read_keeps_nothing_from_being_read(stranger: bytes) -> None:
    body = b'{"triggerEvent":"BOOKING_CREATED",' + stranger + b',"data":{"uid":"uidAAA"}}'
    if b'"data":5' not in stranger:
        assert open_envelope(body).uid == "uidAAA"
    assert open_envelope(body).topic == "calcom.booking_created"


STRANGERS: tuple[object, ...] = (
    5,
    1.5,
    True,
    "text",
    "",
    None,
    [],
    [None],
    [5],
    {},
    {"a": [1]},
    2**63,
    2**64,
    10**40,
    -1,
)


@pytest.mark.parametrize("field", [field.encode_name for field in msgspec.structs.fields(Payload)])
def test_a_field_of_an_unexpected_kind_costs_no_other_field(field: str) -> None:
    for stranger in STRANGERS:
        payload = {"uid": "uidAAA", "bookingId": 7, field: stranger}
        envelope = open_envelope(json.dumps({"triggerEvent": "BOOKING_CREATED", "payload": payload}).encode())
        assert envelope.topic == "calcom.booking_created"
        assert field == "uid" or envelope.uid == "uidAAA"
        assert field in {"bookingId", "uid"} or envelope.number == 7


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=300) | bodies_like_cal_coms())
@example(b'{"triggerEvent":"BOOKING_CREATED","payload":{"bookingId":18446744073709551616}}')
def test_every_body_has_an_envelope_that_can_be_filed(body: bytes) -> None:
    envelope = open_envelope(body)
    stream_id = envelope.stream_id(RECEIVED)
    assert stream_id.startswith(("booking-", "unattributed-2026-12-25"))
    assert stream_id.isprintable()
    assert len(stream_id.encode()) <= 4 * (UID_CHARACTERS_MAX + len("booking-"))
    assert envelope.topic in {*TOPICS.values(), UNRECOGNISED_TOPIC}
    assert envelope.occurred_at is None or envelope.occurred_at.tzinfo == UTC
    assert (envelope.trigger is None) == (envelope.error is not None)
    assert envelope.previous_uid is None or envelope.previous_uid != envelope.uid
