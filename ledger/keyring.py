"""The keys that a process has in its hands: root keys, and those of the bookings it has lately written or read.

A body is sealed under its booking's key, that key is wrapped by a root key, and the wrapped key lies in
`ledger.body_keys` (`ledger/sealing.py` fetches and keeps them). All of it is AES-256-GCM, and everything sealed is
bound to its place: a body to its ledger and event, a wrapped key to its ledger and id. Nothing here speaks to a
database; a keyring belongs to one event loop.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

import asyncpg
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import BodyUnreadable
from ledger.vocabulary import LedgerId, StreamId

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
NONCE_BYTES: Final = 12
MINT_BYTES: Final = KEY_BYTES + NONCE_BYTES
"""Of randomness, for a key and to wrap it."""
SEALED_FROM: Final = KEY_ID_BYTES + NONCE_BYTES
"""Where in a sealed state the ciphertext begins."""
SEALED_BYTES_MIN: Final = SEALED_FROM + 16
"""Of an empty body: what authenticates it."""
ROOT_KEY_ID_DIGITS: Final = 8
STREAMS_MAX: Final = 20_000
"""Of how many bookings the key for writing is remembered; as many again while they make room."""
OPENED_MAX: Final = 50_000
"""Of how many keys the opened form is remembered, as above; about 500 bytes each."""

RANDOM_BYTES: Final = 10

_UUID_FIXED_BITS: Final = 0xF000 << 64 | 0xC000 << 48 | 0xFFFFFFFF
"""The last 32 bits count."""
_UUID_VERSION_7: Final = 0x7000 << 64 | 0x8000 << 48

K = TypeVar("K")
V = TypeVar("V")


class Sealing(msgspec.Struct, frozen=True, kw_only=True):
    """What a keyring is made of: the setting's root keys, the first of which wraps, and where keys live apart."""

    root_keys: tuple[bytes, ...] = ()
    keys_dsn: str | None = None

    def __repr__(self) -> str:
        return f"Sealing({len(self.root_keys)} root keys)"


NOTHING_SET: Final = Sealing()
"""One root key, made and kept in the log's own database."""


Open = Callable[[bytes, bytes, bytes], bytes]
"""Nonce, ciphertext, what it is bound to. Raises InvalidTag."""


class RootKey:
    """A key that wraps keys. Its `id` tells it apart and tells nothing of it."""

    __slots__ = ("_cipher", "id")

    def __init__(self, secret: bytes) -> None:
        self.id = hashlib.sha256(secret).hexdigest()[:ROOT_KEY_ID_DIGITS]
        self._cipher = AESGCM(secret)

    def wrap(self, ledger_id: LedgerId, key_id: bytes, key: bytes, *, nonce: bytes | None = None) -> bytes:
        """`nonce` is random and was never used before; without one it is made here."""
        nonce = nonce or os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, ledger_id.to_bytes(4) + key_id)

    def unwrap(self, ledger_id: LedgerId, key_id: bytes, wrapped: bytes) -> bytes:
        """Raises BodyUnreadable for what this root key has not wrapped."""
        bound_to = ledger_id.to_bytes(4) + key_id
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound_to)
        except InvalidTag:
            raise BodyUnreadable(f"the wrapped key {key_id.hex()} was changed") from None


class BodyKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A booking's key, opened, and as it lies in the database: None for one that is thrown away at once.

    The key and not its cipher is what is remembered: a cipher takes 2.5 KB, and less than a microsecond to make.
    """

    id: bytes
    key: bytes
    wrapped: bytes | None

    def seal(self, nonce: bytes, body: bytes, bound_to: bytes) -> bytes:
        return AESGCM(self.key).encrypt(nonce, body, bound_to)


class Recent(Generic[K, V]):
    """What was lately put in or asked for: never less than the last `size_max`, never more than twice as many."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        self._young[key] = value
        if len(self._young) >= self._size_max:
            self._young, self._old = {}, self._young

    def clear(self) -> None:
        self._young, self._old = {}, {}


