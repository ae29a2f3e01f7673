"""A process that drives a rebuild and dies at a given point, as if it had been killed there.

    python -m tests.dying_driver DSN PROJECTION GENERATION POINT

Its wheel runs out almost at once, so that another driver need not wait for it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from ledger.postgres import open_pool
from projections import rebuild
from projections.rebuild import SQL, Rebuild, drive_rebuild
from projections.runner import Runner
from tests.builders import webhook
from tests.rebuilding import fill_here, step
from tests.serving import file

ARRIVING = 30

STATEMENTS = {
    "with its plan written": ("enter_phase", "planning"),
    "with everything filled": ("enter_phase", "filling"),
    "with all indexes made": ("enter_phase", "indexing"),
    "with some indexes made": ("add_index", None),
    "with the new generation shown": ("show_generation", None),
    "after the swap": ("note_swap", None),
}
"""The statement before whose commit, or right before whose start where it is `enter_phase`, the process dies."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_statement(patch: pytest.MonkeyPatch, name: str, phase: str | None) -> None:
    fetchval, execute = asyncpg.Connection.fetchval, asyncpg.Connection.execute

    async def dying_fetchval(self: asyncpg.Connection, query: str, *values: Any, **how: Any) -> Any:
        if query == SQL[name] and phase in values:
            die()
        return await fetchval(self, query, *values, **how)

    async def dying_execute(self: asyncpg.Connection, query: str, *values: Any, **how: Any) -> str:
        done: str = await execute(self, query, *values, **how)
        if query == SQL[name]:
            die()
        return done

    patch.setattr(asyncpg.Connection, "fetchval", dying_fetchval)
    patch.setattr(asyncpg.Connection, "execute", dying_execute)


def die_after(patch: pytest.MonkeyPatch, method: str) -> None:
    whole = step(method)

    async def dying(self: Rebuild, *values: Any) -> None:
        await whole(self, *values)
        die()

    patch.setattr(Rebuild, method, dying)


def arrive_before_the_swap(patch: pytest.MonkeyPatch) -> None:
    """Deliveries have come meanwhile, and people see them."""
    whole = step("_swap")

    async def swap(self: Rebuild, connection: asyncpg.Connection) -> None:
        bodies = [webhook("BOOKING_CREATED", {"uid": f"late-{number}"}) for number in range(ARRIVING)]
        async with await open_pool(sys.argv[1]) as pool:
            await file(connection, *bodies)
            await Runner(pool, sys.argv[1]).catch_up()
        await whole(self, connection)

    patch.setattr(Rebuild, "_swap", swap)


POINTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    **{
        point: lambda patch, name=name, phase=phase: die_at_statement(patch, name, phase)  # type: ignore[misc]
        for point, (name, phase) in STATEMENTS.items()
    },
    "right after planning": lambda patch: die_after(patch, "_plan"),
    "with its filling processes at work": lambda patch: die_after(patch, "_start_filler"),
    "with a page caught up": lambda patch: die_after(patch, "_apply_page"),
}
WITH_PROCESSES = {"with its filling processes at work"}


async def main(dsn: str, name: str, generation: str, point: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "WHEEL_SECONDS", 0.2)
        patch.setattr(rebuild, "RENEWED_EVERY_SECONDS", 0.05)
        patch.setattr(rebuild, "RANGE_EVENTS", 20)
        patch.setattr(rebuild, "CATCH_UP_EVENTS", 7)
        if point not in WITH_PROCESSES:
            fill_here(patch)
        arrive_before_the_swap(patch)
        POINTS[point](patch)
        await drive_rebuild(dsn, name, int(generation), confirm_on_accept=False)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
