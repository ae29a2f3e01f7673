"""Signed checkpoints (c2sp.org/tlog-checkpoint): what the log was at one moment, in five lines that others can keep.

    booking-ledger/main/1f3a9c2e                            which log
    1200                                                    how many events
    NCkLqtJUVs2vZgdEmkeWmpE8N1l0o2C9GUmXbk6Cmno=            the root of the tree over them (`ledger/merkle.py`)
    chain mQ3F5q8vD0J2yqS0Yw1dVJ4x0mJr5c3o0mXx0f2Uu1c=      the digest of the last of them (`ledger/chain.py`)
    time 2026-12-01T12:00:00Z

Whoever holds one can find any later change to what it covers: whoever rewrites the log can make a new chain and a new
head, but neither the signature nor the copy that is kept elsewhere. It says nothing of events that were never
recorded, nor of what came after it.
"""

import hmac
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from ledger.chain import Mark, Stretch, Verification, genesis, verify_chain
from ledger.errors import EvidenceRefused
from ledger.merkle import EMPTY_ROOT, Tree
from ledger.notes import VerifierKey, open_note, strict_base64
from ledger.postgres import Connection
from ledger.store import Ledger
from ledger.vocabulary import Position

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
SHORT_ID_BYTES: Final = 4


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The log `origin` had `position` events; `root` and `digest` are those of tree and chain over them."""

    origin: str
    position: Position
    root: bytes
    digest: bytes
    signed_at: datetime


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the log still holds what a checkpoint covers; `reason` says why it does not."""

    checkpoint: Checkpoint
    holds: bool
    reason: str | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The log against checkpoints. `end` and `root` are those of the last event that holds.

    `changed_within`: the first and the last position between which something was changed in a way that left the chain
    whole; where the chain is broken, `chain.first_bad_position` says more.
    """

    chain: Verification
    end: Mark
    root: bytes
    findings: tuple[Finding, ...]
    changed_within: tuple[int, int] | None

    @property
    def ok(self) -> bool:
        return self.chain.ok and all(finding.holds for finding in self.findings)


def origin_of(ledger: Ledger) -> str:
    """The name of this log among all logs: the ledger's, and eight digits that tell installations apart."""
    short_id = hmac.digest(ledger.event_id_key, b"checkpoint origin", "sha256")[:SHORT_ID_BYTES]
    return f"booking-ledger/{ledger.name}/{short_id.hex()}"


def refuse_foreign(checkpoint: Checkpoint, ledger: Ledger) -> None:
    """Raises EvidenceRefused for a checkpoint of another log."""
    if checkpoint.origin != origin_of(ledger):
        raise EvidenceRefused(f"the checkpoint is of {checkpoint.origin}, and this log is {origin_of(ledger)}")


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """What is signed."""
    lines = (
        checkpoint.origin,
        str(checkpoint.position),
        b64encode(checkpoint.root).decode(),
        f"chain {b64encode(checkpoint.digest).decode()}",
        f"time {checkpoint.signed_at.astimezone(UTC).strftime(TIME_FORMAT)}",
    )
    return "".join(f"{line}\n" for line in lines)


def read_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint that `key` has signed. Raises EvidenceRefused."""
    text = open_note(note, key)
    try:
        checkpoint = _parsed(text)
    except ValueError:
        checkpoint = None
    if checkpoint is None or checkpoint_text(checkpoint) != text:
        raise EvidenceRefused("the note is signed, but is no checkpoint of a booking ledger")
    return checkpoint


def _parsed(text: str) -> Checkpoint:
    """What the lines say, however they say it. Raises ValueError."""
    origin, position, root, digest, signed_at, _ = text.split("\n")
    return Checkpoint(
        origin=origin,
        position=Position(int(position)),
        root=strict_base64(root),
        digest=strict_base64(digest.removeprefix("chain ")),
        signed_at=datetime.strptime(signed_at, f"time {TIME_FORMAT}").replace(tzinfo=UTC),
    )


async def compare(
    connection: Connection,
    ledger: Ledger,
    checkpoints: Sequence[Checkpoint],
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """The whole log has been read (`verify_chain`), its tree built, and both held against every checkpoint.

    One finding a checkpoint, in the order given. Raises EvidenceRefused for a checkpoint of another log.
    """
    for checkpoint in checkpoints:
        refuse_foreign(checkpoint, ledger)
    tree, end = Tree(), Mark(position=Position(0), digest=genesis(ledger.ledger_id))
    seen = {end.position: (EMPTY_ROOT, end.digest)}
    stops = {checkpoint.position for checkpoint in checkpoints}

    def reached(stretch: Stretch) -> None:
        nonlocal end
        end = stretch.end
        tree.extend(stretch.links)
        if end.position in stops:
            seen[end.position] = (tree.root(), end.digest)

    chain = await verify_chain(connection, ledger, stops=stops, reached=reached, progress=progress)
    findings = [_finding(checkpoint, seen, chain) for checkpoint in checkpoints]
    return Comparison(
        chain=chain,
        end=end,
        root=tree.root(),
        findings=tuple(findings),
        changed_within=_changed_within(findings, chain, seen),
    )


def _finding(checkpoint: Checkpoint, seen: dict[Position, tuple[bytes, bytes]], chain: Verification) -> Finding:
    reason = None
    if checkpoint.position not in seen:
        reason = f"the log ends at position {chain.head:,}"
        if chain.first_bad_position is not None:
            reason = f"the chain is broken at position {chain.first_bad_position:,}"
    elif seen[checkpoint.position] != (checkpoint.root, checkpoint.digest):
        reason = "the events that it covers are not those that were signed"
    return Finding(checkpoint=checkpoint, holds=reason is None, reason=reason)


def _changed_within(
    findings: Sequence[Finding], chain: Verification, seen: dict[Position, tuple[bytes, bytes]]
) -> tuple[int, int] | None:
    """From after the last checkpoint that holds to the first that does not."""
    wrong = [f.checkpoint.position for f in findings if not f.holds and (chain.ok or f.checkpoint.position in seen)]
    right = [f.checkpoint.position for f in findings if f.holds]
    if not wrong:
        return None
    return max([position for position in right if position < min(wrong)], default=0) + 1, min(wrong)
