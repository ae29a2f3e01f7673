"""A socket that answers whatever looks like the end of a request, unread: what the load generator can do at most.

Run as PEER_PORT=8001 python -m api.bench.peers.unread
"""

import asyncio
import os

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
ENDS = (b"}", b"\r\n\r\n")
BACKLOG_CONNECTIONS = 2048


class Unread(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream, whatever the signature says

    def data_received(self, data: bytes) -> None:
        if self._transport is not None and data.endswith(ENDS):
            self._transport.write(ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    port = int(os.environ["PEER_PORT"])
    server = await loop.create_server(Unread, "127.0.0.1", port, backlog=BACKLOG_CONNECTIONS)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
