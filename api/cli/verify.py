"""`booking-ledger verify`."""

import sys
from typing import TYPE_CHECKING

import click

from api.cli.bookings import find_ledger, ledger_option
from api.cli.context import json_option, print_json, progress_bar, with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.chain import Verification
    from ledger.postgres import Connection


@click.command()
@ledger_option
@json_option
def verify(*, ledger_name: str, as_json: bool) -> None:
    """Prove that the log was not changed: recompute its hash chain.

    Reads every event of the log and computes its digest anew. Ends with 1 and names the first bad position where an
    event was changed, removed, added or moved.
    """

    async def work(connection: "Connection", _settings: Settings) -> "Verification":
        from ledger.chain import verify_chain

        ledger = await find_ledger(connection, ledger_name)
        with progress_bar("verifying") as progress:
            return await verify_chain(connection, ledger, progress=progress)

    found = with_connection(work)
    if as_json:
        print_json(found)
    elif found.ok:
        click.echo(f"The chain holds: {found.events:,} events, none changed, removed or moved.")
    else:
        click.echo(f"The chain is broken at position {found.first_bad_position:,} of {found.head:,}.")
    sys.exit(0 if found.ok else 1)
