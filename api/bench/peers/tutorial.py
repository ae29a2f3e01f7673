"""What tutorials make of a webhook: a row of calendar_events that is overwritten, and a row of webhook_logs."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

STATUSES = {
    "BOOKING_CREATED": "confirmed",
    "BOOKING_PAID": "confirmed",
    "BOOKING_REQUESTED": "pending",
    "BOOKING_RESCHEDULED": "rescheduled",
    "BOOKING_CANCELLED": "cancelled",
    "MEETING_ENDED": "completed",
}

Row = tuple[str, str | None, datetime | None, datetime | None, str, str | None, str | None, str]
"""In the order of `upsert_event`."""


def row_of(body: Mapping[str, Any]) -> Row | None:
    """The row of the booking that the body names by uid; None where it names none."""
    told = body.get("payload") or body
    uid = told.get("uid") or told.get("bookingUid")
    if not uid:
        return None
    first: Mapping[str, Any] = next(iter(told.get("attendees") or ()), {})
    return (
        uid,
        told.get("title"),
        _moment(told.get("startTime")),
        _moment(told.get("endTime")),
        STATUSES.get(str(body.get("triggerEvent")), "confirmed"),
        first.get("email"),
        first.get("name"),
        msgspec.json.encode(told.get("metadata") or {}).decode(),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
