"""A process that waits until nobody wants it any more.

python -m tests.waiting_aside
"""

import asyncio

import msgspec

from projections.aside import read_order, while_wanted


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to write once it waits."""

    word: str


async def _wait(order: Order) -> None:
    try:
        print(order.word, flush=True)  # noqa: T201  # whoever started it reads this
        await asyncio.Event().wait()
    finally:
        print("given up", flush=True)  # noqa: T201  # the same


if __name__ == "__main__":
    asyncio.run(while_wanted(_wait(read_order(Order))))
