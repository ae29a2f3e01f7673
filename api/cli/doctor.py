"""`booking-ledger doctor`: one line a check, what is wrong and what to do."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from api.cli.checks import Check
from api.cli.context import json_option, print_json
from api.cli.doctor_sealing import sealing_checks
from api.cli.serve import bound_socket
from ledger.errors import BookingLedgerError, SpoolUnusable
from ledger.settings import Settings, load_settings

if TYPE_CHECKING:
    from ledger.postgres import Connection
    from ledger.spooled import SpoolState

Told = TypeVar("Told")

MEGABYTE = 1_000_000
GIGABYTE = 1_000_000_000


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Say in one line each what is wrong here and what to do.

    Looks at the settings, the webhook secrets, the key, the public routes, the address, the spool, the database and,
    where CAL_COM_API_KEY is set, at Cal.com's API. Changes nothing, except that without DATABASE_URL the embedded
    database is made if there is none yet.
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
    yield _public(settings)
    yield _address(settings)
    yield _cal_com(settings)
    yield _spool(settings)
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


def _public(settings: Settings) -> Check:
    from api.cli.doctor_access import public_routes_told

    try:
        return Check(name="public", ok=True, detail=public_routes_told(settings))
    except BookingLedgerError as error:
        return Check(name="public", ok=False, detail=str(error))


def _address(settings: Settings) -> Check:
    try:
        bound_socket(settings.host, settings.port).close()
    except BookingLedgerError as error:
        return Check(name="address", ok=False, detail=str(error))
    return Check(name="address", ok=True, detail=f"{settings.host}:{settings.port} is free")


def _cal_com(settings: Settings) -> Check:
    """Without a key nothing is wrong, and nobody is asked."""
    if settings.cal_com_api_key is None:
        detail = "CAL_COM_API_KEY is not set: no reconciliation, no registering of webhooks"
        return Check(name="cal.com", ok=True, detail=detail)
    try:
        return Check(name="cal.com", ok=True, detail=f"the API key works ({asyncio.run(_account(settings))})")
    except BookingLedgerError as error:
        return Check(name="cal.com", ok=False, detail=str(error))


async def _account(settings: Settings) -> str:
    from api.cal_com import cal_com_api
    from api.cli.practice import printable

    async with cal_com_api(settings, attempts_max=1) as api:
        me = await api.me()
    return f"account {printable(me.username or str(me.id))}"


def _spool(settings: Settings) -> Check:
    from api.spooling import database_name, spool_of
    from ledger.spool_file import SpoolFile

    folder = spool_of(settings)
    try:
        if not folder.exists():
            return _spool_to_be(folder)
        with contextlib.closing(SpoolFile(folder)) as file:
            state, errors = file.state(), file.errors()
            ours = {ledger.ledger_mark for ledger in file.recall(database_name(settings))}
    except (BookingLedgerError, sqlite3.Error, OSError) as error:
        return Check(name="spool", ok=False, detail=str(error))
    faults = []
    if others := sum(count for mark, count in state.waiting.items() if mark not in ours):
        faults.append(f"{others:,} of them are of another database: let serve run on that one with this home")
    if state.set_aside:
        faults.append(
            f"{sum(state.set_aside.values()):,} set aside, which PostgreSQL refused ({', '.join(errors)}): "
            "they are tried again whenever serve starts"
        )
    if state.level in ("nearly full", "full"):
        faults.append(f"it is {state.level}: make room on that disk, and see why PostgreSQL is away")
    told = f"{_waiting(state)} in {folder}, {state.free_bytes / GIGABYTE:,.1f} GB free"
    return Check(name="spool", ok=not faults, detail="; ".join([told, *faults]))


def _waiting(state: "SpoolState") -> str:
    if state.oldest_received_at is None:
        return "no delivery waits"
    age_seconds = (datetime.now(UTC) - state.oldest_received_at).total_seconds()
    size = f"{state.size_bytes / MEGABYTE:,.1f} MB"
    return f"{state.deliveries:,} deliveries wait ({size}, the oldest for {age_seconds:,.0f} s)"


def _spool_to_be(folder: Path) -> Check:
    """Where there is none yet: whether `serve` could make it."""
    place = next(parent for parent in folder.parents if parent.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(name="spool", ok=False, detail=str(SpoolUnusable(folder, f"{place} may not be written to")))
    return Check(name="spool", ok=True, detail=f"serve will make it in {folder}")


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
            yield from sealing_checks(settings, dsn)
            yield from asyncio.run(_connected(dsn, lambda connection: _access(connection, settings)))
    except BookingLedgerError as error:
        yield Check(name="database", ok=False, detail=str(error))


async def _access(connection: "Connection", settings: Settings) -> list[Check]:
    """Nothing while the schema is not there."""
    from api.cli.doctor_access import alarms_told, rights_told, secrets_told
    from ledger.migrate import refuse_unknown_schema

    try:
        await refuse_unknown_schema(connection)
    except BookingLedgerError:
        return []
    alarms = await alarms_told(connection)
    return [
        Check(name="alarms", ok=not alarms, detail="; ".join(alarms) or "none"),
        Check(name="uses", ok=True, detail=await secrets_told(connection, settings)),
        Check(name="rights", ok=True, detail=await rights_told(connection)),
    ]


async def _connected(dsn: str, look: Callable[["Connection"], Awaitable[Told]]) -> Told:
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
