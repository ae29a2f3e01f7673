"""Bodies of bookings that were just made, of real size, with names that can be changed: each is another booking."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from api.bench.folding import make_bodies
from ledger.calcom.envelope import open_envelope

LIFECYCLES = 300
CREATED = "BOOKING_CREATED"
NUMBER_DIGITS = 9
NUMBERS = 8 * 10 ** (NUMBER_DIGITS - 1)
UID_DIGITS = 12
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Pattern(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A body, and what in it names the booking."""

    body: bytes
    uid: bytes
    number: bytes

    def named(self, serial: int) -> tuple[bytes, str]:
        """The body about another booking, of the same length for every serial number, and the booking's uid."""
        uid = self.uid[:-UID_DIGITS] + _base62(serial)
        number = b"%d" % (10 ** (NUMBER_DIGITS - 1) + serial % NUMBERS)
        return self.body.replace(self.uid, uid).replace(self.number, number), uid.decode()


@lru_cache(maxsize=1)
def patterns() -> Sequence[Pattern]:
    """Many, since hosts, days and people differ."""
    found = []
    for body in make_bodies(bookings=LIFECYCLES):
        envelope = open_envelope(body)
        if envelope.trigger == CREATED and envelope.uid and envelope.number is not None:
            found.append(Pattern(body=body, uid=envelope.uid.encode(), number=str(envelope.number).encode()))
    return found


def created_bodies() -> list[bytes]:
    return [pattern.body for pattern in patterns()]


def _base62(number: int) -> bytes:
    text = ""
    for _ in range(UID_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text.encode()
