"""How current and how fast the ledger is: for Prometheus (`/metrics`), and as JSON for people's own tools."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import QueryParameter

from api.auth import VIEWER, WHOLE
from api.composition import Running
from api.exposition import TEXT_FORMAT, Exposition
from api.moments import read_period
from api.tenancy import visible_ledger
from projections.measures import (
    Deliveries,
    Lags,
    MinuteLags,
    ProcessingTimes,
    count_deliveries,
    read_lags,
    read_processing_times,
    sum_lags,
)

LAGS_DEFAULT: Final = timedelta(hours=1)
WEBHOOKS_DEFAULT: Final = timedelta(hours=24)

From = Annotated[str | None, QueryParameter(name="from", description="From this time on, ISO 8601.")]
To = Annotated[str | None, QueryParameter(name="to", description="Before this time, ISO 8601; without it, now.")]
LedgerName = Annotated[str | None, QueryParameter(name="ledger", max_length=200)]


class SyncLag(msgspec.Struct, frozen=True, kw_only=True):
    """The lags of a stretch of time, as one and by minute of recording; minutes without a delivery are left out."""

    ledger: str
    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    summary: Lags
    minutes: list[MinuteLags]


class WebhookMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the deliveries of a stretch of time, and how long they took.

    `success_rate`: of a hundred, as system 003 measures it; null where there was no delivery.
    """

    ledger: str
    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    success_rate: float | None
    deliveries: Deliveries
    processing_time: ProcessingTimes


@get("/metrics", opt={**VIEWER, **WHOLE}, media_type=TEXT_FORMAT, summary="For Prometheus")
async def get_metrics(state: State) -> Response[bytes]:
    """All that api/metric_names.py describes: of the whole server, hence not for a key that is bound to one ledger."""
    exposition: Exposition = state.exposition
    return Response(await exposition.page(), media_type=TEXT_FORMAT)


@get("/api/metrics/sync-lag", opt=VIEWER, summary="From happening to the log, and on to the tables")
async def get_sync_lag(
    *, request: Request[Any, Any, Any], state: State, starts: From = None, ends: To = None, ledger: LedgerName = None
) -> SyncLag:
    """By minute, the last hour unless told otherwise, seven days at most."""
    running: Running = state.running
    log = visible_ledger(request, ledger)
    period = read_period(starts, ends, now=datetime.now(UTC), default=LAGS_DEFAULT)
    since, until = period.since.replace(second=0, microsecond=0), period.until
    async with running.pool.acquire() as connection:
        return SyncLag(
            ledger=log.name,
            since=since,
            until=until,
            summary=await sum_lags(connection, log, since=since, until=until),
            minutes=await read_lags(connection, log, since=since, until=until),
        )


@get("/api/metrics/webhooks", opt=VIEWER, summary="Success rate and processing time")
async def get_webhook_measures(
    *, request: Request[Any, Any, Any], state: State, starts: From = None, ends: To = None, ledger: LedgerName = None
) -> WebhookMeasures:
    """Of what `webhook_logs` has, the last 24 hours unless told otherwise, seven days at most."""
    running: Running = state.running
    log = visible_ledger(request, ledger)
    period = read_period(starts, ends, now=datetime.now(UTC), default=WEBHOOKS_DEFAULT)
    since, until = period.since, period.until
    async with running.pool.acquire() as connection:
        deliveries = await count_deliveries(connection, log, since=since, until=until)
        processing_time = await read_processing_times(connection, log, since=since, until=until)
    shares = {one.status: one.percentage for one in deliveries.statuses}
    return WebhookMeasures(
        ledger=log.name,
        since=since,
        until=until,
        success_rate=shares.get("success", 0.0) if shares else None,
        deliveries=deliveries,
        processing_time=processing_time,
    )
