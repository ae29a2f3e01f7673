"""What a projection is, and what it is given: pages of the log as they come, chunks of it in a rebuild."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ledger.booking import Booking
from ledger.history import Histories, Reading
from ledger.postgres import Connection
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position, StreamId


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


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Code that turns the log into the rows of read models, in a schema of its own for each generation.

    `version` is that of the code and of the shape of its tables: another one makes a new generation. Statements name
    tables without a schema; whoever calls has set the search path to the generation.

    `apply` runs inside the runner's transaction. It gets each page once, in order, and must be a function of the page
    and of its own tables: no clock, no network. `fill` gets the log in parts, each once and in any order, into tables
    without indexes, `of` whole bookings or events; `finish` runs after the last part. What `fill` and `finish` leave
    is what `apply` would have left.

    One that `follows` is never ahead of the projection by which people see a booking: it asks that one's tables, or
    since when people see what it is given.
    """

    name: str
    version: int
    apply: Apply
    of: Literal["bookings", "events"]
    fill: Fill
    finish: Finish | None = None
    follows: bool = False
