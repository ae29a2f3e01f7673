"""Errors as problem documents (RFC 9457): every one of ours, and over HTTP every status that a caller can meet."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from litestar.exceptions import HTTPException

from api.problems import STATUS_OF, problem_of
from ledger import errors
from tests.builders import NOON, webhook
from tests.serving import (
    KEY,
    SECRET,
    SIGNATURE,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    postgres_away,
    serving,
    signed,
    speaking_to,
    until,
)

BODY = webhook("BOOKING_CREATED", {"uid": "one", "title": "Rosebud", "attendees": [{"email": "ada@example.com"}]})

EXAMPLES: dict[errors.BookingLedgerError, int] = {
    errors.SignatureRefused("mismatch"): 401,
    errors.SecretMissing(): 503,
    errors.BodyTooLarge(body_bytes_max=1_048_576): 413,
    errors.EncodingUnsupported(): 415,
    errors.TooManyTries("deliveries", wait_seconds=60): 429,
    errors.NotFound("booking x"): 404,
    errors.NotLinkable(UUID(int=1), "it names its booking itself"): 409,
    errors.BadParameter("limit", "is a number"): 400,
    errors.VersionConflict("booking-x", expected=1, actual=2): 409,
    errors.AppenderFull(waited_seconds=5): 503,
    errors.StoreUnavailable("ConnectionError"): 503,
    errors.SpoolRefused("it has no room left"): 503,
    errors.SpoolUnusable(Path("/nowhere"), "No such file or directory"): 503,
    errors.ServerUnreachable("connection refused"): 503,
}


@pytest_asyncio.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(server) as client:
        yield client


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_of_ours_has_its_status_and_its_own_sentence(error: errors.BookingLedgerError) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.detail) == (EXAMPLES[error], str(error))


def test_every_error_of_ours_says_something_and_has_a_status() -> None:
    assert set(STATUS_OF.values()) <= {400, 401, 404, 409, 413, 415, 429, 503}
    assert all(str(error).endswith((".", "migrate", "release")) for error in EXAMPLES)


def test_an_error_that_is_not_ours_reveals_nothing() -> None:
    problem = problem_of(RuntimeError("password=hunter2"))
    assert problem.status == 500
    assert "hunter2" not in problem.detail


def test_the_frameworks_errors_keep_their_status() -> None:
    assert problem_of(HTTPException(detail="No.", status_code=418)).status == 418


# Over HTTP


async def test_what_a_caller_asks_wrongly_is_answered_with_a_problem(http: httpx.AsyncClient) -> None:
    assert "limit" in assert_is_problem(await http.get("/api/bookings", params={"limit": "many"}), 400)
    assert "status" in assert_is_problem(await http.get("/api/bookings", params={"status": "lost"}), 400)
    assert "nobody" in assert_is_problem(await http.get("/api/bookings/nobody"), 404)
    assert_is_problem(await http.get("/api/nothing/here"), 404)
    assert_is_problem(await http.get("/"), 404)
    wrong_method = await http.delete("/api/bookings")
    assert_is_problem(wrong_method, 405)
    assert "GET" in wrong_method.headers["allow"]


async def test_a_refused_caller_is_told_which_header_to_send(http: httpx.AsyncClient) -> None:
    refused = await http.get("/api/bookings", headers={"authorization": "Bearer wrong"})
    assert "Authorization: Bearer" in assert_is_problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_refused_delivery_is_told_what_is_wrong_with_its_signature(http: httpx.AsyncClient) -> None:
    assert "no X-Cal-Signature-256" in assert_is_problem(await http.post(WEBHOOK, content=BODY), 401)
    without_secret = await http.post(WEBHOOK, content=BODY, headers={SIGNATURE: "no-secret-provided"})
    assert "set one on the webhook in Cal.com" in assert_is_problem(without_secret, 401)
    assert_is_problem(await http.post(WEBHOOK, content=b" " * 1_048_577, headers=signed(b"")), 413)


async def test_without_a_secret_every_delivery_is_answered_503_and_the_setting_is_named(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="") as server:
        async with speaking_to(server, key=None) as http, connected(durable_database) as log:
            for headers in (signed(BODY), signed(BODY, ""), {SIGNATURE: "no-secret-provided"}, {}):
                answer = await http.post(WEBHOOK, content=BODY, headers=headers)
                assert "CAL_COM_WEBHOOK_SECRET" in assert_is_problem(answer, 503)
                assert int(answer.headers["retry-after"]) > 0
            assert (await http.get(WEBHOOK)).json()["secret_configured"] is False
            assert await log.fetchval("SELECT count(*) FROM ledger.events") == 0


async def test_while_postgres_is_away_all_but_cal_com_are_told_to_come_again_and_then_it_is_as_before(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    cancelled = webhook("BOOKING_CANCELLED", {"uid": "one"}, at=NOON + timedelta(hours=1))
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(durable_cluster) as admin:
            await deliver_all(http, BODY)
            async with postgres_away(admin, durable_database):
                kept = await deliver(http, cancelled)
                assert (kept.status_code, kept.json()) == (202, {"status": "spooled"})
                for answer in await asyncio.gather(http.get("/api/bookings"), http.get("/api/bookings/one")):
                    assert_is_problem(answer, 503)
                    assert int(answer.headers["retry-after"]) > 0

            async def is_cancelled() -> bool:
                answer = await http.get("/api/bookings/one")
                return answer.status_code == 200 and answer.json()["booking"]["status"] == "cancelled"

            await until(is_cancelled)


async def test_an_unknown_trigger_is_told_so_where_that_is_wished_also_while_it_is_kept_in_the_spool(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, STRICT_EVENTS="true") as server:
        async with speaking_to(server) as http, connected(durable_cluster) as admin:
            async with postgres_away(admin, durable_database):
                answer = await deliver(http, webhook("BOOKING_SNEEZED", {"uid": "one"}))
                assert "The delivery was kept" in assert_is_problem(answer, 400)

            async def is_drained() -> bool:
                return bool(await log.fetchval("SELECT count(*) = 1 FROM ledger.events"))

            async with connected(durable_database) as log:
                await until(is_drained)


async def test_an_accident_of_ours_reveals_nothing_to_the_caller_and_no_person_or_secret_to_the_log(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path, LOG_LEVEL="debug") as server:
        async with speaking_to(server) as http, connected(durable_database) as connection:
            await deliver_all(http, BODY)
            await connection.execute("ALTER VIEW projections.booking_attendees RENAME TO elsewhere")
            answer = await http.get("/api/bookings", params={"attendee": "ada@example.com", "text": "Rosebud"})
            detail = assert_is_problem(answer, 500)
            assert "booking_attendees" not in detail
        printed = server.printed()
    assert "request_failed" in printed
    told = [word for word in (KEY, SECRET, "ada@example.com", "Rosebud", signed(BODY)[SIGNATURE]) if word in printed]
    assert told == []
