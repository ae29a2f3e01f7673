"""The command line as a process: help at once, sentences instead of tracebacks, JSON for programs."""

import contextlib
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import pytest_asyncio

from api.cli.main import SUBCOMMANDS, cli
from ledger.postgres import open_pool
from projections.runner import Runner
from tests.builders import instant, minutes, webhook
from tests.serving import COMMAND, KEY, SECRET, connected, environment, file, free_port, run

HEAVY = ("litestar", "uvicorn", "asyncpg", "rich")
UNREACHABLE = "postgresql://me:hunter2@127.0.0.1:1/ledger"
HOSTILE_NAME = "\x1b]0;pwned\x07\x1b[2J\x9b31m\x08\x7f\u202eada[bold]\n\rx"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Everything but tab and line feed that a terminal obeys."""

WORKING = {"CAL_COM_WEBHOOK_SECRET": SECRET, "INTERNAL_API_KEY": KEY}


# Help


def every_command() -> Iterator[tuple[str, ...]]:
    context = click.Context(cli)
    yield ()
    for name in SUBCOMMANDS:
        command = cli.get_command(context, name)
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)


def test_the_commands_of_the_contract_are_there() -> None:
    commands = set(every_command())
    assert commands >= {("demo",), ("serve",), ("migrate",), ("doctor",), ("verify",)}
    assert commands >= {("bookings", "list"), ("bookings", "show"), ("bookings", "history")}


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_help_is_there_at_once_without_anything_heavy(words: tuple[str, ...]) -> None:
    script = f"""
import atexit, sys
from api.cli.main import main
atexit.register(lambda: print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr))
sys.argv[0] = "booking-ledger"
main()
"""
    command = [sys.executable, "-c", script, *words, "--help"]
    helped = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    assert helped.stderr.split() == []
    assert helped.stdout.startswith("Usage: " + " ".join(["booking-ledger", *words]))
    assert "--help" in helped.stdout


def test_the_top_help_names_every_command_and_the_exit_codes() -> None:
    helped = run("--help")
    assert [name for name in SUBCOMMANDS if f"\n  {name} " not in helped.stdout] == []
    assert "Exit codes: 0 fine, 1 a problem was found, 2 wrong use" in " ".join(helped.stdout.split())
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version").stdout)


WRONG_USES = [["nonsense"], ["serve", "-x"], ["bookings", "show"], ["bookings", "list", "--limit", "0"]]


@pytest.mark.parametrize("words", WRONG_USES, ids=" ".join)
def test_wrong_use_ends_with_2(words: list[str]) -> None:
    used = run(*words)
    assert (used.returncode, used.stdout) == (2, "")
    assert "Usage: booking-ledger" in used.stderr


# doctor


@contextlib.contextmanager
def taken_port() -> Iterator[str]:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        yield str(taker.getsockname()[1])


def examined(**settings: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and failed checks of `doctor --json`; the plain form says the same in a FAIL line each."""
    as_json = run("doctor", "--json", **settings)
    told = msgspec.json.decode(as_json.stdout)
    failed = [check for check in told["checks"] if not check["ok"]]
    assert told["ok"] == (not failed)
    plain = run("doctor", **settings)
    lines = [line for line in plain.stdout.splitlines() if not line.startswith("ok ")]
    assert [line.split(maxsplit=2) for line in lines] == [["FAIL", check["name"], check["detail"]] for check in failed]
    assert (plain.stderr, as_json.stderr, plain.returncode) == ("", "", as_json.returncode)
    assert "hunter2" not in plain.stdout + as_json.stdout
    return as_json.returncode, failed


def test_a_doctor_who_finds_nothing_says_so(durable_database: str) -> None:
    assert examined(**WORKING, DATABASE_URL=durable_database, PORT=str(free_port())) == (0, [])


def test_a_doctor_finds_nothing_wrong_where_serve_would_set_everything_up_by_itself() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # for root: the account that runs PostgreSQL has to enter
        assert examined(**WORKING, BOOKING_LEDGER_HOME=f"{folder}/home", PORT=str(free_port())) == (0, [])


AILMENTS: dict[str, tuple[dict[str, str], str, str]] = {
    "no secret": ({"CAL_COM_WEBHOOK_SECRET": ""}, "secret", "set CAL_COM_WEBHOOK_SECRET"),
    "a database that is not there": ({"DATABASE_URL": UNREACHABLE}, "database", "connection refused"),
    "a database URL that is none": (
        {"DATABASE_URL": "mysql://me:hunter2@x/y"},
        "settings",
        "must begin with postgres://",
    ),
    "a setting nobody knows": ({"BOOKING_LEDGER_PROT": "1"}, "settings", "BOOKING_LEDGER_PROT is not a setting"),
    "a port that is none": ({"PORT": "http"}, "settings", "PORT must be a whole number"),
    "no key for other machines": ({"HOST": "0.0.0.0", "INTERNAL_API_KEY": ""}, "key", "INTERNAL_API_KEY must be set"),
}


