"""The event log in Postgres, and why a reader may trust the order of positions.

A reader that follows a log remembers one number, the last position it saw, and asks for what comes after. It must
never pass over an event. With an ordinary sequence it does: two writers take 7 and 8, the second commits first, the
reader sees 8, remembers 8, and 7, committed a moment later, is never read. Measured with plain inserts, 3 to 16 % of
events are lost to such readers. The known repairs are worse than the illness: waiting for gaps guesses how long a
writer may take (and a rolled-back transaction leaves a gap for ever); reading only below the oldest running
transaction (xid horizons) stalls on any long query of anybody's, and both have lost events in released systems.

So a position is not taken from a sequence. It is taken from the ledger's head row, under that row's lock, which is
held until commit. Whoever holds it is the only writer of that ledger: position n+1 cannot be given before n has been
committed or given back. Commit order is position order, there is no gap, and a reader that has seen n has seen
everything up to n. A transaction that rolls back gives its positions back with it.

Such a lock would cost a throughput of one commit at a time, if every event had a transaction of its own. It does
not: `ledger/appender.py` puts whatever is waiting into one transaction, so the lock is taken once a batch and the
more traffic there is the larger the batches are. Do not "optimise" the lock away; `tests/test_store.py` shows what
happens without it.

Under the same lock, and so without races: an event id already in the log is answered with its first place instead of
being appended again, which makes every append safe to repeat when its outcome is unknown; stream versions continue;
the digest chains on (`ledger/chain.py`). It is one statement, `ledger.append_events` in migrations/0001, because
each further round trip would lengthen the time under lock.

`recorded_at` is taken under the lock as well and never goes back, so "as it was recorded up to this moment" is
always a prefix of the log.
"""

import hmac
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from ledger.codec import Encoding, decode, encode
from ledger.errors import VersionConflict
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, Position, StreamId, StreamVersion

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NOTIFY_CHANNEL = "ledger_events"
EXPECTED_VERSION_SQLSTATE = "BL001"

_UUID_FIXED_BITS = 0xF000 << 64 | 0xC000 << 48
_UUID_VERSION_8 = 0x8000 << 64 | 0x8000 << 48

