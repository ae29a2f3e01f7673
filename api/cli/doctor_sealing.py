"""What `booking-ledger doctor` says about the keys that bodies are sealed under, and the line `serve` starts with."""

import asyncio
from collections.abc import Iterator

from api.cli.checks import Check
from ledger.errors import BookingLedgerError, SchemaUnknown
from ledger.settings import Settings

HOW_TO_MOVE_OUT = (
    "set SEALING_KEY (booking-ledger sealing new-key prints one), restart, run booking-ledger sealing rewrap"
)


def sealing_checks(settings: Settings, dsn: str) -> Iterator[Check]:
    """Nothing while the schema is not there."""
    try:
        yield Check(name="sealing", ok=True, detail=asyncio.run(_sealing(settings, dsn)))
    except SchemaUnknown:
        return
    except BookingLedgerError as error:
        yield Check(name="sealing", ok=False, detail=str(error))


async def _sealing(settings: Settings, dsn: str) -> str:
    """Who can read a dump. Raises what would keep `serve` from starting."""
    from api.cli.context import checked_connection
    from ledger.rewrapping import read_sealing
    from ledger.sealing import check_keys

    async with checked_connection(dsn, settings) as connection:
        await check_keys(connection)
        found = await read_sealing(connection)
    told = f"{sum(one.body_keys for one in found.root_keys):,} keys, {found.destroyed:,} destroyed"
    if found.left_behind:
        return f"{told}; {found.left_behind:,} are still in the log's database: run booking-ledger sealing rewrap"
    if found.is_outside:
        return f"{told}; a dump of the log alone opens no body"
    return f"{told}; a dump of the database alone opens every body: {HOW_TO_MOVE_OUT}"


def sealing_line(settings: Settings) -> str:
    """For the start of a server, which has checked that its keys open what is there."""
    if settings.sealing_keys:
        return "  bodies are sealed under SEALING_KEY: without a copy of it no backup can be read"
    if settings.keys_database_url:
        return "  bodies are sealed; their keys are in the database of KEYS_DATABASE_URL"
    return "  bodies are sealed by a key in the same database: a dump alone can be read. Better: SEALING_KEY"
