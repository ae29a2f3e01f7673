"""Whose delivery it is: one exact signature over the exact bytes under one of our secrets, and nothing else."""

import hashlib
import hmac
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calcom import signature
from ledger.calcom.signature import sign, verify
from ledger.errors import SecretMissing, SignatureRefused

BODY = '{"triggerEvent":"BOOKING_CREATED","payload":{"title":"Bad & Bürste für Łatka 🐶"}}'.encode()
SECRET = "geheim-ключ-🔑".encode()
OLD, NEW = b"the old secret", b"the new secret"
HEADERS = ("x-cal-signature-256", "x-cal-signature", "cal-signature")

Header = tuple[bytes, bytes]


def signed(body: bytes = BODY, secret: bytes = SECRET, *, name: str = HEADERS[0], prefix: str = "") -> Header:
    return name.encode(), prefix.encode() + hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def refusal(*headers: Header, body: bytes = BODY, secrets: tuple[bytes, ...] = (SECRET,)) -> str:
    """The reason for which the delivery is refused."""
    with pytest.raises(SignatureRefused) as refused:
        verify(body, headers, secrets)
    assert str(refused.value) == SignatureRefused.SENTENCES[refused.value.reason]
    return refused.value.reason


# Accepted


def test_a_signature_made_elsewhere_is_accepted() -> None:
    """Made with `openssl dgst -sha256 -hmac sample-secret`."""
    known = b"dc018613f32cba60133e789446293cae6ef9fdea7f00c6837206ddec7c5555d8"
    assert verify(b"{}", [(b"x-cal-signature-256", known)], [b"sample-secret"]).secret == 0


def test_what_we_sign_is_what_cal_com_would_send() -> None:
    assert sign(BODY, SECRET).encode() == signed()[1]
    assert len(sign(b"", SECRET)) == 64
    assert verify(b"", [signed(b"")], [SECRET]).secret == 0


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("prefix", ["", "sha256="])
@pytest.mark.parametrize("upper", [False, True])
def test_each_spelling_of_the_header_and_of_the_digits_is_accepted(name: str, prefix: str, upper: bool) -> None:  # noqa: FBT001  # parametrized
    header, value = signed(name=name)
    assert verify(BODY, [(header, prefix.encode() + (value.upper() if upper else value))], [SECRET]).secret == 0


def test_other_headers_change_nothing() -> None:
    others = [(b"content-type", b"application/json"), (b"x-cal-webhook-version", b"\xff\x00"), (b"x-signature", b"1")]
    assert verify(BODY, [others[0], signed(), *others[1:]], [SECRET]).secret == 0


def test_every_active_secret_is_tried_and_the_one_that_fits_is_told() -> None:
    assert verify(BODY, [signed(secret=OLD)], [NEW, OLD]).secret == 1
    assert verify(BODY, [signed(secret=NEW)], [NEW, OLD]).secret == 0
    assert verify(BODY, [signed(secret=OLD)], [OLD, NEW, OLD]).secret == 0
    assert refusal(signed(secret=OLD), secrets=(NEW,)) == "mismatch"


# Refused


def test_without_a_secret_of_ours_nothing_can_be_verified() -> None:
    with pytest.raises(SecretMissing, match="CAL_COM_WEBHOOK_SECRET"):
        verify(BODY, [signed()], [])


def test_a_delivery_without_a_signature_is_refused() -> None:
    assert refusal() == "missing"
    assert refusal((b"content-type", b"application/json")) == "missing"


@pytest.mark.parametrize("second", HEADERS)
def test_a_repeated_signature_is_refused_even_when_both_are_right(second: str) -> None:
    assert refusal(signed(), signed(name=second)) == "repeated"
    assert refusal(signed(), (second.encode(), b"no-secret-provided")) == "repeated"
    assert refusal(signed(name=second), signed(secret=b"another")) == "repeated"


