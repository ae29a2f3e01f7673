"""The pet salon (SYSTEMS.md 3.x): its tables, its queries word for word, and its visits."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from ledger.calcom.signature import sign
from ledger.settings import load_settings
from tests.builders import NOON, instant, meeting, minutes, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    serving,
    speaking_to,
    until,
    until_current,
)

ENDPOINT = "/api/webhooks/calcom"
LAST_EVENT = "SELECT * FROM calendar_events ORDER BY created_at DESC LIMIT 1"
LAST_LOGS = "SELECT * FROM webhook_logs ORDER BY created_at DESC LIMIT 10"
ALL_ERRORS = "SELECT * FROM webhook_logs WHERE status = 'error' ORDER BY created_at DESC"
# 3.13 and 3.15, word for word.
SUCCESS_RATE = (
    "SELECT status, COUNT(*), ROUND(COUNT(*)*100.0/SUM(COUNT(*)) OVER(),2) percentage FROM webhook_logs "
    "WHERE created_at > NOW() - INTERVAL '24 hours' GROUP BY status"
)
SYNC_LAG = (
    "SELECT cal_com_event_id, created_at, synced_at, EXTRACT(EPOCH FROM (synced_at - created_at)) lag_seconds "
    "FROM calendar_events ORDER BY created_at DESC LIMIT 10"
)
PROCESSING_TIME = (
    "SELECT count(*), min(duration_ms), avg(duration_ms), max(duration_ms), "
    "count(*) FILTER (WHERE duration_ms < 1000) AS within_a_second FROM webhook_logs"
)
COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1"
)


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


def visit(
    uid: str, *, start: datetime = NOON, at: datetime | None = None, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A bath of half an hour, booked through the embed that sends `metadata[barkbookClientId]`."""
    payload = {
        "uid": uid,
        "title": "Kąpiel",
        "startTime": instant(start),
        "endTime": instant(start + timedelta(minutes=30)),
        "attendees": [{"email": "Ola@example.com", "name": "Ola", "phoneNumber": "+48225550101"}],
        "metadata": metadata or {},
    }
    return webhook("BOOKING_CREATED", payload, at=at or start - timedelta(days=2))


def owned(client: str, pet: str, salon: str = "salon-1") -> Mapping[str, str]:
    """What the salon's embed sends along."""
    return {"barkbookClientId": client, "barkbookPetId": pet, "barkbookSalonId": salon, "source": "barkbook-embed"}


@pytest.mark.system("3.1", "3.2")
async def test_its_four_events_make_a_pets_history_without_asking_cal_com(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, CAL_COM_API_KEY="") as server:
        async with speaking_to(server) as http, connected(durable_database) as connection:
            ended = meeting(
                "MEETING_ENDED", {"uid": "ended", "startTime": instant(NOON), "endTime": instant(minutes(30))}
            )
            moved = {"uid": "moved-2", "rescheduleUid": "moved-1", "rescheduleId": 4, "startTime": instant(minutes(90))}
            for body in (
                visit("ended", metadata=owned("c1", "rex")),
                ended,
                visit("gone", start=minutes(60), metadata=owned("c1", "rex")),
                webhook("BOOKING_CANCELLED", {"uid": "gone"}, at=minutes(-30)),
                visit("moved-1", start=minutes(70), metadata=owned("c1", "rex")),
                webhook("BOOKING_RESCHEDULED", moved, at=minutes(-20)),
                visit("of another pet", metadata=owned("c1", "mia")),
            ):
                assert (await deliver(http, body, path=ENDPOINT)).status_code == 200
            await until_current(connection)
            history = (await http.get("/api/bookings", params={"pet": "rex"})).json()["bookings"]
            words = await connection.fetch("SELECT cal_com_event_id, visit_status FROM status_words")
    told = {row["cal_com_event_id"]: row["visit_status"] for row in words}
    assert [(one["cal_com_event_id"], told[one["cal_com_event_id"]]) for one in history] == [
        ("ended", "completed"),
        ("gone", "cancelled"),
        ("moved-1", "rescheduled"),
        ("moved-2", "scheduled"),
    ]


