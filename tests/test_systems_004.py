"""Cal.com to Notion (SYSTEMS.md 4.x): its endpoint, its signature over minified JSON, its flat names, its errors."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio

from ledger.calcom.signature import sign
from ledger.settings import load_settings
from tests.builders import NOON, instant, meeting, minutes, people, webhook, whole_log
from tests.serving import (
    SECRET,
    SIGNATURE,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    serving,
    signed,
    speaking_to,
    until,
    until_current,
)

ENDPOINT = "/api/cal/handle-cal-event"
TIMES = {"startTime": instant(NOON), "endTime": instant(minutes(50))}
UNSUPPORTED = webhook("BOOKING_RATED", {"uid": "rated", "rating": 5})


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


def four_events(uid: str) -> list[bytes]:
    moved = {"uid": f"{uid}-moved", "rescheduleUid": uid, "rescheduleId": 7, **TIMES}
    return [
        webhook("BOOKING_CREATED", {"uid": uid, "attendees": people("ada@example.com"), **TIMES}, at=minutes(-60)),
        webhook("BOOKING_RESCHEDULED", moved, at=minutes(-50)),
        webhook("BOOKING_CANCELLED", {"uid": f"{uid}-moved"}, at=minutes(-40)),
        meeting("MEETING_ENDED", {"uid": f"{uid}-moved", **TIMES}),
    ]


@pytest.mark.system("4.1")
async def test_its_four_events_are_recorded_under_its_endpoint(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    answers = [await deliver(http, body, path=ENDPOINT) for body in four_events("session")]
    assert [answer.status_code for answer in answers] == [200] * 4
    await until_current(models)
    rows = await models.fetch("SELECT status FROM calendar_events WHERE root_uid = 'session' ORDER BY cal_com_event_id")
    assert [row["status"] for row in rows] == ["rescheduled", "cancelled"]


@pytest.mark.system("4.1")
async def test_where_events_are_strict_an_unsupported_one_is_answered_400_and_kept(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, STRICT_EVENTS="true") as server:
        async with speaking_to(server) as http, connected(durable_database) as connection:
            detail = assert_is_problem(await deliver(http, UNSUPPORTED, path=ENDPOINT), 400)
            assert "Unsupported Event Type: BOOKING_RATED" in detail
            assert_is_problem(await deliver(http, UNSUPPORTED, path=ENDPOINT), 400)
            assert "Unsupported Event Type" in assert_is_problem(await deliver(http, b"false", path=ENDPOINT), 400)
            await deliver_all(http, *four_events("strict"), webhook("PING", {}))
            kept = [event.body for event in await whole_log(connection) if event.topic == "calcom.unrecognised"]
            assert kept == [UNSUPPORTED, b"false"]
            await until_current(connection)
            assert await connection.fetchval("SELECT count(*) FROM webhook_events") == 7


@pytest.mark.system("4.1")
async def test_where_they_are_not_an_unsupported_one_is_welcome(http: httpx.AsyncClient) -> None:
    assert (await deliver(http, UNSUPPORTED, path=ENDPOINT)).json()["status"] == "recorded"


def minified(body: bytes) -> bytes:
    """What `JSON.stringify(JSON.parse(body))` gives for it."""
    return json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.system("4.2")
async def test_what_cal_com_sends_is_minified_already_so_both_ways_of_signing_agree(http: httpx.AsyncClient) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "minified", "title": "Séance n° 5 — 🐾", "price": 2500, **TIMES})
    assert minified(body) == body
    answer = await http.post(ENDPOINT, content=body, headers={SIGNATURE: sign(minified(body), SECRET.encode())})
    assert answer.status_code == 200


@pytest.mark.system("4.2")
async def test_a_body_that_was_written_anew_on_its_way_does_not_pass(http: httpx.AsyncClient) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "rewritten", **TIMES})
    spread = json.dumps(json.loads(body), indent=2).encode()
    assert minified(spread) == body
    assert_is_problem(await http.post(ENDPOINT, content=spread, headers=signed(body)), 401)
    assert_is_problem(await http.get("/api/bookings/rewritten"), 404)


@pytest.mark.system("4.3")
async def test_its_names_for_secret_and_key_are_read(durable_database: str, tmp_path: Path) -> None:
    assert [one.reveal() for one in load_settings({"CAL_WEBHOOK_SECRET": "alone"}).webhook_secrets] == [b"alone"]
    with serving(durable_database, tmp_path, CAL_WEBHOOK_SECRET="of notion", INTERNAL_API_KEY="internal") as server:
        async with speaking_to(server, key="internal") as http, speaking_to(server, key="external") as stranger:
            body = webhook("BOOKING_CREATED", {"uid": "keyed"})
            assert (await http.post(ENDPOINT, content=body, headers=signed(body, "of notion"))).status_code == 200
            assert (await http.get("/api/bookings/keyed")).status_code == 200
            assert_is_problem(await stranger.get("/api/bookings/keyed"), 401)


@pytest.mark.system("4.4")
@pytest.mark.parametrize("attendees", [{}, {"attendees": []}], ids=["absent", "empty"])
async def test_client_and_booking_are_flat_also_where_only_the_answers_name_the_client(
    http: httpx.AsyncClient, models: asyncpg.Connection, attendees: dict[str, object]
) -> None:
    uid = f"flat-{len(attendees)}"
    answers = {
        "name": {"label": "your_name", "value": "Ada Lovelace", "isHidden": False},
        "email": {"label": "email_address", "value": "Ada@Example.com", "isHidden": False},
        "notes": {"label": "additional_notes", "isHidden": False},
    }
    payload = {"uid": uid, "type": "coaching", "title": "Coaching", "responses": answers, **TIMES, **attendees}
    await deliver_all(http, webhook("BOOKING_CREATED", payload))
    await until_current(models)
    row = await models.fetchrow(
        "SELECT event_type, title, attendee_name, attendee_email, start_time, duration_minutes "
        "FROM calendar_events WHERE cal_com_event_id = $1",
        uid,
    )
    assert row is not None
    assert tuple(row) == ("coaching", "Coaching", "Ada Lovelace", "ada@example.com", NOON, 50)


@pytest.mark.system("4.2", "4.6")
async def test_every_refusal_has_a_status_a_sentence_and_a_line_in_the_logs(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "refused"})
    large = b"x" * (1024 * 1024 + 1)
    for content, headers, status in (
        (body, signed(body, "another"), 401),
        (body, {}, 401),
        (large, signed(large), 413),
    ):
        assert_is_problem(await http.post(ENDPOINT, content=content, headers=headers), status)

    async def are_told() -> bool:
        rows = await models.fetch("SELECT error_message FROM webhook_logs WHERE webhook_type = 'refused'")
        return {"mismatch", "missing", "BodyTooLarge"} <= {row["error_message"] for row in rows}

    await until(are_told)


@pytest.mark.system("4.6")
async def test_a_body_of_another_shape_is_kept_and_told_as_far_as_it_can_be(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    odd = webhook("BOOKING_CREATED", {"uid": "odd", "title": 5, "startTime": "soon", "attendees": "ada@example.com"})
    await deliver_all(http, odd)
    await until_current(models)
    row = await models.fetchrow("SELECT status, title, start_time FROM calendar_events WHERE cal_com_event_id = 'odd'")
    assert row is not None
    assert tuple(row) == ("scheduled", None, None)
