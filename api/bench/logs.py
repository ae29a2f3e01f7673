"""Logs of real size for benches: bodies of whole lifecycles, about four events a booking, in the order of time."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import msgspec

from api.bench.servers import SECRET, throwaway_postgres
from api.simulator.lifecycles import LIFECYCLES, Slot, Studio
from api.simulator.story import FIRST_WEBHOOK_VERSION
from api.simulator.traffic import json_bytes
from ledger.calcom.envelope import open_envelope
from ledger.calcom.signature import secret_id, sign
from ledger.filing import Receipt, file_delivery
from ledger.migrate import migrate
from ledger.postgres import connect
from ledger.store import Ledger, append, read_ledgers
from ledger.vocabulary import MAIN_LEDGER_NAME

SCENARIOS = (
    "created_started_ended",
    "request_confirmed_and_ended",
    "rescheduled_and_cancelled",
    "attendee_no_show",
    "paid_while_pending",
    "recorded",
    "paid_and_confirmed",
    "no_show_unmarked",
    "seat_given_back",
    "class_cancelled",
    "guests_absent_from_call",
)
BOOKINGS_IN_PATTERN = 5_000
"""So many bookings are made up; a longer log holds them again and again under other uids."""

FIRST_DAY = datetime(2026, 1, 5, 8, tzinfo=UTC)
BOOKED_AHEAD = timedelta(days=3)
BATCH_BODIES = 500
STATEMENT_SECONDS_MAX = 3_600.0

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class _Body(msgspec.Struct, frozen=True, gc=False):
    """A body of the pattern; `names` are the uids in it, which change from copy to copy, as does its number."""

    body: bytes
    names: tuple[bytes, ...]
    number: bytes | None


@contextlib.contextmanager
def database_with_log(events: int, *, tell: Callable[[int, int], None] = lambda _done, _total: None) -> Iterator[str]:
    """The DSN of a throwaway server whose log holds at least so many events, durable as a real one."""
    import asyncio

    with throwaway_postgres() as dsn:
        asyncio.run(_fill(dsn, events, tell))
        yield dsn


async def _fill(dsn: str, events: int, tell: Callable[[int, int], None]) -> None:
    connection = await connect(dsn, statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        await migrate(connection)
        ledger = (await read_ledgers(connection))[MAIN_LEDGER_NAME]
        batch: list[bytes] = []
        done = 0
        for body in make_log(events):
            batch.append(body)
            if len(batch) == BATCH_BODIES:
                done += await _append(connection, ledger, batch)
                tell(min(done, events), events)
                batch = []
        await _append(connection, ledger, batch)
        await connection.execute("VACUUM ANALYZE ledger.events")
    finally:
        await connection.close()


async def _append(connection: object, ledger: Ledger, bodies: list[bytes]) -> int:
    now, secret = datetime.now(UTC), SECRET.encode()
    receipts = [
        Receipt(
            received_at=now,
            version=FIRST_WEBHOOK_VERSION,
            signature=bytes.fromhex(sign(body, secret)),
            secret_id=secret_id(secret),
        )
        for body in bodies
    ]
    events = [
        event
        for body, receipt in zip(bodies, receipts, strict=True)
        for event in file_delivery(ledger, body, receipt, fresh_id=uuid4()).events
    ]
    if events:
        await append(connection, ledger.ledger_id, events)  # type: ignore[arg-type]
    return len(events)


def make_log(events: int) -> Iterator[bytes]:
    """At least so many bodies, in the order in which they happened, over and over under other names."""
    pattern = _pattern()
    made = 0
    for copy in range(events // len(pattern) + 1):
        suffix = _base62(copy)
        for one in pattern:
            if made == events:
                return
            made += 1
            yield _renamed(one, copy, suffix)


def _pattern() -> list[_Body]:
    studio = Studio(Random(1))  # noqa: S311  # made-up traffic, no secret
    bodies: list[tuple[datetime, _Body]] = []
    for number in range(BOOKINGS_IN_PATTERN):
        booked_at = FIRST_DAY + timedelta(minutes=number)
        slot = Slot(booked_at=booked_at, starts_at=booked_at + BOOKED_AHEAD)
        deliveries = LIFECYCLES[SCENARIOS[number % len(SCENARIOS)]](studio, slot).deliveries
        sent = [json_bytes(delivery) for delivery in deliveries]
        envelopes = [open_envelope(body) for body in sent]
        names = tuple({uid.encode() for one in envelopes for uid in (one.uid, one.previous_uid) if uid})
        for body, envelope in zip(sent, envelopes, strict=True):
            numbered = None if envelope.number is None else str(envelope.number).encode()
            bodies.append((envelope.occurred_at or booked_at, _Body(body, names, numbered)))
    return [body for _, body in sorted(bodies, key=lambda pair: pair[0])]


def _renamed(one: _Body, copy: int, suffix: bytes) -> bytes:
    """The body under names of its own; the first copy keeps them."""
    if copy == 0:
        return one.body
    body = one.body
    for name in one.names:
        body = body.replace(name, name[: -len(suffix)] + suffix)
    if one.number is not None:
        body = body.replace(one.number, one.number + str(copy).encode())
    return body


def _base62(number: int) -> bytes:
    text = ""
    while number or not text:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text.rjust(4, "0").encode()
