"""`booking-ledger checkpoints`: keygen, create."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.bookings import find_ledger, ledger_option
from api.cli.context import json_option, print_json, progress_bar, with_connection
from ledger.errors import BadParameter, BadSetting
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.notes import VerifierKey
    from ledger.postgres import Connection
    from ledger.publishing import Written

KEY_FILE_MODE = 0o600

public_key_option = click.option(
    "--public-key", metavar="KEY", help="Whose signature counts; without it that of CHECKPOINT_KEY."
)


@click.group()
def checkpoints() -> None:
    """Signed statements of what the log is now, to be kept where nobody of the database can reach them.

    `verify --against` finds any later change to what one covers; `proof` shows to others that a booking was in it.
    """


@checkpoints.command()
@click.option("--name", default="booking-ledger", show_default=True, help="Who signs, without spaces or plus signs.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="checkpoint.key", show_default=True, help="Where the key goes."
)
def keygen(*, name: str, out: Path) -> None:
    """Make a key that signs, and print its public half.

    Let CHECKPOINT_KEY_FILE name the file. Give the public half to whoever should be able to check.
    """
    import secrets

    from ledger.notes import SEED_BYTES, SigningKey

    try:
        key = SigningKey(name, secrets.token_bytes(SEED_BYTES))
    except ValueError as error:
        raise BadParameter("--name", f"cannot be {name!r}: {error}") from None
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    except FileExistsError:
        raise BadParameter(
            "--out", f"must not name {str(out)!r}, which is there: a key in use is never replaced"
        ) from None
    except OSError as error:
        raise BadParameter("--out", f"names {str(out)!r}, which cannot be written ({error.strerror})") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key.secret_text() + "\n")
    click.echo(str(key.verifier))


@checkpoints.command()
@ledger_option
@click.option("--output", metavar="PATH", help="A file, a folder, or - for standard output; else CHECKPOINT_FOLDER.")
@click.option("--command", metavar="COMMAND", help="Takes it on standard input; else CHECKPOINT_COMMAND.")
@json_option
def create(*, ledger_name: str, output: str | None, command: str | None, as_json: bool) -> None:
    """Verify the log, and sign what it is now.

    A file or a folder holds the last checkpoint, and the new one has to continue it: ends with 1 and signs nothing
    where the log no longer is what was signed.
    """
    from ledger.errors import LogContradicted

    async def work(connection: "Connection", settings: Settings) -> "Written":
        from datetime import UTC, datetime

        from ledger.publishing import signing_key, write_checkpoint

        if settings.checkpoint_key is None:
            raise BadSetting("CHECKPOINT_KEY", "must be set; booking-ledger checkpoints keygen makes one")
        folder, file = _places(settings, ledger_name, output)
        words = settings.checkpoint_command if command is None else _words(command)
        if output is None and folder is None and not words:
            raise BadParameter("--output", "must be given, or CHECKPOINT_FOLDER or CHECKPOINT_COMMAND set")
        ledger = await find_ledger(connection, ledger_name)
        key, now = signing_key(settings.checkpoint_key), datetime.now(UTC)
        with progress_bar("reading") as progress:
            return await write_checkpoint(
                connection, ledger, key=key, now=now, folder=folder, file=file, command=words, progress=progress
            )

    try:
        written = with_connection(work)
    except LogContradicted as error:
        click.echo(f"booking-ledger: {error}", err=True)
        sys.exit(1)
    if output == "-":
        click.echo(written.note, nl=False)
    elif as_json:
        print_json({"position": written.checkpoint.position, "is_new": written.is_new, "note": written.note})
    else:
        new = "Signed" if written.is_new else "Nothing new since"
        click.echo(f"{new}: {written.checkpoint.position:,} events of {written.checkpoint.origin}.")


def verifier_key(settings: Settings, given: str | None) -> "VerifierKey":
    """Whose signatures count. Raises BadParameter, BadSetting."""
    from ledger.notes import read_verifier_key
    from ledger.publishing import signing_key

    if given is not None:
        try:
            return read_verifier_key(given.strip())
        except ValueError as error:
            raise BadParameter("--public-key", f"is the line that `checkpoints keygen` prints ({error})") from None
    if settings.checkpoint_key is None:
        raise BadParameter("--public-key", "must be given where CHECKPOINT_KEY is not set")
    return signing_key(settings.checkpoint_key).verifier


def _places(settings: Settings, ledger_name: str, output: str | None) -> tuple[Path | None, Path | None]:
    """Folder and file, one of them at most."""
    if output is None:
        return settings.checkpoint_folder and settings.checkpoint_folder / ledger_name, None
    path = None if output == "-" else Path(output)
    return (path, None) if path is not None and path.is_dir() else (None, path)


def _words(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError:
        raise BadParameter("--command", "has a quotation mark that is not closed") from None
