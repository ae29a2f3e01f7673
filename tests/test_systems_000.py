"""Talent interviews (SYSTEMS.md 0.x): what that application would read here instead of its own receiver."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from ledger.calcom.signature import sign
from tests.builders import NOON, instant, minutes, webhook
from tests.serving import (
    SIGNATURE,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    serving,
    signed,
    speaking_to,
    until_current,
)
from tests.system_lines import LATER, LINES, PARTLY, named_by_line, table

ROOM = "https://meet.example.com/abc-defg"


def interview(uid: str, **fields: object) -> bytes:
    """The sample body of 0.12, and what an embed adds to it."""
    payload = {
        "type": "interview",
        "title": "Interview with Kofi",
        "startTime": instant(NOON),
        "endTime": instant(minutes(30)),
        "attendees": [{"email": "Kofi@example.com", "name": "Kofi Mensah", "timeZone": "Africa/Accra"}],
        "organizer": {"email": "talent@example.com", "name": "Talent team"},
        "location": ROOM,
        "uid": uid,
        **fields,
    }
    return webhook("BOOKING_CREATED", payload, at=minutes(-600))


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


async def head(connection: asyncpg.Connection) -> int:
    position: int = await connection.fetchval("SELECT position FROM ledger.ledgers WHERE name = 'main'")
    return position


@pytest.mark.system("0.2", "0.7", "0.8")
async def test_an_interview_is_stored_with_all_of_0_8_and_found_by_its_talent_profile(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = interview("profiled", bookingId=501, metadata={"talentProfileId": "tp-77", "videoCallUrl": ROOM})
    answer = await deliver(http, body, path="/api/webhooks/cal-com")
    assert (answer.status_code, answer.json()["status"]) == (200, "recorded")
    await until_current(models)
    [found] = (await http.get("/api/bookings", params={"metadata.talentProfileId": "tp-77"})).json()["bookings"]
    told = {
        "cal_com_event_id": "profiled",
        "booking_number": 501,
        "start_time": "2026-12-01T12:00:00Z",
        "end_time": "2026-12-01T12:30:00Z",
        "duration_minutes": 30,
        "attendee_email": "kofi@example.com",
        "attendee_name": "Kofi Mensah",
        "meeting_url": ROOM,
        "metadata": {"talentProfileId": "tp-77"},
        "status": "scheduled",
    }
    assert {name: found[name] for name in told} == told
    assert found["attendees"][0]["time_zone"] == "Africa/Accra"


@pytest.mark.system("0.3", "0.5")
async def test_url_trigger_and_secret_are_all_that_cal_com_has_to_be_told(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="of our own") as server:
        async with speaking_to(server, key=None) as cal_com:
            assert (await cal_com.get(WEBHOOK)).json()["secret_configured"] is True
            body = interview("first")
            right = await cal_com.post(WEBHOOK, content=body, headers=signed(body, "of our own"))
            assert (right.status_code, right.json()["position"]) == (200, 1)
            assert_is_problem(await cal_com.post(WEBHOOK, content=body, headers=signed(body, "of others")), 401)


@pytest.mark.system("0.4", "1.9")
@pytest.mark.parametrize("host", ["1f2e-203-0-113-7.tunnel.example.app", "api.example.com", "localhost:3001"])
async def test_whatever_name_leads_here_the_delivery_is_recorded(http: httpx.AsyncClient, host: str) -> None:
    body = interview(f"through-{host.partition('.')[0]}")
    forwarded = {"host": host, "x-forwarded-host": host, "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7"}
    answer = await http.post(WEBHOOK, content=body, headers=signed(body) | forwarded)
    assert (answer.status_code, answer.json()["duplicate"]) == (200, False)


@pytest.mark.system("0.6")
async def test_the_signature_is_checked_before_a_body_is_understood(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    before = await head(models)
    refusals = set()
    for body in (interview("unproven"), b"{", b"", b"\xff\xfe", b"[" * 1_000):
        answer = await http.post(WEBHOOK, content=body, headers=signed(body, "a guess"))
        assert_is_problem(answer, 401)
        refusals.add(answer.content)
    assert len(refusals) == 1
    assert await head(models) == before
    for body in (interview("proven"), b"{"):
        answer = await http.post(WEBHOOK, content=body, headers={SIGNATURE: sign(body, b"sample-secret")})
        assert answer.status_code == 200


@pytest.mark.system("0.12", "0.13")
async def test_after_a_booking_its_payload_is_in_the_log_and_its_row_in_the_table(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = interview("sample")
    await deliver_all(http, body)
    await until_current(models)
    payload = await models.fetchval("SELECT payload FROM webhook_logs WHERE cal_com_event_id = 'sample'")
    assert msgspec.json.decode(payload) == msgspec.json.decode(body)
    row = await models.fetchrow(
        "SELECT title, start_time, end_time, location, meeting_url, host_email, attendee_email, event_type "
        "FROM calendar_events WHERE cal_com_event_id = 'sample'"
    )
    assert row is not None
    assert tuple(row) == (
        "Interview with Kofi",
        NOON,
        minutes(30),
        ROOM,
        ROOM,
        "talent@example.com",
        "kofi@example.com",
        "interview",
    )


@pytest.mark.system("0.14")
async def test_a_booking_that_is_there_is_verified_at_once_and_any_other_is_not(http: httpx.AsyncClient) -> None:
    assert_is_problem(await http.get("/api/bookings/verified"), 404)
    await deliver_all(http, interview("verified"))
    found = await http.get("/api/bookings/verified")
    assert (found.status_code, found.json()["booking"]["cal_com_event_id"]) == (200, "verified")
    guess = base64.urlsafe_b64encode(b"verified").decode()
    assert_is_problem(await http.get(f"/api/bookings/{guess}"), 404)


@pytest.mark.system("0.14")
async def test_details_of_a_booking_are_for_those_who_have_the_key(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as stranger:
        assert_is_problem(await stranger.get("/api/bookings/verified"), 401)
        assert_is_problem(await stranger.get("/api/bookings", params={"name": "kofi@example.com"}), 401)


# The table of all five systems


def test_every_line_of_the_five_systems_is_tested_or_listed_as_later() -> None:
    tested = set(named_by_line())
    assert tested - LINES.keys() == set(), "marks that name no line"
    assert LATER.keys() - LINES.keys() == set()
    assert [line for line in LINES if (line in tested) == (line in LATER)] == []
    assert PARTLY.keys() - tested == set(), "what is answered in part is tested in that part"


def test_the_lines_are_all_there() -> None:
    counted = {"0": 14, "1": 11, "2": 9, "3": 16, "4": 6}
    assert list(LINES) == [f"{system}.{number}" for system in counted for number in range(1, counted[system] + 1)]


@pytest.mark.parametrize(
    ("outcomes", "standing"), [(set(), "not run"), ({"passed"}, "passed"), ({"passed", "failed"}, "FAILED")]
)
def test_the_table_tells_how_the_tests_of_a_line_ended(outcomes: set[str], standing: str) -> None:
    told = list(table(dict.fromkeys(named_by_line()["0.6"], outcomes)))
    assert any(line.startswith(f"0.6  {standing} ") for line in told)
    assert any(line.startswith("0.1  later ") for line in told)
