"""Bodies sealed on their way into the log and opened on their way out, so that a person can be taken out of it.

A row of the log may never change, since the chain is over the bytes as they are stored. So what is to be forgotten is
made unreadable instead: every booking's bodies are sealed under a key of its own, and destroying that key
(`destroy_keys`) is what erasure comes down to. The chain still holds, and so does every proof.

    state = id of the key (16 bytes) ‖ nonce (12) ‖ AES-256-GCM of the body, bound to ledger_id ‖ event_id

Whoever writes makes keys without asking: a booking has one for each process that has lately written to it, which does
no harm, since the states say which. Keys go into the database in the transaction of the events that they seal. A
delivery of which nothing is known to be one booking's has a key for itself alone.

What a process keeps of opened keys may be destroyed by another at any moment. So the log counts the destructions:
each read of events brings the count along, and an append states the one it knows, under the same lock that destroying
takes. Where it has moved, everything kept is forgotten, and a batch is sealed anew.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast
from uuid import UUID

import asyncpg
import msgspec
from asyncpg.pgproto import pgproto
from cryptography.exceptions import InvalidTag

from ledger.codec import SEALED, Encoding, compress, decompress
from ledger.errors import BodyUnreadable, SealingKeyMissing
from ledger.keyring import (
    KEY_BYTES,
    KEY_ID_BYTES,
    MINT_BYTES,
    NONCE_BYTES,
    SEALED_BYTES_MIN,
    SEALED_FROM,
    BodyKey,
    Keyring,
    LedgerKeys,
    Open,
    RootKey,
    Sealing,
    mint,
    new_key_ids,
    open_with,
)
from ledger.migrate import migrate, migrations_folder, refuse_unknown_schema
from ledger.postgres import Connection, close_pool, connect, open_pool
from ledger.settings import Settings
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, StreamId

if TYPE_CHECKING:
    from ledger.store import NewEvent

SQL = load_statements(Path(__file__).with_suffix(".sql"))

Seal = Literal["stream", "fresh", "discarded", "none"]
"""Under what a body is sealed: its stream's key; a new one, which is the stream's from then on; one that is thrown away
at once, so that nobody will ever open it; nothing, for what others than we must be able to read with SQL alone."""

KEYS_CONNECTIONS_MAX: Final = 4
EVENT_RANDOM_BYTES: Final = NONCE_BYTES + MINT_BYTES
"""Of randomness, for an event: to seal its body, and for the key that it may need."""
RAW, SEALED_ALONE, SEALED_COMPRESSED = int(Encoding.RAW), int(Encoding.SEALED), int(Encoding.SEALED_ZSTD_1)
UNATTRIBUTED_PREFIX: Final = "unattributed-"
"""Streams of deliveries that have nothing to do with one another."""

Asking = asyncpg.Pool | Connection


def sealing_of(settings: Settings) -> Sealing:
    """What the settings say about keys."""
    keys_dsn = settings.keys_database_url.reveal_text() if settings.keys_database_url else None
    return Sealing(root_keys=tuple(key.reveal() for key in settings.sealing_keys), keys_dsn=keys_dsn)


@contextlib.asynccontextmanager
async def opened_keyring(sealing: Sealing) -> AsyncIterator[Keyring]:
    """A keyring for as long as the block lasts; nobody has been asked for anything yet."""
    async with contextlib.AsyncExitStack() as stack:
        apart = None
        if sealing.keys_dsn is not None:
            apart = await open_pool(sealing.keys_dsn, connections_min=0, connections_max=KEYS_CONNECTIONS_MAX)
            stack.push_async_callback(close_pool, apart)
        yield Keyring((RootKey(secret) for secret in sealing.root_keys), apart=apart)


class SealedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What of a batch goes into the log: for each event its state and encoding, and every key that they are under.

    The keys by their ids, and as they are wrapped, None for what was thrown away at once.
    """

    states: list[bytes]
    encodings: list[int]
    key_ids: list[UUID]
    wrapped_keys: list[bytes | None]


def keyring_of(connection: Connection) -> Keyring:
    """That of the pool, or of the connection where it was opened alone (`ledger.postgres`)."""
    return cast("Keyring", connection.keyring)  # type: ignore[union-attr]  # ours, of LedgerConnection


async def keyring_of_pool(pool: asyncpg.Pool) -> Keyring:
    """The one that all connections of the pool share."""
    async with pool.acquire() as connection:
        return keyring_of(connection)


