"""`booking-ledger migrate`."""

import asyncio

import click

from api.cli.context import json_option, print_json, read_settings


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
    if as_json:
        print_json({"applied": applied})
    else:
        click.echo("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")


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
