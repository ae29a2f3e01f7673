"""Both clocks, for bookings and lists: what had been recorded (`as_of`), what had happened by then (`valid_at`).

Every lifecycle of the simulator is told to a real server, all of them mixed and in disorder, so that most facts arrive
late. What the server answers about a past moment is held against the log's prefix folded here, and against what
the server itself answered at that moment.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import httpx
import msgspec
import pytest
import pytest_asyncio

from api.simulator.lifecycles import LIFECYCLES, Lifecycle, Slot, Studio
from api.simulator.traffic import json_bytes
from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.facts import Dated
from ledger.folding import fold, link_chain
from ledger.history import read_event
from ledger.store import RecordedEvent, append, read_log
from ledger.vocabulary import Position, StreamId
from projections.calendar_events import calendar_event
from tests.builders import MAIN, minutes, new_event, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver_all,
    speaking_to,
    until_current,
)

BOOKED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EVENTS_MAX = 1_000
DELIVERIES_BETWEEN_LISTS = 3
INSTANT = timedelta(microseconds=1)
NUMBER = 990_001
"""Of a booking that is known by its number first, as system 001 tells it, and by its uid later."""
WHOLE_LIST = "limit=500"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answered to every question when the last event had been recorded at this moment."""

    recorded_at: datetime
    answers: Mapping[str, bytes]


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """The whole log, and what was answered on the way to it."""

    events: list[RecordedEvent]
    told: list[Told]


def lifecycles() -> list[Lifecycle]:
    studio = Studio(Random(23))
    slots = (
        Slot(booked_at=BOOKED_AT + timedelta(hours=number), starts_at=BOOKED_AT + timedelta(days=3, hours=number % 7))
        for number in range(len(LIFECYCLES))
    )
    return [play(studio, slot) for play, slot in zip(LIFECYCLES.values(), slots, strict=True)]


def deliveries() -> list[bytes]:
    """All of them, in disorder, and a booking that has a number long before it has a uid."""
    by_number = {"trigger": "BOOKING_CONFIRMED", "data": {"id": str(NUMBER), "startTime": "2026-03-05T09:00:00Z"}}
    by_uid = {"uid": "numbered", "bookingId": NUMBER, "title": "Numbered", "metadata": {"petId": "p", "aKey": "first"}}
    sent_later = {"triggerEvent": "BOOKING_CREATED", "createdAt": "2026-03-01T10:00:00.000Z", "payload": by_uid}
    bodies = [json_bytes(sent) for lifecycle in lifecycles() for sent in lifecycle.deliveries]
    Random(5).shuffle(bodies)
    middle = len(bodies) // 2
    return [msgspec.json.encode(by_number), *bodies[:middle], msgspec.json.encode(sent_later), *bodies[middle:]]


def questions() -> list[str]:
    """Lists of every kind; the chain is one of three uids, asked for by its middle."""
    chain = next(one for name, one in zip(LIFECYCLES, lifecycles(), strict=True) if name == "rescheduled_twice").truth
    someone = min(chain[0].attendees)
    return [
        WHOLE_LIST,
        "limit=3",
        "status=scheduled,confirmed&limit=500",
        "status=rescheduled&limit=500",
        "from=2026-03-05T00:00:00Z&to=2026-03-06T00:00:00Z&limit=500",
        f"attendee={someone}&limit=500",
        f"name={someone}",
        f"name={chain[0].uid}",
        f"name={chain[1].uid}",
        f"name={chain[2].uid}",
        f"name={NUMBER}",
        "name=numbered",
        "name=None",
        "text=call&limit=500",
        "text=JOÃO&limit=500",
        "text=90%25&limit=500",
        "metadata.source=website&limit=500",
        "metadata.petId=p",
    ]


async def asked(http: httpx.AsyncClient, question: str, **moment: str) -> bytes:
    """The answer, page by page to the end."""
    pages: list[bytes] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await http.get("/api/bookings", params={**dict(parse_qsl(question)), **moment, **cursor})
        assert answer.status_code == 200, answer.text
        pages.append(answer.content)
        following = answer.json()["next_cursor"]
        if following is None:
            return b"\n".join(pages)
        cursor = {"cursor": following}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def journey(shared_server: Server) -> Journey:
    told = []
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        for number, body in enumerate(deliveries()):
            await deliver_all(http, body)
            if number % DELIVERIES_BETWEEN_LISTS == 0:
                await until_current(connection)
                recorded_at = await connection.fetchval("SELECT max(recorded_at) FROM ledger.events")
                answers = {question: await asked(http, question) for question in questions()}
                told.append(Told(recorded_at=recorded_at, answers=answers))
        events = await read_log(connection, MAIN, after=Position(0), events_max=EVENTS_MAX)
    return Journey(events=events, told=told)


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


