"""Is it alive, is it ready: for load balancers and supervisors, hence public and without any detail."""

from typing import Any

import asyncpg
from litestar import Response, get
from litestar.datastructures import State

from api.auth import PUBLIC
from api.composition import Running
from ledger.postgres import DATABASE_ERRORS


@get("/livez", opt=PUBLIC, summary="Alive")
async def livez() -> dict[str, str]:
    """200 as long as the program can answer at all."""
    return {"status": "alive"}


@get("/readyz", opt=PUBLIC, summary="Ready")
async def readyz(state: State) -> Response[dict[str, Any]]:
    """200 when a webhook would be recorded now; 503 while Postgres is away or no secret is set."""
    running: Running = state.running
    database = await _is_answering(running.pool)
    ready = database and bool(running.webhook_secrets)
    checks = {"database": database, "webhook_secret": bool(running.webhook_secrets)}
    return Response({"status": "ready" if ready else "not ready", "checks": checks}, status_code=200 if ready else 503)


async def _is_answering(pool: asyncpg.Pool) -> bool:
    try:
        return bool(await pool.fetchval("SELECT true", timeout=2))
    except DATABASE_ERRORS:
        return False
