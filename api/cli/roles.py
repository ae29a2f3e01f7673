"""`booking-ledger roles`: create, url."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from api.cli.context import checked_connection, json_option, print_json, read_settings, with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.database_roles import LoginRole
    from ledger.postgres import Connection

LOGIN_ROLES = ("migrator", "application", "reader", "auditor")
"""In the order in which their passwords are read; ledger/database_roles.py has the same, and is heavier to load."""


@click.group()
def roles() -> None:
    """PostgreSQL roles with no more rights than each needs."""


def password_options(command: Any) -> Any:  # noqa: ANN401  # a decorator of click's
    """`--<role>-password-stdin` for each role that logs in."""
    for role in reversed(LOGIN_ROLES):
        text = f"Read the {role}'s password from standard input."
        command = click.option(f"--{role}-password-stdin", is_flag=True, help=text)(command)
    return command


@roles.command()
@password_options
@json_option
def create(*, as_json: bool, **from_stdin: bool) -> None:
    """Make the roles and give them their rights; safe to run again.

    DATABASE_URL names a superuser here, or a role with CREATEROLE that owns the ledger's tables; afterwards `serve`
    wants the application's URL, `migrate` the migrator's (`booking-ledger roles url`). Passwords are read one a line,
    in the order of the options below; a role that none is read for keeps the one it has.
    """
    from ledger.errors import BadParameter

    passwords = {}
    for role in LOGIN_ROLES:
        if from_stdin[f"{role}_password_stdin"]:
            passwords[cast("LoginRole", role)] = line = sys.stdin.readline().rstrip("\r\n")
            if not line:
                raise BadParameter("the password", f"of the {role} is missing on standard input")

    async def work(connection: "Connection", _settings: Settings) -> None:
        from ledger.database_roles import create_roles, set_password

        await create_roles(connection)
        for role, password in passwords.items():
            await set_password(connection, role, password)

    with_connection(work)
    names = [f"booking_ledger_{role}" for role in ("owner", *LOGIN_ROLES)]
    if as_json:
        print_json({"roles": names})
    else:
        click.echo("\n".join([*names, "are there, with their rights. Next: booking-ledger roles url application"]))


@roles.command()
@click.argument("role", type=click.Choice(LOGIN_ROLES))
@click.option("--new-password", is_flag=True, help="Give it a new random password, which the URL then holds.")
@json_option
def url(*, role: "LoginRole", new_password: bool, as_json: bool) -> None:
    """Print the DATABASE_URL of a role: `reader` is for an analyst.

    Without --new-password no password is in it, and whoever uses it has to know one.
    """
    from api.composition import database
    from ledger.database_roles import new_password as make_password
    from ledger.database_roles import role_url

    password = make_password() if new_password else None
    with database(read_settings()) as dsn:
        if password is not None:
            asyncio.run(_give(dsn, role, password))
        address = role_url(dsn, role, password)
    if as_json:
        print_json({"role": role, "url": address})
    else:
        click.echo(address)


async def _give(dsn: str, role: "LoginRole", password: str) -> None:
    from ledger.database_roles import set_password

    async with checked_connection(dsn) as connection:
        await set_password(connection, role, password)
