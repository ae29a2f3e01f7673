"""`booking-ledger roles`: create, url."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from api.cli.access import bound_option, find_ledger_id
from api.cli.context import checked_connection, json_option, print_json, read_settings, with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.database_roles import LoginRole
    from ledger.postgres import Connection

LOGIN_ROLES = ("migrator", "application", "projector", "reader", "auditor")
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
@click.option(
    "--reader", metavar="NAME", help="Make this role too, for one analyst or tool: it reads the public views."
)
@bound_option
@password_options
@json_option
def create(*, reader: str | None, ledger_name: str | None, as_json: bool, **from_stdin: bool) -> None:
    """Make the roles and give them their rights; safe to run again.

    DATABASE_URL names a superuser here, or a role with CREATEROLE that owns the ledger's tables; afterwards `serve`
    wants the application's URL, `migrate` the migrator's (`booking-ledger roles url`). Passwords are read one a line,
    in the order of the options below; a role that none is read for keeps the one it has.

    With --reader and --ledger, the role sees the rows of that ledger in every view and no others; run again, another.
    """
    from ledger.errors import BadParameter

    if ledger_name is not None and reader is None:
        raise click.UsageError("--ledger says what a reader sees: give --reader as well.")
    passwords = {}
    for role in LOGIN_ROLES:
        if from_stdin[f"{role}_password_stdin"]:
            passwords[cast("LoginRole", role)] = line = sys.stdin.readline().rstrip("\r\n")
            if not line:
                raise BadParameter("the password", f"of the {role} is missing on standard input")

    async def work(connection: "Connection", _settings: Settings) -> None:
        from ledger.database_roles import create_roles, set_password
        from ledger.readers import make_reader

        ledger_id = await find_ledger_id(connection, ledger_name)
        await create_roles(connection)
        if reader is not None:
            await make_reader(connection, reader, ledger_id)
        for role, password in passwords.items():
            await set_password(connection, role, password)

    with_connection(work)
    names = [f"booking_ledger_{role}" for role in ("owner", *LOGIN_ROLES)]
    if reader is not None:
        names.append(reader)
    if as_json:
        print_json({"roles": names})
    else:
        next_role = reader or "application"
        click.echo("\n".join([*names, f"are there, with their rights. Next: booking-ledger roles url {next_role}"]))


@roles.command()
@click.argument("role")
@click.option("--new-password", is_flag=True, help="Give it a new random password, which the URL then holds.")
@json_option
def url(*, role: str, new_password: bool, as_json: bool) -> None:
    """Print the DATABASE_URL of a role: migrator, application, reader, auditor, or a reader's own name.

    Without --new-password no password is in it, and whoever uses it has to know one.
    """
    from api.composition import database
    from ledger.database_roles import new_password as make_password
    from ledger.database_roles import role_url

    password = make_password() if new_password else None
    with database(read_settings()) as dsn:
        asyncio.run(_give(dsn, role, password))
        address = role_url(dsn, role, password)
    if as_json:
        print_json({"role": role, "url": address})
    else:
        click.echo(address)


async def _give(dsn: str, role: str, password: str | None) -> None:
    """A role of ours has the password, where there is one to give. Raises BadParameter for any other role."""
    from ledger.database_roles import set_password
    from ledger.errors import BadParameter
    from ledger.readers import is_reader

    if role in LOGIN_ROLES and password is None:
        return
    async with checked_connection(dsn) as connection:
        if role not in LOGIN_ROLES and not await is_reader(connection, role):
            raise BadParameter("the role", f"must be one of {', '.join(LOGIN_ROLES)}, or a reader's name")
        if password is not None:
            await set_password(connection, role, password)
