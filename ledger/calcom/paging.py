"""How to walk through Cal.com's list of bookings and miss none, while it changes underfoot. Pure.

Version 2024-08-13 pages by `skip`. When a row leaves the part already read (it was changed, and the list is sorted by
change; it no longer matches the filter), all rows behind it move up, and the next page would begin behind rows that
nobody has seen. So:

1. Every page asks again for the last rows of the page before. An unchanged row of that page in the new one shows that
   nothing slipped through between the two. Where there is none, the walk steps back until there is.
2. The walk ends only where the server says that no page follows *and* its `totalItems` have been passed.
3. If fewer bookings were seen by then than `totalItems`, the walk goes round once more. Two rows of equal rank may
   swap places between two answers, and this is how that shows.

What is seen twice does no harm: whoever reads compares by uid. A walk that goes on from a kept place steps back a whole
page first, since it cannot know what it saw before. What still slips through (changes while nobody was reading, of rows
whose `updatedAt` does not move) is found by the next full sweep; CALCOM.md section 5.3.

Version 2026-05-01 pages by `cursor`, in the order of an id that never changes: nothing to be careful of.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from ledger.vocabulary import BookingUid

ListVersion = Literal["2024-08-13", "2026-05-01"]
ListStatus = Literal["upcoming", "recurring", "past", "cancelled", "unconfirmed"]
"""Cal.com's words for parts of the list; not those of a booking's own status."""

LIST_VERSIONS: Final[tuple[ListVersion, ...]] = ("2024-08-13", "2026-05-01")
PAGE_ROWS_MAX: Final[dict[ListVersion, int]] = {"2024-08-13": 250, "2026-05-01": 100}

OVERLAP_ROWS = 10
STEPS_BACK_MAX = 20
ROUNDS_MAX = 2


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a page begins. Keep it (it encodes as JSON) to go on from there later."""

    version: ListVersion
    status: ListStatus | None = None
    """The part of the list that is being read, where the version takes one part at a time."""
    skip: int = 0
    cursor: str | None = None


class ListedBooking(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as the API tells it: `raw` is its JSON object, byte for byte."""

    uid: BookingUid
    updated_at: datetime | None
    raw: msgspec.Raw


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One page as it was answered. `total` counts the whole list, where the version says."""

    bookings: tuple[ListedBooking, ...]
    total: int | None = None
    more: bool = False
    cursor: str | None = None


class ListUnsteady(Exception):
    """The list moves faster than it can be read."""


class OffsetWalk:
    """One walk by `skip`: tell it each page, and it says where the next one begins."""

    def __init__(self, *, rows: int, skip: int) -> None:
        self.skip = max(0, skip - rows) if skip else 0
        self.unseen = 0
        """At the end: how many bookings the server counted beyond those that were seen."""
        self._rows = rows
        self._overlap = min(OVERLAP_ROWS, rows // 4)
        self._from_the_top = skip == 0
        self._round = 1
        self._steps_back = 0
        self._stride = rows
        self._seen: set[BookingUid] = set()
        self._page_before: dict[BookingUid, bytes] = {}

    def next_skip(self, page: Answered) -> int | None:
        """Where the page after this one begins, which was asked for at `self.skip`; None: that was the last.

        Raises ListUnsteady.
        """
        self._seen.update(booking.uid for booking in page.bookings)
        if not self._joins(page.bookings):
            self._step_back()
            return self.skip
        self._stride = self._rows
        self._page_before = {booking.uid: bytes(booking.raw) for booking in page.bookings}
        end, total = self.skip + len(page.bookings), page.total or 0
        if page.bookings and (page.more or end < total):
            self.skip = max(self.skip + 1, end - self._overlap)
            return self.skip
        self.unseen = max(0, total - len(self._seen)) if self._from_the_top else 0
        if not self.unseen or self._round == ROUNDS_MAX:
            return None
        self._round += 1
        self._page_before = {}
        self.skip = 0
        return self.skip

    def _joins(self, bookings: Sequence[ListedBooking]) -> bool:
        """Whether nothing can lie between the page before and this one."""
        if not self.skip or not self._page_before or not self._overlap:
            return True
        return any(self._page_before.get(booking.uid) == bytes(booking.raw) for booking in bookings)

    def _step_back(self) -> None:
        self._steps_back += 1
        if self._steps_back > STEPS_BACK_MAX:
            raise ListUnsteady
        self.skip = max(0, self.skip - self._stride)
        self._stride *= 2
