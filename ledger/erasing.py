"""Erasing persons from a ledger: what is theirs alone goes, of what they share with others the others' part stays.

In this order, so that a kill at any point leaves what a second run finishes:

1. The tombstone. From its commit on nothing of theirs comes in any more (`ledger/tombstones.py`), so what has to be
   found is in the log by then.
2. Finding: every body is read (`ledger/finding.py`).
3. Chain by chain of bookings, in one transaction: `booking.redacted` is appended with what others keep, under a fresh
   key, at the very version that was read; the keys of the bodies it stands for are destroyed; and what was done is
   noted. A delivery that names no booking loses its own key.
4. Read models, which follow by themselves, and what was kept beside them (`projections/forgetting.py`).

Keys that live in a database of their own are destroyed right after that transaction. Killed in between, a second run
finds the bodies again, and redacts and destroys once more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX
from ledger.chains import Chain, Readings, chains_of
from ledger.erasures import Erasure, set_redacted
from ledger.errors import ErasureUnderWay, NotErasable, VersionConflict
from ledger.finding import Found, Named, Progress, find_persons, told_nobody
from ledger.history import NumberLookup, load_histories
from ledger.persons import Traits
from ledger.postgres import Connection
from ledger.redacting import Erased, redact_stream
from ledger.redaction import REDACTED_TOPIC, Redaction, write_redaction
from ledger.sealing import UNATTRIBUTED_PREFIX, destroy_keys, keyring_of
from ledger.sql import load_statements
from ledger.store import Ledger, NewEvent, append, read_head
from ledger.vocabulary import Position, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

STREAMS_AT_ONCE: Final = 100
POSITIONS_AT_ONCE: Final = 500
ATTEMPTS_MAX: Final = 50
"""So often may a booking be told of anew while it is being redacted."""

One = TypeVar("One")

log = structlog.get_logger()


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure would take out, or has. Bookings by uid, or by number as text; `hosted`: where they are the host.

    `deliveries` name no booking, `other_streams` belong to other programs. `unreadable` bodies cannot be looked into.
    """

    bookings: list[str]
    shared_bookings: list[str]
    hosted_bookings: list[str]
    deliveries: int
    other_streams: list[str]
    unreadable: int


