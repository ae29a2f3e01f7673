"""What a projection is, and what it is given: pages of the log as they come, chunks of it in a rebuild."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.history import Histories
from ledger.postgres import Connection
from ledger.readings import Reading
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position, StreamId
from projections.differing import Differing


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events of one ledger, what each says, and the bookings they touch as of the last of them.

    `synced_at` tells when a position, recorded at that moment, became visible.
    """

    ledger: Ledger
    events: Sequence[RecordedEvent]
    readings: Sequence[Reading]
    histories: Histories
    synced_at: Callable[[int, datetime], datetime]
    confirm_on_accept: bool = False

    @property
    def bookings(self) -> Mapping[StreamId, Booking]:
        return self.histories.bookings

    @property
    def gone(self) -> list[str]:
        """What is no booking any more, by uid, or by number as text.

        Since its persons were erased, or since a link was taken back, but for which nobody had heard of it.
        """
        told = zip(self.events, self.readings, strict=True)
        erased = {event.stream_id for event, reading in told if reading.redacted is not None and reading.chain}
        voided = {
            stream_id
            for reading in self.readings
            if reading.voids is not None
            for stream_id in reading.chain
            if not stream_id.startswith(NUMBER_STREAM_PREFIX)
        }
        return [
            one.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX)
            for one in sorted((erased | voided) - self.bookings.keys())
        ]

    @property
    def end(self) -> Position:
        return self.events[-1].position


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log for a new generation: whole bookings, or consecutive events with what they say."""

    ledger: Ledger
    events: Sequence[RecordedEvent] = ()
    readings: Sequence[Reading] = ()
    bookings: Sequence[Booking] = ()
    synced_at: Callable[[int, datetime], datetime]
    confirm_on_accept: bool = False


Apply = Callable[[Connection, Page], Awaitable[None]]
Fill = Callable[[Connection, Chunk], Awaitable[None]]
Finish = Callable[[Connection], Awaitable[None]]
Compare = Callable[[Connection, Page, Collection[str]], Awaitable[list[Differing]]]
Rewrite = Callable[[Connection, Page, Collection[str]], Awaitable[None]]


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Code that turns the log into the rows of read models, in a schema of its own for each generation.

    `version` is that of the code and of the shape of its tables: another one makes a new generation. Statements name
    tables without a schema; whoever calls has set the search path to the generation.

    `apply` runs inside the runner's transaction. It gets each page once, in order, and must be a function of the page
    and of its own tables: no clock, no network. `fill` gets the log in parts, each once and in any order, into tables
    without indexes, `of` whole bookings or events; `finish` runs after the last part. What `fill` and `finish` leave
    is what `apply` would have left.

    A page may be read again, by a decoder that has learnt something: `compare` tells which rows are not what it says,
    those of bookings it says nothing of any more (their keys are given) included, and `rewrite` makes the rows of some
    keys what a rebuild would make them. None: what a body means has no part in the rows.

    One that `reads_bodies` wants to see them; to the others it is enough what events say, and bodies may be empty.

    One that `follows` is never ahead of the projection by which people see a booking: it asks that one's tables, or
    since when people see what it is given.
    """

    name: str
    version: int
    apply: Apply
    of: Literal["bookings", "events"]
    fill: Fill
    finish: Finish | None = None
    compare: Compare | None = None
    rewrite: Rewrite | None = None
    reads_bodies: bool = False
    follows: bool = False
