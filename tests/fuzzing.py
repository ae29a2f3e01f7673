"""Bodies and headers that nobody meant, from a seeded generator; each body is another one."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.serving import SIGNATURE
from tests.test_signature import mutated

UID_COUNT = 400
TRIGGERS = (
    "BOOKING_CREATED",
    "BOOKING_CANCELLED",
    "BOOKING_RESCHEDULED",
    "BOOKING_REJECTED",
    "BOOKING_REQUESTED",
    "BOOKING_PAID",
    "MEETING_STARTED",
    "MEETING_ENDED",
    "BOOKING_NO_SHOW_UPDATED",
    "PING",
)
HORRORS = (
    b"",
    b"false",
    b"null",
    b"[]",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'"a\\u0000b"',
    b'{"triggerEvent":"BOOKING_CREATED","payload":{"title":"\\ud800"}}',
    b'{"triggerEvent":"BOOKING_CREATED","payload":{"title":"a\\u0000b","uid":"nul"}}',
    b'{"triggerEvent":"BOOKING_CREATED","triggerEvent":"BOOKING_CANCELLED","payload":{"uid":"twice"}}',
    b'{"payload":NaN}',
    b'{"payload":Infinity}',
    b'{"payload":1e400}',
    b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"long","bookingId":' + b"9" * 5_000 + b"}}",
    b'{"triggerEvent":"BOOKING_CREATED","payload":{"uid":"wide","price":18446744073709551616}}',
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b"[" * 100_000,
    b"{" * 1_000,
)
"""What has broken parsers, drivers or columns before."""
STRINGS = ("", "\x00", "\u202e", "é", "🐶" * 40, "x" * 5_000, "__proto__", "' OR 1=1 --", "<script>", "\ud83d")
MOMENTS = (
    "2026-12-01T10:00:00.000Z",
    "2026-12-01T10:00:00+05:30",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-12:00",
    "2026-06-30T23:59:60Z",
    "2026-12-01T24:00:00Z",
    "2026-12-01",
    "tomorrow",
)
DEPTH_MAX = 3
SCALARS: tuple[Sequence[Any], ...] = (
    (None,),
    (True, False),
    (0, -1, 2**31, 2**63, 2**64, 10**30),
    (0.1, 1e308, -1e-308, float("nan"), float("inf")),
    STRINGS,
    STRINGS,
    MOMENTS,
)


def fuzzed_body(rng: Random, number: int) -> bytes:
    """A delivery of Cal.com's with something wrong in it, or a horror; no two of one run are equal."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(HORRORS) + b" " * number
    body = json.dumps(_delivery(rng, number), ensure_ascii=rng.random() < 0.5).encode(errors="replace")
    return mutated(body, rng) + b" " * (number % 50) if kind < 0.5 else body


def fuzzed_headers(rng: Random) -> list[tuple[bytes, bytes]]:
    """Headers of which none proves anything, as HTTP allows them or nearly."""
    names = (
        SIGNATURE,
        SIGNATURE.upper(),
        "x-cal-signature",
        "cal-signature",
        "content-encoding",
        "content-type",
        "x-a",
    )
    values = (
        rng.randbytes(rng.randint(0, 80)).replace(b"\r", b"").replace(b"\n", b""),
        bytes(rng.choices(b"0123456789abcdefABCDEF", k=rng.choice((63, 64, 65, 128)))),
        b"sha256=" + bytes(rng.choices(b"0123456789abcdef", k=64)),
        b"no-secret-provided",
        b"",
        b"a" * rng.choice((100, 4_000, 20_000)),
        "é１".encode() * 32,
    )
    return [(rng.choice(names).encode(), rng.choice(values)) for _ in range(rng.randint(0, 5))]


def _delivery(rng: Random, number: int) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "uid": f"fuzzed{rng.randrange(UID_COUNT)}",
        "bookingId": number,
        "title": "Bath",
        "startTime": rng.choice(MOMENTS),
        "endTime": rng.choice(MOMENTS),
        "attendees": [{"email": f"{number}@example.com", "name": "Ann", "timeZone": "Europe/Berlin"}],
        "metadata": {"key": rng.choice(STRINGS)},
    }
    for _ in range(rng.randrange(4)):
        payload[rng.choice(list(payload))] = _anything(rng, depth=0)
    return {"triggerEvent": rng.choice(TRIGGERS), "createdAt": rng.choice(MOMENTS), "n": number, "payload": payload}


def _anything(rng: Random, *, depth: int) -> Any:
    """Whatever JSON can hold, and a little more."""
    kind = rng.randrange(len(SCALARS) + 2 if depth < DEPTH_MAX else len(SCALARS))
    if kind < len(SCALARS):
        return rng.choice(SCALARS[kind])
    parts = [_anything(rng, depth=depth + 1) for _ in range(rng.randrange(4))]
    return parts if kind == len(SCALARS) else {rng.choice(STRINGS): part for part in parts}
