"""A verified delivery becomes events: as it came, recognised when it comes again, linked to what it replaces."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from ledger.calcom.envelope import booking_stream
from ledger.chain import verify_chain
from ledger.filing import Filing, Receipt, file_delivery, file_new_delivery
from ledger.links import SEAT_MOVED_TOPIC, SUPERSEDED_TOPIC, read_link
from ledger.store import Ledger, append, read_head, read_log, read_stream
from ledger.vocabulary import Position
from tests.builders import MAIN, NOON, deliver, instant, main_ledger, meeting, minutes, people, webhook

LEDGER = Ledger(ledger_id=MAIN, name="main", event_id_key=b"k" * 32)
RECEIVED = minutes(3)
START = Position(0)
FRESH = UUID("00000000-0000-4000-8000-000000000001")
CREATED = webhook("BOOKING_CREATED", {"uid": "uidOLD", "bookingId": 4700})
RESCHEDULED = webhook(
    "BOOKING_RESCHEDULED", {"uid": "uidNEW", "rescheduleUid": "uidOLD", "rescheduleId": 4700}, at=minutes(1)
)
SEAT_MOVED = webhook(
    "BOOKING_RESCHEDULED",
    {"uid": "uidNEW", "rescheduleUid": "uidOLD", "seatsPerTimeSlot": 6, "attendees": people("a@example.com")},
    at=minutes(1),
)
TIMELESS = webhook("BOOKING_CREATED", {"uid": "uidAAA"}, at=None)


def filed(body: bytes, *, ledger: Ledger = LEDGER, received_at: datetime = RECEIVED) -> Filing:
    return file_delivery(ledger, body, Receipt(received_at=received_at), fresh_id=uuid4())


async def stored(connection: asyncpg.Connection) -> list[tuple[int, str, str]]:
    """Position, stream and topic of everything in the log."""
    events = await read_log(connection, MAIN, after=START, events_max=1_000)
    return [(event.position, event.stream_id, event.topic) for event in events]


# One delivery


def test_a_delivery_is_filed_as_it_came_with_how_it_came() -> None:
    receipt = Receipt(received_at=RECEIVED, secret=1, version="2026-07-27")
    filing = file_delivery(LEDGER, CREATED, receipt, fresh_id=FRESH)
    [event] = filing.events
    assert (event.stream_id, event.topic, event.body) == ("booking-uidOLD", "calcom.booking_created", CREATED)
    assert (event.occurred_at, event.source, event.expected_version) == (NOON, "webhook", None)
    assert msgspec.json.decode(event.metadata, type=Receipt) == receipt
    assert (filing.envelope.uid, filing.envelope.number) == ("uidOLD", 4700)


def test_a_body_without_a_time_of_its_own_happened_when_it_was_received() -> None:
    [event] = filed(TIMELESS).events
    assert event.occurred_at == RECEIVED


@pytest.mark.parametrize("body", [b"", b"false", b"\x00\xff", b"[" * 20_000, webhook("PING", {"type": "Test"})])
def test_what_is_about_no_booking_is_filed_by_the_day_of_its_receipt(body: bytes) -> None:
    [event] = filed(body, received_at=datetime(2026, 12, 24, 23, 59, tzinfo=UTC)).events
    assert (event.stream_id, event.body) == ("unattributed-2026-12-24", body)


# Recognised when it comes again


@pytest.mark.parametrize(
    "body", [CREATED, RESCHEDULED, meeting("MEETING_ENDED", {"uid": "uidAAA", "endTime": instant(NOON)})]
)
def test_a_body_with_a_time_has_the_same_id_each_time(body: bytes) -> None:
    first, again = filed(body), filed(body, received_at=minutes(999))
    assert [event.event_id for event in first.events] == [event.event_id for event in again.events]


@pytest.mark.parametrize(
    "body", [TIMELESS, b"false", b"", webhook("", {}), meeting("MEETING_ENDED", {"uid": "uidAAA"})]
)
def test_a_body_without_a_time_has_another_id_each_time(body: bytes) -> None:
    assert filed(body).events[0].event_id != filed(body).events[0].event_id
    assert file_delivery(LEDGER, body, Receipt(received_at=NOON), fresh_id=FRESH).events[0].event_id == FRESH


def test_a_fresh_id_is_drawn_once_and_only_for_a_body_without_a_time() -> None:
    drawn: list[UUID] = []

    def draw_id() -> UUID:
        drawn.append(uuid4())
        return drawn[-1]

    for body in (CREATED, RESCHEDULED):
        file_new_delivery(LEDGER, body, Receipt(received_at=NOON), draw_id=draw_id)
    assert drawn == []
    filing = file_new_delivery(LEDGER, TIMELESS, Receipt(received_at=NOON), draw_id=draw_id)
    assert [event.event_id for event in filing.events] == drawn


def test_an_id_depends_on_every_byte_on_the_ledger_and_on_what_it_is_for() -> None:
    other = Ledger(ledger_id=MAIN, name="main", event_id_key=b"l" * 32)
    ids = {event.event_id for event in filed(RESCHEDULED).events}
    ids |= {event.event_id for event in filed(RESCHEDULED, ledger=other).events}
    ids |= {filed(changed).events[0].event_id for changed in (RESCHEDULED + b" ", RESCHEDULED.replace(b":0", b":1", 1))}
    assert len(ids) == 6


def test_ids_made_of_content_are_uuids_of_version_eight() -> None:
    for event in filed(RESCHEDULED).events:
        assert (event.event_id.version, event.event_id.variant) == (8, "specified in RFC 4122")


async def test_an_exact_repeat_is_answered_with_the_firsts_place(connection: asyncpg.Connection) -> None:
    [first], [again] = await deliver(connection, CREATED, CREATED, received_at=minutes(5))
    assert (first.position, first.duplicate) == (1, False)
    assert (again.position, again.stream_version, again.duplicate) == (1, 1, True)
    assert len(await stored(connection)) == 1


async def test_the_same_words_without_a_time_are_two_changes(connection: asyncpg.Connection) -> None:
    answers = await deliver(connection, TIMELESS, TIMELESS, TIMELESS)
    assert [(place.position, place.duplicate) for [place] in answers] == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"false",
        bytes(range(256)),
        b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"a\\u0000b","title":"\\ud83d"}}',
        b'{"triggerEvent":"BOOKING_CREATED\\u0000","payload":{"uid":"\\udc3e"}}',
        webhook("BOOKING_CREATED", {"uid": "🐾" * 200, "rescheduleUid": "Ł" * 200}),
        webhook("BOOKING_CREATED", {"uid": "u' OR 1=1; --", "bookingId": 2**63 - 1}),
        webhook("BOOKING_CREATED", {"uid": "u", "title": "x" * 1_000_000}),
    ],
)
async def test_whatever_the_body_is_it_goes_in_and_comes_out_as_it_was(
    connection: asyncpg.Connection, body: bytes
) -> None:
    await deliver(connection, body)
    assert (await read_log(connection, MAIN, after=START, events_max=1))[0].body == body
    assert (await verify_chain(connection, await main_ledger(connection))).ok


@pytest.mark.parametrize(
    "written",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000001Z",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
async def test_a_time_at_the_edge_of_the_calendar_is_kept_like_any_other(
    connection: asyncpg.Connection, written: str
) -> None:
    body = msgspec.json.encode({"triggerEvent": "BOOKING_CREATED", "createdAt": written, "payload": {"uid": "uidAAA"}})
    await deliver(connection, body, CREATED)
    assert (await verify_chain(connection, await main_ledger(connection))).ok
    for event in await read_log(connection, MAIN, after=START, events_max=10):
        assert event.occurred_at.utcoffset() == timedelta(0)


# Links


def test_a_reschedule_brings_a_link_for_the_old_uid() -> None:
    delivery, link = filed(RESCHEDULED).events
    assert (delivery.stream_id, link.stream_id) == ("booking-uidNEW", "booking-uidOLD")
    assert (link.topic, link.source, link.occurred_at) == (SUPERSEDED_TOPIC, "link", minutes(1))
    pointer = read_link(link.body)
    assert (pointer.by_stream, pointer.by_event, pointer.trigger) == (
        "booking-uidNEW",
        delivery.event_id,
        "BOOKING_RESCHEDULED",
    )


@pytest.mark.parametrize(
    ("body", "topic"),
    [
        (webhook("BOOKING_REQUESTED", {"uid": "uidNEW", "rescheduleUid": "uidOLD"}), SUPERSEDED_TOPIC),
        (webhook("BOOKING_PAYMENT_INITIATED", {"uid": "uidNEW", "rescheduleUid": "uidOLD"}), SUPERSEDED_TOPIC),
        (webhook("BOOKING_RESCHEDULED", {"bookingId": "4711", "rescheduleUid": "uidOLD"}, at=None), SUPERSEDED_TOPIC),
        (meeting("MEETING_ENDED", {"uid": "uidNEW", "fromReschedule": "uidOLD"}), SUPERSEDED_TOPIC),
        (SEAT_MOVED, SEAT_MOVED_TOPIC),
    ],
)
def test_every_body_that_names_an_older_booking_is_linked_to_it(body: bytes, topic: str) -> None:
    delivery, link = filed(body).events
    assert (link.stream_id, link.topic) == ("booking-uidOLD", topic)
    assert read_link(link.body).by_stream == delivery.stream_id


@pytest.mark.parametrize(
    "body",
    [
        CREATED,
        webhook("BOOKING_RESCHEDULED", {"uid": "uidNEW", "rescheduleUid": "uidNEW", "seatsPerTimeSlot": 6}),
        webhook("BOOKING_RESCHEDULED", {"uid": "uidNEW", "rescheduleUid": None}),
        msgspec.json.encode({"payload": {"uid": "uidNEW", "rescheduleUid": "uidOLD"}}),
    ],
)
def test_a_body_that_names_no_other_booking_brings_no_link(body: bytes) -> None:
    assert len(filed(body).events) == 1


async def test_a_link_is_in_the_log_with_its_delivery_or_not_at_all(connection: asyncpg.Connection) -> None:
    filing = file_delivery(await main_ledger(connection), RESCHEDULED, Receipt(received_at=NOON), fresh_id=FRESH)
    rolled_back = connection.transaction()
    await rolled_back.start()
    await append(connection, MAIN, filing.events)
    await rolled_back.rollback()
    assert await stored(connection) == []
    await append(connection, MAIN, filing.events)
    delivery, link = await read_log(connection, MAIN, after=START, events_max=10)
    assert [delivery.stream_id, link.stream_id] == ["booking-uidNEW", "booking-uidOLD"]
    assert delivery.recorded_at == link.recorded_at == (await read_head(connection, MAIN)).recorded_at


async def test_a_pair_of_bookings_is_linked_once_however_many_bodies_name_it(connection: asyncpg.Connection) -> None:
    restamped = RESCHEDULED.replace(instant(minutes(1)).encode(), instant(minutes(2)).encode())
    ended = meeting("MEETING_ENDED", {"uid": "uidNEW", "fromReschedule": "uidOLD", "endTime": instant(minutes(60))})
    answers = await deliver(connection, RESCHEDULED, restamped, ended, RESCHEDULED)
    assert [[place.position for place in places] for places in answers] == [[1, 2], [3, 2], [4, 2], [1, 2]]
    old = await read_stream(connection, MAIN, booking_stream("uidOLD"))
    assert [event.topic for event in old] == [SUPERSEDED_TOPIC]


async def test_every_pair_has_a_link_of_its_own(connection: asyncpg.Connection) -> None:
    third = webhook("BOOKING_RESCHEDULED", {"uid": "uidTOO", "rescheduleUid": "uidOLD", "rescheduleId": 1})
    onwards = webhook("BOOKING_RESCHEDULED", {"uid": "uidEND", "rescheduleUid": "uidNEW", "rescheduleId": 2})
    await deliver(connection, RESCHEDULED, third, onwards)
    links = [entry for entry in await stored(connection) if entry[2] == SUPERSEDED_TOPIC]
    assert [stream for _, stream, _ in links] == ["booking-uidOLD", "booking-uidOLD", "booking-uidNEW"]