class _End(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream went when it was read."""

    version: int
    position: Position
    occurred_at: datetime
    positions: list[Position]
    key_ids: list[UUID]


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of bookings, and what is to stand for each of its streams from now on."""

    chain: Chain
    erasure_ids: list[UUID]
    redactions: dict[StreamId, Redaction]
    ends: dict[StreamId, _End]


class Eraser:
    """Works on one ledger, on a connection of its own."""

    def __init__(self, connection: Connection, ledger: Ledger, look_up_numbers: NumberLookup) -> None:
        self._connection = connection
        self._ledger = ledger
        self._look_up_numbers = look_up_numbers

    async def measure(self, tags: Collection[bytes], *, progress: Progress = told_nobody) -> Extent:
        """What erasing these persons would take out; nothing is changed."""
        found = await self._find(tags, progress)
        chains: dict[Chain, None] = {}
        hosted: set[StreamId] = set()
        for batch in in_batches(sorted(_bookings(found)), STREAMS_AT_ONCE):
            head = await read_head(self._connection, self._ledger.ledger_id)
            readings = await self._read(batch, head.position)
            chains |= dict.fromkeys(chains_of(readings, batch, leaving=_emails(found)))
            hosted |= _hosted(readings, _emails(found))
        alone = {one for chain in chains if not chain.others for one in chain.streams}
        shared = {one for chain in chains if chain.others for one in chain.streams} & found.streams.keys()
        others = found.streams.keys() - _bookings(found)
        return Extent(
            bookings=await self._names(alone),
            shared_bookings=await self._names(shared),
            hosted_bookings=await self._names(hosted),
            deliveries=sum(len(found.streams[one].positions) for one in others if one.startswith(UNATTRIBUTED_PREFIX)),
            other_streams=sorted(one for one in others if not one.startswith(UNATTRIBUTED_PREFIX)),
            unreadable=found.unreadable,
        )

    async def erase_persons(self, erasures: Sequence[Erasure], *, progress: Progress = told_nobody) -> None:
        """Nothing in the log names them any more in a body that can be read. Their tombstones are in force."""
        by_tag: dict[bytes, list[UUID]] = {}
        for one in erasures:
            if one.person_tag is not None:
                by_tag.setdefault(one.person_tag, []).append(one.erasure_id)
        found = await self._find(by_tag, progress)
        if found.unreadable:
            log.warning("erasure_bodies_unreadable", ledger=self._ledger.name, bodies=found.unreadable)
        waiting = sorted(_bookings(found))
        while waiting:
            done = await self._redact(waiting, found, by_tag)
            waiting = [stream_id for stream_id in waiting if stream_id not in done]
        await self._destroy_alone(found, by_tag)
        await set_redacted(self._connection, self._ledger, erasures)

    async def erase_bookings(
        self, erasure: Erasure, seeds: Collection[StreamId], *, older_than: datetime | None
    ) -> None:
        """These bookings are gone with all who are in them, each with its chain, unless something of it is younger."""
        nobody = Found()
        waiting = sorted(seeds)
        while waiting:
            done = await self._redact(waiting, nobody, {}, every=erasure.erasure_id, older_than=older_than)
            waiting = [stream_id for stream_id in waiting if stream_id not in done]

    async def erase_deliveries(self, erasure: Erasure, positions: Sequence[Position]) -> None:
        """Of these deliveries, which name no booking, nobody can open a body any more."""
        for batch in in_batches(positions, POSITIONS_AT_ONCE):
            await self._destroy(batch, [(erasure.erasure_id, position) for position in batch])

    async def read_old_deliveries(self, older_than: datetime) -> list[Position]:
        rows = await self._connection.fetch(SQL["read_old_unattributed"], self._ledger.ledger_id, older_than)
        return [row["position"] for row in rows]

    async def _find(self, tags: Collection[bytes], progress: Progress) -> Found:
        head = await read_head(self._connection, self._ledger.ledger_id)
        return await find_persons(self._connection, self._ledger, tags, up_to=head.position, progress=progress)

    async def _read(self, seeds: Collection[StreamId], up_to: Position) -> Readings:
        histories = await load_histories(
            self._connection, self._ledger.ledger_id, seeds, up_to=up_to, look_up_numbers=self._look_up_numbers
        )
        return histories.readings

    async def _names(self, stream_ids: Collection[StreamId]) -> list[str]:
        """Of bookings that the log has, by uid, or by number where it has no uid."""
        ends = await self._ends(stream_ids, (await read_head(self._connection, self._ledger.ledger_id)).position)
        return sorted(booking_name(stream_id) for stream_id in ends)

    async def _redact(
        self,
        waiting: Sequence[StreamId],
        found: Found,
        by_tag: Mapping[bytes, Sequence[UUID]],
        *,
        every: UUID | None = None,
        older_than: datetime | None = None,
    ) -> set[StreamId]:
        """The chains of the first that wait are redacted; all streams that were.

        Where one is written to meanwhile, we look again, at half as many, so that less is written meanwhile.
        """
        for attempt in range(ATTEMPTS_MAX):
            seeds = waiting[: max(1, STREAMS_AT_ONCE >> attempt)]
            up_to = (await read_head(self._connection, self._ledger.ledger_id)).position
            readings = await self._read(seeds, up_to)
            chains = chains_of(readings, seeds, leaving=_emails(found) if every is None else None)
            steps = [
                await self._step(chain, readings, found, by_tag, up_to=up_to, every=every)
                for chain in chains
                if older_than is None or _is_over(chain, readings, older_than)
            ]
            try:
                await self._write([step for step in steps if step.redactions])
            except VersionConflict:
                log.info("erasure_looks_again", ledger=self._ledger.name)
                continue
            return {*seeds, *(stream_id for chain in chains for stream_id in chain.streams)}
        raise ErasureUnderWay(self._ledger.name)

    async def _step(
        self,
        chain: Chain,
        readings: Readings,
        found: Found,
        by_tag: Mapping[bytes, Sequence[UUID]],
        *,
        up_to: Position,
        every: UUID | None,
    ) -> _Step:
        named = [found.streams[one] for one in sorted(chain.streams & found.streams.keys())]
        tags, erased = _erased(named)
        gone = frozenset[StreamId]() if chain.others else chain.streams
        ends = await self._ends(chain.streams, up_to)
        redactions = {}
        for stream_id, end in ends.items():
            told = readings.get(stream_id, ())
            redaction = redact_stream(stream_id, told, erased, gone=gone, covers=end.position)
            before = redact_stream(stream_id, told, _erased([])[1], gone=gone, covers=end.position)
            if gone or stream_id in found.streams or redaction.redacted.kept != before.redacted.kept:
                redactions[stream_id] = redaction
        ids = [every] if every is not None else sorted({one for tag in tags.values() for one in by_tag.get(tag, ())})
        return _Step(chain=chain, erasure_ids=ids, redactions=redactions, ends=ends)

    async def _ends(self, stream_ids: Collection[StreamId], up_to: Position) -> dict[StreamId, _End]:
        """Of those that there are. Raises NotErasable where a body lies in the log as it came in."""
        rows = await self._connection.fetch(SQL["read_ends"], self._ledger.ledger_id, list(stream_ids), up_to)
        if plain := sum(row["plain"] for row in rows):
            raise NotErasable(plain)
        return {
            row["stream_id"]: _End(
                version=row["version"],
                position=row["position"],
                occurred_at=row["occurred_at"],
                positions=row["positions"],
                key_ids=row["key_ids"],
            )
            for row in rows
        }

    async def _write(self, steps: Sequence[_Step]) -> None:
        """In one transaction, with the keys' destruction where that is possible. Raises VersionConflict."""
        if not steps:
            return
        ledger_id, ends = self._ledger.ledger_id, {one: end for step in steps for one, end in step.ends.items()}
        redacted = [stream_id for step in steps for stream_id in step.redactions]
        key_ids = [key_id for stream_id in redacted for key_id in ends[stream_id].key_ids]
        events = [self._event(one, step.redactions[one], ends[one]) for step in steps for one in step.redactions]
        streams = [
            (erasure_id, stream_id, not step.chain.others)
            for step in steps
            for erasure_id in step.erasure_ids
            for stream_id in sorted(step.chain.streams)
            if stream_id in step.redactions or not step.chain.others
        ]
        positions = [
            (erasure_id, position)
            for step in steps
            for erasure_id in step.erasure_ids
            for stream_id in step.redactions
            for position in step.ends[stream_id].positions
        ]
        is_apart = keyring_of(self._connection).apart is not None
        async with self._connection.transaction():
            await append(self._connection, ledger_id, events)
            await self._connection.execute(SQL["add_streams"], ledger_id, *_columns(streams, width=3))
            await self._connection.execute(SQL["add_events"], ledger_id, *_columns(positions, width=2))
            await destroy_keys(self._connection, ledger_id, [] if is_apart else key_ids)
        if is_apart:
            await destroy_keys(self._connection, ledger_id, key_ids)

    def _event(self, stream_id: StreamId, redaction: Redaction, end: _End) -> NewEvent:
        return NewEvent(
            event_id=self._ledger.event_id("redacted", f"{stream_id}\x00{end.version}".encode()),
            stream_id=stream_id,
            topic=REDACTED_TOPIC,
            body=write_redaction(redaction),
            occurred_at=end.occurred_at,
            source="command",
            expected_version=end.version,
            seal="fresh",
        )

    async def _destroy_alone(self, found: Found, by_tag: Mapping[bytes, Sequence[UUID]]) -> None:
        """Deliveries that name no booking, and events of other programs with what lies under the same keys."""
        for stream_id in sorted(found.streams.keys() - _bookings(found)):
            named = found.streams[stream_id]
            for tag, own in named.positions_by_tag.items():
                rows = await self._connection.fetch(SQL["read_positions_of_keys"], self._ledger.ledger_id, own)
                positions = [row["position"] for row in rows] or own
                for batch in in_batches(positions, POSITIONS_AT_ONCE):
                    await self._destroy(batch, [(one, position) for one in by_tag[tag] for position in batch])

    async def _destroy(self, positions: Sequence[Position], noted: Sequence[tuple[UUID, Position]]) -> None:
        ledger_id = self._ledger.ledger_id
        (row,) = await self._connection.fetch(SQL["read_keys_at"], ledger_id, positions)
        if row["plain"]:
            raise NotErasable(row["plain"])
        async with self._connection.transaction():
            await self._connection.execute(SQL["add_events"], ledger_id, *_columns(noted, width=2))
            await destroy_keys(self._connection, ledger_id, row["key_ids"])


def in_batches(many: Sequence[One], size: int) -> list[Sequence[One]]:
    return [many[at : at + size] for at in range(0, len(many), size)]


def booking_name(stream_id: StreamId) -> str:
    """The uid, or the number as text."""
    return stream_id.removeprefix(BOOKING_STREAM_PREFIX).removeprefix("id-")


def _erased(named: Iterable[Named]) -> tuple[dict[str, bytes], Erased]:
    tags: dict[str, bytes] = {}
    traits = Traits()
    for one in named:
        tags |= one.tags
        traits.add(one.traits)
    return tags, Erased.of(tags, traits)


def _bookings(found: Found) -> set[StreamId]:
    return {stream_id for stream_id in found.streams if stream_id.startswith(BOOKING_STREAM_PREFIX)}


def _emails(found: Found) -> set[str]:
    return {email for named in found.streams.values() for email in named.tags}


def _hosted(readings: Readings, emails: Collection[str]) -> set[StreamId]:
    return {
        about
        for told in readings.values()
        for reading in told
        for about, dated in reading.facts
        if dated.fact.details.host_email in emails
    }


def _is_over(chain: Chain, readings: Readings, moment: datetime) -> bool:
    """Whether the last that was told of the chain, and the last end of its bookings, lie before the moment."""
    told = [
        dated
        for said in readings.values()
        for reading in said
        for about, dated in reading.facts
        if about in chain.streams
    ]
    ends = [dated.fact.details.end or dated.fact.details.start for dated in told]
    return all(dated.occurred_at < moment for dated in told) and all(end is None or end < moment for end in ends)


def _columns(rows: Sequence[tuple[object, ...]], *, width: int) -> list[list[object]]:
    return [[row[at] for row in rows] for at in range(width)]
