"""How fast events become durable, one call an event, each to its own stream, when many call at once.

Ours does more than its peers: it gives positions in the order of commits, chains digests, recognises repeats and
notifies. Only COPY, of rows made beforehand, waits for nobody: it is the limit.
"""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import uvloop

from api.bench.bodies import created_bodies
from api.bench.callers import P50, P99, ask_for
from api.bench.peers import appends, emmett, library_appends, message_db
from api.bench.plan import Bench, available
from api.bench.rounds import Comparison, Contender, Sample, Skipped, in_figure, keeping
from api.bench.servers import SECRET, Databases
from ledger.appender import Appender
from ledger.calcom.signature import secret_id, sign
from ledger.filing import Receipt
from ledger.postgres import open_pool
from ledger.store import NewEvent, read_ledgers
from ledger.vocabulary import MAIN_LEDGER_NAME, StreamId

CALLERS = 32
COPIED_EVENTS_A_SECOND = 20_000
"""So many rows are made ready for each second of the others."""

OURS = "ours: in order, chained, idempotent"
GOALS = {
    library_appends.NAME: 20.0,
    emmett.NAME: 10.0,
    message_db.NAME: 4.0,
    appends.UNORDERED: 2.0,
}


def compare_appends(bench: Bench) -> list[Comparison]:
    """Events a second, and the slowest of a hundred calls."""
    databases = bench.databases()
    bodies = created_bodies()
    contenders, skipped = available(_contenders(bench, databases, bodies))
    told = bench.compare(
        f"append, {CALLERS} callers",
        "events/s",
        contenders,
        rounds=bench.plan.rounds,
        goals=GOALS,
        skipped=skipped,
    )
    return [
        keeping(told, P50),
        in_figure(told, P99, title=f"append, {CALLERS} callers, p99", unit="ms"),
    ]


def _contenders(bench: Bench, databases: Databases, bodies: Sequence[bytes]) -> Iterator[Contender | Skipped]:
    seconds, peers = bench.plan.seconds, databases.peers
    yield Contender(name=OURS, run=lambda: uvloop.run(append_ours(databases.ours, bodies, seconds)))
    yield library_appends.contender(peers, bodies, callers=CALLERS, seconds=seconds)
    yield Contender(
        name=appends.UNORDERED,
        run=lambda: uvloop.run(appends.append_unordered(peers, bodies, callers=CALLERS, seconds=seconds)),
    )
    yield Contender(
        name=appends.LOCKED,
        run=lambda: uvloop.run(appends.append_locked(peers, bodies, callers=CALLERS, seconds=seconds)),
    )
    yield message_db.contender(peers, bodies, bench.plan.node_modules, callers=CALLERS, seconds=seconds)
    yield emmett.contender(peers, bodies, bench.plan.node_modules, callers=CALLERS, seconds=seconds)
    rows = appends.rows_of(bodies, round(seconds * COPIED_EVENTS_A_SECOND))
    yield Contender(name=appends.COPIED, run=lambda: uvloop.run(appends.copy_rows(peers, rows)))


async def append_ours(dsn: str, bodies: Sequence[bytes], seconds: float) -> Sample:
    """What `CALLERS` got done, each with one event of a stream of its own at a time."""
    pool = await open_pool(dsn)
    async with pool, Appender(pool).running() as appender:
        async with pool.acquire() as connection:
            ledger_id = (await read_ledgers(connection))[MAIN_LEDGER_NAME].ledger_id
        given = itertools.cycle(bodies)
        now, secret = datetime.now(UTC), SECRET.encode()
        signature = bytes.fromhex(sign(bodies[0], secret))  # nobody checks it here, but it has its length
        receipt = Receipt(received_at=now, signature=signature, secret_id=secret_id(secret))
        metadata = msgspec.json.encode(receipt).decode()

        async def append() -> None:
            event_id = uuid4()
            event = NewEvent(
                event_id=event_id,
                stream_id=StreamId(f"booking-{event_id.hex}"),
                topic="calcom.booking_created",
                body=next(given),
                occurred_at=now,
                source="webhook",
                metadata=metadata,
            )
            await appender.append(ledger_id, [event])

        return await ask_for(seconds, [append] * CALLERS)
