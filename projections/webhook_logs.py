"""The read model `webhook_logs`: one row per recorded delivery; its payload is read from the log where SQL can."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ledger.calcom.payloads import Unreadable, read_json, with_room
from ledger.filing import Receipt
from ledger.history import Reading
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent
from projections.projection import Chunk, Page, Projection
from projections.texts import storable, storable_json

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNRECOGNISED = "unrecognised"
ESCAPE = b"\\u"
"""Of all that JSON may hold, escapes alone can stand for text that Postgres does not take; Cal.com sends none."""

RECEIPT = msgspec.json.Decoder(Receipt)


async def apply(connection: Connection, page: Page) -> None:
    """Every webhook of the page has its row."""
    rows = _rows(page.ledger, zip(page.events, page.readings, strict=True))
    if rows:
        await connection.execute(SQL["insert_logs"], rows)


async def fill(connection: Connection, chunk: Chunk) -> None:
    """Every webhook of the chunk has its row."""
    rows = _rows(chunk.ledger, zip(chunk.events, chunk.readings, strict=True))
    await connection.copy_records_to_table("webhook_logs", records=rows)


PROJECTION = Projection(name="webhook_logs", version=1, apply=apply, of="events", fill=fill)


def _rows(ledger: Ledger, told: Iterable[tuple[RecordedEvent, Reading]]) -> list[tuple[Any, ...]]:
    return [_row(ledger, event, reading) for event, reading in told if event.source == "webhook"]


def _row(ledger: Ledger, event: RecordedEvent, reading: Reading) -> tuple[Any, ...]:
    """The values of webhook_logs, in its order of columns."""
    in_log = event.is_plain and reading.error is None and ESCAPE not in event.body
    payload, error = (None, None) if in_log else _payload(event.body)
    error = error or reading.error
    received_at = RECEIPT.decode(event.metadata).received_at
    return (
        ledger.ledger_id,
        event.position,
        event.event_id,
        ledger.name,
        storable(reading.trigger) or UNRECOGNISED,
        payload,
        in_log,
        "error" if error else "success",
        error,
        reading.named,
        max((event.recorded_at - received_at).total_seconds() * 1000, 0),
        received_at,
    )


def _payload(body: bytes) -> tuple[str | None, str | None]:
    """The body as JSON text that `jsonb` takes, or why there is none."""
    try:
        return storable_json(with_room(_written_anew, body)), None
    except Unreadable as error:
        return None, f"Invalid payload: {error}"


def _written_anew(body: bytes) -> str:
    return msgspec.json.encode(read_json(body)).decode()
