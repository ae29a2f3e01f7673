"""`booking-ledger bookings`: list, show, history, suggestions, link, unlink."""

from typing import TYPE_CHECKING, get_args

import click

from api.cli.context import json_option, print_json, with_appender, with_connection
from ledger.settings import Settings
from ledger.vocabulary import MAIN_LEDGER_NAME, CalendarStatus

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from api.linking import LinkAnswer
    from ledger.appender import Appender
    from ledger.postgres import Connection
    from ledger.store import Ledger
    from projections.calendar_events import CalendarEvent
    from projections.lookup import FoundBooking, HistoryEntry, Moment
    from projections.suggestions import SuggestionPage

as_of_option = click.option("--as-of", metavar="TIME", help="As it had been recorded by then, ISO 8601.")
valid_at_option = click.option("--valid-at", metavar="TIME", help="As it had happened by then, ISO 8601.")
ledger_option = click.option("--ledger", "ledger_name", default=MAIN_LEDGER_NAME, show_default=True, help="Which log.")


@click.group()
def bookings() -> None:
    """Look at bookings, and link deliveries that name none."""


@bookings.command("list")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(get_args(CalendarStatus)),
    help="Only with this status; may be given several times.",
)
@click.option("--attendee", help="Only with this attendee's e-mail.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@ledger_option
@json_option
def list_command(*, status: tuple[str, ...], attendee: str | None, limit: int, ledger_name: str, as_json: bool) -> None:
    """Bookings by start time."""

    async def work(connection: "Connection", _settings: Settings) -> "list[CalendarEvent]":
        from projections.lists import Filter, list_bookings

        narrowed = Filter(statuses=list(status) or None, attendee=attendee and attendee.lower())
        ledger = await find_ledger(connection, ledger_name)
        return await list_bookings(connection, ledger, narrowed, after=None, rows_max=limit)

    rows = with_connection(work)
    if as_json:
        print_json(rows)
        return
    from api.cli.tables import print_bookings

    print_bookings(rows)


@bookings.command()
@click.argument("name", metavar="UID")
@as_of_option
@valid_at_option
@ledger_option
@json_option
def show(*, name: str, as_of: str | None, valid_at: str | None, ledger_name: str, as_json: bool) -> None:
    """One booking, by any UID of its chain or by Cal.com's number."""

    async def work(connection: "Connection", settings: Settings) -> "FoundBooking":
        from projections.lookup import find_booking

        ledger = await find_ledger(connection, ledger_name)
        moment = _moment(as_of, valid_at)
        return await find_booking(connection, ledger, name, moment=moment, confirm_on_accept=settings.confirm_on_accept)

    found = with_connection(work)
    if as_json:
        print_json(found)
        return
    from api.cli.tables import print_booking

    print_booking(found)


@bookings.command()
@click.argument("name", metavar="UID")
@as_of_option
@valid_at_option
@ledger_option
@json_option
def history(*, name: str, as_of: str | None, valid_at: str | None, ledger_name: str, as_json: bool) -> None:
    """What happened to a booking, through all its reschedules, and what each event changed."""

    async def work(connection: "Connection", settings: Settings) -> "list[HistoryEntry]":
        from projections.lookup import read_history

        ledger = await find_ledger(connection, ledger_name)
        moment = _moment(as_of, valid_at)
        return await read_history(connection, ledger, name, moment=moment, confirm_on_accept=settings.confirm_on_accept)

    entries = with_connection(work)
    if as_json:
        print_json(entries)
        return
    from api.cli.tables import print_history

    print_history(name, entries)


@bookings.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="At most so many.")
@click.option("--before", type=click.IntRange(min=1), help="Only deliveries before this position.")
@ledger_option
@json_option
def suggestions(*, limit: int, before: int | None, ledger_name: str, as_json: bool) -> None:
    """Deliveries that name no booking, and the bookings that they may mean.

    By the attendee's e-mail, the latest delivery and the likeliest booking first. None is linked by itself: confirm one
    with `booking-ledger bookings link`.
    """

    async def work(connection: "Connection", _settings: Settings) -> "SuggestionPage":
        from ledger.vocabulary import Position
        from projections.suggestions import list_suggestions

        ledger = await find_ledger(connection, ledger_name)
        place = None if before is None else Position(before)
        return await list_suggestions(connection, ledger, before=place, suggestions_max=limit)

    page = with_connection(work)
    if as_json:
        print_json(page)
        return
    from api.cli.tables import print_suggestions

    print_suggestions(page)


@bookings.command()
@click.argument("name", metavar="UID")
@click.argument("delivery_id", metavar="EVENT_ID", type=click.UUID)
@ledger_option
@json_option
def link(*, name: str, delivery_id: "UUID", ledger_name: str, as_json: bool) -> None:
    """Say that a delivery which names no booking is about this one.

    From then on it means what it would mean if it named the booking itself. To say it again changes nothing.
    """

    async def work(pool: "asyncpg.Pool", appender: "Appender") -> "LinkAnswer":
        from api.linking import link_delivery

        async with pool.acquire() as connection:
            ledger = await find_ledger(connection, ledger_name)
        return await link_delivery(pool, appender, ledger, name=name, delivery_id=delivery_id)

    _tell(with_appender(work), "is linked to", "was linked already to", as_json=as_json)


@bookings.command()
@click.argument("name", metavar="UID")
@click.argument("delivery_id", metavar="EVENT_ID", type=click.UUID)
@ledger_option
@json_option
def unlink(*, name: str, delivery_id: "UUID", ledger_name: str, as_json: bool) -> None:
    """Take back that a delivery is about this booking.

    What it said of any booking counts no more, and it may be linked again. To say it again changes nothing.
    """

    async def work(pool: "asyncpg.Pool", appender: "Appender") -> "LinkAnswer":
        from api.linking import unlink_delivery

        async with pool.acquire() as connection:
            ledger = await find_ledger(connection, ledger_name)
        return await unlink_delivery(pool, appender, ledger, name=name, delivery_id=delivery_id)

    _tell(with_appender(work), "is no longer linked to", "was no longer linked to", as_json=as_json)


def _tell(answer: "LinkAnswer", now: str, already: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        what = already if answer.duplicate else now
        click.echo(f"The delivery {what} booking {answer.booking}, by the event at position {answer.position}.")


def _moment(as_of: str | None, valid_at: str | None) -> "Moment":
    """Where to stand on the two clocks. Raises BadParameter."""
    from ledger.calcom.payloads import read_instant
    from ledger.errors import BadParameter
    from projections.lookup import Moment

    instants = {"--as-of": as_of, "--valid-at": valid_at}
    for name, text in instants.items():
        if text is not None and read_instant(text) is None:
            raise BadParameter(name, "is a date or time in ISO 8601, such as 2026-12-01T09:00:00Z")
    return Moment(as_of=read_instant(as_of), valid_at=read_instant(valid_at))


async def find_ledger(connection: "Connection", name: str) -> "Ledger":
    """The log of that name. Raises NotFound."""
    from ledger.errors import NotFound
    from ledger.store import read_ledgers

    ledgers = await read_ledgers(connection)
    if name not in ledgers:
        raise NotFound(f"ledger {name}")
    return ledgers[name]
