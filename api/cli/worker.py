"""`booking-ledger worker`: everything but the web, in a process of its own."""

import asyncio
import contextlib
import signal

import click

from api.cli.context import read_settings
from api.cli.doctor_sealing import sealing_line
from ledger.settings import Settings


@click.command()
@click.option("--projections-only", is_flag=True, help="No schedule and no spool: the projector's role is enough.")
def worker(*, projections_only: bool) -> None:
    """Keep the read models current and rebuild them on request; the web runs elsewhere, with `serve --no-worker`.

    What a server on this machine has left in the spool of BOOKING_LEDGER_HOME goes into the log, too.
    Any number may run on one database: one keeps a projection of a ledger current, another takes over when it ends.
    """
    from api.composition import check_database, database
    from api.hardening import forbid_core_dumps
    from api.log_output import configure_logging

    forbid_core_dumps()
    settings = read_settings()
    configure_logging(settings)
    with database(settings) as dsn:
        asyncio.run(check_database(settings, dsn))
        click.echo("Booking Ledger: this worker keeps the read models current until it is told to stop.")
        click.echo(sealing_line(settings))
        asyncio.run(_work(settings, dsn, projections_only=projections_only))


async def _work(settings: Settings, dsn: str, *, projections_only: bool) -> None:
    """Work until SIGINT or SIGTERM."""
    from api.garbage import settle_garbage
    from api.pools import opened_pool
    from api.spooling import spooling
    from api.working import WORKER_CONNECTIONS_MAX, projecting, working
    from ledger.store import read_ledgers

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened_pool(settings, dsn, connections_max=WORKER_CONNECTIONS_MAX))
        async with pool.acquire() as connection:
            ledgers = await read_ledgers(connection)
        if projections_only:
            await stack.enter_async_context(projecting(settings, pool, dsn))
        else:
            await stack.enter_async_context(spooling(settings, pool, ledgers=ledgers, known=()))
            await stack.enter_async_context(working(settings, pool, dsn))
        settle_garbage()
        await stopped.wait()
