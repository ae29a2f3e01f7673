"""A rebuild driven in a process of its own, so that whoever looks after generations can go on receiving webhooks.

Decoding a page, or folding it, keeps everybody in the same process waiting.

    python -m projections.driving    what to drive comes as a line of JSON on standard input
"""

import asyncio
import sys

import asyncpg
import structlog

from ledger.errors import BookingLedgerError
from projections.aside import read_order, start_aside, wait_aside, while_wanted
from projections.filling import Order
from projections.generations import CheckpointMoved
from projections.rebuild import Rebuild, WheelLost, find_projection

log = structlog.get_logger()


async def drive_aside(order: Order) -> None:
    """The generation is live, or another drives it, or the log tells why neither."""
    await wait_aside(await start_aside("projections.driving", order))


async def _drive(order: Order) -> None:
    rebuild = Rebuild(
        order.dsn,
        find_projection(order.projection),
        order.generation,
        confirm_on_accept=order.confirm_on_accept,
        sealing=order.sealing,
    )
    try:
        await rebuild.drive()
    except WheelLost:
        log.info("rebuild_driven_elsewhere", projection=order.projection)
    except (BookingLedgerError, CheckpointMoved, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.warning("rebuild_interrupted", projection=order.projection, error=type(error).__name__)


def main() -> None:
    """What standard input orders has been done as far as it can be done now."""
    order = read_order(Order)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(while_wanted(_drive(order)))


if __name__ == "__main__":
    main()
