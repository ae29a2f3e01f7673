"""Clients and pets over HTTP: figures that are a count of their bookings, visits past and upcoming, pages of both."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import asyncpg
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
    parked,
    speaking_to,
    until_current,
)

TODAY = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
UNCOMPRESSIBLE = Random(3).randbytes(5_000).hex()
"""10,000 characters: longer than an index entry, whatever is done to it."""


def booked(
    uid: str, client: str, days: float | None, trigger: str = "BOOKING_CREATED", *, pet: str = "", **fields: object
) -> bytes:
    """A booking of the client's so many days from today; without a start for None."""
    at = fields.pop("at", NOON)
    assert isinstance(at, datetime)
    person = {"email": f"{client}@example.com", "name": f"Name of {client}", "phoneNumber": "+48 22 555 01 01"}
    payload: dict[str, object] = {
        "uid": uid,
        "title": uid,
        "attendees": [person],
        "metadata": {"clientId": client, **({"petId": pet} if pet else {})},
    }
    if days is not None:
        start = TODAY + days * DAY
        payload |= {"startTime": instant(start), "endTime": instant(start + timedelta(hours=1))}
    return webhook(trigger, payload | fields, at=at)


def ended(uid: str, days: float) -> bytes:
    start = TODAY + days * DAY
    return meeting(
        "MEETING_ENDED", {"uid": uid, "startTime": instant(start), "endTime": instant(start + timedelta(hours=1))}
    )


def absent(uid: str, client: str) -> bytes:
    marked = [{"email": f"{client}@example.com", "noShow": True}]
    return webhook("BOOKING_NO_SHOW_UPDATED", {"bookingUid": uid, "attendees": marked}, at=minutes(60))


TRAFFIC = (
    # Ola: two dogs, three visits, one not come to, one cancelled, one moved, two to come, one whose time is unknown.
    *(booked("ola-1", "ola", -90, pet="rex"), ended("ola-1", -90)),
    *(booked("ola-2", "ola", -60, pet="bo"), ended("ola-2", -60)),
    *(booked("ola-3", "ola", -30, pet="rex"), ended("ola-3", -30)),
    *(booked("ola-4", "ola", -20, pet="rex"), absent("ola-4", "ola")),
    booked("ola-5", "ola", -10, pet="rex"),
    booked("ola-5", "ola", -10, "BOOKING_CANCELLED", pet="rex", at=minutes(5)),
    booked("ola-6", "ola", 2, pet="rex"),
    booked("ola-7", "ola", 5, "BOOKING_RESCHEDULED", pet="rex", rescheduleUid="ola-6", at=minutes(10)),
    booked("ola-8", "ola", 9, pet="bo"),
    booked("ola-9", "ola", None, pet="rex"),
    # Ula has been here once, and comes again under another name; Ela never came; Iza only has been.
    *(booked("ula-1", "ula", -45), ended("ula-1", -45)),
    booked("ula-2", "ula", 1, attendees=[{"email": "new@example.com", "name": "Adam"}]),
    booked("ela-1", "ela", -5, at=minutes(1)),
    *(booked("iza-1", "iza", -1), ended("iza-1", -1)),
    # Bookings of nobody's clients.
    webhook("BOOKING_CREATED", {"uid": "none", "title": "x", "metadata": {"source": "website"}}),
    webhook("BOOKING_CREATED", {"uid": "empty", "title": "x", "metadata": {"clientId": ""}}),
)


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


