"""Deliveries over HTTP and by command, a server and its worker running: the list, and reading them again."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.builders import minutes, people, webhook
from tests.rebuilding import assert_same, filled, read_models
from tests.serving import (
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    run,
    speaking_to,
    until,
    until_current,
)

LIST = "/api/admin/deliveries"
REPROCESS = "/api/admin/deliveries/reprocess"
CREATED = webhook("BOOKING_CREATED", {"uid": "a", "title": "Bath", "attendees": people("ada@example.com")})
CANCELLED = webhook("BOOKING_CANCELLED", {"uid": "a"}, at=minutes(1))
OTHER = webhook("BOOKING_CREATED", {"uid": "b", "title": "Clip"})


@pytest_asyncio.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(server) as client:
        yield client


@pytest_asyncio.fixture
async def table(server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(server.dsn) as connection:
        yield connection


async def listed(http: httpx.AsyncClient, **params: object) -> list[dict[str, Any]]:
    answer = await http.get(LIST, params={key: str(value) for key, value in params.items()})
    assert answer.status_code == 200, answer.text
    deliveries: list[dict[str, Any]] = answer.json()["deliveries"]
    return deliveries


async def spoil(table: asyncpg.Connection) -> None:
    """The rows are as a decoder of before might have made them."""
    await until_current(table)
    await table.execute("UPDATE projections.calendar_events SET title = 'Bad' WHERE cal_com_event_id = 'a'")
    await table.execute(
        "UPDATE projections.webhook_logs SET status = 'error', error_message = 'old' WHERE position = 1"
    )


# The list


async def test_what_went_wrong_comes_first_then_the_latest(http: httpx.AsyncClient, table: asyncpg.Connection) -> None:
    await deliver_all(http, CREATED, b"false", OTHER)
    assert (await deliver(http, CREATED)).json()["duplicate"] is True
    assert (await http.post(WEBHOOK, content=b"{}")).status_code == 401
    await until_current(table)

    async def are_written() -> bool:
        return len(await listed(http)) == 5

    await until(are_written)
    told = [(one["webhook_type"], one["status"], one["duplicate"], one["position"]) for one in await listed(http)]
    assert told == [
        ("refused", "error", False, None),
        ("unrecognised", "error", False, 2),
        ("BOOKING_CREATED", "success", True, 1),
        ("BOOKING_CREATED", "success", False, 3),
        ("BOOKING_CREATED", "success", False, 1),
    ]
    first = (await listed(http))[-1]
    assert (first["cal_com_event_id"], first["error_message"]) == ("a", None)
    assert "ada@example.com" not in str(await listed(http)), "no bodies"
    for params, count in (
        ({"status": "error"}, 2),
        ({"status": "success"}, 3),
        ({"trigger": "BOOKING_CREATED,PING"}, 3),
        ({"trigger": "refused"}, 1),
        ({"uid": "b"}, 1),
        ({"unrecognised": "true"}, 1),
        ({"unrecognised": "true", "trigger": "unrecognised"}, 1),
        ({"unrecognised": "true", "trigger": "BOOKING_CREATED"}, 0),
        ({"to": "2020-01-01"}, 0),
        ({"from": "2020-01-01"}, 5),
    ):
        assert len(await listed(http, **params)) == count, params


async def test_the_list_goes_on_page_by_page_from_errors_to_the_rest(
    http: httpx.AsyncClient, table: asyncpg.Connection
) -> None:
    bodies = [webhook("PING", {"n": number}, at=minutes(number)) for number in range(4)]
    await deliver_all(http, *bodies, b"false", b"0", b"1")
    await until_current(table)
    whole = await listed(http)
    assert [one["status"] for one in whole] == ["error"] * 3 + ["success"] * 4
    found, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await http.get(LIST, params=params)).json()
        assert len(page["deliveries"]) <= 2
        found += page["deliveries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == whole


@pytest.mark.parametrize("params", [{"status": "processing"}, {"cursor": "x"}, {"from": "soon"}, {"uid": "\x00"}])
async def test_a_list_that_cannot_be_understood_is_refused(http: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert_is_problem(await http.get(LIST, params=params), 400)


# Reading again


async def test_a_request_tells_what_differs_and_writes_it_only_when_told_to(
    http: httpx.AsyncClient, table: asyncpg.Connection, server: Server
) -> None:
    await deliver_all(http, CREATED, CANCELLED, OTHER)
    await spoil(table)
    told = (await http.post(REPROCESS, json={})).json()
    assert (told["applied"], told["deliveries"], told["next_position"]) == (False, 3, None)
    assert told["differing"] == {"webhook_logs": 1, "calendar_events": 1}
    by_model = {row["read_model"]: row for row in told["rows"]}
    assert by_model["calendar_events"]["fields"] == {"title": {"held": "Bad", "says": "Bath"}}
    assert by_model["webhook_logs"]["fields"]["error_message"] == {"held": "old", "says": None}
    assert await table.fetchval("SELECT title FROM calendar_events WHERE cal_com_event_id = 'a'") == "Bad"
    other = (await http.post(REPROCESS, json={"uid": "b", "apply": True})).json()
    assert (other["deliveries"], other["differing"]) == (1, {})
    done = (await http.post(REPROCESS, json={"trigger": ["BOOKING_CREATED"], "status": "error", "apply": True})).json()
    assert (done["deliveries"], done["differing"]) == (1, told["differing"])
    assert (await http.post(REPROCESS, json={"apply": True})).json()["differing"] == {}
    assert_same(await filled(table, server.dsn), await read_models(table))
    assert await table.fetchval("SELECT count(*) FROM ledger.events") == 3
    later = webhook("BOOKING_CREATED", {"uid": "c"}, at=minutes(9))
    await deliver_all(http, later)
    await until_current(table)
    assert_same(await filled(table, server.dsn), await read_models(table))


@pytest.mark.parametrize(
    "wish",
    [{"status": "x"}, {"from": "soon"}, {"dry": True}, {"from_position": 0}, {"uid": "\x00"}, {"event_ids": ["x"]}, []],
    ids=str,
)
async def test_a_wish_that_cannot_be_understood_is_refused(http: httpx.AsyncClient, wish: object) -> None:
    assert_is_problem(await http.post(REPROCESS, json=wish), 400)


async def test_the_command_shows_first_writes_then_and_has_nothing_to_do_after(
    http: httpx.AsyncClient, table: asyncpg.Connection, server: Server
) -> None:
    await deliver_all(http, CREATED, CANCELLED, OTHER)
    await spoil(table)
    settings = {"DATABASE_URL": server.dsn}
    shown = run("webhooks", "replay", **settings)
    assert shown.returncode == 1, shown.stderr
    assert "calendar_events a: different\n  title: Bad -> Bath\n" in shown.stdout
    assert shown.stdout.endswith(
        "3 deliveries read again; rows that would be written (--apply): 1 of webhook_logs, 1 of calendar_events.\n"
    )
    assert "Reading again: 3 of 3" in shown.stderr
    told = run("webhooks", "replay", "--json", "--uid", "a", **settings)
    assert (told.returncode, json.loads(told.stdout)["deliveries"]) == (1, 2)
    written = run("webhooks", "replay", "--apply", **settings)
    assert (written.returncode, "were written" in written.stdout) == (0, True), written.stderr
    after = run("webhooks", "replay", "--apply", "--json", **settings)
    assert (after.returncode, json.loads(after.stdout)["differing"]) == (0, {})
    assert_same(await filled(table, server.dsn), await read_models(table))


@pytest.mark.parametrize(
    "options",
    [
        ("--status", "processing"),
        ("--from", "soon"),
        ("--ledger", "nobody"),
        ("--event-id", "x"),
        ("--to-position", "0"),
    ],
    ids=str,
)
async def test_a_command_that_cannot_be_understood_ends_with_2(server: Server, options: tuple[str, str]) -> None:
    assert run("webhooks", "replay", *options, DATABASE_URL=server.dsn).returncode == 2
