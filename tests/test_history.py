"""From any booking of a chain the whole chain is read, however its bodies arrived, and nothing that is not of it."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.calcom.observation import OBSERVED_TOPIC
from ledger.facts import SeatLeft
from ledger.history import Histories, load_histories
from ledger.postgres import Connection
from ledger.store import append, read_head
from ledger.vocabulary import Position, StreamId
from tests.builders import MAIN, NOON, deliver, instant, meeting, minutes, new_event, people, webhook

NUMBERS = {"a": 1, "b": 2, "c": 3}


def created(uid: str, *, at: datetime = NOON, **more: object) -> bytes:
    times = {"startTime": instant(minutes(600)), "endTime": instant(minutes(645))}
    return webhook("BOOKING_CREATED", {"uid": uid, "bookingId": NUMBERS.get(uid, 9), **times, **more}, at=at)


def rescheduled(uid: str, old: str, *, at: datetime, **more: object) -> bytes:
    payload = {"uid": uid, "bookingId": NUMBERS.get(uid, 9), "rescheduleUid": old, "rescheduleId": NUMBERS.get(old, 8)}
    times = {"startTime": instant(minutes(700)), "endTime": instant(minutes(745))}
    olden = {"rescheduleStartTime": instant(minutes(600)), "rescheduleEndTime": instant(minutes(645))}
    return webhook("BOOKING_RESCHEDULED", {**payload, **times, **olden, **more}, at=at)


A_CREATED = created("a", metadata={"pet": "p1"})
B_FOR_A = rescheduled("b", "a", at=minutes(1))
C_FOR_B = rescheduled("c", "b", at=minutes(2))


async def nobody_knows(_numbers: Sequence[int]) -> dict[int, StreamId]:
    return {}


async def load(
    connection: Connection,
    *streams: str,
    up_to: int | None = None,
    valid_at: datetime | None = None,
    known_numbers: Mapping[int, str] | None = None,
) -> Histories:
    """The histories of these streams, named without `booking-`; `known_numbers` is what a read model would know."""
    head = await read_head(connection, MAIN)

    async def look_up(numbers: Sequence[int]) -> dict[int, StreamId]:
        known = known_numbers or {}
        return {number: booking_stream(known[number]) for number in numbers if number in known}

    return await load_histories(
        connection,
        MAIN,
        [booking_stream(stream) for stream in streams],
        up_to=head.position if up_to is None else Position(up_to),
        look_up_numbers=look_up,
        valid_at=valid_at,
    )


async def bookings(connection: Connection, *streams: str, **how: object) -> dict[str, Booking]:
    """The same, bookings alone, by uid or number."""
    found = await load(connection, *streams, **how)  # type: ignore[arg-type]  # passed on as they are
    return {booking.key: booking for booking in found.bookings.values()}


def words(found: Mapping[str, Booking]) -> dict[str, str]:
    return {uid: booking.calendar_status() for uid, booking in found.items()}


# Chains


@pytest.mark.parametrize("order", [*itertools.permutations("abc")])
async def test_a_chain_is_read_from_any_of_its_bookings_whatever_came_first(
    connection: asyncpg.Connection, order: tuple[str, ...]
) -> None:
    bodies = {"a": A_CREATED, "b": B_FOR_A, "c": C_FOR_B}
    await deliver(connection, *(bodies[uid] for uid in order))
    for start in "abc":
        found = await bookings(connection, start)
        assert words(found) == {"a": "rescheduled", "b": "rescheduled", "c": "scheduled"}
        assert [found[uid].rescheduled_to for uid in "abc"] == ["b", "c", None]
        assert {booking.root_uid for booking in found.values()} == {"a"}
        assert found["c"].metadata == {"pet": "p1"}


async def test_a_booking_that_never_arrived_is_known_by_the_one_that_replaced_it(
    connection: asyncpg.Connection,
) -> None:
    await deliver(connection, B_FOR_A)
    for start in "ab":
        found = await bookings(connection, start)
        assert words(found) == {"a": "rescheduled", "b": "scheduled"}
        assert (found["a"].rescheduled_to, found["a"].start, found["a"].end) == ("b", minutes(600), minutes(645))


async def test_where_the_middle_of_a_chain_never_arrived_its_two_ends_are_known_apart(
    connection: asyncpg.Connection,
) -> None:
    await deliver(connection, A_CREATED, C_FOR_B)
    assert words(await bookings(connection, "a")) == {"a": "scheduled"}
    for start in "bc":
        assert words(await bookings(connection, start)) == {"b": "rescheduled", "c": "scheduled"}
    await deliver(connection, B_FOR_A)
    for start in "abc":
        assert set(await bookings(connection, start)) == {"a", "b", "c"}


async def test_a_snapshot_alone_ties_a_chain_and_raises_a_doubt(connection: asyncpg.Connection) -> None:
    ended = meeting("MEETING_ENDED", {"uid": "b", "id": 2, "fromReschedule": "a", "endTime": instant(minutes(745))})
    await deliver(connection, A_CREATED, ended)
    for start in "ab":
        found = await bookings(connection, start)
        assert words(found) == {"a": "scheduled", "b": "completed"}
        assert set(found["a"].doubts) == {"link_unknown"}


async def test_several_bookings_are_read_at_once_with_the_chain_of_each(connection: asyncpg.Connection) -> None:
    await deliver(connection, A_CREATED, created("x"), B_FOR_A, created("y"))
    assert set(await bookings(connection, "x", "b")) == {"x", "b", "a"}
    assert await bookings(connection) == {}
    assert await bookings(connection, "unknown") == {}


async def test_a_chain_in_a_circle_is_read_once_round(connection: asyncpg.Connection) -> None:
    await deliver(
        connection, rescheduled("b", "a", at=NOON), rescheduled("c", "b", at=NOON), rescheduled("a", "c", at=NOON)
    )
    for start in "abc":
        assert set(await bookings(connection, start)) == {"a", "b", "c"}


async def test_a_chain_that_is_too_long_is_cut(connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.history.CHAIN_LENGTH_MAX", 5)
    await deliver(connection, *(rescheduled(f"u{n + 1}", f"u{n}", at=minutes(n)) for n in range(20)))
    found = await bookings(connection, "u0")
    assert 4 <= len(found) <= 7
    assert found["u0"].rescheduled_to == "u1"


async def test_an_observation_ties_a_chain_in_both_directions(connection: asyncpg.Connection) -> None:
    seen = {"uid": "a", "status": "cancelled", "rescheduledToUid": "b", "id": 1, "attendees": [], "hosts": []}
    observed = new_event("booking-a", topic=OBSERVED_TOPIC, body=msgspec.json.encode(seen), occurred_at=minutes(5))
    await deliver(connection, A_CREATED, created("b", at=minutes(1)))
    await append(connection, MAIN, [observed])
    assert words(await bookings(connection, "a")) == {"a": "rescheduled", "b": "scheduled"}


# Known by number


NUMBER_ONLY = msgspec.json.encode({"trigger": "BOOKING_CONFIRMED", "data": {"bookingId": "1", "title": "By number"}})


@pytest.mark.parametrize("number_first", [True, False])
async def test_what_came_under_a_number_joins_the_uid_that_has_it(
    connection: asyncpg.Connection,
    number_first: bool,  # noqa: FBT001  # parametrized
) -> None:
    bodies = [NUMBER_ONLY, A_CREATED] if number_first else [A_CREATED, NUMBER_ONLY]
    await deliver(connection, *bodies, received_at=minutes(30))
    for start in ("a", "id-1"):
        found = await load(connection, start, known_numbers={1: "a"})
        [booking] = found.bookings.values()
        assert (booking.uid, booking.number, booking.title) == ("a", 1, "By number")
        assert booking.calendar_status() == "confirmed"
        assert found.merged == {number_stream(1): booking_stream("a")}
        assert len(found.facts[booking_stream("a")]) == 2


async def test_a_number_whose_uid_nobody_knows_is_a_booking_of_its_own(connection: asyncpg.Connection) -> None:
    await deliver(connection, NUMBER_ONLY, NUMBER_ONLY, created("x"))
    found = await load(connection, "id-1")
    [booking] = found.bookings.values()
    assert (booking.key, booking.uid, booking.calendar_status()) == ("1", None, "confirmed")
    assert (len(found.facts[number_stream(1)]), found.merged) == (2, {})


async def test_a_number_belongs_to_a_uid_only_once_a_body_has_said_so(connection: asyncpg.Connection) -> None:
    await deliver(connection, NUMBER_ONLY, A_CREATED, received_at=minutes(30))
    before = await load(connection, "id-1", up_to=1, known_numbers={1: "a"})
    assert [booking.key for booking in before.bookings.values()] == ["1"]
    assert set(await bookings(connection, "id-1", known_numbers={1: "a"})) == {"a"}


async def test_a_wrong_hint_joins_nothing(connection: asyncpg.Connection) -> None:
    await deliver(connection, NUMBER_ONLY, created("x", bookingId=77))
    found = await load(connection, "id-1", known_numbers={1: "x"})
    assert found.merged == {}
    assert found.bookings[number_stream(1)].key == "1"


@pytest.mark.parametrize("number_first", [True, False])
async def test_a_booking_replaced_under_a_number_leads_to_its_uid_once_that_is_known(
    connection: asyncpg.Connection,
    number_first: bool,  # noqa: FBT001  # parametrized
) -> None:
    data = {"bookingId": "2", "rescheduleUid": "a", "rescheduleId": 1}
    by_number = msgspec.json.encode({"trigger": "BOOKING_RESCHEDULED", "data": data})
    b_created = created("b", at=minutes(5))
    await deliver(connection, A_CREATED, *((by_number, b_created) if number_first else (b_created, by_number)))
    for start in ("a", "b", "id-2"):
        found = await bookings(connection, start, known_numbers={2: "b"})
        assert words(found) == {"a": "rescheduled", "b": "scheduled"}
        assert found["a"].rescheduled_to == "b"


# Classes

SEATS: dict[str, Any] = {"seatsPerTimeSlot": 6}
CLASS = [
    created("a", **SEATS, attendees=people("ada@example.com")),
    created("a", at=minutes(1), **SEATS, attendees=people("bob@example.com")),
]
ADA_MOVES = webhook(
    "BOOKING_RESCHEDULED",
    {"uid": "b", "bookingId": 2, "rescheduleUid": "a", **SEATS, "attendees": people("ada@example.com")},
    at=minutes(2),
)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
async def test_a_seat_that_moves_does_not_pull_in_the_other_slot(
    connection: asyncpg.Connection, order: tuple[int, ...]
) -> None:
    bodies = [*CLASS, ADA_MOVES]
    await deliver(connection, *(bodies[at] for at in order))
    old = await load(connection, "a")
    assert set(old.bookings) == {booking_stream("a")}
    assert set(old.bookings[booking_stream("a")].attendees) == {"bob@example.com"}
    assert any(isinstance(dated.fact, SeatLeft) for dated in old.facts[booking_stream("a")])
    new = await bookings(connection, "b")
    assert set(new) == {"b"}
    assert set(new["b"].attendees) == {"ada@example.com"}
    assert (new["b"].rescheduled_from, new["b"].seat_from) == ("a", True)


async def test_a_slot_keeps_to_itself_when_the_seat_that_left_it_moves_on(connection: asyncpg.Connection) -> None:
    onwards = rescheduled("c", "b", at=minutes(3), **SEATS, attendees=people("ada@example.com"))
    await deliver(connection, *CLASS, ADA_MOVES, onwards)
    assert words(await bookings(connection, "a")) == {"a": "scheduled"}
    assert words(await bookings(connection, "b")) == {"b": "rescheduled", "c": "scheduled"}


async def test_the_meeting_of_a_seats_new_slot_says_nothing_of_the_old_one(connection: asyncpg.Connection) -> None:
    """Cal.com's row of the new slot names the old one in `fromReschedule`, whether one seat moved or all did."""
    ended = meeting("MEETING_ENDED", {"uid": "b", "id": 2, "fromReschedule": "a", "endTime": instant(minutes(745))})
    await deliver(connection, *CLASS, ADA_MOVES, ended)
    old = await bookings(connection, "a")
    assert words(old) == {"a": "scheduled"}
    assert old["a"].doubts == {}
    assert set(await bookings(connection, "b")) == {"b"}


