"""Is this delivery Cal.com's? Decided on the raw bytes, before anything is parsed.

Cal.com signs the exact body with HMAC-SHA256 and sends lower-case hex in `X-Cal-Signature-256`; without a secret it
sends the words `no-secret-provided` in the same header (CALCOM.md section 2).
"""

import binascii
import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from ledger.errors import SecretMissing, SignatureRefused

SIGNATURE_HEADERS = frozenset({b"x-cal-signature-256", b"x-cal-signature", b"cal-signature"})
"""Cal.com's own header, and the two spellings that senders of the older receivers use."""

NO_SECRET_PROVIDED = b"no-secret-provided"
SECRET_ID_BYTES = 4
SIGNATURE_DIGITS = 64
_PREFIX = b"sha256="


def sign(body: bytes, secret: bytes) -> str:
    """The signature Cal.com would send: 64 lower-case hexadecimal digits."""
    return hmac.digest(secret, body, "sha256").hex()


class Verified(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What proved a delivery: the index of the secret, and the signature, whose digits `sign` writes."""

    secret: int
    signature: bytes


def verify(body: bytes, headers: Iterable[tuple[bytes, bytes]], secrets: Sequence[bytes]) -> Verified:
    """The body is Cal.com's.

    `headers` are raw, names in lower case. Every secret is tried and every comparison takes the same time,
    so an answer's delay tells nothing. Raises SignatureRefused with its reason, SecretMissing without a secret.
    """
    if not secrets:
        raise SecretMissing
    signature = _read([value for name, value in headers if name in SIGNATURE_HEADERS])
    verified_by = -1
    for index, secret in enumerate(secrets):
        made = _keyed(secret).copy()
        made.update(body)
        if hmac.compare_digest(made.finalize(), signature) and verified_by < 0:
            verified_by = index
    if verified_by < 0:
        raise SignatureRefused("mismatch")
    return Verified(secret=verified_by, signature=signature)


@lru_cache
def _keyed(secret: bytes) -> HMAC:
    """To be copied for each body: the key's own part of the work is done. The standard library's takes longer."""
    return HMAC(secret, SHA256())


@lru_cache
def secret_id(secret: bytes) -> str:
    """Eight digits by which a secret is known again, and which tell nothing more of it than a signature does."""
    return hmac.digest(secret, b"booking-ledger secret id", "sha256")[:SECRET_ID_BYTES].hex()


def _read(given: list[bytes]) -> bytes:
    """The one signature among the headers, as 32 bytes."""
    if not given:
        raise SignatureRefused("missing")
    if len(given) > 1:
        raise SignatureRefused("repeated")
    if given[0] == NO_SECRET_PROVIDED:
        raise SignatureRefused("no_secret_provided")
    digits = given[0].removeprefix(_PREFIX)
    if len(digits) != SIGNATURE_DIGITS:
        raise SignatureRefused("malformed")
    try:
        return binascii.unhexlify(digits)
    except binascii.Error:
        raise SignatureRefused("malformed") from None
