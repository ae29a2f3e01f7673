"""Facts make a booking: `fold` and `evolve`, pure and total, and the chains that bookings form.

The state depends on the set of facts alone, never on the order in which they came or on how often: facts are sorted
by (occurred_at, rank, digest), equal ones count once, and each is folded in. A late fact re-folds its stream.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from ledger.booking import Booking
from ledger.facts import Dated, Details
from ledger.rules import APPLY
from ledger.vocabulary import StreamId

BY_ORDER = attrgetter("occurred_at", "rank", "digest")
"""The key by which dated facts are folded."""

_POSITION = attrgetter("position")


def fold(stream_id: StreamId, facts: Sequence[Dated]) -> Booking:
    """The booking that these facts tell, in whatever order and however often they are given."""
    booking = _blank(stream_id)
    in_order = sorted(facts, key=BY_ORDER) if len(facts) > 1 else facts
    previous = None
    for dated in in_order:
        if previous is not None and dated.digest == previous.digest and BY_ORDER(dated) == BY_ORDER(previous):
            continue
        doubts = booking.doubts
        APPLY[dated.fact.__class__](booking, dated.fact)
        if booking.doubts is not doubts:
            _attribute(booking, dated)
        previous = dated
    if previous is not None:
        booking.first_occurred_at = in_order[0].occurred_at
        booking.last_occurred_at = previous.occurred_at
        booking.last_position = max(map(_POSITION, in_order))
    return booking


def evolve(booking: Booking, dated: Dated) -> Booking:
    """The next state, where `dated` is not earlier than any fact folded so far. Total: any fact is accepted."""
    following = copy.copy(booking)
    APPLY[type(dated.fact)](following, dated.fact)
    _attribute(following, dated)
    following.first_occurred_at = booking.first_occurred_at or dated.occurred_at
    following.last_occurred_at = dated.occurred_at
    following.last_position = max(booking.last_position, dated.position)
    return following


def link_chain(bookings: Mapping[StreamId, Booking], stream_of: Callable[[str], StreamId]) -> None:
    """Every booking knows its chain's root and carries forward the metadata of those it replaced.

    Fills `root_uid` and `metadata` in place, once, right after folding. A chain that runs in a circle ends where it
    began.
    """
    own_metadata = {stream_id: booking.metadata for stream_id, booking in bookings.items()}
    for booking in bookings.values():
        booking.root_uid = booking.key
        seen = {booking.stream_id}
        at: Booking | None = booking
        while at is not None and at.rescheduled_from is not None and stream_of(at.rescheduled_from) not in seen:
            booking.root_uid = at.rescheduled_from
            stream_id = stream_of(at.rescheduled_from)
            seen.add(stream_id)
            at = None if at.seat_from else bookings.get(stream_id)
            if at is not None:
                booking.metadata = {**own_metadata[stream_id], **booking.metadata}


def _blank(stream_id: StreamId) -> Booking:
    name = stream_id[len("booking-") :]
    if name.startswith("id-") and name[3:].isdigit():
        return Booking(stream_id=stream_id, told=(Details(number=int(name[3:])),))
    return Booking(stream_id=stream_id, uid=name)


def _attribute(booking: Booking, dated: Dated) -> None:
    """Doubts that have just been raised were raised by this fact."""
    booking.doubts = {name: cause or dated for name, cause in booking.doubts.items()}
