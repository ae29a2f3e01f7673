"""`booking-ledger migrate`."""

import asyncio

import click

from api.cli.context import json_option, print_json, read_settings
from ledger.settings import Settings


@click.command()
@json_option
def migrate(*, as_json: bool) -> None:
    """Bring the database's schema up to this release.

    Safe to run twice and from several machines at once: they wait for each other. Where `roles create` has been run,
    what is new gets its owner and its rights too.
    """
    from api.composition import database

    settings = read_settings()
    with database(settings) as dsn:
        direct = settings.database_direct_url
        applied = asyncio.run(_migrate(direct.reveal_text() if direct else dsn))
        applied += asyncio.run(_migrate_keys(settings))
    if as_json:
        print_json({"applied": applied})
    else:
        click.echo("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")


async def _migrate_keys(settings: Settings) -> list[str]:
    from ledger.sealing import migrate_keys, sealing_of

    return [f"keys/{name}" for name in await migrate_keys(sealing_of(settings))]


async def _migrate(dsn: str) -> list[str]:
    from ledger.database_roles import renew_rights
    from ledger.migrate import migrate as run_migrations
    from ledger.postgres import connect

    connection = await connect(dsn)
    try:
        applied = await run_migrations(connection)
        await renew_rights(connection)
        return applied
    finally:
        await connection.close()
