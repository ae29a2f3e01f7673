"""Signed notes (c2sp.org/signed-note): a text that people can read, a blank line, and who signed it. Pure.

    <text>
                                                    the text ends with a line end, which is signed too
    — <key name> <base64(key id ‖ signature)>       Ed25519 over the text

    key id         the first four bytes of sha256(key name ‖ 0x0A ‖ 0x01 ‖ public key)
    verifier key   <key name>+<key id in hex>+<base64(0x01 ‖ public key)>
    signing key    PRIVATE+KEY+<key name>+<key id in hex>+<base64(0x01 ‖ seed)>, as Go's note tools write it

A note may carry signatures of others, witnesses say; those of unknown keys count for nothing.
"""

import binascii
import hashlib
from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import EvidenceRefused

NOTE_BYTES_MAX: Final = 1024 * 1024
SEED_BYTES: Final = 32
PRIVATE_PREFIX: Final = "PRIVATE+KEY+"

_ED25519 = b"\x01"
_KEY_ID_BYTES: Final = 4
_DASH = "\u2014 "
_FIRST_PRINTABLE: Final = "\x20"


class VerifierKey:
    """Whose signatures count. `str(key)` is the text to publish. Raises ValueError for a name that cannot be one."""

    def __init__(self, name: str, public_key: bytes) -> None:
        if not name or "+" in name or any(character.isspace() for character in name) or not name.isprintable():
            raise ValueError("a key name has no spaces, no plus and no control characters")
        self.name = name
        self.key_id = hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_BYTES]
        self._encoded = _ED25519 + public_key
        self._key = Ed25519PublicKey.from_public_bytes(public_key)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self._encoded).decode()}"

    def signed(self, text: str, signature: bytes) -> bool:
        try:
            self._key.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """What signs. Its `repr` says nothing; `secret_text` is the line to keep."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name, self._key.public_key().public_bytes_raw())

    def secret_text(self) -> str:
        encoded = b64encode(_ED25519 + self._seed).decode()
        return f"{PRIVATE_PREFIX}{self.verifier.name}+{self.verifier.key_id.hex()}+{encoded}"

    def sign(self, text: str) -> str:
        """The text as a note. It ends with a line end."""
        signature = b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{_DASH}{self.verifier.name} {signature}\n"


def read_verifier_key(text: str) -> VerifierKey:
    """Raises ValueError for what is no Ed25519 verifier key, or one whose parts do not belong together."""
    name, key_id, public_key = _key_parts(text)
    key = VerifierKey(name, public_key)
    if key.key_id.hex() != key_id:
        raise ValueError("the key id is not that of this name and key")
    return key


def read_signing_key(text: str) -> SigningKey:
    """Raises ValueError, without a word of the key."""
    if not text.startswith(PRIVATE_PREFIX):
        raise ValueError(f"a signing key begins with {PRIVATE_PREFIX}")
    name, key_id, seed = _key_parts(text.removeprefix(PRIVATE_PREFIX))
    key = SigningKey(name, seed)
    if key.verifier.key_id.hex() != key_id:
        raise ValueError("the key id is not that of this name and key")
    return key


def open_note(note: bytes, key: VerifierKey) -> str:
    """The text, once `key` is known to have signed it. Raises EvidenceRefused."""
    if len(note) > NOTE_BYTES_MAX:
        raise EvidenceRefused(f"the note is larger than {NOTE_BYTES_MAX:,} bytes")
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise EvidenceRefused("the note is not UTF-8") from None
    if any(character < _FIRST_PRINTABLE and character != "\n" for character in whole):
        raise EvidenceRefused("the note holds control characters")
    text, gap, lines = whole.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise EvidenceRefused("the note has no signatures after a blank line")
    text += "\n"
    signatures = [_signature(line) for line in lines.removesuffix("\n").split("\n")]
    known = [signature for signature in signatures if signature[:2] == (key.name, key.key_id)]
    if not known:
        raise EvidenceRefused(f"the note is not signed by {key.name} with key {key.key_id.hex()}")
    if not all(key.signed(text, signature) for _, _, signature in known):
        raise EvidenceRefused(f"the signature of {key.name} does not fit the note: one of them was changed")
    return text


def _signature(line: str) -> tuple[str, bytes, bytes]:
    """Name, key id and signature of a signature line. Raises EvidenceRefused."""
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        signature = strict_base64(encoded)
    except ValueError:
        signature = b""
    if not line.startswith(_DASH) or not name or len(signature) <= _KEY_ID_BYTES:
        raise EvidenceRefused("the note has a line among its signatures that is none")
    return name, signature[:_KEY_ID_BYTES], signature[_KEY_ID_BYTES:]


def strict_base64(text: str) -> bytes:
    """The bytes, from the one spelling they have. Raises ValueError."""
    try:
        decoded = b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if b64encode(decoded).decode() != text:
        raise ValueError("not the way these bytes are written")
    return decoded


def _key_parts(text: str) -> tuple[str, str, bytes]:
    """Name, key id in hex, and the 32 bytes of the key."""
    parts = text.split("+", 2)
    if len(parts) != len(("name", "key id", "key")):
        raise ValueError("a key has a name, a key id and the key itself, with plus signs between")
    try:
        encoded = strict_base64(parts[2])
    except ValueError:
        raise ValueError("the key is not base64") from None
    if len(encoded) != 1 + SEED_BYTES or not encoded.startswith(_ED25519):
        raise ValueError("the key is not an Ed25519 key")
    return parts[0], parts[1], encoded[1:]
