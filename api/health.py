"""Is it alive, is it ready: for load balancers and supervisors, hence public and without any detail but names."""

import asyncio
import sqlite3
from typing import Any, Final, Literal

import structlog
from litestar import Response, get
from litestar.datastructures import State

from api.auth import PUBLIC
from api.composition import Running
from ledger.alarms import AlarmName
from ledger.postgres import DATABASE_ERRORS, borrowed
from ledger.spool import Spool
from ledger.spooled import SpoolLevel

ANSWER_SECONDS_MAX: Final = 2.0
TAKING: Final = ("empty", "in use", "nearly full")

log = structlog.get_logger()


@get("/livez", opt=PUBLIC, summary="Alive")
async def livez() -> dict[str, str]:
    """200 as long as the program can answer at all."""
    return {"status": "alive"}


@get("/readyz", opt=PUBLIC, summary="Ready")
async def readyz(state: State) -> Response[dict[str, Any]]:
    """200 when a webhook would be kept now: `ready`, or `degraded`, with the names of the reasons.

    It is degraded where that hangs on one of database and spool alone, and while there are alarms (their sentences are
    at /api/admin/reconcile). 503 when neither takes it, or no secret is set.
    """
    running: Running = state.running
    database = await _is_answering(running)
    spool = await _level(running.spool)
    checks = {"database": database, "webhook_secret": bool(running.webhook_secrets), "spool": spool}
    if not running.webhook_secrets or not (database or spool in TAKING):
        return Response({"status": "not ready", "checks": checks}, status_code=503)
    reasons: list[str] = sorted(await _alarms(running)) if database else ["database_away"]
    if spool not in ("empty", "in use"):
        reasons.append(f"spool_{spool.replace(' ', '_')}")
    if reasons:
        return Response({"status": "degraded", "checks": checks, "reasons": reasons})
    return Response({"status": "ready", "checks": checks})


async def _is_answering(running: Running) -> bool:
    if running.appender.is_away:
        return False
    try:
        async with borrowed(running.pool, seconds_max=ANSWER_SECONDS_MAX) as connection:
            return bool(await connection.fetchval("SELECT true"))
    except DATABASE_ERRORS:
        return False


async def _alarms(running: Running) -> set[AlarmName]:
    """Those that there are; none where that cannot be said in time: it does not keep a webhook from being kept."""
    try:
        async with borrowed(running.pool, seconds_max=ANSWER_SECONDS_MAX) as connection:
            return {one.alarm.name for one in await running.watch.look(connection)}
    except DATABASE_ERRORS as error:
        log.info("readiness_without_alarms", error=type(error).__name__)
        return set()


async def _level(spool: Spool | None) -> SpoolLevel | Literal["unusable"]:
    if spool is None:
        return "unusable"
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return (await spool.state()).level
    except (sqlite3.Error, OSError):  # a TimeoutError is an OSError
        return "unusable"
