"""Facts make a booking: `fold` and `evolve`, pure and total, and the chains that bookings form.

The state depends on the set of facts alone, never on the order in which they came or on how often: facts are sorted
by (occurred_at, rank, digest), equal ones count once, and each is folded in. A late fact re-folds its stream.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from ledger.booking import UNKNOWN_TIME, Booking
from ledger.calcom.envelope import NUMBER_STREAM_PREFIX
from ledger.facts import Dated, Details
from ledger.rules import APPLY
from ledger.vocabulary import StreamId

BY_ORDER = attrgetter("occurred_at", "rank", "digest")
"""The key by which dated facts are folded."""


def fold(stream_id: StreamId, facts: Sequence[Dated]) -> Booking:
    """The booking that these facts tell, in whatever order and however often they are given."""
    booking = _blank(stream_id)
    latest, doubts = UNKNOWN_TIME, booking.doubts
    for dated in facts:
        occurred_at, fact = dated.occurred_at, dated.fact
        if occurred_at <= latest:
            return _fold_sorted(stream_id, sorted(facts, key=BY_ORDER))
        latest = occurred_at
        APPLY[fact.__class__](booking, fact)
        if booking.doubts is not doubts:
            _attribute(booking, dated)
            doubts = booking.doubts
    booking.facts = facts
    return booking


def evolve(booking: Booking, dated: Dated) -> Booking:
    """The next state, where `dated` is not earlier than any fact folded so far. Total: any fact is accepted."""
    following = copy.copy(booking)
    following.seated = dict(booking.seated)
    _step(following, dated)
    following.facts = (*booking.facts, dated)
    return following


def _fold_sorted(stream_id: StreamId, facts: Sequence[Dated]) -> Booking:
    booking = _blank(stream_id)
    previous = None
    for dated in facts:
        if previous is None or dated.digest != previous.digest or BY_ORDER(dated) != BY_ORDER(previous):
            _step(booking, dated)
        previous = dated
    booking.facts = facts
    return booking


def _step(booking: Booking, dated: Dated) -> None:
    doubts = booking.doubts
    APPLY[dated.fact.__class__](booking, dated.fact)
    if booking.doubts is not doubts:
        _attribute(booking, dated)


def _attribute(booking: Booking, dated: Dated) -> None:
    """A doubt that has just been raised was raised by this fact."""
    booking.doubts = {name: cause or dated for name, cause in booking.doubts.items()}


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
    """A booking of which nothing is known but its name, which may be a number."""
    if stream_id.startswith(NUMBER_STREAM_PREFIX):
        return Booking(stream_id=stream_id, told=(Details(number=int(stream_id.removeprefix(NUMBER_STREAM_PREFIX))),))
    return Booking(stream_id=stream_id)
