"""Receipts of erasures, in a folder on another volume: a restored backup does not know who was erased since.

One file a ledger, one JSON line an erasure. A line names nobody: a person is known by a tag that only the ledger's own
key can make of an address, and that key is in the backup. What was erased for its age is named by stream.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from ledger.errors import ReceiptsUnusable
from ledger.vocabulary import StreamId


class ErasureReceipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`person_tag` in hexadecimal digits; `streams` only where there is none."""

    erasure_id: UUID
    ledger: str
    cause: Literal["request", "retention"]
    erased_at: datetime
    person_tag: str | None = None
    streams: tuple[StreamId, ...] = ()


def write_receipts(folder: Path, ledger_name: str, receipts: Iterable[ErasureReceipt]) -> None:
    """They are on disk for good. Raises ReceiptsUnusable."""
    lines = b"".join(msgspec.json.encode(receipt) + b"\n" for receipt in receipts)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _path(folder, ledger_name)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if _is_cut_off(descriptor):
                os.write(descriptor, b"\n")
            os.write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _make_durable(folder)
    except OSError as error:
        raise ReceiptsUnusable(folder, error.strerror or type(error).__name__) from error


def read_receipts(folder: Path, ledger_name: str) -> Sequence[ErasureReceipt]:
    """Each once; empty where there is no file. A line that was cut off by a crash is passed over.

    Raises ReceiptsUnusable, since whoever cannot read who was erased must not serve.
    """
    path = _path(folder, ledger_name)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        if not folder.is_dir():
            raise ReceiptsUnusable(folder, "it is not there")
    except OSError as error:
        raise ReceiptsUnusable(folder, error.strerror or type(error).__name__) from error
    found = {}
    for line in lines:
        try:
            receipt = msgspec.json.decode(line, type=ErasureReceipt)
        except msgspec.DecodeError:
            continue
        found[receipt.erasure_id] = receipt
    return list(found.values())


def _path(folder: Path, ledger_name: str) -> Path:
    return folder / f"{ledger_name}.jsonl"


def _is_cut_off(descriptor: int) -> bool:
    """Whether a crash has left the last line without its end."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
