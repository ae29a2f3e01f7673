"""`booking-ledger proof` and `booking-ledger verify-proof`: one booking's history, for others to check."""

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from api.cli.bookings import find_ledger, ledger_option
from api.cli.checkpoints import public_key_option, verifier_key
from api.cli.context import json_option, print_json, progress_bar, read_settings, with_connection
from ledger.errors import BadParameter, EvidenceRefused, LogContradicted
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.checkpoints import Checkpoint
    from ledger.postgres import Connection
    from ledger.proofs import Proof, ProvenEvent
    from ledger.store import Ledger
    from ledger.vocabulary import StreamId


@click.command()
@click.argument("name", metavar="UID")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The signed checkpoint; else the last in CHECKPOINT_FOLDER.",
)
@public_key_option
@click.option("--output", type=click.File("wb"), default="-", help="A file instead of standard output.")
@ledger_option
def proof(*, name: str, checkpoint: Path | None, public_key: str | None, output: IO[bytes], ledger_name: str) -> None:
    """Prove to others what the log held of a booking, through all its reschedules.

    The file holds every event of the booking that the checkpoint covers, bodies included, and what it takes to check
    it with `verify-proof` and the public key alone. Whoever has the file can read the booking's bodies, and no others.
    """

    async def work(connection: "Connection", settings: Settings) -> "tuple[Proof, int]":
        from ledger.proofs import prove
        from ledger.publishing import read_evidence

        key, path = verifier_key(settings, public_key), checkpoint or _last_checkpoint(settings, ledger_name)
        ledger = await find_ledger(connection, ledger_name)
        stream_ids = await _streams(connection, ledger, name, settings)
        with progress_bar("reading") as progress:
            return await prove(connection, ledger, stream_ids, note=read_evidence(path), key=key, progress=progress)

    try:
        made, late = with_connection(work)
    except (EvidenceRefused, LogContradicted) as error:
        click.echo(f"booking-ledger: {error}", err=True)
        sys.exit(1)
    output.write(made.encoded())
    if late:
        click.echo(f"{late:,} later events are not covered by this checkpoint; create a new one for them.", err=True)


@click.command("verify-proof")
@click.argument("file", type=click.File("rb"))
@public_key_option
@json_option
def verify_proof(*, file: IO[bytes], public_key: str | None, as_json: bool) -> None:
    """Check a proof, without any database, and say what it proves.

    Ends with 1 and the reason where a single bit of it was changed.
    """
    from ledger.proofs import PROOF_BYTES_MAX, check_proof

    key = verifier_key(read_settings(), public_key)
    try:
        found, checkpoint = check_proof(file.read(PROOF_BYTES_MAX + 1), key)
    except EvidenceRefused as error:
        if as_json:
            print_json({"ok": False, "reason": error.reason})
        else:
            click.echo(str(error))
        sys.exit(1)
    if as_json:
        told = {"origin": checkpoint.origin, "position": checkpoint.position, "signed_at": checkpoint.signed_at}
        events = [_outline(found, event) for event in found.events]
        print_json({"ok": True, "reason": None, "key": str(key), "checkpoint": told, "events": events})
        return
    _tell(found, checkpoint, key.name)


def _tell(found: "Proof", checkpoint: "Checkpoint", signer: str) -> None:
    """What is proved; names of streams and topics come from senders, so nothing of theirs reaches the terminal raw."""
    from ledger.proofs import opened_body

    click.echo(
        f"Proved: these {len(found.events):,} events were among the first {checkpoint.position:,} of "
        f"{checkpoint.origin} when {signer} signed them, at {checkpoint.signed_at:%Y-%m-%d %H:%M:%S} UTC."
    )
    for event in found.events:
        click.echo(
            f"  {event.position:>10,}  {event.recorded_at:%Y-%m-%d %H:%M:%S}  "
            f"{_printable(event.topic)}  {_printable(event.stream_id)} {event.stream_version}"
        )
    erased = sum(opened_body(found, event) is None for event in found.events)
    if erased:
        click.echo(f"The bodies of {erased:,} of them were erased; that they were there is proved all the same.")
    click.echo("None of these streams had another event before the last one shown; later ones may exist.")


def _outline(found: "Proof", event: "ProvenEvent") -> dict[str, object]:
    """The event with its body opened: as text, in base64 where it is not UTF-8, null where it was erased."""
    import msgspec

    from ledger.proofs import opened_body

    told = {name: value for name, value in msgspec.structs.asdict(event).items() if name not in ("state", "path")}
    body = opened_body(found, event)
    try:
        return told | {"body": None if body is None else body.decode()}
    except UnicodeDecodeError:
        return told | {"body_base64": body}


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _last_checkpoint(settings: Settings, ledger_name: str) -> Path:
    from ledger.publishing import last_path

    path = None if settings.checkpoint_folder is None else last_path(settings.checkpoint_folder / ledger_name)
    if path is None:
        raise BadParameter("--checkpoint", "must be given where CHECKPOINT_FOLDER holds none")
    return path


async def _streams(connection: "Connection", ledger: "Ledger", name: str, settings: Settings) -> "set[StreamId]":
    """The streams of the booking's whole chain. Raises NotFound."""
    from projections.lookup import find_booking, find_streams

    found = await find_booking(connection, ledger, name, confirm_on_accept=settings.confirm_on_accept)
    return {stream_id for uid in found.chain for stream_id in await find_streams(connection, ledger, uid)}
