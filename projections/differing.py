"""Rows as they are held against rows as they would be: which differ, and in what."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec

from ledger.postgres import Connection

VALUE_CHARACTERS_MAX = 1_000
"""A value that is longer as JSON is told by its length."""

Change = Literal["missing", "different", "extra"]
Key = tuple[str, ...]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """One column: what the row holds, and what it would hold."""

    held: Any
    says: Any


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not what the log says: `missing`, `different`, or `extra`, since the log says nothing of it.

    `key` is the booking's, or the position as text; `part`, of a booking, the attendee.
    """

    read_model: str
    key: str
    part: str | None
    change: Change
    fields: Mapping[str, Sides]


async def compare(
    connection: Connection,
    statement: str,
    arguments: Collection[object],
    *,
    read_model: str,
    key: Collection[str],
    besides: Collection[str] = (),
) -> list[Differing]:
    """The rows that differ. `statement` tells `is_held` and the row as JSON, both of held ones and of those to be.

    `key` names the columns that tell rows apart, the row's key first; columns named in `besides` may differ.
    """
    held: dict[Key, dict[str, Any]] = {}
    wanted: dict[Key, dict[str, Any]] = {}
    for is_held, text in await connection.fetch(statement, *arguments):
        row = json.loads(text)
        (held if is_held else wanted)[tuple(str(row[column]) for column in key)] = row
    names = {*key, *besides}
    found = []
    for one in {**wanted, **held}:
        fields = _differing(held.get(one, {}), wanted.get(one, {}), names)
        if fields or (one in held) is not (one in wanted):
            change: Change = "missing" if one not in held else "extra" if one not in wanted else "different"
            part = one[1] if len(one) > 1 else None
            found.append(Differing(read_model=read_model, key=one[0], part=part, change=change, fields=fields))
    return found


def keys_of(differing: Iterable[Differing]) -> set[str]:
    return {one.key for one in differing}


def _differing(held: Mapping[str, object], wanted: Mapping[str, object], names: Collection[str]) -> Mapping[str, Sides]:
    """Of a row that stands alone, what it holds."""
    return {
        column: Sides(held=_told(held.get(column)), says=_told(wanted.get(column)))
        for column in {**wanted, **held}
        if column not in names and held.get(column) != wanted.get(column)
    }


def _told(value: object) -> object:
    text = json.dumps(value)
    return value if len(text) <= VALUE_CHARACTERS_MAX else f"{len(text):,} characters"
