"""Whatever a superuser does to a log of two thousand events is found and its place named, and nothing else ever is.

Every edit is made in a transaction that is rolled back, at a place and of a kind that a seeded generator chooses.
"""

from collections.abc import Awaitable, Callable
from random import Random

import asyncpg
import pytest
import pytest_asyncio

from ledger.chain import Verification, verify_chain
from ledger.checkpoints import Checkpoint, Comparison, compare
from ledger.codec import SEALED
from ledger.errors import EvidenceRefused
from ledger.notes import SigningKey, open_note
from ledger.publishing import sign_log
from ledger.store import append
from ledger.vocabulary import Position
from tests.builders import MAIN, NOON, main_ledger, new_event
from tests.tampering import rewrite, with_triggers_off

EVENTS = 2_000
SIGNED_AT = (500, 1_000, 1_500, 2_000)
KEY = SigningKey("salon.example", b"\x05" * 32)

COLUMNS = {
    "ledger_id": ["2"],
    "position": ["position + 100000"],
    "stream_id": ["stream_id || 'x'", "''"],
    "stream_version": ["stream_version + 100000"],
    "event_id": ["gen_random_uuid()"],
    "topic": ["'calcom.booking_rejected'", "upper(topic)", "''"],
    "state": [
        "'x'",
        "''",
        "state || '\\x00'",
        "set_byte(state, 0, get_byte(state, 0) # 1)",
        "substr(state, 2)",
        "sha256(state)",
    ],
    "encoding": ["1", "-1"],
    "occurred_at": ["occurred_at + interval '1 microsecond'", "'infinity'"],
    "recorded_at": ["recorded_at - interval '1 microsecond'", "'-infinity'"],
    "source": ["'reconcile'"],
    "metadata": ["'{}'", "metadata || ' '"],
    "digest": ["sha256(digest)", "''", "substr(digest, 2)", "set_byte(digest, 31, get_byte(digest, 31) # 128)"],
}
NULLABLE = [name for name in COLUMNS if name not in ("ledger_id", "position", "stream_id", "stream_version")]
UPDATE = "UPDATE ledger.events SET %s WHERE position = %d"
DELETE = "DELETE FROM ledger.events WHERE position = %d"
CUT = "DELETE FROM ledger.events WHERE position > %d"
SHIFT = "UPDATE ledger.events SET position = position + (%d) WHERE position > %d"
SWAP = "UPDATE ledger.events SET position = %d - position WHERE position IN (%d, %d)"
SWAP_BODIES = """
UPDATE ledger.events AS e SET state = other.state FROM ledger.events AS other
WHERE (e.position, other.position) IN ((%d, %d), (%d, %d))
"""
# A copy of the row at one position, at another and in a stream of its own.
INSERT = """
INSERT INTO ledger.events (
    ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
)
SELECT
    ledger_id, %d, 'booking-inserted', 1, gen_random_uuid(), topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
FROM ledger.events
WHERE position = %d
ORDER BY stream_id
LIMIT 1
"""
UPDATE_HEAD = "UPDATE ledger.ledgers SET %s"
HEADS = {
    "position = position - 1": EVENTS - 1,
    "position = position + 1": EVENTS + 1,
    "digest = sha256(digest)": EVENTS,
}

Edit = Callable[[asyncpg.Connection, Random], Awaitable[int]]


