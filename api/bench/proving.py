"""How fast `booking-ledger verify` recomputes the whole chain, the command's start included."""

import hashlib
import subprocess
import time

import msgspec
import uvloop

from api.bench.plan import Bench
from api.bench.rebuilding import READ_AT_ONCE, READING, STATEMENT_SECONDS_MAX, read_whole_log
from api.bench.rounds import Comparison, Contender, Sample
from api.bench.servers import COMMAND, environment, settle
from ledger.errors import OperatorError
from ledger.postgres import connect
from ledger.store import read_ledgers, read_log
from ledger.vocabulary import MAIN_LEDGER_NAME, Position

OURS = "ours: booking-ledger verify"
HASHING = "limit: reading the log and SHA-256 of each body, one process"


class Verified(msgspec.Struct, frozen=True):
    """What of `verify --json` is wanted here."""

    ok: bool
    events: int


def compare_proofs(bench: Bench) -> list[Comparison]:
    events = max(bench.plan.sizes)
    dsn = bench.log(events).ours
    settle(dsn)
    contenders = [
        Contender(name=OURS, run=lambda: _verify(dsn)),
        Contender(name=READING, run=lambda: uvloop.run(read_whole_log(dsn))),
        Contender(name=HASHING, run=lambda: uvloop.run(_hash(dsn))),
    ]
    return [bench.compare("verify", "events/s", contenders, rounds=bench.plan.rounds_heavy, size=events)]


def _verify(dsn: str) -> int:
    ended = subprocess.run(
        [*COMMAND, "verify", "--json"],
        env=environment({"DATABASE_URL": dsn}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # its progress
        check=True,
    )
    verified = msgspec.json.decode(ended.stdout, type=Verified)
    if not verified.ok:
        raise OperatorError("The chain that was just made does not hold.")
    return verified.events


async def _hash(dsn: str) -> Sample:
    connection = await connect(dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
        position = 0
        begun = time.perf_counter()
        while events := await read_log(connection, ledger.ledger_id, after=Position(position), events_max=READ_AT_ONCE):
            for event in events:
                hashlib.sha256(event.body).digest()
            position = events[-1].position
        return Sample(value=position / (time.perf_counter() - begun))
    finally:
        await connection.close()
