"""The log in files: JSON lines and Parquet say the same of every event."""

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pyarrow.parquet
import pytest

from tests.builders import webhook
from tests.serving import file, run

BODIES = (
    webhook("BOOKING_CREATED", {"uid": "a", "title": "Zoë \u0000"}),
    b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"b"},"x":"\xff"}',
    webhook("BOOKING_RESCHEDULED", {"uid": "c", "rescheduleUid": "a"}),
)


@pytest.mark.parametrize("after", [0, 2])
async def test_parquet_holds_what_the_json_lines_hold(
    connection: asyncpg.Connection, database: str, tmp_path: Path, after: int
) -> None:
    await file(connection, *BODIES)
    words = ("events", "export", "--after", str(after))
    lines = [msgspec.json.decode(line) for line in run(*words, DATABASE_URL=database).stdout.splitlines()]
    path = tmp_path / "log.parquet"
    exported = run(*words, "--format", "parquet", "--output", str(path), DATABASE_URL=database)
    assert (exported.returncode, exported.stdout) == (0, ""), exported.stderr
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert len(rows) == len(lines) == 4 - after
    assert [as_row(line) for line in lines] == rows


def as_row(line: dict[str, Any]) -> dict[str, Any]:
    """A line of JSON as a row of Parquet has it."""
    text, encoded = line.pop("body", None), line.pop("body_base64", None)
    times = {name: datetime.fromisoformat(line[name]) for name in ("occurred_at", "recorded_at")}
    body = base64.b64decode(encoded) if text is None else text.encode()
    return line | times | {"body": body, "erased": False}


def test_an_empty_log_is_an_empty_file_of_the_same_columns(database: str, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    assert run("events", "export", "--format", "parquet", "--output", str(path), DATABASE_URL=database).returncode == 0
    table = pyarrow.parquet.read_table(path)
    assert (table.num_rows, table.column_names[0], table.column_names[-1]) == (0, "ledger", "erased")