async def test_a_class_that_follows_its_first_seat_to_the_same_slot_is_read_as_one_chain(
    connection: asyncpg.Connection,
) -> None:
    """The pair of slots is linked already when the whole class moves, by a seat; it must be tied all the same."""
    await deliver(connection, *CLASS, ADA_MOVES, rescheduled("b", "a", at=minutes(3), **SEATS))
    for start in "ab":
        assert words(await bookings(connection, start)) == {"a": "rescheduled", "b": "scheduled"}


# As it was


async def test_a_booking_is_read_as_it_was_recorded_up_to_a_position(connection: asyncpg.Connection) -> None:
    await deliver(connection, A_CREATED, B_FOR_A, C_FOR_B)  # 1; 2 with its link 3; 4 with its link 5
    assert words(await bookings(connection, "a", up_to=0)) == {}
    assert words(await bookings(connection, "a", up_to=1)) == {"a": "scheduled"}
    assert words(await bookings(connection, "a", up_to=3)) == {"a": "rescheduled", "b": "scheduled"}
    assert set(await bookings(connection, "a", up_to=5)) == {"a", "b", "c"}


async def test_a_booking_is_read_as_it_was_at_a_moment_whatever_came_late(connection: asyncpg.Connection) -> None:
    await deliver(connection, C_FOR_B, B_FOR_A, A_CREATED)
    assert words(await bookings(connection, "a", valid_at=NOON)) == {"a": "scheduled"}
    assert words(await bookings(connection, "a", valid_at=minutes(1))) == {"a": "rescheduled", "b": "scheduled"}
    assert words(await bookings(connection, "c", valid_at=minutes(-1))) == {}


async def test_every_fact_knows_its_event(connection: asyncpg.Connection) -> None:
    [[place]] = await deliver(connection, A_CREATED)
    [dated] = (await load(connection, "a")).facts[booking_stream("a")]
    assert (dated.position, dated.occurred_at, dated.trigger) == (place.position, NOON, "BOOKING_CREATED")
    assert dated.recorded_at == (await read_head(connection, MAIN)).recorded_at


async def test_bodies_about_no_booking_make_none(connection: asyncpg.Connection) -> None:
    await deliver(
        connection, b"false", webhook("PING", {"type": "Test"}), webhook("BOOKING_CREATED", {"title": "Test"})
    )
    found = await load_histories(
        connection,
        MAIN,
        [StreamId("unattributed-2026-12-01")],
        up_to=(await read_head(connection, MAIN)).position,
        look_up_numbers=nobody_knows,
    )
    assert (found.bookings, found.facts, found.merged) == ({}, {}, {})
