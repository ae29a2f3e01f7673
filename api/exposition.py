"""The page that `GET /metrics` answers with: what this process has counted, and what the database says just then."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from api.alarms import Raised
from api.composition import Running
from api.metric_names import METRICS, Values
from ledger.alarms import ALARMS
from ledger.postgres import DATABASE_ERRORS, borrowed
from ledger.spooled import SpoolState
from ledger.vocabulary import LedgerId
from projections.measures import ProjectionStatus, RebuildProgress, read_last_webhooks, read_rebuilds, read_status

TEXT_FORMAT: Final = "text/plain; version=0.0.4"
"""Prometheus's own; the framework adds the charset."""
ANSWER_SECONDS_MAX: Final = 1.0
"""For the database and for the spool, which are asked at once."""
STATES: Final = ("running", "failing", "paused")

log = structlog.get_logger()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the database said."""

    status: list[ProjectionStatus]
    rebuilds: list[RebuildProgress]
    last_webhooks: Mapping[LedgerId, datetime]
    raised: Sequence[Raised]


class Exposition(Collector):
    """The page of one running application, on a registry of its own."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._found: Found | None = None
        self._spooled: SpoolState | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def page(self) -> bytes:
        """As of now. There is no waiting between the last answer and the writing, so pages do not mix."""
        found, spooled = await asyncio.gather(self._ask_database(), self._ask_spool())
        self._found, self._spooled = found, spooled
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        values = {
            **_of_deliveries(self._running, self._found),
            **_of_appender(self._running),
            **_of_spool(self._spooled),
            **_of_database(self._running, self._found),
            **_of_alarms(self._running, self._found, self._spooled),
            **_of_runner(self._running),
        }
        for metric in METRICS:
            yield metric.family(values[metric.name])

    async def _ask_database(self) -> Found | None:
        try:
            async with borrowed(self._running.pool, seconds_max=ANSWER_SECONDS_MAX) as connection:
                return Found(
                    status=await read_status(connection),
                    rebuilds=await read_rebuilds(connection),
                    last_webhooks=await read_last_webhooks(connection),
                    raised=await self._running.watch.look(connection),
                )
        except DATABASE_ERRORS as error:
            log.info("metrics_without_database", error=type(error).__name__)
            return None

    async def _ask_spool(self) -> SpoolState | None:
        if self._running.spool is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._running.spool.state()
        except (sqlite3.Error, OSError):  # a disk that does not answer in time is an OSError too
            return None


def _of_deliveries(running: Running, found: Found | None) -> Mapping[str, Values]:
    meter = running.meter
    last_received = dict(found.last_webhooks) if found else {}
    for ledger_id, received_at in meter.last_received.items():
        last_received[ledger_id] = max(received_at, last_received.get(ledger_id, received_at))
    return {
        "webhooks_total": meter.webhooks.items(),
        "webhook_seconds": meter.webhook_seconds,
        "webhook_last_received_timestamp_seconds": [
            ((str(ledger_id),), received_at.timestamp()) for ledger_id, received_at in last_received.items()
        ],
        "deliveries_unlogged_total": [
            (("budget",), running.deliveries.only_counted),
            (("queue",), running.deliveries.dropped),
        ],
    }


def _of_appender(running: Running) -> Mapping[str, Values]:
    appender = running.appender
    return {
        "append_batch_events": appender.batch_events,
        "append_seconds": appender.append_seconds,
        "appender_queue_events": _one(appender.queued_events),
        "appender_queue_bytes": _one(appender.queued_bytes),
        "appender_away": _one(appender.is_away),
    }


def _of_spool(spooled: SpoolState | None) -> Mapping[str, Values]:
    oldest_at = spooled and spooled.oldest_received_at
    return {
        "spool_usable": _one(spooled is not None),
        "spool_deliveries": [
            (("waiting",), sum(spooled.waiting.values()) if spooled else 0),
            (("set_aside",), sum(spooled.set_aside.values()) if spooled else 0),
        ],
        "spool_bytes": _one(spooled.size_bytes if spooled else 0),
        "spool_oldest_age_seconds": _one(max(time.time() - oldest_at.timestamp(), 0) if oldest_at else 0),
    }


def _of_database(running: Running, found: Found | None) -> Mapping[str, Values]:
    pool = running.pool
    status = found.status if found else []
    rebuilds = found.rebuilds if found else []
    return {
        "database_up": _one(found is not None),
        "pool_connections": [
            (("used",), pool.get_size() - pool.get_idle_size()),
            (("idle",), pool.get_idle_size()),
            (("max",), pool.get_max_size()),
        ],
        "projection_lag_events": [(_place(one), one.lag_events) for one in status],
        "projection_lag_seconds": [(_place(one), one.lag_seconds) for one in status],
        "projection_parked": [(_place(one), one.parked) for one in status],
        "projection_state": [((*_place(one), state), one.state == state) for one in status for state in STATES],
        "rebuild_events_done": [((one.projection,), one.events_done) for one in rebuilds],
        "rebuild_events_total": [((one.projection,), one.events_total) for one in rebuilds],
    }


def _of_alarms(running: Running, found: Found | None, spooled: SpoolState | None) -> Mapping[str, Values]:
    """None of a ledger's while the database does not answer."""
    raised = {(one.ledger_id, one.alarm.name) for one in found.raised} if found else set()
    of_ledgers = [name for name in ALARMS if name != "spool_in_use"] if found else []
    return {
        "alarm": [
            *(
                ((str(ledger.ledger_id), name), (ledger.ledger_id, name) in raised)
                for ledger in running.watch.ledgers
                for name in of_ledgers
            ),
            (("", "spool_in_use"), spooled is not None and spooled.level != "empty"),
        ]
    }


def _of_runner(running: Running) -> Mapping[str, Values]:
    pulse = running.pulse
    return {
        "runner_poll_age_seconds": [] if pulse is None else _one(pulse.seconds_since_poll),
        "runner_failing": [] if pulse is None else _one(pulse.is_failing),
    }


def _place(one: ProjectionStatus) -> tuple[str, str]:
    return str(one.ledger_id), one.projection


def _one(value: float) -> Values:
    return [((), value)]
