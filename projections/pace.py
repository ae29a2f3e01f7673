"""How fast a rebuild may go: as fast as it can while nobody appends, and little by little while many do.

A rebuild's own processes give way (projections/aside.py); what they ask of the database does not, so they rest.
"""

import asyncio
import time
from pathlib import Path

from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

LIVELY_EVENTS = 20
"""So many events within a second, and there is traffic to give way to."""
REST_SHARE = 1.0
"""How long a rest is, in times of the turn before it."""
REST_SECONDS_MAX = 5.0


async def is_lively(connection: Connection) -> bool:
    """Whether much is being appended."""
    return bool(await connection.fetchval(SQL["is_lively"], LIVELY_EVENTS))


async def rest(connection: Connection, *, since: float, share: float = REST_SHARE) -> None:
    """After a turn that began at `since`, by time.monotonic: others have the database, where many append."""
    if await is_lively(connection):
        await asyncio.sleep(min((time.monotonic() - since) * share, REST_SECONDS_MAX))
