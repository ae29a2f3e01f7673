"""Ids of events: made of what an event says, so that a repeat has the same, or of nothing but chance."""

import os
from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

_UUID_FIXED_BITS = 0xF000 << 64 | 0xC000 << 48
_UUID_VERSION_4 = 0x4000 << 64 | 0x8000 << 48
_UUID_VERSION_8 = 0x8000 << 64 | 0x8000 << 48
# pgproto's is a uuid.UUID that is made and written in a fifth of the time.


def content_event_id(key: bytes, purpose: str, content: bytes) -> UUID:
    """The same words for the same purpose have the same id, of which nobody without the key can tell them.

    UUID version 8, RFC 9562.
    """
    made = _keyed(key, purpose).copy()
    made.update(content)
    number = int.from_bytes(made.finalize()[:16]) & ~_UUID_FIXED_BITS | _UUID_VERSION_8
    return pgproto.UUID(number.to_bytes(16))


def fresh_event_id() -> UUID:
    """An id that no other event has (UUID version 4, RFC 9562)."""
    number = int.from_bytes(os.urandom(16)) & ~_UUID_FIXED_BITS | _UUID_VERSION_4
    return pgproto.UUID(number.to_bytes(16))


@lru_cache
def _keyed(key: bytes, purpose: str) -> HMAC:
    """To be copied for each event: what is the same for all of them is done. The standard library's takes longer."""
    keyed = HMAC(key, SHA256())
    keyed.update(purpose.encode() + b"\x00")
    return keyed
