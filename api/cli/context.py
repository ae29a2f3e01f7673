"""What commands share: settings from the environment, a connection for reading, JSON on standard output."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from ledger.settings import Settings, load_settings

if TYPE_CHECKING:
    import asyncpg

    from ledger.appender import Appender
    from ledger.postgres import Connection

Result = TypeVar("Result")

COMMAND_CONNECTIONS_MAX = 2

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def read_settings() -> Settings:
    """The environment's settings. Raises BadSetting."""
    return load_settings(os.environ)


def log_to_stderr() -> None:
    """What is logged goes beside the result, not into it."""
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def print_json(value: object) -> None:
    """One JSON document and a line end."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def with_connection(work: Callable[["Connection", Settings], Awaitable[Result]]) -> Result:
    """What `work` returns, on a connection to the configured database, whose schema has been checked."""
    from api.composition import database

    settings = read_settings()
    with database(settings) as dsn:
        return asyncio.run(_connected(dsn, settings, work))


async def _connected(
    dsn: str, settings: Settings, work: Callable[["Connection", Settings], Awaitable[Result]]
) -> Result:
    async with checked_connection(dsn, settings) as connection:
        return await work(connection, settings)


def with_appender(work: Callable[["asyncpg.Pool", "Appender"], Awaitable[Result]]) -> Result:
    """What `work` returns, with what writes to the configured database, which has been checked as for a server."""
    from api.composition import check_database, database

    settings = read_settings()
    with database(settings) as dsn:
        asyncio.run(check_database(settings, dsn))
        return asyncio.run(_appending(dsn, settings, work))


async def _appending(
    dsn: str, settings: Settings, work: Callable[["asyncpg.Pool", "Appender"], Awaitable[Result]]
) -> Result:
    from ledger.appender import Appender

    async with command_pool(dsn, settings) as pool, Appender(pool).running() as appender:
        return await work(pool, appender)


@contextlib.asynccontextmanager
async def command_pool(dsn: str, settings: Settings) -> AsyncIterator["asyncpg.Pool"]:
    """A pool for as long as the block lasts, which opens and seals bodies as the settings say."""
    from api.pools import opened_pool

    async with opened_pool(settings, dsn, connections_max=COMMAND_CONNECTIONS_MAX) as pool:
        yield pool


@contextlib.asynccontextmanager
async def checked_connection(dsn: str, settings: Settings | None = None) -> AsyncIterator["Connection"]:
    """A connection for as long as the block lasts, which opens bodies as the settings say (None: the environment's).

    Raises ServerUnreachable, SchemaUnknown.
    """
    from ledger.migrate import refuse_unknown_schema
    from ledger.postgres import connect
    from ledger.sealing import opened_keyring, sealing_of

    async with opened_keyring(sealing_of(settings or read_settings())) as keyring:
        connection = await connect(dsn, keyring=keyring)
        try:
            await refuse_unknown_schema(connection)
            yield connection
        finally:
            await connection.close()


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total): a bar on a terminal, a plain line every tenth elsewhere."""
    if sys.stderr.isatty():
        with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

            def draw(done: int, total: int) -> None:
                bar.length = max(total, 1)
                bar.update(done - bar.pos)

            yield draw
        return
    told = -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // max(total, 1)
        if tenth > told:
            told = tenth
            click.echo(f"{label}: {done:,} of {total:,}", err=True)

    yield tell
