"""A page of events once more, with what the bookings have become that they say nothing of by now."""

from collections.abc import Collection, Sequence

import msgspec

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.postgres import Connection
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position, StreamId
from projections.namesakes import taken_numbers
from projections.pages import read_again
from projections.projection import Page


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """`gone`: names by which read models may know a booking, and none of the page has."""

    page: Page
    gone: frozenset[str]


async def read_once_more(
    connection: Connection,
    ledger: Ledger,
    events: Sequence[RecordedEvent],
    also: Collection[StreamId],
    *,
    up_to: Position,
    confirm_on_accept: bool,
) -> Again:
    """The page of these events at a position; `also`: bookings that they were taken to be about before."""
    page = await read_again(connection, ledger, events, up_to=up_to, confirm_on_accept=confirm_on_accept, also=also)
    own = {event.stream_id for event in events if event.stream_id.startswith(BOOKING_STREAM_PREFIX)}
    gone = {*page.histories.merged, *own, *also} - page.bookings.keys()
    gone -= await taken_numbers(connection, ledger, gone, up_to=up_to)
    names = {one.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX) for one in gone}
    names |= {*page.gone}
    return Again(page=page, gone=frozenset(names - {booking.key for booking in page.bookings.values()}))
