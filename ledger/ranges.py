"""A long log verified by ranges, in several processes at once.

Each row's digest is stored, so a range can be verified from the digest before it on, without what comes before. That
digest may be wrong itself, but then the range before it ends with a bad position: if all ranges hold, and the first
begins at the beginning, the whole log holds, and else the lowest bad position of all is the one that reading it in one
go would have found.

Starting a process costs as much time as verifying 50,000 events, so a short log is read in one go.
"""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import msgspec

from ledger.chain import SQL, Mark, Verification, conclude, follow, genesis, read_extent, verify_chain
from ledger.errors import ServerUnreachable
from ledger.postgres import Connection, connect
from ledger.store import Ledger
from ledger.vocabulary import LedgerId, Position

if sys.platform == "win32":
    from asyncio import run
else:
    from uvloop import run  # a tenth faster here, where half the time goes into receiving rows

EVENTS_MIN = 250_000
RANGE_EVENTS = 50_000
PROCESSES_MAX: Final = 8


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """The last event of a range that holds, and whether the next is broken."""

    mark: Mark
    broken: bool


async def verify_ranges(
    connection: Connection,
    dsn: str,
    ledger: Ledger,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """The same as `verify_chain`, in as many processes as there are processors, each with a connection of its own.

    Where a process gets none, its ranges are read on `connection`.
    """
    extent = await read_extent(connection, ledger)
    end, processes = extent.position, min(os.cpu_count() or 1, PROCESSES_MAX)
    if end < EVENTS_MIN or processes == 1:
        return await verify_chain(connection, ledger, progress=progress)
    starts = range(0, end, RANGE_EVENTS)
    rows = await connection.fetch(SQL["read_digests"], ledger.ledger_id, list(starts))
    digests = {0: genesis(ledger.ledger_id)} | {row["position"]: row["digest"] for row in rows if row["digest"]}
    reached = Reached(mark=Mark(position=Position(0), digest=digests[0]), broken=False)
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        loop, ranges = asyncio.get_running_loop(), []
        for start in (start for start in starts if start in digests):
            mark = Mark(position=Position(start), digest=digests[start])
            until = Position(min(start + RANGE_EVENTS, end))
            verified = loop.run_in_executor(pool, _verify, dsn, ledger.ledger_id, mark, until)
            ranges.append((mark, until, verified))
        for mark, until, verified in ranges:
            reached = await verified or await _read(connection, ledger.ledger_id, mark, until)
            if reached.broken:
                break
            progress(reached.mark.position, end)
    finally:
        pool.shutdown(cancel_futures=True)
    return conclude(extent, Position(0), reached.mark, broken=reached.broken)


def _verify(dsn: str, ledger_id: LedgerId, mark: Mark, until: Position) -> Reached | None:
    """The range as `_read` finds it, in a process of its own; None where the server grants it no connection."""

    async def read() -> Reached | None:
        try:
            connection = await connect(dsn)
        except ServerUnreachable:
            return None
        try:
            return await _read(connection, ledger_id, mark, until)
        finally:
            await connection.close()

    return run(read())


async def _read(connection: Connection, ledger_id: LedgerId, mark: Mark, until: Position) -> Reached:
    broken = False
    async for stretch in follow(connection, ledger_id, start=mark, until=until):
        mark, broken = stretch.end, stretch.broken
    return Reached(mark=mark, broken=broken)