def seal_batch(keyring: Keyring, ledger_id: LedgerId, events: Sequence["NewEvent"]) -> SealedBatch:
    """The events' bodies compressed and sealed. The keyring is ready (`make_ready`)."""
    keys, root = keyring.of(ledger_id), keyring.wrapping
    place = ledger_id.to_bytes(4)
    fresh_ids = new_key_ids(len(events))
    random = os.urandom(EVENT_RANDOM_BYTES * len(events))  # asked for once: the kernel takes its time
    states: list[bytes] = []
    encodings: list[int] = []
    used: dict[bytes, bytes | None] = {}
    for at, event in zip(range(0, len(random), EVENT_RANDOM_BYTES), events, strict=True):
        body, seal = event.body, event.seal
        if seal == "none":
            states.append(body)
            encodings.append(RAW)
            continue
        key = keys.writing.get(event.stream_id) if seal == "stream" else None
        if key is None:
            fresh = random[at + NONCE_BYTES : at + EVENT_RANDOM_BYTES]
            key = _mint(keys, root, ledger_id, event, key_id=next(fresh_ids), random=fresh)
        used[key.id] = key.wrapped
        nonce = random[at : at + NONCE_BYTES]
        compressed = compress(body)
        bound_to = place + event.event_id.bytes
        if compressed is None:
            states.append(key.id + nonce + key.seal(nonce, body, bound_to))
            encodings.append(SEALED_ALONE)
        else:
            states.append(key.id + nonce + key.seal(nonce, compressed, bound_to))
            encodings.append(SEALED_COMPRESSED)
    return SealedBatch(states=states, encodings=encodings, key_ids=_uuids(used), wrapped_keys=list(used.values()))


def _mint(
    keys: LedgerKeys, root: RootKey | None, ledger_id: LedgerId, event: "NewEvent", *, key_id: bytes, random: bytes
) -> BodyKey:
    if root is None:
        raise ValueError("a batch is sealed with a keyring that was not made ready")
    key = mint(root, ledger_id, key_id, random)
    if event.seal == "discarded":
        return msgspec.structs.replace(key, wrapped=None)
    keys.opened.put(key.id, key.key)
    if not event.stream_id.startswith(UNATTRIBUTED_PREFIX):
        keys.writing.put(event.stream_id, key)
    return key


def open_body(open_key: Open, encoding: int, state: bytes, bound_to: bytes) -> bytes:
    """The body that was sealed. Raises BodyUnreadable where it is not what was sealed, there and with that key."""
    try:
        opened = open_key(state[KEY_ID_BYTES:SEALED_FROM], state[SEALED_FROM:], bound_to)
    except (InvalidTag, ValueError):
        raise BodyUnreadable("it was changed, or moved, after it was sealed") from None
    return decompress(opened) if encoding == Encoding.SEALED_ZSTD_1 else opened


async def make_ready(connection: Connection, keyring: Keyring, *, is_retired: bool = False) -> None:
    """There is a root key to wrap with, in use in the database too.

    `is_retired`: the one that wrapped until now is, so another of ours that is in use takes its place. Raises
    SealingKeyMissing where keys are wrapped by a root key that the keyring does not have.
    """
    asking = keyring.apart or connection
    rows = await read_roots(asking, keyring)
    for row in rows:
        if keyring.root(row["root_key"]) is None and await asking.fetchval(SQL["is_root_key_used"], row["root_key"]):
            raise SealingKeyMissing(row["root_key"])
    live = [row["root_key"] for row in rows if not row["is_retired"]]
    if is_retired:
        keyring.prefer(next((root_id for root_id in live if root_id in keyring.outside_ids), ""))
    if keyring.wrapping is None:
        secret = os.urandom(KEY_BYTES)
        await asking.execute(SQL["make_own_root_key"], RootKey(secret).id, secret)
        await read_roots(asking, keyring)
    elif keyring.wrapping.id not in live:
        await asking.execute(SQL["use_root_key"], keyring.wrapping.id)
    if keyring.wrapping is None:
        raise SealingKeyMissing(live[0])
    keyring.is_ready = True


async def read_roots(asking: Asking, keyring: Keyring) -> list[asyncpg.Record]:
    """The keyring has those that the database keeps itself."""
    rows: list[asyncpg.Record] = await asking.fetch(SQL["read_root_keys"])
    own = [(RootKey(row["secret"]), row["is_retired"]) for row in rows if row["secret"] is not None]
    keyring.set_own(
        (root for root, _ in own), wrapping=next((root for root, is_retired in own if not is_retired), None)
    )
    return rows


async def check_keys(connection: Connection) -> None:
    """What we have opens what is there, and whatever is appended can be sealed.

    Raises SealingKeyMissing, BodyUnreadable where the last event's key is nowhere, SchemaUnknown for the database of
    keys.
    """
    keyring = keyring_of(connection)
    if keyring.apart is not None:
        async with keyring.apart.acquire() as there:
            await refuse_unknown_schema(there, folder=keys_folder())
    await make_ready(connection, keyring)
    for row in await connection.fetch(SQL["read_last_sealed"]):
        found = await open_keys(connection, row["ledger_id"], [row["key_id"]], erasures=row["erasures"])
        if not found:
            raise BodyUnreadable(
                f"the key of the last event of {row['name']} is nowhere; KEYS_DATABASE_URL must lead to where keys live"
            )


async def migrate_keys(sealing: Sealing) -> list[str]:
    """The database in which keys live is brought up to this release; nothing where they live with the log."""
    if sealing.keys_dsn is None:
        return []
    connection = await connect(sealing.keys_dsn)
    try:
        return await migrate(connection, folder=keys_folder())
    finally:
        await connection.close()


def keys_folder() -> Path:
    return migrations_folder() / "keys"


