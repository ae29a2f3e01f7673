"""What goes into the spool, what may be told of it, and how much it may hold: plain values."""

from datetime import datetime
from typing import Final, Literal, NewType
from uuid import UUID

import msgspec

from ledger.filing import Receipt
from ledger.store import Ledger
from ledger.vocabulary import LedgerId

SIZE_BYTES_MAX: Final = 2 * 1024**3
DELIVERIES_MAX: Final = 1_000_000
FREE_BYTES_MIN: Final = 256 * 1024**2
WARNING_FRACTION: Final = 0.8
ROW_BYTES: Final = 512
"""What a delivery takes beside its body, more or less."""

SpoolId = NewType("SpoolId", int)
LedgerMark = NewType("LedgerMark", bytes)
SpoolLevel = Literal["empty", "in use", "nearly full", "full"]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait, and how much of the disk is left to others (Postgres may be on it)."""

    size_bytes_max: int = SIZE_BYTES_MAX
    deliveries_max: int = DELIVERIES_MAX
    free_bytes_min: int = FREE_BYTES_MIN


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """A verified delivery. `event_id` is that of its event, should the body give it none."""

    ledger_mark: LedgerMark
    event_id: UUID
    receipt: Receipt
    body: bytes


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in its place in the spool."""

    spool_id: SpoolId
    delivery: Spooled


class KnownLedger(msgspec.Struct, frozen=True, kw_only=True):
    """What may be known of a ledger while its database is away."""

    ledger_id: LedgerId
    name: str
    ledger_mark: LedgerMark


class SpoolState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, of all ledgers: `waiting` and `set_aside` are counts by ledger, `size_bytes` is taken on disk."""

    waiting: dict[LedgerMark, int]
    set_aside: dict[LedgerMark, int]
    size_bytes: int
    free_bytes: int
    oldest_received_at: datetime | None
    level: SpoolLevel

    @property
    def deliveries(self) -> int:
        """How many wait to be drained."""
        return sum(self.waiting.values())


def ledger_mark(ledger: Ledger) -> LedgerMark:
    """By which a ledger's deliveries are known; tells nothing of the ledger's key."""
    return LedgerMark(ledger.event_id("spool", b"").bytes)


def level_of(bounds: Bounds, *, waiting: int, set_aside: int, size_bytes: int, free_bytes: int) -> SpoolLevel:
    """How near its bounds a spool is; `empty` and `in use` are far from them."""
    fraction = max(
        (waiting + set_aside) / bounds.deliveries_max,
        size_bytes / bounds.size_bytes_max,
        bounds.free_bytes_min / max(free_bytes, 1),
    )
    if fraction >= 1:
        return "full"
    if fraction >= WARNING_FRACTION:
        return "nearly full"
    return "in use" if waiting else "empty"
