"""What a projection is, and the page of events it is given."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from ledger.history import Histories
from ledger.postgres import Connection
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events of one ledger, and the bookings they touch as of the last of them.

    `synced_at` is the moment at which the read models are said to have the page.
    """

    ledger: Ledger
    events: tuple[RecordedEvent, ...]
    histories: Histories
    synced_at: datetime
    confirm_on_accept: bool = False

    @property
    def end(self) -> Position:
        return self.events[-1].position


Apply = Callable[[Connection, Page], Awaitable[None]]


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Code that turns pages of the log into the rows of one read model.

    `apply` runs inside the runner's transaction. It gets each page once, in order, and must be a function of the
    page and of its own tables: no clock, no network.
    """

    name: str
    generation: int
    apply: Apply
