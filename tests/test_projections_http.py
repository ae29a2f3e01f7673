"""Projections from outside: the commands and routes of an admin, on a real server with a real worker."""

import re
from collections.abc import AsyncIterator

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from tests.builders import webhook
from tests.serving import Server, connected, deliver_all, run, speaking_to, until, until_current

BOOKINGS = 60


@pytest_asyncio.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(server) as client, connected(server.dsn) as connection:
        await deliver_all(client, *(webhook("BOOKING_CREATED", {"uid": f"u{n}"}) for n in range(BOOKINGS)))
        await until_current(connection)
        yield client


async def followed(http: httpx.AsyncClient, name: str) -> list[dict[str, object]]:
    """Every progress that was told until the rebuild had ended."""
    async with http.stream("GET", f"/api/admin/projections/{name}/progress") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [
            msgspec.json.decode(line.removeprefix("data: "))
            async for line in answer.aiter_lines()
            if line.startswith("data: ")
        ]


async def test_a_rebuild_asked_for_over_http_is_done_by_the_worker_and_can_be_followed(
    http: httpx.AsyncClient, server: Server
) -> None:
    answer = await http.post("/api/admin/projections/calendar_events/rebuild")
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["generation"]) == ("building", 2)
    told = await followed(http, "calendar_events")
    assert (told[-1]["state"], told[-1]["events_done"], told[-1]["events_total"]) == ("live", BOOKINGS, BOOKINGS)
    overview = (await http.get("/api/admin/projections")).json()
    generations = {row["projection"]: row["generation"] for row in overview["projections"]}
    assert generations["calendar_events"] == 2
    assert generations["webhook_logs"] == 1
    async with connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM calendar_events") == BOOKINGS


async def test_a_second_rebuild_at_once_is_a_conflict_and_one_of_nothing_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/admin/projections/nothing/rebuild")).status_code == 404
    assert (await http.get("/api/admin/projections/nothing/progress")).status_code == 404
    assert (await http.post("/api/admin/projections/sync_lag/cancel")).status_code == 404
    assert (await http.post("/api/admin/projections/sync_lag/rebuild")).status_code == 202
    again = await http.post("/api/admin/projections/sync_lag/rebuild")
    done = (await followed(http, "sync_lag"))[-1]
    assert again.status_code == 409, "or it was live already"
    assert done["state"] == "live"


async def test_a_paused_projection_falls_behind_and_catches_up_when_it_goes_on(
    http: httpx.AsyncClient, server: Server
) -> None:
    paused = (await http.post("/api/admin/projections/calendar_events/pause")).json()
    assert paused == {"projection": "calendar_events", "paused": True, "applies_to": "live"}
    await deliver_all(http, webhook("BOOKING_CREATED", {"uid": "late"}))
    async with connected(server.dsn) as connection:

        async def others_are_current() -> bool:
            row = await connection.fetchrow(
                "SELECT lag_events, state FROM projection_status WHERE projection = 'webhook_logs'"
            )
            return row is not None and row["lag_events"] == 0

        await until(others_are_current)
        query = "SELECT lag_events, state FROM projection_status WHERE projection = 'calendar_events'"
        row = await connection.fetchrow(query)
        assert row is not None
        assert tuple(row) == (1, "paused")
        resumed = (await http.post("/api/admin/projections/calendar_events/resume")).json()
        assert resumed["paused"] is False
        await until_current(connection)
        assert await connection.fetchval("SELECT count(*) FROM calendar_events") == BOOKINGS + 1


@pytest.mark.usefixtures("http")
async def test_the_command_rebuilds_with_progress_and_says_how_it_went(server: Server) -> None:
    done = run("projections", "rebuild", "calendar_events", DATABASE_URL=server.dsn)
    assert done.returncode == 0, done.stderr
    assert re.search(r"generation 2 is live: 60 events in .* swapped in \d+ ms", done.stdout), done.stdout
    assert "Rebuilding calendar_events: 60 of 60" in done.stderr
    as_json = run("projections", "rebuild", "booking_attendees", "--json", DATABASE_URL=server.dsn)
    assert msgspec.json.decode(as_json.stdout)["state"] == "live"
    assert run("projections", "rebuild", "nothing", DATABASE_URL=server.dsn).returncode == 2


@pytest.mark.usefixtures("http")
async def test_the_commands_tell_status_and_lag(server: Server) -> None:
    status = run("projections", "status", DATABASE_URL=server.dsn)
    assert status.returncode == 0
    assert re.search(r"main\s+calendar_events\s+1\s+60\s+0\s+0\s+running", status.stdout), status.stdout
    lag = msgspec.json.decode(run("projections", "lag", "--json", DATABASE_URL=server.dsn).stdout)
    assert {row["lag_events"] for row in lag} == {0}
    told = msgspec.json.decode(run("projections", "status", "--json", DATABASE_URL=server.dsn).stdout)
    assert {row["projection"] for row in told["projections"]} == {row["projection"] for row in lag}


async def test_parked_events_are_listed_retried_and_skipped(http: httpx.AsyncClient, server: Server) -> None:
    async with connected(server.dsn) as connection:
        await park(connection, 3, 4, 5)
        listed = (await http.get("/api/admin/parked")).json()["parked"]
        assert (await http.get("/api/admin/parked", params={"projection": "a\x00b"})).status_code == 400
        assert [(row["projection"], row["position"], row["error"]) for row in listed] == [
            ("calendar_events", position, "ValueError: made up") for position in (3, 4, 5)
        ]
        assert run("projections", "parked", DATABASE_URL=server.dsn).returncode == 1
        retried = (await http.post("/api/admin/parked/calendar_events/retry", json={"positions": [3]})).json()
        assert retried == {"applied": [3], "failed": []}
        skipped = (await http.post("/api/admin/parked/calendar_events/skip", json={"positions": [4, 9]})).json()
        assert skipped == {"skipped": [4]}
        assert await connection.fetchval("SELECT sum(parked) FROM projection_status") == 1
        by_command = run("projections", "retry", "calendar_events", DATABASE_URL=server.dsn)
        assert (by_command.returncode, by_command.stdout) == (0, "1 applied, 0 failed again.\n")
        left = run("projections", "parked", DATABASE_URL=server.dsn)
        assert (left.returncode, left.stdout) == (0, "4 calendar_events booking-u3: ValueError: made up (skipped)\n")
        assert await connection.fetchval("SELECT count(*) FROM calendar_events") == BOOKINGS


async def park(connection: asyncpg.Connection, *positions: int) -> None:
    """These events count as parked, as if `calendar_events` had not been able to apply them."""
    await connection.execute(
        """
        INSERT INTO projections.parked_events
            (ledger_id, projection, generation, position, stream_id, error, attempts)
        SELECT 1, 'calendar_events', 1, e.position, e.stream_id, 'ValueError: made up', 3
        FROM ledger.events AS e WHERE e.position = ANY($1)
        """,
        list(positions),
    )
