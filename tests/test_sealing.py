"""Sealed bodies: only whoever has the keys reads them, nobody loses them, and a key that is destroyed is gone."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from ledger.chain import verify_chain
from ledger.codec import COMPRESSED_BODY_BYTES_MAX
from ledger.errors import BodyUnreadable, SealingKeyMissing, StoreUnavailable
from ledger.history import read_event
from ledger.keyring import Keyring, RootKey, Sealing
from ledger.postgres import connect
from ledger.rewrapping import read_sealing, rewrap
from ledger.sealing import (
    check_keys,
    destroy_keys,
    keyring_of,
    migrate_keys,
    opened_keyring,
    read_key_ids,
)
from ledger.store import NewEvent, RecordedEvent, append
from ledger.vocabulary import LedgerId, StreamId
from tests.builders import MAIN, add_ledger, main_ledger, new_event, webhook, whole_log
from tests.tampering import with_triggers_off

FIRST, SECOND = bytes(32), bytes(range(32))
UPDATE = "UPDATE ledger.events SET %s WHERE position = 2"
CANARY = "canary-person@example.com"


def booked(name: str = "a", *, body: bytes | None = None) -> NewEvent:
    return new_event(f"booking-{name}", body=body or webhook("BOOKING_CREATED", {"uid": name, "note": CANARY}))


async def connection_with(dsn: str, *root_keys: bytes) -> asyncpg.Connection:
    return await connect(dsn, keyring=Keyring(RootKey(secret) for secret in root_keys))


@pytest_asyncio.fixture
async def outside(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that seals under SEALING_KEY."""
    opened = await connection_with(database, FIRST)
    yield opened
    await opened.close()


async def keys_of(connection: asyncpg.Connection) -> list[UUID]:
    return [row["key_id"] for row in await connection.fetch("SELECT key_id FROM ledger.body_keys ORDER BY key_id")]


async def destroy(connection: asyncpg.Connection, stream_id: str, ledger_id: LedgerId = MAIN) -> int:
    return await destroy_keys(connection, ledger_id, await read_key_ids(connection, ledger_id, [StreamId(stream_id)]))


# What goes in comes out, and only so


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff\xfe\x00 no UTF-8",
        os.urandom(100),
        os.urandom(1 << 20),
        b"x" * (1 << 20),
        bytes(COMPRESSED_BODY_BYTES_MAX + 1),
    ],
    ids=["empty", "tiny", "no UTF-8", "random", "a random mebibyte", "a mebibyte", "too long to be compressed"],
)
async def test_every_body_comes_out_byte_for_byte(connection: asyncpg.Connection, database: str, body: bytes) -> None:
    await append(connection, MAIN, [new_event("booking-a", body=body)])
    reader = await connect(database)
    try:
        assert [event.body for event in await whole_log(reader)] == [body]
    finally:
        await reader.close()
    state = await connection.fetchval("SELECT state FROM ledger.events")
    assert body not in state or not body


async def test_a_dump_of_the_log_shows_nothing_of_a_body(outside: asyncpg.Connection) -> None:
    await append(outside, MAIN, [booked("a"), booked("b"), new_event("unattributed-2026-12-01", body=CANARY.encode())])
    for row in await outside.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ledger' AND table_type = 'BASE TABLE'"
    ):
        rows = await outside.fetch(f"SELECT t::text AS line FROM ledger.{row['table_name']} AS t")  # noqa: S608  # names of ours
        dump = "\n".join(one["line"] for one in rows)
        assert "canary" not in dump
        assert CANARY.encode().hex() not in dump
        assert FIRST.hex() not in dump
    assert all(CANARY.encode() in event.body for event in await whole_log(outside))


