"""Bodies in less room: what goes in comes out, and nothing in a database can fill the memory of whoever reads it."""

import hashlib
import json
import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.bench.training import SEEDS, bodies
from ledger import codec
from ledger.codec import COMPRESSED_BODY_BYTES_MAX, DICTIONARIES, Encoding, compress, decode, decompress
from ledger.errors import BodyUnreadable, OperatorError
from tests.builders import bodies_like_cal_coms

DICTIONARY_1 = "4e5ba0f3578d2fab7fb2f872fd0e72ac01ba8b407a73928fcb4f265d268b97aa"
SIZE_SHARE_MAX = 0.2
"""Of bodies that the dictionary was not trained on; measured 0.12."""


def test_a_dictionary_that_was_released_is_never_changed() -> None:
    assert hashlib.sha256((DICTIONARIES / "1.zstd").read_bytes()).hexdigest() == DICTIONARY_1


def test_the_numbers_on_disk_are_what_they_were() -> None:
    assert {one.name: int(one) for one in Encoding} == {"RAW": 0, "ZSTD_1": 1, "SEALED": 2, "SEALED_ZSTD_1": 3}


@given(st.binary(max_size=5_000) | bodies_like_cal_coms() | st.binary(max_size=50).map(lambda one: one * 1_000))
def test_what_was_compressed_comes_out_byte_for_byte(body: bytes) -> None:
    compressed = compress(body)
    assert compressed is None or (len(compressed) < len(body) and decompress(compressed) == body)


@pytest.mark.parametrize("body", [b"", b"{", bytes(range(256)), b"\xff\xfe" * 7])
def test_a_body_that_takes_no_less_room_is_left_alone(body: bytes) -> None:
    assert compress(body) is None


def test_bodies_it_was_not_trained_on_take_a_fifth_of_their_room_at_most() -> None:
    unseen = list(bodies([SEEDS.stop + 1_000]))
    assert sum(len(compress(body) or body) for body in unseen) <= SIZE_SHARE_MAX * sum(map(len, unseen))


def test_a_body_longer_than_would_be_believed_is_not_compressed() -> None:
    assert compress(bytes(COMPRESSED_BODY_BYTES_MAX + 1)) is None
    largest = compress(bytes(COMPRESSED_BODY_BYTES_MAX))
    assert largest is not None
    assert len(decompress(largest)) == COMPRESSED_BODY_BYTES_MAX


def bomb() -> bytes:
    """A few kilobytes that say, truthfully, that they are 64 MiB."""
    return zstandard.ZstdCompressor().compress(bytes(4 * COMPRESSED_BODY_BYTES_MAX))


def understated() -> bytes:
    """A frame whose header says less than what is in it."""
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(1 << 20)))
    frame[6:9] = b"\x00\x00\x00"
    return bytes(frame)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(bomb(), id="a bomb"),
        pytest.param(understated(), id="a bomb that says it is none"),
        pytest.param(zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100), id="of unknown length"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"no frame at all", id="no frame"),
        pytest.param((compress(json.dumps({"payload": "x" * 99}).encode()) or b"")[:-1], id="cut short"),
        pytest.param((compress(json.dumps({"payload": "x" * 99}).encode()) or b"") + b"x", id="with more behind it"),
    ],
)
def test_what_we_did_not_compress_is_refused(stored: bytes) -> None:
    with pytest.raises(BodyUnreadable):
        decompress(stored)


def test_threads_do_not_stand_in_each_others_way() -> None:
    given_bodies = list(bodies([SEEDS.stop + 2_000]))[:50]
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(body for body in given_bodies if decompress(compress(body) or b"") != body)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_rows_of_every_release_stay_readable() -> None:
    body = json.dumps({"triggerEvent": "BOOKING_CREATED", "payload": {"title": "Zoë " * 30}}).encode()
    compressed = codec.compress(body)
    assert compressed is not None
    assert (decode(0, body), decode(1, compressed)) == (body, body)
    with pytest.raises(OperatorError, match="encoding 9; install the release that wrote them"):
        decode(9, body)
