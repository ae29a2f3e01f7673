"""The parts of a running server, put together."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import asyncpg
import msgspec

from api.alarms import Watch
from api.announcing import Announcements
from api.deliveries import DeliveryLog
from api.erasing import finish_erasures
from api.key_ring import KeyRing
from api.metering import Meter
from api.spooling import keyless, spooling
from api.tries import Tries
from api.usage import Usage
from api.working_aside import working_aside
from ledger.appender import Appender
from ledger.migrate import migrate, refuse_unknown_schema
from ledger.postgres import close_pool, connect, open_pool, refuse_old_server, refuse_unsafe_server
from ledger.sealing import check_keys, migrate_keys, opened_keyring, sealing_of
from ledger.settings import Settings
from ledger.spool import Spool
from ledger.spooled import KnownLedger
from ledger.store import Ledger, read_ledgers
from projections.pulse import Pulse

WEB_CONNECTIONS_MAX = 10


class Running(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What request handlers may use. `webhook_secrets` are all active."""

    settings: Settings
    dsn: str
    pool: asyncpg.Pool
    ledgers: Mapping[str, Ledger]
    webhook_secrets: tuple[bytes, ...]
    appender: Appender
    deliveries: DeliveryLog
    meter: Meter
    announcements: Announcements
    keys: KeyRing
    tries: Tries
    usage: Usage
    watch: Watch
    spool: Spool | None
    """None: its folder cannot be used, and what Postgres does not take is refused."""
    pulse: Pulse | None = None
    """Of its worker, where it has one."""


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
    """The database can be served from; an embedded one, being ours alone, has been migrated. Nobody erased is in it.

    Raises OperatorError's children, each saying what to do.
    """
    direct = settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn
    async with opened_keyring(sealing_of(settings)) as keyring:
        connection = await connect(direct, keyring=keyring)
        try:
            refuse_old_server(connection)
            if settings.database_url is None:
                await migrate(connection)
                await migrate_keys(sealing_of(settings))
            await refuse_unsafe_server(connection)
            await refuse_unknown_schema(connection)
            await check_keys(connection)
        finally:
            await connection.close()
    await finish_erasures(settings, dsn)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, dsn: str, *, with_worker: bool, known: Sequence[KnownLedger] = ()
) -> AsyncIterator[Running]:
    """Everything runs for as long as the block lasts; then it ends in order and nothing answered is lost.

    The database has been checked before (`check_database`). Where that could not be done since it is away, its
    ledgers are `known`, and all that is verified goes into the spool until the end of the block.
    """
    async with contextlib.AsyncExitStack() as stack:
        pool = await open_pool(
            dsn,
            connections_min=0 if known else 1,
            connections_max=WEB_CONNECTIONS_MAX,
            behind_pooler=settings.database_direct_url is not None,
            keyring=await stack.enter_async_context(opened_keyring(sealing_of(settings))),
        )
        stack.push_async_callback(close_pool, pool)
        ledgers = keyless(known) if known else await _read_ledgers(pool)
        spool = await stack.enter_async_context(spooling(settings, pool, ledgers=ledgers, known=known))
        appender = Appender(pool)
        if known:
            appender.is_away = True
        else:
            await stack.enter_async_context(appender.running())
        deliveries = await stack.enter_async_context(DeliveryLog(pool).running())
        webhook_secrets = tuple(secret.reveal() for secret in settings.webhook_secrets)
        usage = await stack.enter_async_context(Usage(pool, webhook_secrets).running())
        pulse = None
        if with_worker:
            pulse = await stack.enter_async_context(working_aside(dsn))
        yield Running(
            settings=settings,
            dsn=dsn,
            pool=pool,
            ledgers=ledgers,
            webhook_secrets=webhook_secrets,
            appender=appender,
            deliveries=deliveries,
            meter=Meter(),
            announcements=Announcements(),
            keys=KeyRing(pool),
            tries=Tries(),
            usage=usage,
            watch=Watch(ledgers.values()),
            spool=spool,
            pulse=pulse,
        )


async def _read_ledgers(pool: asyncpg.Pool) -> Mapping[str, Ledger]:
    async with pool.acquire() as connection:
        return await read_ledgers(connection)