@pytest.mark.parametrize(
    "change",
    [
        "state = set_byte(state, 0, get_byte(state, 0) # 1)",
        "state = set_byte(state, 16, get_byte(state, 16) # 1)",
        "state = set_byte(state, 60, get_byte(state, 60) # 1)",
        "state = substring(state FROM 1 FOR 20)",
        "state = ''",
        "state = state || 'x'",
        "encoding = 2",
        "encoding = 1",
        "state = (SELECT e.state FROM ledger.events AS e WHERE e.position = 1)",
    ],
)
async def test_a_body_that_was_changed_or_moved_says_so_and_stops_nobody(
    connection: asyncpg.Connection, change: str
) -> None:
    await append(connection, MAIN, [booked("a"), booked("a"), booked("b")])
    await with_triggers_off(connection, UPDATE % change)
    first, changed, last = await whole_log(connection)
    if change != "encoding = 2":
        assert (changed.body, changed.is_erased, changed.fault is None) == (b"", False, False)
        with pytest.raises(BodyUnreadable):
            read_event(changed)
    assert first.fault is last.fault is None
    assert CANARY.encode() in last.body


async def test_a_booking_has_one_key_and_what_belongs_to_none_has_its_own(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [booked("a"), booked("b"), booked("a")])
    await append(connection, MAIN, [booked("a"), booked("b")])
    assert len(await keys_of(connection)) == 2
    await append(connection, MAIN, [new_event("unattributed-2026-12-01", body=b"1") for _ in range(3)])
    assert len(await keys_of(connection)) == 5


async def test_two_processes_write_to_one_booking_and_read_each_other(
    connection: asyncpg.Connection, database: str
) -> None:
    other = await connect(database)
    try:
        for _ in range(3):
            await append(connection, MAIN, [booked("a")])
            await append(other, MAIN, [booked("a")])
        assert len(await keys_of(connection)) == 2
        for reader in (connection, other):
            assert [event.fault for event in await whole_log(reader)] == [None] * 6
    finally:
        await other.close()


async def test_one_question_for_the_keys_of_a_page(connection: asyncpg.Connection, database: str) -> None:
    await append(connection, MAIN, [booked(f"b{n}") for n in range(300)])
    reader = await connect(database)
    asked: list[str] = []
    try:
        await whole_log(reader)
        reader.add_query_logger(lambda record: asked.append(record.query))
        await whole_log(reader)
        await asyncio.sleep(0)  # the driver tells its loggers a turn of the loop later
        assert len(asked) == 1, "what was opened once is remembered"
        keyring_of(reader).of(MAIN).opened.clear()
        await whole_log(reader)
        await asyncio.sleep(0)
        assert len(asked) == 3
    finally:
        await reader.close()


# Appending


async def test_the_same_batch_once_more_leaves_no_key_behind(connection: asyncpg.Connection, database: str) -> None:
    batch = [booked("a"), booked("b"), new_event("unattributed-2026-12-01", body=b"1")]
    await append(connection, MAIN, batch)
    keys = await keys_of(connection)
    other = await connect(database)
    try:
        assert [place.duplicate for place in await append(other, MAIN, batch)] == [True] * 3
        both = await append(other, MAIN, [*batch, booked("a")])
        assert [place.duplicate for place in both] == [True, True, True, False]
        assert len(await keys_of(connection)) == len(keys) + 1
        assert [event.fault for event in await whole_log(other)] == [None] * 4
    finally:
        await other.close()


