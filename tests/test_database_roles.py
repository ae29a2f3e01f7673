"""PostgreSQL roles: what the application can do with the log and what nobody but its owner can, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.database_roles import LOGIN_ROLES, LoginRole, renew_rights, role_name, role_url
from ledger.errors import OperatorError
from ledger.migrate import migrate, migrations_folder
from ledger.postgres import connect
from projections.catalogue import CATALOGUE
from projections.progress import read_progress
from projections.rebuild import begin_rebuild
from tests.builders import webhook
from tests.serving import (
    COMMAND,
    KEY,
    connected,
    deliver_all,
    environment,
    file,
    run,
    serving,
    speaking_to,
    until,
    until_current,
)

BODIES = [webhook("BOOKING_CREATED", {"uid": f"booking{number}", "title": "Bath"}) for number in range(3)]
PASSWORD = "a password of our own, / and @ and %"
APPEND_NOTHING = """
    SELECT * FROM ledger.append_events(
        1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, 0, NULL, 1, true
    )
"""

REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)


@pytest.fixture(scope="module")
def dsn(shared_database: str) -> str:
    """A migrated database with roles."""
    made = run("roles", "create", DATABASE_URL=shared_database)
    assert made.returncode == 0, made.stderr
    return shared_database


@pytest_asyncio.fixture
async def filled(dsn: str) -> str:
    """With events in the log; those of before have stayed."""
    async with connected(dsn) as owner:
        await file(owner, *BODIES)
    return dsn


@pytest_asyncio.fixture
async def application(filled: str) -> AsyncIterator[asyncpg.Connection]:
    async with connected(role_url(filled, "application")) as connection:
        yield connection


async def log_of(dsn: str) -> list[asyncpg.Record]:
    async with connected(dsn) as owner:
        return await owner.fetch("SELECT * FROM ledger.events ORDER BY position")


# The log


ANOTHER_EVENT = """
    INSERT INTO ledger.events (
        ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at,
        source, metadata, digest
    ) {} VALUES (
        1, 99, 'x', 1, gen_random_uuid(), 'calcom.ping', '{{}}', 0, now(), now(), 'webhook', '{{}}', sha256('x')
    )
