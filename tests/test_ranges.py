"""A log verified by ranges in several processes gives the same answer as one read in one go, to the position."""

import os

import asyncpg
import pytest
import pytest_asyncio

from ledger.chain import verify_chain
from ledger.ranges import verify_ranges
from ledger.store import append
from tests.builders import MAIN, main_ledger, new_event
from tests.tampering import rewrite, with_triggers_off

EVENTS = 11
UPDATE = "UPDATE ledger.events SET %s WHERE position = %d"
COPY = """
INSERT INTO ledger.events (
    ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
)
SELECT
    ledger_id, %d, 'booking-inserted', 1, gen_random_uuid(), topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
FROM ledger.events
WHERE position = 1
"""


@pytest_asyncio.fixture
async def log(connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> asyncpg.Connection:
    """Eleven events, to be read in ranges of four: 1 to 4, 5 to 8, 9 to 11."""
    monkeypatch.setattr("ledger.ranges.EVENTS_MIN", 1)
    monkeypatch.setattr("ledger.ranges.RANGE_EVENTS", 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    await append(connection, MAIN, [new_event(f"booking-{number}") for number in range(EVENTS)])
    await connection.execute("ALTER TABLE ledger.events ALTER COLUMN digest DROP NOT NULL")
    await connection.execute("ALTER TABLE ledger.events DROP CONSTRAINT events_position_unique")
    return connection


async def test_what_holds_holds_and_progress_is_told_range_by_range(log: asyncpg.Connection, database: str) -> None:
    told: list[tuple[int, int]] = []
    ledger = await main_ledger(log)
    found = await verify_ranges(log, database, ledger, progress=lambda done, total: told.append((done, total)))
    assert found == await verify_chain(log, ledger)
    assert found.ok
    assert told == [(4, 11), (8, 11), (11, 11)]


@pytest.mark.parametrize(
    "statement",
    [
        *(UPDATE % ("state = 'x'", position) for position in (1, 4, 5, 11)),
        *(UPDATE % ("digest = sha256(digest)", position) for position in (4, 8, 11)),
        UPDATE % ("digest = NULL", 4),
        UPDATE % ("digest = ''", 8),
        "DELETE FROM ledger.events WHERE position = 4",
        "DELETE FROM ledger.events WHERE position = 5",
        "DELETE FROM ledger.events WHERE position > 8",
        "DELETE FROM ledger.events",
        COPY % 12,
        "UPDATE ledger.ledgers SET position = 8",
        "UPDATE ledger.ledgers SET position = 12",
        "UPDATE ledger.ledgers SET digest = sha256(digest)",
    ],
)
async def test_what_does_not_hold_has_the_same_first_bad_position(
    log: asyncpg.Connection, database: str, statement: str
) -> None:
    await with_triggers_off(log, statement)
    ledger = await main_ledger(log)
    found = await verify_ranges(log, database, ledger)
    assert not found.ok
    assert found == await verify_chain(log, ledger)


@pytest.mark.parametrize("position", [4, 11])
async def test_a_second_row_of_one_position_is_found_at_the_end_of_a_range(
    log: asyncpg.Connection, database: str, position: int
) -> None:
    await with_triggers_off(log, COPY % position)
    found = await verify_ranges(log, database, await main_ledger(log))
    assert not found.ok
    assert found.first_bad_position in {position, position + 1}, "which of the two comes first is PostgreSQL's affair"


async def test_the_lowest_of_several_bad_positions_is_named(log: asyncpg.Connection, database: str) -> None:
    await with_triggers_off(log, *(UPDATE % ("state = 'x'", position) for position in (10, 3, 6)))
    assert (await verify_ranges(log, database, await main_ledger(log))).first_bad_position == 3


async def test_a_chain_made_anew_over_a_changed_row_holds_here_too(log: asyncpg.Connection, database: str) -> None:
    """Only a checkpoint shows it: ranges must not find more, or less, than one go."""
    await rewrite(log, UPDATE % ("state = 'x'", 6))
    assert (await verify_ranges(log, database, await main_ledger(log))).ok


async def test_a_short_log_starts_no_process(log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.ranges.EVENTS_MIN", EVENTS + 1)
    assert (await verify_ranges(log, "postgresql://127.0.0.1:1/nowhere", await main_ledger(log))).ok


async def test_ranges_whose_processes_get_no_connection_are_read_on_the_one_there_is(log: asyncpg.Connection) -> None:
    ledger, nowhere = await main_ledger(log), "postgresql://127.0.0.1:1/nowhere"
    assert await verify_ranges(log, nowhere, ledger) == await verify_chain(log, ledger)
    await with_triggers_off(log, UPDATE % ("state = 'x'", 7))
    assert (await verify_ranges(log, nowhere, ledger)).first_bad_position == 7
