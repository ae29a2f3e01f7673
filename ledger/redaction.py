"""`booking.redacted`: what a stream, or a late delivery, still says once persons were erased from it. Pure.

The event holds the facts that the erased bodies stated, each in its place (time, rank, digest, position), without the
persons: so the booking of everybody else folds to what it was before, in any order, and a late fact still finds its
place among them. A person who was erased goes by a pseudonym in them, that a seat which was taken and left stays one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from ledger.facts import AnyFact, Dated, Kept, Redacted
from ledger.vocabulary import StreamId

REDACTED_TOPIC = "booking.redacted"


class Redaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body. `chain` and `glances` are as in `ledger/history.py`; `trigger` is that of a late delivery."""

    redacted: Redacted
    chain: tuple[StreamId, ...] = ()
    glances: tuple[StreamId, ...] = ()
    trigger: str | None = None


_decode = msgspec.json.Decoder(Redaction).decode


def write_redaction(redaction: Redaction) -> bytes:
    return msgspec.json.encode(redaction)


def read_redaction(body: bytes) -> Redaction:
    return _decode(body)


def keep(told: Iterable[tuple[StreamId, Dated]]) -> tuple[Kept, ...]:
    """The facts in their places; what stands for an earlier redaction goes, since what it kept is among them."""
    return tuple(
        [
            Kept(
                stream_id=stream_id,
                occurred_at=dated.occurred_at,
                digest=dated.digest,
                trigger=dated.trigger,
                fact=dated.fact,
                position=dated.position,
                recorded_at=dated.recorded_at,
            )
            for stream_id, dated in told
            if not isinstance(dated.fact, Redacted)
        ]
    )


def unfold(
    stream_id: StreamId,
    redacted: Redacted,
    *,
    digest: bytes,
    position: int,
    occurred_at: datetime,
    recorded_at: datetime,
    trigger: str,
) -> tuple[tuple[StreamId, Dated], ...]:
    """The facts that a redaction on this stream states: those kept, and for each booking that it let persons go.

    The latter stands right after the last of those kept, and counts as told with it. `digest` and the moments are the
    event's.
    """
    facts = [(kept.stream_id, _dated(kept, position=position, recorded_at=recorded_at)) for kept in redacted.kept]
    own = Dated(
        occurred_at=occurred_at,
        rank=Redacted.rank,
        digest=digest,
        position=position,
        recorded_at=recorded_at,
        trigger=trigger,
        fact=Redacted(gone=redacted.gone),
    )
    let_go = Redacted(pseudonyms=redacted.pseudonyms)
    named = dict.fromkeys([named for named, _ in facts])
    ends = [(one, _end([dated for named, dated in facts if named == one], own, let_go)) for one in named]
    return (*facts, *ends, *([(stream_id, own)] if redacted.gone else ()))


def _end(kept: Sequence[Dated], own: Dated, fact: AnyFact) -> Dated:
    latest = max(kept, key=lambda dated: dated.position)
    return msgspec.structs.replace(
        own,
        occurred_at=max(dated.occurred_at for dated in kept),
        position=latest.position,
        recorded_at=latest.recorded_at,
        fact=fact,
    )


def _dated(kept: Kept, *, position: int, recorded_at: datetime) -> Dated:
    return Dated(
        occurred_at=kept.occurred_at,
        rank=kept.fact.rank,
        digest=kept.digest,
        position=kept.position or position,
        recorded_at=kept.recorded_at or recorded_at,
        trigger=kept.trigger,
        fact=kept.fact,
    )
