"""Who was erased stays out: what a late delivery, a repeat, the spool or reconciliation would bring back is taken out.

Every event on its way into the log is looked at, in a ledger that has erasures. What is about a booking that was erased
whole comes in empty. What names somebody erased comes in without them where the booking is of before the erasure; what
they book later is nobody's business here. The log counts what happened even so: an event that comes in without its
content has its place and its id, hence a repeat of it is a repeat.

There is no moment in which a fresh erasure is missed. What is remembered of erasures goes with the count that each
append states and the database compares under the head's lock (`ledger/sealing.py`): where it has moved, the erasures
are read again, and the batch is looked at again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ledger.calcom.envelope import Envelope, open_envelope
from ledger.calcom.meaning import meaning_of
from ledger.calcom.observation import OBSERVED_TOPIC, ObservedBooking, observed_of, read_row
from ledger.calcom.payloads import Unreadable, in_utc, read_body, read_instant
from ledger.calcom.triggers import FLAT_TRIGGERS
from ledger.facts import AnyFact, Kept, Redacted
from ledger.filing import Receipt
from ledger.links import LINK_TOPICS, LINKED_TOPIC, linked_body, read_linked
from ledger.persons import addresses_in_piece, pieces_of, traits_of
from ledger.postgres import Connection
from ledger.redacting import Erased, person_tag, persons_in, redact_fact, redact_row
from ledger.redaction import REDACTED_TOPIC, Redaction, write_redaction
from ledger.sealing import UNATTRIBUTED_PREFIX, keyring_of
from ledger.sql import load_statements
from ledger.store import Ledger, NewEvent
from ledger.vocabulary import LedgerId, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

REMEMBERED_MAX: Final = 50_000
"""Of how many pieces of bodies it is remembered whom they name: hosts come again with every booking."""
PIECE_BYTES_MAX: Final = 200
"""Longer ones are somebody's notes, and do not come again."""


