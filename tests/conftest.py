"""A real PostgreSQL for every test that asks: one cluster a session, a fresh database a test.

`cluster` is a DSN, `empty_database` and `database` (migrated) are DSNs, `connection` and `pool` are open on
`database`.

The same again on a second cluster, with fsync, since `serve` refuses a server without: `durable_cluster`,
`durable_database`; on it a `server` process for one test. `shared_database` and `shared_server` are for the tests of
one module, which then must not stand in each other's way.
"""

import contextlib
import itertools
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.embedded import embedded_postgres
from ledger.migrate import migrate
from ledger.postgres import connect, open_pool

pytest.register_assert_rewrite("tests.serving")

from tests.serving import Server, serving  # noqa: E402  # its assertions explain themselves only if it comes after
from tests.system_lines import table  # noqa: E402

PROCESS = f"test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
"""Test processes may share a cluster, and containers may share a pid."""

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--system-lines", action="store_true", help="print which test holds which line of SYSTEMS.md")
    parser.addoption(
        "--schemathesis-seconds", type=int, default=120, help="how long each role asks, in the soak tests of the API"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `--system-lines`, the table of tests/system_lines.py, with how this run's tests ended."""
    if not config.getoption("system_lines"):
        return
    outcomes: dict[str, set[str]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            outcomes.setdefault(name, set()).add(outcome)
    terminalreporter.section("lines of the five systems")
    for line in table(outcomes):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The DSN of an embedded server without fsync, stopped and deleted at the end."""
    with _running_cluster(durable=False) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def durable_cluster() -> Iterator[str]:
    """The DSN of an embedded server as in production, stopped and deleted at the end."""
    with _running_cluster(durable=True) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def empty_database(cluster: str) -> AsyncIterator[str]:
    """The DSN of a database with nothing in it, dropped afterwards."""
    async with _fresh_database(cluster) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(cluster: str) -> AsyncIterator[str]:
    """The name of a database that had all our migrations; nobody may be connected to it."""
    async with _template(cluster) as name:
        yield name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def durable_template(durable_cluster: str) -> AsyncIterator[str]:
    async with _template(durable_cluster) as name:
        yield name


@pytest_asyncio.fixture
async def database(cluster: str, migrated_template: str) -> AsyncIterator[str]:
    """The DSN of a migrated database, dropped afterwards."""
    async with _fresh_database(cluster, migrated_template) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def durable_database(durable_cluster: str, durable_template: str) -> AsyncIterator[str]:
    async with _fresh_database(durable_cluster, durable_template) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def another_durable_database(durable_cluster: str, durable_template: str) -> AsyncIterator[str]:
    async with _fresh_database(durable_cluster, durable_template) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_database(durable_cluster: str, durable_template: str) -> AsyncIterator[str]:
    async with _fresh_database(durable_cluster, durable_template) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await connect(database)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(database)
    yield opened
    await opened.close()


@pytest.fixture
def server(durable_database: str, tmp_path: Path) -> Iterator[Server]:
    """A server process that is ready, ended by its pid afterwards; nothing in it may have failed unexpectedly."""
    with serving(durable_database, tmp_path) as started:
        yield started
    assert "Traceback" not in started.printed(), started.printed()


@pytest.fixture(scope="module")
def shared_server(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(shared_database, tmp_path_factory.mktemp("server")) as started:
        yield started
    assert "Traceback" not in started.printed(), started.printed()


@contextlib.contextmanager
def _running_cluster(*, durable: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="booking-ledger-tests-") as home:
        Path(home).chmod(0o711)  # for root: the account that runs the server has to enter
        with embedded_postgres(Path(home), durable=durable) as dsn:
            yield dsn


@contextlib.asynccontextmanager
async def _fresh_database(cluster: str, template: str = "template1") -> AsyncIterator[str]:
    name = f"{PROCESS}_{next(_numbers)}"
    await _administer(cluster, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _in_database(cluster, name)
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def _template(cluster: str) -> AsyncIterator[str]:
    name = f"{PROCESS}_template"
    await _administer(cluster, f"CREATE DATABASE {name}")
    connection = await connect(_in_database(cluster, name))
    try:
        await migrate(connection)
    finally:
        await connection.close()
    yield name
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


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
