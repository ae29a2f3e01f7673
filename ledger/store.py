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

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from ledger.codec import SEALED, Encoding, decode
from ledger.errors import BodyUnreadable, SealingKeyMissing, StoreUnavailable, VersionConflict
from ledger.event_ids import content_event_id
from ledger.kept_facts import DECODER_VERSION
from ledger.keyring import KEY_ID_BYTES, SEALED_BYTES_MIN, Keyring, Open, destroyed
from ledger.postgres import Connection
from ledger.sealing import (
    Seal,
    SealedBatch,
    keep_apart,
    keyring_of,
    make_ready,
    open_body,
    open_keys,
    seal_batch,
    sealed_key_ids,
)
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, Position, StreamId, StreamVersion

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NOTIFY_CHANNEL = "ledger_events"
EXPECTED_VERSION_SQLSTATE = "BL001"
SEALINGS_MAX = 5
TURN_EVENTS = 100
"""So many bodies are opened before others have their turn: webhooks may be waiting in the same process."""
STATE_COLUMN = 5
ENCODING_COLUMN = 6
KEY_LOST = "its key is nowhere, neither here nor marked as destroyed; KEYS_DATABASE_URL may be missing"

Source = Literal["webhook", "link", "reconcile", "command"]

Row = asyncpg.Record | tuple[Any, ...]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One independent log. `event_id_key` keys the event ids, so that they tell nothing of the content."""

    ledger_id: LedgerId
    name: str
    event_id_key: bytes

    def event_id(self, purpose: str, content: bytes) -> UUID:
        """The id of an event made of its content: the same words, the same id (UUID version 8, RFC 9562)."""
        return content_event_id(self.event_id_key, purpose, content)


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the log. `metadata` is JSON text; `expected_version` is that of the stream before it.

    `seal`: under which key its body goes in (`ledger/sealing.py`). `told`: what it says, where its body was decoded
    already (`ledger/kept_facts.py`).
    """

    event_id: UUID
    stream_id: StreamId
    topic: str
    body: bytes
    occurred_at: datetime
    source: Source
    metadata: str = "{}"
    expected_version: int | None = None
    seal: Seal = "stream"
    told: bytes | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event stands in the log; `duplicate`: it stood there before."""

    position: Position
    stream_version: StreamVersion
    duplicate: bool


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of the log, its body as it came in; `is_plain`: it lies in the log as it came in, too.

    `is_erased`: the key of the body was destroyed on purpose. `fault`: why the body cannot be read although it should.
    In both cases what is here for a body is empty.
    """

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
    is_erased: bool = False
    fault: str | None = None


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


Admit = Callable[[Connection, LedgerId, Sequence[NewEvent]], Awaitable[Sequence[NewEvent]]]


async def append(
    connection: Connection, ledger_id: LedgerId, events: Sequence[NewEvent], *, admit: Admit | None = None
) -> list[Placed]:
    """All of `events` are in the log once this has returned, and were committed if no transaction was open before.

    One answer for each, in order. `admit` makes of the events those that may go in, as many and in the same order, and
    is asked again when something was erased meanwhile (`ledger/tombstones.py`). Raises VersionConflict, and then
    nothing was appended; StoreUnavailable where this process lacks the root key that is in use by now.
    """
    keyring = keyring_of(connection)
    keys = keyring.of(ledger_id)
    for _ in range(SEALINGS_MAX):
        if events and not keyring.is_ready:
            await make_ready(connection, keyring)
        erasures = keys.erasures
        given = events if admit is None else await admit(connection, ledger_id, events)
        sealed = seal_batch(keyring, ledger_id, given)
        if keyring.apart is not None and sealed.key_ids and not await keep_apart(keyring, ledger_id, sealed):
            await _use_other_root_key(connection, keyring)
            continue
        answer = await _append_sealed(connection, ledger_id, given, sealed, erasures=erasures)
        if answer["refusal"] is None:
            each = zip(answer["positions"], answer["versions"], answer["duplicates"], strict=True)
            return [Placed(position=at, stream_version=version, duplicate=known) for at, version, known in each]
        if answer["refusal"] == "keys_destroyed":
            keys.heed(answer["erasures"])
        else:
            await _use_other_root_key(connection, keyring)
    raise StoreUnavailable("keys are being destroyed faster than a batch is sealed")


