"""Walking through a list that moves underfoot: nothing that stays in it is passed over, and the walk ends."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calcom.paging import Answered, ListedBooking, ListUnsteady, OffsetWalk
from ledger.vocabulary import BookingUid


class MovingList:
    """A list sorted by change, told page by page, and changed between the pages as the test draws it."""

    def __init__(self, count: int) -> None:
        self.rows = [(f"uid{number}", 0) for number in range(count)]
        self.changes = 0

    def page(self, skip: int, rows: int) -> Answered:
        chosen = self.rows[skip : skip + rows]
        listed = tuple(
            ListedBooking(uid=BookingUid(uid), updated_at=None, raw=msgspec.Raw(f'"{uid} {change}"'.encode()))
            for uid, change in chosen
        )
        return Answered(bookings=listed, total=len(self.rows), more=skip + rows < len(self.rows))

    def touch(self, at: int) -> None:
        if self.rows:
            uid, _ = self.rows.pop(at % len(self.rows))
            self.changes += 1
            self.rows.append((uid, self.changes))

    def remove(self, at: int) -> None:
        if self.rows:
            self.rows.pop(at % len(self.rows))

    def insert(self, at: int) -> None:
        self.changes += 1
        self.rows.insert(at % (len(self.rows) + 1), (f"new{self.changes}", self.changes))


moves = st.lists(
    st.lists(st.tuples(st.sampled_from(["touch", "remove", "insert"]), st.integers(0, 200)), max_size=25), max_size=12
)


@settings(max_examples=400, deadline=None)
@given(count=st.integers(0, 120), rows=st.integers(4, 40), changes=moves)
def test_whatever_moves_between_the_pages_every_booking_that_stays_is_seen(
    count: int, rows: int, changes: list[list[tuple[str, int]]]
) -> None:
    there = MovingList(count)
    stayed = {uid for uid, _ in there.rows}
    seen: set[str] = set()
    walk = OffsetWalk(rows=rows, skip=0)
    skip: int | None = walk.skip
    pages = 0
    while skip is not None:
        page = there.page(skip, rows)
        seen.update(booking.uid for booking in page.bookings)
        skip = walk.next_skip(page)
        pages += 1
        assert pages < 2_000, "it ends"
        for kind, at in changes.pop() if changes else []:
            getattr(there, kind)(at)
        stayed &= {uid for uid, _ in there.rows}
    assert stayed - seen == set()


def test_a_server_that_says_no_more_before_its_own_total_is_asked_further() -> None:
    there = MovingList(30)
    walk = OffsetWalk(rows=8, skip=0)
    seen: set[str] = set()
    skip: int | None = walk.skip
    while skip is not None:
        page = msgspec.structs.replace(there.page(skip, 8), more=False)
        seen.update(booking.uid for booking in page.bookings)
        skip = walk.next_skip(page)
    assert len(seen) == 30


def test_a_walk_taken_up_again_steps_back_a_page_since_rows_may_have_moved_up_meanwhile() -> None:
    there = MovingList(40)
    walk = OffsetWalk(rows=8, skip=0)
    kept = 0
    while kept < 20:
        kept = walk.next_skip(there.page(walk.skip, 8)) or 0
    read_so_far = {uid for uid, _ in there.rows[: kept + 2]}
    for _ in range(6):
        there.touch(0)
    again = OffsetWalk(rows=8, skip=kept)
    skip: int | None = again.skip
    seen: set[str] = set()
    while skip is not None:
        page = there.page(skip, 8)
        seen.update(booking.uid for booking in page.bookings)
        skip = again.next_skip(page)
    assert read_so_far | seen == {uid for uid, _ in there.rows}
    assert len(seen) < 40, "it does not begin from the top"


def test_a_list_that_never_holds_still_is_given_up_and_a_lying_server_is_not_followed_for_ever() -> None:
    walk = OffsetWalk(rows=8, skip=0)
    everything_new = (
        Answered(
            bookings=tuple(
                ListedBooking(uid=BookingUid(f"{number}-{row}"), updated_at=None, raw=msgspec.Raw(b"{}"))
                for row in range(8)
            ),
            total=1_000_000,
            more=True,
        )
        for number in range(1_000)
    )
    with pytest.raises(ListUnsteady):
        list(map(walk.next_skip, everything_new))
    walk = OffsetWalk(rows=8, skip=0)
    nothing_and_more = Answered(bookings=(), total=1_000_000, more=True)
    assert [walk.next_skip(nothing_and_more) for _ in range(2)] == [0, None]
