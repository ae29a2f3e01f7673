"""An analyst of one ledger sees its rows in every view and no others, by whatever SQL; two ledgers have equal uids."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.database_roles import role_url
from projections.catalogue import CATALOGUE
from projections.dictionary import read_dictionary
from tests.builders import minutes, webhook
from tests.serving import WEBHOOK, connected, deliver, run, serving, speaking_to, until_current

FOREIGN = "Foreign"
BOUND, EVERY = "salon_north", "analyst"
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)
VIEWS = (
    "booking_attendees",
    "booking_statistics",
    "calendar_events",
    "clients",
    "meetings",
    "projection_status",
    "status_words",
    "sync_lag",
    "webhook_events",
    "webhook_logs",
)


def bodies(title: str) -> list[bytes]:
    """What a ledger is sent: the same uids in each, and people of its own."""
    person = {"name": f"{title} Person", "email": f"{title}@example.com".lower(), "timeZone": "UTC"}
    return [
        webhook(
            trigger,
            {
                "uid": f"booking{number}",
                "title": f"{title} {number}",
                "attendees": [person],
                "startTime": "2026-11-20T10:00:00Z",
                "endTime": "2026-11-20T11:00:00Z",
                "metadata": {"barkbookClientId": f"{title}-client"},
            },
            at=minutes(number),
        )
        for number in range(5)
        for trigger in ("BOOKING_CREATED", "BOOKING_CANCELLED")[: 1 + number % 2]
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dsn(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Both ledgers full, and a server that serves as the application's role."""
    async with connected(shared_database) as owner:
        await owner.execute(
            "INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key)"
            " VALUES (2, 'other', sha256('booking-ledger/2'), sha256('key'))"
        )
    for options in (("--reader", BOUND, "--ledger", "main"), ("--reader", EVERY)):
        made = run("roles", "create", *options, DATABASE_URL=shared_database)
        assert made.returncode == 0, made.stderr
    with serving(role_url(shared_database, "application"), tmp_path_factory.mktemp("server")) as server:
        async with speaking_to(server) as http, connected(shared_database) as owner:
            for path, title in ((WEBHOOK, "Own"), (f"{WEBHOOK}/other", FOREIGN)):
                sent = bodies(title)
                for body in [*sent, sent[0]]:  # the last a repeat
                    assert (await deliver(http, body, path=path)).status_code == 200
                assert (await http.post(path, content=b"{}")).status_code == 401
            async with asyncio.timeout(30):
                while await owner.fetchval("SELECT count(DISTINCT ledger_id) FROM ledger.deliveries") < 2:
                    pass
            await until_current(owner)
        yield shared_database
        assert "ermission denied" not in server.printed()
        assert "row-level" not in server.printed()