async def _append_sealed(
    connection: Connection, ledger_id: LedgerId, events: Sequence[NewEvent], sealed: SealedBatch, *, erasures: int
) -> asyncpg.Record:
    keyring = keyring_of(connection)
    event_ids = [event.event_id for event in events]
    stream_ids = [event.stream_id for event in events]
    expected = [event.expected_version for event in events]
    told = [event.told for event in events]
    wrapping = keyring.wrapping if keyring.apart is None and sealed.key_ids else None
    try:
        (answer,) = await connection.fetch(
            SQL["append_events"],
            ledger_id,
            event_ids,
            stream_ids,
            [event.topic for event in events],
            sealed.states,
            sealed.encodings,
            [event.occurred_at for event in events],
            [event.source for event in events],
            [event.metadata for event in events],
            expected if any(version is not None for version in expected) else None,
            sealed.key_ids if wrapping else None,
            sealed.wrapped_keys if wrapping else None,
            wrapping.id if wrapping else None,
            erasures,
            told if any(one is not None for one in told) else None,
            DECODER_VERSION,
            len(set(event_ids)) == len(events) == len(set(stream_ids)),
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate != EXPECTED_VERSION_SQLSTATE:
            raise
        wanted, actual, stream_id = (error.detail or "0 0 a stream").split(" ", 2)
        raise VersionConflict(stream_id, expected=int(wanted), actual=int(actual)) from error
    return answer


async def _use_other_root_key(connection: Connection, keyring: Keyring) -> None:
    """The keyring is ready again. Raises StoreUnavailable: what comes in meanwhile is kept until a restart."""
    keyring.forget()
    try:
        await make_ready(connection, keyring, is_retired=True)
    except SealingKeyMissing as error:
        raise StoreUnavailable(f"this process lacks root key {error.root_key}: restart it with SEALING_KEY") from error


async def read_head(connection: Connection, ledger_id: LedgerId) -> Head:
    (row,) = await connection.fetch(SQL["read_head"], ledger_id)
    return Head(position=row["position"], digest=row["digest"], recorded_at=row["recorded_at"])


async def read_log(
    connection: Connection, ledger_id: LedgerId, *, after: Position, events_max: int
) -> list[RecordedEvent]:
    """What follows `after`, in order of position; fewer than `events_max` means the end was reached."""
    rows = await connection.fetch(SQL["read_log"], ledger_id, after, events_max)
    return await open_events(connection, ledger_id, rows)


async def read_outlines(
    connection: Connection, ledger_id: LedgerId, *, after: Position, events_max: int
) -> list[RecordedEvent]:
    """The same without bodies and metadata, which are empty here: nothing is opened."""
    rows = await connection.fetch(SQL["read_outlines"], ledger_id, after, events_max)
    return [
        RecordedEvent(
            position=position,
            stream_id=stream_id,
            stream_version=stream_version,
            event_id=event_id,
            topic=topic,
            body=b"",
            occurred_at=occurred_at,
            recorded_at=recorded_at,
            source=source,
            metadata="",
        )
        for position, stream_id, stream_version, event_id, topic, occurred_at, recorded_at, source in rows
    ]


async def read_events_at(
    connection: Connection, ledger_id: LedgerId, positions: Collection[Position]
) -> list[RecordedEvent]:
    """The events of these positions, in their order."""
    rows = await connection.fetch(SQL["read_events_at"], ledger_id, list(positions))
    return await open_events(connection, ledger_id, rows)


async def read_streams(
    connection: Connection, ledger_id: LedgerId, stream_ids: Sequence[StreamId], *, up_to: Position
) -> list[RecordedEvent]:
    """The events of these streams up to a position, stream by stream in order of version."""
    rows = await connection.fetch(SQL["read_streams"], ledger_id, stream_ids, up_to)
    return await open_events(connection, ledger_id, rows)


async def read_begun(
    connection: Connection, ledger_id: LedgerId, *, after: Position, until: Position, up_to: Position
) -> list[RecordedEvent]:
    """The events up to `up_to` of the bookings, known by uid, that began after one position and until another.

    A booking is there whole, in no order of its events; `metadata` is left out.
    """
    rows = await connection.fetch(SQL["read_begun"], ledger_id, after, until, up_to)
    return await open_events(connection, ledger_id, rows)


async def read_stream(connection: Connection, ledger_id: LedgerId, stream_id: StreamId) -> list[RecordedEvent]:
    """One whole stream, in order of version; empty where there is none."""
    head = await read_head(connection, ledger_id)
    return await read_streams(connection, ledger_id, [stream_id], up_to=head.position)


async def read_recorded(connection: Connection, ledger_id: LedgerId, event_id: UUID) -> RecordedEvent | None:
    """The event of this id; None where the log has none."""
    rows = await connection.fetch(SQL["read_event"], ledger_id, event_id)
    events = await open_events(connection, ledger_id, rows)
    return events[0] if events else None


async def read_unattributed(
    connection: Connection, ledger_id: LedgerId, *, topics: Collection[str], before: Position, events_max: int
) -> list[RecordedEvent]:
    """Deliveries of these topics that name no booking, the latest first; fewer than `events_max` means the end."""
    rows = await connection.fetch(SQL["read_unattributed"], ledger_id, before, list(topics), events_max)
    return await open_events(connection, ledger_id, rows)


async def read_number_streams(
    connection: Connection, ledger_id: LedgerId, *, up_to: Position, streams_max: int
) -> set[StreamId] | None:
    """The streams that are named by a number, begun up to a position; None where they are more than `streams_max`."""
    rows = await connection.fetch(SQL["read_number_streams"], ledger_id, up_to, streams_max + 1)
    return None if len(rows) > streams_max else {row["stream_id"] for row in rows}


async def read_stream_version(
    connection: Connection, ledger_id: LedgerId, stream_id: StreamId, *, up_to: Position
) -> StreamVersion:
    """How many events the stream had at a position; 0 where it had none."""
    return StreamVersion(await connection.fetchval(SQL["read_stream_version"], ledger_id, stream_id, up_to))


async def read_position_as_of(connection: Connection, ledger_id: LedgerId, moment: datetime) -> Position:
    """The last position recorded at or before `moment`; 0 where the log was still empty.

    `recorded_at` never goes back along the log, so the place is found by halving, without an index of its own.
    """
    return Position(await connection.fetchval(SQL["find_position_as_of"], ledger_id, moment))


async def open_events(connection: Connection, ledger_id: LedgerId, rows: Sequence[Row]) -> list[RecordedEvent]:
    """The events of these rows, whose columns are, in this order, those of `read_log`.

    Others have their turn in between. An event whose body cannot be read says so in its `fault`. Raises
    SealingKeyMissing.
    """
    key_ids = sealed_key_ids((row[ENCODING_COLUMN], row[STATE_COLUMN]) for row in rows)
    keys = await open_keys(connection, ledger_id, key_ids, erasures=rows[0][-1]) if key_ids else {}
    place = ledger_id.to_bytes(4)
    events: list[RecordedEvent] = []
    for begin in range(0, len(rows), TURN_EVENTS):
        if begin:
            await asyncio.sleep(0)
        events += [_event(row, keys, place) for row in rows[begin : begin + TURN_EVENTS]]
    return events


def _event(row: Row, keys: Mapping[bytes, Open], place: bytes) -> RecordedEvent:
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
        _erasures,
    ) = row
    body, is_erased, fault = b"", False, None
    try:
        if encoding in SEALED:
            open_key = keys.get(state[:KEY_ID_BYTES])
            if open_key is None:
                fault = KEY_LOST if len(state) >= SEALED_BYTES_MIN else "it was cut short"
            elif open_key is destroyed:
                is_erased = True
            else:
                body = open_body(open_key, encoding, state, place + event_id.bytes)
        else:
            body = decode(encoding, state)
    except BodyUnreadable as error:
        fault = error.reason
    return RecordedEvent(
        position=position,
        stream_id=stream_id,
        stream_version=stream_version,
        event_id=event_id,
        topic=topic,
        body=body,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        source=source,
        metadata=metadata,
        is_plain=encoding == Encoding.RAW,
        is_erased=is_erased,
        fault=fault,
    )
