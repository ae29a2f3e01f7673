"""Meetings (SYSTEMS.md 2.x): its words for a status, its tables, and what it does without a secret."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from ledger.calcom.envelope import booking_stream
from ledger.settings import load_settings
from ledger.store import NewEvent, append
from tests.builders import MAIN, NOON, instant, meeting, minutes, people, webhook
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
    until,
    until_current,
)

TIMES = {"startTime": instant(NOON), "endTime": instant(minutes(45))}
LATER_TIMES = {"startTime": instant(minutes(1_440)), "endTime": instant(minutes(1_485))}
MEETING = 'SELECT status, start, "end" FROM meetings WHERE cal_event_id = $1'


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


Step = tuple[str, Mapping[str, object]]


def about(uid: str, *steps: Step) -> list[bytes]:
    """Deliveries about one booking, ten minutes apart."""
    return [
        webhook(trigger, {"uid": uid, **fields}, at=minutes(number * 10 - 600))
        for number, (trigger, fields) in enumerate(steps)
    ]


def marked(uid: str, *, absent: bool = True, at: float = 50) -> bytes:
    attendees = [{"email": "ada@example.com", "noShow": absent}]
    return webhook("BOOKING_NO_SHOW_UPDATED", {"bookingUid": uid, "attendees": attendees}, at=minutes(at))


def unmarked(uid: str) -> bytes:
    return marked(uid, absent=False, at=55)


CREATED: Step = ("BOOKING_CREATED", {**TIMES, "attendees": people("ada@example.com")})
REQUESTED: Step = ("BOOKING_REQUESTED", {**TIMES, "status": "PENDING"})

WORDS: dict[str, tuple[Sequence[bytes], str]] = {
    "created": (about("created", CREATED), "scheduled"),
    "requested": (about("requested", REQUESTED), "scheduled"),
    "cancelled": (about("cancelled", CREATED, ("BOOKING_CANCELLED", {})), "cancelled"),
    "rejected": (about("rejected", REQUESTED, ("BOOKING_REJECTED", {})), "cancelled"),
    "ended": ([*about("ended", CREATED), meeting("MEETING_ENDED", {"uid": "ended", **TIMES})], "completed"),
    "paid": (about("paid", ("BOOKING_PAYMENT_INITIATED", TIMES), ("BOOKING_PAID", TIMES)), "scheduled"),
    "absent": ([*about("absent", CREATED), marked("absent")], "no_show"),
    "unmarked": ([*about("unmarked", CREATED), marked("unmarked"), unmarked("unmarked")], "completed"),
    "came": ([*about("came", CREATED), unmarked("came")], "completed"),
}


@pytest.mark.system("2.2", "2.3")
@pytest.mark.parametrize("uid", WORDS)
async def test_a_meeting_has_the_status_that_its_triggers_mean(
    http: httpx.AsyncClient, models: asyncpg.Connection, uid: str
) -> None:
    bodies, word = WORDS[uid]
    await deliver_all(http, *bodies)
    await until_current(models)
    row = await models.fetchrow(MEETING, uid)
    assert row is not None
    assert tuple(row) == (word, NOON, minutes(45))


@pytest.mark.system("2.2")
async def test_a_rescheduled_meeting_is_scheduled_anew_with_its_new_times(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    moved = {**LATER_TIMES, "rescheduleUid": "moved-1", "rescheduleId": 1}
    await deliver_all(
        http,
        *about("moved-1", CREATED),
        webhook("BOOKING_RESCHEDULED", {"uid": "moved-2", **moved}, at=minutes(-500)),
        *about("stays", CREATED, ("BOOKING_RESCHEDULED", LATER_TIMES)),
    )
    await until_current(models)
    told = {uid: await models.fetchrow(MEETING, uid) for uid in ("moved-1", "moved-2", "stays")}
    assert {uid: row and tuple(row) for uid, row in told.items()} == {
        "moved-1": ("rescheduled", NOON, minutes(45)),
        "moved-2": ("scheduled", minutes(1_440), minutes(1_485)),
        "stays": ("scheduled", minutes(1_440), minutes(1_485)),
    }


@pytest.mark.system("2.2")
async def test_a_meeting_that_the_api_shows_and_nobody_has_marked_is_still_to_come(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    await deliver_all(http, *about("seen", CREATED))
    attendee = {"email": "ada@example.com", "name": "Ada", "timeZone": "Europe/Rome", "absent": False}
    seen = {"uid": "seen", "status": "accepted", "start": TIMES["startTime"], "end": TIMES["endTime"]}
    observed = NewEvent(
        event_id=uuid4(),
        stream_id=booking_stream("seen"),
        topic="calcom.observed",
        body=msgspec.json.encode({**seen, "attendees": [attendee]}),
        occurred_at=minutes(-300),
        source="reconcile",
    )
    await append(models, MAIN, [observed])
    await until_current(models)
    assert await models.fetchval("SELECT status FROM meetings WHERE cal_event_id = 'seen'") == "scheduled"


@pytest.mark.system("2.3", "2.9")
async def test_every_event_is_in_webhook_events_whatever_it_means(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    bodies = [
        webhook("BOOKING_CREATED", {"uid": "audited"}, at=minutes(1)),
        webhook("PING", {"title": "Test trigger event"}, at=minutes(2)),
        webhook("BOOKING_RATED", {"uid": "audited"}, at=minutes(3)),
        b"false",
    ]
    ids = [(await deliver(http, body)).json()["event_id"] for body in bodies]
    await until_current(models)
    rows = await models.fetch(
        "SELECT event_type, cal_event_id, processed, payload->>'triggerEvent', received_at IS NOT NULL "
        "FROM webhook_events WHERE id = ANY($1::uuid[]) ORDER BY received_at",
        ids,
    )
    assert [tuple(row) for row in rows] == [
        ("BOOKING_CREATED", "audited", True, "BOOKING_CREATED", True),
        ("PING", None, True, "PING", True),
        ("BOOKING_RATED", "audited", True, "BOOKING_RATED", True),
        ("unrecognised", None, False, None, True),
    ]


@pytest.mark.system("2.1")
async def test_the_older_path_leads_nowhere(http: httpx.AsyncClient) -> None:
    body = about("astray", CREATED)[0]
    assert_is_problem(await deliver(http, body, path="/webhooks/cal-events"), 404)
    assert_is_problem(await http.get("/api/bookings/astray"), 404)
    assert (await deliver(http, body, path="/api/webhooks/cal-com")).status_code == 200


@pytest.mark.system("2.4")
async def test_the_secret_for_production_is_good_and_no_api_key_is_needed(
    durable_database: str, tmp_path: Path
) -> None:
    assert [one.reveal() for one in load_settings({"CAL_COM_WEBHOOK_SECRET_PROD": "alone"}).webhook_secrets] == [
        b"alone"
    ]
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET_PROD="for production") as server:
        async with speaking_to(server) as http:
            body = about("in-production", CREATED)[0]
            assert (await http.post(WEBHOOK, content=body, headers=signed(body, "for production"))).status_code == 200
            assert_is_problem(await http.post(WEBHOOK, content=body, headers=signed(body, "")), 401)


@pytest.mark.system("2.4")
async def test_without_any_secret_nothing_is_taken_on_trust(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="") as server:
        async with speaking_to(server) as http, connected(durable_database) as connection:
            body = about("unproven", CREATED)[0]
            for headers in ({}, signed(body, ""), {SIGNATURE: "no-secret-provided"}):
                answer = await http.post(WEBHOOK, content=body, headers=headers)
                assert "CAL_COM_WEBHOOK_SECRET" in assert_is_problem(answer, 503)
            assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 0


@pytest.mark.system("2.7")
async def test_the_body_of_the_test_curl_is_recorded_once_it_is_signed(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"test-of-2-7"}}'
    assert_is_problem(await http.post(WEBHOOK, content=body), 401)
    assert (await deliver(http, body)).json()["status"] == "recorded"
    await until_current(models)
    row = await models.fetchrow("SELECT status, start, title FROM meetings WHERE cal_event_id = 'test-of-2-7'")
    assert row is not None
    assert tuple(row) == ("scheduled", None, None)


@pytest.mark.system("2.8")
async def test_a_delivery_about_a_meeting_that_nobody_knows_is_kept_with_the_name_it_gave(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    event_id = (await deliver(http, marked("never-created"))).json()["event_id"]
    await until_current(models)
    row = await models.fetchrow("SELECT cal_event_id, processed FROM webhook_events WHERE id = $1::uuid", event_id)
    assert row is not None
    assert tuple(row) == ("never-created", True)
    assert await models.fetchval("SELECT status FROM meetings WHERE cal_event_id = 'never-created'") == "no_show"


@pytest.mark.system("2.8")
async def test_a_signature_that_fails_is_in_the_logs_with_its_reason(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    body = about("mismatched", CREATED)[0]
    assert_is_problem(await http.post(WEBHOOK, content=body, headers=signed(body, "of .env.local")), 401)

    async def is_told() -> bool:
        rows = await models.fetch("SELECT status, payload FROM webhook_logs WHERE error_message = 'mismatch'")
        return [tuple(row) for row in rows] == [("error", None)]

    await until(is_told)
