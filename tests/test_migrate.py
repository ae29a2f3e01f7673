"""Migrations: each applied once, in order, whoever else is migrating; an edited or unknown history is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.errors import MigrationChanged, OperatorError, SchemaUnknown
from ledger.migrate import (
    MIGRATION_LOCK,
    known_version,
    migrate,
    migrations_folder,
    read_migrations,
    refuse_unknown_schema,
)
from ledger.postgres import connect

Write = Callable[[str, str], Path]

COUNT = "CREATE TABLE counts (n integer);"
ADD_ONE = "INSERT INTO counts (n) VALUES (1);"
SAW_WAITERS = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
POLLS_MAX = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    return folder


@pytest.fixture
def write(folder: Path) -> Write:
    def write(name: str, sql: str) -> Path:
        path = folder / f"{name}.sql"
        path.write_text(f"-- migrate:up\n\n{sql}\n", encoding="utf-8")
        return path

    return write


@pytest_asyncio.fixture
async def session(empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await connect(empty_database)
    yield opened
    await opened.close()


async def test_what_is_missing_is_applied_in_order_and_remembered(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0002_add_one", ADD_ONE)
    write("0001_make_counts", COUNT)
    assert await migrate(session, folder=folder) == ["0001_make_counts", "0002_add_one"]
    write("0003_add_another", ADD_ONE)
    assert await migrate(session, folder=folder) == ["0003_add_another"]
    assert await migrate(session, folder=folder) == []

    rows = await session.fetch(
        "SELECT version, name, checksum, applied_at FROM ledger.schema_migrations ORDER BY version"
    )
    assert [(row["version"], row["name"], row["checksum"]) for row in rows] == [
        (migration.version, migration.name, migration.checksum) for migration in read_migrations(folder)
    ]
    assert rows[0]["applied_at"] <= rows[2]["applied_at"]
    assert await session.fetchval("SELECT count(*) FROM counts") == 2


async def test_the_first_migration_may_itself_make_the_schema(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_make_ledgers", "CREATE SCHEMA IF NOT EXISTS ledger; CREATE TABLE ledger.ledgers (name text);")
    assert await migrate(session, folder=folder) == ["0001_make_ledgers"]


async def test_a_migrator_that_may_not_create_schemas_can_use_one_that_is_there(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_make_counts", "CREATE TABLE ledger.counts (n integer);")
    role = "migrator_" + await session.fetchval("SELECT current_database()")
    await session.execute(f"CREATE ROLE {role}; CREATE SCHEMA ledger AUTHORIZATION {role}; SET ROLE {role}")
    try:
        assert await migrate(session, folder=folder) == ["0001_make_counts"]
        assert await migrate(session, folder=folder) == []
    finally:
        await session.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_two_processes_that_migrate_at_once_apply_each_migration_once(
    empty_database: str, folder: Path, write: Write
) -> None:
    write("0001_make_counts", COUNT)
    write("0002_add_one", ADD_ONE)
    sessions = [await connect(empty_database) for _ in range(4)]
    try:
        applied = await asyncio.gather(*(migrate(session, folder=folder) for session in sessions))
        assert sorted(applied) == [[], [], [], ["0001_make_counts", "0002_add_one"]]
        assert await sessions[0].fetchval("SELECT count(*) FROM counts") == 1
    finally:
        for session in sessions:
            await session.close()


async def test_a_second_migrator_waits_for_the_first_and_finds_its_work_done(
    session: asyncpg.Connection, empty_database: str, folder: Path, write: Write
) -> None:
    write("0001_make_counts", COUNT)
    second = await connect(empty_database)
    try:
        await session.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        waiting = asyncio.create_task(migrate(second, folder=folder))
        for _ in range(POLLS_MAX):
            if await session.fetchval(SAW_WAITERS):
                break
        else:
            pytest.fail("the second migrator does not wait for the lock")
        assert await session.fetchval("SELECT to_regnamespace('ledger') IS NULL")
        assert await migrate(session, folder=folder) == ["0001_make_counts"]
        await session.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
        assert await waiting == []
    finally:
        await second.close()


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_make_counts", COUNT)
    broken = write("0002_break", f"{ADD_ONE}\nSELECT missing_column FROM counts;")
    with pytest.raises(OperatorError, match=r"0002_break failed at or after line 4 .*missing_column.*nothing"):
        await migrate(session, folder=folder)
    assert await session.fetchval("SELECT count(*) FROM counts") == 0
    assert await session.fetchval("SELECT array_agg(version) FROM ledger.schema_migrations") == [1]

    broken.write_text(f"-- migrate:up\n{ADD_ONE}")
    assert await migrate(session, folder=folder) == ["0002_break"]


async def test_a_migration_and_its_row_are_kept_together_or_not_at_all(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_refuse_its_row", f"{COUNT} ALTER TABLE ledger.schema_migrations ADD CHECK (version <> 1);")
    with pytest.raises(OperatorError, match="0001_refuse_its_row failed"):
        await migrate(session, folder=folder)
    assert await session.fetchval("SELECT to_regclass('counts') IS NULL")


async def test_the_session_gets_its_time_limits_and_its_lock_back(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_note_limit", "CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS statement_timeout;")
    await session.execute("SET statement_timeout = '7s'")
    await migrate(session, folder=folder)
    assert await session.fetchval("SELECT statement_timeout FROM limits") == "6h"
    assert await session.fetchval("SHOW statement_timeout") == "7s"
    assert await session.fetchval("SHOW lock_timeout") == "5s"
    write("0002_break", "SELECT 1 / 0;")
    with pytest.raises(OperatorError):
        await migrate(session, folder=folder)
    assert await session.fetchval("SHOW statement_timeout") == "7s"
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    assert await session.fetchval(held) == 0


async def test_an_edited_migration_is_refused(session: asyncpg.Connection, folder: Path, write: Write) -> None:
    write("0001_make_counts", COUNT)
    await migrate(session, folder=folder)
    write("0001_make_counts", f"{COUNT} -- with a comment")
    write("0002_add_one", ADD_ONE)
    with pytest.raises(MigrationChanged, match="0001_make_counts"):
        await migrate(session, folder=folder)
    with pytest.raises(MigrationChanged, match="0001_make_counts"):
        await refuse_unknown_schema(session, folder=folder)
    assert await session.fetchval("SELECT count(*) FROM counts") == 0


async def test_line_ends_of_a_windows_checkout_are_no_edit(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    path = write("0001_make_counts", COUNT)
    await migrate(session, folder=folder)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    await refuse_unknown_schema(session, folder=folder)
    assert await migrate(session, folder=folder) == []


async def test_a_database_behind_ahead_or_at_our_version_is_told_apart(
    session: asyncpg.Connection, folder: Path, write: Write
) -> None:
    write("0001_make_counts", COUNT)
    with pytest.raises(SchemaUnknown, match="at version 0, this program needs 1; run: booking-ledger migrate"):
        await refuse_unknown_schema(session, folder=folder)

    newest = write("0002_add_one", ADD_ONE)
    await migrate(session, folder=folder)
    await refuse_unknown_schema(session, folder=folder)
    assert known_version(folder=folder) == 2

    newest.unlink()
    with pytest.raises(SchemaUnknown, match="at version 2, this program needs 1; it was migrated by a newer release"):
        await refuse_unknown_schema(session, folder=folder)
    with pytest.raises(SchemaUnknown):
        await migrate(session, folder=folder)


async def test_a_history_with_a_hole_is_refused(session: asyncpg.Connection, folder: Path, write: Write) -> None:
    write("0001_make_counts", COUNT)
    write("0002_add_one", ADD_ONE)
    await migrate(session, folder=folder)
    await session.execute("DELETE FROM ledger.schema_migrations WHERE version = 1")
    with pytest.raises(OperatorError, match="lacks version 1"):
        await migrate(session, folder=folder)


async def test_a_connection_inside_a_transaction_is_refused(session: asyncpg.Connection, folder: Path) -> None:
    async with session.transaction():
        with pytest.raises(ValueError, match="in one already"):
            await migrate(session, folder=folder)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["0001_a", "0003_c"], "0003_c stands where 0002 must"),
        (["0001_a", "0002_b", "0002_c"], "0002_c stands where 0003 must"),
        (["0002_b"], "0002_b stands where 0001 must"),
        (["0000_z"], "0000_z stands where 0001 must"),
        (["1_a"], "not named like 0001_what.sql"),
        (["0001-a"], "not named like 0001_what.sql"),
    ],
    ids=["gap", "twice", "no first", "zero", "few digits", "dash"],
)
def test_a_folder_that_cannot_be_right_is_refused(folder: Path, write: Write, names: list[str], complaint: str) -> None:
    for name in names:
        write(name, COUNT)
    with pytest.raises(OperatorError, match=complaint):
        read_migrations(folder)


@pytest.mark.parametrize(
    "text",
    [
        COUNT,
        f"{COUNT}\n-- migrate:up\n",
        f"-- migrate:up\n{COUNT}\n-- migrate:down\nDROP TABLE counts;",
        f"-- migrate:up\n{COUNT}\n-- migrate:up\n{ADD_ONE}",
        f"-- migrate:up transaction:false\n{COUNT}",
        "",
    ],
    ids=["no marker", "marker too late", "down", "twice", "with an option", "empty"],
)
def test_a_file_that_is_not_one_section_up_is_refused(folder: Path, text: str) -> None:
    (folder / "0001_make_counts.sql").write_text(text)
    with pytest.raises(OperatorError, match="must have the line -- migrate:up once, before its SQL"):
        read_migrations(folder)


def test_a_file_may_open_with_why(folder: Path) -> None:
    (folder / "0001_make_counts.sql").write_text(f"-- Counts, because …\n\n-- migrate:up\n{COUNT}", encoding="utf-8")
    assert [migration.name for migration in read_migrations(folder)] == ["0001_make_counts"]


def test_other_files_in_the_folder_do_not_matter(folder: Path) -> None:
    (folder / "README.md").write_text("Migrations.")
    assert read_migrations(folder) == []


def test_our_own_migrations_are_found_and_well_formed() -> None:
    assert migrations_folder() == Path(__file__).parents[1] / "migrations"
    assert known_version() == len(list(migrations_folder().glob("*.sql")))


async def test_a_database_from_the_template_is_at_our_version(connection: asyncpg.Connection) -> None:
    await refuse_unknown_schema(connection)
    assert await migrate(connection) == []
