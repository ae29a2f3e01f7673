"""`booking-ledger keys`: create, list, revoke."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from api.cli.access import bound_option, find_ledger_id, print_table, role_option
from api.cli.context import json_option, print_json, with_connection
from ledger.settings import Settings
from ledger.vocabulary import Role

if TYPE_CHECKING:
    from ledger.api_keys import KeyRecord
    from ledger.postgres import Connection

NAME_CHARACTERS_MAX = 100
EXPIRY_DAYS_MAX = 3650


@click.group()
def keys() -> None:
    """Keys for programs that ask over HTTP."""


@keys.command()
@role_option
@bound_option
@click.option("--expires", "days", metavar="DAYS", type=click.IntRange(1, EXPIRY_DAYS_MAX), help="Good for so long.")
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
@json_option
def create(*, role: Role, ledger_name: str | None, days: int | None, name: str, as_json: bool) -> None:
    """Make a key and print it, once: only its SHA-256 is kept.

    Several may be live at once, so to replace one make the new one, give it to its program, and revoke the old one.
    """
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise click.BadParameter(f"at most {NAME_CHARACTERS_MAX} printable characters", param_hint="--name")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def work(connection: "Connection", _settings: Settings) -> str:
        from ledger.api_keys import create_key, new_key

        key = new_key()
        ledger_id = await find_ledger_id(connection, ledger_name)
        await create_key(connection, key, name=name, role=role, ledger_id=ledger_id, expires_at=expires_at)
        return key

    key = with_connection(work)
    if as_json:
        from ledger.api_keys import prefix_of

        made = {"key": key, "prefix": prefix_of(key), "role": role, "ledger": ledger_name, "name": name}
        print_json({**made, "expires_at": expires_at})
    else:
        click.echo(key)
        click.echo("This is the only time it is shown. Send it as: Authorization: Bearer <key>", err=True)


@keys.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """Every key there ever was, the oldest first, without the keys themselves."""

    async def work(connection: "Connection", _settings: Settings) -> "Sequence[KeyRecord]":
        from ledger.api_keys import list_keys

        return await list_keys(connection)

    found = with_connection(work)
    if as_json:
        print_json(found)
        return
    headings = ("prefix", "name", "role", "ledger", "state", "created", "expires", "last used")
    rows = [
        (
            one.prefix,
            one.name,
            one.role,
            one.ledger or "every",
            one.state,
            one.created_at,
            one.expires_at,
            one.last_used_at,
        )
        for one in found
    ]
    print_table(headings, rows, nobody="No keys.")


@keys.command()
@click.argument("prefix")
@json_option
def revoke(*, prefix: str, as_json: bool) -> None:
    """Make a key useless, on every server within 5 seconds.

    PREFIX is cbl_ with the characters after it, as `keys list` shows them; the beginning is enough.
    """

    async def work(connection: "Connection", _settings: Settings) -> str:
        from ledger.api_keys import revoke_key

        return await revoke_key(connection, prefix)

    revoked = with_connection(work)
    if as_json:
        print_json({"revoked": revoked})
    else:
        click.echo(f"{revoked} is revoked.")
