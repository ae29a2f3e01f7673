"""What may stand in the way of an erasure, or beside it: pauses, rebuilds, parked events, spools, keys apart."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from api.erasing import erasing, finish_erasures, wanted_address
from api.jobs import INTERVALS, retention_job
from ledger.appender import Appender
from ledger.database_roles import create_roles, role_url
from ledger.errors import BadParameter, BadSetting, NotErasable, ReceiptsUnusable
from ledger.filing import Receipt, file_delivery
from ledger.postgres import connect, open_pool
from ledger.schedule import Taken
from ledger.sealing import migrate_keys, opened_keyring, sealing_of
from ledger.settings import Secret, load_settings
from ledger.spool import Spool
from ledger.spool_file import SpoolFile
from ledger.spool_folder import spool_folder
from ledger.spooled import ledger_mark
from ledger.store import append, read_ledgers, read_log
from ledger.vocabulary import LedgerId, Position
from projections.rebuild import SQL as REBUILD_SQL
from projections.rebuild import begin_rebuild, set_paused
from projections.runner import Runner
from tests.builders import deliver, main_ledger, new_event, webhook
from tests.rebuilding import assert_same, but_for_when, filled, read_models, rebuild
from tests.serving import connected, until
from tests.test_erasing import BEGUN, Household, dump, household, names_of
from tests.town import HOST, Citizen, build, everywhere, payload

__all__ = ["household"]

ANN, BOB = Citizen(1), Citizen(2)
ALONE = webhook("BOOKING_CREATED", payload("alone", ANN, start=BEGUN), at=BEGUN)
SHARED = webhook("BOOKING_CREATED", payload("shared", BOB, ANN, start=BEGUN), at=BEGUN)


@pytest.mark.parametrize("name", ["calendar_events", "booking_attendees", "webhook_logs", "facts"])
async def test_a_paused_read_model_forgets_too(connection: asyncpg.Connection, household: Household, name: str) -> None:
    await household.deliver(connection, ALONE, SHARED)
    await set_paused(connection, name, paused=True)
    await household.erase(ANN.email)
    assert list(everywhere([ANN], await dump(connection))) == []
    await set_paused(connection, name, paused=False)
    await household.catch_up()
    assert list(everywhere([ANN], await dump(connection))) == []
    live = await read_models(connection)
    for table, rows in (await filled(connection, household.dsn)).items():
        if table not in ("calendar_events.calendar_events", "sync_lag.sync_lag"):  # the shared one was visible anew
            assert live[table] == rows
    assert await names_of(connection, "shared") == [BOB.email]


async def test_a_rebuild_under_way_begins_anew(connection: asyncpg.Connection, household: Household) -> None:
    await household.deliver(connection, ALONE, SHARED)
    generation = await begin_rebuild(connection, "webhook_logs")
    await connection.execute(REBUILD_SQL["create_tables"], "webhook_logs", generation)
    copied = f"INSERT INTO webhook_logs_{generation}.webhook_logs SELECT * FROM projections.webhook_logs"  # noqa: S608
    await connection.execute(copied)
    await household.erase(ANN.email)
    assert list(everywhere([ANN], await dump(connection))) == []
    states = await connection.fetch("SELECT state FROM projections.generations WHERE projection = 'webhook_logs'")
    assert sorted(row["state"] for row in states) == ["building", "dropped", "live"]


async def test_every_rebuild_afterwards_gives_what_is_live(
    connection: asyncpg.Connection, household: Household
) -> None:
    town = build(30, begun=BEGUN)
    await household.deliver(connection, *town.bodies)
    erased = [one for one in town.citizens if one.number % 6 == 0]
    await household.erase(*(one.email for one in erased))
    before = await read_models(connection)
    await rebuild(household.dsn)
    assert_same(await read_models(connection), before)
    assert list(everywhere(erased, await dump(connection))) == []


async def test_an_error_that_quotes_somebody_is_forgotten(connection: asyncpg.Connection, household: Household) -> None:
    await household.deliver(connection, ALONE)
    await connection.execute(
        """
        INSERT INTO projections.parked_events (ledger_id, projection, generation, position, stream_id, error, attempts)
        VALUES (1, 'calendar_events', 1, 1, 'booking-alone', $1, 3)
        """,
        f"DataError: {ANN.email}",
    )
    await connection.execute(
        """
        INSERT INTO ledger.drift (ledger_id, stream_id, field, found_at, kind, ours, theirs)
        VALUES (1, 'booking-alone', 'attendees', now(), 'stale', $1, 'other@example.com')
        """,
        ANN.email,
    )
    await connection.execute(
        "INSERT INTO interop.snapshots VALUES (1, 'app', 'theirs', 1, 'a:S', $1), (1, 'app', 'x', 1, 'a:S', 'x')",
        ANN.email.encode(),
    )
    await connection.execute(
        """
        INSERT INTO ledger.questions (ledger_id, uid, reason, since, ask_at)
        VALUES (1, 'alone', 'doubt', now(), now())
        """
    )
    await household.erase(ANN.email)
    assert list(everywhere([ANN], await dump(connection))) == []
    assert await connection.fetchval("SELECT count(*) FROM interop.snapshots") == 1
    assert await connection.fetchval("SELECT count(*) FROM ledger.questions") == 0
    assert await connection.fetchval("SELECT healed_at FROM ledger.drift") is not None


async def test_what_waits_in_the_spool_comes_in_without_them(
    connection: asyncpg.Connection, household: Household
) -> None:
    ledger = await main_ledger(connection)
    folder = spool_folder(household.home)
    async with Spool(SpoolFile(folder)).running() as spool:
        await spool.put(ledger, ALONE, Receipt(received_at=BEGUN), fresh_id=uuid4())
        await spool.put(ledger, SHARED, Receipt(received_at=BEGUN), fresh_id=uuid4())
        (first, _) = await spool.read(ledger_mark(ledger))
        await spool.set_aside(ledger_mark(ledger), first.spool_id, "DataError")
        await household.erase(ANN.email)
        assert (await spool.state()).set_aside == {}
    await household.catch_up()
    assert list(everywhere([ANN], await dump(connection))) == []
    on_disk = b"".join(path.read_bytes() for path in folder.iterdir())
    assert list(everywhere([ANN], on_disk)) == []
    shown = await connection.fetch("SELECT cal_com_event_id FROM calendar_events")
    assert [row["cal_com_event_id"] for row in shown] == ["shared"]


async def test_bodies_that_were_never_sealed_are_not_said_to_be_erased(
    connection: asyncpg.Connection, household: Household
) -> None:
    event = msgspec.structs.replace(new_event("booking-alone", body=ALONE), seal="none")
    await append(connection, LedgerId(1), [event])
    with pytest.raises(NotErasable):
        await household.erase(ANN.email)
    assert await connection.fetchval("SELECT state FROM ledger.erasures") == "begun"


async def test_another_program_s_events_lose_what_lies_under_the_same_key(
    connection: asyncpg.Connection, household: Household
) -> None:
    told = [
        new_event("dog-1", body=b'{"owner":"nobody"}', topic="app:Dog.Registered"),
        new_event("dog-1", body=b'{"owner":"%s"}' % ANN.email.encode(), topic="app:Dog.Sold"),
        new_event("dog-2", body=b'{"owner":"%s"}' % BOB.email.encode(), topic="app:Dog.Registered"),
    ]
    await append(connection, LedgerId(1), told)
    assert (await household.measure(ANN.email)).other_streams == ["dog-1"]
    await household.erase(ANN.email)
    log = await read_log(connection, LedgerId(1), after=Position(0), events_max=10)
    assert [event.is_erased for event in log] == [True, True, False]


async def test_a_host_who_is_erased_leaves_the_bookings_to_those_who_booked(
    connection: asyncpg.Connection, household: Household
) -> None:
    await household.deliver(connection, ALONE, SHARED)
    await household.erase(HOST["email"])
    rows = await connection.fetch("SELECT host_email, host_name, attendee_email FROM calendar_events ORDER BY 3")
    assert [tuple(row) for row in rows] == [(None, None, ANN.email), (None, None, BOB.email)]
    assert HOST["name"].encode() not in await dump(connection)


async def test_receipts_that_cannot_be_read_stop_a_start(household: Household, tmp_path: Path) -> None:
    gone = msgspec.structs.replace(household.settings, erasures_folder=tmp_path / "not mounted")
    with pytest.raises(ReceiptsUnusable):
        await finish_erasures(gone, household.dsn)


async def test_a_receipt_that_was_cut_off_spoils_no_other(
    connection: asyncpg.Connection, household: Household, tmp_path: Path
) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    household.settings = msgspec.structs.replace(household.settings, erasures_folder=folder)
    (folder / "main.jsonl").write_bytes(b'{"erasure_id":"0198')
    await deliver(connection, ALONE)
    await household.erase(ANN.email)
    await finish_erasures(household.settings, household.dsn)
    lines = (folder / "main.jsonl").read_bytes().splitlines()
    assert len(lines) == 2
    assert ANN.email.encode() not in lines[1]


async def test_what_is_retained_by_age_is_erased_again_after_a_restore(
    connection: asyncpg.Connection, household: Household, tmp_path: Path
) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    household.settings = msgspec.structs.replace(household.settings, erasures_folder=folder)
    old = datetime.now(UTC) - timedelta(days=400)
    told = webhook("BOOKING_CREATED", payload("old", ANN, start=old), at=old)
    line = {"erasure_id": uuid4(), "ledger": "main", "cause": "retention", "erased_at": datetime.now(UTC)}
    (folder / "main.jsonl").write_bytes(msgspec.json.encode({**line, "streams": ["booking-old"]}) + b"\n")
    await household.deliver(connection, told)
    await finish_erasures(household.settings, household.dsn)
    assert list(everywhere([ANN], await dump(connection))) == []
    assert await connection.fetchval("SELECT count(*) FROM calendar_events") == 0


async def test_only_an_address_can_be_erased(household: Household) -> None:
    assert wanted_address("  Ann@Example.com\n") == "ann@example.com"
    for text in ("", "ann", "@example.com", "ann@", "a nn@example.com"):
        with pytest.raises(BadParameter):
            wanted_address(text)
    async with erasing(household.settings, household.dsn) as work:
        assert work.connection is not None


async def test_keys_that_live_apart_are_destroyed_there(household: Household, empty_database: str) -> None:
    settings = msgspec.structs.replace(household.settings, keys_database_url=Secret(empty_database.encode()))
    await migrate_keys(sealing_of(settings))
    town = build(20, begun=BEGUN)
    erased = [one for one in town.citizens if one.number % 5 == 0]
    async with opened_keyring(sealing_of(settings)) as keyring:
        connection = await connect(household.dsn, keyring=keyring)
        for body in town.bodies:
            await deliver(connection, body)
        pool = await open_pool(household.dsn, connections_max=3, keyring=keyring)
        await Runner(pool, household.dsn).catch_up()
        async with erasing(settings, household.dsn) as work:
            await work.erase(await main_ledger(connection), [one.email for one in erased])
        live = await read_models(connection)
        assert_same(await filled(connection, household.dsn), live)
        log = await read_log(connection, LedgerId(1), after=Position(0), events_max=1_000)
        assert list(everywhere(erased, b"".join(event.body for event in log))) == []
        assert {event.is_erased for event in log} == {True, False}
        assert list(everywhere(erased, await dump(connection))) == []
        await pool.close()
        await connection.close()
    async with connected(empty_database) as keys:
        destroyed = await keys.fetchval("SELECT count(*) FROM ledger.body_keys WHERE wrapped IS NULL")
    assert destroyed > 0


async def test_the_schedule_erases_what_is_old(connection: asyncpg.Connection, household: Household) -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    await household.deliver(connection, webhook("BOOKING_CREATED", payload("old", ANN, start=old), at=old), SHARED)
    ledgers = await read_ledgers(connection)
    job = retention_job(household.settings, household.dsn, ledgers, INTERVALS, days=30)
    await job.run(Taken())
    assert list(everywhere([ANN], await dump(connection))) == []
    (told,) = await connection.fetch("SELECT cause, state, person_tag FROM ledger.erasures")
    assert tuple(told) == ("retention", "done", None)


@pytest.mark.parametrize("days", ["0", "-1", "a year", "1.5", "36501"])
def test_a_retention_that_is_no_number_of_days_is_refused(days: str) -> None:
    assert load_settings({"RETENTION_DAYS": "730"}).retention_days == 730
    with pytest.raises(BadSetting, match="RETENTION_DAYS"):
        load_settings({"RETENTION_DAYS": days})


async def test_the_application_s_own_role_may_erase(connection: asyncpg.Connection, household: Household) -> None:
    await household.deliver(connection, ALONE, SHARED)
    await create_roles(connection)
    await Household(role_url(household.dsn, "application"), household.home).erase(ANN.email)
    assert list(everywhere([ANN], await dump(connection))) == []
    assert await names_of(connection, "shared") == [BOB.email]


async def test_deliveries_that_go_on_meanwhile_bring_nobody_back(
    connection: asyncpg.Connection, household: Household
) -> None:
    town = build(20, begun=BEGUN)
    erased = [one for one in town.citizens if one.number % 4 == 0]
    await household.deliver(connection, *town.bodies)
    is_over = asyncio.Event()

    async def go_on() -> int:
        """Everything again and again, each time sent at another time before the erasure."""
        rounds = 0
        async with await open_pool(household.dsn, connections_max=2) as pool, Appender(pool).running() as appender:
            ledger = await main_ledger(connection)
            while not is_over.is_set() or rounds < 2:
                rounds += 1
                for body in town.bodies:
                    again = body.replace(b"2026-10-01T08:", b"2026-09-%02dT08:" % (1 + rounds % 28))
                    filing = file_delivery(ledger, again, Receipt(received_at=datetime.now(UTC)), fresh_id=uuid4())
                    await appender.append(ledger.ledger_id, filing.events)
        return rounds

    going_on = asyncio.create_task(go_on())
    async with connected(household.dsn) as watching:
        await until(lambda: _has_events(watching, 3 * len(town.bodies)))
    await household.erase(*(one.email for one in erased))
    is_over.set()
    assert await going_on > 2
    await household.catch_up()
    assert list(everywhere(erased, await dump(connection))) == []
    assert_same(but_for_when(await filled(connection, household.dsn)), but_for_when(await read_models(connection)))
    shown = {row["cal_com_event_id"] for row in await connection.fetch("SELECT cal_com_event_id FROM calendar_events")}
    others = {uid for uid in town.bookings if uid not in town.alone(frozenset(one.number for one in erased))}
    assert shown >= others


async def _has_events(connection: asyncpg.Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT position >= $1 FROM ledger.ledgers WHERE ledger_id = 1", count))
