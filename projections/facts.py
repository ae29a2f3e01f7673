"""What bodies were found to mean, kept beside the log: decoding a body costs several times as much as reading this.

No read model for people and never the truth: `DECODER_VERSION` says which decoder made it, and a rebuild that finds
another, or anything missing, decodes the bodies themselves. Raise it with every change of what a body means; then a
worker fills a new generation.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ledger.facts import AnyFact
from ledger.history import Reading, reading_of
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent
from ledger.vocabulary import Position, StreamId
from projections.projection import Chunk, Page, Projection

SQL = load_statements(Path(__file__).with_suffix(".sql"))

DECODER_VERSION = 1


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one event says, without what its row says already."""

    facts: list[tuple[StreamId, AnyFact]]
    trigger: str
    glances: tuple[StreamId, ...] = ()
    chain: tuple[StreamId, ...] | None = None
    """None: what follows from the facts."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


async def apply(connection: Connection, page: Page) -> None:
    """What the page says of bookings is kept."""
    rows = _rows(page.ledger, zip(page.events, page.readings, strict=True))
    if rows:
        await connection.execute(SQL["insert_facts"], rows)


async def fill(connection: Connection, chunk: Chunk) -> None:
    """What the chunk says of bookings is kept."""
    rows = _rows(chunk.ledger, zip(chunk.events, chunk.readings, strict=True))
    await connection.copy_records_to_table("facts", records=rows)


PROJECTION = Projection(name="facts", version=DECODER_VERSION, apply=apply, of="events", fill=fill)


async def are_known(connection: Connection, ledger: Ledger, *, up_to: Position) -> bool:
    """Whether everything up to a position is kept, as this decoder understands it."""
    standing = await connection.fetchval(SQL["read_standing"], ledger.ledger_id, DECODER_VERSION)
    return standing is not None and standing >= up_to


async def read_begun(
    connection: Connection, ledger: Ledger, *, after: Position, until: Position, up_to: Position
) -> dict[StreamId, list[Reading]]:
    """What is kept, up to `up_to`, of the bookings known by uid that began after one position and until another."""
    readings: dict[StreamId, list[Reading]] = defaultdict(list)
    for position, stream_id, event_id, occurred_at, recorded_at, told in await connection.fetch(
        SQL["read_begun"], ledger.ledger_id, after, until, up_to
    ):
        said = _decode(told)
        readings[stream_id].append(
            reading_of(
                said.facts,
                digest=event_id.bytes,
                position=position,
                occurred_at=occurred_at,
                recorded_at=recorded_at,
                trigger=said.trigger,
                chain=said.chain,
                glances=said.glances,
            )
        )
    return readings


def _rows(ledger: Ledger, told: Iterable[tuple[RecordedEvent, Reading]]) -> list[tuple[Any, ...]]:
    """The values of facts, in its order of columns. What is about no booking is left out, but not what began one."""
    return [
        (
            ledger.ledger_id,
            event.position,
            event.stream_id,
            event.stream_version,
            event.event_id,
            reading.facts[0][1].occurred_at if reading.facts else event.occurred_at,
            event.recorded_at,
            _encode(_told(reading)),
        )
        for event, reading in told
        if reading.facts or reading.chain or event.stream_version == 1
    ]


def _told(reading: Reading) -> Told:
    return Told(
        facts=[(stream_id, dated.fact) for stream_id, dated in reading.facts],
        trigger=reading.facts[0][1].trigger if reading.facts else "",
        glances=reading.glances,
        chain=None if reading.facts else reading.chain,
    )
