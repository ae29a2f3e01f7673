"""The eventsourcing library's ProjectionRunner over its own log: an upsert and a tracking row for each event.

The same bodies as in our log, as domain events in its own JSON; fewer of them, since it takes long.
"""

import asyncio
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict

from api.bench.logs import make_log
from api.bench.peers import tutorial
from api.bench.rounds import Sample
from api.bench.servers import settle
from ledger.errors import OperatorError
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

SAVED_AT_ONCE = 50
"""With a few more at once its psycopg may wait for ever over a Unix socket."""
WAIT_SECONDS_MAX = 1_200.0


class Delivery(Aggregate):
    """A delivery is all there is to it."""

    @event("Received")
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body


class Deliveries(Application[UUID]):
    pass


class CalendarView(PostgresTrackingRecorder):
    """The read model."""

    def show(self, row: tutorial.Row | None, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            if row is not None:
                psycopg.RawCursor(cursor.connection).execute(tutorial.SQL["upsert_event"], row, prepare=True)


class Calendar(Projection[CalendarView]):
    """Shows each delivery; says when it has shown the last."""

    name = "calendar"
    last = 0
    reached = threading.Event()

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # noqa: ANN401  # the library's signature
        self.view.show(tutorial.row_of(domain_event.body), tracking)
        if tracking.notification_id >= self.last:
            self.reached.set()


def prepare(dsn: str, events: int) -> None:
    """The library's log holds at least so many events, and its projection has shown none."""
    app = Deliveries(_environment(dsn))
    try:
        have = app.recorder.max_notification_id() or 0
        if have < events:
            missing = islice(make_log(events), have, None)
            while batch := [Delivery(msgspec.json.decode(body)) for body in islice(missing, SAVED_AT_ONCE)]:
                app.save(*batch)
    finally:
        app.close()
    asyncio.run(_forget(dsn))
    settle(dsn)


def project(dsn: str, events: int) -> Sample:
    """Events a second, from the runner's start to the last event's row."""
    Calendar.last = events
    Calendar.reached.clear()
    begun = time.perf_counter()
    runner = ProjectionRunner(
        application_class=Deliveries, projection_class=Calendar, view_class=CalendarView, env=_environment(dsn)
    )
    with runner:
        if not Calendar.reached.wait(WAIT_SECONDS_MAX):
            raise OperatorError(f"The library's projection did not show {events:,} events in {WAIT_SECONDS_MAX:g} s.")
        seconds = time.perf_counter() - begun
    runner.view.datastore.close()
    return Sample(value=events / seconds)


def _environment(dsn: str) -> dict[str, str]:
    found = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": found["dbname"],
        "POSTGRES_HOST": found["host"],
        "POSTGRES_PORT": found["port"],
        "POSTGRES_USER": found["user"],
        "POSTGRES_PASSWORD": found.get("password", ""),
    }


async def _forget(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval(SQL["find_tracking"]):
            await connection.execute(SQL["forget_tracking"])
        await connection.execute(tutorial.SQL["empty_events"])
    finally:
        await connection.close()