@pytest.mark.parametrize("name", AILMENTS)
def test_a_doctor_names_what_is_wrong_in_one_line_and_what_to_do(durable_database: str, name: str) -> None:
    settings, check, advice = AILMENTS[name]
    code, failed = examined(**{**WORKING, "DATABASE_URL": durable_database, "PORT": str(free_port()), **settings})
    assert code == 1
    assert [one["name"] for one in failed] == [check]
    assert advice in failed[0]["detail"]


def test_a_doctor_sees_that_the_port_is_taken(durable_database: str) -> None:
    with taken_port() as port:
        code, [failed] = examined(**WORKING, DATABASE_URL=durable_database, PORT=port)
    assert (code, failed["name"]) == (1, "address")
    assert failed["detail"] == f"127.0.0.1:{port} is taken by another program; set PORT to a free one."


def test_a_doctor_sees_what_serve_would_refuse_about_a_database(empty_database: str) -> None:
    code, failed = examined(**WORKING, DATABASE_URL=empty_database, PORT=str(free_port()))
    assert (code, [check["name"] for check in failed]) == (1, ["durable", "schema"])
    assert "fsync" in failed[0]["detail"]
    assert "booking-ledger migrate" in failed[1]["detail"]


# serve


def assert_refused(settings: dict[str, str], *words: str) -> None:
    """`serve` does not start: one sentence on standard error with these words, and exit code 2."""
    refused = run("serve", **{**WORKING, "PORT": str(free_port()), **settings})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("booking-ledger: ")
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert [word for word in words if word not in refused.stderr] == []
    assert "hunter2" not in refused.stderr


def test_serve_refuses_what_it_cannot_serve_from(cluster: str, database: str, durable_cluster: str) -> None:
    assert_refused({"DATABASE_URL": UNREACHABLE}, "connection refused", "check host, port, user")
    assert_refused({"DATABASE_URL": database}, "fsync = off", "ALTER SYSTEM SET fsync = on")
    assert_refused({"DATABASE_URL": durable_cluster}, "booking-ledger migrate")
    assert_refused({"DATABASE_URL": cluster.replace("/booking_ledger?", "/nowhere?")}, "the database does not exist")


def test_serve_refuses_settings_that_would_harm(durable_database: str) -> None:
    fine = {"DATABASE_URL": durable_database}
    for host in ("0.0.0.0", "::"):
        assert_refused({**fine, "HOST": host, "INTERNAL_API_KEY": ""}, "INTERNAL_API_KEY must be set", host)
    assert_refused({**fine, "BOOKING_LEDGER_PORT": "1"}, "BOOKING_LEDGER_PORT is not a setting", "PORT")
    assert_refused({**fine, "CAL_COM_WEBHOOK_SECRET": "", "CAL_COM_WEBHOOK_SECRET_FILE": "/nowhere"}, "/nowhere")
    assert_refused({**fine, "HOST": "nowhere.invalid", "INTERNAL_API_KEY": KEY}, "HOST names no address")
    with taken_port() as port:
        assert_refused({**fine, "PORT": port}, f"127.0.0.1:{port} is taken", "set PORT")


# migrate


def test_migrating_twice_applies_everything_once(empty_database: str) -> None:
    names = sorted(path.stem for path in Path(__file__).parents[1].glob("migrations/*.sql"))
    first, second = (run("migrate", DATABASE_URL=empty_database) for _ in range(2))
    assert (first.returncode, first.stdout.split("\n")[:-1]) == (0, [f"applied {name}" for name in names])
    assert (second.returncode, second.stdout) == (0, "The schema is up to date.\n")
    assert msgspec.json.decode(run("migrate", "--json", DATABASE_URL=empty_database).stdout) == {"applied": []}


# bookings


def booking(uid: str, *, at: int, **fields: object) -> bytes:
    times = {"startTime": instant(minutes(60)), "endTime": instant(minutes(90))}
    trigger = "BOOKING_RESCHEDULED" if "rescheduleUid" in fields else "BOOKING_CREATED"
    return webhook(trigger, {"uid": uid, "title": f"Visit {uid}", **times, **fields}, at=minutes(at))


@pytest_asyncio.fixture
async def filled(database: str) -> AsyncIterator[str]:
    """A database with a chain of two bookings, a cancelled one, and one whose booker is hostile."""
    attendees = [{"email": "\x1b[31mada@example.com", "name": HOSTILE_NAME}]
    async with connected(database) as connection, await open_pool(database) as pool:
        await file(
            connection,
            booking("old", at=0, bookingId=41),
            booking("new", at=5, bookingId=42, rescheduleUid="old", rescheduleId=41),
            booking("gone", at=1),
            webhook("BOOKING_CANCELLED", {"uid": "gone", "cancellationReason": HOSTILE_NAME}, at=minutes(2)),
            booking("hostile", at=3, attendees=attendees, organizer={"name": HOSTILE_NAME, "email": "x"}).replace(
                b'"Visit hostile"', msgspec.json.encode(HOSTILE_NAME)
            ),
            webhook(HOSTILE_NAME, {"uid": "hostile"}, at=minutes(4)),
        )
        await Runner(pool, database).catch_up()
    yield database