@pytest_asyncio.fixture
async def bound(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with connected(role_url(dsn, BOUND)) as connection:
        yield connection


async def rows_of(connection: asyncpg.Connection, view: str, condition: str = "true") -> list[str]:
    """The view's rows as texts, but for what the clock alone decides."""
    columns = "v" if view != "projection_status" else "v.projection, v.ledger, v.position, v.head"
    statement = f"SELECT ({columns})::text AS row FROM public.{view} AS v WHERE {condition} ORDER BY 1"  # noqa: S608  # ours
    return [row["row"] for row in await connection.fetch(statement)]


async def assert_own_rows_only(dsn: str) -> None:
    async with connected(dsn) as owner, connected(role_url(dsn, BOUND)) as bound:
        for view in VIEWS:
            own = await rows_of(owner, view, "v.ledger = 'main'")
            assert own, view
            assert await rows_of(owner, view, "v.ledger = 'other'"), view
            assert await rows_of(bound, view) == own, view


# What is seen


async def test_every_view_of_the_data_dictionary_is_looked_at(dsn: str) -> None:
    async with connected(dsn) as owner:
        assert tuple(view.name for view in await read_dictionary(owner)) == VIEWS


async def test_a_reader_of_one_ledger_sees_all_of_its_rows_and_no_others(dsn: str) -> None:
    await assert_own_rows_only(dsn)


async def test_a_reader_of_every_ledger_sees_all_rows(dsn: str) -> None:
    async with connected(dsn) as owner, connected(role_url(dsn, EVERY)) as every:
        for view in VIEWS:
            assert await rows_of(every, view) == await rows_of(owner, view), view


@pytest.mark.parametrize("projection", [one.name for one in CATALOGUE])
async def test_a_generation_made_by_a_rebuild_shows_own_rows_only(dsn: str, projection: str) -> None:
    rebuilt = run("projections", "rebuild", projection, DATABASE_URL=role_url(dsn, "application"))
    assert rebuilt.returncode == 0, rebuilt.stderr
    async with connected(dsn) as owner:
        generation = await owner.fetchval(
            "SELECT generation FROM projections.generations WHERE projection = $1 AND state = 'live'", projection
        )
        assert generation > 1
        await until_current(owner)
    await assert_own_rows_only(dsn)


async def test_a_generation_that_people_see_is_still_kept_current(dsn: str, tmp_path: Path) -> None:
    """Under row-level security the application writes what it did before."""
    with serving(role_url(dsn, "application"), tmp_path) as server:
        async with speaking_to(server) as http, connected(dsn) as owner:
            for path in (WEBHOOK, f"{WEBHOOK}/other"):
                body = webhook("BOOKING_CANCELLED", {"uid": "booking0"}, at=minutes(100))
                assert (await deliver(http, body, path=path)).status_code == 200
            await until_current(owner)
            states = await owner.fetch("SELECT status FROM calendar_events WHERE cal_com_event_id = 'booking0'")
            assert [row["status"] for row in states] == ["cancelled"] * 2
    await assert_own_rows_only(dsn)


# Ways round it


FUNCTION = """
CREATE FUNCTION pg_temp.tell(told text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE 'told %', told;
    RETURN true;
END
$$
"""


@pytest.mark.parametrize("view", VIEWS)
async def test_a_function_that_tells_is_told_no_foreign_row(bound: asyncpg.Connection, view: str) -> None:
    """PostgreSQL asks the cheapest condition first, unless it knows better."""
    told: list[str] = []
    bound.add_log_listener(lambda _, message: told.append(str(message)))
    await bound.execute("SET default_transaction_read_only = off")
    await bound.execute(FUNCTION)
    for statement in (
        f"SELECT * FROM {view} AS v WHERE pg_temp.tell(v::text)",  # noqa: S608  # ours
        f"SELECT * FROM {view} AS v WHERE pg_temp.tell(v.ledger)",  # noqa: S608
        f"SELECT 1 FROM {view} AS v JOIN calendar_events AS c ON pg_temp.tell(v.ledger) AND pg_temp.tell(c.title)",  # noqa: S608
        f"SELECT 1 FROM {view} AS v WHERE ledger = 'other' AND pg_temp.tell(v::text)",  # noqa: S608
    ):
        await bound.fetch(statement)
    assert any("main" in message for message in told)
    assert [message for message in told if FOREIGN in message or "other" in message] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT title::int FROM calendar_events WHERE title LIKE 'Foreign%'",
        "SELECT 1 FROM calendar_events WHERE 1 / (CASE WHEN attendee_name LIKE 'Foreign%' THEN 0 ELSE 1 END) = 0",
        "SELECT (payload #>> '{payload,title}')::int FROM webhook_logs WHERE payload::text LIKE '%Foreign%'",
        "SELECT * FROM calendar_events WHERE ledger = 'other'",
        "SELECT * FROM calendar_events WHERE ledger <> 'main' OR ledger IS NULL",
        "SELECT c.* FROM calendar_events AS c RIGHT JOIN booking_attendees AS a ON true WHERE a.ledger <> 'main'",
        "SELECT * FROM (TABLE calendar_events) AS c WHERE c.title LIKE 'Foreign%'",
        "WITH c AS MATERIALIZED (SELECT * FROM meetings) SELECT * FROM c WHERE ledger <> 'main'",
        "SELECT tablename FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        "SELECT tablename FROM pg_stats_ext UNION ALL SELECT tablename FROM pg_stats_ext_exprs",
    ],
)
async def test_sql_of_any_kind_brings_no_foreign_row(dsn: str, bound: asyncpg.Connection, statement: str) -> None:
    async with connected(dsn) as owner:
        await owner.execute("ANALYZE")
    assert await bound.fetch(statement) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM projections.calendar_events",
        "SELECT * FROM calendar_events_0.calendar_events",
        "SELECT * FROM ledger.events",
        "SELECT * FROM ledger.ledgers",
        "SELECT * FROM ledger.deliveries",
        "SELECT * FROM projections.logged_bodies",
        "SELECT * FROM access.readers",
        "SELECT * FROM interop.stored_events",
        "SET row_security = off; SELECT * FROM calendar_events",
        "SET ROLE booking_ledger_reader",
        "SET ROLE booking_ledger_application",
        "SET ROLE analyst",
        "GRANT booking_ledger_reader TO salon_north",
        "UPDATE access.readers SET ledger_id = 2",
        "DELETE FROM access.readers",
        "ALTER VIEW calendar_events RESET (security_invoker)",
        "ALTER TABLE calendar_events_0.calendar_events DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_ledger ON calendar_events_0.calendar_events",
        "CREATE POLICY mine ON ledger.deliveries USING (true)",
        "ALTER ROLE salon_north BYPASSRLS",
        "CREATE VIEW public.mine AS SELECT * FROM calendar_events",
        "SELECT projections.show('calendar_events', 1)",
    ],
)
async def test_there_is_no_way_round_the_views(dsn: str, bound: asyncpg.Connection, statement: str) -> None:
    await bound.execute("SET default_transaction_read_only = off")
    with pytest.raises(REFUSED):
        await bound.execute(statement)
    await assert_own_rows_only(dsn)


