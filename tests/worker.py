"""A worker in a process of its own: the read models and a tally, until standard input ends. It says who it is.

python -m tests.worker DSN LEASE_SECONDS
"""

import asyncio
import sys

from ledger.postgres import Connection, open_pool
from projections import leases
from projections.catalogue import CATALOGUE
from projections.projection import Chunk, Page, Projection
from projections.runner import Runner

TALLY = "tally"
DAWDLING_QUERIES = 30
POLL_SECONDS = 0.2


async def apply(connection: Connection, page: Page) -> None:
    """A row for each event that is given, and nothing makes rows unique; then it dawdles until the transaction ends."""
    await connection.execute("INSERT INTO tally SELECT unnest($1::bigint[])", [event.position for event in page.events])
    for _ in range(DAWDLING_QUERIES):
        await connection.fetchval("SELECT true")


async def never(_connection: Connection, _chunk: Chunk) -> None:
    raise AssertionError("nothing is rebuilt here")


PROJECTION = Projection(name=TALLY, version=1, apply=apply, of="events", fill=never)


async def main(dsn: str, lease_seconds: float) -> None:
    leases.LEASE_SECONDS, leases.RENEWED_AFTER_SECONDS = lease_seconds, lease_seconds / 4
    async with await open_pool(dsn) as pool:
        runner = Runner(pool, dsn, catalogue=(*CATALOGUE, PROJECTION), poll_seconds_max=POLL_SECONDS)
        async with runner.running():
            held = runner._leases  # noqa: SLF001  # its holder is what others know the worker by
            sys.stdout.write(f"{held.holder if held else None}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