def open_with(key: bytes) -> Open:
    """What opens the bodies of a key that is remembered."""
    return AESGCM(key).decrypt if key else destroyed


def destroyed(_nonce: bytes, _sealed: bytes, _bound_to: bytes) -> bytes:
    """In the place of a key that was destroyed on purpose."""
    return b""


class LedgerKeys:
    """One ledger's keys. `erasures`: how often keys had been destroyed when these were fetched."""

    def __init__(self) -> None:
        self.erasures = 0
        self.writing: Recent[StreamId, BodyKey] = Recent(STREAMS_MAX)
        self.opened: Recent[bytes, bytes] = Recent(OPENED_MAX)
        """Keys by id, empty for those that were destroyed."""
        self.tombstones: object | None = None
        """Who must not come back (`ledger/tombstones.py`), as of the same count."""

    def heed(self, erasures: int) -> None:
        """Nothing is remembered that may have been destroyed meanwhile."""
        if erasures != self.erasures:
            self.erasures = erasures
            self.writing.clear()
            self.opened.clear()
            self.tombstones = None


class Keyring:
    """What a pool, or a connection alone, opens and seals with. `outside` are the setting's keys; the first one wraps.

    `apart` leads to the database in which keys live, where that is not the log's own.
    """

    def __init__(self, outside: Iterable[RootKey] = (), *, apart: asyncpg.Pool | None = None) -> None:
        self.apart = apart
        self.is_ready = False
        """The root key that wraps is known to the database, and no other is in use that we do not have."""
        self._outside = {root.id: root for root in outside}
        self._own: dict[str, RootKey] = {}
        self._own_wrapping: RootKey | None = None
        self._preferred = ""
        self._ledgers: dict[LedgerId, LedgerKeys] = {}

    @property
    def outside(self) -> tuple[RootKey, ...]:
        """Those of SEALING_KEY."""
        return tuple(self._outside.values())

    @property
    def outside_ids(self) -> frozenset[str]:
        return frozenset(self._outside)

    @property
    def wrapping(self) -> RootKey | None:
        """The setting's first, else the database's own; None where that is still to be read, or made."""
        return self._outside.get(self._preferred) or next(iter(self._outside.values()), self._own_wrapping)

    def prefer(self, root_id: str) -> None:
        """This one of the setting's wraps from now on, since the first was retired."""
        self._preferred = root_id

    def set_own(self, roots: Iterable[RootKey], *, wrapping: RootKey | None) -> None:
        """Those that the database keeps itself, and which of them is not retired."""
        self._own = {root.id: root for root in roots}
        self._own_wrapping = wrapping

    def root(self, root_id: str) -> RootKey | None:
        return self._outside.get(root_id) or self._own.get(root_id)

    def of(self, ledger_id: LedgerId) -> LedgerKeys:
        if ledger_id not in self._ledgers:
            self._ledgers[ledger_id] = LedgerKeys()
        return self._ledgers[ledger_id]

    def forget(self) -> None:
        """What was sealed with is not used again, and the root keys are read again."""
        self.is_ready = False
        for keys in self._ledgers.values():
            keys.writing.clear()


def mint(root: RootKey, ledger_id: LedgerId, key_id: bytes, random: bytes) -> BodyKey:
    """The key that these random bytes are, `MINT_BYTES` that were never used before."""
    key = random[:KEY_BYTES]
    return BodyKey(id=key_id, key=key, wrapped=root.wrap(ledger_id, key_id, key, nonce=random[KEY_BYTES:]))


def new_key_ids(count: int) -> Iterator[bytes]:
    """Ascending ids, which lie together with others of the same time (UUID version 7, RFC 9562).

    Ascending, so that they fill the pages of an index one after the other: random ones would leave a third empty.
    """
    milliseconds, random = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(RANDOM_BYTES))
    first = milliseconds << 80 | random & ~_UUID_FIXED_BITS | _UUID_VERSION_7
    return (number.to_bytes(KEY_ID_BYTES) for number in range(first, first + count))


def new_root_key() -> str:
    """A fresh key, as SEALING_KEY takes it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()
