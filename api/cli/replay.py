"""`booking-ledger webhooks replay`: stored deliveries read again, as they are understood today."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from api.cli.bookings import find_ledger, ledger_option
from api.cli.context import (
    checked_connection,
    command_pool,
    json_option,
    log_to_stderr,
    print_json,
    progress_bar,
    read_settings,
)
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from projections.deliveries import Outcome
    from projections.replay import Replayed, ReplayFilter

FOUND_A_PROBLEM = 1
FIELDS_SHOWN_MAX = 12
ROWS_SHOWN_MAX = 50


@click.command()
@click.option("--trigger", "triggers", multiple=True, metavar="NAME", help="Of this trigger; any number of times.")
@click.option("--uid", metavar="UID", help="That name this booking, by uid or number.")
@click.option("--status", type=click.Choice(["success", "error"]), help="As webhook_logs calls it; error: parked, too.")
@click.option("--unrecognised", is_flag=True, help="Whose trigger we did not know.")
@click.option("--event-id", "event_ids", multiple=True, type=click.UUID, help="This one; any number of times.")
@click.option("--from", "since", metavar="TIME", help="Recorded at or after, ISO 8601.")
@click.option("--to", "until", metavar="TIME", help="Recorded before, ISO 8601.")
@click.option("--from-position", default=1, type=click.IntRange(min=1), help="From this position of the log on.")
@click.option("--to-position", type=click.IntRange(min=1), help="Up to this position.")
@click.option("--apply/--dry-run", "is_applied", default=False, help="Write it; without --apply it is only told.")
@ledger_option
@json_option
def replay(*, is_applied: bool, ledger_name: str, as_json: bool, **wish: object) -> None:
    """Read stored deliveries again, as they are understood today.

    Tells, row by row and field by field, where the read models hold something else than what the deliveries mean; with
    --apply these rows are written, and events that a projection could not apply are tried again. Nothing is sent or
    appended, and a worker may go on meanwhile. Exit code 1 where something differs, or could not be settled.
    """
    from api.composition import database

    settings = read_settings()
    narrowed = _filter(**wish)  # type: ignore[arg-type]  # click has read them as the options say
    log_to_stderr()
    with database(settings) as dsn, progress_bar("Reading again") as draw:
        told = asyncio.run(_replay(dsn, settings, ledger_name, narrowed, draw, is_applied=is_applied))
    if as_json:
        print_json(told)
    else:
        _print(told)
    if not told.is_settled:
        sys.exit(FOUND_A_PROBLEM)


async def _replay(
    dsn: str,
    settings: Settings,
    ledger_name: str,
    narrowed: "ReplayFilter",
    draw: "Callable[[int, int], None]",
    *,
    is_applied: bool,
) -> "Replayed":
    from projections.replay import replay as read_again

    async with checked_connection(dsn, settings) as connection:
        ledger = await find_ledger(connection, ledger_name)
    async with command_pool(dsn, settings) as pool:
        return await read_again(
            pool,
            ledger,
            narrowed,
            is_applied=is_applied,
            confirm_on_accept=settings.confirm_on_accept,
            tell=draw,
        )


def _filter(
    *,
    triggers: tuple[str, ...],
    uid: str | None,
    status: "Outcome | None",
    unrecognised: bool,
    event_ids: "tuple[UUID, ...]",
    since: str | None,
    until: str | None,
    from_position: int,
    to_position: int | None,
) -> "ReplayFilter":
    """Raises BadParameter."""
    from ledger.vocabulary import Position
    from projections.replay import ReplayFilter

    return ReplayFilter(
        triggers=list(triggers) or None,
        booking=uid,
        status=status,
        is_unrecognised=unrecognised,
        event_ids=list(event_ids) or None,
        recorded_from=_moment("--from", since),
        recorded_before=_moment("--to", until),
        after=Position(from_position - 1),
        until=None if to_position is None else Position(to_position),
    )


def _moment(name: str, text: str | None) -> "datetime | None":
    from ledger.calcom.payloads import read_instant
    from ledger.errors import BadParameter

    moment = None if text is None else read_instant(text)
    if text is not None and moment is None:
        raise BadParameter(name, "is a date or time in ISO 8601, such as 2026-12-01T09:00:00Z")
    return moment


def _print(told: "Replayed") -> None:
    from api.cli.practice import printable

    for row in told.rows[:ROWS_SHOWN_MAX]:
        part = f" {printable(row.part)}" if row.part else ""
        click.echo(f"{row.read_model} {printable(row.key)}{part}: {row.change}")
        for field, sides in list(row.fields.items())[:FIELDS_SHOWN_MAX] if row.change == "different" else ():
            click.echo(f"  {field}: {printable(str(sides.held))} -> {printable(str(sides.says))}")
    if len(told.rows) > ROWS_SHOWN_MAX:
        click.echo(f"… and {sum(told.differing.values()) - ROWS_SHOWN_MAX:,} rows more (--json has them).")
    for failure in told.failures[:ROWS_SHOWN_MAX]:
        click.echo(f"The delivery at position {failure.position} cannot be read: {printable(failure.error)}")
    counts = ", ".join(f"{count:,} of {name}" for name, count in told.differing.items()) or "none"
    done = "were written" if told.applied else "would be written (--apply)"
    click.echo(f"{told.deliveries:,} deliveries read again; rows that {done}: {counts}.")
    if told.parked:
        left = f", {told.parked_left:,} of them still" if told.applied else ""
        click.echo(f"{told.parked:,} events were parked{left}.")
