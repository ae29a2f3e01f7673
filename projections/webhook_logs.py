"""The read model `webhook_logs`: one row per recorded delivery; its payload is read from the log where SQL can."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ledger.calcom.payloads import Unreadable, read_json, with_room
from ledger.calcom.triggers import UNRECOGNISED_TOPIC
from ledger.filing import Receipt
from ledger.history import WEBHOOK_TOPICS
from ledger.postgres import Connection
from ledger.readings import Reading
from ledger.redaction import REDACTED_TOPIC
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent
from projections import differing
from projections.differing import Differing
from projections.projection import Chunk, Page, Projection
from projections.texts import storable, storable_json

SQL = load_statements(Path(__file__).with_suffix(".sql"))

UNRECOGNISED = "unrecognised"
ERASED = "erased"
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


async def write_again(connection: Connection, ledger: Ledger, told: Sequence[tuple[RecordedEvent, Reading]]) -> None:
    """The rows of these events, where there are any, are as a rebuild would write them."""
    found = await connection.fetch(SQL["delete_logs"], ledger.ledger_id, [event.position for event, _ in told])
    there = {row["position"] for row in found}
    rows = _rows(ledger, [pair for pair in told if pair[0].position in there])
    if rows:
        await connection.execute(SQL["insert_logs"], rows)


async def compare(connection: Connection, page: Page, _gone: Collection[str]) -> list[Differing]:
    """The webhooks of the page whose rows are not what it says."""
    rows = _rows(page.ledger, zip(page.events, page.readings, strict=True))
    arguments = [rows, page.ledger.ledger_id, [event.position for event in page.events]]
    return await differing.compare(connection, SQL["read_both"], arguments, read_model="webhook_logs", key=["position"])


async def rewrite(connection: Connection, page: Page, keys: Collection[str]) -> None:
    """The webhooks of these positions have their rows anew."""
    told = [told for told in zip(page.events, page.readings, strict=True) if str(told[0].position) in keys]
    await connection.execute(SQL["delete_logs"], page.ledger.ledger_id, [event.position for event, _ in told])
    await connection.execute(SQL["insert_logs"], _rows(page.ledger, told))


PROJECTION = Projection(
    name="webhook_logs",
    version=1,
    apply=apply,
    of="events",
    fill=fill,
    compare=compare,
    rewrite=rewrite,
    reads_bodies=True,
)


def _rows(ledger: Ledger, told: Iterable[tuple[RecordedEvent, Reading]]) -> list[tuple[Any, ...]]:
    return [_row(ledger, event, reading) for event, reading in told if event.source == "webhook"]


def _row(ledger: Ledger, event: RecordedEvent, reading: Reading) -> tuple[Any, ...]:
    """The values of webhook_logs, in its order of columns."""
    in_log = event.is_plain and reading.error is None and ESCAPE not in event.body and not is_erased(event)
    copied = None if in_log else _as_it_came(event, reading)
    payload, error = (None, None) if in_log or copied is not None else _payload(event)
    error = error or reading.error
    received_at = RECEIPT.decode(event.metadata).received_at
    return (
        ledger.ledger_id,
        event.position,
        event.event_id,
        ledger.name,
        _trigger_of(event) if event.is_erased else storable(reading.trigger) or UNRECOGNISED,
        payload,
        in_log,
        "success" if error in (None, ERASED) else "error",
        error,
        reading.named,
        max((event.recorded_at - received_at).total_seconds() * 1000, 0),
        received_at,
        copied,
    )


def _as_it_came(event: RecordedEvent, reading: Reading) -> str | None:
    """The body where `jsonb` takes it as it is: Postgres reads it when it is asked for, which is cheaper than now."""
    is_json = reading.error is None and ESCAPE not in event.body and not is_erased(event)
    return event.body.decode() if is_json else None


def _payload(event: RecordedEvent) -> tuple[str | None, str | None]:
    """The body as JSON text that `jsonb` takes, or why there is none."""
    if is_erased(event):
        return None, ERASED
    try:
        return storable_json(with_room(_written_anew, event.body)), None
    except Unreadable as error:
        return None, f"Invalid payload: {error}"


def is_erased(event: RecordedEvent) -> bool:
    """Whether the body was made unreadable, or came in without those who had been erased before."""
    return event.is_erased or event.topic == REDACTED_TOPIC


def _trigger_of(event: RecordedEvent) -> str:
    """What is left to tell of a delivery that was erased."""
    return event.topic.removeprefix(WEBHOOK_TOPICS).upper() if event.topic != UNRECOGNISED_TOPIC else UNRECOGNISED


def _written_anew(body: bytes) -> str:
    return msgspec.json.encode(read_json(body)).decode()
