"""Signed notes: those of others are read, ours are read by others, and no bit of either can be changed."""

from base64 import b64encode
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import EvidenceRefused
from ledger.notes import SigningKey, VerifierKey, open_note, read_signing_key, read_verifier_key, strict_base64

# The example of c2sp.org/signed-note.
OTHERS_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
OTHERS_TEXT = "This is an example message.\n"
OTHERS_SIGNATURE = (
    "\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
KEY = SigningKey("salon.example/ledger", bytes(range(32)))
TEXT = "salon.example/ledger\n12\n\nafter an empty line\n"


def refusal(note: str | bytes, key: VerifierKey = KEY.verifier) -> str:
    with pytest.raises(EvidenceRefused) as refused:
        open_note(note.encode() if isinstance(note, str) else note, key)
    return refused.value.reason


def test_a_note_of_others_is_read_with_their_key() -> None:
    key = read_verifier_key(OTHERS_KEY)
    assert (key.name, str(key)) == ("example.com/foo", OTHERS_KEY)
    assert open_note((OTHERS_TEXT + "\n" + OTHERS_SIGNATURE).encode(), key) == OTHERS_TEXT


def test_what_we_sign_is_what_we_read() -> None:
    assert open_note(KEY.sign(TEXT).encode(), KEY.verifier) == TEXT


def test_both_halves_of_a_key_can_be_written_down() -> None:
    assert str(read_verifier_key(str(KEY.verifier))) == str(KEY.verifier)
    again = read_signing_key(KEY.secret_text())
    assert again.sign(TEXT) == KEY.sign(TEXT)
    assert KEY.secret_text().startswith("PRIVATE+KEY+salon.example/ledger+")
    assert b64encode(bytes(range(32))).decode()[2:-2] not in repr(KEY)


def test_signatures_of_others_count_for_nothing_beside_ours() -> None:
    note = KEY.sign(TEXT)
    head, _, ours = note.rpartition("\n\n")
    assert open_note(f"{head}\n\n{OTHERS_SIGNATURE}{ours}".encode(), KEY.verifier) == TEXT
    namesake = SigningKey(KEY.verifier.name, b"\x01" * 32)
    assert open_note((note + namesake.sign(TEXT).rpartition("\n\n")[2]).encode(), KEY.verifier) == TEXT
    assert "not signed by salon.example/ledger" in refusal(namesake.sign(TEXT))
    assert "not signed by salon.example/ledger" in refusal(OTHERS_TEXT + "\n" + OTHERS_SIGNATURE)


def test_one_wrong_signature_of_ours_spoils_the_note_even_beside_a_right_one() -> None:
    wrong = KEY.sign("another text\n").rpartition("\n\n")[2]
    assert "does not fit" in refusal(KEY.sign(TEXT) + wrong)


def test_no_bit_of_a_note_can_be_changed() -> None:
    note = KEY.sign(TEXT).encode()
    for at in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[at] ^= 1 << bit
            assert refusal(bytes(changed))


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (b"", "no signatures"),
        (b"text\n", "no signatures"),
        (b"text\n\n", "no signatures"),
        (KEY.sign(TEXT).removesuffix("\n"), "no signatures"),
        (KEY.sign(TEXT) + "\n", "no signatures"),
        (KEY.sign(TEXT).replace("\n", "\r\n"), "control characters"),
        (KEY.sign("a\x00b\n"), "control characters"),
        (KEY.sign("tab\t\n"), "control characters"),
        (b"\xff" + KEY.sign(TEXT).encode(), "not UTF-8"),
        (KEY.sign(TEXT).replace("\u2014", "-"), "is none"),
        (KEY.sign(TEXT) + "\u2014 x\n", "is none"),
        (KEY.sign(TEXT) + "\u2014 x AAAA\n", "is none"),
        (KEY.sign(TEXT) + "\u2014 x AAAAAAB=\n", "is none"),
        (KEY.sign(TEXT) + "\u2014 x not*base64\n", "is none"),
        (b"a" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_what_is_no_note_is_refused_with_its_reason(note: str | bytes, reason: str) -> None:
    assert reason in refusal(note)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\u00a0b", "tab\tname", "x\x00"])
def test_what_cannot_be_a_name_signs_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SigningKey(name, bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        OTHERS_KEY.replace("530d903a", "530d903b"),
        OTHERS_KEY.replace("foo", "fop"),
        OTHERS_KEY[:-1],
        OTHERS_KEY.replace("+Aek", "+Bek"),
        "example.com/foo+530d903a+" + b64encode(b"\x01short").decode(),
        KEY.secret_text(),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        read_verifier_key(text)


@pytest.mark.parametrize("text", ["", str(KEY.verifier), KEY.secret_text()[:-4], "PRIVATE+KEY+a+00000000+AQ=="])
def test_what_is_no_signing_key_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        read_signing_key(text)
    assert text[20:40] == "" or text[20:40] not in str(refused.value)


@given(st.binary(max_size=40), st.randoms(use_true_random=False))
def test_bytes_have_one_spelling_only(data: bytes, rng: Random) -> None:
    text = b64encode(data).decode()
    assert strict_base64(text) == data
    if text:
        at = rng.randrange(len(text))
        other = text[:at] + rng.choice("ABCD=+/ \n\u00e9") + text[at + 1 :]
        try:
            assert strict_base64(other) != data or other == text
        except ValueError:
            assert other != text
