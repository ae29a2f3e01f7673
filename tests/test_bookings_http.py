"""Bookings over HTTP: lists with filters and pages, one booking by any of its names, its history."""

import base64
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from tests.builders import NOON, instant, meeting, minutes, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver_all,
    serving,
    speaking_to,
    until_current,
)

ANN, BEN = "ann@studio.example.com", "ben@studio.example.com"
DAY = NOON.replace(hour=0)
LINKS = {"barkbookClientId": "client-1", "barkbookPetId": "pet-1", "salonId": "salon-1", "source": "website"}
HOSTILE_TITLE = """100% _off_ \\ O'Hara "quoted"; DROP TABLE calendar_events; --"""


def booked(uid: str, trigger: str = "BOOKING_CREATED", *, at: datetime = NOON, **fields: object) -> bytes:
    """A whole booking; `start` in hours after the day's beginning."""
    start = fields.pop("start", None)
    times: dict[str, object] = {}
    if isinstance(start, int | float):
        begin = DAY + timedelta(hours=start)
        times = {"startTime": instant(begin), "endTime": instant(begin + timedelta(minutes=30))}
    host = fields.pop("host", ANN)
    payload = {"uid": uid, "type": "bath", "title": f"Visit {uid}", "organizer": {"email": host}, **times, **fields}
    return webhook(trigger, payload, at=at)


def person(email: str, name: str | None = None) -> dict[str, object]:
    return {"email": email, "name": name, "timeZone": "Europe/Rome"}


