"""A delivery that names nothing but an attendee: bookings are suggested, a person confirms one, and only then it means.

The tests of this module share a server; each has attendees of its own.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from ledger.calcom.envelope import booking_stream, number_stream
from ledger.folding import fold
from ledger.history import read_event
from ledger.links import Linked, linked_events
from ledger.store import SQL, Ledger, NewEvent, RecordedEvent, read_recorded
from ledger.vocabulary import Position, StreamVersion
from projections.suggestions import BOOKING_TOPICS, BOOKINGS_MAX
from tests.builders import MAIN, NOON, answers, instant, minutes, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    run,
    speaking_to,
    until_current,
)

DAY = 1_440
"""In minutes."""


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


def nameless(email: str, trigger: str = "BOOKING_CONFIRMED", *, at: datetime | None = None, **fields: object) -> bytes:
    """The dialect of candidate scheduling without any id."""
    stamp = {} if at is None else {"createdAt": instant(at)}
    return msgspec.json.encode({"trigger": trigger, **stamp, "data": {"responses": {"email": email}, **fields}})


def booked(uid: str, email: str, **fields: object) -> bytes:
    """A whole booking; `start` in minutes after noon, None for an unknown one."""
    start, trigger = fields.pop("start", DAY), str(fields.pop("trigger", "BOOKING_CREATED"))
    begins, ends = (minutes(start), minutes(start + 30)) if isinstance(start, int) else (None, None)
    times = {"startTime": instant(begins), "endTime": instant(ends)} if begins and ends else {}
    return webhook(trigger, {"uid": uid, "title": f"Talk {uid}", "attendees": [{"email": email}], **times, **fields})


async def recorded(http: httpx.AsyncClient, body: bytes) -> str:
    """The delivery's event id."""
    answer = await deliver(http, body)
    assert answer.status_code == HTTPStatus.OK, answer.text
    event_id: str = answer.json()["event_id"]
    return event_id


async def suggested(http: httpx.AsyncClient, **parameters: int) -> dict[str, Any]:
    """What is suggested, by the delivery's event id."""
    answer = await http.get("/api/admin/suggestions", params={"limit": 500, **parameters})
    assert answer.status_code == HTTPStatus.OK, answer.text
    return {suggestion["event_id"]: suggestion for suggestion in answer.json()["suggestions"]}


async def link(http: httpx.AsyncClient, uid: str, event_id: str, if_match: str | None = None) -> httpx.Response:
    headers = {} if if_match is None else {"if-match": if_match}
    return await http.post(f"/api/bookings/{uid}/link", json={"event_id": event_id}, headers=headers)


