"""`booking-ledger users`: create, list, disable, enable, password."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from api.cli.access import bound_option, find_ledger_id, print_table, role_option
from api.cli.context import json_option, print_json, with_connection
from ledger.settings import Settings
from ledger.vocabulary import Role

if TYPE_CHECKING:
    from ledger.postgres import Connection
    from ledger.users import UserRecord

stdin_option = click.option("--password-stdin", is_flag=True, help="Read it from standard input instead of asking.")


@click.group()
def users() -> None:
    """People who sign in to the pages with a name and a password."""


@users.command()
@click.argument("name")
@role_option
@bound_option
@stdin_option
@json_option
def create(*, name: str, role: Role, ledger_name: str | None, password_stdin: bool, as_json: bool) -> None:
    """Let somebody sign in. The password is asked for twice."""
    from ledger.users import user_name

    name = user_name(name)
    password_hash = _hashed_password(name, from_stdin=password_stdin)

    async def work(connection: "Connection", _settings: Settings) -> None:
        from uuid import uuid4

        from ledger.users import create_user

        ledger_id = await find_ledger_id(connection, ledger_name)
        await create_user(connection, uuid4(), name=name, role=role, ledger_id=ledger_id, password_hash=password_hash)

    with_connection(work)
    _say({"user": name, "role": role, "ledger": ledger_name}, f"{name} may sign in as {role}.", as_json=as_json)


@users.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """Every user by name, the disabled ones too."""

    async def work(connection: "Connection", _settings: Settings) -> "Sequence[UserRecord]":
        from ledger.users import list_users

        return await list_users(connection)

    found = with_connection(work)
    if as_json:
        print_json(found)
        return
    headings = ("name", "role", "ledger", "state", "sessions", "created", "last signed in")
    rows = [
        (one.name, one.role, one.ledger or "every", one.state, one.sessions, one.created_at, one.last_signed_in_at)
        for one in found
    ]
    print_table(headings, rows, nobody="No users.")


@users.command()
@click.argument("name")
@json_option
def disable(*, name: str, as_json: bool) -> None:
    """Let somebody sign in no more, and end their sessions at once."""
    _set_disabled(name, disabled=True)
    _say({"user": name, "disabled": True}, f"{name} may sign in no more; open sessions have ended.", as_json=as_json)


@users.command()
@click.argument("name")
@json_option
def enable(*, name: str, as_json: bool) -> None:
    """Let somebody who was disabled sign in again, with the same password."""
    _set_disabled(name, disabled=False)
    _say({"user": name, "disabled": False}, f"{name} may sign in again.", as_json=as_json)


@users.command()
@click.argument("name")
@stdin_option
@json_option
def password(*, name: str, password_stdin: bool, as_json: bool) -> None:
    """Give somebody a new password, and end their sessions at once."""
    from ledger.users import user_name

    name = user_name(name)
    password_hash = _hashed_password(name, from_stdin=password_stdin)

    async def work(connection: "Connection", _settings: Settings) -> None:
        from ledger.users import set_password

        await set_password(connection, name, password_hash)

    with_connection(work)
    _say({"user": name}, f"{name} has a new password; open sessions have ended.", as_json=as_json)


def _hashed_password(name: str, *, from_stdin: bool) -> str:
    """The password that was given, as it is kept. Raises BadParameter for one that must not be."""
    from ledger.passwords import PASSWORD_CHARACTERS_ADVISED, hash_password, refuse_password

    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    else:
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    refuse_password(given, user_name=name)
    if len(given) < PASSWORD_CHARACTERS_ADVISED:
        click.echo(f"Accepted; {PASSWORD_CHARACTERS_ADVISED} characters or more would be better.", err=True)
    return hash_password(given)


def _set_disabled(name: str, *, disabled: bool) -> None:
    async def work(connection: "Connection", _settings: Settings) -> None:
        from ledger.users import set_disabled, user_name

        await set_disabled(connection, user_name(name), disabled=disabled)

    with_connection(work)


def _say(made: dict[str, object], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        click.echo(sentence)
