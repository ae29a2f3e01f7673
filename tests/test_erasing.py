"""Erasing persons: what goes, what others keep, and that nobody comes back."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from api.erasing import erasing, finish_erasures
from ledger.chain import verify_chain
from ledger.erasing import Extent
from ledger.erasures import Counts, ErasureTold
from ledger.filing import Receipt, file_delivery
from ledger.postgres import Connection, open_pool
from ledger.settings import Secret, Settings
from ledger.store import Ledger, append, read_head, read_ledgers, read_log
from ledger.tombstones import without_erased
from ledger.vocabulary import LedgerId, Position
from projections.runner import Runner
from tests.account import fold_bodies, show
from tests.builders import add_ledger, main_ledger, webhook
from tests.rebuilding import Rows, assert_same, but_for_when, filled, read_models
from tests.reconciling import bench
from tests.serving import connected
from tests.sources import ROOT
from tests.town import HOST, Citizen, Town, build, everywhere, payload

BEGUN = datetime(2026, 10, 1, 8, 0, tzinfo=UTC)


class Household:
    """A ledger in a database of its own, with what is done to it in these tests."""

    def __init__(self, dsn: str, home: Path) -> None:
        self.dsn = dsn
        self.home = home
        self.settings = Settings(database_url=Secret(dsn.encode()), home=home)

    async def deliver(self, connection: Connection, *bodies: bytes, ledger: Ledger | None = None) -> None:
        """As a server takes them in; the read models follow."""
        log = ledger or await main_ledger(connection)
        for body in bodies:
            filing = file_delivery(log, body, Receipt(received_at=datetime.now(UTC)), fresh_id=uuid4())
            await append(connection, log.ledger_id, filing.events, admit=without_erased)
        await self.catch_up()

    async def catch_up(self) -> None:
        async with await open_pool(self.dsn, connections_max=3) as pool:
            await Runner(pool, self.dsn).catch_up()

    async def erase(self, *emails: str, ledger: Ledger | None = None) -> list[ErasureTold]:
        async with erasing(self.settings, self.dsn) as work:
            return await work.erase(ledger or await main_ledger(work.connection), emails)

    async def measure(self, *emails: str) -> Extent:
        async with erasing(self.settings, self.dsn) as work:
            return await work.measure(await main_ledger(work.connection), emails)


@pytest.fixture
def household(database: str, tmp_path: Path) -> Household:
    return Household(database, tmp_path)


async def dump(connection: Connection) -> bytes:
    """Every row of every table and view in the database, as COPY writes it."""
    found: list[bytes] = []

    async def take(data: bytes) -> None:
        found.append(data)

    names = await connection.fetch(
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        ORDER BY 1
        """
    )
    for row in names:
        if row["name"] != "interop.stored_events":  # it refuses sealed bodies
            await connection.copy_from_query(f"SELECT * FROM {row['name']}", output=take)  # noqa: S608  # ours
    return b"".join(found)


def told(rows: Rows, table: str) -> list[dict[str, Any]]:
    return [json.loads(row) for row in rows[table]]


def of_others(row: dict[str, Any], erased: Collection[str]) -> dict[str, Any]:
    """A booking's row, without those erased and without what may be of them: who comes first, and free text."""
    attendees = [one for one in row["attendees"] if one["email"] not in erased]
    free = ("attendee_email", "attendee_name", "attendee_phone", "title", "description", "cancellation_reason")
    return {name: value for name, value in row.items() if name not in (*free, "cancelled_by")} | {
        "attendees": attendees
    }


def assert_others_are_as_before(before: Rows, after: Rows, town: Town, erased: Collection[Citizen]) -> None:
    numbers = frozenset(one.number for one in erased)
    emails = {one.email for one in erased}
    alone = town.alone(numbers)
    touched = {uid for uid, people in town.bookings.items() if people & numbers}
    bookings = {row["cal_com_event_id"]: row for row in told(after, "calendar_events.calendar_events")}
    expected = {row["cal_com_event_id"]: row for row in told(before, "calendar_events.calendar_events")}
    assert bookings.keys() == expected.keys() - alone
    for uid, row in bookings.items():
        assert of_others(row, emails) == of_others(expected[uid], emails), uid
        if uid not in touched:
            assert row == expected[uid], uid
    attendees = "booking_attendees.booking_attendees"
    kept = [row for row in told(before, attendees) if row["email"] not in emails and row["uid"] not in alone]
    assert told(after, attendees) == kept


