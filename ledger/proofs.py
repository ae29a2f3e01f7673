"""Inclusion proofs: some events, and what it takes to see without the log that a signed checkpoint covers them.

A proof is a JSON file: the events with every column that the log has of them, for each its path through the tree
(`ledger/merkle.py`), the keys that open their bodies, and the checkpoint as it was signed. Whoever has the public key
can check it, with nothing else. The keys are those of this booking alone and open nothing besides.

It proves that these events were in the log, as they are shown, when the checkpoint was signed; and that of each stream
none before the last one shown was left out, since they are numbered. It does not prove that nothing came after them.
"""

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.chain import Mark, follow, genesis, link_of
from ledger.checkpoints import Checkpoint, read_checkpoint, refuse_foreign
from ledger.codec import SEALED, decode
from ledger.errors import EvidenceRefused, LogContradicted, OperatorError
from ledger.keyring import KEY_ID_BYTES
from ledger.merkle import Tree, leaf_hash, root_of_path
from ledger.notes import VerifierKey
from ledger.postgres import Connection
from ledger.sealing import open_body, reveal_keys, sealed_key_ids
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import Position, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

PROOF_BYTES_MAX: Final = 64 * 1024 * 1024
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class ProvenEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as it lies in the log: `state` are the stored bytes, `encoding` says how (`ledger/codec.py`)."""

    position: int
    stream_id: str
    stream_version: int
    event_id: UUID
    topic: str
    occurred_at: Instant
    recorded_at: Instant
    source: str
    metadata: str
    encoding: int
    state: bytes = msgspec.field(name="state_base64")
    path: tuple[bytes, ...]


class ShownKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens the bodies whose states begin with this id. Of a key that was destroyed there is nothing to show."""

    key_id: bytes = msgspec.field(name="key_id_base64")
    key: bytes = msgspec.field(name="key_base64")


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds. `checkpoint` is a signed note; `events` are in order of position."""

    format: Literal["booking-ledger-proof/1"] = "booking-ledger-proof/1"
    ledger_id: int
    checkpoint: str
    events: tuple[ProvenEvent, ...]
    keys: tuple[ShownKey, ...] = ()

    def encoded(self) -> bytes:
        """The only way to write it: a proof written otherwise is refused, so that no bit of it can be changed."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


async def prove(
    connection: Connection,
    ledger: Ledger,
    stream_ids: Collection[StreamId],
    *,
    note: bytes,
    key: VerifierKey,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Proof, int]:
    """The proof of these streams' events against the checkpoint, and how many events came too late for it.

    Reads the log up to the checkpoint, to build its tree. Raises EvidenceRefused for a checkpoint that `key` has not
    signed, of another log, or older than every event; LogContradicted.
    """
    checkpoint = read_checkpoint(note, key)
    refuse_foreign(checkpoint, ledger)
    rows = await connection.fetch(SQL["read_evidence"], ledger.ledger_id, list(stream_ids))
    covered = [row for row in rows if row["position"] <= checkpoint.position]
    if not covered:
        raise EvidenceRefused(f"the checkpoint covers {checkpoint.position:,} events, and none of this booking")
    tree = Tree(paths_of=[row["position"] - 1 for row in covered])
    end = Mark(position=Position(0), digest=genesis(ledger.ledger_id))
    async for stretch in follow(connection, ledger.ledger_id, start=end, until=checkpoint.position):
        if not stretch.broken:
            tree.extend(stretch.links)
            progress(stretch.end.position, checkpoint.position)
        end = stretch.end
    if end.position < checkpoint.position:
        raise LogContradicted(f"The chain is broken at position {end.position + 1:,}")
    if (tree.root(), end.digest) != (checkpoint.root, checkpoint.digest):
        raise LogContradicted(f"The first {checkpoint.position:,} events are not those that were signed")
    events = [ProvenEvent(**row, path=tuple(tree.path(row["position"] - 1))) for row in covered]
    key_ids = sealed_key_ids((event.encoding, event.state) for event in events)
    revealed = await reveal_keys(connection, ledger.ledger_id, key_ids)
    proof = Proof(
        ledger_id=ledger.ledger_id,
        checkpoint=note.decode(),
        events=tuple(events),
        keys=tuple(ShownKey(key_id=name, key=secret) for name, secret in sorted(revealed.items()) if secret),
    )
    return proof, len(rows) - len(covered)


