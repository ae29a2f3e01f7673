"""An ordinary Litestar handler that verifies a delivery and forgets it.

Run as PEER_PORT=8001 PEER_SECRET=secret python -m api.bench.peers.litestar_verifying
"""

from typing import Any

from litestar import Litestar, Request, Response, get, post

from api.bench.load import PATH
from api.bench.peers.bare import SIGNATURE, is_signed, run
from api.bench.servers import READY_PATH


@post(PATH, status_code=200)
async def receive_webhook(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    if not is_signed(await request.body(), request.headers.get(SIGNATURE.decode(), "").encode()):
        return Response({"status": "refused"}, status_code=401)
    return Response({"status": "verified"})


@get(READY_PATH)
async def ready() -> dict[str, str]:
    return {"status": "ready"}


if __name__ == "__main__":
    run(Litestar([receive_webhook, ready], openapi_config=None, logging_config=None))
