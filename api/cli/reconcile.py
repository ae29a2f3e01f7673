"""`booking-ledger reconcile`: compare with Cal.com's API now, and tell the log what differs."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from api.cli.context import command_pool, json_option, print_json, progress_bar, read_settings
from ledger.errors import BadSetting
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.passes import Draw, Report

FOUND_DRIFT = 1


@click.command()
@click.option("--full", "is_full", is_flag=True, help="Every booking, not only what changed since the last time.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what differs; nothing is written.")
@json_option
def reconcile(*, is_full: bool, is_dry: bool, as_json: bool) -> None:
    """Ask Cal.com's API what it knows, and tell the log what differs. Exit code 1 where something did.

    The first time, and with --full, every booking is read. When this is interrupted, the next one goes on where it
    stopped; what a worker is reading just now is waited for.
    """
    from api.composition import check_database, database

    settings = read_settings()
    if settings.cal_com_api_key is None:
        raise BadSetting("CAL_COM_API_KEY", "must be set to an API key of the Cal.com account")
    with database(settings) as dsn:
        asyncio.run(check_database(settings, dsn))
        with _drawing("Reconciling") as draw:
            report = asyncio.run(_reconcile(settings, dsn, draw, is_full=is_full, is_dry=is_dry))
    if as_json:
        print_json(report)
    else:
        _print(report, is_dry=is_dry)
    if report.has_drift:
        sys.exit(FOUND_DRIFT)


async def _reconcile(settings: Settings, dsn: str, draw: "Draw", *, is_full: bool, is_dry: bool) -> "Report":
    from api.cal_com import cal_com_api
    from ledger.passes import dry_pass, run_pass
    from ledger.reconcile import Reconciler
    from ledger.store import read_ledgers
    from ledger.vocabulary import MAIN_LEDGER_NAME
    from projections import known_bookings

    direct = settings.database_direct_url
    async with command_pool(dsn, settings) as pool, cal_com_api(settings) as api:
        async with pool.acquire() as connection:
            ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
        past_pooler = direct.reveal_text() if direct else dsn
        reconciler = Reconciler(api, pool, past_pooler, ledger, known_bookings)
        if is_dry:
            return await dry_pass(reconciler, is_full=is_full, draw=draw)
        return await run_pass(reconciler, is_full=is_full, draw=draw, wait=_wait)


async def _wait(bookings: int, seconds: float) -> None:
    """Cal.com's own answer may be older than the webhooks of the last minute."""
    if seconds:
        click.echo(
            f"{bookings:,} bookings changed a moment ago and differ; looking again in {seconds:.0f} s.", err=True
        )
    await asyncio.sleep(seconds)


@contextlib.contextmanager
def _drawing(label: str) -> "Iterator[Draw]":
    """A progress bar where Cal.com says how many bookings there are; else a line at the end will do."""
    with progress_bar(label) as draw:
        yield lambda done, total: None if total is None else draw(min(done, total), total)


def _print(report: "Report", *, is_dry: bool) -> None:
    click.echo(
        f"{report.seen:,} bookings seen: {report.missing:,} were missing here, {report.stale:,} differed, "
        f"{report.extra:,} are unknown to Cal.com."
    )
    if is_dry:
        click.echo("Nothing was written (--dry-run).")
    else:
        click.echo(f"{report.observed:,} observations appended.")
    if report.doubts_open:
        click.echo(f"{report.doubts_open:,} bookings stay in doubt.")
