"""`booking-ledger doctor`: one line a check, what is wrong and what to do."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from api.cli.context import json_option, print_json
from api.cli.serve import bound_socket
from ledger.errors import BookingLedgerError
from ledger.settings import Settings, load_settings

if TYPE_CHECKING:
    from ledger.postgres import Connection


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at; `detail` says what is so, or what is wrong and what to do."""

    name: str
    ok: bool
    detail: str


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Say in one line each what is wrong here and what to do.

    Looks at the settings, the webhook secret, the key, the address and the database. Changes nothing, except that
    without DATABASE_URL the embedded database is made if there is none yet.
    """
    checks = []
    for check in _checks():
        checks.append(check)
        if not as_json:
            mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
            click.echo(f"{mark}  {check.name:<9} {check.detail}")
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": checks})
    sys.exit(0 if all(check.ok for check in checks) else 1)


def _checks() -> Iterator[Check]:
    try:
        settings = load_settings(os.environ)
    except BookingLedgerError as error:
        yield Check(name="settings", ok=False, detail=str(error))
        return
    yield Check(name="settings", ok=True, detail="readable")
    yield _secret(settings)
    yield _key(settings)
    yield _address(settings)
    yield from _database(settings)


def _secret(settings: Settings) -> Check:
    count = len(settings.webhook_secrets)
    if not count:
        return Check(
            name="secret",
            ok=False,
            detail="no webhook secret: set CAL_COM_WEBHOOK_SECRET to the secret of the webhook in Cal.com",
        )
    return Check(name="secret", ok=True, detail=f"{count} active")


def _key(settings: Settings) -> Check:
    from api.auth import internal_key

    try:
        _, made_up = internal_key(settings)
    except BookingLedgerError as error:
        return Check(name="key", ok=False, detail=str(error))
    return Check(
        name="key", ok=True, detail="made up at each start (INTERNAL_API_KEY is not set)" if made_up else "set"
    )


def _address(settings: Settings) -> Check:
    try:
        bound_socket(settings.host, settings.port).close()
    except BookingLedgerError as error:
        return Check(name="address", ok=False, detail=str(error))
    return Check(name="address", ok=True, detail=f"{settings.host}:{settings.port} is free")


def _database(settings: Settings) -> Iterator[Check]:
    from api.composition import database

    try:
        with database(settings) as dsn:
            yield Check(name="database", ok=True, detail=asyncio.run(_connected(dsn, _version)))
            schema = _schema if settings.database_url else _own_schema
            for name, look in (("durable", _durable), ("schema", schema)):
                try:
                    yield Check(name=name, ok=True, detail=asyncio.run(_connected(dsn, look)))
                except BookingLedgerError as error:
                    yield Check(name=name, ok=False, detail=str(error))
    except BookingLedgerError as error:
        yield Check(name="database", ok=False, detail=str(error))


async def _connected(dsn: str, look: Callable[["Connection"], Awaitable[str]]) -> str:
    from ledger.postgres import connect

    connection = await connect(dsn)
    try:
        return await look(connection)
    finally:
        await connection.close()


async def _version(connection: "Connection") -> str:
    from ledger.postgres import refuse_old_server

    refuse_old_server(connection)
    return f"PostgreSQL {connection.get_settings().server_version} answers"


async def _durable(connection: "Connection") -> str:
    from ledger.postgres import refuse_unsafe_server

    await refuse_unsafe_server(connection)
    return "what is committed survives a crash"


async def _own_schema(connection: "Connection") -> str:
    """The embedded database is ours alone, so `serve` migrates it by itself."""
    from ledger.errors import SchemaUnknown
    from ledger.migrate import known_version

    try:
        return await _schema(connection)
    except SchemaUnknown as error:
        if error.found > error.known:
            raise
        return f"serve will bring it from version {error.found} to {known_version()}"


async def _schema(connection: "Connection") -> str:
    from ledger.migrate import known_version, refuse_unknown_schema

    await refuse_unknown_schema(connection)
    return f"at version {known_version()}"
