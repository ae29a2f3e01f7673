"""The drift report: per booking and field what Cal.com had and we had not, since when, and what healed it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import msgspec

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, booking_stream
from ledger.comparing import Difference
from ledger.observing import Finding, Findings
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import BookingStatus

SQL = load_statements(Path(__file__).with_suffix(".sql"))

DriftKind = Literal["missing", "stale", "extra"]
DRIFT_KINDS: Final[tuple[DriftKind, ...]] = ("missing", "stale", "extra")

WHOLE: Final = "booking"
"""The field of a booking that only one side knows."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One field of one booking. `event_id` is the observation that told us; `healed_at` null: it differs still.

    `differed_since`: our last fact about it then; of a missing booking, when it was made or changed.
    """

    booking: str
    kind: DriftKind
    field: str
    ours: str | None
    theirs: str | None
    found_at: datetime
    differed_since: datetime | None
    healed_at: datetime | None
    event_id: UUID | None
    sweep_id: UUID | None


class DriftPlace(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page."""

    found_at: datetime
    booking: str
    field: str


class DriftFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None: not narrowed."""

    is_open: bool | None = None
    kind: DriftKind | None = None
    booking: str | None = None


async def note_healed(
    connection: Connection,
    ledger: Ledger,
    found: Findings,
    *,
    sweep_id: UUID | None,
    is_import: bool,
    at: datetime,
) -> None:
    """What differs is in the report, healed by the events that are appended in the same transaction."""
    rows = [
        (finding, difference)
        for finding in found.findings
        if finding.verdict.outcome in ("missing", "stale")
        for difference in finding.verdict.differences or (None,)
    ]
    if not rows:
        return
    await connection.execute(
        SQL["insert_healed"],
        ledger.ledger_id,
        at,
        sweep_id,
        is_import,
        [finding.seen.stream_id for finding, _ in rows],
        [finding.verdict.outcome for finding, _ in rows],
        [WHOLE if difference is None else difference.field for _, difference in rows],
        [None if difference is None else difference.ours for _, difference in rows],
        [_theirs(finding, difference) for finding, difference in rows],
        [finding.verdict.differed_since for finding, _ in rows],
        [finding.event and finding.event.event_id for finding, _ in rows],
    )


async def note_extra(
    connection: Connection,
    ledger: Ledger,
    uid: str,
    status: BookingStatus,
    *,
    since: datetime | None,
    sweep_id: UUID | None,
    at: datetime,
) -> None:
    """We know a booking that Cal.com does not: it is in the report, open."""
    await connection.execute(SQL["insert_extra"], ledger.ledger_id, at, sweep_id, booking_stream(uid), status, since)


async def heal_shown(connection: Connection, ledger: Ledger, uids: Sequence[str], *, at: datetime) -> None:
    """Cal.com shows these bookings."""
    await connection.execute(SQL["heal_shown"], ledger.ledger_id, [booking_stream(uid) for uid in uids], at)


async def heal_unexpected(
    connection: Connection, ledger: Ledger, expected: Sequence[str], *, found_before: datetime, at: datetime
) -> None:
    """Of the open ones of before, those stay open that Cal.com would have to show."""
    streams = [booking_stream(uid) for uid in expected]
    await connection.execute(SQL["heal_unexpected"], ledger.ledger_id, streams, at, found_before)


async def read_open_extras(connection: Connection, ledger: Ledger, uids: Sequence[str]) -> set[str]:
    """Those of these bookings of which it is known already that Cal.com does not know them."""
    rows = await connection.fetch(SQL["read_open_extras"], ledger.ledger_id, [booking_stream(uid) for uid in uids])
    return {_booking(row["stream_id"]) for row in rows}


async def list_drift(
    connection: Connection, ledger: Ledger, narrowed: DriftFilter, *, after: DriftPlace | None, rows_max: int
) -> list[Drift]:
    """The latest first; fewer than `rows_max` means the end."""
    rows = await connection.fetch(
        SQL["list_drift"],
        ledger.ledger_id,
        narrowed.is_open,
        narrowed.kind,
        narrowed.booking and booking_stream(narrowed.booking),
        after and after.found_at,
        after and booking_stream(after.booking),
        after and after.field,
        rows_max,
    )
    return [
        Drift(booking=_booking(row["stream_id"]), **{name: row[name] for name in row.keys() if name != "stream_id"})  # noqa: SIM118  # a record is no mapping
        for row in rows
    ]


def _theirs(finding: Finding, difference: Difference | None) -> str | None:
    return finding.seen.fact.status if difference is None else difference.theirs


def _booking(stream_id: str) -> str:
    return stream_id.removeprefix(BOOKING_STREAM_PREFIX)
