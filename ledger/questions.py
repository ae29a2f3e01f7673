"""Bookings that Cal.com is asked about one by one: soon after a doubt arises, then more and more seldom."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from ledger.observing import Findings
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger

SQL = load_statements(Path(__file__).with_suffix(".sql"))

Reason = Literal["doubt", "young", "unlisted"]

DAY: Final = timedelta(days=1)
DELAYS: Final = (*(timedelta(minutes=minutes) for minutes in (5, 15, 60)), *[DAY] * 7)
"""How long after each time without an answer the next one is; after the last nobody asks any more.

The first time is a minute after the doubt arose: Cal.com's webhook precedes its own write.
"""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    uid: str
    reason: Reason
    times_asked: int


class Doubted(msgspec.Struct, frozen=True, kw_only=True):
    """A booking in doubt, and when we last heard of it."""

    uid: str
    since: datetime


async def note_young(connection: Connection, ledger: Ledger, found: Findings, *, at: datetime) -> None:
    """What was too young to be judged is asked about as soon as it is not."""
    young = [(one.seen.uid, one.verdict.ask_at or at) for one in found.findings if one.verdict.outcome == "young"]
    if young:
        uids, moments = zip(*young, strict=True)
        await connection.execute(SQL["note_young"], ledger.ledger_id, list(uids), list(moments), at)


async def note_doubts(
    connection: Connection, ledger: Ledger, doubted: Sequence[Doubted], *, settle: timedelta, now: datetime
) -> None:
    """Each is asked about once Cal.com can be expected to know, at once where that is past."""
    await connection.execute(
        SQL["note_doubts"],
        ledger.ledger_id,
        [one.uid for one in doubted],
        [one.since for one in doubted],
        [max(now, min(one.since, now) + settle) for one in doubted],
    )


async def read_due(connection: Connection, ledger: Ledger, *, now: datetime, rows_max: int) -> list[Question]:
    rows = await connection.fetch(SQL["read_due"], ledger.ledger_id, now, rows_max)
    return [Question(**dict(row)) for row in rows]


async def read_young(connection: Connection, ledger: Ledger, *, until: datetime, rows_max: int) -> dict[str, datetime]:
    """What was too young to be judged and will not be by `until`, each with the moment, the first first."""
    rows = await connection.fetch(SQL["read_young"], ledger.ledger_id, until, rows_max)
    return {row["uid"]: row["ask_at"] for row in rows}


async def forget_answered(connection: Connection, ledger: Ledger, found: Findings) -> None:
    """Of what could be judged nothing is asked any more."""
    uids = [one.seen.uid for one in found.findings if one.verdict.outcome != "young"]
    if uids:
        await connection.execute(SQL["forget_questions"], ledger.ledger_id, uids)


async def put_off(connection: Connection, ledger: Ledger, uid: str, *, at: datetime) -> None:
    """Cal.com had nothing to say of the booking: it is asked about again, later each time."""
    delays = [delay.total_seconds() for delay in DELAYS]
    await connection.execute(SQL["put_off"], ledger.ledger_id, uid, at, delays)


async def asked_since(connection: Connection, ledger: Ledger, uids: Sequence[str], moment: datetime) -> set[str]:
    """Those of these bookings that Cal.com was asked about at or after the moment and had nothing to say of."""
    rows = await connection.fetch(SQL["read_asked_since"], ledger.ledger_id, uids, moment)
    return {row["uid"] for row in rows}
