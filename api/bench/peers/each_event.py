"""A projection as it is first written down: each event in a transaction of its own, with how far it came."""

import asyncio
import time

import asyncpg
import msgspec
import uvloop

from api.bench.peers.tutorial import SQL, row_of
from api.bench.rounds import Contender, Sample
from api.bench.servers import Databases, settle
from ledger.postgres import connect
from ledger.store import read_ledgers, read_log
from ledger.vocabulary import MAIN_LEDGER_NAME, Position

NAME = "asyncpg, one transaction an event"
EVENTS_SHARE = 10
EVENTS_MIN = 200
READ_AT_ONCE = 1_000


def contender(log: Databases, events: int) -> Contender:
    """On one event of ours in ten."""
    wanted = max(EVENTS_MIN, events // EVENTS_SHARE)
    return Contender(name=NAME, run=lambda: uvloop.run(_project(log, wanted)), prepare=lambda: _prepare(log.peers))


def _prepare(dsn: str) -> None:
    asyncio.run(_forget(dsn))
    settle(dsn)


async def _forget(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SQL["empty_events"])
        await connection.execute(SQL["note_applied"], 0)
    finally:
        await connection.close()


async def _project(log: Databases, wanted: int) -> Sample:
    reading, writing = await connect(log.ours), await asyncpg.connect(log.peers)
    try:
        ledger = (await read_ledgers(reading))[MAIN_LEDGER_NAME]
        done = 0
        begun = time.perf_counter()
        while done < wanted:
            events = await read_log(
                reading, ledger.ledger_id, after=Position(done), events_max=min(READ_AT_ONCE, wanted - done)
            )
            if not events:
                break
            for event in events:
                row = row_of(msgspec.json.decode(event.body)) if event.source == "webhook" else None
                async with writing.transaction():
                    if row is not None:
                        await writing.execute(SQL["upsert_event"], *row)
                    await writing.execute(SQL["note_applied"], event.position)
            done += len(events)
        return Sample(value=done / (time.perf_counter() - begun))
    finally:
        await reading.close()
        await writing.close()
