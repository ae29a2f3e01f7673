"""Alarms of a running program, and of a command that asks for them: what somebody should look at, by ledger."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from ledger.alarms import Alarm, read_alarms, read_models_behind
from ledger.postgres import Connection
from ledger.store import Ledger
from ledger.vocabulary import LedgerId
from projections.measures import ProjectionStatus, read_status

LOOK_AGAIN_SECONDS: Final = 5.0
"""Anybody may ask whether we are ready, as often as they like; the database is asked no more often than this."""


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm of one ledger."""

    ledger_id: LedgerId
    alarm: Alarm


async def read_raised(connection: Connection, ledgers: Iterable[Ledger], *, now: datetime) -> list[Raised]:
    """Those that the database shows, by ledger."""
    status = await read_status(connection)
    raised = []
    for ledger in ledgers:
        found = await read_alarms(connection, ledger, now=now)
        behind = _behind(status, ledger)
        raised += [Raised(ledger_id=ledger.ledger_id, alarm=alarm) for alarm in [*found, *behind]]
    return raised


def _behind(status: Iterable[ProjectionStatus], ledger: Ledger) -> list[Alarm]:
    """A read model that is paused is behind since somebody wants it."""
    lags = {
        one.projection: one.lag_seconds for one in status if one.ledger_id == ledger.ledger_id and one.state != "paused"
    }
    alarm = read_models_behind(lags)
    return [] if alarm is None else [alarm]


class Watch:
    """What the database showed of these ledgers a moment ago."""

    def __init__(self, ledgers: Iterable[Ledger]) -> None:
        self.ledgers = tuple(ledgers)
        self._raised: Sequence[Raised] = ()
        self._looked_at = float("-inf")

    async def look(self, connection: Connection) -> Sequence[Raised]:
        """The alarms as they were `LOOK_AGAIN_SECONDS` ago at the most."""
        if time.monotonic() - self._looked_at >= LOOK_AGAIN_SECONDS:
            self._raised = await read_raised(connection, self.ledgers, now=datetime.now(UTC))
            self._looked_at = time.monotonic()
        return self._raised
