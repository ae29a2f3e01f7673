"""The hash chain: every event's digest covers every column of it and the digest before.

    digest = sha256(previous digest ‖ link)
    link   = header ‖ sha256(stored bytes)
    header = 0x01 ‖ ledger_id int4 ‖ position int8 ‖ stream_version int4 ‖ encoding int2
             ‖ occurred_at int8 ‖ recorded_at int8 (µs since 2000-01-01 UTC) ‖ event_id 16 bytes
             ‖ stream_id ‖ topic ‖ source ‖ metadata (each: length int4, UTF-8 bytes)

All integers are big-endian. The chain begins with sha256("booking-ledger/<ledger_id>"). Changing, removing, adding or
reordering anything breaks it from there on; cutting off the end disagrees with the head. The database computes the
same while appending (migrations/0001_event_log.sql). A link alone says everything of its event: it is a leaf of the
tree (`ledger/merkle.py`).

Rows are read as PostgreSQL's binary COPY sends them: a text lies there as it lies in the header, length and bytes, so
that little is left to do but hash. Letting the database hash was slower, since the one that comes with us is built
without OpenSSL, and would take its word for it. Long logs are read in several streams (`ledger/ranges.py`).
"""

import hashlib
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import LedgerId, Position

SQL = load_statements(Path(__file__).with_suffix(".sql"))

HEADER_VERSION: Final = b"\x01"
VERIFY_PAGE_EVENTS = 5_000

_NUMBERS = struct.Struct(">iqihqq")
_LENGTH = struct.Struct(">i")
_POSITION = struct.Struct(">q")

_COPY_HEADER_BYTES: Final = 19
_COPY_TRAILER_BYTES: Final = 2
_ROW = struct.Struct(">h i4s i8s i4s i2s i8s i8s i16s i32s i20x")
"""A row up to its first text: how many columns, seven of the header and the digest, each after its length, and the
length of the array of texts, whose own header of 20 bytes is passed over."""
_LENGTHS = slice(1, 17, 2)
_HEADER_VALUES = slice(2, 16, 2)
_POSITION_PLACE: Final = 4
_DIGEST_PLACE: Final = 16
_RIGHT_LENGTHS: Final = (4, 8, 4, 2, 8, 8, 16, 32)
"""The length of a null is -1."""
_ARRAY_HEADER_BYTES: Final = 20


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a log found. `events` hold, one after the other; `head` is what the log claims to have reached."""

    ok: bool
    events: int
    head: Position
    first_bad_position: Position | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the chain: an event's position and digest. Position 0 is before the first."""

    position: Position
    digest: bytes


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Events that follow one another, by their links; `end` is the last of them. `broken`: the next one does not."""

    links: list[bytes]
    end: Mark
    broken: bool


def genesis(ledger_id: LedgerId) -> bytes:
    """The digest before the first event."""
    return hashlib.sha256(f"booking-ledger/{ledger_id}".encode()).digest()


def link_of(
    numbers: tuple[int, int, int, int, int, int], event_id: bytes, texts: Iterable[str], stored: bytes
) -> bytes:
    """The link of one event. `numbers` and `texts` in the order of the header, times in µs since 2000-01-01 UTC."""
    encoded = [text.encode() for text in texts]
    header = HEADER_VERSION + _NUMBERS.pack(*numbers) + event_id
    sized = b"".join([_LENGTH.pack(len(text)) + text for text in encoded])
    return header + sized + hashlib.sha256(stored).digest()


async def verify_chain(
    connection: Connection,
    ledger: Ledger,
    *,
    start: Mark | None = None,
    stops: Iterable[int] = (),
    reached: Callable[[Stretch], None] = lambda _stretch: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """Every event up to the head has been read and its digest recomputed; stops at the first that is wrong.

    A bad position is one whose row is missing, differs from what its digest covers, or does not follow the row
    before, or that lies beyond the head. The head is read first: what is appended meanwhile is left for the next time.

    Begins after `start` instead of at the beginning, taking its digest on trust. `reached` is told every stretch that
    holds; one of them ends at each of `stops`.
    """
    mark = start or Mark(position=Position(0), digest=genesis(ledger.ledger_id))
    extent = await read_extent(connection, ledger)
    first, end, broken = mark.position, extent.position, False
    async for stretch in follow(connection, ledger.ledger_id, start=mark, until=end, stops=stops):
        mark, broken = stretch.end, stretch.broken
        if not broken:
            reached(stretch)
            progress(mark.position - first, end - first)
    return conclude(extent, first, mark, broken=broken)


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What the head claims, and the last position that there is."""

    position: Position
    digest: bytes
    last_position: Position