async def test_a_key_that_went_with_a_transaction_is_kept_with_the_next_event(connection: asyncpg.Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await append(connection, MAIN, [booked("a")])
    await transaction.rollback()
    assert await keys_of(connection) == []
    await append(connection, MAIN, [booked("a")])
    keyring_of(connection).of(MAIN).opened.clear()
    assert [event.fault for event in await whole_log(connection)] == [None]


async def test_a_lost_key_is_told_apart_from_one_that_was_destroyed(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [booked("a"), booked("b"), booked("c")])
    await destroy(connection, "booking-a")
    lost = await read_key_ids(connection, MAIN, [StreamId("booking-b")])
    await connection.execute("DELETE FROM ledger.body_keys WHERE key_id = ANY($1)", lost)
    keyring_of(connection).of(MAIN).opened.clear()
    erased, gone, whole = await whole_log(connection)
    assert (erased.is_erased, erased.fault, erased.body) == (True, None, b"")
    assert (gone.is_erased, gone.fault is not None) == (False, True)
    assert "nowhere" in str(gone.fault)
    assert whole.fault is None
    assert read_event(erased).facts == ()


# Destroying


async def test_what_was_destroyed_is_forgotten_by_everybody_at_once(
    connection: asyncpg.Connection, database: str
) -> None:
    other = await connect(database)
    try:
        await append(connection, MAIN, [booked("a"), booked("b")])
        await append(other, MAIN, [booked("a")])
        assert [event.is_erased for event in await whole_log(other)] == [False] * 3
        assert await destroy(connection, "booking-a") == 2
        for reader in (connection, other):
            assert [event.is_erased for event in await whole_log(reader)] == [True, False, True]
        await append(other, MAIN, [booked("a")])
        await append(connection, MAIN, [booked("a")])
        for reader in (connection, other):
            assert [event.is_erased for event in await whole_log(reader)] == [True, False, True, False, False]
        assert (await verify_chain(connection, await main_ledger(connection))).ok
    finally:
        await other.close()


async def test_a_batch_sealed_before_a_key_was_destroyed_does_not_go_in_under_it(
    connection: asyncpg.Connection, database: str
) -> None:
    """Destroying holds the head's lock; the batch waits for it, sealed under the key that is on its way out."""
    other = await connect(database)
    try:
        await append(other, MAIN, [booked("a")])
        async with connection.transaction():
            await destroy(connection, "booking-a")
            appending = asyncio.create_task(append(other, MAIN, [booked("a")]))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not await connection.fetchval(waiting):
                await connection.execute("SELECT pg_stat_clear_snapshot()")
        await appending
        assert [event.is_erased for event in await whole_log(other)] == [True, False]
    finally:
        await other.close()


async def test_a_destroyed_key_stays_destroyed(connection: asyncpg.Connection) -> None:
    await append(connection, MAIN, [booked("a")])
    await destroy(connection, "booking-a")
    with pytest.raises(asyncpg.RestrictViolationError, match="stays so"):
        await connection.execute("UPDATE ledger.body_keys SET wrapped = $1, root_key = '00000000'", bytes(60))
    assert await destroy(connection, "booking-a") == 0


async def test_ledgers_are_apart(connection: asyncpg.Connection) -> None:
    other = await add_ledger(connection)
    event = booked("a")
    for ledger_id in (MAIN, other):
        await append(connection, ledger_id, [event])
    await destroy(connection, "booking-a")
    [here], [there] = await whole_log(connection), await whole_log(connection, other)
    assert (here.is_erased, there.is_erased, there.body) == (True, False, event.body)


@pytest.mark.parametrize("seal", ["discarded", "fresh", "none"])
async def test_an_event_may_be_sealed_otherwise(connection: asyncpg.Connection, seal: str) -> None:
    event = new_event("booking-a", body=CANARY.encode())
    await append(connection, MAIN, [new_event("booking-a")])
    await append(connection, MAIN, [msgspec.structs.replace(event, seal=seal)])
    await append(connection, MAIN, [new_event("booking-a")])
    events = await whole_log(connection)
    assert [one.fault for one in events] == [None] * 3
    assert (events[1].is_erased, events[1].is_plain) == (seal == "discarded", seal == "none")
    assert events[1].body == (b"" if seal == "discarded" else CANARY.encode())
    assert len(await keys_of(connection)) == {"discarded": 2, "fresh": 2, "none": 1}[seal]


# Root keys


async def test_without_a_setting_a_root_key_is_made_once(connection: asyncpg.Connection, database: str) -> None:
    others = [await connect(database) for _ in range(4)]
    try:
        await asyncio.gather(*(append(one, MAIN, [booked(f"b{n}")]) for n, one in enumerate(others)))
        assert await connection.fetchval("SELECT count(*) FROM ledger.root_keys WHERE secret IS NOT NULL") == 1
        assert [event.fault for event in await whole_log(connection)] == [None] * 4
    finally:
        for one in others:
            await one.close()


async def test_another_root_key_than_the_logs_is_refused(outside: asyncpg.Connection, database: str) -> None:
    await append(outside, MAIN, [booked("a")])
    for root_keys in ((SECOND,), ()):
        stranger = await connection_with(database, *root_keys)
        try:
            with pytest.raises(SealingKeyMissing, match=RootKey(FIRST).id):
                await check_keys(stranger)
            with pytest.raises(SealingKeyMissing):
                await append(stranger, MAIN, [booked("b")])
            with pytest.raises(SealingKeyMissing):
                await whole_log(stranger)
        finally:
            await stranger.close()


async def test_a_log_that_was_sealed_by_its_own_key_moves_out(connection: asyncpg.Connection, database: str) -> None:
    await append(connection, MAIN, [booked(f"b{n}") for n in range(2_500)])
    await destroy(connection, "booking-b7")
    outside = await connection_with(database, FIRST)
    try:
        await append(outside, MAIN, [booked("new")])
        before = await outside.fetch("SELECT state, digest FROM ledger.events ORDER BY position")
        assert not (await read_sealing(outside)).is_outside
        told: list[tuple[int, int]] = []
        done = await rewrap(outside, tell=lambda *one: told.append(one))
        assert (done.rewrapped, done.root_key, len(done.forgotten)) == (2_499, RootKey(FIRST).id, 1)
        assert told[-1] == (2_499, 2_499)
        assert (await rewrap(outside)).rewrapped == 0
        status = await read_sealing(outside)
        assert (status.is_outside, status.destroyed) == (True, 1)
        assert [(one.root_key, one.place, one.body_keys) for one in status.root_keys] == [
            (RootKey(FIRST).id, "SEALING_KEY", 2_500)
        ]
        assert await outside.fetchval("SELECT count(*) FROM ledger.root_keys WHERE secret IS NOT NULL") == 0
        assert await outside.fetch("SELECT state, digest FROM ledger.events ORDER BY position") == before
    finally:
        await outside.close()
    reader = await connection_with(database, FIRST)
    try:
        events = await whole_log(reader)
        assert [event.is_erased for event in events].count(True) == 1
        assert [event.fault for event in events] == [None] * 2_501
        await check_keys(reader)
    finally:
        await reader.close()


async def test_a_root_key_is_changed_while_events_come_in(outside: asyncpg.Connection, database: str) -> None:
    """Every process has both keys by then; which of them wraps differs for a while."""
    await append(outside, MAIN, [booked(f"old{n}") for n in range(1_500)])
    old, new = await connection_with(database, FIRST, SECOND), await connection_with(database, SECOND, FIRST)
    admin = await connection_with(database, SECOND, FIRST)
    ending = asyncio.Event()

    async def keep_appending(connection: asyncpg.Connection, name: str) -> tuple[int, int]:
        kept, turned_away = 0, 0
        while not ending.is_set():
            try:
                await append(connection, MAIN, [booked(f"{name}{kept}"), booked("shared")])
                kept += 2
            except StoreUnavailable:
                turned_away += 1
            await asyncio.sleep(0)
        return kept, turned_away

    try:
        writers = [asyncio.create_task(keep_appending(new, "n")), asyncio.create_task(keep_appending(old, "o"))]
        await rewrap(admin)
        ending.set()
        (kept, failures), (kept_by_old, _) = await asyncio.gather(*writers)
        assert (failures, kept > 0) == (0, True)
        only_new = await connection_with(database, SECOND)
        try:
            await rewrap(only_new)
            events = await whole_log(only_new)
            assert [event.fault for event in events] == [None] * (1_500 + kept + kept_by_old)
        finally:
            await only_new.close()
    finally:
        ending.set()
        for one in (old, new, admin):
            await one.close()


async def test_a_rewrap_that_was_killed_is_finished_by_the_next(outside: asyncpg.Connection, database: str) -> None:
    await append(outside, MAIN, [booked(f"b{n}") for n in range(2_500)])
    both = await connection_with(database, SECOND, FIRST)

    class Killed(Exception):
        pass

    def die(_done: int, _total: int) -> None:
        raise Killed

    try:
        with pytest.raises(Killed):
            await rewrap(both, tell=die)
        assert [event.fault for event in await whole_log(outside)] == [None] * 2_500, "with the old key alone"
    except SealingKeyMissing:
        pass  # what has been wrapped anew already wants the new one
    finally:
        await both.close()
    both = await connection_with(database, SECOND, FIRST)
    try:
        assert (await rewrap(both)).rewrapped == 1_500
    finally:
        await both.close()
    new = await connection_with(database, SECOND)
    try:
        await check_keys(new)
        assert [event.fault for event in await whole_log(new)] == [None] * 2_500
    finally:
        await new.close()


async def test_who_goes_on_with_a_retired_root_key_is_turned_away(outside: asyncpg.Connection, database: str) -> None:
    await append(outside, MAIN, [booked("a")])
    both = await connection_with(database, SECOND, FIRST)
    try:
        await append(both, MAIN, [booked("b")])
        await rewrap(both)
        with pytest.raises(StoreUnavailable, match=RootKey(SECOND).id):
            await append(outside, MAIN, [booked("a")])
        assert [event.fault for event in await whole_log(both)] == [None] * 2
    finally:
        await both.close()


# Keys in a database of their own


@pytest_asyncio.fixture
async def apart(empty_database: str) -> Sealing:
    """Where keys live apart from the log."""
    sealing = Sealing(keys_dsn=empty_database)
    await migrate_keys(sealing)
    return sealing


async def test_keys_live_in_a_database_of_their_own(database: str, apart: Sealing) -> None:
    async with opened_keyring(apart) as keyring:
        connection = await connect(database, keyring=keyring)
        await check_keys(connection)
        batch = [booked("a"), booked("b")]
        await append(connection, MAIN, batch)
        assert [place.duplicate for place in await append(connection, MAIN, batch)] == [True, True]
        assert await keys_of(connection) == []
        assert await connection.fetchval("SELECT count(*) FROM ledger.root_keys") == 0
        assert await destroy(connection, "booking-a") == 1
        await append(connection, MAIN, [booked("a")])
        await connection.close()
    async with opened_keyring(apart) as keyring:
        connection = await connect(database, keyring=keyring)
        assert [event.is_erased for event in await whole_log(connection)] == [True, False, False]
        await connection.close()
    alone = await connect(database)
    with pytest.raises(BodyUnreadable, match="KEYS_DATABASE_URL"):
        await check_keys(alone)
    assert all(event.fault for event in await whole_log(alone))
    await alone.close()


async def test_keys_of_before_they_lived_apart_are_found_and_move_over(
    connection: asyncpg.Connection, database: str, apart: Sealing
) -> None:
    await append(connection, MAIN, [booked(f"b{n}") for n in range(1_200)])
    await destroy(connection, "booking-b5")
    async with opened_keyring(apart) as keyring:
        moved = await connect(database, keyring=keyring)
        await append(moved, MAIN, [booked("new"), booked("b1")])
        assert_one_erased(await whole_log(moved), count=1_202)
        assert (await read_sealing(moved)).left_behind == 1_200
        assert (await rewrap(moved)).moved == 1_200
        assert await keys_of(moved) == []
        keyring.of(MAIN).opened.clear()
        assert_one_erased(await whole_log(moved), count=1_202)
        await moved.close()


def assert_one_erased(events: Sequence[RecordedEvent], *, count: int) -> None:
    assert [event.fault for event in events] == [None] * count
    assert [event.is_erased for event in events].count(True) == 1
