"""The parts of a running program, put together: the only place that opens pools."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import asyncpg
import msgspec

from api.deliveries import DeliveryLog
from ledger.appender import Appender
from ledger.migrate import migrate, refuse_unknown_schema
from ledger.postgres import connect, open_pool, refuse_old_server, refuse_unsafe_server
from ledger.settings import Settings
from ledger.store import Ledger, read_ledgers
from projections.runner import Runner

WEB_CONNECTIONS_MAX = 10


class Running(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What request handlers may use. `webhook_secrets` are all active."""

    settings: Settings
    pool: asyncpg.Pool
    ledgers: Mapping[str, Ledger]
    webhook_secrets: tuple[bytes, ...]
    appender: Appender
    deliveries: DeliveryLog
    runner: Runner | None = None


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The DSN to use for as long as the block lasts: the configured server's, else the embedded one's."""
    if settings.database_url is not None:
        yield settings.database_url.reveal_text()
        return
    from ledger.embedded import default_home, embedded_postgres

    with embedded_postgres(settings.home or default_home()) as dsn:
        yield dsn


async def check_database(settings: Settings, dsn: str) -> None:
    """The database can be served from; an embedded one, being ours alone, has been migrated.

    Raises OperatorError's children, each saying what to do.
    """
    connection = await connect(settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn)
    try:
        refuse_old_server(connection)
        if settings.database_url is None:
            await migrate(connection)
        await refuse_unsafe_server(connection)
        await refuse_unknown_schema(connection)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def opened(settings: Settings, dsn: str, *, with_worker: bool) -> AsyncIterator[Running]:
    """Everything runs for as long as the block lasts; then it ends in order and nothing answered is lost.

    The database has been checked before (`check_database`).
    """
    pool = await open_pool(
        dsn, connections_max=WEB_CONNECTIONS_MAX, behind_pooler=settings.database_direct_url is not None
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(pool.close)
        async with pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        appender = await stack.enter_async_context(Appender(pool).running())
        deliveries = await stack.enter_async_context(DeliveryLog(pool).running())
        runner = None
        if with_worker:
            direct = settings.database_direct_url
            runner = Runner(pool, direct.reveal_text() if direct else dsn, confirm_on_accept=settings.confirm_on_accept)
            await stack.enter_async_context(runner.running())
        yield Running(
            settings=settings,
            pool=pool,
            ledgers=ledgers,
            webhook_secrets=tuple(secret.reveal() for secret in settings.webhook_secrets),
            appender=appender,
            deliveries=deliveries,
            runner=runner,
        )
