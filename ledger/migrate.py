"""The database schema, brought up to this program's version: numbered SQL files, up only, each applied once.

A file is `migrations/NNNN_what.sql`, numbered from 0001 without a gap. Comments may open it, then comes the line
`-- migrate:up`, then SQL that runs in one transaction together with its row in `ledger.schema_migrations`. A released
file is never edited: the row holds the checksum of what was applied.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from ledger.errors import MigrationChanged, OperatorError, SchemaUnknown
from ledger.postgres import Connection
from ledger.sql import load_statements

MIGRATION_LOCK: Final = 0x626F6F6B_6C656467
"""The session lock that one migrating process holds ("bookledg"); per database, as advisory locks are."""
MIGRATION_SECONDS_MAX: Final = 6 * 3600
LOCK_WAIT_SECONDS_MAX: Final = 600
"""For the other process that migrates, and for the tables that a migration changes."""

SQL = load_statements(Path(__file__).with_suffix(".sql"))

_FILE_NAME = re.compile(r"([0-9]{4})_[a-z0-9_]+")
_MARKER = re.compile(r"--\s*migrate:.*")
_UP = "-- migrate:up"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `checksum`: SHA-256 of its text with LF line ends, in hexadecimal digits."""

    version: int
    name: str
    sql: str
    checksum: str


class _Applied(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    checksum: str


async def migrate(connection: Connection, *, folder: Path | None = None) -> list[str]:
    """The names of the migrations that were missing, in the order in which they were applied just now.

    `connection` leads past any pooler and is in no transaction; each migration has one of its own, so what was applied
    before a failure stays. Processes that migrate at once take turns. Raises MigrationChanged, SchemaUnknown for a
    database ahead of us, OperatorError for a folder that cannot be right or a migration that PostgreSQL refuses.
    """
    if connection.is_in_transaction():
        raise ValueError("migrate() opens its own transactions; the connection is in one already")
    migrations = read_migrations(folder)
    async with _turn(connection):
        await _create_migrations_table(connection)
        applied = await _read_applied(connection)
        _refuse_other_history(applied, migrations)
        missing = migrations[len(applied) :]
        for migration in missing:
            await _apply(connection, migration)
    return [migration.name for migration in missing]


async def refuse_unknown_schema(connection: Connection, *, folder: Path | None = None) -> None:
    """Raises SchemaUnknown when the database is behind or ahead, MigrationChanged when it had other files than ours."""
    migrations = read_migrations(folder)
    applied = await _read_applied(connection)
    _refuse_other_history(applied, migrations)
    if len(applied) < len(migrations):
        raise SchemaUnknown(found=len(applied), known=len(migrations))


def known_version(*, folder: Path | None = None) -> int:
    """The version that this program needs: the number of its last migration."""
    return len(read_migrations(folder))


def read_migrations(folder: Path | None = None) -> list[Migration]:
    """The files of `folder` (None: ours) in order. Raises OperatorError unless they are 1, 2, 3 … and well-formed."""
    folder = folder or migrations_folder()
    migrations = [_read_migration(path) for path in sorted(folder.glob("*.sql"))]
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise OperatorError(f"In {folder}, {migration.name} stands where {expected:04} must; number without gaps.")
    return migrations


def migrations_folder() -> Path:
    """In an installed package `ledger/migrations/`, in a checkout `migrations/` beside the package."""
    package = Path(__file__).parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise OperatorError(f"There are no migrations beside {package}; install booking-ledger again.")


def _read_migration(path: Path) -> Migration:
    sql = path.read_bytes().decode().replace("\r\n", "\n")
    file_name = _FILE_NAME.fullmatch(path.stem)
    if not file_name:
        raise OperatorError(f"{path} is not named like 0001_what.sql; rename it or move it away.")
    lines = [line.strip() for line in sql.splitlines() if line.strip()]
    markers = [line for line in lines if _MARKER.fullmatch(line)]
    opening = next((line for line in lines if line in markers or not line.startswith("--")), None)
    if markers != [_UP] or opening != _UP:
        raise OperatorError(f"{path} must have the line {_UP} once, before its SQL, and no other section.")
    return Migration(
        version=int(file_name.group(1)), name=path.stem, sql=sql, checksum=sha256(sql.encode()).hexdigest()
    )


def _refuse_other_history(applied: Sequence[_Applied], migrations: Sequence[Migration]) -> None:
    """Passes when the database had the first of our migrations, or all of them, with the content that they have now."""
    for expected, row in enumerate(applied, start=1):
        if row.version != expected:
            raise OperatorError(f"ledger.schema_migrations lacks version {expected}; restore the row that was deleted.")
    if len(applied) > len(migrations):
        raise SchemaUnknown(found=len(applied), known=len(migrations))
    for row, migration in zip(applied, migrations, strict=False):
        if row.checksum != migration.checksum:
            raise MigrationChanged(migration.name)


@asynccontextmanager
async def _turn(connection: Connection) -> AsyncIterator[None]:
    """Inside, this session alone migrates, under the long time limits; afterwards it has its own limits back."""
    (limits,) = await connection.fetch(SQL["read_time_limits"])
    long = (f"{MIGRATION_SECONDS_MAX}s", f"{LOCK_WAIT_SECONDS_MAX}s", f"{MIGRATION_SECONDS_MAX}s")
    await connection.execute(SQL["set_time_limits"], *long)
    try:
        await _lock(connection)
        try:
            yield
        finally:
            if not connection.is_closed():
                await connection.execute(SQL["unlock_migrations"], MIGRATION_LOCK)
    finally:
        if not connection.is_closed():
            await connection.execute(SQL["set_time_limits"], *limits.values())


async def _lock(connection: Connection) -> None:
    try:
        await connection.execute(SQL["lock_migrations"], MIGRATION_LOCK, timeout=MIGRATION_SECONDS_MAX)
    except asyncpg.LockNotAvailableError:
        raise OperatorError(
            f"Another process has been migrating for {LOCK_WAIT_SECONDS_MAX} s; let it finish, then run this again."
        ) from None


async def _create_migrations_table(connection: Connection) -> None:
    (found,) = await connection.fetch(SQL["find_migrations_table"])
    async with connection.transaction():
        if not found["has_schema"]:
            await connection.execute(SQL["create_schema"])
        if not found["has_table"]:
            await connection.execute(SQL["create_migrations_table"])


async def _read_applied(connection: Connection) -> list[_Applied]:
    (found,) = await connection.fetch(SQL["find_migrations_table"])
    rows = await connection.fetch(SQL["read_migrations"]) if found["has_table"] else []
    return [_Applied(version=row["version"], checksum=row["checksum"]) for row in rows]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=MIGRATION_SECONDS_MAX)
            await connection.execute(SQL["record_migration"], migration.version, migration.name, migration.checksum)
    except asyncpg.PostgresError as error:
        line = migration.sql.count("\n", 0, int(error.position or 1) - 1) + 1
        raise OperatorError(
            f"Migration {migration.name} failed at or after line {line} ({error}); nothing of it was kept."
        ) from error
