"""Root keys changed while the log is in use: keys of bodies wrapped anew, batch by batch. No body is touched.

The order makes it safe to be killed anywhere, and to be begun again. First all root keys but the one in use are
retired: who appends looks at that under the log's lock, so from then on nothing new is wrapped by them. Then what they
wrap is wrapped anew, and last they are forgotten, the database's own secret with them. Keys that were kept in the log's
database before KEYS_DATABASE_URL was set move over on the way.

A process that has both keys by then, in whatever order, goes on with the new one. One that still has only the retired
key can append no more; its deliveries wait in its spool until it is restarted. So give every process both keys first.
"""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from ledger.errors import SealingKeyMissing
from ledger.keyring import Keyring, RootKey
from ledger.postgres import Connection
from ledger.sealing import SQL, Asking, keyring_of, make_ready, read_roots
from ledger.vocabulary import LedgerId

BATCH_KEYS: Final = 1_000


class RootKeyCount(msgspec.Struct, frozen=True, kw_only=True):
    """A root key and how many keys it wraps. `place`: where its secret is; unknown: nowhere that we can reach."""

    root_key: str
    place: str
    wraps_new: bool
    is_retired: bool
    body_keys: int


class SealingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`keys_apart`: KEYS_DATABASE_URL is set. `left_behind`: keys that are still in the log's own database then."""

    root_keys: list[RootKeyCount]
    destroyed: int
    keys_apart: bool
    left_behind: int

    @property
    def is_outside(self) -> bool:
        """A dump of the log's database alone opens no body."""
        return not any(one.place == "database" and (one.body_keys or one.wraps_new) for one in self.root_keys)


class Rewrapped(msgspec.Struct, frozen=True, kw_only=True):
    root_key: str
    rewrapped: int
    moved: int
    forgotten: list[str]


Tell = Callable[[int, int], None]


async def read_sealing(connection: Connection) -> SealingStatus:
    """Which root keys there are and what they wrap; counts every key."""
    keyring = keyring_of(connection)
    asking: Asking = keyring.apart or connection
    await read_roots(asking, keyring)
    rows = await asking.fetch(SQL["count_root_keys"])
    destroyed = await asking.fetchval(SQL["count_destroyed"])
    left = 0 if keyring.apart is None else await connection.fetchval(SQL["count_keys"])
    return SealingStatus(
        root_keys=[_count(row, keyring) for row in rows],
        destroyed=destroyed,
        keys_apart=keyring.apart is not None,
        left_behind=left,
    )


def _count(row: asyncpg.Record, keyring: Keyring) -> RootKeyCount:
    is_outside = row["root_key"] in keyring.outside_ids
    own_place = "keys database" if keyring.apart else "database"
    wrapping = keyring.wrapping
    return RootKeyCount(
        root_key=row["root_key"],
        place="SEALING_KEY" if is_outside else own_place if row["has_secret"] else "unknown",
        wraps_new=wrapping is not None and wrapping.id == row["root_key"],
        is_retired=row["is_retired"],
        body_keys=row["body_keys"],
    )


async def rewrap(connection: Connection, *, tell: Tell = lambda _done, _total: None) -> Rewrapped:
    """Every key is wrapped by the root key in use, and no other root key is known to the database any more.

    Not in a transaction. Raises SealingKeyMissing where a key is wrapped by a root key that is nowhere.
    """
    keyring = keyring_of(connection)
    await make_ready(connection, keyring)
    asking: Asking = keyring.apart or connection
    if keyring.wrapping is None:
        raise ValueError("a keyring that is ready has a root key that wraps")
    root = keyring.wrapping
    await asking.execute(SQL["retire_root_keys"], root.id)
    moved = 0 if keyring.apart is None else await _move(connection, keyring, tell)
    rewrapped = await _rewrap(asking, keyring, root, tell)
    forgotten = await asking.fetch(SQL["forget_root_keys"], root.id)
    if keyring.apart is not None:
        await connection.execute(SQL["forget_root_keys"], root.id)
    return Rewrapped(
        root_key=root.id, rewrapped=rewrapped, moved=moved, forgotten=[row["root_key"] for row in forgotten]
    )


async def _rewrap(asking: Asking, keyring: Keyring, root: RootKey, tell: Tell) -> int:
    total = await asking.fetchval(SQL["count_foreign"], root.id)
    done, after = 0, (LedgerId(0), UUID(int=0))
    while rows := await asking.fetch(SQL["read_foreign"], *after, root.id, BATCH_KEYS):
        for ledger_id in {row["ledger_id"] for row in rows}:
            batch = [row for row in rows if row["ledger_id"] == ledger_id]
            wrapped = [_wrapped_anew(keyring, root, row) for row in batch]
            await asking.execute(
                SQL["rewrap_keys"],
                ledger_id,
                [row["key_id"] for row in batch],
                [row["wrapped"] for row in batch],
                wrapped,
                root.id,
            )
        done += len(rows)
        after = (rows[-1]["ledger_id"], rows[-1]["key_id"])
        tell(min(done, total), total)
    return done


async def _move(connection: Connection, keyring: Keyring, tell: Tell) -> int:
    """Keys of the log's own database are in the one where keys live, destroyed ones included."""
    if keyring.apart is None or keyring.wrapping is None:
        raise ValueError("keys move only to a database of their own")
    own = await connection.fetch(SQL["read_root_keys"])
    here = Keyring(keyring.outside)
    here.set_own((RootKey(row["secret"]) for row in own if row["secret"] is not None), wrapping=None)
    total, done = await connection.fetchval(SQL["count_keys"]), 0
    while rows := await connection.fetch(SQL["read_any_keys"], BATCH_KEYS):
        for ledger_id in {row["ledger_id"] for row in rows}:
            batch = [row for row in rows if row["ledger_id"] == ledger_id]
            key_ids = [row["key_id"] for row in batch]
            wrapped = [_wrapped_anew(here, keyring.wrapping, row) if row["wrapped"] else None for row in batch]
            await keyring.apart.fetchval(SQL["keep_keys"], ledger_id, key_ids, wrapped, keyring.wrapping.id)
            await _forget(connection, ledger_id, key_ids)
        done += len(rows)
        tell(min(done, total), total)
    return done


async def _forget(connection: Connection, ledger_id: LedgerId, key_ids: Sequence[UUID]) -> None:
    await connection.execute(SQL["forget_keys"], ledger_id, key_ids)


def _wrapped_anew(keyring: Keyring, root: RootKey, row: asyncpg.Record) -> bytes:
    old = keyring.root(row["root_key"])
    if old is None:
        raise SealingKeyMissing(row["root_key"])
    key_id = row["key_id"].bytes
    return root.wrap(row["ledger_id"], key_id, old.unwrap(row["ledger_id"], key_id, row["wrapped"]))