@pytest_asyncio.fixture
async def log(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Two thousand sealed events in some hundred streams, and none of the constraints that a superuser can drop."""
    rng = Random(2_000)
    for at in range(0, EVENTS, 50):
        streams = (f"booking-{rng.randrange(300)}" for _ in range(50))
        bodies = (rng.randbytes(rng.randint(20, 400)) for _ in range(50))
        await append(
            connection,
            MAIN,
            [
                new_event(stream, body=body, metadata=f'{{"n":{at}}}')
                for stream, body in zip(streams, bodies, strict=True)
            ],
        )
    encodings = await connection.fetch("SELECT DISTINCT encoding FROM ledger.events")
    assert {row["encoding"] for row in encodings} <= SEALED, "sealed, as whatever is appended"
    for name in NULLABLE:
        await connection.execute(f"ALTER TABLE ledger.events ALTER COLUMN {name} DROP NOT NULL")
    for name in ("events_source_known", "events_position_unique"):
        await connection.execute(f"ALTER TABLE ledger.events DROP CONSTRAINT {name}")
    await connection.execute("CREATE INDEX events_position ON ledger.events (ledger_id, position)")
    return connection


# The edits, each with the position that has to be named


async def change_a_column(connection: asyncpg.Connection, rng: Random) -> int:
    column, at = rng.choice(list(COLUMNS)), rng.randint(1, EVENTS)
    value = rng.choice(COLUMNS[column])
    await with_triggers_off(connection, UPDATE % (f"{column} = {value}", at))
    return at


async def empty_a_column(connection: asyncpg.Connection, rng: Random) -> int:
    at = rng.randint(1, EVENTS)
    await with_triggers_off(connection, UPDATE % (f"{rng.choice(NULLABLE)} = NULL", at))
    return at


async def delete_a_row(connection: asyncpg.Connection, rng: Random) -> int:
    at = rng.randint(1, EVENTS)
    await with_triggers_off(connection, DELETE % at)
    return at


async def delete_a_row_and_close_up(connection: asyncpg.Connection, rng: Random) -> int:
    at = rng.randint(1, EVENTS)
    await with_triggers_off(connection, DELETE % at, SHIFT % (-1, at), UPDATE_HEAD % f"position = {EVENTS - 1}")
    return min(at, EVENTS - 1)


async def swap_two_rows(connection: asyncpg.Connection, rng: Random) -> int:
    first, second = sorted(rng.sample(range(1, EVENTS + 1), 2))
    await with_triggers_off(connection, SWAP % (first + second, first, second))
    return first


async def swap_two_bodies(connection: asyncpg.Connection, rng: Random) -> int:
    first, second = sorted(rng.sample(range(1, EVENTS + 1), 2))
    await with_triggers_off(connection, SWAP_BODIES % (first, second, second, first))
    return first


async def insert_a_row(connection: asyncpg.Connection, rng: Random) -> int:
    at = rng.randint(1, EVENTS)
    grown = UPDATE_HEAD % f"position = {EVENTS + 1}"
    await with_triggers_off(connection, SHIFT % (1, at), INSERT % (at + 1, at), grown)
    return at + 1


async def insert_a_row_with_a_position_that_is_taken(connection: asyncpg.Connection, rng: Random) -> int:
    """Which of the two PostgreSQL sends first is its own affair: the second breaks what follows, or the first does."""
    at = rng.randint(1, EVENTS)
    await with_triggers_off(connection, INSERT % (at, rng.randint(1, EVENTS)))
    return -at


async def add_a_row_at_the_end(connection: asyncpg.Connection, rng: Random) -> int:
    await with_triggers_off(connection, INSERT % (EVENTS + 1, rng.randint(1, EVENTS)))
    return EVENTS + 1


async def cut_the_tail(connection: asyncpg.Connection, rng: Random) -> int:
    at = rng.randint(2, EVENTS)
    await with_triggers_off(connection, CUT % (at - 1))
    return at


async def edit_the_head(connection: asyncpg.Connection, rng: Random) -> int:
    change, position = rng.choice(list(HEADS.items()))
    await connection.execute(UPDATE_HEAD % change)
    return position


EDITS: tuple[Edit, ...] = (
    *[change_a_column] * 6,
    empty_a_column,
    delete_a_row,
    delete_a_row_and_close_up,
    swap_two_rows,
    swap_two_bodies,
    insert_a_row,
    insert_a_row_with_a_position_that_is_taken,
    add_a_row_at_the_end,
    cut_the_tail,
    edit_the_head,
)


async def assert_all_edits_are_found(log: asyncpg.Connection, count: int, *, seed: int) -> None:
    rng = Random(seed)
    ledger = await main_ledger(log)
    for number in range(count):
        edit = rng.choice(EDITS)
        attempt = log.transaction()
        await attempt.start()
        expected = await edit(log, rng)
        found: Verification = await verify_chain(log, ledger)
        await attempt.rollback()
        where = {-expected, 1 - expected} if expected < 0 else {expected}
        assert not found.ok, (number, edit.__name__, expected)
        assert found.first_bad_position in where, (number, edit.__name__, expected)


async def assert_nothing_is_found(log: asyncpg.Connection, count: int) -> None:
    ledger = await main_ledger(log)
    for _ in range(count):
        assert await verify_chain(log, ledger) == Verification(ok=True, events=EVENTS, head=Position(EVENTS))


async def test_every_single_edit_is_found_at_its_position(log: asyncpg.Connection) -> None:
    await assert_all_edits_are_found(log, 300, seed=23)


async def test_a_log_that_nobody_edited_raises_no_alarm(log: asyncpg.Connection) -> None:
    await assert_nothing_is_found(log, 30)


@pytest.mark.soak
async def test_thousands_of_edits_are_found_and_hundreds_of_clean_runs_raise_no_alarm(log: asyncpg.Connection) -> None:
    await assert_all_edits_are_found(log, 2_000, seed=230)
    await assert_nothing_is_found(log, 200)


# With the traces covered


@pytest_asyncio.fixture
async def checkpoints(log: asyncpg.Connection) -> list[Checkpoint]:
    """The log signed at each of `SIGNED_AT`: as if it had been, by signing it cut off there."""
    ledger, made = await main_ledger(log), []
    for position in SIGNED_AT:
        attempt = log.transaction()
        await attempt.start()
        await rewrite(log, CUT % position)
        made.append((await sign_log(log, ledger, key=KEY, now=NOON)).checkpoint)
        await attempt.rollback()
    return made


COVERED = (
    "UPDATE ledger.events SET state = state || 'x' WHERE position = {at}",
    "UPDATE ledger.events SET occurred_at = occurred_at + interval '1 hour' WHERE position = {at}",
    "UPDATE ledger.events SET stream_id = 'booking-another' WHERE position = {at}",
    "DELETE FROM ledger.events WHERE position = {at}",
    "DELETE FROM ledger.events WHERE position >= {at}",
)


async def test_an_edit_whose_traces_were_covered_is_found_between_two_checkpoints(
    log: asyncpg.Connection, checkpoints: list[Checkpoint]
) -> None:
    rng, ledger = Random(5), await main_ledger(log)
    assert (await compare(log, ledger, checkpoints)).ok
    for _ in range(24):
        at, statement = rng.randint(1, EVENTS), rng.choice(COVERED)
        attempt = log.transaction()
        await attempt.start()
        await rewrite(log, statement.format(at=at))
        found: Comparison = await compare(log, ledger, checkpoints)
        await attempt.rollback()
        assert found.chain.ok, "without a checkpoint nobody would know"
        last = next(position for position in SIGNED_AT if position >= at)
        assert found.changed_within == (last - 499, last), (at, statement)


async def test_an_edited_checkpoint_is_refused(log: asyncpg.Connection) -> None:
    rng = Random(7)
    note = (await sign_log(log, await main_ledger(log), key=KEY, now=NOON)).note.encode()
    for _ in range(300):
        changed = bytearray(note)
        changed[rng.randrange(len(note))] ^= 1 << rng.randrange(8)
        with pytest.raises(EvidenceRefused):
            open_note(bytes(changed), KEY.verifier)
