"""What an event says of its own booking alone, in the form in which it is kept beside the log.

Whoever files a delivery has decoded it, so what it says goes in along with it: projections then need neither open nor
decode the body (projections/facts.py). It is no truth and not under the chain. `DECODER_VERSION` says which decoder
made it; raise it with every change of what a body means, and nobody reads what is of before.

It is MessagePack: an array of dated facts, each an array that begins with the event's position and the moment when it
was recorded. Those are not known before the event is in the log, so they have a fixed width, and `ledger.append_events`
puts them in (migrations/0008).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ledger.facts import AnyFact, Dated
from ledger.vocabulary import StreamId

DECODER_VERSION: Final = 1

_ARRAY_SHORT, _ARRAY_LONG = 0x90, b"\xdd"
_ARRAY_SHORT_MAX = 15
"""How MessagePack begins an array: of so many elements in one byte, of more with their number in four."""
_DATED = b"\x97\xcf"
"""An array of seven, of which the first is a number of eight bytes."""
_TIMESTAMP = b"\xd7\xff"
"""A moment in eight bytes: nanoseconds in the upper 30 bits, whole seconds in the others."""
_SECONDS_BITS = 34
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Dated]).decode
_decode_each = msgspec.msgpack.Decoder(list[list[Dated]]).decode


def tell_beforehand(
    own_stream: StreamId,
    stated: Sequence[tuple[StreamId, AnyFact]],
    *,
    occurred_at: datetime,
    digest: bytes,
    trigger: str,
) -> bytes | None:
    """What will be kept of an event that says one thing, of its own booking alone, without its place; else None."""
    if len(stated) != 1:
        return None
    about, fact = stated[0]
    if about != own_stream or fact.details.previous_uid is not None:
        return None
    return _rest(occurred_at, fact.rank, digest, trigger, fact)


def tell(facts: Sequence[Dated]) -> bytes:
    """What is kept of these facts of one event."""
    return array_of(len(facts)) + b"".join(_placed(dated) for dated in facts)


def read(told: bytes) -> list[Dated]:
    """The facts of one event."""
    return _decode(told)


def read_each(told: bytes, count: int) -> list[Dated]:
    """The facts of so many events, told one after the other."""
    return [dated for own in _decode_each(array_of(count) + told) for dated in own]


def array_of(count: int) -> bytes:
    """What begins an array of so many elements."""
    return bytes((_ARRAY_SHORT | count,)) if count <= _ARRAY_SHORT_MAX else _ARRAY_LONG + count.to_bytes(4)


def _placed(dated: Dated) -> bytes:
    seconds, rest = divmod(dated.recorded_at - _EPOCH, timedelta(seconds=1))
    stamp = rest.microseconds * 1_000 << _SECONDS_BITS | seconds
    place = _DATED + dated.position.to_bytes(8) + _TIMESTAMP + stamp.to_bytes(8)
    return place + _rest(dated.occurred_at, dated.rank, dated.digest, dated.trigger, dated.fact)


def _rest(occurred_at: datetime, rank: int, digest: bytes, trigger: str, fact: AnyFact) -> bytes:
    """A dated fact but for its place: the elements that follow, without what begins an array."""
    return _encode((occurred_at, rank, digest, trigger, fact))[1:]
