"""API keys: made once, shown once, kept as a SHA-256.

A key is `cbl_<id>_<secret>_<checksum>`, in letters and digits: `cbl` lets scanners for leaked secrets know it, the id
names it without giving it away, the secret has 196 random bits, which is why a plain hash is enough to keep (there is
nothing to guess), and the checksum tells a typing error from a wrong key without asking the database.
"""

import hashlib
import secrets
import string
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NewType

import msgspec

from ledger.errors import BadParameter, NotFound, OperatorError
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, Role

SQL = load_statements(Path(__file__).with_suffix(".sql"))

KeyId = NewType("KeyId", str)

MARK: Final = "cbl"
ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_CHARACTERS: Final = 8
SECRET_CHARACTERS: Final = 33
CHECKSUM_CHARACTERS: Final = 6
"""The least that hold 32 bits."""

PREFIX_CHARACTERS_MIN: Final = 4

LIVE_KEYS_MAX: Final = 1_000
"""A server holds every live key in memory (api/key_ring.py)."""


class LiveKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that opens; `ledger_id` None: every ledger."""

    key_id: KeyId
    name: str
    role: Role
    ledger_id: LedgerId | None
    expires_at: datetime | None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key, without the key. `ledger` None: every one."""

    prefix: str
    name: str
    role: Role
    ledger: str | None
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def new_key() -> str:
    """A key that nobody has had before."""
    named = f"{MARK}_{_random(ID_CHARACTERS)}_{_random(SECRET_CHARACTERS)}"
    return f"{named}_{_checksum(named)}"


def is_well_formed(key: str) -> bool:
    """Whether this can be a key at all: its parts have their lengths, and the checksum is right."""
    named, _, checksum = key.rpartition("_")
    parts = named.split("_")
    if not key.isascii() or [len(part) for part in parts] != [len(MARK), ID_CHARACTERS, SECRET_CHARACTERS]:
        return False
    return parts[0] == MARK and _checksum(named) == checksum


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def prefix_of(key: str) -> str:
    """What names a key without opening anything: `cbl_<id>`."""
    return "_".join(key.split("_")[:2])


async def create_key(
    connection: Connection,
    key: str,
    *,
    name: str,
    role: Role,
    ledger_id: LedgerId | None,
    expires_at: datetime | None,
) -> None:
    """The key opens, on every server within seconds. Raises OperatorError where too many are live."""
    created = await connection.fetchval(
        SQL["insert_key"], _id_of(key), name, role, ledger_id, digest_of(key), expires_at, LIVE_KEYS_MAX
    )
    if created is None:
        raise OperatorError(f"{LIVE_KEYS_MAX:,} keys are live, which is the most; revoke those that nobody uses.")


async def list_keys(connection: Connection) -> Sequence[KeyRecord]:
    """Every key there ever was, the oldest first."""
    return [
        KeyRecord(
            prefix=f"{MARK}_{row['key_id']}",
            name=row["name"],
            role=row["role"],
            ledger=row["ledger"],
            state="revoked" if row["revoked_at"] else "expired" if row["expired"] else "live",
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            last_used_at=row["last_used_at"],
            revoked_at=row["revoked_at"],
        )
        for row in await connection.fetch(SQL["read_keys"])
    ]


async def read_live_keys(connection: Connection) -> Mapping[bytes, LiveKey]:
    """Every key that opens now, by digest."""
    return {
        row["digest"]: LiveKey(
            key_id=KeyId(row["key_id"]),
            name=row["name"],
            role=row["role"],
            ledger_id=row["ledger_id"],
            expires_at=row["expires_at"],
        )
        for row in await connection.fetch(SQL["read_live_keys"])
    }


async def revoke_key(connection: Connection, prefix: str) -> str:
    """The key opens nothing any more, on every server within seconds; returns its whole `cbl_<id>`.

    `prefix` is the beginning of `cbl_<id>`, with or without `cbl_`, or a whole key. Raises NotFound, and BadParameter
    for one that is too short to be meant, or that several keys begin with.
    """
    wanted = (_id_of(prefix) if prefix.startswith(f"{MARK}_") else prefix)[:ID_CHARACTERS]
    if len(wanted) < PREFIX_CHARACTERS_MIN:
        raise BadParameter("prefix", f"must have at least {PREFIX_CHARACTERS_MIN} characters after {MARK}_")
    found = await connection.fetch(SQL["find_keys"], wanted)
    if not found:
        raise NotFound(f"key that begins with {MARK}_{wanted}")
    if len(found) > 1:
        raise BadParameter("prefix", "must be the beginning of one key; several begin so")
    await connection.execute(SQL["revoke_key"], found[0]["key_id"])
    return f"{MARK}_{found[0]['key_id']}"


async def note_key_uses(connection: Connection, uses: Mapping[KeyId, datetime]) -> None:
    await connection.execute(SQL["note_key_uses"], list(uses), list(uses.values()))


def _id_of(key: str) -> str:
    return key.split("_")[1]


def _random(characters: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(characters))


def _checksum(named: str) -> str:
    """CRC-32 in base 62, always as long."""
    rest, digits = zlib.crc32(named.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
