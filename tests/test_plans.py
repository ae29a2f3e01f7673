"""How PostgreSQL would find what the routes ask for: by these indexes, reading no large table from end to end.

Every statement is explained with the values it is given; a statement that is kept prepared also without them, as
PostgreSQL plans it from the sixth time on.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from random import Random
from typing import Any, cast

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from api.bench.made_up import fill
from api.bench.questions import QUESTIONS, Asking
from ledger.database_roles import role_url
from ledger.postgres import Connection
from ledger.store import read_ledgers
from projections.pace import LIVELY_EVENTS
from projections.pace import SQL as PACE
from tests.serving import connected, run

BOOKINGS = 20_000
LARGE = {"calendar_events", "booking_attendees", "events", "webhook_logs"}
PARAMETER = re.compile(r"\$(\d+)")

START, HOST, EVENT_TYPE = "calendar_events_by_start", "calendar_events_by_host", "calendar_events_by_event_type"
CLIENT, PET, SALON = "calendar_events_by_client", "calendar_events_by_pet", "calendar_events_by_salon"
ROW, METADATA, ATTENDEE = "calendar_events_pkey", "calendar_events_by_metadata", "booking_attendees_by_email"
NUMBER, CALENDAR_ID, ROOT = (
    "calendar_events_by_number",
    "calendar_events_by_ical_uid",
    "calendar_events_by_root",
)
AHEAD, DAYS, STREAMS = "booking_statistics_ahead", "booking_statistics_pkey", "events_pkey"
LOGS, ERRORS, SELDOM = "webhook_logs_by_created", "webhook_logs_by_error", "webhook_logs_by_seldom_type"
BY_NAME = {ROW, NUMBER, CALENDAR_ID, ROOT, METADATA, ATTENDEE}

# Empty where the planner may choose: a walk along the start times, or all of a small table, can be as good.
USED: Mapping[str, set[str]] = {
    "list, first page": {START},
    "list, a week": {START},
    "list, scheduled and confirmed": {AHEAD, START},
    "list, no_show": {START},
    "list, cancelled from a day on": {START},
    "list, attendee": {ATTENDEE, ROW},
    "list, host": {HOST},
    "list, host's next": {HOST},
    "list, event type many have": set(),
    "list, event type few have": {EVENT_TYPE},
    "list, client": {CLIENT},
    "list, pet": {PET},
    "list, salon": {SALON},
    "list, metadata few have": {METADATA},
    "list, metadata many have": {START},
    "list, name: uid": BY_NAME,
    "list, name: e-mail": BY_NAME,
    "list, name: metadata value": BY_NAME,
    "list, host and salon that never meet (one page)": {HOST},
    "list, host and metadata that never meet (one page)": {HOST},
    "list, host who has no such status": {DAYS},
    "list, text many have": {START},
    "list, text nobody has (one page)": {START},
    "list, a page in the middle": {START},
    "list, as of 100 events ago": {"events_position_unique", STREAMS, ROW, ROOT, START},
    "one booking, from the log": {STREAMS},
    "one booking's history": {STREAMS},
    "today, with counts": {START},
    "salon's week": {SALON},
    "client's visits": {CLIENT},
    "pet's visits": {PET},
    "client": {CLIENT},
    "clients by id": {CLIENT},
    "clients by last visit": {START, CLIENT},
    "statistics, a week by day": set(),
    "statistics, ten years by month": set(),
    "statistics, a year by host": set(),
    "deliveries": {LOGS, ERRORS},
    "deliveries, trigger few have": {SELDOM},
    "deliveries, unrecognised": {SELDOM},
}
# What people type, from SYSTEMS.md and like it: no word of a ledger.
PEOPLES: Mapping[str, tuple[str, set[str]]] = {
    "the latest (3.8, 3.15)": ("calendar_events ORDER BY created_at DESC LIMIT 10", {"calendar_events_by_created"}),
    "a client's bookings": ("calendar_events WHERE client_id = 'client-7' ORDER BY start_time", {CLIENT}),
    "a client's figures": ("clients WHERE client_id = 'client-7'", {CLIENT}),
    "a pet's past": ("calendar_events WHERE pet_id = 'pet-7' AND start_time < now() ORDER BY start_time", {PET}),
    "a salon's next week": (
        "calendar_events WHERE salon_id = 'salon-7' AND start_time BETWEEN now() AND now() + interval '7 days'",
        {SALON},
    ),
    "a host's day": (
        "calendar_events WHERE host_email = 'host-7@studio.example.com' AND start_time::date = '2026-11-20'",
        {HOST},
    ),
    "by metadata": ("""calendar_events WHERE metadata @> '{"barkbookPetId": "pet-7"}'""", {METADATA}),
}


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """One plan: the indexes it uses, and the tables it reads from end to end."""

    indexes: set[str]
    read_whole: set[str]


class Explaining:
    """A connection that explains every statement before it runs it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.explained: list[Explained] = []

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        if not statement.startswith("EXPLAIN"):
            await self._explain_prepared(statement, values)
        return await self._connection.fetch(statement, *values)

    async def fetchval(self, statement: str, *values: object) -> Any:
        await self._explain_prepared(statement, values)
        return await self._connection.fetchval(statement, *values)

    async def prepare(self, statement: str, *, name: str) -> "_Prepared":
        assert name == "", "under a name it is kept, and planned for any values"
        return _Prepared(self, await self._connection.prepare(statement, name=name), statement)

    async def explain(self, statement: str, *values: object) -> None:
        rows = await self._connection.fetch(f"EXPLAIN (FORMAT JSON) {statement}", *values)
        self.explained.append(_read_plan(rows[0][0]))

    async def _explain_prepared(self, statement: str, values: tuple[object, ...]) -> None:
        await self.explain(statement, *values)
        nulls = ", ".join(["NULL"] * max((int(number) for number in PARAMETER.findall(statement)), default=0))
        await self._connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE kept AS {statement}")
        rows = await self._connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE kept{nulls and f' ({nulls})'}")
        await self._connection.execute("DEALLOCATE kept; RESET plan_cache_mode")
        self.explained.append(_read_plan(rows[0][0]))