Source = Literal["webhook", "link", "reconcile", "command"]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One independent log. `event_id_key` keys the event ids, so that they tell nothing of the content."""

    ledger_id: LedgerId
    name: str
    event_id_key: bytes

    def event_id(self, purpose: str, content: bytes) -> UUID:
        """The id of an event made of its content: the same words, the same id (UUID version 8, RFC 9562)."""
        digest = hmac.digest(self.event_id_key, purpose.encode() + b"\x00" + content, "sha256")
        number = int.from_bytes(digest[:16]) & ~_UUID_FIXED_BITS | _UUID_VERSION_8
        return UUID(int=number)


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the log. `metadata` is JSON text; `expected_version` is that of the stream before it."""

    event_id: UUID
    stream_id: StreamId
    topic: str
    body: bytes
    occurred_at: datetime
    source: Source
    metadata: str = "{}"
    expected_version: int | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event stands in the log; `duplicate`: it stood there before."""

    position: Position
    stream_version: StreamVersion
    duplicate: bool


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log, its body as it came in; `is_plain`: it lies in the log as it came in, too."""

    position: Position
    stream_id: StreamId
    stream_version: StreamVersion
    event_id: UUID
    topic: str
    body: bytes
    occurred_at: datetime
    recorded_at: datetime
    source: Source
    metadata: str
    is_plain: bool = True


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a log; position 0 is an empty one."""

    position: Position
    digest: bytes
    recorded_at: datetime


async def read_ledgers(connection: Connection) -> Mapping[str, Ledger]:
    """Every configured ledger, by name."""
    rows = await connection.fetch(SQL["read_ledgers"])
    return {
        row["name"]: Ledger(ledger_id=row["ledger_id"], name=row["name"], event_id_key=row["event_id_key"])
        for row in rows
    }


async def append(connection: Connection, ledger_id: LedgerId, events: Sequence[NewEvent]) -> list[Placed]:
    """All of `events` are in the log once this has returned, and were committed if no transaction was open before.

    One answer for each, in order. Raises VersionConflict, and then nothing was appended.
    """
    expected = [event.expected_version for event in events]
    encoded = [encode(event.body) for event in events]
    try:
        rows = await connection.fetch(
            SQL["append_events"],
            ledger_id,
            [event.event_id for event in events],
            [event.stream_id for event in events],
            [event.topic for event in events],
            [stored for _, stored in encoded],
            [int(encoding) for encoding, _ in encoded],
            [event.occurred_at for event in events],
            [event.source for event in events],
            [event.metadata for event in events],
            expected if any(version is not None for version in expected) else None,
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate != EXPECTED_VERSION_SQLSTATE:
            raise
        wanted, actual, stream_id = (error.detail or "0 0 a stream").split(" ", 2)
        raise VersionConflict(stream_id, expected=int(wanted), actual=int(actual)) from error
    return [
        Placed(position=row["event_position"], stream_version=row["event_stream_version"], duplicate=row["duplicate"])
        for row in rows
    ]


async def read_head(connection: Connection, ledger_id: LedgerId) -> Head:
    (row,) = await connection.fetch(SQL["read_head"], ledger_id)
    return Head(position=row["position"], digest=row["digest"], recorded_at=row["recorded_at"])


async def read_log(
    connection: Connection, ledger_id: LedgerId, *, after: Position, events_max: int
) -> list[RecordedEvent]:
    """What follows `after`, in order of position; fewer than `events_max` means the end was reached."""
    rows = await connection.fetch(SQL["read_log"], ledger_id, after, events_max)
    return [_event(row) for row in rows]


async def read_streams(
    connection: Connection, ledger_id: LedgerId, stream_ids: Sequence[StreamId], *, up_to: Position
) -> list[RecordedEvent]:
    """The events of these streams up to a position, stream by stream in order of version."""
    rows = await connection.fetch(SQL["read_streams"], ledger_id, stream_ids, up_to)
    return [_event(row) for row in rows]


async def read_begun(
    connection: Connection, ledger_id: LedgerId, *, after: Position, until: Position, up_to: Position
) -> list[RecordedEvent]:
    """The events up to `up_to` of the bookings, known by uid, that began after one position and until another.

    A booking is there whole, in no order of its events; `metadata` is left out.
    """
    rows = await connection.fetch(SQL["read_begun"], ledger_id, after, until, up_to)
    return [_event(row) for row in rows]


async def read_stream(connection: Connection, ledger_id: LedgerId, stream_id: StreamId) -> list[RecordedEvent]:
    """One whole stream, in order of version; empty where there is none."""
    head = await read_head(connection, ledger_id)
    return await read_streams(connection, ledger_id, [stream_id], up_to=head.position)


async def read_recorded(connection: Connection, ledger_id: LedgerId, event_id: UUID) -> RecordedEvent | None:
    """The event of this id; None where the log has none."""
    rows = await connection.fetch(SQL["read_event"], ledger_id, event_id)
    return _event(rows[0]) if rows else None


async def read_unattributed(
    connection: Connection, ledger_id: LedgerId, *, topics: Collection[str], before: Position, events_max: int
) -> list[RecordedEvent]:
    """Deliveries of these topics that name no booking, the latest first; fewer than `events_max` means the end."""
    rows = await connection.fetch(SQL["read_unattributed"], ledger_id, before, list(topics), events_max)
    return [_event(row) for row in rows]


async def read_stream_version(
    connection: Connection, ledger_id: LedgerId, stream_id: StreamId, *, up_to: Position
) -> StreamVersion:
    """How many events the stream had at a position; 0 where it had none."""
    return StreamVersion(await connection.fetchval(SQL["read_stream_version"], ledger_id, stream_id, up_to))


async def read_position_as_of(connection: Connection, ledger_id: LedgerId, moment: datetime) -> Position:
    """The last position recorded at or before `moment`; 0 where the log was still empty.

    `recorded_at` never goes back along the log, so the place is found by halving, without an index of its own.
    """
    known, unknown = 0, (await read_head(connection, ledger_id)).position + 1
    while known + 1 < unknown:
        middle = (known + unknown) // 2
        if await connection.fetchval(SQL["read_recorded_at"], ledger_id, middle) <= moment:
            known = middle
        else:
            unknown = middle
    return Position(known)


def _event(row: asyncpg.Record) -> RecordedEvent:
    """A row whose columns are, in this order, those of `read_log`."""
    (
        position,
        stream_id,
        stream_version,
        event_id,
        topic,
        state,
        encoding,
        occurred_at,
        recorded_at,
        source,
        metadata,
    ) = row
    return RecordedEvent(
        position=position,
        stream_id=stream_id,
        stream_version=stream_version,
        event_id=event_id,
        topic=topic,
        body=decode(encoding, state),
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        source=source,
        metadata=metadata,
        is_plain=encoding == Encoding.RAW,
    )