def lines_about(server: Server, uid: str) -> list[dict[str, object]]:
    """What the server logged of a booking; before it logs in JSON it prints other lines."""
    lines = [msgspec.json.decode(line) for line in server.printed().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("booking") == uid]


@pytest.fixture
def talkative_server(durable_database: str, tmp_path: Path) -> Iterator[Server]:
    with serving(durable_database, tmp_path, LOG_LEVEL="info", LOG_FORMAT="json") as server:
        yield server


async def logged(server: Server) -> tuple[dict[str, object], dict[str, object]]:
    """The answer to a delivery and the line in the log that it left."""
    async with speaking_to(server) as http:
        answer = (await deliver(http, visit("logged", metadata=owned("c1", "rex")))).json()

        async def is_logged() -> bool:
            return bool(lines_about(server, "logged"))

        await until(is_logged)
    [line] = lines_about(server, "logged")
    return answer, line


@pytest.mark.system("1.6", "2.9", "3.3")
async def test_the_log_tells_trigger_booking_and_duration_of_a_delivery_and_nothing_of_its_content(
    talkative_server: Server,
) -> None:
    answer, line = await logged(talkative_server)
    assert "webhook" in str(line["event"])
    assert (line["trigger"], line["position"]) == ("BOOKING_CREATED", answer["position"])
    assert isinstance(line["duration_ms"], int | float)
    secrets = (talkative_server.secret, talkative_server.key)
    for content in ("Kąpiel", "ola@example.com", "48225550101", "rex", *secrets):
        assert content not in talkative_server.printed()


@pytest.mark.system("3.3")
async def test_the_log_tells_the_id_of_the_event_that_a_delivery_became(talkative_server: Server) -> None:
    answer, line = await logged(talkative_server)
    assert line.get("event_id") == answer["event_id"]


@pytest.mark.system("3.4")
async def test_calendar_events_has_the_salons_columns(models: asyncpg.Connection) -> None:
    columns = {row["column_name"]: row["data_type"] for row in await models.fetch(COLUMNS, "calendar_events")}
    texts = (
        *("cal_com_event_id", "salon_id", "client_id", "pet_id", "title", "description", "status"),
        *("attendee_email", "attendee_phone", "location", "meeting_url"),
    )
    moments = ("start_time", "end_time", "created_at", "updated_at", "synced_at")
    expected = {
        "id": "uuid",
        "duration_minutes": "integer",
        **dict.fromkeys(texts, "text"),
        **dict.fromkeys(moments, "timestamp with time zone"),
    }
    assert expected.items() <= columns.items()


@pytest.mark.system("3.5")
async def test_webhook_logs_has_the_salons_columns(models: asyncpg.Connection) -> None:
    columns = {row["column_name"]: row["data_type"] for row in await models.fetch(COLUMNS, "webhook_logs")}
    texts = ("webhook_type", "status", "error_message", "cal_com_event_id")
    expected = {
        "id": "uuid",
        "payload": "jsonb",
        "created_at": "timestamp with time zone",
        **dict.fromkeys(texts, "text"),
    }
    assert expected.items() <= columns.items()


