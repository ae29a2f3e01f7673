"""The log as Parquet: the columns of `events export`, times as instants in UTC, bodies as bytes, null where erased."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from ledger.errors import OperatorError
from ledger.store import Ledger, RecordedEvent

ROW_GROUP_EVENTS = 20_000
"""So many rows are held back, for a group of rows to be worth its statistics."""


@contextlib.contextmanager
def writing_parquet(ledger: Ledger, output: IO[bytes]) -> Iterator[Callable[[Sequence[RecordedEvent]], None]]:
    """A function to call with page after page; the file is complete after the block. Raises OperatorError."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise OperatorError("Parquet needs pyarrow: pip install 'booking-ledger[export]'.") from None
    instant = pa.timestamp("us", tz="UTC")
    columns = {
        "ledger": pa.string(),
        "position": pa.int64(),
        "stream_id": pa.string(),
        "stream_version": pa.int32(),
        "event_id": pa.string(),
        "topic": pa.string(),
        "occurred_at": instant,
        "recorded_at": instant,
        "source": pa.string(),
        "body": pa.binary(),
        "erased": pa.bool_(),
    }
    schema = pa.schema(list(columns.items()))
    held: list[tuple[object, ...]] = []

    with ParquetWriter(output, schema, compression="zstd") as writer:

        def flush() -> None:
            rows = list(zip(*held, strict=True)) or [()] * len(columns)
            writer.write_table(pa.table([list(values) for values in rows], schema=schema))
            held.clear()

        def write(page: Sequence[RecordedEvent]) -> None:
            held.extend(_row(ledger, event) for event in page)
            if len(held) >= ROW_GROUP_EVENTS:
                flush()

        yield write
        flush()


def _row(ledger: Ledger, event: RecordedEvent) -> tuple[object, ...]:
    return (
        ledger.name,
        event.position,
        event.stream_id,
        event.stream_version,
        str(event.event_id),
        event.topic,
        event.occurred_at,
        event.recorded_at,
        event.source,
        None if event.is_erased or event.fault else event.body,
        event.is_erased,
    )
