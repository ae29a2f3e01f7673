"""How current and how fast the ledger is, as monitoring asks it: lags, rebuilds, success and processing time."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import LedgerId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

TARGET_MS: Final = 1_000.0
"""What the processing of a webhook should take less than."""
LOOKED_AT_EVENTS_MAX: Final = 1_000
"""How far back a ledger's last webhook is looked for: what is appended otherwise is rare."""


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A live read model against the head of a ledger's log; `lag_seconds`: how long its next event has been waiting."""

    ledger_id: LedgerId
    ledger: str
    projection: str
    generation: int
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    state: str
    last_error: str | None
    parked: int


class RebuildProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of the log, of all ledgers, a generation that is being built holds already."""

    projection: str
    events_done: int
    events_total: int


class Lags(msgspec.Struct, frozen=True, kw_only=True):
    """How long deliveries took from happening to the log (recorded), and from there to the tables (projected).

    Percentiles are right to a hundredth; they are null where there was no delivery.
    """

    count: int
    recorded_p50_ms: float | None
    recorded_p95_ms: float | None
    recorded_max_ms: float | None
    projected_p50_ms: float | None
    projected_p95_ms: float | None
    projected_max_ms: float | None


class MinuteLags(Lags, frozen=True, kw_only=True):
    """Those of the deliveries that were recorded in this minute."""

    minute: datetime


class StatusShare(msgspec.Struct, frozen=True, kw_only=True):
    """System 003's success rate, a row of it."""

    status: str
    count: int
    percentage: float


class ProcessingTimes(msgspec.Struct, frozen=True, kw_only=True):
    """From receipt to commit, of deliveries that are kept; null where there is none.

    `within_target`: how many took less than `target_ms`.
    """

    count: int
    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None
    target_ms: float
    within_target: int


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries by what became of them.

    `triggers`: of those that are kept, repeats included. `refusals`: of the others, by reason; beyond a budget refusals
    are not logged one by one, and then are not counted here.
    """

    count: int
    duplicates: int
    statuses: list[StatusShare]
    triggers: dict[str, int]
    refusals: dict[str, int]


async def read_status(connection: Connection) -> list[ProjectionStatus]:
    """Every live read model of every ledger, by ledger and name."""
    return [ProjectionStatus(**dict(row)) for row in await connection.fetch(SQL["read_status"])]


async def read_rebuilds(connection: Connection) -> list[RebuildProgress]:
    """Every rebuild that is under way, by name."""
    return [RebuildProgress(**dict(row)) for row in await connection.fetch(SQL["read_rebuilds"])]


async def read_last_webhooks(connection: Connection) -> Mapping[LedgerId, datetime]:
    """When each ledger's last webhook came in; those are missing that have had none for very many events."""
    rows = await connection.fetch(SQL["read_last_webhooks"], LOOKED_AT_EVENTS_MAX)
    return {row["ledger_id"]: row["received_at"] for row in rows}


async def read_lags(connection: Connection, ledger: Ledger, *, since: datetime, until: datetime) -> list[MinuteLags]:
    """Minute by minute, without those in which nothing was recorded."""
    rows = await connection.fetch(SQL["read_lags"], ledger.ledger_id, since, until)
    return [MinuteLags(**dict(row)) for row in rows]


async def sum_lags(connection: Connection, ledger: Ledger, *, since: datetime, until: datetime) -> Lags:
    """All deliveries that were recorded in these minutes, together."""
    (row,) = await connection.fetch(SQL["sum_lags"], ledger.ledger_id, since, until)
    return Lags(**dict(row))


async def count_deliveries(connection: Connection, ledger: Ledger, *, since: datetime, until: datetime) -> Deliveries:
    """What reached us in this time; triggers that we do not know count together."""
    rows = await connection.fetch(SQL["count_deliveries"], ledger.ledger_id, since, until, list(KNOWN_TRIGGERS))
    total = sum(row["count"] for row in rows)
    statuses: dict[str, int] = {}
    triggers: dict[str, int] = {}
    refusals: dict[str, int] = {}
    for row in rows:
        statuses[row["status"]] = statuses.get(row["status"], 0) + row["count"]
        counted, name = (triggers, row["trigger"]) if row["reason"] is None else (refusals, row["reason"])
        counted[name] = counted.get(name, 0) + row["count"]
    return Deliveries(
        count=total,
        duplicates=sum(row["count"] for row in rows if row["duplicate"]),
        statuses=[
            StatusShare(status=status, count=count, percentage=_percentage(count, total))
            for status, count in statuses.items()
        ],
        triggers=triggers,
        refusals=refusals,
    )


async def read_processing_times(
    connection: Connection, ledger: Ledger, *, since: datetime, until: datetime
) -> ProcessingTimes:
    (row,) = await connection.fetch(SQL["read_processing_times"], ledger.ledger_id, since, until, TARGET_MS)
    return ProcessingTimes(target_ms=TARGET_MS, **dict(row))


def _percentage(count: int, total: int) -> float:
    """To two places; halves go up, as in PostgreSQL."""
    return (count * 20_000 + total) // (2 * total) / 100