async def test_a_town_forgets_some_of_its_people(connection: asyncpg.Connection, household: Household) -> None:
    town = build(120, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    before = await read_models(connection)
    erased = [one for one in town.citizens if one.number % 7 == 0]
    full = await dump(connection)
    assert all(list(everywhere([one], full)) for one in erased)
    await household.erase(*(one.written for one in erased))
    after = await read_models(connection)
    whole = await dump(connection)
    assert list(everywhere(erased, whole)) == []
    assert_others_are_as_before(before, after, town, erased)
    assert_same(await filled(connection, household.dsn), after)
    ledger = await main_ledger(connection)
    assert (await verify_chain(connection, ledger)).ok
    await household.deliver(connection, *town.bodies)
    assert_same(await read_models(connection), after)


async def test_killed_at_any_statement_it_is_finished_by_the_next_try(
    connection: asyncpg.Connection, household: Household
) -> None:
    town = build(30, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    before = await read_models(connection)
    erased = [town.citizens[number - 1] for number in (2, 5, 7, 20)]
    emails = [one.email for one in erased]
    dying = [sys.executable, "-m", "tests.dying_eraser", household.dsn, str(household.home), *emails]
    run = await asyncio.to_thread(subprocess.run, dying, cwd=ROOT, capture_output=True, check=False, timeout=600)
    assert run.returncode == 0, run.stderr.decode()
    assert int(run.stdout.split()[-1]) > 50
    assert list(everywhere(erased, await dump(connection))) == []
    after = await read_models(connection)
    assert_others_are_as_before(before, after, town, erased)
    assert_same(await filled(connection, household.dsn), after)
    assert (await verify_chain(connection, await main_ledger(connection))).ok


async def test_what_is_told_late_of_who_was_erased_comes_in_without_them(
    connection: asyncpg.Connection, household: Household
) -> None:
    town = build(60, begun=BEGUN)
    early, late = town.bodies[::2], town.bodies[1::2]
    await household.deliver(connection, *early)
    erased = [one for one in town.citizens if one.number % 3 == 0]
    await household.erase(*(one.email for one in erased))
    await household.deliver(connection, *late)
    assert list(everywhere(erased, await dump(connection))) == []
    live = await read_models(connection)
    assert_same(await filled(connection, household.dsn), live)
    shown = {row["cal_com_event_id"] for row in told(live, "calendar_events.calendar_events")}
    alone = town.alone(frozenset(one.number for one in erased))
    assert {uid for uid in shown & alone if (await names_of(connection, uid))} == set()
    others = {one.email for one in town.citizens if one not in erased}
    there = {row["email"] for row in told(live, "booking_attendees.booking_attendees")}
    assert there <= others
    assert len(there) > len(others) * 0.8


async def names_of(connection: asyncpg.Connection, uid: str) -> list[str]:
    rows = await connection.fetch("SELECT email FROM booking_attendees WHERE uid = $1", uid)
    return [row["email"] for row in rows]


async def test_a_process_that_has_not_heard_of_the_erasure_brings_nobody_back(
    connection: asyncpg.Connection, household: Household
) -> None:
    ann, bob = Citizen(1), Citizen(2)
    told_before = payload("a", ann, start=BEGUN)
    await household.deliver(connection, webhook("BOOKING_CREATED", told_before, at=BEGUN))
    async with await open_pool(household.dsn, connections_max=1) as pool, pool.acquire() as other:
        ledger = await main_ledger(other)
        await file_late(other, ledger, webhook("BOOKING_CREATED", payload("b", bob, start=BEGUN), at=BEGUN))
        await household.erase(ann.email)
        late = [
            webhook("BOOKING_PAID", {"uid": "a", "paymentId": 1}, at=BEGUN),
            webhook("BOOKING_CANCELLED", told_before, at=BEGUN),
            webhook("BOOKING_CREATED", payload("c", ann, start=BEGUN), at=BEGUN),
            webhook("BOOKING_CREATED", payload("d", bob, ann, start=BEGUN), at=BEGUN),
        ]
        for body in late:
            await file_late(other, ledger, body)
    await household.catch_up()
    assert list(everywhere([ann], await dump(connection))) == []
    shown = await connection.fetch("SELECT cal_com_event_id FROM calendar_events ORDER BY 1")
    assert [row["cal_com_event_id"] for row in shown] == ["b", "d"]
    assert await names_of(connection, "d") == [bob.email]


async def file_late(connection: Connection, ledger: Ledger, body: bytes) -> None:
    filing = file_delivery(ledger, body, Receipt(received_at=datetime.now(UTC)), fresh_id=uuid4())
    await append(connection, ledger.ledger_id, filing.events, admit=without_erased)


async def test_whoever_was_erased_may_book_anew(connection: asyncpg.Connection, household: Household) -> None:
    ann = Citizen(1)
    await household.deliver(connection, webhook("BOOKING_CREATED", payload("old", ann, start=BEGUN), at=BEGUN))
    await household.erase(ann.email)
    later = datetime.now(UTC) + timedelta(minutes=1)
    await household.deliver(connection, webhook("BOOKING_CREATED", payload("new", ann, start=later), at=later))
    shown = await connection.fetch("SELECT cal_com_event_id, attendee_email FROM calendar_events")
    assert [tuple(row) for row in shown] == [("new", ann.email)]
    await household.erase(ann.email)
    assert list(everywhere([ann], await dump(connection))) == []


async def test_erasing_twice_changes_nothing_more(connection: asyncpg.Connection, household: Household) -> None:
    town = build(20, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    email = town.citizens[12].email
    (first,) = await household.erase(email)
    before, head = await read_models(connection), await read_head(connection, LedgerId(1))
    (second,) = await household.erase(email)
    assert (await read_head(connection, LedgerId(1))).position == head.position
    assert_same(await read_models(connection), before)
    assert first.receipt == Counts(bookings=1, shared_bookings=0, events=2)
    assert second.receipt == Counts(bookings=0, shared_bookings=0, events=0)
    assert first.state == second.state == "done"


async def test_a_dry_run_changes_nothing_and_names_nobody_else(
    connection: asyncpg.Connection, household: Household
) -> None:
    town = build(60, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    one = town.citizens[3]
    before = await dump(connection)
    extent = await household.measure(one.written)
    assert await dump(connection) == before
    alone = town.alone(frozenset({one.number}))
    mine = {uid for uid, people in town.bookings.items() if one.number in people}
    assert extent.bookings == sorted(alone)
    assert extent.shared_bookings == sorted(mine - alone)
    assert list(everywhere(town.citizens, msgspec.json.encode(extent))) == []
    host = await household.measure(HOST["email"])
    assert host.bookings == []
    assert set(host.shared_bookings) == set(host.hosted_bookings) >= mine


async def test_the_same_person_and_the_same_uids_in_another_ledger_stay_as_they_are(
    connection: asyncpg.Connection, household: Household
) -> None:
    await add_ledger(connection)
    other = (await read_ledgers(connection))["other"]
    town = build(40, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    await household.deliver(connection, *town.bodies, ledger=other)
    before = await of_other(connection, other)
    erased = [one for one in town.citizens if one.number % 4 == 0]
    await household.erase(*(one.email for one in erased))
    assert await of_other(connection, other) == before
    assert (await verify_chain(connection, other)).ok
    log = await read_log(connection, other.ledger_id, after=Position(0), events_max=10_000)
    assert not any(event.is_erased for event in log)
    assert len(list(everywhere(erased, await dump(connection)))) > len(erased)


async def of_other(connection: asyncpg.Connection, ledger: Ledger) -> bytes:
    """All rows of the other ledger, in every table that has ledgers."""
    found = []
    tables = await connection.fetch(
        """
        SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.columns
        JOIN information_schema.tables USING (table_schema, table_name)
        WHERE column_name = 'ledger_id' AND table_type = 'BASE TABLE' AND table_name NOT IN ('checkpoints', 'leases')
        ORDER BY 1
        """
    )
    for table in tables:
        rows = await connection.fetch(
            f"SELECT to_jsonb(t)::text FROM {table['name']} AS t WHERE ledger_id = $1 ORDER BY 1",  # noqa: S608  # ours
            ledger.ledger_id,
        )
        found += [table["name"].encode(), *(row[0].encode() for row in rows)]
    return b"\n".join(found)


async def test_reconciliation_brings_nobody_back(database: str, tmp_path: Path) -> None:
    town = build(40, begun=BEGUN)
    erased = [one for one in town.citizens if one.number % 4 == 0]
    shown = [show(booking) for booking in fold_bodies(town.bodies).values() if booking.uid]
    household = Household(database, tmp_path)
    async with bench(database, shown) as account, connected(database) as connection:
        await household.deliver(connection, *town.bodies[: len(town.bodies) // 2])
        await household.erase(*(one.email for one in erased))
        account.clock.ahead = timedelta(days=90)
        await account.reconcile()
        assert list(everywhere(erased, await dump(connection))) == []
        bookings = await account.bookings()
        assert len(bookings) > len(town.bookings) // 2
        alone = town.alone(frozenset(one.number for one in erased))
        assert bookings.keys().isdisjoint(alone)
        observed = len(await account.observations())
        assert observed > 5
        again = await account.reconcile()
        assert (again.missing, again.stale) == (0, 0)
        assert len(await account.observations()) == observed
        assert_same(await filled(connection, database), await read_models(connection))


async def test_a_restored_backup_erases_again_before_it_is_served(
    connection: asyncpg.Connection, household: Household, tmp_path: Path
) -> None:
    town = build(30, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    household.settings = msgspec.structs.replace(household.settings, erasures_folder=tmp_path / "receipts")
    backup = await whole_database(connection)
    erased = [one for one in town.citizens if one.number % 5 == 0]
    await household.erase(*(one.email for one in erased))
    after = await read_models(connection)
    await restore(connection, backup)
    assert list(everywhere(erased, await dump(connection)))
    await finish_erasures(household.settings, household.dsn)
    assert list(everywhere(erased, await dump(connection))) == []
    again = but_for_when(await read_models(connection))
    assert_same(
        *(
            {table: rows for table, rows in some.items() if table != "facts.facts"}
            for some in (again, but_for_when(after))
        )
    )
    receipts = (tmp_path / "receipts" / "main.jsonl").read_bytes()
    assert list(everywhere(town.citizens, receipts)) == []
    head = await read_head(connection, LedgerId(1))
    await finish_erasures(household.settings, household.dsn)
    assert await read_head(connection, LedgerId(1)) == head


async def whole_database(connection: asyncpg.Connection) -> dict[str, bytes]:
    """Every table of ours, as a dump has it."""
    return {name: await copied(connection, name) for name in await our_tables(connection)}


async def our_tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.oid IN (SELECT schema_id FROM access.our_schemas())
        ORDER BY 1
        """
    )
    return [row["name"] for row in rows]


async def copied(connection: asyncpg.Connection, name: str) -> bytes:
    data: list[bytes] = []

    async def take(piece: bytes) -> None:
        data.append(piece)

    await connection.copy_from_query(f"SELECT * FROM {name}", output=take, format="binary")  # noqa: S608  # ours
    return b"".join(data)


async def restore(connection: asyncpg.Connection, backup: dict[str, bytes]) -> None:
    """The tables hold what the backup holds, and nothing else."""
    await connection.execute("SET session_replication_role = replica")
    async with connection.transaction():
        for name in backup:
            await connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER ALL")
        await connection.execute(f"TRUNCATE {', '.join(backup)}")
        for name, data in backup.items():
            schema, _, table = name.partition(".")
            await connection.copy_to_table(table, schema_name=schema, source=io.BytesIO(data), format="binary")
        for name in backup:
            await connection.execute(f"ALTER TABLE {name} ENABLE TRIGGER ALL")
        await connection.execute("ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only")
    await connection.execute("SET session_replication_role = origin")


async def test_what_is_over_for_long_is_erased_with_all_who_are_in_it(
    connection: asyncpg.Connection, household: Household
) -> None:
    ann, bob = Citizen(1), Citizen(2)
    old, young = datetime.now(UTC) - timedelta(days=400), datetime.now(UTC) - timedelta(days=10)
    await household.deliver(
        connection,
        webhook("BOOKING_CREATED", payload("old", ann, bob, start=old), at=old),
        webhook("BOOKING_CREATED", payload("begun", ann, start=old), at=old),
        webhook("BOOKING_RESCHEDULED", payload("moved", ann, start=young, rescheduleUid="begun"), at=young),
        webhook("FORM_SUBMITTED", {"email": bob.email}, at=old),
    )
    async with erasing(household.settings, household.dsn) as work:
        ledger = await main_ledger(work.connection)
        assert await work.erase_old(ledger, days=365, now=datetime.now(UTC)) == 1
        assert await work.erase_old(ledger, days=365, now=datetime.now(UTC)) == 0
    shown = await connection.fetch("SELECT cal_com_event_id FROM calendar_events ORDER BY 1")
    assert [row["cal_com_event_id"] for row in shown] == ["begun", "moved"]
    log = await read_log(connection, ledger.ledger_id, after=Position(0), events_max=100)
    assert [event.position for event in log if event.is_erased] == [1]
    late = webhook("BOOKING_CANCELLED", payload("old", ann, bob, start=old), at=young)
    await household.deliver(connection, late)
    assert len(await connection.fetch("SELECT FROM calendar_events")) == 2
