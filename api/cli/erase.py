"""`booking-ledger erase`: forget a person, or several at once."""

import asyncio
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click
import msgspec

from api.cli.context import json_option, log_to_stderr, print_json, progress_bar, read_settings
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.erasing import Extent
    from ledger.erasures import ErasureTold
    from ledger.finding import Progress

NAMES_SHOWN_MAX = 20


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the command prints as JSON."""

    dry_run: bool
    extent: "Extent | None" = None
    erasures: "list[ErasureTold]" = []


@click.command()
@click.option("--email", "emails", multiple=True, metavar="ADDRESS", help="Whom to forget; may be given several times.")
@click.option("--emails-from", type=click.File(), help="A file with one address a line; - for standard input.")
@click.option("--ledger", "ledger_name", default="main", show_default=True, help="In which log.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@json_option
def erase(
    *, emails: tuple[str, ...], emails_from: IO[str] | None, ledger_name: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Forget a person: no table, page, export, dump or log of ours names them any more.

    Bookings of theirs alone are erased. In bookings with others everything of the others stays. The log's chain still
    verifies, and nobody comes back by a late webhook, a reconciliation or a rebuild. Interrupted, it can be run again.

    This cannot be undone. Copies that were made before are yours to see to: backups, exports, other systems.
    """
    from api.erasing import wanted_address

    given = [*emails, *(line for line in emails_from or () if line.strip())]
    wanted = sorted({wanted_address(one) for one in given})
    if not wanted:
        raise click.UsageError("Whom? Give --email or --emails-from.")
    settings = read_settings()
    log_to_stderr()
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("This cannot be undone; say --yes, or look first with --dry-run.")
        people = wanted[0] if len(wanted) == 1 else f"{len(wanted):,} people"
        click.confirm(f"Erase {people} from ledger {ledger_name}? This cannot be undone.", abort=True, err=True)
    with progress_bar("reading the log") as progress:
        told = _erase(settings, wanted, ledger_name, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(told)
        return
    for line in _extent_lines(told.extent) if told.extent is not None else _receipt_lines(told.erasures):
        click.echo(line)


def _erase(settings: Settings, emails: list[str], ledger_name: str, *, dry_run: bool, progress: "Progress") -> Told:
    from api.composition import check_database, database

    async def work(dsn: str) -> Told:
        from api.cli.bookings import find_ledger
        from api.erasing import erasing
        from ledger.migrate import refuse_unknown_schema

        async with erasing(settings, dsn) as erasure:
            await refuse_unknown_schema(erasure.connection)
            ledger = await find_ledger(erasure.connection, ledger_name)
            if dry_run:
                return Told(dry_run=True, extent=await erasure.measure(ledger, emails, progress=progress))
            return Told(dry_run=False, erasures=await erasure.erase(ledger, emails, progress=progress))

    with database(settings) as dsn:
        if not dry_run:  # it would finish what was begun
            asyncio.run(check_database(settings, dsn))
        return asyncio.run(work(dsn))


def _extent_lines(extent: "Extent") -> Iterator[str]:
    yield f"Nothing was changed. Bookings that would be erased: {len(extent.bookings):,}{_some(extent.bookings)}"
    yield f"Bookings shared with others, which would stay without: {len(extent.shared_bookings):,}" + _some(
        extent.shared_bookings
    )
    if extent.hosted_bookings:
        yield f"Among these as the host: {len(extent.hosted_bookings):,}{_some(extent.hosted_bookings)}"
    yield f"Deliveries that name no booking: {extent.deliveries:,}"
    if extent.other_streams:
        yield f"Streams of other programs: {len(extent.other_streams):,}{_some(extent.other_streams)}"
    if extent.unreadable:
        yield f"Bodies that cannot be read, and so cannot be looked into: {extent.unreadable:,}"


def _some(names: list[str]) -> str:
    """The first of them, for people."""
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    return f" ({shown}{', …' if len(names) > NAMES_SHOWN_MAX else ''})" if names else ""


def _receipt_lines(erasures: "list[ErasureTold]") -> Iterator[str]:
    for one in erasures:
        if one.receipt is not None:
            yield (
                f"Erased: {one.receipt.bookings:,} bookings, {one.receipt.shared_bookings:,} shared ones redacted, "
                f"{one.receipt.events:,} bodies made unreadable. Receipt {one.erasure_id}."
            )