# What the log's prefix makes of the bookings, without the code that answers


def folded(events: Sequence[RecordedEvent], valid_at: datetime | None = None) -> Mapping[StreamId, Booking]:
    """The bookings by stream. A number belongs to a uid once a body says so, whenever what it tells happened."""
    stated = [pair for event in events for pair in read_event(event).facts]
    owners = {
        number_stream(dated.fact.details.number): stream
        for stream, dated in stated
        if dated.fact.details.number is not None and not stream.startswith("booking-id-")
    }
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    for stream, dated in stated:
        if valid_at is None or dated.occurred_at <= valid_at:
            facts[owners.get(stream, stream)].append(dated)
    bookings = {stream: fold(stream, dated) for stream, dated in facts.items()}
    link_chain(bookings, booking_stream)
    return bookings


def standing(bookings: Mapping[StreamId, Booking], uid: str) -> Any:
    """The booking at the end of the chain, in the words of the API; None where there was none."""
    booking = bookings.get(booking_stream(uid))
    if booking is None:
        return None
    while booking.rescheduled_to is not None and booking_stream(booking.rescheduled_to) in bookings:
        booking = bookings[booking_stream(booking.rescheduled_to)]
    event = calendar_event(booking, "main", confirm_on_accept=False)
    return msgspec.json.decode(msgspec.json.encode(event))


def prefix(journey: Journey, moment: datetime) -> list[RecordedEvent]:
    return [event for event in journey.events if event.recorded_at <= moment]


def chains(journey: Journey) -> Iterator[tuple[str, list[RecordedEvent]]]:
    """Every uid with the events that touch it or another of its chain."""
    bookings = folded(journey.events)
    members: dict[str, set[StreamId]] = defaultdict(set)
    for stream, booking in bookings.items():
        members[booking.root_uid or ""].add(stream)
    for booking in bookings.values():
        own = members[booking.root_uid or ""]
        yield (
            booking.key,
            [event for event in journey.events if own & {stream for stream, _ in read_event(event).facts}],
        )


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


async def assert_answered(http: httpx.AsyncClient, uid: str, expected: Any, **moment: datetime) -> None:
    answer = await http.get(f"/api/bookings/{uid}", params={name: iso(at) for name, at in moment.items()})
    if expected is None:
        assert_is_problem(answer, 404)
    else:
        assert (answer.status_code, answer.json().get("booking")) == (200, expected), (uid, moment)


# Bookings


async def test_as_of_each_recorded_moment_a_booking_is_the_fold_of_the_logs_prefix(
    http: httpx.AsyncClient, journey: Journey
) -> None:
    for uid, events in chains(journey):
        for event in events:
            for moment in (event.recorded_at - INSTANT, event.recorded_at):
                expected = standing(folded(prefix(journey, moment)), uid)
                await assert_answered(http, uid, expected, as_of=moment)


async def test_valid_at_each_moment_of_the_world_a_booking_is_the_fold_of_what_had_happened(
    http: httpx.AsyncClient, journey: Journey
) -> None:
    for uid, events in chains(journey):
        for event in events:
            for moment in (event.occurred_at - INSTANT, event.occurred_at):
                expected = standing(folded(journey.events, valid_at=moment), uid)
                await assert_answered(http, uid, expected, valid_at=moment)


async def test_on_both_clocks_a_booking_is_what_was_known_then_of_what_had_happened_then(
    http: httpx.AsyncClient, journey: Journey
) -> None:
    for uid, events in chains(journey):
        for recorded, occurred in product({event.recorded_at for event in events}, {e.occurred_at for e in events}):
            expected = standing(folded(prefix(journey, recorded), valid_at=occurred), uid)
            await assert_answered(http, uid, expected, as_of=recorded, valid_at=occurred)