@pytest.mark.system("3.6")
async def test_the_embeds_metadata_link_client_pet_and_salon_and_go_along_with_a_reschedule(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    moved = {"uid": "linked-2", "rescheduleUid": "linked-1", "rescheduleId": 6, "startTime": instant(minutes(90))}
    await deliver_all(
        http,
        visit("linked-1", metadata=owned("c7", "p7", "s7")),
        webhook("BOOKING_RESCHEDULED", moved, at=minutes(-60)),
        webhook("BOOKING_CANCELLED", {"uid": "linked-2"}, at=minutes(-50)),
        visit("unlinked"),
    )
    await until_current(models)
    rows = await models.fetch(
        "SELECT cal_com_event_id, client_id, pet_id, salon_id, metadata->>'source', status FROM calendar_events "
        "WHERE cal_com_event_id IN ('linked-1', 'linked-2', 'unlinked') ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [
        ("linked-1", "c7", "p7", "s7", "barkbook-embed", "rescheduled"),
        ("linked-2", "c7", "p7", "s7", "barkbook-embed", "cancelled"),
        ("unlinked", None, None, None, None, "scheduled"),
    ]


@pytest.mark.system("3.7")
async def test_the_salons_samples_of_a_reschedule_and_a_cancellation_change_the_one_row(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    times = {"startTime": instant(minutes(1_440)), "endTime": instant(minutes(1_485))}
    told = []
    for body in (
        visit("sampled", at=datetime(2020, 1, 1, tzinfo=UTC), metadata=owned("c8", "p8")),
        webhook("BOOKING_RESCHEDULED", {"uid": "sampled", **times}, at=None),
        webhook("BOOKING_CANCELLED", {"uid": "sampled", "status": "CANCELLED"}, at=None),
    ):
        await deliver_all(http, body)
        await until_current(models)
        rows = await models.fetch(
            "SELECT status, start_time, duration_minutes, pet_id FROM calendar_events "
            "WHERE root_uid = 'sampled' OR cal_com_event_id = 'sampled'"
        )
        told.append([tuple(row) for row in rows])
    assert told == [
        [("scheduled", NOON, 30, "p8")],
        [("scheduled", minutes(1_440), 45, "p8")],
        [("cancelled", minutes(1_440), 45, "p8")],
    ]


# Its queries


@pytest.mark.system("3.8", "3.13", "3.14", "3.15")
async def test_the_salons_queries_are_answered_as_written(server: Server) -> None:
    begun = time.perf_counter()
    happened = datetime.now(UTC).replace(microsecond=0)
    recent = [visit(f"visit-{number}", at=happened - timedelta(seconds=30 - number)) for number in range(12)]
    async with speaking_to(server) as http, connected(server.dsn) as connection:
        await deliver_all(http, *recent, b"false")
        await deliver_all(http, recent[0], recent[1])  # repeats
        assert (await http.post(ENDPOINT, content=recent[0])).status_code == 401

        async def is_all_logged() -> bool:
            return bool(await connection.fetchval("SELECT count(*) = 16 FROM webhook_logs"))

        await until(is_all_logged)
        await until_current(connection)
        elapsed_ms = (time.perf_counter() - begun) * 1_000

        [last] = await connection.fetch(LAST_EVENT)
        assert (last["cal_com_event_id"], last["title"]) == ("visit-11", "Kąpiel")
        logs = await connection.fetch(LAST_LOGS)
        kinds = [(row["webhook_type"], row["status"], row["duplicate"]) for row in logs[:4]]
        assert kinds == [
            ("refused", "error", False),
            ("BOOKING_CREATED", "success", True),
            ("BOOKING_CREATED", "success", True),
            ("unrecognised", "error", False),
        ]
        assert [row["cal_com_event_id"] for row in logs[4:]] == [f"visit-{number}" for number in range(11, 5, -1)]
        errors = await connection.fetch(ALL_ERRORS)
        assert [row["error_message"] for row in errors] == ["missing", "not a JSON object"]

        rates = {row["status"]: (row["count"], row["percentage"]) for row in await connection.fetch(SUCCESS_RATE)}
        assert rates == {"success": (14, Decimal("87.50")), "error": (2, Decimal("12.50"))}

        [timed] = await connection.fetch(PROCESSING_TIME)
        assert timed["count"] == 16
        assert 0 < timed["min"] <= timed["avg"] <= timed["max"] <= elapsed_ms
        assert 0 < timed["within_a_second"] <= 16

        lags = await connection.fetch(SYNC_LAG)
        assert [row["cal_com_event_id"] for row in lags] == [f"visit-{number}" for number in range(11, 1, -1)]
        now = datetime.now(UTC)
        for number, row in zip(range(11, 1, -1), lags, strict=True):
            assert row["created_at"] == happened - timedelta(seconds=30 - number)
            assert happened <= row["synced_at"] <= now
            assert float(row["lag_seconds"]) == pytest.approx((row["synced_at"] - row["created_at"]).total_seconds())


@pytest.mark.system("3.9")
async def test_what_the_salon_knew_as_errors_is_told_and_loses_nothing(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    without_salon = visit("nobodys", metadata={"source": "barkbook-embed"})
    ids = [(await deliver(http, body)).json()["event_id"] for body in (b"{]", without_salon, without_salon)]
    await until_current(models)
    logged = await models.fetch(
        "SELECT status, error_message LIKE 'Invalid payload%' AS is_invalid, payload IS NULL FROM webhook_logs "
        "WHERE id = ANY($1::uuid[]) ORDER BY created_at",
        ids,
    )
    assert [tuple(row) for row in logged] == [("error", True, True), ("success", None, False)]
    row = await models.fetchrow(
        "SELECT client_id, pet_id, salon_id, status FROM calendar_events WHERE cal_com_event_id = 'nobodys'"
    )
    assert row is not None
    assert tuple(row) == (None, None, None, "scheduled")
    twice = "SELECT cal_com_event_id FROM calendar_events GROUP BY cal_com_event_id HAVING count(*) > 1"
    assert await models.fetch(twice) == []


@pytest.mark.system("3.10", "3.16")
async def test_today_a_pets_past_and_a_salons_week_are_lists_and_tomorrows_have_a_telephone(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    day = timedelta(days=1)
    for number, (pet, salon) in ((-9, ("bo", "s9")), (0, ("bo", "s9")), (1, ("cy", "s9")), (2, ("bo", "s8"))):
        await deliver_all(http, visit(f"day{number}", start=NOON + number * day, metadata=owned("c9", pet, salon)))
    await until_current(models)
    midnight = NOON - timedelta(hours=12)

    async def listed(**parameters: str) -> list[str]:
        answer = await http.get("/api/bookings", params={"client": "c9", **parameters})
        return [booking["cal_com_event_id"] for booking in answer.json()["bookings"]]

    assert await listed(**{"from": instant(midnight), "to": instant(midnight + day)}) == ["day0"]
    assert await listed(pet="bo", to=instant(midnight)) == ["day-9"]
    assert await listed(salon="s9", **{"from": instant(midnight), "to": instant(midnight + 7 * day)}) == [
        "day0",
        "day1",
    ]
    tomorrow = await models.fetch(
        "SELECT cal_com_event_id, attendee_phone FROM calendar_events "
        "WHERE client_id = 'c9' AND status IN ('scheduled', 'confirmed') AND start_time >= $1 AND start_time < $2",
        midnight + day,
        midnight + 2 * day,
    )
    assert [tuple(row) for row in tomorrow] == [("day1", "+48225550101")]


@pytest.mark.system("3.11")
async def test_its_header_and_its_name_for_the_secret_are_understood_over_the_raw_body(
    durable_database: str, tmp_path: Path
) -> None:
    assert [one.reveal() for one in load_settings({"CALCOM_WEBHOOK_SECRET": "alone"}).webhook_secrets] == [b"alone"]
    with serving(durable_database, tmp_path, CALCOM_WEBHOOK_SECRET="of the salon") as server:
        async with speaking_to(server) as http:
            body = visit("raw").replace(b'"title":', b'"title" :  ')
            right = {"x-cal-signature": sign(body, b"of the salon")}
            assert (await http.post(ENDPOINT, content=body, headers=right)).status_code == 200
            anew = msgspec.json.encode(msgspec.json.decode(body))
            assert_is_problem(await http.post(ENDPOINT, content=anew, headers=right), 401)
