"""The dictionary that bodies are compressed with, trained on made-up ones: no body of anybody's has ever gone in.

A dictionary that has been released is never trained anew, since what was compressed with it could not be read any
more. A better one is another file, with an encoding of its own (`ledger/codec.py`).

    python -m api.bench.training ledger/dictionaries/2.zstd
"""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import zstandard

from api.simulator.each_trigger import one_of_each
from api.simulator.traffic import simulate

SEEDS: Final = range(1, 41)
"""Others are for measuring on."""
BOOKINGS: Final = 60
FIRST_DAY: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
BETWEEN_SEEDS: Final = timedelta(days=37, minutes=1)
DICTIONARY_BYTES: Final = 32 * 1024
"""Larger ones were not better on bodies that they were not trained on, and do not stay in the processor's cache."""
SEGMENT_BYTES: Final = 2_048
"""About a body. Measured: short segments make a third more of it."""
COMMON_BYTES: Final = 8


def bodies(seeds: Iterable[int]) -> Iterator[bytes]:
    """Of each seed an account's mixed traffic, and one delivery of every trigger."""
    for seed in seeds:
        now = FIRST_DAY + seed * BETWEEN_SEEDS
        yield from (
            sent.body for sent in simulate(seed=seed, now=now, bookings=BOOKINGS, secret=b"", duplicate_share=0)
        )
        yield from (sent.body for sent in one_of_each(seed=seed, now=now, secret=b"").values())


def trained() -> bytes:
    """The same for the same release of zstd."""
    made = zstandard.train_dictionary(DICTIONARY_BYTES, list(bodies(SEEDS)), k=SEGMENT_BYTES, d=COMMON_BYTES)
    return made.as_bytes()


def main() -> None:
    """The file named on the command line holds a dictionary; one that is there already is left alone."""
    with Path(sys.argv[1]).open("xb") as file:
        file.write(trained())


if __name__ == "__main__":
    main()
