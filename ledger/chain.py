"""The hash chain: every event's digest covers every column of it and the digest before.

    digest = sha256(previous digest ‖ header ‖ sha256(stored bytes))
    header = 0x01 ‖ ledger_id int4 ‖ position int8 ‖ stream_version int4 ‖ encoding int2
             ‖ occurred_at int8 ‖ recorded_at int8 (µs since 2000-01-01 UTC) ‖ event_id 16 bytes
             ‖ stream_id ‖ topic ‖ source ‖ metadata (each: length int4, UTF-8 bytes)

All integers are big-endian. The chain begins with sha256("booking-ledger/<ledger_id>"). Changing, removing, adding or
reordering anything breaks it from there on; cutting off the end disagrees with the head. The database computes the
same while appending (migrations/0001_event_log.sql).
"""

import hashlib
import struct
from collections.abc import Callable

import asyncpg
import msgspec

from ledger.postgres import Connection
from ledger.store import SQL, Ledger
from ledger.vocabulary import LedgerId, Position

HEADER_VERSION = b"\x01"
VERIFY_PAGE_EVENTS = 5_000

_FIXED = struct.Struct(">iqih")
_LENGTH = struct.Struct(">i")


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a whole log found. `head` is the position that the log claims to have reached."""

    ok: bool
    events: int
    head: Position
    first_bad_position: Position | None = None


def genesis(ledger_id: LedgerId) -> bytes:
    """The digest before the first event."""
    return hashlib.sha256(f"booking-ledger/{ledger_id}".encode()).digest()


async def verify_chain(
    connection: Connection, ledger: Ledger, *, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Verification:
    """Every event up to the head has been read and its digest recomputed; stops at the first that is wrong.

    A bad position is one whose row is missing, differs from what its digest covers, or does not follow the row
    before, or that lies beyond the head. The head is read first: what is appended meanwhile is left for the next time.
    """
    (head,) = await connection.fetch(SQL["read_extent"], ledger.ledger_id)
    end = Position(head["position"])
    digest = genesis(ledger.ledger_id)
    position = 0
    while position < end:
        rows = await connection.fetch(SQL["read_chain"], ledger.ledger_id, position, VERIFY_PAGE_EVENTS)
        for row in rows:
            digest = _link(ledger.ledger_id, digest, row)
            if row["position"] != position + 1 or digest != row["digest"]:
                return _broken(end, position)
            position += 1
            if position == end:
                break
        if not rows:
            return _broken(end, position)
        progress(position, end)
    if digest != head["digest"]:
        return _broken(end, max(position - 1, 0))
    if head["last_position"] > end:
        return _broken(end, end)
    return Verification(ok=True, events=position, head=end)


def _broken(head: Position, last_good: int) -> Verification:
    return Verification(ok=False, events=last_good, head=head, first_bad_position=Position(last_good + 1))


def _link(ledger_id: LedgerId, previous: bytes, row: asyncpg.Record) -> bytes:
    """The digest that the row must have after `previous`."""
    header = b"".join(
        (
            HEADER_VERSION,
            _FIXED.pack(ledger_id, row["position"], row["stream_version"], row["encoding"]),
            row["occurred_at"],
            row["recorded_at"],
            row["event_id"].bytes,
            _sized(row["stream_id"]),
            _sized(row["topic"]),
            _sized(row["source"]),
            _sized(row["metadata"]),
        )
    )
    return hashlib.sha256(previous + header + hashlib.sha256(row["state"]).digest()).digest()


def _sized(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded
