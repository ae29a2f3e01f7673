"""`booking-ledger demo` as somebody tries it: it shows everything, needs no network, and leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.serving import COMMAND, environment, free_port

DEMO_SECONDS_MAX = 120
EXIT_INTERRUPTED = 1
"""Click's, where Ctrl-C comes in the moment before the demo begins to wait for it."""

# A network of its own with nothing in it but the loopback; a user of one's own goes with it where we are not root.
ALONE = f"""
import ctypes, fcntl, os, socket, struct, sys
uid, gid, libc = os.geteuid(), os.getegid(), ctypes.CDLL(None, use_errno=True)
if libc.unshare({0x40000000:#x} | (0 if uid == 0 else {0x10000000:#x})):
    sys.exit("no network of its own: " + os.strerror(ctypes.get_errno()))
if uid:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{{uid}} {{uid}} 1"), ("gid_map", f"{{gid}} {{gid}} 1")):
        with open(f"/proc/self/{{name}}", "w") as file:
            file.write(text)
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError:
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit("the network is still there")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where temporary files go; any account may enter it."""
    for place in (tmp_path, *tmp_path.parents[:2]):
        with suppress(PermissionError):
            place.chmod(place.stat().st_mode | 0o011)
    return tmp_path


def surroundings(folder: Path) -> dict[str, str]:
    """The demo must make do with these; what it makes, it makes in `folder`."""
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_RUNTIME_DIR": ""}
    return environment({**home, "TMPDIR": str(folder), "PORT": str(free_port())})


def processes_of(*marks: str) -> list[str]:
    """The command lines of processes that mention one of these in their words or their surroundings."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            told = words + (process / "environ").read_bytes()
            if int(process.name) != os.getpid() and any(mark.encode() in told for mark in marks):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def assert_nothing_is_left(folder: Path, *elsewhere: Path) -> None:
    assert sorted(folder.iterdir()) == []
    assert [place for place in elsewhere if place.exists()] == []
    assert processes_of(str(folder), *map(str, elsewhere)) == []


def assert_everything_was_shown(told: str) -> None:
    posted = re.search(r"([\d,]+) signed webhooks posted to http://127\.0\.0\.1:\d+\S+: ([\d,]+) answered 200\n", told)
    assert posted, told
    assert posted[1] == posted[2], "every one of them"
    today = told.index("\nToday, ")
    assert "start (UTC)" in told[today:]
    assert told.count("scheduled", today) + told.count("completed", today) > 1
    history = told.index("\nHistory of ", today)
    assert "BOOKING_CREATED" in told[history:]
    assert "BOOKING_RESCHEDULED" in told[history:]
    assert re.search(r"status: \w+ → rescheduled\n", told[history:])
    assert re.search(r"[\d,]+ events make [\d,]+ bookings; the read models are 0 events behind", told)
    assert re.search(r"hash chain holds over [\d,]+ events", told)


def test_the_demo_shows_everything_ends_with_0_and_leaves_nothing_behind(folder: Path) -> None:
    shown = subprocess.run(
        [COMMAND, "demo", "--exit"],
        env=surroundings(folder),
        capture_output=True,
        encoding="utf-8",
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert_everything_was_shown(shown.stdout)
    assert "Traceback" not in shown.stderr
    assert_nothing_is_left(folder)


def test_the_demo_needs_no_network(folder: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", ALONE, COMMAND, "demo", "--exit", "--bookings", "40"],
        env=surroundings(folder),
        capture_output=True,
        encoding="utf-8",
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    if "no network of its own" in shown.stderr:
        pytest.skip(shown.stderr)
    assert shown.returncode == 0, shown.stderr
    assert_everything_was_shown(shown.stdout)
    assert_nothing_is_left(folder)


@contextmanager
def standing_demo(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A demo that has shown everything and waits, and what it said."""
    with subprocess.Popen(
        [COMMAND, "demo", "--bookings", "40"],
        env=surroundings(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        try:
            yield demo, said
        finally:
            demo.terminate()
            demo.wait(DEMO_SECONDS_MAX)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_from_outside_leaves_nothing_behind_either(folder: Path, ending: signal.Signals) -> None:
    with standing_demo(folder) as (demo, said):
        [home] = folder.glob("booking-ledger-demo-*/home")
        data = (home / "postgres").resolve()
        assert (data / "PG_VERSION").exists()
        shown = re.search(r"curl -H 'Authorization: Bearer (\S+)' '(http://127\.0\.0\.1:\d+/api/\S+)'", said)
        assert shown, said
        answer = httpx.get(shown[2], headers={"authorization": f"Bearer {shown[1]}"}, trust_env=False)
        assert len(answer.json()["bookings"]) == 3
        demo.send_signal(ending)
        assert demo.wait(DEMO_SECONDS_MAX) in (0, 128 + ending, EXIT_INTERRUPTED)
    assert_nothing_is_left(folder, data, home)


def test_a_demo_in_a_folder_that_nobody_else_may_enter_leaves_nothing_elsewhere(folder: Path) -> None:
    """As root the database then lies where the account that runs it can reach it."""
    private = folder / "private"
    private.mkdir(0o700)
    with standing_demo(private) as (demo, _):
        [home] = private.glob("booking-ledger-demo-*/home")
        data = (home / "postgres").resolve()
        assert (data / "PG_VERSION").exists()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEMO_SECONDS_MAX) in (0, EXIT_INTERRUPTED)
    try:
        assert_nothing_is_left(private, data, home)
    finally:
        shutil.rmtree(data.parent, ignore_errors=True)


def test_two_demos_at_once_do_not_meet(folder: Path) -> None:
    with standing_demo(folder) as (_, said):
        [port] = ports_of(said)
        shown = subprocess.run(
            [COMMAND, "demo", "--exit", "--bookings", "40"],
            env=surroundings(folder) | {"PORT": port},
            capture_output=True,
            encoding="utf-8",
            timeout=DEMO_SECONDS_MAX,
            check=False,
        )
    assert shown.returncode == 0, shown.stderr
    for one in (said, shown.stdout):
        assert_everything_was_shown(one)
    assert ports_of(shown.stdout).isdisjoint({port})
    assert_nothing_is_left(folder)


def ports_of(said: str) -> set[str]:
    return set(re.findall(r"http://127\.0\.0\.1:(\d+)", said))