@pytest.mark.parametrize("clock", ["as_of", "valid_at"])
async def test_a_calendar_id_leads_at_any_moment_to_a_booking_that_stood_then_under_it(
    http: httpx.AsyncClient, journey: Journey, clock: str
) -> None:
    """A calendar id is kept over a reschedule: it names whichever booking of its chain was there."""
    for ical_uid in sorted({booking.ical_uid for booking in folded(journey.events).values() if booking.ical_uid}):
        for event in events_naming(journey, ical_uid):
            moment = event.recorded_at if clock == "as_of" else event.occurred_at
            known = prefix(journey, moment) if clock == "as_of" else journey.events
            bookings = folded(known, valid_at=moment if clock == "valid_at" else None)
            under_it = [booking.key for booking in bookings.values() if booking.ical_uid == ical_uid]
            answer = await http.get(f"/api/bookings/{ical_uid}", params={clock: iso(moment)})
            assert answer.status_code == 200, (ical_uid, under_it, answer.text)
            assert answer.json()["booking"] in [standing(bookings, uid) for uid in under_it]


def events_naming(journey: Journey, ical_uid: str) -> list[RecordedEvent]:
    return [
        event
        for event in journey.events
        if any(dated.fact.details.ical_uid == ical_uid for _, dated in read_event(event).facts)
    ]


async def test_most_of_what_the_journey_tells_arrived_late(journey: Journey) -> None:
    """Or else the tests above would hold little."""
    late = [uid for uid, events in chains(journey) if sorted(events, key=lambda event: event.occurred_at) != events]
    assert len(late) > len(LIFECYCLES) / 2


# Lists


@pytest.mark.parametrize("question", questions())
async def test_a_list_as_of_a_moment_says_what_was_answered_then(
    http: httpx.AsyncClient, journey: Journey, question: str
) -> None:
    for told in journey.told:
        now = await asked(http, question, as_of=iso(told.recorded_at))
        pages = [msgspec.json.decode(page) for page in now.splitlines()]
        assert pages == [msgspec.json.decode(page) for page in told.answers[question].splitlines()], told.recorded_at


async def test_a_list_as_of_a_moment_is_the_list_of_then_byte_for_byte(
    http: httpx.AsyncClient, journey: Journey
) -> None:
    for told in journey.told:
        now = await asked(http, WHOLE_LIST, as_of=iso(told.recorded_at))
        assert now == told.answers[WHOLE_LIST], told.recorded_at


async def test_a_list_as_of_now_is_the_list(http: httpx.AsyncClient, journey: Journey) -> None:
    latest = iso(journey.events[-1].recorded_at)
    for question in questions():
        assert await asked(http, question, as_of=latest) == await asked(http, question)


async def test_before_the_first_event_there_was_nothing(http: httpx.AsyncClient, journey: Journey) -> None:
    before = iso(journey.events[0].recorded_at - INSTANT)
    assert [msgspec.json.decode(await asked(http, question, as_of=before))["bookings"] for question in questions()] == [
        [] for _ in questions()
    ]


async def test_a_list_of_before_a_link_was_corrected_has_every_booking_once(server: Server) -> None:
    """The API may name another predecessor than a webhook did; then the booking belongs to another chain."""
    old, new = {"uid": "old", "title": "Old"}, {"uid": "new", "title": "New", "rescheduleUid": "old"}
    seen = {"uid": "new", "status": "accepted", "rescheduledFromUid": "older"}
    observed = new_event(
        "booking-new", topic="calcom.observed", body=msgspec.json.encode(seen), occurred_at=minutes(60)
    )
    async with speaking_to(server) as http, connected(server.dsn) as connection:
        await deliver_all(http, webhook("BOOKING_CREATED", old), webhook("BOOKING_REQUESTED", new, at=minutes(10)))
        await until_current(connection)
        then = await asked(http, WHOLE_LIST)
        moment = await connection.fetchval("SELECT max(recorded_at) FROM ledger.events")
        await append(connection, MAIN, [observed])
        await until_current(connection)
        now = await asked(http, WHOLE_LIST, as_of=iso(moment))
    told = [[one["cal_com_event_id"] for one in msgspec.json.decode(page)["bookings"]] for page in (now, then)]
    assert told == [["new", "old"], ["new", "old"]]
    assert msgspec.json.decode(now) == msgspec.json.decode(then)
