"""Finding persons in a log: every body is read, since who left long ago, or was a guest, stands in old bodies alone."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from ledger.links import LINKED_TOPIC, linked_body
from ledger.persons import Traits, addresses_in, traits_of
from ledger.postgres import Connection
from ledger.redacting import person_tag
from ledger.store import Ledger, RecordedEvent, read_log
from ledger.vocabulary import Position, StreamId

PAGE_EVENTS: Final = 500
"""Webhooks may be waiting in the same process while a page is looked through."""

Progress = Callable[[int, int], None]


def told_nobody(_done: int, _total: int) -> None:
    """Nobody waits for progress."""


class Named(msgspec.Struct, kw_only=True):
    """Who of those looked for is named in a stream, by what else they are known there, and at which positions."""

    tags: dict[str, bytes] = {}
    traits: Traits = msgspec.field(default_factory=Traits)
    positions: list[Position] = []
    positions_by_tag: dict[bytes, list[Position]] = {}

    def add(self, event: RecordedEvent, content: bytes, found: Mapping[str, bytes]) -> None:
        self.tags.update(found)
        self.traits.add(traits_of(content, found))
        self.positions.append(event.position)
        for tag in found.values():
            self.positions_by_tag.setdefault(tag, []).append(event.position)


class Found(msgspec.Struct, kw_only=True):
    """What a reading of the log came to. `unreadable` bodies could not be looked into, and who is in them stays."""

    streams: dict[StreamId, Named] = {}
    unreadable: int = 0


class Wanted:
    """The persons looked for, known by their tags; each address that comes along is tagged once."""

    def __init__(self, ledger: Ledger, tags: Collection[bytes]) -> None:
        self._ledger = ledger
        self._tags = frozenset(tags)
        self._known: dict[str, bytes | None] = {}

    def among(self, addresses: Collection[str]) -> dict[str, bytes]:
        found = {}
        for email in addresses:
            if email not in self._known:
                tag = person_tag(self._ledger, email)
                self._known[email] = tag if tag in self._tags else None
            tag_or_none = self._known[email]
            if tag_or_none is not None:
                found[email] = tag_or_none
        return found


async def find_persons(
    connection: Connection,
    ledger: Ledger,
    tags: Collection[bytes],
    *,
    up_to: Position,
    progress: Progress = told_nobody,
) -> Found:
    """Where the persons of these tags are named, in all bodies up to a position that can be read."""
    wanted, found = Wanted(ledger, tags), Found()
    after = Position(0)
    while after < up_to:
        page = await read_log(connection, ledger.ledger_id, after=after, events_max=PAGE_EVENTS)
        for event in page:
            if event.position > up_to or event.is_erased:
                continue
            if event.fault is not None:
                found.unreadable += 1
                continue
            content = linked_body(event.body) if event.topic == LINKED_TOPIC else event.body
            named = wanted.among(addresses_in(content))
            if named:
                found.streams.setdefault(event.stream_id, Named()).add(event, content, named)
        if not page:
            break
        after = page[-1].position
        progress(min(after, up_to), up_to)
    return found
