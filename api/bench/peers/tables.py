"""A database for those we are measured against, with the tables their own makers do not bring along."""

from pathlib import Path

from ledger.postgres import connect
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NAME = "peers"


async def create_peers(dsn: str) -> str:
    """The DSN of the database on the same server; it is made where it is not there yet."""
    address, _, options = dsn.partition("?")
    peers = f"{address.rpartition('/')[0]}/{NAME}?{options}"
    connection = await connect(dsn)
    try:
        if await connection.fetchval(SQL["find_peers"]):
            return peers
        await connection.execute(SQL["create_peers"])
    finally:
        await connection.close()
    connection = await connect(peers)
    try:
        await connection.execute(SQL["create_tables"])
    finally:
        await connection.close()
    return peers
