"""Which of Cal.com's bookings to list, and how that is asked. Pure."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from ledger.calcom.paging import PAGE_ROWS_MAX, ListStatus, ListVersion, Place


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which bookings, and in which order. Times include their ends; `statuses` empty: all.

    The order matters to 2024-08-13 alone: sorted by their last change, a booking that changes meanwhile moves to where
    it will still be read.
    """

    statuses: tuple[ListStatus, ...] = ()
    after_updated_at: datetime | None = None
    before_updated_at: datetime | None = None
    after_created_at: datetime | None = None
    before_created_at: datetime | None = None
    after_start: datetime | None = None
    before_end: datetime | None = None
    event_type_ids: tuple[int, ...] = ()
    attendee_email: str | None = None
    booking_uid: str | None = None
    sort: Literal["sortUpdatedAt", "sortCreated", "sortStart", "sortEnd"] = "sortUpdatedAt"
    direction: Literal["asc", "desc"] = "asc"


def rows_of(version: ListVersion, rows: int | None) -> int:
    """How many rows a page has; None: as many as the version gives."""
    return min(rows or PAGE_ROWS_MAX[version], PAGE_ROWS_MAX[version])


def parameters_of(chosen: Filter, place: Place, *, rows: int) -> tuple[tuple[str, str], ...]:
    """The query of one page, in the words of the place's version (CALCOM.md section 5.2)."""
    by_cursor = place.version == "2026-05-01"
    status = place.status if by_cursor else ",".join(chosen.statuses)
    given: dict[str, str | None] = {
        "status": status or None,
        "attendeeEmail": chosen.attendee_email,
        "bookingUid": chosen.booking_uid,
        "eventTypeIds": ",".join(map(str, chosen.event_type_ids)) or None,
        "afterUpdatedAt": _instant(chosen.after_updated_at),
        "beforeUpdatedAt": _instant(chosen.before_updated_at),
        "afterCreatedAt": _instant(chosen.after_created_at),
        "beforeCreatedAt": _instant(chosen.before_created_at),
        "afterStart": _instant(chosen.after_start),
        "beforeEnd": _instant(chosen.before_end),
    }
    if by_cursor:
        given |= {"limit": str(rows), "cursor": place.cursor}
    else:
        given |= {chosen.sort: chosen.direction, "take": str(rows), "skip": str(place.skip)}
    return tuple((name, value) for name, value in given.items() if value is not None)


def _instant(moment: datetime | None) -> str | None:
    """`2026-12-01T09:00:00.000Z`, which every version takes."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
