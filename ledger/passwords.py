"""Passwords: which are refused, and how they are kept (argon2id, OWASP's least parameters).

Checking one takes tens of milliseconds and 19 MiB on purpose, so who calls this from a server does so in a thread and
few at a time (api/sign_in.py).
"""

import functools
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from ledger.errors import BadParameter

TIME_COST: Final = 2
MEMORY_KIB: Final = 19_456
PARALLELISM: Final = 1

PASSWORD_CHARACTERS_MIN: Final = 8
PASSWORD_CHARACTERS_ADVISED: Final = 15
PASSWORD_CHARACTERS_MAX: Final = 256

# What is tried first; digits and signs at the end are taken off before looking.
_WORST: Final = """
password passwords passwort password1234 passw0rd p@ssword p@ssw0rd motdepasse contraseña qwertyuiop qwertyui
qwerty qwertz qwertzuiop azertyuiop asdfghjkl asdfghjk zxcvbnm 1q2w3e4r 1q2w3e4r5t q1w2e3r4 1qaz2wsx qazwsxedc
zaq12wsx abcdefgh abcdefghi abcd1234 abc12345 12345678 123456789 1234567890 0123456789 87654321 987654321 11111111
00000000 88888888 12341234 12121212 123123123 11223344 administrator admin adminadmin letmein welcome welcomeback
iloveyou sunshine princess football baseball basketball superman batman starwars dragon monkey shadow master
trustno1 whatever computer internet michelle jennifer changeme changeit secret topsecret default guest
calcom cal.com booking bookings bookingledger booking-ledger ledger
"""
WORST: Final = frozenset(_WORST.split())
TRAILING: Final = "0123456789!?.,*#$%&@_-+"


def refuse_password(password: str, *, user_name: str) -> None:
    """Raises BadParameter for a password that is among the first to be guessed."""
    plain = _normal(password).casefold()
    if len(plain) < PASSWORD_CHARACTERS_MIN:
        raise BadParameter("the password", f"must have at least {PASSWORD_CHARACTERS_MIN} characters")
    if len(plain) > PASSWORD_CHARACTERS_MAX:
        raise BadParameter("the password", f"must have at most {PASSWORD_CHARACTERS_MAX} characters")
    if plain in WORST or plain.rstrip(TRAILING) in {*WORST, ""} or len(set(plain)) == 1:
        raise BadParameter("the password", "must be none of those that are tried first")
    if plain.rstrip(TRAILING) == user_name.casefold():
        raise BadParameter("the password", "must not be the name of the user")


def hash_password(password: str) -> str:
    """The password as `$argon2id$…`, with a salt of its own."""
    return _hasher().hash(_normal(password))


def is_right(password_hash: str, password: str) -> bool:
    """Whether this is the password; takes as long either way."""
    try:
        return _hasher().verify(password_hash, _normal(password))
    except VerificationError:
        return False


def is_dated(password_hash: str) -> bool:
    """Whether it was made with other parameters than today's, hence is to be made again."""
    return _hasher().check_needs_rehash(password_hash)


@functools.cache
def nobodys_hash() -> str:
    """What is checked where there is no such user, so that it takes as long as if there were."""
    return hash_password("nobody has this password")


@functools.cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)


def _normal(password: str) -> str:
    """However a keyboard composes its accents, it is the same password (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)
