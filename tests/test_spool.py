"""The spool's file and its writer: on disk for good, in order, bounded, shared by processes."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from ledger.errors import SpoolRefused, SpoolUnusable
from ledger.filing import Receipt
from ledger.spool import Spool
from ledger.spool_file import SQL, SpoolFile
from ledger.spooled import Bounds, KnownLedger, LedgerMark, Spooled, ledger_mark, level_of
from ledger.store import Ledger
from tests.builders import MAIN, NOON, minutes
from tests.sources import ROOT

OURS, THEIRS = LedgerMark(b"ours" * 4), LedgerMark(b"them" * 4)
WRITERS = 3
WRITES_EACH = 150
KILLED_AFTER = 200

_numbers = itertools.count(1)

# Puts one delivery after another, and says so of each that is on disk.
WRITER = """
import sys
from pathlib import Path
from uuid import UUID
from ledger.filing import Receipt
from ledger.spool_file import SpoolFile
from ledger.spooled import LedgerMark, Spooled
from tests.builders import NOON

name, count, file = sys.argv[1], int(sys.argv[2]), SpoolFile(Path(sys.argv[3]))
for number in range(count):
    body = f"{name} {number}".encode()
    mark, receipt = LedgerMark(b"ours" * 4), Receipt(received_at=NOON)
    one = Spooled(ledger_mark=mark, event_id=UUID(int=number), receipt=receipt, body=body)
    assert file.put([one]) == 1
    print(name, number, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "spool"


@pytest.fixture
def file(folder: Path) -> Iterator[SpoolFile]:
    with contextlib.closing(SpoolFile(folder)) as opened:
        yield opened


def spooled(body: bytes = b"{}", *, mark: LedgerMark = OURS, version: str | None = None) -> Spooled:
    receipt = Receipt(received_at=minutes(next(_numbers)), version=version)
    return Spooled(ledger_mark=mark, event_id=uuid4(), receipt=receipt, body=body)


def bodies(file: SpoolFile, mark: LedgerMark = OURS) -> list[bytes]:
    return [one.delivery.body for one in file.read(mark, deliveries_max=10_000)]


# On disk


def test_what_was_put_is_read_in_order_byte_for_byte(folder: Path, file: SpoolFile) -> None:
    deliveries = [spooled(bytes([number]) * number, version=f"v{number}\x00ü") for number in range(250)]
    assert file.put(deliveries[:100]) + file.put(deliveries[100:]) == 250
    with contextlib.closing(SpoolFile(folder)) as another:
        read = another.read(OURS, deliveries_max=1_000)
        assert [one.delivery for one in read] == deliveries
        state = another.state()
    assert (state.deliveries, state.waiting, state.set_aside) == (250, {OURS: 250}, {})
    assert state.oldest_received_at == deliveries[0].receipt.received_at
    assert state.level == "in use"


def test_nobody_else_may_read_it(folder: Path, file: SpoolFile) -> None:
    file.put([spooled()])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert modes.pop("spool") == 0o700
    assert {"deliveries.sqlite", "deliveries.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_every_commit_is_synced_to_disk_before_it_is_answered(file: SpoolFile) -> None:
    assert file.put([]) == 0
    connection = file._connection  # noqa: SLF001  # what SQLite promises hangs on two settings of the connection
    full = 2
    assert connection.execute("PRAGMA synchronous").fetchone() == (full,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_read_has_a_bound_which_one_delivery_alone_may_pass(file: SpoolFile) -> None:
    large = bytes(3 * 1024**2)
    file.put([spooled(large), spooled(large), spooled(b"small")])
    assert bodies(file) == [large]
    file.drop(OURS, [file.read(OURS, deliveries_max=1)[0].spool_id])
    assert bodies(file) == [large, b"small"]


def test_what_was_dropped_is_gone_and_the_disk_gets_its_room_back(folder: Path, file: SpoolFile) -> None:
    file.put([spooled(b"secret words" * 1_000) for _ in range(300)])
    first = file.read(OURS, deliveries_max=300)
    file.put([spooled(b"stays")])
    file.drop(OURS, [one.spool_id for one in first])
    assert (bodies(file), file.state().waiting) == ([b"stays"], {OURS: 1})
    while file.shrink():
        pass
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    assert not any(b"secret words" in path.read_bytes() for path in folder.iterdir())


def test_a_writer_killed_at_any_moment_leaves_all_it_has_told_of_and_nothing_by_halves(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, "a", "1000000", str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout
        told = list(itertools.islice(writer.stdout, KILLED_AFTER))
        writer.kill()
        told += writer.stdout.readlines()
    told_whole = [line.strip() for line in told if line.endswith(b"\n")]
    assert len(told_whole) >= KILLED_AFTER
    with contextlib.closing(SpoolFile(folder)) as file:
        kept = bodies(file)
        assert kept[: len(told_whole)] == told_whole
        assert len(kept) - len(told_whole) <= 1, "at most the one that was on its way"
        assert file.state().waiting == {OURS: len(kept)}


def test_several_processes_write_into_one_file_each_in_its_own_order(folder: Path) -> None:
    names = [f"writer{number}" for number in range(WRITERS)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(WRITES_EACH), str(folder)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        for name in names
    ]
    assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    with contextlib.closing(SpoolFile(folder)) as file:
        kept = [body.decode() for body in bodies(file)]
        assert file.state().deliveries == len(kept) == WRITERS * WRITES_EACH
    for name in names:
        assert [body for body in kept if body.startswith(name)] == [f"{name} {number}" for number in range(WRITES_EACH)]


def test_every_statement_is_sqlites(file: SpoolFile) -> None:
    connection = file._connection  # noqa: SLF001  # with the tables that the statements are about
    for statement in SQL.values():
        assert connection.execute(f"EXPLAIN {statement}", defaultdict(int)).fetchall()


# What stands in the way


@pytest.mark.parametrize(
    "bounds",
    [Bounds(deliveries_max=10), Bounds(size_bytes_max=28 * 1024 + 10 * (2_048 + 512))],
    ids=["deliveries", "bytes"],
)
def test_what_has_no_room_is_refused_and_what_came_before_it_is_kept(folder: Path, bounds: Bounds) -> None:
    with contextlib.closing(SpoolFile(folder, bounds=bounds)) as file:
        kept = file.put([spooled(bytes(2_048)) for _ in range(50)])
        assert kept == len(bodies(file)) in range(5, 11)
        assert file.put([spooled(bytes(2_048)) for _ in range(50)]) == 0
        assert file.state().level == "full"
        file.drop(OURS, [one.spool_id for one in file.read(OURS, deliveries_max=5)])
        assert file.put([spooled(bytes(2_048))]) == 1


def test_a_reserve_of_the_disk_is_left_to_others(folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder.anchor).free
    with contextlib.closing(SpoolFile(folder, bounds=Bounds(free_bytes_min=2 * free_bytes))) as file:
        assert file.put([spooled()]) == 0
        assert file.state().level == "full"


def test_the_level_warns_before_it_is_full() -> None:
    bounds = Bounds(size_bytes_max=1_000, deliveries_max=100, free_bytes_min=50)

    def level(waiting: int = 0, set_aside: int = 0, size: int = 0, free: int = 10_000) -> str:
        return level_of(bounds, waiting=waiting, set_aside=set_aside, size_bytes=size, free_bytes=free)

    assert [level(), level(1), level(0, 1)] == ["empty", "in use", "empty"]
    assert [level(79), level(80), level(99), level(100), level(60, 40)] == [
        *("in use", "nearly full", "nearly full", "full", "full")
    ]
    assert [level(1, size=799), level(1, size=800), level(1, size=1_000)] == ["in use", "nearly full", "full"]
    assert [level(free=100), level(free=60), level(free=50), level(free=0)] == ["empty", "nearly full", "full", "full"]


def test_a_file_that_was_taken_away_keeps_nothing_and_says_so(folder: Path, file: SpoolFile) -> None:
    assert file.put([spooled()]) == 1
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        file.put([spooled()])


@pytest.mark.parametrize("fault", ["garbage", "newer", "a link", "no folder"])
def test_a_spool_that_cannot_be_used_says_what_to_do(folder: Path, fault: str) -> None:
    path = folder / "deliveries.sqlite"
    folder.parent.mkdir()
    if fault == "no folder":
        folder.write_text("a file stands there")
    elif fault == "a link":
        folder.mkdir()
        path.symlink_to("/dev/null")
    elif fault == "garbage":
        folder.mkdir()
        path.write_bytes(b"not a database " * 1_000)
    else:
        SpoolFile(folder).close()
        with contextlib.closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 2")
    with pytest.raises(SpoolUnusable, match="let BOOKING_LEDGER_HOME name a folder on a local disk"):
        SpoolFile(folder)


def test_the_ledgers_of_a_database_are_remembered_by_its_name(folder: Path, file: SpoolFile) -> None:
    main = KnownLedger(ledger_id=MAIN, name="main", ledger_mark=OURS)
    file.remember("one", [main])
    file.remember("another", [KnownLedger(ledger_id=MAIN, name="main", ledger_mark=THEIRS)])
    file.remember("one", [main])
    with contextlib.closing(SpoolFile(folder)) as another:
        assert another.recall("one") == [main]
        assert another.recall("nobody's") == []


# Many at once


class Counting(SpoolFile):
    """Counts its commits."""

    commits = 0

    def put(self, deliveries: Sequence[Spooled]) -> int:
        self.commits += 1
        return super().put(deliveries)


class Failing(SpoolFile):
    def put(self, deliveries: Sequence[Spooled]) -> int:
        raise sqlite3.OperationalError(f"disk I/O error with {len(deliveries)} deliveries")


def some_ledger() -> Ledger:
    return Ledger(ledger_id=MAIN, name="main", event_id_key=bytes(32))


async def put(spool: Spool, ledger: Ledger, body: bytes) -> None:
    await spool.put(ledger, body, Receipt(received_at=NOON), fresh_id=uuid4())


async def test_many_at_once_share_a_few_commits_and_all_are_kept_in_order(folder: Path) -> None:
    file, ledger = Counting(folder), some_ledger()
    async with Spool(file).running() as spool:
        await asyncio.gather(*(put(spool, ledger, str(number).encode()) for number in range(2_500)))
        assert (await spool.state()).deliveries == 2_500
    assert file.commits <= 5
    with contextlib.closing(SpoolFile(folder)) as read:
        assert bodies(read, ledger_mark(ledger)) == [str(number).encode() for number in range(2_500)]


async def test_of_many_at_once_only_those_without_room_are_refused(folder: Path) -> None:
    async with Spool(SpoolFile(folder, bounds=Bounds(deliveries_max=30))).running() as spool:
        puts = (put(spool, some_ledger(), b"{}") for _ in range(50))
        answers = await asyncio.gather(*puts, return_exceptions=True)
        assert answers[:30] == [None] * 30
        assert all(isinstance(answer, SpoolRefused) for answer in answers[30:])
        assert (await spool.state()).deliveries == 30


async def test_a_disk_that_fails_is_told_to_everybody_who_waits(folder: Path) -> None:
    async with Spool(Failing(folder)).running() as spool:
        puts = (put(spool, some_ledger(), b"{}") for _ in range(3))
        answers = await asyncio.gather(*puts, return_exceptions=True)
    assert {str(answer) for answer in answers} == {str(SpoolRefused("OperationalError"))}


class Stuck(SpoolFile):
    """Its disk answers nobody until it is let go."""

    let_go = threading.Event()

    def put(self, deliveries: Sequence[Spooled]) -> int:
        self.let_go.wait(10)
        return super().put(deliveries)


async def test_a_disk_that_does_not_answer_keeps_nobody_waiting(folder: Path) -> None:
    file = Stuck(folder)
    async with Spool(file, put_seconds_max=0.05).running() as spool:
        with pytest.raises(SpoolRefused, match="the disk does not answer"):
            await put(spool, some_ledger(), b"{}")
        file.let_go.set()
        await put(spool, some_ledger(), b"{}")


async def test_what_came_before_the_end_is_kept_and_what_comes_after_is_refused(folder: Path) -> None:
    spool, ledger = Spool(SpoolFile(folder)), some_ledger()
    async with spool.running():
        puts = [asyncio.create_task(put(spool, ledger, b"{}")) for _ in range(1_200)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*puts) == [None] * 1_200
    with pytest.raises(SpoolRefused, match="shutting down"):
        await put(spool, ledger, b"{}")
