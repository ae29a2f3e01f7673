"""How much room an event takes on disk, indexes included, beside its body alone and other ways to keep that."""

import asyncio
from pathlib import Path

import asyncpg

from api.bench.plan import Bench
from api.bench.rounds import Comparison, told_once
from api.bench.servers import Databases
from ledger.postgres import Connection, connect
from ledger.sql import load_statements
from ledger.store import read_ledgers, read_log
from ledger.vocabulary import MAIN_LEDGER_NAME, Position

SQL = load_statements(Path(__file__).with_suffix(".sql"))

OURS = "ours: ledger.events and its keys, all columns and indexes"
BODY = "the body alone, as it came"
AS_JSONB = "jsonb and a key, as PostgreSQL stores it"
AS_BYTEA = "bytea and a key, as PostgreSQL stores it"
ROOM_FOR_TWO_BODIES_AND_A_HALF = 2.5
GOALS = {BODY: ROOM_FOR_TWO_BODIES_AND_A_HALF}
EVENTS_MAX = 100_000
"""Beyond that the figure stays what it is."""
READ_AT_ONCE = 4_000
STATEMENT_SECONDS_MAX = 600.0


def compare_rooms(bench: Bench) -> list[Comparison]:
    events = max((size for size in bench.plan.sizes if size <= EVENTS_MAX), default=min(bench.plan.sizes))
    with bench.progress("measuring tables"):
        values = asyncio.run(_measure(bench.log(events)))
    return [told_once("room on disk", "bytes/event", values, goals=GOALS, size=events)]


async def _measure(log: Databases) -> dict[str, float]:
    connection = await connect(log.ours, statement_seconds_max=STATEMENT_SECONDS_MAX)
    peers = await asyncpg.connect(log.peers)
    try:
        ours = await connection.fetchval(SQL["read_log_bytes"])
        events, body_bytes = await _copy_bodies(connection, peers)
        (row,) = await peers.fetch(SQL["read_peer_bytes"])
        return {
            OURS: ours / events,
            BODY: body_bytes / events,
            AS_JSONB: row["as_jsonb"] / events,
            AS_BYTEA: row["as_bytea"] / events,
        }
    finally:
        await connection.close()
        await peers.close()


async def _copy_bodies(connection: Connection, peers: asyncpg.Connection) -> tuple[int, int]:
    """How many events there are, and the size of their bodies together; the peers' tables hold the same."""
    ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
    await peers.execute(SQL["empty_bodies"])
    position, body_bytes = 0, 0
    while events := await read_log(connection, ledger.ledger_id, after=Position(position), events_max=READ_AT_ONCE):
        position = events[-1].position
        body_bytes += sum(len(event.body) for event in events)
        await peers.copy_records_to_table("bodies_as_bytea", records=[(one.position, one.body) for one in events])
        await peers.copy_records_to_table(
            "bodies_as_jsonb", records=[(one.position, one.body.decode()) for one in events]
        )
    return position, body_bytes
