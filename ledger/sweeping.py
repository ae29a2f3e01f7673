"""Sweeps of Cal.com's list: who reads, where it stands, what was found. Killed at any page, another goes on from there.

A sweep is a row. Its place moves in the transaction that appends what the page held, so nothing is read twice for
nothing, and nothing is passed over. Whoever drives it says so every few seconds; another takes it over when that stops,
or at once when the driver's session is gone. A driver that was stopped for a while finds at its next page that the row
is no longer its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from uuid import UUID, uuid4

import asyncpg
import msgspec
import structlog

from ledger.calcom.api import Page
from ledger.calcom.filters import Filter
from ledger.calcom.paging import Place
from ledger.errors import BookingLedgerError
from ledger.observing import Findings
from ledger.postgres import DATABASE_ERRORS, Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import BookingStatus

SQL = load_statements(Path(__file__).with_suffix(".sql"))

DRIVE_SECONDS: Final = 15.0
RENEWED_EVERY_SECONDS: Final = 3.0
OVERLAP: Final = timedelta(minutes=10)
"""An incremental sweep begins so long before the last one did: lists lag, and clocks differ."""
SWEEPS_KEPT_MAX: Final = 200
"""Of each kind."""

SweepKind = Literal["incremental", "upcoming", "full"]
"""What changed since the last sweep; what is still to come; everything."""
Cause = Literal["schedule", "request", "command"]
SweepState = Literal["waiting", "running", "done"]

SWEEP_KINDS: Final[tuple[SweepKind, ...]] = ("incremental", "upcoming", "full")

log = structlog.get_logger()


class SweepLost(Exception):
    """Another drives this sweep, or it is done: nothing more is to be done here."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that Cal.com would have to show."""

    uid: str
    status: BookingStatus
    heard_at: datetime | None


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """One sweep as it stands. `total` counts the list, where Cal.com says; `place` is where the next page begins.

    `is_listed`: the whole list was read, and what we expected of it and did not find is being asked for. `is_import`:
    the log was empty when it began. `observed`: how many events were appended.
    """

    sweep_id: UUID
    kind: SweepKind
    cause: Cause
    state: SweepState
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    after_updated_at: datetime | None
    place: Place | None
    is_listed: bool
    is_import: bool
    pages: int
    total: int | None
    seen: int
    missing: int
    stale: int
    extra: int
    settled: int
    young: int
    unreadable: int
    observed: int
    error: str | None


def filter_of(kind: SweepKind, after_updated_at: datetime | None) -> Filter:
    """Which part of Cal.com's list a sweep reads."""
    if kind == "upcoming":
        return Filter(statuses=("upcoming", "unconfirmed"))
    return Filter(after_updated_at=after_updated_at)


async def ask_for_sweep(connection: Connection, ledger: Ledger, kind: SweepKind, *, cause: Cause) -> Sweep:
    """The sweep of this kind that waits or runs: a new one, unless there is one already."""
    while True:
        await connection.execute(SQL["ask_for_sweep"], ledger.ledger_id, uuid4(), kind, cause)
        unfinished = await read_unfinished(connection, ledger, kind)
        if unfinished is not None:
            return unfinished


async def read_unfinished(connection: Connection, ledger: Ledger, kind: SweepKind) -> Sweep | None:
    found = await _read(connection, ledger, kind=kind, unfinished_only=True, rows_max=1)
    return found[0] if found else None


async def read_last(connection: Connection, ledger: Ledger, kind: SweepKind) -> Sweep | None:
    """The one that was asked for last, whether or not it is done."""
    found = await _read(connection, ledger, kind=kind, rows_max=1)
    return found[0] if found else None


async def read_sweep(connection: Connection, ledger: Ledger, sweep_id: UUID) -> Sweep:
    (found,) = await _read(connection, ledger, sweep_id=sweep_id, rows_max=1)
    return found


async def list_sweeps(connection: Connection, ledger: Ledger, *, rows_max: int) -> list[Sweep]:
    """The latest first."""
    return await _read(connection, ledger, rows_max=rows_max)


async def read_left(connection: Connection, ledger: Ledger, *, unbegun_only: bool) -> list[UUID]:
    """Sweeps that were requested and that nobody has begun; also those that were begun and that nobody drives."""
    rows = await connection.fetch(SQL["read_left"], ledger.ledger_id, unbegun_only)
    return [row["sweep_id"] for row in rows]


async def kind_of_pass(connection: Connection, ledger: Ledger, *, is_full: bool) -> SweepKind:
    """What somebody gets who asks to reconcile now: what has changed, and the first time everything."""
    beginning = await read_beginning(connection, ledger, "incremental")
    return "full" if is_full or beginning is None else "incremental"


