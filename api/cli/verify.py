"""`booking-ledger verify`."""

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from api.cli.bookings import find_ledger, ledger_option
from api.cli.checkpoints import public_key_option, verifier_key
from api.cli.context import checked_connection, json_option, print_json, progress_bar, read_settings
from ledger.errors import BadParameter, EvidenceRefused
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.chain import Mark, Verification
    from ledger.checkpoints import Checkpoint
    from ledger.notes import VerifierKey
    from ledger.postgres import Connection
    from ledger.signatures import SignatureReport
    from ledger.store import Ledger


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint held against the log. `position` is None where the file is no checkpoint that counts."""

    file: str
    position: int | None
    holds: bool
    reason: str | None


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that `--json` prints; the last three only where they were asked for."""

    ok: bool
    events: int
    head: int
    first_bad_position: int | None
    checkpoints: list[Outcome] | None = None
    changed_within: tuple[int, int] | None = None
    signatures: "SignatureReport | None" = None


@click.command()
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A signed checkpoint, or a folder of them: the log still holds all that it covers.",
)
@click.option(
    "--from",
    "start",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed checkpoint: read only what came after it.",
)
@public_key_option
@click.option("--signatures", is_flag=True, help="Check Cal.com's own signature of every body once more, too.")
@ledger_option
@json_option
def verify(
    *,
    against: tuple[Path, ...],
    start: Path | None,
    public_key: str | None,
    signatures: bool,
    ledger_name: str,
    as_json: bool,
) -> None:
    """Prove that the log was not changed: recompute its hash chain.

    Reads every event of the log and computes its digest anew. Ends with 1 and names the first bad position where an
    event was changed, removed, added or moved. Who has the rights to rewrite the whole log can make a new chain for it:
    only --against, with a checkpoint that was kept elsewhere, finds that.
    """
    if against and start:
        raise click.UsageError("--against reads the whole log, --from only its end: give one of them.")

    async def work(dsn: str, connection: "Connection", settings: Settings) -> Told:
        from ledger.chain import verify_chain
        from ledger.ranges import verify_ranges

        ledger = await find_ledger(connection, ledger_name)
        with progress_bar("verifying") as progress:
            if against:
                checkpoints = _checkpoints(against, ledger, verifier_key(settings, public_key))
                told = await _compared(connection, ledger, *checkpoints, progress=progress)
            elif start:
                mark = _mark(start, ledger, verifier_key(settings, public_key))
                chain = await verify_chain(connection, ledger, start=mark, progress=progress)
                told = _told(chain, ok=chain.ok)
            else:
                chain = await verify_ranges(connection, dsn, ledger, progress=progress)
                told = _told(chain, ok=chain.ok)
        if not signatures:
            return told
        from ledger.signatures import check_signatures

        secrets = tuple(secret.reveal() for secret in settings.webhook_secrets)
        with progress_bar("checking signatures") as progress:
            report = await check_signatures(connection, ledger, secrets, progress=progress)
        return msgspec.structs.replace(told, ok=told.ok and report.ok, signatures=report)

    try:
        told = _with_database(work)
    except EvidenceRefused as error:
        click.echo(f"booking-ledger: {error}", err=True)
        sys.exit(1)
    if as_json:
        print_json(told)
    else:
        for line in _lines(told):
            click.echo(line)
    sys.exit(0 if told.ok else 1)


def _with_database(work: "Callable[[str, Connection, Settings], Awaitable[Told]]") -> Told:
    """What `work` returns; it is told the way to the database as well, for connections of its own."""
    from api.composition import database

    if sys.platform == "win32":
        from asyncio import run
    else:
        from uvloop import run

    settings = read_settings()

    async def connected(dsn: str) -> Told:
        async with checked_connection(dsn, settings) as connection:
            return await work(dsn, connection, settings)

    with database(settings) as dsn:
        return run(connected(dsn))


async def _compared(
    connection: "Connection",
    ledger: "Ledger",
    checkpoints: "Mapping[Path, Checkpoint]",
    refused: list[Outcome],
    *,
    progress: Callable[[int, int], None],
) -> Told:
    from ledger.checkpoints import compare

    compared = await compare(connection, ledger, list(checkpoints.values()), progress=progress)
    outcomes = [
        Outcome(file=str(file), position=one.checkpoint.position, holds=one.holds, reason=one.reason)
        for file, one in zip(checkpoints, compared.findings, strict=True)
    ]
    told = _told(compared.chain, ok=compared.ok and not refused)
    return msgspec.structs.replace(told, checkpoints=[*outcomes, *refused], changed_within=compared.changed_within)


def _mark(file: Path, ledger: "Ledger", key: "VerifierKey") -> "Mark":
    """Where the signed checkpoint leaves off. Raises EvidenceRefused."""
    from ledger.chain import Mark
    from ledger.checkpoints import read_checkpoint, refuse_foreign
    from ledger.publishing import read_evidence

    checkpoint = read_checkpoint(read_evidence(file), key)
    refuse_foreign(checkpoint, ledger)
    return Mark(position=checkpoint.position, digest=checkpoint.digest)


def _told(chain: "Verification", *, ok: bool) -> Told:
    return Told(ok=ok, events=chain.events, head=chain.head, first_bad_position=chain.first_bad_position)


def _checkpoints(
    paths: Iterable[Path], ledger: "Ledger", key: "VerifierKey"
) -> "tuple[dict[Path, Checkpoint], list[Outcome]]":
    """The checkpoints by file, and the files that are none of this log. Raises BadParameter without any of either.

    Of a folder that several logs share, the others' are passed over.
    """
    from ledger.checkpoints import origin_of, read_checkpoint, refuse_foreign
    from ledger.publishing import SUFFIX, read_evidence

    read: dict[Path, Checkpoint] = {}
    refused = []
    for path in paths:
        for file in sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]:
            try:
                checkpoint = read_checkpoint(read_evidence(file), key)
                if path.is_dir() and checkpoint.origin != origin_of(ledger):
                    continue
                refuse_foreign(checkpoint, ledger)
                read[file] = checkpoint
            except EvidenceRefused as error:
                refused.append(Outcome(file=str(file), position=None, holds=False, reason=error.reason))
    if not read and not refused:
        raise BadParameter("--against", "names a folder without a checkpoint of this log")
    return read, refused


def _lines(told: Told) -> Iterator[str]:
    """What is told to people."""
    if told.first_bad_position is None:
        after = told.head - told.events
        where = f" after position {after:,}" if after else ""
        yield f"The chain holds{where}: {told.events:,} events, none changed, removed or moved."
    else:
        yield f"The chain is broken at position {told.first_bad_position:,} of {told.head:,}."
    for outcome in told.checkpoints or ():
        name = outcome.file if outcome.position is None else f"{outcome.file} ({outcome.position:,} events)"
        yield f"Checkpoint {name}: {'holds' if outcome.holds else f'does not hold, {outcome.reason}'}."
    if told.changed_within is not None:
        first, last = told.changed_within
        yield f"Something was changed, removed or moved between positions {first:,} and {last:,}."
    if told.signatures is not None:
        found = told.signatures
        yield (
            f"Signatures: {found.right:,} right, {found.mismatched:,} wrong, "
            f"{found.without_signature:,} not kept, {found.unknown_secret:,} under a secret that is not configured, "
            f"{found.erased:,} of bodies that were erased."
        )
        if found.first_mismatched_position is not None:
            yield f"The first wrong one is at position {found.first_mismatched_position:,}."