@pytest.mark.parametrize("name", HEADERS)
def test_cal_coms_words_for_no_secret_are_no_signature(name: str) -> None:
    assert refusal((name.encode(), b"no-secret-provided")) == "no_secret_provided"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0" * 63,
        b"0" * 65,
        b"0" * 128,
        b"g" * 64,
        b" " + b"0" * 64,
        b"0" * 64 + b" ",
        b"0" * 64 + b"\n",
        b"0" * 32 + b" " + b"0" * 32,
        b"0" * 31 + b"  " + b"0" * 31,
        b"0" * 63 + b"\n",
        b" " + b"0" * 63,
        b"0x" + b"0" * 62 + b"\x00",
        b"0x" + b"0" * 62,
        b"sha256=",
        b"sha256=" + b"0" * 63,
        b"sha256=sha256=" + b"0" * 64,
        b"sha256 =" + b"0" * 64,
        b"sha1=" + b"0" * 64,
        b"sha512=" + b"0" * 128,
        b"No-Secret-Provided",
        b"no-secret-provided ",
        b"\xff" * 64,
        b"\x00" * 64,
        "\uff10".encode() * 64,
        "é".encode() * 32,
        b"0" * 64 + b"," + b"0" * 64,
        b"0" * 100_000,
    ],
)
def test_what_is_not_sixty_four_digits_is_malformed(value: bytes) -> None:
    assert refusal((b"x-cal-signature-256", value)) == "malformed"


def test_the_bytes_are_signed_and_not_what_they_mean() -> None:
    body = b'{"name":"\xc3\xab","price":1.0,"url":"https:\\/\\/x","n":1e2}'
    others = [
        b'{"name":"\\u00eb","price":1.0,"url":"https:\\/\\/x","n":1e2}',
        b'{"name":"\xc3\xab","price":1.0,"url":"https://x","n":100.0}',
        b'{"name": "\xc3\xab", "price": 1.0, "url": "https:\\/\\/x", "n": 1e2}',
        body + b"\n",
        b"\xef\xbb\xbf" + body,
    ]
    assert verify(body, [signed(body)], [SECRET]).secret == 0
    assert {refusal(signed(body), body=other) for other in others} == {"mismatch"}


def test_part_of_a_secret_or_more_than_it_fits_nothing() -> None:
    for other in (SECRET[:-1], SECRET + b"\n", b" " + SECRET, SECRET.upper(), b"no-secret-provided", b"0"):
        assert refusal(signed(secret=other)) == "mismatch"


@pytest.mark.parametrize("pairs", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_none_of_many_mutated_deliveries_is_accepted(pairs: int) -> None:
    rng = Random(256)
    header, value = signed()
    for _ in range(pairs):
        body, given_value = BODY, value
        if rng.random() < 0.5:
            body = mutated(BODY, rng)
        else:
            given_value = mutated(value, rng)
        if body == BODY and given_value.lower().removeprefix(b"sha256=") == value:
            continue
        assert refusal((header, given_value), body=body) in {"mismatch", "malformed"}


def mutated(original: bytes, rng: Random) -> bytes:
    """One to three bits, bytes or stretches of it changed, dropped, added or moved."""
    changed = bytearray(original)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice(b"0123456789abcdefABCDEF")
            case 2:
                del changed[at]
            case 3:
                changed.insert(at, rng.randrange(256))
            case _:
                changed = changed[at:] + changed[:at]
    return bytes(changed)


@settings(max_examples=500, deadline=None)
@given(
    body=st.binary(max_size=200),
    value=st.binary(max_size=80) | st.text("0123456789abcdefABCDEF", min_size=64, max_size=64).map(str.encode),
    secrets=st.lists(st.binary(max_size=40).map(lambda secret: secret + b"!"), min_size=1, max_size=4),
)
def test_whatever_is_sent_is_refused_with_a_reason_unless_a_secret_fits(
    body: bytes, value: bytes, secrets: list[bytes]
) -> None:
    assert refusal((b"x-cal-signature-256", value), body=body, secrets=tuple(secrets)) in SignatureRefused.SENTENCES
    for index, secret in enumerate(secrets):
        assert verify(body, [signed(body, secret)], secrets).secret == secrets.index(secret) <= index


# Tells nothing by its time


def test_every_secret_is_compared_in_constant_time_whatever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched at the one function that compares: as many calls for the first secret as for the last or for none."""
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(first: bytes, second: bytes) -> bool:
        assert isinstance(first, bytes)
        assert isinstance(second, bytes)
        assert len(first) == len(second) == 32
        compared.append((first, second))
        return hmac.compare_digest(first, second)

    watched = type("watched", (), {"compare_digest": staticmethod(compare_digest), "new": staticmethod(hmac.new)})
    monkeypatch.setattr(signature, "hmac", watched)
    for secret in (NEW, OLD, SECRET):
        assert verify(BODY, [signed(secret=secret)], [NEW, OLD, SECRET]).secret == [NEW, OLD, SECRET].index(secret)
    assert refusal(signed(secret=b"none of them"), secrets=(NEW, OLD, SECRET)) == "mismatch"
    assert len(compared) == 4 * 3