async def read_beginning(connection: Connection, ledger: Ledger, kind: SweepKind) -> datetime | None:
    """From when on a new sweep of this kind reads what changed; None: all of it.

    An incremental sweep with nothing to go on from is a full one but for its name.
    """
    if kind != "incremental":
        return None
    last: datetime | None = await connection.fetchval(SQL["read_last_start"], ledger.ledger_id)
    return None if last is None else last - OVERLAP


async def _read(
    connection: Connection,
    ledger: Ledger,
    *,
    sweep_id: UUID | None = None,
    kind: SweepKind | None = None,
    unfinished_only: bool = False,
    rows_max: int,
) -> list[Sweep]:
    rows = await connection.fetch(SQL["read_sweeps"], ledger.ledger_id, sweep_id, kind, unfinished_only, rows_max)
    return [_sweep(row) for row in rows]


def _sweep(row: asyncpg.Record) -> Sweep:
    fields = dict(row)
    place = fields.pop("place")
    return Sweep(**fields, place=None if place is None else msgspec.json.decode(place, type=Place))


class Wheel:
    """A sweep in one driver's hands. `connection` is the driver's own: when it is gone, the sweep is free."""

    def __init__(self, connection: Connection, ledger: Ledger, sweep_id: UUID) -> None:
        self.connection = connection
        self.sweep_id = sweep_id
        self._ledger = ledger
        self._driver = uuid4()

    @contextlib.asynccontextmanager
    async def held(self, pool: asyncpg.Pool) -> AsyncIterator["Wheel"]:
        """The sweep is ours for as long as the block lasts. Raises SweepLost where it is another's, or done."""
        if await self.connection.fetchval(SQL["take_sweep"], *self._key, DRIVE_SECONDS) is None:
            raise SweepLost
        renewing = asyncio.create_task(self._renew(pool), name="sweep-renew")
        error: str | None = None
        try:
            yield self
        except BookingLedgerError as failed:
            error = str(failed)
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if not self.connection.is_closed():
                with contextlib.suppress(*DATABASE_ERRORS):
                    await self.connection.execute(SQL["leave_sweep"], *self._key, error)

    async def start(self, *, now: datetime, after_updated_at: datetime | None) -> None:
        """The sweep has begun, if it had not before."""
        await self.connection.execute(SQL["start_sweep"], *self._key, now, after_updated_at)

    async def read(self) -> Sweep:
        return await read_sweep(self.connection, self._ledger, self.sweep_id)

    async def turn_page(self, sweep: Sweep, page: Page, found: Findings) -> None:
        """The page is behind us, in the transaction that is open. Raises SweepLost."""
        place = None if page.next_place is None else msgspec.json.encode(page.next_place).decode()
        turned = await self.connection.fetchval(
            SQL["turn_page"],
            *self._key,
            sweep.pages,
            found.uids,
            place,
            page.next_place is None,
            page.total,
            found.count("missing"),
            found.count("stale"),
            found.count("settled"),
            found.count("young"),
            found.unreadable,
        )
        if turned is None:
            raise SweepLost

    async def add_figures(self, found: Findings | None, *, observed: int = 0) -> None:
        """What was found besides the pages, and what was appended, is counted. Raises SweepLost."""
        found = found or Findings(findings=())
        added = await self.connection.fetchval(
            SQL["add_figures"],
            *self._key,
            found.count("missing"),
            found.count("stale"),
            found.count("settled"),
            found.count("young"),
            found.unreadable,
            observed,
        )
        if added is None:
            raise SweepLost

    async def begin_again(self) -> None:
        """From the top: Cal.com does not go on from the place that was kept."""
        await self.connection.execute(SQL["begin_again"], *self._key)

    async def read_shown(self) -> list[str]:
        """Every booking that the list showed."""
        rows = await self.connection.fetch(SQL["read_shown"], self._ledger.ledger_id, self.sweep_id)
        return [row["uid"] for row in rows]

    async def finish(self, kind: SweepKind, *, extra: int, now: datetime) -> None:
        """The sweep is done, in the transaction that is open. Raises SweepLost."""
        if await self.connection.fetchval(SQL["finish_sweep"], *self._key, now, extra) is None:
            raise SweepLost
        await self.connection.execute(SQL["forget_shown"], self._ledger.ledger_id, self.sweep_id)
        await self.connection.execute(SQL["trim_sweeps"], self._ledger.ledger_id, kind, SWEEPS_KEPT_MAX)

    @property
    def _key(self) -> tuple[int, UUID, UUID]:
        return self._ledger.ledger_id, self.sweep_id, self._driver

    async def _renew(self, pool: asyncpg.Pool) -> None:
        """On connections of the pool, since our own may be in the middle of something."""
        while True:
            await asyncio.sleep(RENEWED_EVERY_SECONDS)
            try:
                async with pool.acquire() as connection:
                    if await connection.fetchval(SQL["renew_sweep"], *self._key, DRIVE_SECONDS) is None:
                        return
            except DATABASE_ERRORS as error:
                log.info("sweep_not_renewed", error=type(error).__name__)
