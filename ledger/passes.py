"""One pass of reconciliation that somebody waits for: a sweep, a second look at what was too young, every open doubt.

A dry pass reads and compares the same, and writes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Final

import msgspec

from ledger.observing import Findings
from ledger.questions import read_young
from ledger.reconcile import UNLISTED_ASKED_MAX, Reconciler
from ledger.sweeping import (
    Sweep,
    SweepKind,
    SweepLost,
    ask_for_sweep,
    filter_of,
    kind_of_pass,
    read_beginning,
    read_sweep,
)

FOLLOW_EVERY_SECONDS: Final = 0.5
YOUNG_ASKED_MAX: Final = 100
"""So many are asked about one by one; where there are more, the list is read again."""
YOUNG_READ_MAX: Final = 1_000
DOUBTS_ASKED_MAX: Final = 200

Draw = Callable[[int, int | None], None]
"""Told how many bookings were seen, and of how many, where Cal.com says."""
Wait = Callable[[int, float], Awaitable[None]]
"""Told how many bookings are too young, and for how many seconds; returns when these are over."""


class Report(msgspec.Struct, kw_only=True):
    """What came of a pass. `observed`: events appended; `doubts_open`: bookings that are in doubt after it."""

    seen: int = 0
    missing: int = 0
    stale: int = 0
    extra: int = 0
    observed: int = 0
    doubts_open: int = 0

    @property
    def has_drift(self) -> bool:
        return bool(self.missing or self.stale or self.extra)

    def add_sweep(self, sweep: Sweep) -> None:
        """A second sweep of one pass is shown the same bookings again."""
        self.seen = max(self.seen, sweep.seen)
        self.missing += sweep.missing
        self.stale += sweep.stale
        self.extra = max(self.extra, sweep.extra)
        self.observed += sweep.observed

    def add(self, found: Findings | None, *, observed: int = 0) -> None:
        if found is not None:
            self.missing += found.count("missing")
            self.stale += found.count("stale")
        self.observed += observed


async def run_pass(reconciler: Reconciler, *, is_full: bool, draw: Draw, wait: Wait) -> Report:
    """What could be known was compared, and is in the log. Raises what Cal.com's API raises."""
    report = Report()
    async with reconciler.pool.acquire() as connection:
        kind = await kind_of_pass(connection, reconciler.ledger, is_full=is_full)
    report.add_sweep(await _sweep(reconciler, kind, draw))
    async with reconciler.pool.acquire() as connection:
        until = reconciler.now() + reconciler.settle
        young = await read_young(connection, reconciler.ledger, until=until, rows_max=YOUNG_READ_MAX)
    if young:
        seconds = (max(young.values()) - reconciler.now()).total_seconds()
        await wait(len(young), max(seconds, 0.0))
    if len(young) > YOUNG_ASKED_MAX:
        report.add_sweep(await _sweep(reconciler, kind, draw))
    else:
        for uid in young:
            found, observed = await reconciler.ask(uid)
            report.add(found, observed=observed)
    report.observed += await reconciler.ask_doubted((await reconciler.read_in_doubt())[:DOUBTS_ASKED_MAX])
    report.doubts_open = len(await reconciler.read_in_doubt())
    return report


async def dry_pass(reconciler: Reconciler, *, is_full: bool, draw: Draw) -> Report:
    """What a pass would find, but for what is too young. Nothing is written."""
    report = Report()
    async with reconciler.pool.acquire() as connection:
        kind = await kind_of_pass(connection, reconciler.ledger, is_full=is_full)
        after = await read_beginning(connection, reconciler.ledger, kind)
    asked, shown = reconciler.asked_now(), set[str]()
    began = asked.at
    async for page in reconciler.api.list_bookings(filter_of(kind, after), rows=reconciler.rows):
        fresh = [one for one in page.bookings if one.uid not in shown]
        async with reconciler.pool.acquire() as connection:
            report.add(await reconciler.compare(connection, fresh, asked))
        shown.update(one.uid for one in fresh)
        draw(len(shown), page.total)
        asked = reconciler.asked_now()
    report.seen = len(shown)
    if kind == "full":
        await _count_unlisted(reconciler, report, shown, began)
    report.doubts_open = len(await reconciler.read_in_doubt())
    return report


async def _sweep(reconciler: Reconciler, kind: SweepKind, draw: Draw) -> Sweep:
    """A sweep of this kind is done: the one that stood still somewhere, or a new one; another's is waited for."""
    async with reconciler.pool.acquire() as connection:
        sweep = await ask_for_sweep(connection, reconciler.ledger, kind, cause="command")

    async def tell(now: Sweep) -> None:
        draw(now.seen, now.total)

    while sweep.state != "done":
        try:
            return await reconciler.drive(sweep.sweep_id, tell=tell)
        except SweepLost:
            await asyncio.sleep(FOLLOW_EVERY_SECONDS)
        async with reconciler.pool.acquire() as connection:
            sweep = await read_sweep(connection, reconciler.ledger, sweep.sweep_id)
        await tell(sweep)
    return sweep


async def _count_unlisted(reconciler: Reconciler, report: Report, shown: Collection[str], began: datetime) -> None:
    """What the list should have shown is asked for."""
    async with reconciler.pool.acquire() as connection:
        expected = await reconciler.known.read_unlisted(
            connection, reconciler.ledger, shown, ends_after=None, heard_before=began - reconciler.settle
        )
    for one in expected[:UNLISTED_ASKED_MAX]:
        asked = reconciler.asked_now()
        listed = await reconciler.fetch(one.uid)
        if listed == []:
            report.extra += 1
        elif listed:
            async with reconciler.pool.acquire() as connection:
                report.add(await reconciler.compare(connection, listed, asked))