async def linked(http: httpx.AsyncClient, uid: str, event_id: str) -> dict[str, Any]:
    answer = await link(http, uid, event_id)
    assert answer.status_code == HTTPStatus.OK, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def booking(http: httpx.AsyncClient, uid: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/api/bookings/{uid}")).json()["booking"]
    return found


# What is suggested


FORMS: Mapping[str, Mapping[str, object]] = {
    "the first attendee": {"attendees": [{"email": "forms@example.com"}, {"email": "other@example.com"}]},
    "an attendee as an address": {"attendees": ["forms@example.com"]},
    "an answer": {"responses": {"email": "forms@example.com"}},
    "an answer with its label": {"responses": {"email": {"label": "email_address", "value": "forms@example.com"}}},
    "another spelling": {"responses": {"email": "Forms@Example.COM"}},
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_delivery_that_names_an_attendee_alone_suggests_his_booking_and_changes_nothing(
    http: httpx.AsyncClient, models: asyncpg.Connection, form: str
) -> None:
    await deliver_all(http, booked("forms", "forms@example.com"))
    body = msgspec.json.encode({"trigger": "BOOKING_CANCELLED", "data": FORMS[form]})
    event_id = await recorded(http, body)
    await until_current(models)
    told = (await suggested(http))[event_id]
    assert (told["trigger"], told["attendee"], told["start_time"]) == ("BOOKING_CANCELLED", "forms@example.com", None)
    assert told["bookings"] == [
        {
            "cal_com_event_id": "forms",
            "reason": "only_booking_of_attendee",
            "title": "Talk forms",
            "start_time": instant(minutes(DAY)).replace(".000", ""),
            "status": "scheduled",
        }
    ]
    assert (await booking(http, "forms"))["status"] == "scheduled"


async def test_the_booking_of_the_same_start_comes_first_then_what_is_next_then_what_was_last(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "order@example.com"
    starts = {"o-long-ago": -9 * DAY, "o-last": -DAY, "o-next": DAY, "o-later": 2 * DAY, "o-told": 3 * DAY}
    await deliver_all(http, *(booked(uid, email, start=start) for uid, start in starts.items()))
    told_when = await recorded(http, nameless(email, at=NOON, startTime=instant(minutes(3 * DAY))))
    in_another_zone = await recorded(http, nameless(email, at=NOON, startTime="2026-12-04T13:00:00+01:00"))
    told_nothing = await recorded(http, nameless(email, at=NOON, startTime=instant(minutes(7))))
    await until_current(models)
    found = {
        event_id: [(one["cal_com_event_id"], one["reason"]) for one in suggestion["bookings"]]
        for event_id, suggestion in (await suggested(http)).items()
    }
    rest = [("o-next", "attendee"), ("o-later", "attendee"), ("o-last", "attendee"), ("o-long-ago", "attendee")]
    assert found[told_when] == [("o-told", "same_start"), *rest]
    assert found[in_another_zone] == found[told_when]
    assert found[told_nothing] == [*rest[:2], ("o-told", "attendee"), *rest[2:]]


async def test_no_more_bookings_than_a_person_can_look_at_are_suggested(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "regular@example.com"
    await deliver_all(http, *(booked(f"r-{day}", email, start=day * DAY) for day in range(BOOKINGS_MAX + 3, 0, -1)))
    await deliver_all(http, booked("r-unknown", email, start=None))
    event_id = await recorded(http, nameless(email, at=NOON))
    await until_current(models)
    told = (await suggested(http))[event_id]["bookings"]
    assert [one["cal_com_event_id"] for one in told] == [f"r-{day}" for day in range(1, BOOKINGS_MAX + 1)]


async def test_a_booking_that_moved_away_is_suggested_by_its_own_start_alone(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "moved@example.com"
    moved = {"trigger": "BOOKING_RESCHEDULED", "rescheduleUid": "m-old", "rescheduleId": 1}
    await deliver_all(
        http,
        booked("m-old", email, start=DAY, bookingId=1),
        booked("m-new", email, start=2 * DAY, bookingId=2, **moved),
    )
    by_person = await recorded(http, nameless(email))
    by_old_start = await recorded(http, nameless(email, startTime=instant(minutes(DAY))))
    await until_current(models)
    found = await suggested(http)
    only = {"cal_com_event_id": "m-new", "reason": "only_booking_of_attendee"}
    assert [{key: one[key] for key in only} for one in found[by_person]["bookings"]] == [only]
    [first, second] = found[by_old_start]["bookings"]
    assert (first["cal_com_event_id"], first["reason"], first["status"]) == ("m-old", "same_start", "rescheduled")
    assert {key: second[key] for key in only} == only


async def test_of_two_bookings_of_the_same_start_the_one_that_moved_away_comes_last(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "twins@example.com"
    moved = {"trigger": "BOOKING_RESCHEDULED", "rescheduleUid": "t-a"}
    await deliver_all(http, booked("t-a", email), booked("t-b", email), booked("t-c", email, start=2 * DAY, **moved))
    event_id = await recorded(http, nameless(email, startTime=instant(minutes(DAY))))
    await until_current(models)
    told = (await suggested(http))[event_id]["bookings"]
    assert [(one["cal_com_event_id"], one["reason"]) for one in told] == [
        ("t-b", "same_start"),
        ("t-a", "same_start"),
        ("t-c", "attendee"),
    ]


async def test_who_has_left_his_seat_is_suggested_no_longer(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    seats = {"seatsPerTimeSlot": 5}
    await deliver_all(
        http,
        booked("class", "stays@example.com", **seats),
        booked("class", "leaves@example.com", **seats),
        webhook(
            "BOOKING_CANCELLED",
            {"uid": "class", "attendees": [{"email": "leaves@example.com", "bookingId": 9}], **seats},
            at=minutes(5),
        ),
    )
    stays = await recorded(http, nameless("stays@example.com"))
    leaves = await recorded(http, nameless("leaves@example.com"))
    await until_current(models)
    found = await suggested(http)
    assert (stays in found, leaves in found) == (True, False)


async def test_nothing_is_suggested_for_what_names_a_booking_or_nobody_or_is_about_none(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "never@example.com"
    await deliver_all(http, booked("never", email))
    bodies = (
        nameless(email, uid="another"),
        nameless(email, bookingId="5001"),
        nameless("stranger@example.com"),
        nameless(email, trigger="PING"),
        nameless(email, trigger="BOOKING_RATED"),
        msgspec.json.encode({"trigger": "BOOKING_CONFIRMED", "data": {"startTime": instant(minutes(DAY))}}),
        msgspec.json.encode({"data": {"responses": {"email": email}}}),
        nameless("a\0b@example.com"),
        b"never@example.com",
    )
    ids = {await recorded(http, body) for body in bodies}
    await until_current(models)
    assert ids & (await suggested(http)).keys() == set()


async def test_suggestions_come_in_pages_the_latest_delivery_first(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "pages@example.com"
    await deliver_all(http, booked("pages", email))
    ids = [await recorded(http, nameless(email)) for _ in range(5)]
    await until_current(models)
    seen: list[str] = []
    parameters = {"limit": 2}
    while True:
        page = (await http.get("/api/admin/suggestions", params=parameters)).json()
        assert len(page["suggestions"]) <= 2
        seen += [one["event_id"] for one in page["suggestions"] if one["attendee"] == email]
        if page["next_before"] is None:
            break
        parameters["before"] = page["next_before"]
    assert seen == ids[::-1]


async def test_many_deliveries_of_strangers_do_not_hide_one_with_a_booking(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, booked("hidden", "hidden@example.com"))
    event_id = await recorded(http, nameless("hidden@example.com"))
    await deliver_all(http, *(nameless(f"stranger-{number}@example.com") for number in range(120)))
    await until_current(models)
    assert event_id in await suggested(http)


@pytest.mark.parametrize("parameters", [{"limit": "0"}, {"limit": "501"}, {"before": "0"}, {"before": "x"}], ids=str)
async def test_a_parameter_that_cannot_be_understood_is_the_callers_problem(
    http: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get("/api/admin/suggestions", params=parameters), 400)


async def test_deliveries_without_a_booking_are_found_by_an_index_of_just_them(connection: asyncpg.Connection) -> None:
    await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    values = (1, 1_000, list(BOOKING_TOPICS), 100)
    plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {SQL['read_unattributed']}", *values)
    assert "events_unattributed" in json.dumps(plan)


# What a person confirms


async def test_a_confirmation_that_names_an_attendee_alone_confirms_once_it_is_linked_and_not_before(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, booked("yes", "yes@example.com"))
    event_id = await recorded(http, nameless("yes@example.com", at=minutes(10)))
    await until_current(models)
    before = await models.fetchval("SELECT status FROM calendar_events WHERE cal_com_event_id = 'yes'")
    assert (before, (await booking(http, "yes"))["status"]) == ("scheduled", "scheduled")
    told = await linked(http, "yes", event_id)
    assert {key: told[key] for key in ("status", "booking", "ledger", "stream_version", "duplicate")} == {
        "status": "linked",
        "booking": "yes",
        "ledger": "main",
        "stream_version": 2,
        "duplicate": False,
    }
    assert (await booking(http, "yes"))["status"] == "confirmed"
    await until_current(models)
    after = await models.fetchrow("SELECT status, updated_at FROM calendar_events WHERE cal_com_event_id = 'yes'")
    assert after is not None
    assert tuple(after) == ("confirmed", minutes(10)), "when it was said to happen, not when it was linked"
    assert event_id not in await suggested(http)


async def test_the_history_tells_of_a_linked_delivery_in_its_own_words_and_place(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("told", "told@example.com"))
    event_id = await recorded(http, nameless("told@example.com", at=minutes(10)))
    await deliver_all(http, webhook("BOOKING_CANCELLED", {"uid": "told"}, at=minutes(20)))
    position = (await linked(http, "told", event_id))["position"]
    history = (await http.get("/api/bookings/told/history")).json()["history"]
    assert [(entry["trigger"], entry["late"]) for entry in history] == [
        ("BOOKING_CREATED", False),
        ("BOOKING_CONFIRMED", True),
        ("BOOKING_CANCELLED", False),
    ]
    assert history[1]["position"] == position
    assert {"field": "status", "before": "scheduled", "after": "confirmed"} in history[1]["changes"]


async def test_what_was_known_before_the_link_stays_what_was_known(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("then", "then@example.com"))
    event_id = await recorded(http, nameless("then@example.com"))
    told = (await http.get("/api/bookings/then/history")).json()["history"]
    await linked(http, "then", event_id)
    as_of = {"as_of": told[-1]["recorded_at"]}
    earlier = await http.get("/api/bookings/then", params=as_of)
    assert (earlier.json()["booking"]["status"], earlier.headers["etag"]) == ("scheduled", '"1"')
    assert (await booking(http, "then"))["status"] == "confirmed"


async def test_a_delivery_without_a_time_of_its_own_happened_when_it_was_received(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, booked("timeless", "timeless@example.com"))
    event_id = await recorded(http, nameless("timeless@example.com"))
    await linked(http, "timeless", event_id)
    received = await models.fetchval("SELECT occurred_at FROM ledger.events WHERE event_id = $1", UUID(event_id))
    history = (await http.get("/api/bookings/timeless/history")).json()["history"]
    assert datetime.fromisoformat(next(e["occurred_at"] for e in history if e["fact"] == "Confirmed")) == received


async def test_a_link_carries_the_delivery_byte_for_byte(http: httpx.AsyncClient, models: asyncpg.Connection) -> None:
    body = b"""{ "trigger":"BOOKING_CONFIRMED", "createdAt":"2026-12-02T12:00:00Z",
        "data":{"responses":{"email":"bytes@example.com"},"title":"\\ud83d \xc3\xa9"}}"""
    await deliver_all(http, booked("bytes", "bytes@example.com"))
    event_id = await recorded(http, body)
    told = await linked(http, "bytes", event_id)
    event = await read_recorded(models, MAIN, UUID(told["event_id"]))
    assert event is not None
    assert (event.stream_id, event.topic, event.source) == ("booking-bytes", "booking.linked", "command")
    assert msgspec.json.decode(event.body, type=Linked) == Linked(by_event=UUID(event_id), body=body)
    assert (await booking(http, "bytes"))["title"] == "\ufffd é"


async def test_to_link_again_changes_nothing_and_is_answered_with_the_first_ones_place(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("again", "again@example.com"))
    event_id = await recorded(http, nameless("again@example.com"))
    first = await linked(http, "again", event_id)
    assert await linked(http, "again", event_id) == {**first, "duplicate": True}
    stale = await link(http, "again", event_id, '"1"')
    assert (stale.status_code, stale.json()) == (200, {**first, "duplicate": True}), "whatever was expected"
    assert len((await http.get("/api/bookings/again/history")).json()["history"]) == 2


async def test_a_booking_that_is_known_by_its_number_alone_is_linked_and_keeps_it_when_its_uid_comes(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "number@example.com"
    await deliver_all(
        http, msgspec.json.encode({"trigger": "BOOKING_CREATED", "data": {"id": "5101", "attendees": [email]}})
    )
    event_id = await recorded(http, nameless(email))
    await until_current(models)
    [only] = (await suggested(http))[event_id]["bookings"]
    assert (only["cal_com_event_id"], only["title"]) == ("5101", None)
    first = await linked(http, "5101", event_id)
    assert (first["booking"], (await booking(http, "5101"))["status"]) == ("5101", "confirmed")
    await deliver_all(http, booked("numbered", email, bookingId=5101))
    assert (await booking(http, "numbered"))["status"] == "confirmed"
    await until_current(models)  # which is how a number leads to its uid
    for name in ("numbered", "5101"):
        assert await linked(http, name, event_id) == {**first, "booking": "numbered", "duplicate": True}


async def test_a_linked_reschedule_takes_the_place_of_the_booking_that_it_names(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "place@example.com"
    await deliver_all(http, booked("p-old", email), booked("p-new", email, start=2 * DAY))
    event_id = await recorded(http, nameless(email, "BOOKING_RESCHEDULED", at=minutes(5), rescheduleUid="p-old"))
    await linked(http, "p-new", event_id)
    for name in ("p-old", "p-new"):
        assert (await http.get(f"/api/bookings/{name}")).json()["chain"] == ["p-old", "p-new"]
    await until_current(models)
    assert (
        await models.fetchval("SELECT rescheduled_to FROM calendar_events WHERE cal_com_event_id = 'p-old'") == "p-new"
    )


async def test_a_linked_reschedule_of_the_booking_itself_just_moves_it(http: httpx.AsyncClient) -> None:
    email = "itself@example.com"
    times = {"startTime": instant(minutes(9 * DAY)), "endTime": instant(minutes(9 * DAY + 30))}
    await deliver_all(http, booked("itself", email))
    event_id = await recorded(
        http, nameless(email, "BOOKING_RESCHEDULED", at=minutes(5), rescheduleUid="itself", **times)
    )
    await linked(http, "itself", event_id)
    moved = await booking(http, "itself")
    assert (moved["status"], datetime.fromisoformat(moved["start_time"])) == ("scheduled", minutes(9 * DAY))


async def test_a_delivery_is_linked_to_the_very_booking_named_also_when_that_has_moved_away(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "very@example.com"
    moved = {"trigger": "BOOKING_RESCHEDULED", "rescheduleUid": "v-old"}
    await deliver_all(http, booked("v-old", email), booked("v-new", email, start=2 * DAY, **moved))
    event_id = await recorded(http, nameless(email, at=NOON))
    assert (await linked(http, "v-old", event_id))["booking"] == "v-old"
    await until_current(models)
    rows = await models.fetch(
        "SELECT cal_com_event_id, status FROM calendar_events WHERE cal_com_event_id LIKE 'v-%' ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("v-new", "scheduled"), ("v-old", "rescheduled")]


# What has changed meanwhile


async def test_a_bookings_etag_is_what_a_link_may_expect(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("tag", "tag@example.com"))
    first, second = [await recorded(http, nameless("tag@example.com")) for _ in range(2)]
    tag = (await http.get("/api/bookings/tag")).headers["etag"]
    assert tag == '"1"'
    assert (await link(http, "tag", first, tag)).status_code == 200
    refused = assert_is_problem(await link(http, "tag", second, tag), 409)
    assert refused == "booking-tag is at version 2, not 1; read it again and decide again."
    assert (await link(http, "tag", second, (await http.get("/api/bookings/tag")).headers["etag"])).status_code == 200


async def test_the_name_of_a_booking_that_moved_away_has_no_etag_since_another_is_shown(
    http: httpx.AsyncClient,
) -> None:
    moved = {"trigger": "BOOKING_RESCHEDULED", "rescheduleUid": "e-old"}
    await deliver_all(http, booked("e-old", "e@example.com"), booked("e-new", "e@example.com", **moved))
    assert "etag" not in (await http.get("/api/bookings/e-old")).headers
    assert (await http.get("/api/bookings/e-new")).headers["etag"] == '"1"'


@pytest.mark.parametrize("given", ["1", '""', '"x"', 'W/"1"', '"1", "2"', '"-1"', '"01"', '"+1"', '"2147483648"', '"1'])
async def test_an_expectation_that_cannot_be_understood_is_the_callers_problem(
    http: httpx.AsyncClient, given: str
) -> None:
    await deliver_all(http, booked("odd", "odd@example.com"))
    event_id = await recorded(http, nameless("odd@example.com"))
    assert "If-Match" in assert_is_problem(await link(http, "odd", event_id, given), 400)
    assert (await booking(http, "odd"))["status"] == "scheduled"


async def test_a_star_expects_just_that_the_booking_is_there(http: httpx.AsyncClient) -> None:
    await deliver_all(http, booked("star", "star@example.com"))
    event_id = await recorded(http, nameless("star@example.com"))
    assert_is_problem(await link(http, "nostar", event_id, "*"), 404)
    assert (await link(http, "star", event_id, "*")).status_code == 200


async def test_of_two_people_who_link_a_delivery_to_two_bookings_at_once_one_is_refused(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "race@example.com"
    await deliver_all(http, booked("race-a", email), booked("race-b", email))
    event_ids = [await recorded(http, nameless(email)) for _ in range(8)]
    for event_id in event_ids:
        both = await asyncio.gather(link(http, "race-a", event_id), link(http, "race-b", event_id))
        won, lost = sorted(both, key=lambda answer: answer.status_code)
        assert won.status_code == 200
        assert f"is linked to booking {won.json()['booking']} already" in assert_is_problem(lost, 409)
    count = await models.fetchval("SELECT count(*) FROM ledger.events WHERE stream_id LIKE 'booking-race-%'")
    assert count == 2 + len(event_ids)


# What cannot be linked


async def test_what_has_a_booking_or_means_nothing_or_is_no_delivery_cannot_be_linked(http: httpx.AsyncClient) -> None:
    email = "cannot@example.com"
    await deliver_all(http, booked("cannot", email), booked("elsewhere", email))
    own = await recorded(http, nameless(email, at=NOON, uid="cannot"))
    numbered = await recorded(http, nameless(email, bookingId="5201"))
    ping = await recorded(http, nameless(email, trigger="PING"))
    junk = await recorded(http, b"junk")
    good = await recorded(http, nameless(email))
    link_event = (await linked(http, "elsewhere", good))["event_id"]
    for event_id, status, why in (
        (own, 409, "it names its booking itself"),
        (numbered, 409, "it names its booking itself"),
        (ping, 409, "it says nothing of a booking"),
        (junk, 409, "it says nothing of a booking"),
        (good, 409, "it is linked to booking elsewhere already"),
        (link_event, 404, "There is no delivery"),
        (str(uuid4()), 404, "There is no delivery"),
    ):
        assert why in assert_is_problem(await link(http, "cannot", event_id), status)
    assert_is_problem(await link(http, "nobody", good), 404)
    assert_is_problem(
        await http.post("/api/bookings/cannot/link", json={"event_id": good}, params={"ledger": "x"}), 404
    )
    assert len((await http.get("/api/bookings/cannot/history")).json()["history"]) == 2, "created, and its own"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"{}", b'{"event_id":1}', b'{"event_id":"x"}', b'{"event_id":null}', b'{"event":"x"}'],
    ids=lambda body: body.decode() or "nothing",
)
async def test_a_wish_that_cannot_be_understood_is_the_callers_problem(http: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert_is_problem(await http.post("/api/bookings/any/link", content=body, headers=headers), 400)


# Order


def test_a_linked_delivery_counts_once_in_whatever_order_and_however_often_it_is_folded() -> None:
    ledger = Ledger(ledger_id=MAIN, name="main", event_id_key=b"k" * 32)
    stream = booking_stream("any")
    delivery = as_recorded(of_webhook(nameless("any@example.com"), at=minutes(10)), 2)
    [wish] = linked_events(ledger, delivery, stream)
    assert linked_events(ledger, delivery, number_stream(1))[0].event_id == wish.event_id, "one delivery, one booking"
    events = [
        as_recorded(of_webhook(booked("any", "any@example.com"), at=NOON), 1),
        delivery,
        as_recorded(of_webhook(webhook("BOOKING_CANCELLED", {"uid": "any"}, at=minutes(20)), at=minutes(20)), 3),
        as_recorded(wish, 4),
    ]
    told = [dated for event in events for _, dated in read_event(event).facts]
    assert [dated.trigger for dated in told] == ["BOOKING_CREATED", "BOOKING_CANCELLED", "BOOKING_CONFIRMED"]
    expected = answers(fold(stream, told))
    assert expected["explicitly_confirmed"]
    assert expected["last_occurred_at"] == minutes(20)
    for order in itertools.permutations([*told, told[-1]]):
        assert answers(fold(stream, order)) == expected


def of_webhook(body: bytes, *, at: datetime) -> NewEvent:
    return NewEvent(
        event_id=uuid4(),
        stream_id=booking_stream("any"),
        topic="calcom.any",
        body=body,
        occurred_at=at,
        source="webhook",
    )


def as_recorded(event: NewEvent, position: int) -> RecordedEvent:
    return RecordedEvent(
        position=Position(position),
        stream_id=event.stream_id,
        stream_version=StreamVersion(position),
        event_id=event.event_id,
        topic=event.topic,
        body=event.body,
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        source=event.source,
        metadata=event.metadata,
    )


# On a terminal


async def test_a_person_sees_suggestions_and_confirms_one_on_a_terminal(
    shared_server: Server, http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "terminal@example.com"
    await deliver_all(http, booked("terminal", email))
    event_id = await recorded(http, nameless(email))
    await until_current(models)

    def told(*words: str) -> str:
        ran = run("bookings", *words, DATABASE_URL=shared_server.dsn)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout

    page = msgspec.json.decode(told("suggestions", "--json", "--limit", "500"))
    assert page["suggestions"] == list((await suggested(http)).values())
    plain = told("suggestions", "--limit", "500").splitlines()
    at = next(number for number, line in enumerate(plain) if event_id in line)
    assert "BOOKING_CONFIRMED  terminal@example.com" in plain[at]
    assert plain[at + 1].split()[0] == "terminal"
    assert plain[at + 1].endswith("(the attendee's only booking)")
    assert "There may be more: --before" in told("suggestions", "--limit", "1")
    assert "is linked to booking terminal" in told("link", "terminal", event_id)
    assert "was linked already to booking terminal" in told("link", "terminal", event_id)
    assert msgspec.json.decode(told("link", "terminal", event_id, "--json")) == await linked(http, "terminal", event_id)
    assert msgspec.json.decode(told("show", "terminal", "--json"))["booking"]["status"] == "confirmed"
    assert event_id not in told("suggestions", "--limit", "500")


async def test_a_hostile_address_is_shown_and_not_obeyed(
    shared_server: Server, http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    email = "\x1b[2j[bold]hostile@example.com"
    await deliver_all(http, booked("hostile", email, title="\x1b]0;pwned\x07"))
    await recorded(http, nameless(email))
    await until_current(models)
    printed = run("bookings", "suggestions", "--limit", "500", DATABASE_URL=shared_server.dsn).stdout
    assert "\ufffd[2j[bold]hostile@example.com" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "words",
    [
        ["link", "nobody", "00000000-0000-0000-0000-000000000000"],
        ["link", "nobody", "x"],
        ["link", "nobody"],
        ["link", "nobody", "00000000-0000-0000-0000-000000000000", "--ledger", "nobody"],
        ["suggestions", "--ledger", "nobody"],
        ["suggestions", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_told_in_a_sentence(shared_server: Server, words: list[str]) -> None:
    ran = run("bookings", *words, DATABASE_URL=shared_server.dsn)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Traceback" not in ran.stderr
    assert ran.stderr.strip()