async def keep_apart(keyring: Keyring, ledger_id: LedgerId, sealed: SealedBatch) -> bool:
    """The batch's keys are committed in the database in which keys live; False where the root key is retired."""
    if keyring.apart is None or keyring.wrapping is None:
        raise ValueError("these keys do not live apart")
    kept = await keyring.apart.fetchval(
        SQL["keep_keys"], ledger_id, sealed.key_ids, sealed.wrapped_keys, keyring.wrapping.id
    )
    return bool(kept)


async def open_keys(
    connection: Connection, ledger_id: LedgerId, key_ids: Collection[bytes], *, erasures: int
) -> Mapping[bytes, Open]:
    """The keys of these ids, `destroyed` for those that were; without those that are nowhere.

    `erasures` is the log's count as it was read along with the events. One question to the database at most, for what
    is not remembered. Raises SealingKeyMissing.
    """
    keyring = keyring_of(connection)
    keys = keyring.of(ledger_id)
    keys.heed(erasures)
    found: dict[bytes, Open] = {}
    missing = []
    for key_id in key_ids:
        known = keys.opened.get(key_id)
        if known is None:
            missing.append(key_id)
        else:
            found[key_id] = open_with(known)
    if missing:
        revealed = await reveal_keys(connection, ledger_id, missing)
        fetched = {key_id: key or b"" for key_id, key in revealed.items()}
        found |= {key_id: open_with(key) for key_id, key in fetched.items()}
        if keys.erasures == erasures:  # else somebody else has learnt meanwhile that one of these may be destroyed
            for key_id, key in fetched.items():
                keys.opened.put(key_id, key)
    return found


async def reveal_keys(
    connection: Connection, ledger_id: LedgerId, key_ids: Collection[bytes]
) -> dict[bytes, bytes | None]:
    """The keys themselves, None for those that were destroyed; without those that are nowhere.

    Raises SealingKeyMissing.
    """
    keyring, wanted = keyring_of(connection), list(key_ids)
    rows = await (keyring.apart or connection).fetch(SQL["read_keys"], ledger_id, _uuids(wanted))
    if keyring.apart is not None and len(rows) < len(wanted):  # of before they lived apart
        there = {row["key_id"] for row in rows}
        left = [key_id for key_id in wanted if key_id not in there]
        rows += await connection.fetch(SQL["read_keys"], ledger_id, _uuids(left))
    revealed: dict[bytes, bytes | None] = {}
    for key_id, wrapped, root_id in rows:
        if wrapped is None:
            revealed[key_id] = None
            continue
        root = keyring.root(root_id) or await _own_root(connection, keyring, root_id)
        with contextlib.suppress(BodyUnreadable):  # its bodies say so when they are read
            revealed[key_id] = root.unwrap(ledger_id, key_id, wrapped)
    return revealed


async def _own_root(connection: Connection, keyring: Keyring, root_id: str) -> RootKey:
    """One that the database may have made since it was last asked. Raises SealingKeyMissing."""
    await read_roots(keyring.apart or connection, keyring)
    root = keyring.root(root_id)
    if root is None and keyring.apart is not None:  # of before keys lived apart
        rows = await connection.fetch(SQL["read_root_keys"])
        own = (RootKey(row["secret"]) for row in rows if row["secret"] is not None)
        root = next((one for one in own if one.id == root_id), None)
    if root is None:
        raise SealingKeyMissing(root_id)
    return root


async def read_key_ids(connection: Connection, ledger_id: LedgerId, stream_ids: Collection[StreamId]) -> list[UUID]:
    """The keys under which the bodies of these streams lie, destroyed ones included."""
    rows = await connection.fetch(SQL["read_key_ids"], ledger_id, list(stream_ids))
    return [row["key_id"] for row in rows]


async def destroy_keys(connection: Connection, ledger_id: LedgerId, key_ids: Collection[UUID]) -> int:
    """Nobody can open what was sealed under these keys any more, nor will anything be sealed under them.

    How many were there. In the caller's transaction, if there is one, except for keys that live apart: those are gone
    at once. So call it after what else has to be there, and again where the outcome is unknown. Takes the head's lock.
    """
    keyring, given = keyring_of(connection), list(key_ids)
    if keyring.apart is None:
        return int(await connection.fetchval(SQL["destroy_keys"], ledger_id, given))
    # Told before, so that no batch is sealed under one of them any more, and after, so that none is opened again.
    there = int(await connection.fetchval(SQL["destroy_keys"], ledger_id, given))
    there += int(await keyring.apart.fetchval(SQL["destroy_keys_apart"], ledger_id, given))
    await connection.fetchval(SQL["destroy_keys"], ledger_id, [])
    return there


def sealed_key_ids(states: Iterable[tuple[int, bytes]]) -> set[bytes]:
    """The keys of these states, each given with its encoding; without what can be no sealed state."""
    return {state[:KEY_ID_BYTES] for encoding, state in states if encoding in SEALED and len(state) >= SEALED_BYTES_MIN}


def _uuids(key_ids: Iterable[bytes]) -> list[UUID]:
    return [pgproto.UUID(key_id) for key_id in key_ids]