async def test_another_role_of_the_group_without_a_ledger_sees_nothing(dsn: str, bound: asyncpg.Connection) -> None:
    async with connected(dsn) as owner:
        await owner.execute("CREATE ROLE of_nobody LOGIN; GRANT booking_ledger_bound_reader TO of_nobody")
        try:
            async with connected(role_url(dsn, "of_nobody")) as nobody:
                assert {view: await rows_of(nobody, view) for view in VIEWS} == {view: [] for view in VIEWS}
        finally:
            await owner.execute("DROP ROLE of_nobody")
    assert await rows_of(bound, "calendar_events")


# Making readers


async def test_a_reader_can_be_bound_to_another_ledger_and_set_free(dsn: str) -> None:
    async def seen() -> set[str]:
        async with connected(role_url(dsn, "wanderer")) as reader:
            return {row["ledger"] for row in await reader.fetch("SELECT DISTINCT ledger FROM calendar_events")}

    for options, ledgers in (
        (("--ledger", "main"), {"main"}),
        (("--ledger", "other"), {"other"}),
        ((), {"main", "other"}),
        (("--ledger", "other"), {"other"}),
    ):
        assert run("roles", "create", "--reader", "wanderer", *options, DATABASE_URL=dsn).returncode == 0
        assert await seen() == ledgers
    made = run("roles", "url", "wanderer", "--new-password", DATABASE_URL=dsn)
    assert made.stdout.startswith("postgresql://wanderer:"), made.stderr
    async with connected(dsn) as owner:
        await owner.execute("DROP ROLE wanderer")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--reader", "x; DROP TABLE"), "small letters"),
        (("--reader", "pg_monitor"), "small letters"),
        (("--reader", "booking_ledger_reader"), "small letters"),
        (("--reader", "application"), "small letters"),
        (("--reader", "nobody", "--ledger", "unheard_of"), "unheard_of"),
        (("--ledger", "main"), "--reader"),
        (("--reader", "mighty", "--ledger", "main"), "mighty"),
        (("--reader", "helped", "--ledger", "main"), "helped"),
    ],
)
async def test_a_reader_that_will_not_do_is_refused(dsn: str, options: tuple[str, ...], told: str) -> None:
    async with connected(dsn) as owner:
        await owner.execute("CREATE ROLE mighty CREATEROLE; CREATE ROLE helped; GRANT pg_read_all_data TO helped")
        try:
            refused = run("roles", "create", *options, DATABASE_URL=dsn)
        finally:
            await owner.execute("DROP ROLE mighty; DROP ROLE helped")
    assert refused.returncode == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_url_is_given_for_readers_and_our_own_roles_alone(dsn: str) -> None:
    assert run("roles", "url", BOUND, DATABASE_URL=dsn).stdout.startswith(f"postgresql://{BOUND}@")
    refused = run("roles", "url", "postgres", "--new-password", DATABASE_URL=dsn)
    assert (refused.returncode, refused.stdout) == (2, "")


async def test_a_database_without_roles_is_under_no_row_level_security(durable_database: str) -> None:
    async with connected(durable_database) as owner:
        assert await owner.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity") == 0
        await owner.execute("SELECT projections.show('calendar_events', 1)")
        assert await owner.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity") == 0
