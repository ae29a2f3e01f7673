"""Candidate scheduling (SYSTEMS.md 1.x): its dialect, its words, and how it looks for a booking."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from tests.builders import NOON, instant, minutes, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    speaking_to,
    until,
    until_current,
)

ENDPOINT = "/api/admin/scheduling/cal-com/webhook"
MAI = "mai@example.com"


def told(trigger: str, number: str, **fields: object) -> bytes:
    """The dialect of 1.3: ids as text, no uid, no time of sending."""
    data = {"id": number, "bookingId": number, "responses": {"email": MAI}, **fields}
    return msgspec.json.encode({"trigger": trigger, "data": data})


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


@pytest.mark.system("1.1")
async def test_a_get_on_the_endpoint_says_what_it_is_and_no_secret(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as anybody:
        answer = await anybody.get(ENDPOINT)
        assert answer.status_code == 200
        assert answer.json()["endpoint"] == "Cal.com webhooks"
        assert shared_server.secret not in answer.text
        bare = await anybody.head(ENDPOINT)
        assert (bare.status_code, bare.content) == (200, b"")
        assert (await anybody.put(ENDPOINT)).status_code == 405


@pytest.mark.system("1.2", "1.3", "1.5")
async def test_the_four_events_in_its_dialect_give_its_status_words(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    times = {"startTime": instant(NOON), "endTime": instant(minutes(30)), "attendees": [{"email": "Mai@example.com"}]}
    later = {**times, "startTime": instant(minutes(1_440)), "endTime": instant(minutes(1_470))}
    words = []
    for body in (
        told("BOOKING_REQUESTED", "4101", **times),
        told("BOOKING_CREATED", "4101", **times),
        told("BOOKING_CONFIRMED", "4101", **times),
        told("BOOKING_RESCHEDULED", "4101", **later),
        told("BOOKING_CANCELLED", "4101"),
    ):
        assert (await deliver(http, body, path=ENDPOINT)).status_code == 200
        await until_current(models)
        row = await models.fetchrow(
            "SELECT w.candidate_status, c.status, c.start_time, c.attendee_email "
            "FROM status_words AS w JOIN calendar_events AS c USING (ledger, cal_com_event_id) "
            "WHERE c.cal_com_event_id = '4101'"
        )
        assert row is not None
        words.append(tuple(row))
    assert words == [
        ("pending", "scheduled", NOON, MAI),
        ("confirmed", "confirmed", NOON, MAI),
        ("confirmed", "confirmed", NOON, MAI),
        ("confirmed", "confirmed", minutes(1_440), MAI),
        ("cancelled", "cancelled", minutes(1_440), MAI),
    ]


@pytest.mark.system("1.2", "1.5")
async def test_a_confirmation_alone_confirms(http: httpx.AsyncClient, models: asyncpg.Connection) -> None:
    await deliver_all(http, told("BOOKING_CONFIRMED", "4102"))
    await until_current(models)
    row = await models.fetchrow(
        "SELECT candidate_status, status, booking_status FROM status_words WHERE cal_com_event_id = '4102'"
    )
    assert row is not None
    assert tuple(row) == ("confirmed", "confirmed", "accepted")


@pytest.mark.system("1.2", "1.5")
async def test_a_booking_that_moved_to_another_uid_is_rescheduled_and_the_new_one_is_confirmed(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await name_a_booking(http)
    await until_current(models)
    rows = await models.fetch(
        "SELECT cal_com_event_id, candidate_status FROM status_words WHERE cal_com_event_id LIKE 'named-%' ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("named-1", "rescheduled"), ("named-2", "confirmed")]


# How it looks for a booking


NAMES = {
    "its uid": "named-2",
    "an older uid of its chain": "named-1",
    "the number of Cal.com": "4202",
    "the number it had before": "4201",
    "the calendar id": "named-1@Cal.com",
}


async def name_a_booking(http: httpx.AsyncClient) -> None:
    """A booking rescheduled once, with everything it can be named by; repeated deliveries change nothing."""
    common = {"attendees": [{"email": "Naomi@example.com", "name": "Naomi"}], "iCalUID": "named-1@Cal.com"}
    moved = {"uid": "named-2", "bookingId": 4202, "rescheduleUid": "named-1", "rescheduleId": 4201}
    await deliver_all(
        http,
        webhook("BOOKING_CREATED", {"uid": "named-1", "bookingId": 4201, "metadata": {"candidate": "c-9"}, **common}),
        webhook("BOOKING_RESCHEDULED", {**moved, "metadata": {}, **common}, at=minutes(10)),
    )


@pytest.mark.system("1.4")
@pytest.mark.parametrize("kind", NAMES)
async def test_a_booking_is_found_by_every_name_of_its_chain_and_is_the_one_that_stands(
    http: httpx.AsyncClient, models: asyncpg.Connection, kind: str
) -> None:
    await name_a_booking(http)
    await until_current(models)
    found = (await http.get(f"/api/bookings/{NAMES[kind]}")).json()
    assert found["booking"]["cal_com_event_id"] == "named-2"
    assert found["chain"] == ["named-1", "named-2"]


@pytest.mark.system("1.4")
@pytest.mark.parametrize(
    "name",
    [*NAMES.values(), "naomi@example.com", "Naomi@Example.com", "c-9"],
    ids=[*NAMES, "e-mail", "E-mail", "value"],
)
async def test_a_list_by_name_has_the_bookings_of_that_name(
    http: httpx.AsyncClient, models: asyncpg.Connection, name: str
) -> None:
    await name_a_booking(http)
    await until_current(models)
    listed = (await http.get("/api/bookings", params={"name": name})).json()["bookings"]
    expected = {"4201": {"named-1"}, "4202": {"named-2"}}.get(name, {"named-1", "named-2"})
    assert {booking["cal_com_event_id"] for booking in listed} == expected


@pytest.mark.system("1.4")
async def test_a_name_leads_to_what_was_known_and_what_was_true_at_any_moment(http: httpx.AsyncClient) -> None:
    await name_a_booking(http)
    before = await http.get("/api/bookings/named-1", params={"valid_at": instant(minutes(9))})
    assert before.json()["booking"]["cal_com_event_id"] == "named-1"
    after = await http.get("/api/bookings/named-1", params={"valid_at": instant(minutes(10))})
    assert after.json()["booking"]["cal_com_event_id"] == "named-2"
    assert_is_problem(await http.get("/api/bookings/named-1", params={"as_of": "2020-01-01T00:00:00Z"}), 404)


@pytest.mark.system("1.4")
@pytest.mark.parametrize("key", ["id", "bookingId"])
async def test_a_number_under_either_key_is_the_same_booking_also_when_its_uid_comes_later(
    http: httpx.AsyncClient, models: asyncpg.Connection, key: str
) -> None:
    number = {"id": 4301, "bookingId": 4302}[key]
    body = msgspec.json.encode({"trigger": "BOOKING_CONFIRMED", "data": {key: str(number)}})
    await deliver_all(http, body, webhook("BOOKING_CREATED", {"uid": f"by-{key}", "bookingId": number}))
    await until_current(models)
    rows = await models.fetch("SELECT cal_com_event_id, status FROM calendar_events WHERE booking_number = $1", number)
    assert [tuple(row) for row in rows] == [(f"by-{key}", "confirmed")]


@pytest.mark.system("1.4")
async def test_an_e_mail_suggests_bookings_and_never_makes_two_of_them_one(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(
        http,
        told("BOOKING_CONFIRMED", "4401", responses={"email": "twice@example.com"}),
        told("BOOKING_CONFIRMED", "4402", responses={"email": "Twice@example.com"}),
        msgspec.json.encode({"trigger": "BOOKING_CANCELLED", "data": {"responses": {"email": "twice@example.com"}}}),
    )
    await until_current(models)
    listed = (await http.get("/api/bookings", params={"name": "twice@example.com"})).json()["bookings"]
    assert [(one["cal_com_event_id"], one["status"]) for one in listed] == [
        ("4401", "confirmed"),
        ("4402", "confirmed"),
    ]


@pytest.mark.system("1.4")
async def test_an_id_goes_before_an_e_mail(http: httpx.AsyncClient, models: asyncpg.Connection) -> None:
    both = "both@example.com"
    invited = [told("BOOKING_CREATED", number, responses={"email": both}) for number in ("4411", "4412")]
    await deliver_all(http, *invited)
    named = await deliver(http, told("BOOKING_CANCELLED", "4411", responses={"email": both}))
    await until_current(models)
    listed = (await http.get("/api/bookings", params={"name": both})).json()["bookings"]
    assert [(one["cal_com_event_id"], one["status"]) for one in listed] == [
        ("4411", "cancelled"),
        ("4412", "scheduled"),
    ]
    assert named.json()["event_id"] not in await suggestions(http), "it names its booking: nobody is asked"


@pytest.mark.system("1.4", "1.5")
async def test_without_an_id_the_e_mail_suggests_the_invitation_and_a_person_confirms_it(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    confirmation = msgspec.json.encode(
        {
            "trigger": "BOOKING_CONFIRMED",
            "data": {"attendees": [{"email": "Iris@example.com"}], "startTime": instant(NOON)},
        }
    )
    event_id = (await deliver(http, confirmation)).json()["event_id"]
    await until_current(models)
    assert event_id not in await suggestions(http), "the invitation must exist first"
    times = {"startTime": instant(NOON), "endTime": instant(minutes(30))}
    answers = {"responses": {"email": {"value": "iris@example.com"}}}
    await deliver_all(
        http,
        told("BOOKING_REQUESTED", "4421", **times, **answers),
        told("BOOKING_REQUESTED", "4422", startTime=instant(minutes(60)), **answers),
    )
    await until_current(models)
    likely = (await suggestions(http))[event_id]["bookings"]
    assert [(one["cal_com_event_id"], one["reason"]) for one in likely] == [
        ("4421", "same_start"),
        ("4422", "attendee"),
    ]
    assert await candidate_words(models, "4421", "4422") == ["pending", "pending"]
    linked = await http.post("/api/bookings/4421/link", json={"event_id": event_id})
    assert linked.status_code == 200, linked.text
    await until_current(models)
    assert await candidate_words(models, "4421", "4422") == ["confirmed", "pending"]
    assert event_id not in await suggestions(http)


async def suggestions(http: httpx.AsyncClient) -> dict[str, Any]:
    """By the event id of the delivery that names no booking."""
    page = (await http.get("/api/admin/suggestions", params={"limit": 500})).json()
    return {one["event_id"]: one for one in page["suggestions"]}


async def candidate_words(models: asyncpg.Connection, *names: str) -> list[str]:
    """How its candidates stand."""
    rows = await models.fetch(
        "SELECT candidate_status FROM status_words WHERE cal_com_event_id = ANY($1) ORDER BY cal_com_event_id", names
    )
    return [row["candidate_status"] for row in rows]


# Troubleshooting


@pytest.mark.system("1.10")
async def test_what_arrived_and_changed_nothing_is_in_the_logs_with_its_reason(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    nameless = msgspec.json.encode({"trigger": "BOOKING_CONFIRMED", "data": {"startTime": instant(NOON)}})
    triggerless = msgspec.json.encode({"event": "confirmed", "data": {"id": "4501"}})
    ids = [(await deliver(http, body)).json()["event_id"] for body in (nameless, triggerless, b"confirmed")]
    await until_current(models)
    rows = await models.fetch(
        "SELECT webhook_type, status, cal_com_event_id, left(error_message, 15) FROM webhook_logs "
        "WHERE id = ANY($1::uuid[]) ORDER BY created_at",
        ids,
    )
    assert [tuple(row) for row in rows] == [
        ("BOOKING_CONFIRMED", "success", None, None),
        ("unrecognised", "error", "4501", "no trigger in t"),
        ("unrecognised", "error", None, "Invalid payload"),
    ]


@pytest.mark.system("1.11", "1.10")
async def test_a_delivery_without_a_signature_is_refused_in_words_that_help(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    answer = await http.post(ENDPOINT, content=told("BOOKING_CONFIRMED", "4601"))
    assert assert_is_problem(answer, 401) == "The request carries no X-Cal-Signature-256 header."

    async def is_logged() -> bool:
        return bool(await models.fetchval("SELECT count(*) FROM webhook_logs WHERE error_message = 'missing'"))

    await until(is_logged)
    assert_is_problem(await http.get("/api/bookings/4601"), 404)
