"""One rebuild in a process of its own, so that its memory is its own.

What to rebuild comes as JSON on standard input, how long it took goes out as JSON: python -m api.bench.driving
"""

import asyncio
import sys
import time

import msgspec

from api.bench.quiet import keep_quiet
from ledger.postgres import connect
from projections.rebuild import begin_rebuild, drive_rebuild


class Order(msgspec.Struct, frozen=True, kw_only=True):
    dsn: str
    projection: str


class Driven(msgspec.Struct, frozen=True, kw_only=True):
    """From the wish for a new generation to its being live."""

    seconds: float


async def _drive(order: Order) -> Driven:
    connection = await connect(order.dsn)
    begun = time.perf_counter()
    try:
        generation = await begin_rebuild(connection, order.projection)
    finally:
        await connection.close()
    await drive_rebuild(order.dsn, order.projection, generation, confirm_on_accept=False)
    return Driven(seconds=time.perf_counter() - begun)


def main() -> None:
    keep_quiet()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_drive(order))))


if __name__ == "__main__":
    main()
