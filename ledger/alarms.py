"""Alarms: what somebody should look at although everything goes on. Each is there as long as its cause is.

webhooks_silent      Cal.com has changes that no webhook told us of, and for hours none has come at all
signatures_refused   many deliveries under a wrong secret
drift_high           many bookings differed from Cal.com within a day
read_models_behind   events have been waiting to be shown for longer than they should
spool_in_use         deliveries wait on disk, since Postgres does not take them
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from ledger.postgres import Connection
from ledger.spooled import SpoolLevel
from ledger.sql import load_statements
from ledger.store import Ledger

SQL = load_statements(Path(__file__).with_suffix(".sql"))

SILENT_AFTER: Final = timedelta(hours=6)
LOOKED_AT_EVENTS_MAX: Final = 1_000
"""How far back the last webhook is looked for."""
MISMATCHES_WITHIN: Final = timedelta(minutes=10)
MISMATCHES_MAX: Final = 10
DRIFT_WITHIN: Final = timedelta(days=1)
DRIFT_BOOKINGS_MAX: Final = 25
BEHIND_SECONDS_MAX: Final = 60.0

AlarmName = Literal["webhooks_silent", "signatures_refused", "drift_high", "read_models_behind", "spool_in_use"]
ALARMS: Final[tuple[AlarmName, ...]] = get_args(AlarmName)


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """`count`: how many deliveries, bookings or read models it is about. `sentence` says what to do."""

    name: AlarmName
    count: int
    sentence: str


async def read_alarms(connection: Connection, ledger: Ledger, *, now: datetime) -> list[Alarm]:
    """Those that the log, and what lies beside it, show."""
    last = await connection.fetchval(SQL["read_last_webhook"], ledger.ledger_id, LOOKED_AT_EVENTS_MAX)
    since = max(last or now - SILENT_AFTER, now - SILENT_AFTER)
    unheard = await connection.fetchval(SQL["count_drift"], ledger.ledger_id, since)
    mismatches = await connection.fetchval(SQL["count_mismatches"], ledger.ledger_id, now - MISMATCHES_WITHIN)
    differing = await connection.fetchval(SQL["count_drift"], ledger.ledger_id, now - DRIFT_WITHIN)
    alarms = [
        webhooks_silent(last, unheard, now=now),
        signatures_refused(mismatches),
        drift_high(differing),
    ]
    return [alarm for alarm in alarms if alarm is not None]


def webhooks_silent(last: datetime | None, unheard: int, *, now: datetime) -> Alarm | None:
    """`unheard`: bookings that changed at Cal.com since the last webhook and within `SILENT_AFTER`."""
    if not unheard or (last is not None and now - last < SILENT_AFTER):
        return None
    since = f"for {(now - last) // timedelta(hours=1)} hours" if last is not None else "for a long time, or ever"
    sentence = (
        f"No webhook has come {since}, while {unheard} bookings have changed at Cal.com; look whether the webhook "
        "there is on and leads here: booking-ledger webhooks list"
    )
    return Alarm(name="webhooks_silent", count=unheard, sentence=sentence)


def signatures_refused(mismatches: int) -> Alarm | None:
    if mismatches < MISMATCHES_MAX:
        return None
    sentence = (
        f"{mismatches} deliveries within {MISMATCHES_WITHIN // timedelta(minutes=1)} minutes were signed with another "
        "secret; it was probably changed at Cal.com: add the new one to CAL_COM_WEBHOOK_SECRET, before the old one"
    )
    return Alarm(name="signatures_refused", count=mismatches, sentence=sentence)


def drift_high(differing: int) -> Alarm | None:
    if differing <= DRIFT_BOOKINGS_MAX:
        return None
    sentence = (
        f"{differing} bookings were found to differ from Cal.com within a day, and healed; deliveries are being lost "
        "on the way: see /api/admin/drift"
    )
    return Alarm(name="drift_high", count=differing, sentence=sentence)


def read_models_behind(lags: Mapping[str, float]) -> Alarm | None:
    """`lags`: of each read model, how long the first event that it lacks has been waiting, in seconds."""
    behind = sorted(name for name, seconds in lags.items() if seconds > BEHIND_SECONDS_MAX)
    if not behind:
        return None
    sentence = (
        f"{', '.join(behind)}: events have been waiting for {max(lags.values()):,.0f} s; look whether a worker runs, "
        "and what it says: booking-ledger projections status"
    )
    return Alarm(name="read_models_behind", count=len(behind), sentence=sentence)


def spool_in_use(level: SpoolLevel, waiting: int) -> Alarm | None:
    if level == "empty":
        return None
    sentence = f"{waiting} deliveries wait on disk, since PostgreSQL does not take them; the spool is {level}"
    return Alarm(name="spool_in_use", count=waiting, sentence=sentence)
