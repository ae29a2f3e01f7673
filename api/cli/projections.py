"""`booking-ledger projections`: how current the read models are, rebuilding them, and what they could not apply."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from api.cli.bookings import find_ledger, ledger_option
from api.cli.context import json_option, log_to_stderr, print_json, progress_bar, read_settings, with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ledger.postgres import Connection
    from projections.measures import ProjectionStatus
    from projections.parked import ParkedEvent, Retried
    from projections.progress import Progress

FOLLOW_EVERY_SECONDS = 0.5
FOUND_A_PROBLEM = 1

name_argument = click.argument("name")
positions_argument = click.argument("positions", nargs=-1, type=click.IntRange(min=1))


@click.group()
def projections() -> None:
    """How current the read models are; rebuild them while people go on using them."""


@projections.command()
@json_option
def status(*, as_json: bool) -> None:
    """Every read model: generation, position, lag, state, parked events. Exit code 1 where one is failing."""
    rows, generations = with_connection(_read)
    if as_json:
        print_json({"projections": rows, "generations": generations})
    else:
        from api.cli.tables import print_generations, print_projections

        print_projections(rows)
        print_generations([one for one in generations if one.state == "building"])
    if any(row.state == "failing" or row.parked for row in rows):
        sys.exit(FOUND_A_PROBLEM)


@projections.command()
@json_option
def lag(*, as_json: bool) -> None:
    """How far each read model is behind the log, in events and seconds."""
    rows, _ = with_connection(_read)
    if as_json:
        print_json(
            [
                {
                    "projection": row.projection,
                    "ledger": row.ledger,
                    "lag_events": row.lag_events,
                    "lag_seconds": row.lag_seconds,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        click.echo(f"{row.ledger} {row.projection}: {row.lag_events:,} events, {row.lag_seconds:.1f} s")


async def _read(connection: "Connection", _settings: Settings) -> "tuple[list[ProjectionStatus], list[Progress]]":
    from projections.measures import read_status
    from projections.progress import read_progress

    return await read_status(connection), await read_progress(connection)


@projections.command()
@name_argument
@json_option
def rebuild(*, name: str, as_json: bool) -> None:
    """Build a read model anew beside the live one, then swap it in.

    Deliveries and queries go on; where many webhooks arrive it rests in between and takes several times as long. When
    this command is interrupted, a worker goes on with the rebuild, or this command when it is given again.
    """
    from api.composition import database

    settings = read_settings()
    log_to_stderr()
    with database(settings) as dsn:
        direct = settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn
        with progress_bar(f"Rebuilding {name}") as draw:
            progress = asyncio.run(_rebuild(direct, settings, name, draw))
    if as_json:
        print_json(progress)
    elif progress.state == "live":
        rate = f", {progress.rate:,.0f} events/s" if progress.rate else ""
        click.echo(
            f"{name} generation {progress.generation} is live: {progress.events_total:,} events in "
            f"{progress.filling_seconds:.1f} s{rate}, swapped in {progress.swap_ms or 0:.0f} ms."
        )
    else:
        click.echo(f"{name} generation {progress.generation} is {progress.state}.", err=True)
    if progress.state != "live":
        sys.exit(FOUND_A_PROBLEM)


async def _rebuild(dsn: str, settings: Settings, name: str, draw: "Callable[[int, int], None]") -> "Progress":
    """Drive the rebuild that is under way, or a new one; where another drives it already, follow it."""
    from api.cli.context import checked_connection
    from ledger.errors import RebuildUnderWay
    from ledger.sealing import sealing_of
    from projections.progress import read_progress
    from projections.rebuild import Rebuild, WheelLost, begin_rebuild, find_projection

    async def tell(progress: "Progress") -> None:
        draw(progress.events_done, progress.events_total)

    async with checked_connection(dsn, settings) as connection:
        try:
            await begin_rebuild(connection, name)
        except RebuildUnderWay as under_way:
            click.echo(f"booking-ledger: {under_way} Following it.", err=True)
        while True:
            (progress,) = await read_progress(connection, name)
            await tell(progress)
            if progress.state != "building":
                return progress
            try:
                rebuild = Rebuild(
                    dsn,
                    find_projection(name),
                    progress.generation,
                    confirm_on_accept=settings.confirm_on_accept,
                    sealing=sealing_of(settings),
                )
                await rebuild.drive(tell)
            except WheelLost:
                await asyncio.sleep(FOLLOW_EVERY_SECONDS)


@projections.command()
@name_argument
def pause(*, name: str) -> None:
    """Pause a rebuild under way; where there is none, the projection, which then falls behind."""
    _say_paused(name, with_connection(_pausing(name, paused=True)), "is paused")


@projections.command()
@name_argument
def resume(*, name: str) -> None:
    """Go on with what was paused."""
    _say_paused(name, with_connection(_pausing(name, paused=False)), "goes on")


def _pausing(name: str, *, paused: bool) -> "Callable[[Connection, Settings], Awaitable[str]]":
    async def work(connection: "Connection", _settings: Settings) -> str:
        from projections.rebuild import set_paused

        return await set_paused(connection, name, paused=paused)

    return work


def _say_paused(name: str, which: str, what: str) -> None:
    click.echo(f"The rebuild of {name} {what}." if which == "building" else f"The projection {name} {what}.")


@projections.command()
@name_argument
def cancel(*, name: str) -> None:
    """End a rebuild; the live read model stays as it is."""

    async def work(connection: "Connection", _settings: Settings) -> None:
        from projections.rebuild import cancel_rebuild

        await cancel_rebuild(connection, name)

    with_connection(work)
    click.echo(f"The rebuild of {name} is cancelled.")


@projections.command()
@ledger_option
@json_option
def parked(*, ledger_name: str, as_json: bool) -> None:
    """Events that a projection could not apply, with the error. Exit code 1 where there are any."""

    async def work(connection: "Connection", _settings: Settings) -> "list[ParkedEvent]":
        from projections.parked import list_parked

        return await list_parked(connection, await find_ledger(connection, ledger_name), None)

    rows = with_connection(work)
    if as_json:
        print_json(rows)
    for row in [] if as_json else rows:
        skipped = " (skipped)" if row.skipped_at else ""
        click.echo(f"{row.position} {row.projection} {row.stream_id}: {row.error}{skipped}")
    if any(row.skipped_at is None for row in rows):
        sys.exit(FOUND_A_PROBLEM)


@projections.command()
@name_argument
@positions_argument
@ledger_option
@json_option
def retry(*, name: str, positions: tuple[int, ...], ledger_name: str, as_json: bool) -> None:
    """Try parked events again: those at these positions, or all that are not skipped."""
    from api.composition import database

    settings = read_settings()
    log_to_stderr()
    with database(settings) as dsn:
        retried = asyncio.run(_retry(dsn, settings, name, positions, ledger_name))
    if as_json:
        print_json(retried)
    else:
        click.echo(f"{len(retried.applied)} applied, {len(retried.failed)} failed again.")
    if retried.failed:
        sys.exit(FOUND_A_PROBLEM)


async def _retry(dsn: str, settings: Settings, name: str, positions: tuple[int, ...], ledger_name: str) -> "Retried":
    from api.cli.context import checked_connection, command_pool
    from projections.parked import retry_parked
    from projections.rebuild import find_projection

    async with checked_connection(dsn, settings) as connection:
        ledger = await find_ledger(connection, ledger_name)
    async with command_pool(dsn, settings) as pool:
        return await retry_parked(
            pool,
            ledger,
            find_projection(name),
            list(positions) or None,
            confirm_on_accept=settings.confirm_on_accept,
        )


@projections.command()
@name_argument
@click.argument("positions", nargs=-1, required=True, type=click.IntRange(min=1))
@ledger_option
def skip(*, name: str, positions: tuple[int, ...], ledger_name: str) -> None:
    """Do without parked events; they stay in the log and in the list."""

    async def work(connection: "Connection", _settings: Settings) -> list[int]:
        from projections.parked import skip_parked
        from projections.rebuild import find_projection

        find_projection(name)
        return await skip_parked(connection, await find_ledger(connection, ledger_name), name, positions)

    skipped = with_connection(work)
    click.echo(f"{len(skipped)} of {len(positions)} skipped.")
    if len(skipped) < len(positions):
        sys.exit(FOUND_A_PROBLEM)
