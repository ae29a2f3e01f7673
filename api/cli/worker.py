"""`booking-ledger worker`: everything but the web, in a process of its own."""

import asyncio
import signal

import click

from api.cli.context import read_settings
from ledger.settings import Settings

WORKER_CONNECTIONS_MAX = 6


@click.command()
def worker() -> None:
    """Keep the read models current and rebuild them on request; the web runs elsewhere, with `serve --no-worker`.

    Any number may run on one database: one keeps a projection of a ledger current, another takes over when it ends.
    """
    from api.app import configure_logging
    from api.composition import check_database, database

    settings = read_settings()
    configure_logging(settings)
    with database(settings) as dsn:
        asyncio.run(check_database(settings, dsn))
        click.echo("Booking Ledger: this worker keeps the read models current until it is told to stop.")
        asyncio.run(_work(settings, dsn))


async def _work(settings: Settings, dsn: str) -> None:
    """Work until SIGINT or SIGTERM."""
    from api.working import working
    from ledger.postgres import open_pool

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    behind_pooler = settings.database_direct_url is not None
    pool = await open_pool(dsn, connections_max=WORKER_CONNECTIONS_MAX, behind_pooler=behind_pooler)
    try:
        async with working(settings, pool, dsn):
            await stopped.wait()
    finally:
        await pool.close()