async def read_extent(connection: Connection, ledger: Ledger) -> Extent:
    (row,) = await connection.fetch(SQL["read_extent"], ledger.ledger_id)
    return Extent(**row)


def conclude(extent: Extent, first: Position, last_good: Mark, *, broken: bool) -> Verification:
    """What it means that the events after `first` were read up to the head, or to where they are `broken`."""
    end, good = extent.position, last_good.position
    if broken or good != end:
        bad = min(good, end) + 1
    elif last_good.digest != extent.digest:
        bad = max(end, 1)
    elif extent.last_position > end:
        bad = end + 1
    else:
        return Verification(ok=True, events=end - first, head=end)
    return Verification(ok=False, events=max(bad - 1 - first, 0), head=end, first_bad_position=Position(bad))


async def follow(
    connection: Connection, ledger_id: LedgerId, *, start: Mark, until: Position, stops: Iterable[int] = ()
) -> AsyncIterator[Stretch]:
    """The events after `start` up to a position, page by page, the last page being the first that is broken."""
    pages = range(start.position, until, VERIFY_PAGE_EVENTS)
    bounds = {*pages, *(stop for stop in stops if start.position < stop < until), until}
    mark = start
    for after, up_to in pairwise(sorted(bounds)):
        page = _Page(mark)
        await connection.copy_from_query(SQL["copy_rows"], ledger_id, after, up_to, output=page.take, format="binary")
        mark = page.mark
        stretch = Stretch(links=page.links, end=mark, broken=page.broken or mark.position != up_to)
        yield stretch
        if stretch.broken:
            return


class _Page:
    """The rows of one COPY, each checked as it arrives; after the first that is wrong none counts any more."""

    def __init__(self, start: Mark) -> None:
        self.links: list[bytes] = []
        self.mark = start
        self.broken = False
        self._has_header = True

    async def take(self, data: bytes) -> None:
        """`data` holds whole rows: PostgreSQL sends each in a message of its own, and the driver never parts one."""
        at = _COPY_HEADER_BYTES if self._has_header else 0
        self._has_header = False
        sha256, columns, length = hashlib.sha256, _ROW.unpack_from, _LENGTH.unpack_from
        position, digest = int(self.mark.position), self.mark.digest
        try:
            while len(data) - at > _COPY_TRAILER_BYTES and not self.broken:
                row = columns(data, at)
                texts = at + _ROW.size
                texts_end = texts + row[-1] - _ARRAY_HEADER_BYTES
                body = texts_end + _LENGTH.size
                at = body + length(data, texts_end)[0]
                body_digest = sha256(data[body:at]).digest()
                link = b"".join((HEADER_VERSION, *row[_HEADER_VALUES], data[texts:texts_end], body_digest))
                expected = sha256(digest + link).digest()
                is_next = row[_POSITION_PLACE] == _POSITION.pack(position + 1) and row[_LENGTHS] == _RIGHT_LENGTHS
                if is_next and row[_DIGEST_PLACE] == expected:
                    position, digest = position + 1, expected
                    self.links.append(link)
                else:
                    self.broken = True
        except struct.error:
            self.broken = True
        self.mark = Mark(position=Position(position), digest=digest)