def test_bookings_are_listed_shown_and_told_for_programs(filled: str) -> None:
    listed = msgspec.json.decode(run("bookings", "list", "--json", DATABASE_URL=filled).stdout)
    assert {row["cal_com_event_id"]: row["status"] for row in listed} == {
        "gone": "cancelled",
        "hostile": "scheduled",
        "new": "scheduled",
        "old": "rescheduled",
    }
    narrowed = run(
        "bookings", "list", "--json", "--status", "cancelled", "--status", "rescheduled", DATABASE_URL=filled
    )
    assert [row["cal_com_event_id"] for row in msgspec.json.decode(narrowed.stdout)] == ["gone", "old"]
    for name in ("old", "new", "41", "42"):
        shown = msgspec.json.decode(run("bookings", "show", name, "--json", DATABASE_URL=filled).stdout)
        assert (shown["booking"]["cal_com_event_id"], shown["chain"]) == ("new", ["old", "new"])
    history = msgspec.json.decode(run("bookings", "history", "old", "--json", DATABASE_URL=filled).stdout)
    assert [(entry["uid"], entry["trigger"]) for entry in history] == [
        ("old", "BOOKING_CREATED"),
        ("old", "BOOKING_RESCHEDULED"),
        ("new", "BOOKING_RESCHEDULED"),
    ]


def test_bookings_are_listed_shown_and_told_for_people(filled: str) -> None:
    def told(*words: str) -> str:
        return run("bookings", *words, DATABASE_URL=filled).stdout

    assert [line.split()[2] for line in told("list").splitlines() if "2026-12-01" in line] == ["30"] * 4
    assert told("list", "--attendee", "nobody@example.com").endswith("No bookings.\n")
    assert "was rescheduled; this is the booking that stands now" in told("show", "old")
    assert "old → new" in told("show", "41")
    history = told("history", "gone")
    assert "BOOKING_CANCELLED" in history
    assert "status: scheduled → cancelled" in history


HOSTILE_PLACES = [["list"], ["show", "hostile"], ["history", "hostile"], ["show", "gone"], ["history", "gone"]]


@pytest.mark.parametrize("words", HOSTILE_PLACES, ids=" ".join)
def test_control_characters_of_a_booker_never_reach_the_reader(filled: str, words: list[str]) -> None:
    printed = run("bookings", *words, DATABASE_URL=filled)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert CONTROL.findall(printed.stdout) == []
    assert "\ufffd" in printed.stdout, "shown, not obeyed"


@pytest.mark.parametrize("words", HOSTILE_PLACES[:3], ids=" ".join)
def test_a_terminal_obeys_our_colours_and_nothing_of_a_bookers(filled: str, words: list[str]) -> None:
    ours, theirs = pty.openpty()
    settings = environment({"DATABASE_URL": filled, "TERM": "xterm-256color"})
    del settings["NO_COLOR"]
    with subprocess.Popen([COMMAND, "bookings", *words], env=settings, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed: that is how Linux says it
            while piece := os.read(ours, 65_536):
                shown += piece
        os.close(ours)
        assert process.wait(60) == 0
    colours = re.compile(r"\x1b\[[0-9;]*m")
    assert colours.search(shown.decode())
    rest = colours.sub("", shown.decode()).replace("\r\n", "\n")
    assert CONTROL.findall(rest) == []
    assert b"\x1b[31m" + b"ada" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["bookings", "show", "nobody"],
        ["bookings", "history", "nobody"],
        ["bookings", "show", b"\xff\xfe"],
        ["bookings", "list", "--ledger", "nobody"],
        ["bookings", "list", "--status", "lost"],
        ["bookings", "show", "old", "--as-of", "once"],
        ["verify", "--ledger", "nobody"],
    ],
    ids=str,
)
def test_what_is_not_there_is_told_in_a_sentence(filled: str, words: list[str | bytes]) -> None:
    told = run(*words, DATABASE_URL=filled)
    assert (told.returncode, told.stdout) == (2, "")
    assert "Traceback" not in told.stderr
    assert told.stderr.strip()


def test_reading_commands_say_what_is_wrong_with_the_database(empty_database: str) -> None:
    for words in (["bookings", "list"], ["bookings", "show", "x"], ["verify"]):
        unmigrated = run(*words, DATABASE_URL=empty_database)
        assert (unmigrated.returncode, unmigrated.stdout) == (2, "")
        assert "run: booking-ledger migrate" in unmigrated.stderr
        away = run(*words, DATABASE_URL=UNREACHABLE)
        assert (away.returncode, away.stderr.count("\n"), "hunter2" in away.stderr) == (2, 1, False)


def test_a_reader_who_has_seen_enough_gets_no_traceback(filled: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        listing = subprocess.run(
            [COMMAND, "bookings", "list", "--json"],
            env=environment({"DATABASE_URL": filled}),
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert b"Traceback" not in listing.stderr
