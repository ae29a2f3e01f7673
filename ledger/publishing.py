"""New checkpoints: made of a log that has just been verified, and taken to where the database cannot reach them.

One that contradicts the last would be worth less than none, so the log is read and checked in whole each time, about
5 seconds for a million events, and nothing is signed that does not continue what was signed before.
"""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ledger.checkpoints import Checkpoint, Comparison, checkpoint_text, compare, origin_of, read_checkpoint
from ledger.errors import BadSetting, CheckpointUndelivered, EvidenceRefused, LogContradicted
from ledger.notes import NOTE_BYTES_MAX, SigningKey, read_signing_key
from ledger.postgres import Connection
from ledger.settings import SECRET_NAMES, Secret
from ledger.store import Ledger

SUFFIX: Final = ".checkpoint"
COMMAND_SECONDS_MAX: Final = 60.0
COMPLAINT_CHARACTERS_MAX: Final = 200


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A signed note. `is_new`: False where the log has not grown since the last one, which is then this one."""

    checkpoint: Checkpoint
    note: str
    is_new: bool


async def write_checkpoint(
    connection: Connection,
    ledger: Ledger,
    *,
    key: SigningKey,
    now: datetime,
    folder: Path | None = None,
    file: Path | None = None,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Written:
    """The log as it is now has been signed, the note handed to `command` and put into `folder` or `file`.

    The folder is the ledger's own, in one that exists, and gets a file for each checkpoint; `file` holds the latest
    only. Either is worth something on another volume. The checkpoint that is there already is what the log has to
    continue. The command is started without a shell and without our secrets, and gets the note on standard input; its
    turn comes first, so that it is asked again where the writing fails. Raises LogContradicted, EvidenceRefused for a
    last checkpoint that `key` has not signed (a new key wants a new place), CheckpointUndelivered.
    """
    continues = await asyncio.to_thread(_standing, folder, file, key)
    written = await sign_log(connection, ledger, key=key, now=now, continues=continues, progress=progress)
    if written.is_new and command:
        await _hand_over(command, written.note)
    if written.is_new and folder is not None:
        await asyncio.to_thread(_put_in_folder, folder, written)
    if written.is_new and file is not None:
        await asyncio.to_thread(_put, file, written.note)
    return written


async def sign_log(
    connection: Connection,
    ledger: Ledger,
    *,
    key: SigningKey,
    now: datetime,
    continues: Sequence[Checkpoint] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Written:
    """A checkpoint of the log as it is now, which agrees with those before. Raises LogContradicted, EvidenceRefused."""
    compared = await compare(connection, ledger, continues, progress=progress)
    _refuse_contradiction(compared)
    for last in continues:
        if last.position == compared.end.position:
            return Written(checkpoint=last, note=key.sign(checkpoint_text(last)), is_new=False)
    checkpoint = Checkpoint(
        origin=origin_of(ledger),
        position=compared.end.position,
        root=compared.root,
        digest=compared.end.digest,
        signed_at=now,
    )
    return Written(checkpoint=checkpoint, note=key.sign(checkpoint_text(checkpoint)), is_new=True)


def signing_key(secret: Secret) -> SigningKey:
    """The key that CHECKPOINT_KEY holds. Raises BadSetting."""
    try:
        return read_signing_key(secret.reveal_text())
    except ValueError:
        rule = "must be the line that `booking-ledger checkpoints keygen` has written (its value is not shown)"
        raise BadSetting("CHECKPOINT_KEY", rule) from None


def last_path(folder: Path) -> Path | None:
    """The checkpoint with the greatest position; None in a folder without any, or that is not there."""
    found = [path for path in folder.glob(f"*{SUFFIX}") if path.stem.isascii() and path.stem.isdigit()]
    return max(found, key=lambda path: int(path.stem), default=None)


def read_evidence(path: Path) -> bytes:
    """What the file holds. Raises EvidenceRefused."""
    try:
        with path.open("rb") as file:
            return file.read(NOTE_BYTES_MAX + 1)
    except OSError as error:
        raise EvidenceRefused(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None


def _standing(folder: Path | None, file: Path | None, key: SigningKey) -> list[Checkpoint]:
    """What the next checkpoint has to continue. Raises EvidenceRefused."""
    places = [folder and last_path(folder), file if file and file.exists() else None]
    return [read_checkpoint(read_evidence(place), key.verifier) for place in places if place is not None]


def _refuse_contradiction(compared: Comparison) -> None:
    if not compared.chain.ok:
        raise LogContradicted(f"The chain is broken at position {compared.chain.first_bad_position:,}")
    for finding in compared.findings:
        if not finding.holds:
            raise LogContradicted(f"By the checkpoint of position {finding.checkpoint.position:,}, {finding.reason}")


def _put_in_folder(folder: Path, written: Written) -> None:
    """The note is a file of its own; an older one is never replaced. Raises CheckpointUndelivered."""
    path = folder / f"{written.checkpoint.position}{SUFFIX}"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CheckpointUndelivered(str(folder), error.strerror or type(error).__name__) from None
    if path.exists():
        raise CheckpointUndelivered(str(path), "there is another one already")
    _put(path, written.note)


def _put(path: Path, note: str) -> None:
    """The file holds the note, whole, also after a power failure. Raises CheckpointUndelivered."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckpointUndelivered(str(path), error.strerror or type(error).__name__) from None


async def _hand_over(command: Sequence[str], note: str) -> None:
    """The command has read the note and ended with 0. Raises CheckpointUndelivered."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_NAMES}
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, env=environment
        )
    except OSError as error:
        raise CheckpointUndelivered(command[0], error.strerror or type(error).__name__) from None
    try:
        async with asyncio.timeout(COMMAND_SECONDS_MAX):
            _, complaint = await process.communicate(note.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CheckpointUndelivered(command[0], f"no end within {COMMAND_SECONDS_MAX:g} s") from None
    if process.returncode != 0:
        said = "".join(c for c in complaint.decode(errors="replace") if c.isprintable())[-COMPLAINT_CHARACTERS_MAX:]
        raise CheckpointUndelivered(command[0], f"it ended with {process.returncode}: {said}")
