"""A real PostgreSQL for every test that asks: one cluster a session, a fresh database a test.

`cluster` is a DSN, `empty_database` and `database` (migrated) are DSNs, `connection` is open on `database`.
"""

import itertools
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.migrate import migrate
from ledger.postgres import connect

PROCESS = f"test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
"""Test processes may share a cluster, and containers may share a pid."""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The DSN of an embedded server without fsync, stopped and deleted at the end."""
    from ledger.embedded import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="booking-ledger-tests-") as home:
        Path(home).chmod(0o711)  # for root: the account that runs the server has to enter
        with embedded_postgres(Path(home), durable=False) as dsn:
            yield dsn


@pytest_asyncio.fixture
async def empty_database(cluster: str) -> AsyncIterator[str]:
    """The DSN of a database with nothing in it, dropped afterwards."""
    name = f"{PROCESS}_{next(_numbers)}"
    await _administer(cluster, f"CREATE DATABASE {name}")
    yield _in_database(cluster, name)
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(cluster: str) -> AsyncIterator[str]:
    """The name of a database that had all our migrations; nobody may be connected to it."""
    name = f"{PROCESS}_template"
    await _administer(cluster, f"CREATE DATABASE {name}")
    connection = await connect(_in_database(cluster, name))
    try:
        await migrate(connection)
    finally:
        await connection.close()
    yield name
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def database(cluster: str, migrated_template: str) -> AsyncIterator[str]:
    """The DSN of a migrated database, dropped afterwards."""
    name = f"{PROCESS}_{next(_numbers)}"
    await _administer(cluster, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield _in_database(cluster, name)
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await connect(database)
    yield opened
    await opened.close()


async def _administer(dsn: str, statement: str) -> None:
    connection = await connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _in_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    address, _, options = dsn.partition("?")
    return f"{address.rpartition('/')[0]}/{name}?{options}"
