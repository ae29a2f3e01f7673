"""The eventsourcing library's own recorder for PostgreSQL, as it comes: readers of its log miss nothing."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from api.bench.callers import ask_in_threads
from api.bench.rounds import Contender, Sample, Skipped

if TYPE_CHECKING:
    from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

NAME = "eventsourcing PostgresApplicationRecorder"
TOPIC = "bookings:Created"


def contender(dsn: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> Contender | Skipped:
    try:
        import psycopg  # noqa: F401  # asked for here, needed below
    except ImportError:
        return Skipped(name=NAME, why="needs the extra booking-ledger[bench]")
    return Contender(name=NAME, run=lambda: _append(dsn, bodies, callers=callers, seconds=seconds))


def datastore(dsn: str, *, connections: int) -> "PostgresDatastore":
    from eventsourcing.postgres import PostgresDatastore
    from psycopg.conninfo import conninfo_to_dict

    found = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    return PostgresDatastore(
        dbname=found["dbname"],
        host=found["host"],
        port=found["port"],
        user=found["user"],
        password=found.get("password", ""),
        pool_size=connections,
    )


def _append(dsn: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> Sample:
    """As many connections as callers, so that none waits for one."""
    from eventsourcing.postgres import PostgresApplicationRecorder

    with datastore(dsn, connections=callers) as store:
        recorder = PostgresApplicationRecorder(store)
        recorder.create_table()
        store.pool.wait()
        return ask_in_threads(seconds, [_caller(recorder, bodies, number) for number in range(callers)])


def _caller(recorder: "PostgresApplicationRecorder", bodies: Sequence[bytes], number: int) -> Callable[[], object]:
    from eventsourcing.persistence import StoredEvent

    given = itertools.cycle([*bodies[number:], *bodies[:number]])
    return lambda: recorder.insert_events([StoredEvent(uuid4(), 1, TOPIC, next(given))])