class Tombstones:
    """One ledger's erasures as of a count. `streams`: bookings that were erased whole, or (false) lost somebody."""

    def __init__(
        self, ledger: Ledger, *, erasures: int, tags: Mapping[bytes, datetime], streams: Mapping[StreamId, bool]
    ) -> None:
        self.erasures = erasures
        self._ledger = ledger
        self._tags = tags
        self._streams = streams
        self._known: dict[bytes, Mapping[str, bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._tags or self._streams)

    def is_gone(self, stream_id: StreamId) -> bool:
        return self._streams.get(stream_id, False)

    def named_in(self, body: bytes) -> dict[str, bytes]:
        """The addresses of persons erased, with their tags."""
        found: dict[str, bytes] = {}
        for piece in pieces_of(body):
            named = self._known.get(piece)
            if named is None:
                named = self._look_up(piece)
            if named:
                found.update(named)
        return found

    def admit(self, event: NewEvent) -> NewEvent:
        """The event as it may go into the log."""
        if event.topic == REDACTED_TOPIC:
            return event
        is_gone = self._streams.get(event.stream_id)
        if is_gone:
            return _emptied(event)
        if event.source == "command" and event.topic != LINKED_TOPIC:
            return event  # our own users' words, said now
        named = self.named_in(content_of(event)) if self._tags and event.topic not in LINK_TOPICS else None
        if not named or (is_gone is None and not self._is_of_before(_told_at(event), named)):
            return event
        return self._redacted(event, named, is_known=is_gone is not None)

    def admit_row(self, row: ObservedBooking, raw: bytes) -> ObservedBooking | None:
        """A booking as Cal.com's API shows it, without who was erased; None: it is nothing to be told of."""
        stream_id = observed_of(row)[0]
        is_gone = self._streams.get(stream_id)
        if is_gone:
            return None
        named = self.named_in(raw)
        if not named or (is_gone is None and not self._is_of_before(_made_at(row), named)):
            return row
        redacted = redact_row(row, Erased.of(named, traits_of(raw, named)))
        return redacted if redacted.attendees or is_gone is not None else None

    def _look_up(self, piece: bytes) -> Mapping[str, bytes]:
        """Who of those erased is named in the piece, which is remembered."""
        tags = {email: person_tag(self._ledger, email) for email in addresses_in_piece(piece)}
        found = {email: tag for email, tag in tags.items() if tag in self._tags}
        if len(piece) <= PIECE_BYTES_MAX:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[piece] = found
        return found

    def _is_of_before(self, told_at: datetime | None, named: Mapping[str, bytes]) -> bool:
        return told_at is None or told_at <= max(self._tags[tag] for tag in named.values())

    def _redacted(self, event: NewEvent, named: Mapping[str, bytes], *, is_known: bool) -> NewEvent:
        """The others' part: of a booking that others have too, or that the event itself names others of."""
        trigger, stated = _stated(event)
        erased = Erased.of(named, traits_of(content_of(event), named))
        others = {email for _, fact in stated for email in persons_in(fact)} - named.keys()
        if not (is_known or others) or event.stream_id.startswith(UNATTRIBUTED_PREFIX):
            return _emptied(event)
        redaction = _keeping(event, trigger, [(about, redact_fact(fact, erased)) for about, fact in stated], erased)
        body = write_redaction(redaction)
        return _emptied(event) if self.named_in(body) else _with_body(event, body)


async def tombstones_of(connection: Connection, ledger_id: LedgerId) -> Tombstones | None:
    """The ledger's erasures as far as this process knows their count; None where there are none."""
    keys = keyring_of(connection).of(ledger_id)
    if keys.erasures == 0:
        return None
    known = keys.tombstones
    if not isinstance(known, Tombstones):
        known = await read_tombstones(connection, ledger_id)
        if known.erasures == keys.erasures:
            keys.tombstones = known
    return known or None


async def tombstones_now(connection: Connection, ledger_id: LedgerId) -> Tombstones | None:
    """The ledger's erasures as they are; for who looks at something before it is an event."""
    (head,) = await connection.fetch(SQL["read_count"], ledger_id)
    keyring_of(connection).of(ledger_id).heed(head["erasures"])
    return await tombstones_of(connection, ledger_id)


async def read_tombstones(connection: Connection, ledger_id: LedgerId) -> Tombstones:
    """As they are now, read in this order: what is counted is at least what the count says."""
    (head,) = await connection.fetch(SQL["read_count"], ledger_id)
    tags = await connection.fetch(SQL["read_tags"], ledger_id)
    streams = await connection.fetch(SQL["read_streams"], ledger_id)
    ledger = Ledger(ledger_id=ledger_id, name=head["name"], event_id_key=head["event_id_key"])
    return Tombstones(
        ledger,
        erasures=head["erasures"],
        tags={row["person_tag"]: row["erased_at"] for row in tags},
        streams={row["stream_id"]: row["is_gone"] for row in streams},
    )


async def without_erased(connection: Connection, ledger_id: LedgerId, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
    """The events as they may go into the log; for `append`, which asks again when there are new erasures."""
    known = await tombstones_of(connection, ledger_id)
    return events if known is None else [known.admit(event) for event in events]


def content_of(event: NewEvent) -> bytes:
    """The bytes in which persons may be named: of a linked delivery those that were delivered."""
    return linked_body(event.body) if event.topic == LINKED_TOPIC else event.body


def _stated(event: NewEvent) -> tuple[str | None, Sequence[tuple[StreamId, AnyFact]]]:
    """The trigger of a webhook, and what the event says."""
    if event.topic == OBSERVED_TOPIC:
        return None, [observed_of(read_row(event.body))]
    envelope = _envelope(event)
    return envelope.trigger, meaning_of(envelope)


def _envelope(event: NewEvent) -> Envelope:
    return read_linked(event.stream_id, event.body) if event.topic == LINKED_TOPIC else open_envelope(event.body)


def _told_at(event: NewEvent) -> datetime | None:
    """Until when the booking was made, at the latest; None: nobody knows, and it counts as old.

    A snapshot of a meeting says when that was. A body without a time of its own is as old as the booking's start, since
    it may have been sent before.
    """
    if event.topic == OBSERVED_TOPIC:
        return _made_at(read_row(event.body))
    body = content_of(event)
    envelope = open_envelope(body)
    if envelope.trigger in FLAT_TRIGGERS:
        try:
            return in_utc(read_body(body).created_at) or event.occurred_at
        except Unreadable:
            return event.occurred_at
    if envelope.occurred_at is None:
        return None if envelope.payload is None else in_utc(envelope.payload.start_time)
    return event.occurred_at


def _made_at(row: ObservedBooking) -> datetime | None:
    return read_instant(row.created_at)


def _keeping(
    event: NewEvent, trigger: str | None, stated: Iterable[tuple[StreamId, AnyFact]], erased: Erased
) -> Redaction:
    facts = tuple(
        [
            Kept(
                stream_id=about,
                occurred_at=event.occurred_at,
                digest=event.event_id.bytes,
                trigger=trigger or event.topic,
                fact=fact,
            )
            for about, fact in stated
            if not isinstance(fact, Redacted)
        ]
    )
    pseudonyms = tuple(sorted(erased.pseudonyms.values()))
    return Redaction(
        redacted=Redacted(pseudonyms=pseudonyms, kept=facts),
        chain=tuple(dict.fromkeys(one.stream_id for one in facts)),
        trigger=trigger,
    )


def _emptied(event: NewEvent) -> NewEvent:
    trigger = _envelope(event).trigger if event.source == "webhook" else None
    return _with_body(event, write_redaction(Redaction(redacted=Redacted(), trigger=trigger)))


def _with_body(event: NewEvent, body: bytes) -> NewEvent:
    """The signature goes too: it is made of the whole body."""
    metadata = event.metadata
    if event.source == "webhook":
        receipt = msgspec.json.decode(metadata, type=Receipt)
        metadata = msgspec.json.encode(msgspec.structs.replace(receipt, signature=None, secret_id=None)).decode()
    return msgspec.structs.replace(event, topic=REDACTED_TOPIC, body=body, metadata=metadata, told=None)