@pytest_asyncio.fixture
async def models(filled_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(filled_server.dsn) as connection:
        yield connection


async def asked(http: httpx.AsyncClient, path: str, **parameters: str | int) -> dict[str, Any]:
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def visits(http: httpx.AsyncClient, path: str, **parameters: str | int) -> list[str]:
    """The uids of one page, in its order."""
    return [visit["cal_com_event_id"] for visit in (await asked(http, path, **parameters))["visits"]]


async def all_pages(http: httpx.AsyncClient, path: str, field: str, **parameters: str | int) -> list[dict[str, Any]]:
    """What all pages hold, one after the other."""
    found: list[dict[str, Any]] = []
    while True:
        page = await asked(http, path, **parameters)
        assert 0 < len(page[field]) <= int(parameters["limit"])
        found += page[field]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


# One client


async def test_a_clients_figures_are_a_count_of_the_bookings(http: httpx.AsyncClient) -> None:
    assert await asked(http, "/api/clients/ola") == {
        "client_id": "ola",
        "ledger": "main",
        "attendee_name": "Name of ola",
        "attendee_email": "ola@example.com",
        "attendee_phone": "+48 22 555 01 01",
        "first_visit": stamp(-90),
        "last_visit": stamp(-30),
        "next_appointment": stamp(5),
        "bookings": 9,
        "completed": 3,
        "no_show": 1,
        "cancelled": 1,
        "rescheduled": 1,
        "no_show_rate": 0.25,
    }


def stamp(days: float) -> str:
    return (TODAY + days * DAY).isoformat().replace("+00:00", "Z")


async def test_a_client_who_never_came_has_no_visits_and_no_rate(http: httpx.AsyncClient) -> None:
    ela = await asked(http, "/api/clients/ela")
    assert (ela["bookings"], ela["completed"], ela["no_show_rate"]) == (1, 0, None)
    assert (ela["first_visit"], ela["last_visit"], ela["next_appointment"]) == (None, None, None)


async def test_a_client_is_called_as_in_the_latest_booking(http: httpx.AsyncClient) -> None:
    ula = await asked(http, "/api/clients/ula")
    assert (ula["attendee_name"], ula["attendee_email"]) == ("Adam", "new@example.com")
    assert (ula["first_visit"], ula["last_visit"], ula["next_appointment"]) == (stamp(-45), stamp(-45), stamp(1))


async def test_the_view_says_of_every_client_what_the_route_says(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    rows = await models.fetch(
        "SELECT to_jsonb(c)::text FROM clients AS c WHERE length(client_id) = 3 ORDER BY client_id"
    )
    told = [msgspec.json.decode(row[0]) for row in rows]
    assert [row["client_id"] for row in told] == ["ela", "iza", "ola", "ula"]
    for row in told:
        answer = await asked(http, f"/api/clients/{row['client_id']}")
        assert {name: moment(value) for name, value in row.items()} == {
            name: moment(value) for name, value in answer.items()
        }


def moment(value: Any) -> Any:
    """A time, however it is written; anything else as it is."""
    return datetime.fromisoformat(value) if isinstance(value, str) and value[:2] == "20" else value


@pytest.mark.parametrize("client", ["nobody", "OLA", "%", "ol_", "''", "ola ", "\U0001f43e", "x" * 5_000])
async def test_a_client_that_no_booking_names_is_not_found_and_has_no_visits(
    http: httpx.AsyncClient, client: str
) -> None:
    assert_is_problem(await http.get(f"/api/clients/{quote(client)}"), 404)
    assert await visits(http, f"/api/clients/{quote(client)}/visits") == []


# Visits


@pytest.mark.system("3.2", "3.10", "3.16")
async def test_a_pets_visits_are_past_and_upcoming_the_latest_first(http: httpx.AsyncClient) -> None:
    path = "/api/pets/rex/visits"
    assert await visits(http, path) == ["ola-9", "ola-7", "ola-4", "ola-3", "ola-1"]
    assert await visits(http, path, to=instant(TODAY)) == ["ola-4", "ola-3", "ola-1"]
    assert await visits(http, path, status="completed") == ["ola-3", "ola-1"]
    assert await visits(http, path, status="cancelled,rescheduled") == ["ola-6", "ola-5"]
    assert await visits(http, "/api/pets/bo/visits") == ["ola-8", "ola-2"]
    assert await visits(http, "/api/pets/ola/visits") == []


async def test_a_clients_visits_are_those_of_all_their_pets(http: httpx.AsyncClient) -> None:
    path = "/api/clients/ola/visits"
    assert await visits(http, path) == ["ola-9", "ola-8", "ola-7", "ola-4", "ola-3", "ola-2", "ola-1"]
    upcoming: dict[str, str | int] = {"from": instant(TODAY)}
    assert await visits(http, path, **upcoming) == ["ola-8", "ola-7"]
    assert await visits(http, path, **upcoming, limit=1) == ["ola-8"]


@pytest.mark.parametrize("limit", [1, 2, 6, 7])
async def test_pages_walk_through_all_visits_once_and_in_order(http: httpx.AsyncClient, limit: int) -> None:
    seen = await all_pages(http, "/api/clients/ola/visits", "visits", limit=limit)
    assert [visit["cal_com_event_id"] for visit in seen] == await visits(http, "/api/clients/ola/visits")


async def test_a_visit_has_the_words_of_a_booking(http: httpx.AsyncClient) -> None:
    listed = {one["cal_com_event_id"]: one for one in (await asked(http, "/api/bookings", client="ola"))["bookings"]}
    for visit in (await asked(http, "/api/clients/ola/visits"))["visits"]:
        assert visit == listed[visit["cal_com_event_id"]]


# Many clients


async def names(http: httpx.AsyncClient, **parameters: str | int) -> list[str]:
    return [client["client_id"] for client in (await asked(http, "/api/clients", **parameters))["clients"]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("id", ["ela", "iza", "ola", "ula"]),
        ("last_visit", ["iza", "ola", "ula"]),
    ],
)
async def test_clients_are_listed_in_the_order_asked_for(
    http: httpx.AsyncClient, order: str, expected: list[str]
) -> None:
    assert await names(http, order=order) == expected
    for limit in (1, 2, len(expected)):
        seen = await all_pages(http, "/api/clients", "clients", order=order, limit=limit)
        assert [client["client_id"] for client in seen] == expected
    for client in (await asked(http, "/api/clients", order=order))["clients"]:
        assert client == await asked(http, f"/api/clients/{client['client_id']}")


async def test_clients_are_listed_by_id_unless_told_otherwise(http: httpx.AsyncClient) -> None:
    assert await names(http) == await names(http, order="id")


async def test_a_cursor_of_one_order_is_none_of_another(http: httpx.AsyncClient) -> None:
    cursor = (await asked(http, "/api/clients", order="id", limit=1))["next_cursor"]
    assert await names(http, order="id", cursor=cursor) == ["iza", "ola", "ula"]
    assert_is_problem(await http.get("/api/clients", params={"order": "last_visit", "cursor": cursor}), 400)
    visits_cursor = (await asked(http, "/api/clients/ola/visits", limit=1))["next_cursor"]
    assert_is_problem(await http.get("/api/clients", params={"cursor": visits_cursor}), 400)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/api/clients", {"order": "age"}),
        ("/api/clients", {"limit": "0"}),
        ("/api/clients", {"cursor": "x"}),
        ("/api/clients/a%00b", {}),
        ("/api/clients/a%00b/visits", {}),
        ("/api/pets/a%00b/visits", {}),
        ("/api/pets/rex/visits", {"status": "lost"}),
        ("/api/pets/rex/visits", {"from": "soon"}),
        ("/api/clients/ola/visits", {"limit": "501"}),
        ("/api/clients/ola/visits", {"cursor": "W10"}),
    ],
)
async def test_what_cannot_be_understood_is_the_callers_problem(
    http: httpx.AsyncClient, path: str, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get(path, params=parameters), 400)


# Names longer than an index entry


async def test_a_name_too_long_for_an_index_names_nobody_and_stops_nothing(server: Server) -> None:
    links = {name: name + UNCOMPRESSIBLE for name in ("clientId", "petId", "salonId")}
    payload = {
        "uid": "endless",
        "title": UNCOMPRESSIBLE,
        "type": UNCOMPRESSIBLE,
        "organizer": {"email": f"{UNCOMPRESSIBLE}@example.com", "name": UNCOMPRESSIBLE},
        "metadata": links,
    }
    longest = "\U0001f43e" * 200
    async with speaking_to(server) as http, connected(server.dsn) as models:
        await deliver_all(http, webhook("BOOKING_CREATED", payload), booked("after", longest, 3, pet=longest))
        await until_current(models)
        assert await parked(models) == []
        [endless] = (await asked(http, "/api/bookings", name="endless"))["bookings"]
        assert (endless["title"], endless["metadata"]) == (UNCOMPRESSIBLE, links)
        named = ("client_id", "pet_id", "salon_id", "host_email", "event_type")
        assert {endless[name] for name in named} == {None}
        assert await names(http) == [longest]
        assert await visits(http, f"/api/pets/{quote(longest)}/visits") == ["after"]
