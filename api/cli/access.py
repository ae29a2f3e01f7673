"""What `keys`, `users` and `roles` share: options, and a table of who there is."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, get_args

import click

from ledger.vocabulary import LedgerId, Role

if TYPE_CHECKING:
    from ledger.postgres import Connection

role_option = click.option(
    "--role",
    required=True,
    type=click.Choice(get_args(Role)),
    help="viewer reads; operator also replays, rebuilds and links; admin may do everything.",
)
bound_option = click.option("--ledger", "ledger_name", metavar="NAME", help="This log alone; without it every one.")


async def find_ledger_id(connection: "Connection", name: str | None) -> LedgerId | None:
    """None for no name. Raises NotFound."""
    from api.cli.bookings import find_ledger

    return None if name is None else (await find_ledger(connection, name)).ledger_id


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str | int | datetime | None]], *, nobody: str) -> None:
    """The rows in aligned columns; `nobody` is said where there are none."""
    from rich.table import Table

    from api.cli.tables import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    if rows:
        console.print(table)
    else:
        click.echo(nobody)


def _shown(value: str | int | datetime | None) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return escape("".join(character if character.isprintable() else "\ufffd" for character in str(value)))