def check_proof(data: bytes, key: VerifierKey) -> tuple[Proof, Checkpoint]:
    """The proof and its checkpoint, both found right under `key`. Raises EvidenceRefused, with what is wrong."""
    proof = _read(data)
    checkpoint = read_checkpoint(proof.checkpoint.encode(), key)
    if not proof.events:
        raise EvidenceRefused("the proof holds no events")
    for event in proof.events:
        _check_event(proof, event, checkpoint)
    _check_order(proof.events)
    _check_keys(proof)
    return proof, checkpoint


def opened_body(proof: Proof, event: ProvenEvent) -> bytes | None:
    """The body as it came in; None where it was erased. Raises EvidenceRefused for a key that does not open it."""
    try:
        if event.encoding not in SEALED:
            return decode(event.encoding, event.state)
        shown = next((one for one in proof.keys if one.key_id == event.state[:KEY_ID_BYTES]), None)
        if shown is None:
            return None
        bound_to = proof.ledger_id.to_bytes(4) + event.event_id.bytes
        return open_body(AESGCM(shown.key).decrypt, event.encoding, event.state, bound_to)
    except (OperatorError, ValueError):
        raise EvidenceRefused(f"the body at position {event.position:,} does not open with the key shown") from None


def _read(data: bytes) -> Proof:
    if len(data) > PROOF_BYTES_MAX:
        raise EvidenceRefused(f"the proof is larger than {PROOF_BYTES_MAX:,} bytes")
    try:
        proof = msgspec.json.decode(data, type=Proof)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceRefused(f"this is no proof that we wrote ({error})") from None
    if proof.encoded() != data:
        raise EvidenceRefused("the proof is not written as we write it: something in it was changed")
    return proof


def _check_event(proof: Proof, event: ProvenEvent, checkpoint: Checkpoint) -> None:
    times = [(moment - EPOCH) // timedelta(microseconds=1) for moment in (event.occurred_at, event.recorded_at)]
    numbers = (proof.ledger_id, event.position, event.stream_version, event.encoding, times[0], times[1])
    texts = (event.stream_id, event.topic, event.source, event.metadata)
    try:
        leaf = leaf_hash(link_of(numbers, event.event_id.bytes, texts, event.state))
    except struct.error:
        raise EvidenceRefused("the proof holds a number that no log can hold") from None
    if event.position > checkpoint.position:
        raise EvidenceRefused(f"position {event.position:,} is beyond the checkpoint's {checkpoint.position:,} events")
    if root_of_path(leaf, event.position - 1, checkpoint.position, event.path) != checkpoint.root:
        raise EvidenceRefused(f"the event shown at position {event.position:,} is not the one that was signed")


def _check_keys(proof: Proof) -> None:
    """Each opens what it is shown for, and none is shown for nothing. Raises EvidenceRefused."""
    for event in proof.events:
        opened_body(proof, event)
    used = sealed_key_ids((event.encoding, event.state) for event in proof.events)
    if {one.key_id for one in proof.keys} - used or len(proof.keys) > len(used):
        raise EvidenceRefused("the proof shows a key that none of its events was sealed under")


def _check_order(events: Iterable[ProvenEvent]) -> None:
    """By position, and by version in each stream, none left out. Raises EvidenceRefused."""
    position, versions = 0, Counter[str]()
    for event in events:
        versions[event.stream_id] += 1
        if event.position <= position:
            raise EvidenceRefused(f"position {event.position:,} is out of order")
        if event.stream_version != versions[event.stream_id]:
            missing = versions[event.stream_id]
            raise EvidenceRefused(f"version {missing} of a stream is left out before position {event.position:,}")
        position = event.position
