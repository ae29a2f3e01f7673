"""How an event's bytes lie in the log: `encoding` says it, row by row, so that old rows stay readable for ever."""

from enum import IntEnum

from ledger.errors import OperatorError


class Encoding(IntEnum):
    """What was done to the bytes before they were stored. Numbers are on disk: never reuse one."""

    RAW = 0


def encode(body: bytes) -> tuple[Encoding, bytes]:
    """The bytes to store and how to read them back."""
    return Encoding.RAW, body


def decode(encoding: int, stored: bytes) -> bytes:
    """The bytes that came in. Raises OperatorError for an encoding of a newer release."""
    if encoding != Encoding.RAW:
        raise OperatorError(f"The log holds events in encoding {encoding}; install the release that wrote them.")
    return stored
