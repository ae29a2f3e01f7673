"""`booking-ledger sealing`: the root keys, without which no body in the log can be opened."""

from typing import TYPE_CHECKING

import click

from api.cli.context import json_option, print_json, progress_bar, with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.postgres import Connection
    from ledger.rewrapping import Rewrapped, SealingStatus


@click.group()
def sealing() -> None:
    """The keys that bodies in the log are sealed under: a new one, how many there are, wrapping them anew.

    Each booking's bodies have a key of their own, and all of those are wrapped by a root key: the first in SEALING_KEY
    or, without that, one that is kept in the database.
    """


@sealing.command("new-key")
def new_key() -> None:
    """Print a new root key for SEALING_KEY. Keep a copy where the database's backups are not.

    To change the key put the new one first and the old one after a comma, restart every process, run `rewrap`, and
    take the old one out.
    """
    from ledger.keyring import new_root_key

    click.echo(new_root_key())


@sealing.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show the root keys and how many keys each of them wraps."""
    from ledger.rewrapping import read_sealing

    async def work(connection: "Connection", _settings: Settings) -> "SealingStatus":
        return await read_sealing(connection)

    found = with_connection(work)
    if as_json:
        print_json(found)
        return
    for one in found.root_keys:
        marks = [", wraps what is new"] * one.wraps_new + [", retired"] * one.is_retired
        click.echo(f"{one.root_key}  {one.body_keys:>12,} keys, itself in: {one.place}{''.join(marks)}")
    click.echo(f"{found.destroyed:,} keys were destroyed.")
    if found.left_behind:
        click.echo(f"{found.left_behind:,} keys are still in the log's database: run booking-ledger sealing rewrap.")
    if not found.is_outside:
        click.echo("A dump of the database alone opens every body: set SEALING_KEY, restart, run sealing rewrap.")


@sealing.command()
@json_option
def rewrap(*, as_json: bool) -> None:
    """Wrap every key by the root key in use, and forget all others, the database's own too.

    Receiving goes on. No body is touched. When this is interrupted, run it again. Every process that runs must have
    the new SEALING_KEY before.
    """
    from ledger.rewrapping import rewrap as run

    with progress_bar("wrapping anew") as draw:

        async def work(connection: "Connection", _settings: Settings) -> "Rewrapped":
            return await run(connection, tell=draw)

        done = with_connection(work)
    if as_json:
        print_json(done)
        return
    moved = f", {done.moved:,} moved out of the log's database" if done.moved else ""
    gone = f"; forgotten: {', '.join(done.forgotten)}" if done.forgotten else ""
    click.echo(f"{done.rewrapped:,} keys wrapped anew by {done.root_key}{moved}{gone}.")
