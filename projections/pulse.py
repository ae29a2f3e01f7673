"""A runner's signs of life, in memory that the process which answers for it may share."""

import mmap
import struct
import time
from typing import Final

_SIGNS: Final = struct.Struct("=d?")
"""When the runner last looked at every ledger, in seconds of the machine's monotonic clock; whether it failed since."""
PULSE_BYTES: Final = _SIGNS.size


class Pulse:
    """`file_number` is an open file of `PULSE_BYTES`, shared by whoever has it open; -1: nobody else needs to know."""

    def __init__(self, file_number: int = -1) -> None:
        self._memory = mmap.mmap(file_number, PULSE_BYTES)
        if self._polled_at == 0:
            self.looked()

    def looked(self) -> None:
        """The runner looked at every ledger just now."""
        _SIGNS.pack_into(self._memory, 0, time.monotonic(), False)  # noqa: FBT003  # as the struct has it

    def failed(self) -> None:
        """It could not, and will try again."""
        _SIGNS.pack_into(self._memory, 0, self._polled_at, True)  # noqa: FBT003  # as the struct has it

    @property
    def seconds_since_poll(self) -> float:
        """How long ago the runner last looked at every ledger: a sign of life that needs no event."""
        return time.monotonic() - self._polled_at

    @property
    def is_failing(self) -> bool:
        """Whether it could not look, and waits until it tries again."""
        return bool(_SIGNS.unpack_from(self._memory)[1])

    @property
    def _polled_at(self) -> float:
        return float(_SIGNS.unpack_from(self._memory)[0])
