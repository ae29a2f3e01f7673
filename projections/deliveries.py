"""Lists of deliveries, page by page: what went wrong first, then the rest, the latest of each first."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections.lists import fetch_planned

SQL = load_statements(Path(__file__).with_suffix(".sql"))

REFUSED = "refused"
RECOGNISED = (*sorted(KNOWN_TRIGGERS), REFUSED)
"""What webhook_logs calls deliveries that say what they are, or were never read."""

Outcome = Literal["success", "error"]


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None: not narrowed. `booking` is the uid, or the number, that the body names."""

    triggers: list[str] | None = None
    booking: str | None = None
    status: Outcome | None = None
    is_unrecognised: bool = False
    received_from: datetime | None = None
    received_before: datetime | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in the words of `webhook_logs`, without its body. `position`: of what was recorded, if any."""

    id: UUID
    position: int | None
    webhook_type: str
    status: str
    error_message: str | None
    cal_com_event_id: str | None
    duplicate: bool
    duration_ms: float | None
    created_at: datetime


class DeliveryPlace(msgspec.Struct, frozen=True, array_like=True):
    """A delivery's place in a list."""

    is_error: bool
    created_at: datetime
    id: UUID


async def list_deliveries(
    connection: Connection, ledger: Ledger, narrowed: DeliveryFilter, *, after: DeliveryPlace | None, rows_max: int
) -> list[Delivery]:
    """Errors first; fewer than `rows_max` means the end."""
    found: list[Delivery] = []
    triggers = await _unrecognised(connection, narrowed.triggers) if narrowed.is_unrecognised else narrowed.triggers
    for is_error in (True, False):
        is_wanted = narrowed.status is None or (narrowed.status == "error") is is_error
        if not is_wanted or len(found) == rows_max or (after is not None and is_error and not after.is_error):
            continue
        place = after if after is not None and after.is_error is is_error else None
        rows = await fetch_planned(
            connection,
            SQL["list_deliveries"],
            ledger.ledger_id,
            is_error,
            place and place.created_at,
            place and place.id,
            triggers,
            narrowed.booking,
            narrowed.received_from,
            narrowed.received_before,
            rows_max - len(found),
        )
        found += [Delivery(**dict(row)) for row in rows]
    return found


async def _unrecognised(connection: Connection, triggers: Sequence[str] | None) -> list[str]:
    """What deliveries say they are that is not known to be anything; of these triggers, where they are given."""
    rows = await connection.fetch(SQL["list_seldom_types"])
    found = [row["webhook_type"] for row in rows if row["webhook_type"] not in RECOGNISED]
    return found if triggers is None else [trigger for trigger in found if trigger in triggers]


def place_of(delivery: Delivery) -> DeliveryPlace:
    return DeliveryPlace(delivery.status == "error", delivery.created_at, delivery.id)
