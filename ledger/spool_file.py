"""Verified deliveries on local disk, for as long as Postgres cannot take them: one SQLite file a home.

Cal.com sends each delivery once, so whatever we answer 503 is gone. What is put here has been fsynced when `put`
returns: a write-ahead log with `synchronous = FULL`, whole after a kill -9 and after a power cut.

A row holds what `ledger/filing.py` needs, a fresh identity included, so filing it twice gives the same events twice,
and the log keeps them once. That is why a delivery may be put here although it is perhaps in the log already, and why
draining may end between the log's commit and our delete.

Server processes of one machine share the file, whatever databases they serve, so each row carries a mark of its
ledger, made of that ledger's secret key. It is drained into that ledger only. To the spool a copy of a database is the
same ledger: give a server on a copy a home of its own.

The folder is 0700, its files 0600: bodies are personal data. It must be on a disk of this machine, not on a network's.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ledger.errors import SpoolUnusable
from ledger.filing import Receipt
from ledger.spool_folder import locked, make_durable, make_file, make_folder
from ledger.spooled import ROW_BYTES, Bounds, KnownLedger, LedgerMark, Spooled, SpoolId, SpoolState, Waiting, level_of
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

READ_BYTES_MAX: Final = 4 * 1024**2
ERRORS_TOLD_MAX: Final = 3

FORMAT: Final = 1
PRAGMAS: Final = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA secure_delete = ON",  # what was drained, or erased, is overwritten
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: an ordinary fsync does not reach the platter
    "PRAGMA journal_size_limit = 16777216",
)


class SpoolFile:
    """The open file, made if there is none. One thread at a time may use it. Raises SpoolUnusable."""

    def __init__(self, folder: Path, *, bounds: Bounds | None = None) -> None:
        self.folder = folder
        self._bounds = bounds or Bounds()
        self._path = folder / "deliveries.sqlite"
        try:
            make_folder(folder)
            with locked(folder / "open.lock"):
                self._connection = _open(self._path)
            make_durable(folder)
            self._inode = self._path.stat().st_ino
        except (OSError, sqlite3.Error) as error:
            raise SpoolUnusable(folder, _cause(error)) from error

    def put(self, deliveries: Sequence[Spooled]) -> int:
        """How many of them, from the first on, are on disk for good; there is no room for the others."""
        if self._path.stat().st_ino != self._inode:
            raise FileNotFoundError(self._path)  # what is written into a file without a name is lost with the process
        with self._transaction():
            kept = deliveries[: self._count_that_fits(deliveries)]
            self._connection.executemany(SQL["insert_delivery"], [_row(delivery) for delivery in kept])
            for mark, count in Counter(delivery.ledger_mark for delivery in kept).items():
                self._add(mark, waiting=count)
        return len(kept)

    def read(self, mark: LedgerMark, *, deliveries_max: int) -> list[Waiting]:
        """The oldest of a ledger's, in order of arrival, at least one if there is one; not those set aside."""
        found: list[Waiting] = []
        size_bytes = 0
        rows = self._connection.execute(SQL["read_waiting"], {"ledger_mark": mark, "deliveries_max": deliveries_max})
        for spool_id, event_id, receipt, body in rows:
            size_bytes += len(body)
            if found and size_bytes > READ_BYTES_MAX:
                break
            delivery = Spooled(
                ledger_mark=mark,
                event_id=UUID(bytes=event_id),
                receipt=msgspec.json.decode(receipt, type=Receipt),
                body=body,
            )
            found.append(Waiting(spool_id=SpoolId(spool_id), delivery=delivery))
        rows.close()
        return found

    def drop(self, mark: LedgerMark, spool_ids: Sequence[SpoolId]) -> None:
        """They are no longer here: the log has them."""
        with self._transaction():
            dropped = self._connection.executemany(SQL["delete_delivery"], [{"spool_id": one} for one in spool_ids])
            self._add(mark, waiting=-dropped.rowcount)

    def set_aside(self, mark: LedgerMark, spool_id: SpoolId, error: str) -> None:
        """It no longer stands before the others."""
        with self._transaction():
            changed = self._connection.execute(SQL["set_aside"], {"spool_id": spool_id, "error": error})
            self._add(mark, waiting=-changed.rowcount, set_aside=changed.rowcount)

    def take_up_again(self, mark: LedgerMark) -> int:
        """How many of those set aside wait again, each in its old place."""
        if not self.state().set_aside.get(mark):
            return 0
        with self._transaction():
            changed = self._connection.execute(SQL["take_up_again"], {"ledger_mark": mark})
            self._add(mark, waiting=changed.rowcount, set_aside=-changed.rowcount)
        return changed.rowcount

    def forget(self, mark: LedgerMark, is_named: Callable[[bytes], bool]) -> int:
        """How many of those set aside were thrown away, since the body names somebody erased."""
        rows = self._connection.execute(SQL["read_set_aside"], {"ledger_mark": mark})
        named = [{"spool_id": spool_id} for spool_id, body in rows if is_named(body)]
        if named:
            with self._transaction():
                self._connection.executemany(SQL["forget_delivery"], named)
                self._add(mark, waiting=0, set_aside=-len(named))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return len(named)

    def shrink(self) -> bool:
        """A piece of what is free in the file has gone back to the disk; False when there was none."""
        if not self._pragma("PRAGMA freelist_count"):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return False
        self._connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()  # pages: others may write in between
        return True

    def state(self) -> SpoolState:
        totals = self._connection.execute(SQL["read_totals"]).fetchall()
        oldest = self._connection.execute(SQL["read_oldest_receipt"]).fetchone()
        waiting = {mark: count for mark, count, _ in totals if count}
        set_aside = {mark: count for mark, _, count in totals if count}
        size_bytes, free_bytes = self._size_bytes(), shutil.disk_usage(self.folder).free
        return SpoolState(
            waiting=waiting,
            set_aside=set_aside,
            size_bytes=size_bytes,
            free_bytes=free_bytes,
            oldest_received_at=msgspec.json.decode(oldest[0], type=Receipt).received_at if oldest else None,
            level=level_of(
                self._bounds,
                waiting=sum(waiting.values()),
                set_aside=sum(set_aside.values()),
                size_bytes=size_bytes,
                free_bytes=free_bytes,
            ),
        )

    def errors(self) -> list[str]:
        """Why some are set aside: a few of the reasons."""
        return [error for (error,) in self._connection.execute(SQL["read_errors"], {"errors_max": ERRORS_TOLD_MAX})]

    def remember(self, database: str, ledgers: Sequence[KnownLedger]) -> None:
        """These are the ledgers of a database, for a start while it is away; `database` is a name for it."""
        if self.recall(database) == ledgers:
            return
        with self._transaction():
            self._connection.execute(SQL["forget_ledgers"], {"database": database})
            rows = [{"database": database, **msgspec.structs.asdict(ledger)} for ledger in ledgers]
            self._connection.executemany(SQL["insert_known_ledger"], rows)

    def recall(self, database: str) -> list[KnownLedger]:
        """What was remembered, by `ledger_id`; empty for a database that was never served from here."""
        rows = self._connection.execute(SQL["read_known_ledgers"], {"database": database})
        return [KnownLedger(ledger_id=ledger_id, name=name, ledger_mark=mark) for ledger_id, name, mark in rows]

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """On disk when the block has ended, or nothing of it is."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _add(self, mark: LedgerMark, *, waiting: int, set_aside: int = 0) -> None:
        total = {"ledger_mark": mark, "waiting": waiting, "set_aside": set_aside}
        self._connection.execute(SQL["add_to_total"], total)

    def _count_that_fits(self, deliveries: Sequence[Spooled]) -> int:
        present = sum(waiting + set_aside for _, waiting, set_aside in self._connection.execute(SQL["read_totals"]))
        room_bytes = min(
            self._bounds.size_bytes_max - self._size_bytes(),
            shutil.disk_usage(self.folder).free - self._bounds.free_bytes_min,
        )
        count = 0
        for delivery in deliveries[: max(self._bounds.deliveries_max - present, 0)]:
            room_bytes -= len(delivery.body) + ROW_BYTES
            if room_bytes < 0:
                break
            count += 1
        return count

    def _size_bytes(self) -> int:
        used_pages = self._pragma("PRAGMA page_count") - self._pragma("PRAGMA freelist_count")
        return used_pages * self._pragma("PRAGMA page_size")

    def _pragma(self, statement: str) -> int:
        (value,) = self._connection.execute(statement).fetchone()
        return int(value)


def _open(path: Path) -> sqlite3.Connection:
    """The caller holds open.lock: two that switch a new file to a write-ahead log at once would disturb each other."""
    make_file(path)  # SQLite's other files take its mode
    with ExitStack() as closing:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        closing.callback(connection.close)
        for pragma in PRAGMAS:
            connection.execute(pragma).fetchall()
        _take_format(connection)
        closing.pop_all()
    return connection


def _take_format(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise sqlite3.DatabaseError(f"it was written by a newer release, in format {found}")
    for statement in (
        SQL["create_deliveries"],
        SQL["create_waiting_index"],
        SQL["create_totals"],
        SQL["create_known_ledgers"],
    ):
        connection.execute(statement)
    if found < FORMAT:
        connection.execute("PRAGMA user_version = 1")


def _row(delivery: Spooled) -> dict[str, str | bytes]:
    return {
        "ledger_mark": delivery.ledger_mark,
        "event_id": delivery.event_id.bytes,
        "receipt": msgspec.json.encode(delivery.receipt).decode(),
        "body": delivery.body,
    }


def _cause(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