TRAFFIC = (
    booked("a-bath", start=9, bookingId=101, attendees=[person("ada@example.com", "Ada")], metadata=LINKS),
    booked("b-cut", "BOOKING_REQUESTED", start=10, host=BEN, type="cut", attendees=[person("bob@example.com")]),
    booked("b-cut", start=10, host=BEN, type="cut", attendees=[person("bob@example.com")], at=minutes(1)),
    booked("c-gone", start=10, bookingId=103, description="Please mind the stairs"),
    booked("c-gone", "BOOKING_CANCELLED", start=10, cancellationReason="Rain", cancelledBy=ANN, at=minutes(5)),
    booked("d-done", start=-24, attendees=[person("ada@example.com", "Ada"), person("guest@example.com")]),
    meeting(
        "MEETING_ENDED", {"uid": "d-done", "startTime": instant(DAY - timedelta(hours=24)), "endTime": instant(DAY)}
    ),
    booked("e-absent", start=-48, attendees=[person("eve@example.com", 'Zoë "Zed" O\'Hara')]),
    webhook(
        "BOOKING_NO_SHOW_UPDATED",
        {"bookingUid": "e-absent", "attendees": [{"email": "eve@example.com", "noShow": True}]},
        at=minutes(60),
    ),
    booked("chain-1", start=12, bookingId=201, attendees=[person("carl@example.com")], metadata={"source": "phone"}),
    booked(
        "chain-2",
        "BOOKING_RESCHEDULED",
        start=13,
        bookingId=202,
        rescheduleUid="chain-1",
        rescheduleId=201,
        attendees=[person("carl@example.com")],
        at=minutes(10),
    ),
    booked(
        "chain-3",
        "BOOKING_RESCHEDULED",
        start=14,
        bookingId=203,
        rescheduleUid="chain-2",
        rescheduleId=202,
        iCalUID="chain@Cal.com",
        attendees=[person("carl@example.com")],
        at=minutes(20),
    ),
    booked("hostile", start=15, title=HOSTILE_TITLE),
    booked("late", "BOOKING_CANCELLED", start=16, at=minutes(30)),
    booked("late", start=16, at=minutes(29)),
    *(booked(f"timeless-{number}") for number in (3, 1, 2)),
)
IN_ORDER = ["e-absent", "d-done", "a-bath", "b-cut", "c-gone", "chain-1", "chain-2", "chain-3", "hostile", "late"]
IN_ORDER += ["timeless-1", "timeless-2", "timeless-3"]
"""By start, ties by uid, those without a start last."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_server(shared_server: Server) -> Server:
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        await deliver_all(http, *TRAFFIC)
        await until_current(connection)
    return shared_server


@pytest_asyncio.fixture
async def http(filled_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(filled_server) as client:
        yield client


async def listed(http: httpx.AsyncClient, **parameters: str | int) -> list[str]:
    """The uids of one page, in its order."""
    answer = await http.get("/api/bookings", params=parameters)
    assert answer.status_code == 200, answer.text
    return [booking["cal_com_event_id"] for booking in answer.json()["bookings"]]


# Lists


async def test_a_list_is_by_start_and_those_without_one_come_last(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/bookings")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["next_cursor"] is None
    assert await listed(http) == IN_ORDER


async def test_a_booking_in_a_list_has_the_words_of_calendar_events(http: httpx.AsyncClient) -> None:
    [bath] = (await http.get("/api/bookings", params={"client": "client-1"})).json()["bookings"]
    expected = {
        "cal_com_event_id": "a-bath",
        "ledger": "main",
        "title": "Visit a-bath",
        "start_time": "2026-12-01T09:00:00Z",
        "end_time": "2026-12-01T09:30:00Z",
        "duration_minutes": 30,
        "status": "scheduled",
        "booking_status": "accepted",
        "attendee_email": "ada@example.com",
        "attendee_name": "Ada",
        "host_email": ANN,
        "event_type": "bath",
        "client_id": "client-1",
        "pet_id": "pet-1",
        "salon_id": "salon-1",
        "metadata": LINKS,
        "root_uid": "a-bath",
        "rescheduled_to": None,
        "paid": False,
        "no_show": False,
        "doubts": [],
    }
    assert {name: bath[name] for name in expected} == expected
    assert [attendee["email"] for attendee in bath["attendees"]] == ["ada@example.com"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"status": "cancelled"}, ["c-gone", "late"]),
        ({"status": "confirmed"}, ["b-cut"]),
        ({"status": "completed,no_show"}, ["e-absent", "d-done"]),
        ({"status": "rescheduled"}, ["chain-1", "chain-2"]),
        ({"from": "2026-12-01T13:00:00Z"}, ["chain-2", "chain-3", "hostile", "late"]),
        ({"from": "2026-12-01T13:00:00+01:00", "to": "2026-12-01T14:00:00+01:00"}, ["chain-1"]),
        ({"to": "2026-12-01"}, ["e-absent", "d-done"]),
        ({"from": "1900-01-01", "to": "2199-12-31"}, IN_ORDER[:10]),
        ({"attendee": "ada@example.com"}, ["d-done", "a-bath"]),
        ({"attendee": "GUEST@Example.com"}, ["d-done"]),
        ({"attendee": "%@example.com"}, []),
        ({"host": BEN}, ["b-cut"]),
        ({"host": BEN.upper()}, ["b-cut"]),
        ({"event_type": "cut"}, ["b-cut"]),
        ({"client": "client-1"}, ["a-bath"]),
        ({"pet": "pet-1"}, ["a-bath"]),
        ({"salon": "salon-1"}, ["a-bath"]),
        ({"salon": "salon-2"}, []),
        ({"metadata.source": "website"}, ["a-bath"]),
        ({"metadata.source": "phone"}, ["chain-1", "chain-2", "chain-3"]),
        ({"metadata.source": "website", "metadata.salonId": "salon-1"}, ["a-bath"]),
        ({"metadata.source": "website", "metadata.salonId": "salon-2"}, []),
        ({"metadata.nobody": ""}, []),
        ({"text": "STAIRS"}, ["c-gone"]),
        ({"text": "visit chain"}, ["chain-1", "chain-2", "chain-3"]),
        ({"text": "carl@"}, ["chain-1", "chain-2", "chain-3"]),
        ({"status": "scheduled", "attendee": "carl@example.com", "host": ANN}, ["chain-3"]),
    ],
    ids=lambda value: "&".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
async def test_a_list_is_narrowed(http: httpx.AsyncClient, parameters: dict[str, str], expected: list[str]) -> None:
    assert await listed(http, **parameters) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%", ["hostile"]),
        ("100%", ["hostile"]),
        ("_off_", ["hostile"]),
        ("_", ["hostile"]),
        ("\\", ["hostile"]),
        ("\\%", []),
        ("'; DROP TABLE", []),
        ("DROP TABLE calendar_events; --", ["hostile"]),
        ("O'Hara", ["e-absent", "hostile"]),
        ('"Zed"', ["e-absent"]),
        ('"quoted"', ["hostile"]),
        ("zoë", ["e-absent"]),
        ("time_zone", []),
        ("null", []),
        ("$1", []),
        ("\U0001f43e", []),
    ],
)
async def test_text_is_looked_for_as_it_was_typed(http: httpx.AsyncClient, text: str, expected: list[str]) -> None:
    assert await listed(http, text=text) == expected


@pytest.mark.parametrize("limit", [1, 2, 4, 12, 13])
@pytest.mark.parametrize("narrowed", [{}, {"host": ANN}], ids=["everything", "narrowed"])
async def test_pages_walk_through_everything_once_and_in_order(
    http: httpx.AsyncClient, limit: int, narrowed: dict[str, str]
) -> None:
    seen: list[str] = []
    parameters: dict[str, str | int] = {**narrowed, "limit": limit}
    while True:
        page = (await http.get("/api/bookings", params=parameters)).json()
        assert 0 < len(page["bookings"]) <= limit
        seen += [booking["cal_com_event_id"] for booking in page["bookings"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert seen == [uid for uid in IN_ORDER if not narrowed or uid != "b-cut"]


def cursor(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()


BAD_PARAMETERS: list[dict[str, str]] = [
    *({"status": text} for text in ("", "lost", "scheduled,", "SCHEDULED", "scheduled\0")),
    *(
        {name: text}
        for name in ("from", "to")
        for text in ("", "soon", "2026-13-01", "12", "9999-12-31T23:59:59-14:00")
    ),
    *({"limit": text} for text in ("", "0", "-1", "501", "many", "1.5", "9" * 5_000)),
    *({name: "a\0b"} for name in ("attendee", "host", "event_type", "client", "pet", "salon", "metadata.a")),
    *({name: "x" * 201} for name in ("attendee", "host", "event_type", "client", "pet", "salon", "text")),
    *({"cursor": text} for text in ("", "x", "💥", "%%%", "x" * 2_000, cursor([]), cursor({}), cursor([None]))),
    *({"cursor": cursor(value)} for value in (["soon", "a"], [None, None], [1, "a"], [None, "a\0"])),
    {"cursor": cursor(["2026-12-01T09:00:00", "a"])},
    {"cursor": cursor(["0001-01-01T00:00:00+14:00", "a"])},
    {"cursor": cursor(["9999-12-31T23:59:59-14:00", "a"])},
]


@pytest.mark.parametrize("parameters", BAD_PARAMETERS, ids=lambda given: repr(given)[:60])
async def test_a_parameter_that_cannot_be_understood_is_the_callers_problem(
    http: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get("/api/bookings", params=parameters), 400)


async def test_a_ledger_that_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    for path in ("/api/bookings", "/api/bookings/a-bath", "/api/bookings/a-bath/history"):
        assert (await http.get(path, params={"ledger": "main"})).status_code == 200
        assert_is_problem(await http.get(path, params={"ledger": "nobody"}), 404)


async def test_nul_in_a_search_finds_nothing_wrong(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/bookings", params={"text": "\0"})).status_code in (200, 400)


# One booking


@pytest.mark.parametrize("name", ["chain-1", "chain-2", "chain-3", "201", "202", "203", "chain@Cal.com"])
async def test_a_booking_is_found_by_any_name_of_its_chain(http: httpx.AsyncClient, name: str) -> None:
    found = (await http.get(f"/api/bookings/{name}")).json()
    assert found["asked_for"] == name
    assert found["booking"]["cal_com_event_id"] == "chain-3"
    assert found["booking"]["root_uid"] == "chain-1"
    assert found["chain"] == ["chain-1", "chain-2", "chain-3"]
    assert found["booking"]["metadata"] == {"source": "phone"}, "carried forward along the chain"


async def test_what_is_listed_and_what_is_found_are_the_same(http: httpx.AsyncClient) -> None:
    for booking in (await http.get("/api/bookings")).json()["bookings"]:
        if booking["rescheduled_to"] is None:
            found = (await http.get(f"/api/bookings/{booking['cal_com_event_id']}")).json()
            assert found["booking"] == booking


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "0",
        "999",
        "9" * 30,
        "-1",
        "None",
        "a-bat",
        "%00",
        "a%0ab",
        "%F0%9F%90%BE",
        "'%20OR%20''='",
        "x" * 9_000,
    ],
)
async def test_a_booking_that_is_not_there_is_not_found(http: httpx.AsyncClient, name: str) -> None:
    assert_is_problem(await http.get(f"/api/bookings/{name}"), 404)
    assert_is_problem(await http.get(f"/api/bookings/{name}/history"), 404)


async def test_who_has_been_told_recorded_finds_the_booking_before_any_read_model_has_it(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, options=("--no-worker",)) as server:
        async with speaking_to(server) as http:
            await deliver_all(http, *TRAFFIC)
            assert await listed(http) == []
            found = (await http.get("/api/bookings/chain-1")).json()
            assert (found["booking"]["cal_com_event_id"], found["booking"]["status"]) == ("chain-3", "scheduled")


async def test_a_booking_is_shown_as_it_was_at_a_moment_of_either_clock(http: httpx.AsyncClient) -> None:
    before_it_was_cancelled = instant(minutes(3))
    found = (await http.get("/api/bookings/c-gone", params={"valid_at": before_it_was_cancelled})).json()
    assert found["booking"]["status"] == "scheduled"
    assert_is_problem(await http.get("/api/bookings/c-gone", params={"as_of": "2020-01-01T00:00:00Z"}), 404)
    assert_is_problem(await http.get("/api/bookings/c-gone", params={"as_of": "once"}), 400)


# History


async def history(http: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    answer = await http.get(f"/api/bookings/{name}/history")
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["history"]
    return entries


async def test_a_history_tells_every_event_with_what_it_changed(http: httpx.AsyncClient) -> None:
    first, second = await history(http, "c-gone")
    assert (first["trigger"], first["uid"], first["occurred_at"]) == (
        "BOOKING_CREATED",
        "c-gone",
        "2026-12-01T12:00:00Z",
    )
    assert {"field": "description", "before": None, "after": "Please mind the stairs"} in first["changes"]
    assert (second["trigger"], second["late"]) == ("BOOKING_CANCELLED", False)
    told = {change["field"]: (change["before"], change["after"]) for change in second["changes"]}
    assert told == {
        "status": ("scheduled", "cancelled"),
        "booking_status": ("accepted", "cancelled"),
        "cancellation_reason": (None, "Rain"),
        "cancelled_by": (None, ANN),
    }
    assert first["position"] < second["position"]


@pytest.mark.parametrize("name", ["chain-1", "chain-3", "202"])
async def test_a_history_goes_through_all_reschedules(http: httpx.AsyncClient, name: str) -> None:
    entries = await history(http, name)
    assert [(entry["uid"], entry["trigger"]) for entry in entries] == [
        ("chain-1", "BOOKING_CREATED"),
        ("chain-1", "BOOKING_RESCHEDULED"),
        ("chain-2", "BOOKING_RESCHEDULED"),
        ("chain-2", "BOOKING_RESCHEDULED"),
        ("chain-3", "BOOKING_RESCHEDULED"),
    ]
    starts = [change["after"] for entry in entries for change in entry["changes"] if change["field"] == "start_time"]
    assert starts == ["2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z", "2026-12-01T14:00:00Z"]


async def test_what_came_late_stands_where_it_happened_and_says_so(http: httpx.AsyncClient) -> None:
    told = [(entry["trigger"], entry["late"]) for entry in await history(http, "late")]
    assert told == [("BOOKING_CREATED", True), ("BOOKING_CANCELLED", False)]
    assert (await http.get("/api/bookings/late")).json()["booking"]["status"] == "cancelled"