class _Prepared:
    def __init__(self, explaining: Explaining, prepared: Any, statement: str) -> None:
        self._explaining, self._prepared, self._statement = explaining, prepared, statement

    async def fetch(self, *values: object) -> Any:
        rows = await self._prepared.fetch(*values)
        await self._explaining.explain(self._statement, *values)
        return rows


def _read_plan(plan: str) -> Explained:
    nodes = list(_nodes(msgspec.json.decode(plan)[0]["Plan"]))
    return Explained(
        indexes={node["Index Name"] for node in nodes if "Index Name" in node},
        read_whole={node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"},
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", []):
        yield from _nodes(part)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_database(shared_database: str) -> str:
    async with connected(shared_database) as connection:
        await fill(connection, BOOKINGS)
    return shared_database


@pytest_asyncio.fixture
async def explaining(filled_database: str) -> AsyncIterator[Explaining]:
    async with connected(filled_database) as connection:
        yield Explaining(connection)


def test_every_question_has_its_indexes() -> None:
    assert USED.keys() == QUESTIONS.keys()


@pytest.mark.parametrize("name", USED)
async def test_a_question_is_answered_by_its_indexes(explaining: Explaining, filled_database: str, name: str) -> None:
    async with connected(filled_database) as plain:
        ledger = (await read_ledgers(plain))["main"]
    asking = Asking(connection=cast("Connection", explaining), ledger=ledger, bookings=BOOKINGS, rng=Random(5))
    assert await QUESTIONS[name](asking)
    assert explaining.explained
    assert [plan.read_whole & LARGE for plan in explaining.explained if plan.read_whole & LARGE] == []
    assert USED[name] <= {index for plan in explaining.explained for index in plan.indexes}


async def test_whether_much_is_being_appended_is_seen_at_the_end_of_the_log(explaining: Explaining) -> None:
    """A rebuild asks so after every turn."""
    await explaining.fetch(PACE["is_lively"], LIVELY_EVENTS)
    assert [plan.read_whole & LARGE for plan in explaining.explained if plan.read_whole & LARGE] == []
    assert {"events_position_unique"} <= {index for plan in explaining.explained for index in plan.indexes}


@pytest.mark.parametrize("name", PEOPLES)
async def test_what_people_type_finds_an_index_too(explaining: Explaining, name: str) -> None:
    query, indexes = PEOPLES[name]
    await explaining.explain(f"SELECT * FROM {query}")  # noqa: S608  # ours
    [plan] = explaining.explained
    assert (plan.read_whole & LARGE, indexes - plan.indexes) == (set(), set())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_with_roles(filled_database: str) -> str:
    """With the application's role, and an analyst's who sees one ledger only."""
    made = run("roles", "create", "--reader", "plans_analyst", "--ledger", "main", DATABASE_URL=filled_database)
    assert made.returncode == 0, made.stderr
    return filled_database


@pytest.mark.parametrize("role", ["reader", "plans_analyst"])
@pytest.mark.parametrize("name", PEOPLES)
async def test_row_level_security_leaves_readers_their_indexes(database_with_roles: str, role: str, name: str) -> None:
    query, indexes = PEOPLES[name]
    async with connected(role_url(database_with_roles, role)) as connection:
        explaining = Explaining(connection)
        await explaining.explain(f"SELECT * FROM {query}")  # noqa: S608  # ours
    [plan] = explaining.explained
    if (role, name) == ("plans_analyst", "by metadata"):
        assert plan.indexes, "`@>` might tell of a row that is another's: the ledger comes first, then the rest"
    else:
        assert (plan.read_whole & LARGE, indexes - plan.indexes) == (set(), set())


@pytest.mark.parametrize("name", USED)
async def test_row_level_security_leaves_the_application_its_indexes(database_with_roles: str, name: str) -> None:
    async with connected(role_url(database_with_roles, "application")) as connection:
        explaining = Explaining(connection)
        ledger = (await read_ledgers(connection))["main"]
        asking = Asking(connection=cast("Connection", explaining), ledger=ledger, bookings=BOOKINGS, rng=Random(5))
        assert await QUESTIONS[name](asking)
    assert [plan.read_whole & LARGE for plan in explaining.explained if plan.read_whole & LARGE] == []
    assert USED[name] <= {index for plan in explaining.explained for index in plan.indexes}


COUNTED_ANEW = "scheduled = scheduled + 1, completed = completed - 1"
CHANGES: Mapping[str, str] = {
    "calendar_events": "status = 'no_show', no_show = true, position = position + 1 WHERE booking_number % 100 = 7",
    "booking_statistics": f"{COUNTED_ANEW} WHERE ahead AND event_type = 'type-3'",
    "booking_statistics_by_month": f"{COUNTED_ANEW} WHERE event_type = 'type-3'",
    "booking_statistics_in_all": f"{COUNTED_ANEW} WHERE unit = 'month'",
}


@pytest.mark.parametrize("table", CHANGES)
async def test_what_changes_most_touches_no_index(filled_database: str, table: str) -> None:
    """A status, and the figures of it. An index would be written each time, and with it all others of the row."""
    async with connected(filled_database) as connection, connection.transaction():
        changed = await connection.execute(f"UPDATE projections.{table} SET {CHANGES[table]}")  # noqa: S608  # ours
        updated, hot = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = $1 AND n_tup_upd > 0", table
        ) or (0, 0)
    assert changed == f"UPDATE {updated}"
    assert 0 < updated == hot
