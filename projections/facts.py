"""What bodies were found to mean, kept beside the log: decoding a body costs several times as much as reading this.

No read model for people and never the truth: `DECODER_VERSION` says which decoder made it, and whoever finds another,
or anything missing, decodes the bodies themselves. Raise it with every change of what a body means; then a worker fills
a new generation. What most deliveries say is here as soon as they are in the log (`ledger/kept_facts.py`); this
projection keeps what the others say.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ledger import kept_facts
from ledger.facts import Dated, Redacted
from ledger.kept_facts import DECODER_VERSION
from ledger.postgres import Connection
from ledger.readings import Reading, chain_of
from ledger.sql import load_statements
from ledger.store import TURN_EVENTS, Ledger, RecordedEvent
from ledger.vocabulary import Position, StreamId
from projections import differing
from projections.differing import Differing
from projections.projection import Chunk, Page, Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an event says that bears on other bookings, too. The fields are those of a reading."""

    facts: tuple[tuple[StreamId, Dated], ...]
    chain: tuple[StreamId, ...]
    glances: tuple[StreamId, ...]
    position: int
    redacted: Redacted | None
    voids: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode_told = msgspec.msgpack.Decoder(Told).decode


async def apply(connection: Connection, page: Page) -> None:
    """What the page says of bookings is kept."""
    after = page.events[0].position - 1
    found = await connection.fetch(SQL["read_positions"], page.ledger.ledger_id, after, page.end)
    there = {row["position"] for row in found}
    told = zip(page.events, page.readings, strict=True)
    rows = _rows(page.ledger, [pair for pair in told if pair[0].position not in there])
    if rows:
        await connection.execute(SQL["insert_facts"], rows)


async def fill(connection: Connection, chunk: Chunk) -> None:
    """What the chunk says of bookings is kept."""
    rows = _rows(chunk.ledger, zip(chunk.events, chunk.readings, strict=True))
    await connection.copy_records_to_table("facts", records=rows)


async def write_again(connection: Connection, ledger: Ledger, told: Sequence[tuple[RecordedEvent, Reading]]) -> None:
    """What is kept of these events, where anything is, is what a rebuild would keep."""
    found = await connection.fetch(SQL["delete_facts"], ledger.ledger_id, [event.position for event, _ in told])
    there = {row["position"] for row in found}
    rows = _rows(ledger, [pair for pair in told if pair[0].position in there])
    if rows:
        await connection.execute(SQL["insert_facts"], rows)


async def compare(connection: Connection, page: Page, _gone: Collection[str]) -> list[Differing]:
    """The events of the page of which something else is kept than what it says; a rebuild would believe that."""
    rows = _rows(page.ledger, zip(page.events, page.readings, strict=True))
    arguments = [rows, page.ledger.ledger_id, [event.position for event in page.events]]
    return await differing.compare(connection, SQL["read_both"], arguments, read_model="facts", key=["position"])


async def rewrite(connection: Connection, page: Page, keys: Collection[str]) -> None:
    """What the events of these positions say is kept, and nothing else of them."""
    told = [told for told in zip(page.events, page.readings, strict=True) if str(told[0].position) in keys]
    await connection.execute(SQL["delete_facts"], page.ledger.ledger_id, [event.position for event, _ in told])
    await connection.execute(SQL["insert_facts"], _rows(page.ledger, told))


PROJECTION = Projection(
    name="facts", version=DECODER_VERSION, apply=apply, of="events", fill=fill, compare=compare, rewrite=rewrite
)


async def are_known(connection: Connection, ledger: Ledger, *, up_to: Position) -> bool:
    """Whether everything up to a position is kept, as this decoder understands it."""
    standing = await connection.fetchval(SQL["read_standing"], ledger.ledger_id, DECODER_VERSION)
    return standing is not None and standing >= up_to


async def read_begun(
    connection: Connection, ledger: Ledger, *, after: Position, until: Position, up_to: Position
) -> dict[StreamId, list[Dated] | None]:
    """What is kept, up to `up_to`, of the bookings known by uid that began after one position and until another.

    None for a booking that does not stand for itself, as far as its own events say.
    """
    rows = await connection.fetch(SQL["read_begun"], ledger.ledger_id, after, until, up_to)
    return {stream_id: None if told is None else kept_facts.read_each(told, count) for stream_id, count, told in rows}


async def read_page(
    connection: Connection, ledger: Ledger, *, after: Position, until: Position
) -> dict[Position, Reading]:
    """What is kept of the events after one position and until another, as this decoder found it.

    Others have their turn in between.
    """
    rows = await connection.fetch(SQL["read_page"], ledger.ledger_id, after, until, DECODER_VERSION)
    kept: dict[Position, Reading] = {}
    for begin in range(0, len(rows), TURN_EVENTS):
        for position, stream_id, alone, told in rows[begin : begin + TURN_EVENTS]:
            kept[position] = _reading(stream_id, told, alone=alone)
        await asyncio.sleep(0)
    return kept


async def read_readings(
    connection: Connection, ledger: Ledger, stream_ids: Collection[StreamId], *, up_to: Position
) -> dict[StreamId, list[Reading]]:
    """What is kept of these streams up to a position, event by event; an empty list where there is nothing."""
    readings: dict[StreamId, list[Reading]] = {stream_id: [] for stream_id in stream_ids}
    rows = await connection.fetch(SQL["read_streams"], ledger.ledger_id, list(stream_ids), up_to)
    for stream_id, alone, told in rows:
        readings[stream_id].append(_reading(stream_id, told, alone=alone))
    return readings


async def read_streams(connection: Connection, events: Sequence[RecordedEvent], ledger: Ledger) -> set[StreamId]:
    """The streams of which these events were found to say something, as far as that is kept."""
    positions = [event.position for event in events]
    rows = await connection.fetch(SQL["read_told"], ledger.ledger_id, positions, DECODER_VERSION)
    readings = [_reading(stream_id, told, alone=alone) for stream_id, alone, told in rows]
    return {stream_id for reading in readings for stream_id, _ in reading.facts}


def _reading(stream_id: StreamId, told: bytes, *, alone: bool) -> Reading:
    if not alone:
        return Reading(**msgspec.structs.asdict(_decode_told(told)))
    facts = tuple([(stream_id, dated) for dated in kept_facts.read(told)])
    return Reading(
        facts=facts, chain=chain_of(facts), alone=True, position=facts[0][1].position if facts else Position(0)
    )


def _rows(ledger: Ledger, told: Iterable[tuple[RecordedEvent, Reading]]) -> list[tuple[Any, ...]]:
    """The values of facts, in its order of columns. What is about no booking is left out, but not what began one."""
    return [
        (ledger.ledger_id, event.position, event.stream_id, event.stream_version, reading.alone, _kept(reading))
        for event, reading in told
        if reading.facts or reading.chain or event.stream_version == 1
    ]


def _kept(reading: Reading) -> bytes:
    if reading.alone:
        return kept_facts.tell([dated for _, dated in reading.facts])
    return _encode(
        Told(
            facts=reading.facts,
            chain=reading.chain,
            glances=reading.glances,
            position=reading.position,
            redacted=reading.redacted,
            voids=reading.voids,
        )
    )
