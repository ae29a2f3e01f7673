"""A link that was wrong is taken back: nothing of it is left, in whatever order it is read; it may be made again."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from ledger.history import read_event
from ledger.linked import read_links
from ledger.links import linked_events, unlinked_event
from ledger.store import Ledger, append, read_ledgers, read_recorded
from ledger.vocabulary import StreamId
from projections.replay import ReplayFilter, replay
from projections.runner import Runner
from tests.builders import minutes, people, webhook
from tests.rebuilding import assert_same, but_for_when, filled, read_models
from tests.serving import Server, assert_is_problem, connected, deliver, file, run, speaking_to, until_current

CREATED = webhook("BOOKING_CREATED", {"uid": "a", "title": "Bath", "attendees": people("ada@example.com")})
OTHER = webhook("BOOKING_CREATED", {"uid": "b", "title": "Clip", "attendees": people("ada@example.com")})
NAMELESS = webhook("BOOKING_CANCELLED", {"attendees": people("ada@example.com")}, at=minutes(5))
NAMELESS_MOVE = webhook("BOOKING_RESCHEDULED", {"rescheduleUid": "old", "rescheduleId": 1}, at=minutes(6))


@pytest_asyncio.fixture
async def main(connection: asyncpg.Connection) -> Ledger:
    return (await read_ledgers(connection))["main"]


async def nameless(connection: asyncpg.Connection) -> list[UUID]:
    """The deliveries that name no booking, in order."""
    rows = await connection.fetch(
        "SELECT event_id FROM ledger.events WHERE stream_id LIKE 'unattributed-%' ORDER BY position"
    )
    return [row["event_id"] for row in rows]


async def link(connection: asyncpg.Connection, ledger: Ledger, id_: UUID, uid: str, *, taken_back: int = 0) -> None:
    delivery = await read_recorded(connection, ledger.ledger_id, id_)
    assert delivery is not None
    await append(
        connection, ledger.ledger_id, linked_events(ledger, delivery, StreamId(f"booking-{uid}"), taken_back=taken_back)
    )


async def unlink(connection: asyncpg.Connection, ledger: Ledger, id_: UUID) -> None:
    linked = (await read_links(connection, ledger, id_))[-1].linked
    await append(connection, ledger.ledger_id, [unlinked_event(ledger, linked, read_event(linked).chain)])


async def words(connection: asyncpg.Connection) -> dict[str, str]:
    rows = await connection.fetch("SELECT cal_com_event_id, status FROM calendar_events")
    return {row["cal_com_event_id"]: row["status"] for row in rows}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("body", [NAMELESS, NAMELESS_MOVE], ids=["cancelled", "rescheduled"])
async def test_what_a_wrong_link_said_is_gone_live_and_rebuilt(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, *, body: bytes, at_once: bool
) -> None:
    """The move was taken for one of `b`, and made a booking `old` that nobody has heard of otherwise."""
    runner = Runner(pool, database)

    async def step() -> None:
        if not at_once:
            await runner.catch_up()
            assert_same(but_for_when(await filled(connection, database)), but_for_when(await read_models(connection)))

    await file(connection, CREATED, OTHER, body)
    await step()
    (id_,) = await nameless(connection)
    await link(connection, main, id_, "b")
    await step()
    await unlink(connection, main, id_)
    await step()
    if at_once:
        await runner.catch_up()
    assert await words(connection) == {"a": "scheduled", "b": "scheduled"}
    await link(connection, main, id_, "a", taken_back=1)
    await step()
    await runner.catch_up()
    assert await words(connection) == (
        {"a": "cancelled", "b": "scheduled"}
        if body is NAMELESS
        else {"a": "scheduled", "b": "scheduled", "old": "rescheduled"}
    )
    assert_same(but_for_when(await filled(connection, database)), but_for_when(await read_models(connection)))
    told = await replay(
        pool, main, ReplayFilter(), is_applied=False, confirm_on_accept=False, tell=lambda _done, _of: None
    )
    assert told.differing == {}


ORDERS = list(permutations(range(3)))


@pytest.mark.parametrize("order", ORDERS, ids=str)
async def test_the_order_in_which_link_and_taking_back_are_recorded_does_not_matter(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, order: Sequence[int]
) -> None:
    await file(connection, NAMELESS)
    (id_,) = await nameless(connection)
    delivery = await read_recorded(connection, main.ledger_id, id_)
    assert delivery is not None
    (linked,) = linked_events(main, delivery, StreamId("booking-a"))
    trial = connection.transaction()
    await trial.start()
    await append(connection, main.ledger_id, [linked])
    recorded = await read_recorded(connection, main.ledger_id, linked.event_id)
    assert recorded is not None
    unlinked = unlinked_event(main, recorded, read_event(recorded).chain)
    await trial.rollback()
    events = [linked, unlinked, None]
    for place in order:
        event = events[place]
        if event is None:
            await file(connection, CREATED)
        else:
            await append(connection, main.ledger_id, [event])
        await Runner(pool, database).catch_up()
    assert await words(connection) == {"a": "scheduled"}
    assert_same(but_for_when(await filled(connection, database)), but_for_when(await read_models(connection)))


# Over HTTP and by command


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server) as client:
        yield client


async def status(http: httpx.AsyncClient, uid: str) -> str:
    word: str = (await http.get(f"/api/bookings/{uid}")).json()["booking"]["status"]
    return word


async def test_a_link_is_taken_back_once_and_the_delivery_is_suggested_again(
    http: httpx.AsyncClient, shared_server: Server
) -> None:
    for body in (CREATED, OTHER):
        assert (await deliver(http, body)).status_code == 200
    id_ = (await deliver(http, NAMELESS)).json()["event_id"]
    wish = {"event_id": id_}
    assert_is_problem(await http.post("/api/bookings/a/unlink", json=wish), 409)
    assert_is_problem(await http.post("/api/bookings/nobody/unlink", json=wish), 404)
    assert (await http.post("/api/bookings/a/link", json=wish)).status_code == 200
    assert await status(http, "a") == "cancelled"
    assert "it is not linked to booking b" in assert_is_problem(
        await http.post("/api/bookings/b/unlink", json=wish), 409
    )
    stale = await http.post("/api/bookings/a/unlink", json=wish, headers={"if-match": '"7"'})
    assert_is_problem(stale, 409)
    answers = await asyncio.gather(*(http.post("/api/bookings/a/unlink", json=wish) for _ in range(4)))
    told = [answer.json() for answer in answers]
    assert sorted(one["duplicate"] for one in told) == [False, True, True, True]
    assert len({(one["event_id"], one["position"], one["status"]) for one in told}) == 1
    assert (told[0]["status"], await status(http, "a")) == ("unlinked", "scheduled")
    async with connected(shared_server.dsn) as connection:
        await until_current(connection)
        assert await words(connection) == {"a": "scheduled", "b": "scheduled"}
    suggestions = (await http.get("/api/admin/suggestions")).json()["suggestions"]
    assert [one["event_id"] for one in suggestions] == [id_]
    again = (await http.post("/api/bookings/b/link", json=wish)).json()
    assert (again["duplicate"], await status(http, "b")) == (False, "cancelled")
    assert (await http.post("/api/bookings/b/link", json=wish)).json()["duplicate"] is True
    assert (await http.get("/api/admin/suggestions")).json()["suggestions"] == []


async def test_the_command_takes_a_link_back(http: httpx.AsyncClient, shared_server: Server) -> None:
    email = people("eve@example.com")
    await deliver(http, webhook("BOOKING_CREATED", {"uid": "eve", "attendees": email}))
    id_ = (await deliver(http, webhook("BOOKING_CANCELLED", {"attendees": email}, at=minutes(9)))).json()["event_id"]
    settings = {"DATABASE_URL": shared_server.dsn}
    assert run("bookings", "unlink", "eve", id_, **settings).returncode != 0
    assert run("bookings", "link", "eve", id_, **settings).returncode == 0
    taken = run("bookings", "unlink", "eve", id_, **settings)
    assert taken.stdout.startswith("The delivery is no longer linked to booking eve, by the event at position")
    repeated = run("bookings", "unlink", "eve", id_, "--json", **settings)
    assert json.loads(repeated.stdout)["duplicate"] is True
    assert await status(http, "eve") == "scheduled"
