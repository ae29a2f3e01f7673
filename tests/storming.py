"""Senders of forged deliveries and slow ones, in a process of their own: they end when the forged ones are answered.

python -m tests.storming PORT FORGED SLOW_CONNECTIONS prints `ready`, then how often each status was the answer as JSON.
"""

import asyncio
import contextlib
import re
import sys
from collections import Counter
from itertools import cycle

import msgspec

from tests.builders import webhook
from tests.serving import WEBHOOK, signed

FORGERS = 8
SENT_AHEAD = 25
BODY = webhook("BOOKING_CREATED", {"uid": "forged", "title": "Forged"})
HALF_A_HEAD = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nx-slow: ".encode()
HALF_A_BODY = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{".encode()


def forged() -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(BODY, "another").items())
    return f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(BODY)}\r\n\r\n".encode() + BODY


async def forge(port: int, count: int, statuses: Counter[int]) -> None:
    """So many forged deliveries were answered, over one connection as long as it lasts."""
    request, left = forged(), count
    while left:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while left:
                number = min(SENT_AHEAD, left)
                writer.write(request * number)
                for _ in range(number):
                    statuses[await _status(reader)] += 1
                    left -= 1


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(b" ", 2)[1])


async def dawdle(port: int, begun: bytes, opened: asyncio.Semaphore) -> None:
    """There is a connection that has sent this and no more; another one as soon as it is closed."""
    is_first = True
    while True:
        with contextlib.suppress(ConnectionError, OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            if is_first:
                opened.release()
                is_first = False
            await reader.read()
            writer.close()


async def main(port: int, count: int, slow_connections: int) -> None:
    opened = asyncio.Semaphore(0)
    kinds = cycle((b"", HALF_A_HEAD, HALF_A_BODY))
    slow = [asyncio.create_task(dawdle(port, next(kinds), opened)) for _ in range(slow_connections)]
    for _ in slow:
        await opened.acquire()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    statuses: Counter[int] = Counter()
    await asyncio.gather(*(forge(port, count // FORGERS, statuses) for _ in range(FORGERS)))
    for one in slow:
        one.cancel()
    sys.stdout.write(msgspec.json.encode(dict(statuses)).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
