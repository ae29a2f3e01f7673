"""The data dictionary: every view that people may query, and what its columns mean, as the database tells it."""

from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """`type` is PostgreSQL's name of it."""

    name: str
    type: str
    comment: str | None


class View(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    comment: str | None
    columns: list[Column]


async def read_dictionary(connection: Connection) -> list[View]:
    """Views by name, their columns in the view's own order."""
    rows = await connection.fetch(SQL["read_columns"])
    return [
        View(
            name=name,
            comment=comment,
            columns=[
                Column(name=row["column_name"], type=row["column_type"], comment=row["column_comment"]) for row in own
            ],
        )
        for (name, comment), own in groupby(rows, key=itemgetter("view", "view_comment"))
    ]
