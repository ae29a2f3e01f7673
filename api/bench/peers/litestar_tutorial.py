"""A receiver as tutorials have it, in Litestar with asyncpg: verify, upsert the booking and log it.

Run as PEER_PORT=8001 PEER_SECRET=secret PEER_DSN=postgresql://… python -m api.bench.peers.litestar_tutorial
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
from litestar import Litestar, Request, Response, get, post

from api.bench.load import PATH
from api.bench.peers.bare import SIGNATURE, is_signed, run
from api.bench.peers.tutorial import SQL, row_of
from api.bench.servers import READY_PATH


@contextlib.asynccontextmanager
async def connected(app: Litestar) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["PEER_DSN"]) as pool:
        app.state.pool = pool
        yield


@post(PATH, status_code=200)
async def receive_webhook(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    raw = await request.body()
    if not is_signed(raw, request.headers.get(SIGNATURE.decode(), "").encode()):
        return Response({"status": "refused"}, status_code=401)
    body = msgspec.json.decode(raw)
    row = row_of(body)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        if row is not None:
            await connection.execute(SQL["upsert_event"], *row)
        await connection.execute(SQL["insert_log"], body.get("triggerEvent"), raw.decode(), row and row[0])
    return Response({"status": "success"})


@get(READY_PATH)
async def ready() -> dict[str, str]:
    return {"status": "ready"}


if __name__ == "__main__":
    run(Litestar([receive_webhook, ready], lifespan=[connected], openapi_config=None, logging_config=None))
