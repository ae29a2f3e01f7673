"""How an event's bytes lie in the log: `encoding` says it, row by row, so that old rows stay readable for ever.

Bodies are short and much alike, so they are compressed with a dictionary (api/bench/training.py), which makes of
them about an eighth. It is part of the format: `dictionaries/1.zstd` never changes, since what was compressed with it
could not be read any more.

A compressed body says how long it will be, and nothing longer than `COMPRESSED_BODY_BYTES_MAX` is believed: a row
that somebody put into the database cannot fill the memory of whoever reads it.
"""

import threading
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final

import zstandard

from ledger.errors import BodyUnreadable, OperatorError

COMPRESSED_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longer bodies are stored as long as they are."""
LEVEL: Final = 3
"""Of zstd. Measured: level 5 takes twice the time and saves another 30 bytes of 260."""
TABLE_LOG: Final = 13
"""So few entries, as a power of two, have the tables by which the dictionary is searched, that they stay in the
processor's cache while Postgres works on the batch before. Measured: a third of the time less, 5 bytes of 260 more."""
DICTIONARIES: Final = Path(__file__).parent / "dictionaries"


class Encoding(IntEnum):
    """What was done to the bytes before they were stored. Numbers are on disk: never reuse one."""

    RAW = 0
    ZSTD_1 = 1
    SEALED = 2
    SEALED_ZSTD_1 = 3


SEALED: Final = frozenset({Encoding.SEALED, Encoding.SEALED_ZSTD_1})
COMPRESSED: Final = frozenset({Encoding.ZSTD_1, Encoding.SEALED_ZSTD_1})


class _Contexts(threading.local):
    """What zstd works with: of each thread its own, since none may be used by two at once."""

    def __init__(self) -> None:
        dictionary = _dictionary()
        self.compress = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=dictionary, write_checksum=False, write_dict_id=False
        ).compress
        self.decompress = zstandard.ZstdDecompressor(dict_data=dictionary).decompress


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    dictionary = zstandard.ZstdCompressionDict(
        (DICTIONARIES / "1.zstd").read_bytes(), dict_type=zstandard.DICT_TYPE_FULLDICT
    )
    dictionary.precompute_compress(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            LEVEL, hash_log=TABLE_LOG, chain_log=TABLE_LOG
        )
    )
    return dictionary


@cache
def _contexts() -> _Contexts:
    return _Contexts()


def compress(body: bytes) -> bytes | None:
    """The body in less room; None where it takes no less, or is too long."""
    if len(body) > COMPRESSED_BODY_BYTES_MAX:
        return None
    compressed = _contexts().compress(body)
    return compressed if len(compressed) < len(body) else None


def decompress(compressed: bytes) -> bytes:
    """The body that was compressed. Raises BodyUnreadable for bytes that `compress` did not make."""
    try:
        if not 0 < zstandard.frame_content_size(compressed) <= COMPRESSED_BODY_BYTES_MAX:
            raise BodyUnreadable("it does not say how long it is, or too long")
        return _contexts().decompress(compressed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BodyUnreadable(str(error)) from None


def decode(encoding: int, stored: bytes) -> bytes:
    """The bytes that came in, of what is not sealed. Raises OperatorError for an encoding of a newer release."""
    if encoding == Encoding.RAW:
        return stored
    if encoding == Encoding.ZSTD_1:
        return decompress(stored)
    raise OperatorError(f"The log holds events in encoding {encoding}; install the release that wrote them.")
