"""The read model `webhook_logs`: one row per recorded delivery, with its payload where it is JSON."""

from pathlib import Path
from typing import Any

import msgspec

from ledger.calcom.envelope import open_envelope
from ledger.calcom.payloads import Unreadable, read_json
from ledger.filing import Receipt
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import RecordedEvent
from projections.projection import Page, Projection
from projections.texts import storable, storable_json

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNRECOGNISED = "unrecognised"


async def apply(connection: Connection, page: Page) -> None:
    """Every webhook of the page has its row."""
    rows = [_row(event, page) for event in page.events if event.source == "webhook"]
    if rows:
        await connection.execute(SQL["insert_logs"], rows)


PROJECTION = Projection(name="webhook_logs", generation=1, apply=apply)


def _row(event: RecordedEvent, page: Page) -> tuple[Any, ...]:
    """The values of projections.webhook_logs_1, in its order of columns."""
    envelope = open_envelope(event.body)
    payload, error = _payload(event.body)
    error = error or envelope.error
    received_at = msgspec.json.decode(event.metadata, type=Receipt).received_at
    return (
        page.ledger.ledger_id,
        event.position,
        event.event_id,
        page.ledger.name,
        storable(envelope.trigger) or UNRECOGNISED,
        payload,
        "error" if error else "success",
        error,
        envelope.uid or (str(envelope.number) if envelope.number is not None else None),
        max((event.recorded_at - received_at).total_seconds() * 1000, 0),
        received_at,
    )


def _payload(body: bytes) -> tuple[str | None, str | None]:
    """The body as JSON text that `jsonb` takes, or why there is none."""
    try:
        return storable_json(msgspec.json.encode(read_json(body)).decode()), None
    except (Unreadable, RecursionError) as error:
        return None, f"Invalid payload: {error}"