"""

CHANGES = {
    "change a body": "UPDATE ledger.events SET state = 'x'",
    "change one event's time": "UPDATE ledger.events SET occurred_at = now() WHERE position = 1",
    "renumber": "UPDATE ledger.events SET position = position + 10",
    "swap a digest": "UPDATE ledger.events SET digest = sha256('x')",
    "merge": """
        MERGE INTO ledger.events AS e USING (VALUES (1)) AS one (position) ON e.position = one.position
        WHEN MATCHED THEN DELETE
    """,
    "delete one": "DELETE FROM ledger.events WHERE position = 1",
    "delete all": "DELETE FROM ledger.events",
    "truncate": "TRUNCATE ledger.events",
    "truncate with what hangs on it": "TRUNCATE ledger.events CASCADE",
    "drop the table": "DROP TABLE ledger.events",
    "drop the schema": "DROP SCHEMA ledger CASCADE",
    "rename the table": "ALTER TABLE ledger.events RENAME TO elsewhere",
    "change a column's type": "ALTER TABLE ledger.events ALTER COLUMN state TYPE text USING 'x'",
    "silence the trigger": "ALTER TABLE ledger.events DISABLE TRIGGER events_append_only",
    "silence every trigger": "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER events_append_only ON ledger.events",
    "replicate instead": "SET session_replication_role = replica",
    "put a trigger before it": """
        CREATE TRIGGER mine BEFORE INSERT ON ledger.events FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()
    """,
    "put a rule before it": "CREATE RULE mine AS ON INSERT TO ledger.events DO INSTEAD NOTHING",
    "hide rows": "CREATE POLICY mine ON ledger.events USING (false)",
    "insert at a position of one's own": ANOTHER_EVENT.format(""),
    "insert over what there is": ANOTHER_EVENT.format("")
    + "ON CONFLICT ON CONSTRAINT events_pkey DO UPDATE SET state = 'x'",
    "insert overriding": ANOTHER_EVENT.format("OVERRIDING SYSTEM VALUE"),
    "copy into it": "COPY ledger.events FROM PROGRAM 'true'",
    "copy it to a program": "COPY ledger.events TO PROGRAM 'cat >/dev/null'",
    "move the head back": "UPDATE ledger.ledgers SET position = 0",
    "forge the head's digest": "UPDATE ledger.ledgers SET digest = sha256('x')",
    "delete the head": "DELETE FROM ledger.ledgers",
    "another ledger": "INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key) VALUES (2, 'b', 'x', 'x')",
    "lock the head": "SELECT position FROM ledger.ledgers FOR UPDATE",
    "replace the function": """
        CREATE OR REPLACE FUNCTION ledger.sized(value text) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$
    """,
    "give the function another owner": "ALTER FUNCTION ledger.append_events OWNER TO booking_ledger_application",
    "pretend to have migrated": "DELETE FROM ledger.schema_migrations",
    "become the owner": "SET ROLE booking_ledger_owner",
    "become the migrator": "SET ROLE booking_ledger_migrator",
    "speak for another": "SET SESSION AUTHORIZATION booking_ledger_owner",
    "take the owner's role": "GRANT booking_ledger_owner TO booking_ledger_application",
    "take the table": "ALTER TABLE ledger.events OWNER TO booking_ledger_application",
    "make a role": "CREATE ROLE mine SUPERUSER",
    "make oneself powerful": "ALTER ROLE booking_ledger_application SUPERUSER",
    "make a table beside it": "CREATE TABLE ledger.mine (n int)",
    "make a table for everybody": "CREATE TABLE public.mine (n int)",
    "make a schema": "CREATE SCHEMA mine",
    "make an extension": "CREATE EXTENSION file_fdw",
    "read files": "SELECT pg_read_file('/etc/passwd')",
    "change the server": "ALTER SYSTEM SET fsync = off",
    "change the catalogue": "UPDATE pg_catalog.pg_class SET relowner = 10",
    "delete the keys that there were": "DELETE FROM access.api_keys",
    "let a reader see another ledger": "INSERT INTO access.readers (role, ledger_id) VALUES ('mine', 2)",
    "put the log under a policy of ours": "SELECT access.guard_table('ledger.events')",
}


@pytest.mark.parametrize("way", CHANGES)
async def test_the_application_cannot_change_remove_or_renumber_an_event(
    application: asyncpg.Connection, filled: str, way: str
) -> None:
    before = await log_of(filled)
    assert before
    with pytest.raises(REFUSED):
        await application.execute(CHANGES[way])
    assert await log_of(filled) == before


async def test_rights_that_the_application_gives_itself_are_none(application: asyncpg.Connection) -> None:
    await application.execute("GRANT ALL ON ledger.events TO booking_ledger_application")  # a warning, no more
    for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"):
        assert not await application.fetchval("SELECT has_table_privilege('ledger.events', $1)", right)


async def test_the_application_appends_by_the_function_alone(application: asyncpg.Connection, filled: str) -> None:
    before = await log_of(filled)
    await file(application, webhook("BOOKING_CANCELLED", {"uid": "booking1"}))
    after = await log_of(filled)
    assert after[: len(before)] == before
    assert [event["position"] for event in after] == [*range(1, len(before) + 2)]


async def test_temporary_tables_of_the_applications_lead_no_function_of_the_owners_astray(
    application: asyncpg.Connection, filled: str
) -> None:
    before = await log_of(filled)
    # A catalogue in which the log is a table of a read model that may be dropped, and a log of one's own.
    await application.execute(
        """
        CREATE TEMPORARY TABLE pg_class AS
        SELECT oid, relname, 'calendar_events_7'::name AS schema, relkind, reloptions,
            (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'calendar_events_7') AS relnamespace
        FROM pg_catalog.pg_class WHERE oid = 'ledger.events'::regclass;
        CREATE TEMPORARY TABLE events (LIKE ledger.events);
        CREATE TEMPORARY TABLE ledgers (LIKE ledger.ledgers);
        GRANT ALL ON pg_temp.pg_class, pg_temp.events, pg_temp.ledgers TO PUBLIC;
        """
    )
    await application.execute("SELECT projections.create_tables('calendar_events', 7)")
    await application.execute(
        "UPDATE pg_temp.pg_class SET relnamespace = 'calendar_events_7'::regnamespace, relkind = 'r'"
    )
    await application.execute("SET search_path = pg_temp, ledger, pg_catalog")
    await application.execute("SELECT projections.drop_tables('calendar_events', 7)")
    await application.execute("RESET search_path; DROP TABLE pg_temp.pg_class")
    await file(application, webhook("PING", {}))
    after = await log_of(filled)
    assert after[:-1] == before
    assert await application.fetchval("SELECT count(*) FROM pg_temp.events") == 0


# Serving


async def test_the_applications_role_serves(filled: str, tmp_path: Path) -> None:
    url = role_url(filled, "application")
    printed = run("keys", "create", "--role", "viewer", DATABASE_URL=url)
    assert printed.returncode == 0, printed.stderr
    with serving(url, tmp_path) as server:
        async with speaking_to(server) as http, connected(filled) as owner:
            await deliver_all(http, webhook("BOOKING_CREATED", {"uid": "served"}), webhook("PING", {}))
            assert (await http.post("/api/webhooks/cal-com", content=b"{}")).status_code == 401
            await until_current(owner)
            listed = (await http.get("/api/bookings")).json()["bookings"]
            assert "served" in [booking["cal_com_event_id"] for booking in listed]
            answer = await http.get("/api/session", headers={"authorization": f"Bearer {printed.stdout.strip()}"})
            assert answer.json()["role"] == "viewer"
        server.stop()
        assert "ermission denied" not in server.printed()
    async with connected(filled) as owner:
        assert await owner.fetchval("SELECT count(*) FROM ledger.deliveries WHERE outcome = 'refused'") == 1
        assert await owner.fetchval("SELECT count(*) FROM access.api_keys WHERE last_used_at IS NOT NULL") == 1
    assert run("verify", DATABASE_URL=url).returncode == 0


@pytest.mark.parametrize("projection", [projection.name for projection in CATALOGUE])
async def test_the_application_fills_the_tables_of_a_generation_that_it_has_made_itself(
    application: asyncpg.Connection, projection: str
) -> None:
    await application.execute("SELECT projections.create_tables($1, 8)", projection)
    tables = await application.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c WHERE relnamespace = ($1 || '_8')::regnamespace",
        projection,
    )
    assert tables
    for table in tables:
        assert await application.fetchval(
            "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'INSERT')"
            " AND has_table_privilege($1, 'UPDATE') AND has_table_privilege($1, 'DELETE')",
            table["name"],
        ), table["name"]
    await application.execute("SELECT projections.drop_tables($1, 8)", projection)


# Projecting


async def test_the_projectors_role_keeps_read_models_current_and_rebuilds_them(
    durable_database: str, tmp_path: Path
) -> None:
    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    settings = {"DATABASE_URL": role_url(durable_database, "projector"), "BOOKING_LEDGER_HOME": str(tmp_path)}
    async with connected(durable_database) as owner:
        await file(owner, *BODIES)
        generation = await begin_rebuild(owner, "calendar_events")
        worker = await asyncio.create_subprocess_exec(
            *(COMMAND, "worker", "--projections-only"), env=environment(settings), stdout=asyncio.subprocess.DEVNULL
        )
        try:

            async def is_rebuilt() -> bool:
                (progress,) = await read_progress(owner, "calendar_events")
                return (progress.generation, progress.state) == (generation, "live")

            await until(is_rebuilt)
            await file(owner, webhook("BOOKING_CREATED", {"uid": "after"}))
            await until_current(owner)
        finally:
            worker.terminate()
        assert await worker.wait() == 0
        assert await owner.fetchval("SELECT count(*) FROM calendar_events") == len(BODIES) + 1


PROJECTORS_LIMITS = {
    "append": APPEND_NOTHING,
    "destroy keys": "SELECT ledger.destroy_keys(1, '{}')",
    "ask for a reconciliation": "DELETE FROM ledger.sweeps",
    "take a delivery from the list": "DELETE FROM ledger.deliveries",
    "see who may come in": "SELECT * FROM access.api_keys",
    **{way: CHANGES[way] for way in ("change a body", "delete one", "truncate", "move the head back")},
}


@pytest.mark.parametrize("way", PROJECTORS_LIMITS)
async def test_the_projector_writes_read_models_and_nothing_else(filled: str, way: str) -> None:
    before = await log_of(filled)
    async with connected(role_url(filled, "projector")) as projector:
        with pytest.raises(REFUSED):
            await projector.execute(PROJECTORS_LIMITS[way])
    assert await log_of(filled) == before


# Migrating


@pytest.fixture
def one_more(tmp_path: Path) -> Path:
    """Our migrations and another one, as the next release would bring it."""
    for path in migrations_folder().glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    number = len(list(tmp_path.glob("*.sql"))) + 1
    sql = "CREATE TABLE ledger.additions (n int); CREATE TABLE projections.additions (n int);"
    (tmp_path / f"{number:04}_additions.sql").write_text(f"-- More.\n\n-- migrate:up\n\n{sql}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("role", ["application", "projector", "reader", "auditor"])
async def test_nobody_but_the_migrator_migrates(durable_database: str, one_more: Path, role: LoginRole) -> None:
    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    async with connected(role_url(durable_database, role)) as connection:
        with pytest.raises((OperatorError, *REFUSED)):
            await migrate(connection, folder=one_more)
    async with connected(durable_database) as owner:
        assert await owner.fetchval("SELECT to_regclass('ledger.additions')") is None


async def test_what_the_migrator_makes_has_its_owner_and_its_rights(durable_database: str, one_more: Path) -> None:
    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    async with connected(role_url(durable_database, "migrator")) as migrator:
        assert await migrate(migrator, folder=one_more)
        assert await renew_rights(migrator)
        owners = await migrator.fetch(
            "SELECT DISTINCT relowner::regrole::text AS owner FROM pg_class WHERE relname = 'additions'"
        )
        assert [row["owner"] for row in owners] == ["booking_ledger_owner"]
    async with connected(role_url(durable_database, "application")) as application:
        for table in ("ledger.additions", "projections.additions"):
            await application.execute(f"INSERT INTO {table} (n) VALUES (1)")  # noqa: S608  # the two names above


async def test_where_a_role_came_with_this_release_migrating_says_what_to_run(durable_database: str) -> None:
    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    async with connected(durable_database) as owner:
        await owner.execute("ALTER ROLE booking_ledger_bound_reader RENAME TO not_there_yet")
        try:
            told = run("migrate", DATABASE_URL=role_url(durable_database, "migrator"))
        finally:
            await owner.execute("ALTER ROLE not_there_yet RENAME TO booking_ledger_bound_reader")
    assert told.returncode == 2
    assert "run: booking-ledger roles create" in told.stderr
    assert "Traceback" not in told.stderr


async def test_migrating_and_making_roles_again_changes_nothing(durable_database: str) -> None:
    async def rights() -> list[asyncpg.Record]:
        async with connected(durable_database) as owner:
            return await owner.fetch(
                "SELECT oid::regclass::text, relowner, relacl::text FROM pg_class WHERE relnamespace <> 11 ORDER BY oid"
            )

    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    before = await rights()
    assert run("migrate", DATABASE_URL=role_url(durable_database, "migrator")).returncode == 0
    assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
    assert await rights() == before


async def test_everything_of_ours_belongs_to_the_owner_and_nothing_to_anybody_else(dsn: str) -> None:
    async with connected(dsn) as connection:
        foreign = await connection.fetch(
            """
            SELECT n.nspname || '.' || c.relname AS name, c.relowner::regrole::text AS owner
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^(pg_|information_schema)' AND c.relowner::regrole::text <> 'booking_ledger_owner'
            UNION ALL
            SELECT p.oid::regprocedure::text, p.proowner::regrole::text
            FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            WHERE n.nspname !~ '^(pg_|information_schema)' AND p.proowner::regrole::text <> 'booking_ledger_owner'
            """
        )
        assert [tuple(row) for row in foreign] == []
        open_to_all = await connection.fetch(
            """
            SELECT oid::regprocedure::text AS name FROM pg_proc
            WHERE prosecdef AND has_function_privilege('booking_ledger_auditor', oid, 'EXECUTE')
            """
        )
        assert [row["name"] for row in open_to_all] == [], "what runs with the owner's rights is for the application"


# Reading


PUBLIC_VIEWS = {"calendar_events", "booking_attendees", "webhook_logs", "webhook_events", "meetings", "status_words"}


async def test_a_reader_sees_the_public_views_and_nothing_else(filled: str) -> None:
    async with connected(role_url(filled, "reader")) as reader:
        views = {
            row["name"]
            for row in await reader.fetch("SELECT viewname AS name FROM pg_views WHERE schemaname = 'public'")
        }
        assert views >= PUBLIC_VIEWS
        for view in views:
            await reader.fetch(f"SELECT * FROM public.{view}")  # noqa: S608  # the names come from the catalogue
        seen = await reader.fetch(
            """
            SELECT c.oid::regclass::text AS name
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^(pg_|information_schema|public)'
                AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
                AND has_schema_privilege(n.oid, 'USAGE')
                AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
            """
        )
        assert [row["name"] for row in seen] == []
        assert await reader.fetchval("SHOW default_transaction_read_only") == "on"


@pytest.mark.parametrize("role", ["reader", "auditor"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM calendar_events",
        "UPDATE calendar_events SET title = 'x'",
        "INSERT INTO booking_attendees (uid) VALUES ('x')",
        "CREATE TABLE public.mine (n int)",
        APPEND_NOTHING,
        "SELECT projections.drop_tables('calendar_events', 1)",
        "SELECT password_hash FROM access.users",
        "SELECT digest FROM access.api_keys",
        "SELECT digest FROM access.sessions",
    ],
)
async def test_who_reads_cannot_write_even_where_the_session_is_no_longer_read_only(
    filled: str, role: LoginRole, statement: str
) -> None:
    async with connected(role_url(filled, role)) as reader:
        await reader.execute("SET default_transaction_read_only = off")
        with pytest.raises((*REFUSED, asyncpg.ObjectNotInPrerequisiteStateError)):
            await reader.execute(statement)


async def test_an_auditor_sees_everything_else_and_can_verify_the_chain(filled: str) -> None:
    url = role_url(filled, "auditor")
    async with connected(url) as auditor:
        hidden = await auditor.fetch(
            """
            SELECT c.oid::regclass::text AS name
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^(pg_|information_schema)'
                AND c.relkind IN ('r', 'p', 'v', 'm')
                AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT'))
            """
        )
        assert [row["name"] for row in hidden] == []
        await auditor.fetch("SELECT name, role, disabled_at FROM access.users")
    assert run("verify", DATABASE_URL=url).returncode == 0
    assert len(run("events", "export", DATABASE_URL=url).stdout.splitlines()) == len(await log_of(filled))


# Who is who


async def test_no_role_of_ours_has_a_power_that_goes_round_its_rights(dsn: str) -> None:
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            """
            SELECT rolname, rolcanlogin,
                rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication AS powerful
            FROM pg_roles WHERE rolname LIKE 'booking\\_ledger\\_%' ORDER BY rolname
            """
        )
    assert {row["rolname"]: row["rolcanlogin"] for row in rows} == {
        "booking_ledger_owner": False,
        "booking_ledger_bound_reader": False,
        **{role_name(role): True for role in LOGIN_ROLES},
    }
    assert not any(row["powerful"] for row in rows)


async def test_roles_that_were_made_powerful_are_refused(dsn: str) -> None:
    async with connected(dsn) as owner:
        await owner.execute("ALTER ROLE booking_ledger_reader BYPASSRLS")
        try:
            refused = run("roles", "create", DATABASE_URL=dsn)
        finally:
            await owner.execute("ALTER ROLE booking_ledger_reader NOBYPASSRLS")
    assert refused.returncode == 2
    assert "booking_ledger_reader" in refused.stderr


def test_who_may_not_make_roles_is_told_so_in_a_sentence(dsn: str) -> None:
    refused = run("roles", "create", DATABASE_URL=role_url(dsn, "application"))
    assert refused.returncode == 2
    assert "CREATEROLE" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_tables_and_views_of_other_programs_stay_theirs(durable_database: str) -> None:
    async with connected(durable_database) as owner:
        await owner.execute("CREATE TABLE public.pets (name text); CREATE VIEW public.dogs AS SELECT name FROM pets")
        assert run("roles", "create", DATABASE_URL=durable_database).returncode == 0
        owners = await owner.fetch(
            "SELECT relowner::regrole::text AS name FROM pg_class WHERE relname IN ('pets', 'dogs')"
        )
    assert {row["name"] for row in owners} == {"booking_ledger"}
    async with connected(role_url(durable_database, "reader")) as reader:
        for table in ("pets", "dogs"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM public.{table}")  # noqa: S608  # the two names above


# URLs and passwords


def test_a_url_of_a_role_leads_to_the_same_database_without_the_other_ones_password() -> None:
    for given, expected in {
        "postgresql://me:secret@db.example:5433/bookings?sslmode=verify-full": (
            "postgresql://booking_ledger_reader@db.example:5433/bookings?sslmode=verify-full"
        ),
        "postgres://db.example/bookings": "postgres://booking_ledger_reader@db.example/bookings",
        "postgresql://me@/bookings?host=/run/pg&port=5432&password=secret&user=me": (
            "postgresql://booking_ledger_reader@/bookings?host=/run/pg&port=5432"
        ),
        "postgresql://me:secret@a:1,b:2/bookings": "postgresql://booking_ledger_reader@a:1,b:2/bookings",
    }.items():
        assert role_url(given, "reader") == expected
    with_password = role_url("postgresql://me:secret@db.example/bookings", "reader", "a/b@c:d%")
    assert with_password == "postgresql://booking_ledger_reader:a%2Fb%40c%3Ad%25@db.example/bookings"


@pytest_asyncio.fixture
async def asking_for_passwords(dsn: str) -> AsyncIterator[None]:
    """The server wants the reader's and the auditor's password for as long as the test lasts."""
    async with connected(dsn) as owner:
        path = await owner.fetchval("SHOW hba_file")
        written = await owner.fetchval("SELECT pg_read_file($1)", path)
        asking = "local all booking_ledger_reader,booking_ledger_auditor scram-sha-256\n"
        await _write(owner, path, asking + written)
        yield
        await _write(owner, path, written)


async def _write(owner: asyncpg.Connection, path: str, text: str) -> None:
    """The server has read the file anew."""
    await owner.execute("CREATE TEMPORARY TABLE lines (n serial, line text)")
    await owner.executemany("INSERT INTO lines (line) VALUES ($1)", [(line,) for line in text.splitlines()])
    await owner.execute(f"COPY (SELECT line FROM lines ORDER BY n) TO '{path}'")  # noqa: S608  # the server's own path
    await owner.execute("DROP TABLE lines")
    before = await owner.fetchval("SELECT pg_conf_load_time()")
    await owner.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        while await owner.fetchval("SELECT pg_conf_load_time()") == before:
            pass


@pytest.mark.usefixtures("asking_for_passwords")
async def test_a_new_password_is_in_the_url_and_the_one_before_is_good_no_more(dsn: str) -> None:
    urls = [run("roles", "url", "reader", "--new-password", DATABASE_URL=dsn).stdout.strip() for _ in range(2)]
    with pytest.raises(OperatorError, match="password"):
        await connect(urls[0])
    async with connected(urls[1]) as reader:
        assert await reader.fetchval("SELECT current_user") == "booking_ledger_reader"
    with pytest.raises(OperatorError, match="password"):
        await connect(run("roles", "url", "reader", DATABASE_URL=dsn).stdout.strip())


@pytest.mark.usefixtures("asking_for_passwords")
async def test_a_password_from_standard_input_is_the_roles_own(dsn: str) -> None:
    options = ("--auditor-password-stdin", "--reader-password-stdin")
    made = run("roles", "create", *options, stdin=f"{PASSWORD}\nanother one of 26 letters\n", DATABASE_URL=dsn)
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    async with connected(role_url(dsn, "reader", PASSWORD)) as reader:
        assert await reader.fetchval("SELECT current_user") == "booking_ledger_reader"
    with pytest.raises(OperatorError, match="password"):
        await connect(role_url(dsn, "auditor", PASSWORD))


@pytest.mark.parametrize("given", ["", "short\n", "näive passwords are refused\n"])
def test_a_password_that_will_not_do_is_refused_without_being_shown(dsn: str, given: str) -> None:
    refused = run("roles", "create", "--reader-password-stdin", stdin=given, DATABASE_URL=dsn)
    assert refused.returncode == 2
    assert given.strip() == "" or given.strip() not in refused.stderr
    assert KEY not in refused.stderr
