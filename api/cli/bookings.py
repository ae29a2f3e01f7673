"""`booking-ledger bookings`: list, show, history."""

from typing import TYPE_CHECKING

import click

from api.cli.context import json_option, print_json, with_connection
from ledger.settings import Settings
from ledger.vocabulary import MAIN_LEDGER_NAME

if TYPE_CHECKING:
    from ledger.postgres import Connection
    from ledger.store import Ledger
    from projections.bookings import FoundBooking, HistoryEntry
    from projections.calendar_events import CalendarEvent

ledger_option = click.option("--ledger", "ledger_name", default=MAIN_LEDGER_NAME, show_default=True, help="Which log.")


@click.group()
def bookings() -> None:
    """Look at bookings: list, show, history."""


@bookings.command("list")
@click.option("--status", multiple=True, help="Only with this status; may be given several times.")
@click.option("--attendee", help="Only with this attendee's e-mail.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@ledger_option
@json_option
def list_command(
    *, status: tuple[str, ...], attendee: str | None, limit: int, ledger_name: str, as_json: bool
) -> None:
    """Bookings by start time."""

    async def work(connection: "Connection", _settings: Settings) -> "list[CalendarEvent]":
        from projections.bookings import Filter, list_bookings

        narrowed = Filter(statuses=list(status) or None, attendee=attendee and attendee.lower())
        ledger = await _ledger(connection, ledger_name)
        return await list_bookings(connection, ledger, narrowed, after=None, rows_max=limit)

    rows = with_connection(work)
    if as_json:
        print_json(rows)
        return
    from api.cli.tables import print_bookings

    print_bookings(rows)


@bookings.command()
@click.argument("name", metavar="UID")
@ledger_option
@json_option
def show(*, name: str, ledger_name: str, as_json: bool) -> None:
    """One booking, by any UID of its chain or by Cal.com's number."""

    async def work(connection: "Connection", settings: Settings) -> "FoundBooking":
        from projections.bookings import find_booking

        ledger = await _ledger(connection, ledger_name)
        return await find_booking(connection, ledger, name, confirm_on_accept=settings.confirm_on_accept)

    found = with_connection(work)
    if as_json:
        print_json(found)
        return
    from api.cli.tables import print_booking

    print_booking(found)


@bookings.command()
@click.argument("name", metavar="UID")
@ledger_option
@json_option
def history(*, name: str, ledger_name: str, as_json: bool) -> None:
    """What happened to a booking, through all its reschedules, and what each event changed."""

    async def work(connection: "Connection", settings: Settings) -> "list[HistoryEntry]":
        from projections.bookings import read_history

        ledger = await _ledger(connection, ledger_name)
        return await read_history(connection, ledger, name, confirm_on_accept=settings.confirm_on_accept)

    entries = with_connection(work)
    if as_json:
        print_json(entries)
        return
    from api.cli.tables import print_history

    print_history(name, entries)


async def _ledger(connection: "Connection", name: str) -> "Ledger":
    from ledger.errors import NotFound
    from ledger.store import read_ledgers

    ledgers = await read_ledgers(connection)
    if name not in ledgers:
        raise NotFound(f"ledger {name}")
    return ledgers[name]
