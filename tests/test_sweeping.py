"""Sweeps and questions on a real database, beside a Cal.com that lists lag, pages shift, answers fail."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from ledger.calcom.envelope import booking_stream
from ledger.comparing import SETTLE
from ledger.errors import CalComKeyRefused, CalComUnavailable
from ledger.passes import run_pass
from ledger.postgres import connect
from ledger.sweeping import OVERLAP, SweepLost, Wheel, ask_for_sweep, read_sweep
from tests.account import Shown, attendee, fold_bodies, lose, play, show
from tests.builders import instant, people, webhook
from tests.fake_calcom import Fault
from tests.reconciling import HASTY, Bench, bench
from tests.serving import until

LONG_AGO = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
ADA, BOB = "ada@example.com", "bob@example.com"
PAGE = 10


def created(
    uid: str = "one", *, at: datetime = LONG_AGO, starts: timedelta = timedelta(days=7), **more: object
) -> bytes:
    times = {"startTime": instant(LONG_AGO + starts), "endTime": instant(LONG_AGO + starts + timedelta(hours=1))}
    fields = {"uid": uid, "title": "Bath", "location": "12 Example Street", "attendees": people(ADA), **times}
    return webhook("BOOKING_CREATED", {**fields, **more}, at=at)


def shown(*bodies: bytes, **changes: Any) -> Shown:
    """The one booking that these bodies make, as the API shows it."""
    (known,) = fold_bodies(bodies).values()
    return show(known, **changes)


def many(count: int) -> list[Shown]:
    return [shown(created(f"uid{number:03}", at=LONG_AGO + timedelta(minutes=number))) for number in range(count)]


async def kinds(table: Bench) -> list[tuple[str, str, bool]]:
    rows = await table.rows("SELECT stream_id, field, healed_at IS NULL AS open FROM ledger.drift ORDER BY 1, 2")
    return [(row["stream_id"].removeprefix("booking-"), row["field"], row["open"]) for row in rows]


async def questions(table: Bench) -> dict[str, str]:
    return {row["uid"]: row["reason"] for row in await table.rows("SELECT uid, reason FROM ledger.questions")}


# What is appended


async def test_only_a_difference_is_appended_and_once(database: str) -> None:
    async with bench(database, [shown(created()), shown(created("two"), status="cancelled")]) as table:
        await table.deliver(created(), created("two"))
        first = await table.sweep()
        assert (first.seen, first.missing, first.stale, first.observed) == (2, 0, 1, 1)
        assert (await table.sweep()).observed == 0
        (event,) = await table.observations()
        assert (event.stream_id, event.topic, event.source) == ("booking-two", "calcom.observed", "reconcile")
        assert msgspec.json.decode(event.body)["status"] == "cancelled"
        assert await kinds(table) == [("two", "status", False)]


async def test_the_event_says_how_it_was_found_and_nothing_of_people(database: str) -> None:
    changed = shown(created(), status="cancelled", attendees=[attendee(BOB, absent=True)], location="14 Willow Lane")
    async with bench(database, [changed]) as table:
        await table.deliver(created())
        with capture_logs() as logs:
            sweep = await table.sweep()
        (event,) = await table.observations()
    told = msgspec.json.decode(event.metadata)
    assert (told["kind"], told["sweep_id"]) == ("stale", str(sweep.sweep_id))
    assert datetime.fromisoformat(told["differed_since"]) == LONG_AGO
    since = datetime.fromisoformat(told["asked_at"]) - LONG_AGO
    assert told["differed_seconds"] == round(since.total_seconds(), 3)
    assert told["differences"] == [
        {"field": "status", "ours": "accepted", "theirs": "cancelled"},
        {"field": "attendees"},
        {"field": "absent"},
        {"field": "location"},
    ]
    for text in (event.metadata, repr(logs)):
        assert "@" not in text
        assert "Willow" not in text


async def test_a_booking_that_goes_back_to_what_it_was_is_told_of_every_time(database: str) -> None:
    async with bench(database, [shown(created())]) as table:
        await table.deliver(created())
        booking = table.fake.find("one")
        for number, status in enumerate(("cancelled", "accepted", "cancelled", "accepted"), start=1):
            booking["status"] = status
            table.clock.ahead += timedelta(minutes=10)
            assert (await table.sweep()).observed == 1
            assert len(await table.observations()) == number
            assert (await table.bookings())["one"]["booking_status"] == status


async def test_two_who_find_the_same_tell_of_it_once(database: str) -> None:
    """Two processes ask at the same moment, each before it knows of the other's event."""
    async with bench(database, [shown(created(), status="cancelled")]) as table:
        await table.deliver(created())
        one, other = table.reconciler, table.another()
        asked = one.asked_now()
        listed = await one.fetch("one")
        assert listed is not None
        async with table.pool.acquire() as connection:
            first = await one.compare(connection, listed, asked)
            second = await other.compare(connection, listed, other.asked_now())
        assert [event.event_id for event in first.events] == [event.event_id for event in second.events]


async def test_bookings_known_by_number_find_their_uid(database: str) -> None:
    known = webhook("BOOKING_CREATED", {"bookingId": 4711, "title": "Bath", "attendees": people(ADA)}, at=LONG_AGO)
    async with bench(database, [shown(created(bookingId=4711))]) as table:
        await table.deliver(known)
        assert list(await table.bookings()) == ["4711"]
        assert (await table.sweep()).stale == 1
        assert list(await table.bookings()) == ["one"]
        assert (await table.sweep()).observed == 0
        assert ("one", "uid", False) in await kinds(table)


async def test_what_cannot_be_read_is_counted_and_the_others_go_on(database: str) -> None:
    broken = shown(created("broken"), attendees="nobody")
    async with bench(database, [*many(3), broken]) as table:
        table.fake.find("broken")["attendees"] = []
        table.fake.find("broken")["status"] = "postponed"
        with capture_logs() as logs:
            sweep = await table.sweep()
    assert (sweep.seen, sweep.missing, sweep.unreadable) == (3, 3, 1)
    told = {"event": "observations_unreadable", "bookings": 1, "first": "broken", "log_level": "warning"}
    assert told in logs


# Young


async def test_what_was_told_a_moment_ago_is_looked_at_again_and_not_overruled(database: str) -> None:
    """The webhook comes before Cal.com's own write, and the list reads a replica."""
    async with bench(database, [shown(created())]) as table:
        await table.deliver(created())
        gone = webhook("BOOKING_CANCELLED", {"uid": "one", "attendees": people(ADA)}, at=datetime.now(UTC))
        await table.deliver(gone)
        sweep = await table.sweep()
        assert (sweep.young, sweep.stale, sweep.observed) == (1, 0, 0)
        assert await questions(table) == {"one": "young"}
        table.fake.find("one")["status"] = "cancelled"
        table.clock.ahead = SETTLE
        assert await table.reconciler.answer_questions() == 0
        assert await questions(table) == {}
    assert (await table_status(database)) == "cancelled"


async def table_status(dsn: str) -> Any:
    connection = await connect(dsn)
    try:
        return await connection.fetchval("SELECT booking_status FROM projections.calendar_events")
    finally:
        await connection.close()


async def test_a_pass_that_somebody_waits_for_looks_again_by_itself(database: str) -> None:
    async with bench(database, [shown(created(), status="cancelled")]) as table:
        await table.deliver(created(at=datetime.now(UTC)))
        report = await table.reconcile()
        ((bookings, seconds),) = table.waited
        assert bookings == 1
        assert 0 < seconds <= SETTLE.total_seconds()
        assert (report.stale, report.observed) == (1, 1)
        assert (await table.bookings())["one"]["booking_status"] == "cancelled"


async def test_where_many_are_young_the_list_is_read_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.passes.YOUNG_ASKED_MAX", 3)
    now = datetime.now(UTC)
    bodies = [created(f"uid{number}", at=now - timedelta(milliseconds=number)) for number in range(5)]
    async with bench(database, [shown(body, status="cancelled") for body in bodies]) as table:
        await table.deliver(*bodies)
        report = await table.reconcile()
        assert (report.seen, report.stale, report.observed) == (5, 5, 5)
        assert not [one for one in table.fake.requests if one.path.startswith("/v2/bookings/")]


async def test_the_schedule_leaves_alone_what_cal_com_changed_a_moment_ago(database: str) -> None:
    """Its webhook may be on its way: Cal.com writes calendars and sends mails first."""
    fresh = shown(created(), updatedAt=instant(datetime.now(UTC)))
    async with bench(database, [fresh]) as table:
        patient = table.another(is_patient=True)
        sweep = await table.sweep(cause="schedule", reconciler=patient)
        assert (sweep.young, sweep.missing) == (1, 0)
        await table.deliver(created())
        table.clock.ahead = SETTLE
        assert await patient.answer_questions() == 0
        assert await table.observations() == []


async def test_a_list_that_lags_undoes_nothing(database: str) -> None:
    async with bench(database, [shown(created())]) as table:
        table.fake.list_lag_requests = 3
        await table.deliver(created())
        table.fake.change("one", status="cancelled")
        await table.deliver(
            webhook("BOOKING_CANCELLED", {"uid": "one", "attendees": people(ADA)}, at=datetime.now(UTC))
        )
        for _ in range(4):
            await table.sweep()
        table.clock.ahead = SETTLE + timedelta(seconds=1)
        await table.sweep()
        assert await table.observations() == []
        assert (await table.bookings())["one"]["booking_status"] == "cancelled"


# Which part is read


async def test_an_incremental_sweep_reads_what_changed_since_the_last_one(database: str) -> None:
    async with bench(database, many(30)) as table:
        full = await table.sweep("full")
        assert full.started_at is not None
        table.fake.change("uid007", status="cancelled")
        table.clock.ahead = OVERLAP * 2
        sweep = await table.sweep("incremental")
        assert (sweep.stale, sweep.after_updated_at) == (1, full.started_at - OVERLAP)
        assert table.fake.requests[-1].query["afterUpdatedAt"] < instant(full.started_at)
        assert (await table.sweep("incremental")).observed == 0


async def test_changes_of_attendees_move_nothing_and_are_found_by_the_full_sweep(database: str) -> None:
    async with bench(database, many(3)) as table:
        await table.sweep("full")
        table.fake.opened_at = LONG_AGO
        table.fake.find("uid001")["attendees"][0]["absent"] = True
        assert (await table.sweep("incremental")).observed == 0
        assert (await table.sweep("full")).stale == 1


async def test_the_upcoming_ones_are_asked_for_alone(database: str) -> None:
    ahead = datetime.now(UTC) - LONG_AGO + timedelta(days=1)
    async with bench(database, [*many(3), shown(created("ahead", starts=ahead), status="pending")]) as table:
        sweep = await table.sweep("upcoming")
        assert (sweep.seen, sweep.missing) == (1, 1)
        assert list(await table.bookings()) == ["ahead"]


# Extras


async def test_what_cal_com_does_not_know_is_extra_until_it_shows_it_again(database: str) -> None:
    one = shown(created("gone"))
    async with bench(database, many(2)) as table:
        await table.deliver(
            created("gone"), created("over"), webhook("BOOKING_CANCELLED", {"uid": "over"}, at=LONG_AGO)
        )
        sweep = await table.sweep()
        assert (sweep.extra, sweep.missing) == (1, 2)
        assert ("gone", "booking", True) in await kinds(table)
        assert not any(event.stream_id == "booking-gone" for event in await table.observations())
        asked = [seen.path for seen in table.fake.requests if seen.path.startswith("/v2/bookings/")]
        assert asked == ["/v2/bookings/gone"]

        table.fake.bookings.append(one)
        assert (await table.sweep()).extra == 0
        assert ("gone", "booking", False) in await kinds(table)


async def test_an_extra_that_was_cancelled_since_is_expected_no_longer(database: str) -> None:
    async with bench(database) as table:
        await table.deliver(created("gone"))
        assert (await table.sweep()).extra == 1
        await table.deliver(webhook("BOOKING_CANCELLED", {"uid": "gone"}, at=LONG_AGO + timedelta(days=1)))
        assert (await table.sweep()).extra == 0
        assert await kinds(table) == [("gone", "booking", False)]


async def test_the_schedule_asks_about_an_extra_more_and_more_seldom(database: str) -> None:
    async with bench(database) as table:
        await table.deliver(created("gone"))
        assert (await table.sweep(cause="schedule")).extra == 1
        singles = len(table.fake.requests)
        assert (await table.sweep(cause="schedule")).extra == 1
        assert len(table.fake.requests) == singles + 1, "the list alone"
        waits = []
        for _ in range(11):
            (row,) = await table.rows("SELECT asked_at, ask_at FROM ledger.questions")
            if isinstance(row["ask_at"], datetime) and row["ask_at"].year < 9000:
                waits.append(row["ask_at"] - row["asked_at"])
                table.clock.ahead = row["ask_at"] - datetime.now(UTC) + timedelta(seconds=1)
                await table.reconciler.answer_questions()
    minutes = [round(wait.total_seconds() / 60) for wait in waits]
    assert minutes == [5, 15, 60, *[24 * 60] * 7]


async def test_a_booking_that_the_key_may_not_see_is_not_said_to_be_gone(database: str) -> None:
    async with bench(database, many(1)) as table:
        await table.deliver(created("anothers"))
        table.fake.faults.extend([None, Fault(kind="error", status=403)])
        sweep = await table.sweep()
        assert (sweep.missing, sweep.extra) == (1, 0)
        assert await kinds(table) == [("uid000", "booking", False)]


async def test_a_booking_that_the_list_passed_over_is_found_by_its_uid(database: str) -> None:
    """Cal.com may list what it likes; what we expect is asked for."""
    async with bench(database, many(2)) as table:
        await table.deliver(created("hidden"))
        hidden = shown(created("hidden"), status="cancelled")
        table.fake.faults.extend([None, lambda: table.fake.bookings.append(hidden)])
        sweep = await table.sweep()
        assert (sweep.extra, sweep.stale) == (0, 1)
        assert (await table.bookings())["hidden"]["booking_status"] == "cancelled"


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="too_many"),
        Fault(kind="error", status=500),
        Fault(kind="html"),
        Fault(kind="slow"),
        Fault(kind="truncated"),
        Fault(kind="cut_off"),
        Fault(kind="reset"),
    ],
    ids=lambda fault: str(fault.kind),
)
async def test_an_answer_that_fails_costs_no_booking(database: str, fault: Fault) -> None:
    account = play(21, bookings=40, silent_share=0.2)
    arrived, _ = lose(account.sent, 0.3, Random(21))
    async with bench(database, account.shown.values(), timeouts=HASTY) as table:
        await table.deliver(*arrived)
        table.fake.faults.extend([None, fault, None, fault])
        await table.sweep(reconciler=table.another(rows=PAGE))
        await table.assert_equal_to(account.shown.values())


async def test_pages_that_shift_while_they_are_read_hide_no_booking(database: str) -> None:
    """Every request, rows leave the part already read: sorted by change, they move to the end."""
    rng = Random(3)
    async with bench(database, many(60)) as table:

        def touch() -> None:
            table.fake.change(rng.choice(table.fake.bookings)["uid"])

        table.fake.faults.extend([touch] * 100)
        sweep = await table.sweep(reconciler=table.another(rows=PAGE))
        assert sweep.seen == 60
        await table.assert_equal_to(table.fake.bookings)


async def test_a_refused_key_is_said_and_nothing_is_lost(database: str) -> None:
    async with bench(database, many(20)) as table:
        table.fake.faults.extend([None, Fault(kind="error", status=401)])
        sweep_id = await table.begin()
        with pytest.raises(CalComKeyRefused):
            await table.another(rows=PAGE).drive(sweep_id)
        async with table.pool.acquire() as connection:
            stopped = await read_sweep(connection, table.ledger, sweep_id)
        assert (stopped.state, stopped.pages, stopped.seen) == ("running", 1, PAGE)
        assert stopped.error is not None
        assert "CAL_COM_API_KEY" in stopped.error
        done = await table.another(rows=PAGE).drive(sweep_id)
        assert (done.state, done.seen, done.missing, done.error) == ("done", 20, 20, None)


# Who drives


async def test_a_sweep_goes_on_from_the_page_at_which_it_was_left(database: str) -> None:
    async with bench(database, many(60)) as table:
        table.fake.faults.extend([None, None, None, *[Fault(kind="reset")] * 10])
        sweep_id = await table.begin()
        with pytest.raises(CalComUnavailable):
            await table.another(rows=PAGE, attempts_max=1).drive(sweep_id)
        table.fake.faults.clear()
        async with table.pool.acquire() as connection:
            stopped = await read_sweep(connection, table.ledger, sweep_id)
        assert stopped.place is not None
        asked = len(table.fake.requests)
        done = await table.another(rows=PAGE).drive(sweep_id)
        assert (done.state, done.seen, done.missing) == ("done", 60, 60)
        first = int(table.fake.requests[asked].query["skip"])
        assert stopped.place.skip - PAGE <= first <= stopped.place.skip, "not from the top"
        assert len(await table.observations()) == 60


async def test_a_place_that_cal_com_does_not_take_any_more_is_begun_again(database: str) -> None:
    async with bench(database, many(30)) as table:
        sweep_id = await table.begin()
        table.fake.faults.extend([None, *[Fault(kind="reset")] * 10])
        with pytest.raises(CalComUnavailable):
            await table.another(rows=PAGE, attempts_max=1).drive(sweep_id)
        table.fake.faults.clear()
        table.fake.faults.append(Fault(kind="error", status=400))
        done = await table.another(rows=PAGE).drive(sweep_id)
        assert (done.state, done.seen) == ("done", 30)


async def test_one_drives_and_another_takes_over_as_soon_as_it_is_gone(database: str) -> None:
    async with bench(database, many(5)) as table:
        sweep_id = await table.begin()
        driver = await connect(database)
        async with Wheel(driver, table.ledger, sweep_id).held(table.pool):
            with pytest.raises(SweepLost):
                await table.reconciler.drive(sweep_id)
            pid = driver.get_server_pid()
            async with table.pool.acquire() as connection:
                await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
            assert (await table.reconciler.drive(sweep_id)).missing == 5
        with pytest.raises(SweepLost):
            await table.reconciler.drive(sweep_id)


async def test_a_driver_that_was_replaced_writes_nothing_more(database: str) -> None:
    """It was stopped for a while in the middle of a page, and does not know that its time is up."""
    async with bench(database, many(30)) as table:
        sweep_id = await table.begin()

        async def overtaken() -> None:
            async with table.pool.acquire() as connection:
                await connection.execute("UPDATE ledger.sweeps SET driver = gen_random_uuid()")

        loop = asyncio.get_running_loop()
        table.fake.faults.extend([None, in_loop(loop, overtaken)])
        with pytest.raises(SweepLost):
            await table.another(rows=PAGE).drive(sweep_id)
        assert len(await table.observations()) == PAGE


def in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> Callable[[], object]:
    """To be called from the fake server's thread: the work has been done in the test's loop."""
    return lambda: asyncio.run_coroutine_threadsafe(work(), loop).result(10)


async def test_who_comes_second_waits_for_the_first_and_tells_the_same(database: str) -> None:
    async with bench(database, many(20)) as table:
        is_followed = threading.Event()
        table.fake.faults.append(lambda: is_followed.wait(30))
        first = asyncio.create_task(table.reconcile())
        await until(lambda: is_running(table))
        second = run_pass(
            table.another(), is_full=True, draw=lambda _done, _total: is_followed.set(), wait=nobody_waits
        )
        reports = await asyncio.gather(first, second)
        assert reports[0] == reports[1]
        assert reports[0].missing == 20
        assert len(table.fake.requests) == 1


async def is_running(table: Bench) -> bool:
    return bool(await table.rows("SELECT sweep_id FROM ledger.sweeps WHERE state = 'running'"))


async def nobody_waits(_bookings: int, _seconds: float) -> None:
    raise AssertionError


async def test_a_second_wish_for_a_sweep_is_the_first(database: str) -> None:
    async with bench(database) as table, table.pool.acquire() as connection:
        first = await ask_for_sweep(connection, table.ledger, "full", cause="request")
        second = await ask_for_sweep(connection, table.ledger, "full", cause="schedule")
        other = await ask_for_sweep(connection, table.ledger, "upcoming", cause="schedule")
        assert first == second
        assert other.sweep_id != first.sweep_id
        await table.reconciler.drive(first.sweep_id)
        third = await ask_for_sweep(connection, table.ledger, "full", cause="schedule")
        assert third.sweep_id != first.sweep_id


# Doubts


LAST_SEAT = (
    created(seatsPerTimeSlot=6),
    webhook(
        "BOOKING_CANCELLED",
        {"uid": "one", "seatsPerTimeSlot": 6, "attendees": [{**people(ADA)[0], "bookingId": 7}]},
        at=LONG_AGO + timedelta(days=1),
    ),
)
SERIES: dict[str, Any] = {"recurringEvent": {"freq": 2, "count": 3, "interval": 1}}


@pytest.mark.parametrize("status", ["accepted", "cancelled"])
async def test_a_doubt_is_asked_about_soon_and_settled(database: str, status: str) -> None:
    (known,) = fold_bodies(LAST_SEAT).values()
    truth = show(known, status=status)
    async with bench(database, [truth]) as table:
        await table.deliver(*LAST_SEAT)
        assert (await table.bookings())["one"]["doubts"] == ["seat_or_whole"]
        assert await table.reconciler.notice_doubts() == 1
        assert await table.reconciler.answer_questions() == 1
        await table.catch_up()
        row = (await table.bookings())["one"]
        assert (row["doubts"], row["booking_status"]) == ([], status)
        (event,) = await table.observations()
        assert msgspec.json.decode(event.metadata)["kind"] == ("settled" if status == known.status else "stale")
        assert await questions(table) == {}
        assert await table.reconciler.notice_doubts() == 0


async def test_a_doubt_that_arose_just_now_is_given_a_minute(database: str) -> None:
    now = datetime.now(UTC)
    again = [
        created(at=now - timedelta(seconds=2)),
        webhook("BOOKING_CANCELLED", {"uid": "one"}, at=now - timedelta(seconds=1)),
    ]
    async with bench(database, [shown(created())]) as table:
        await table.deliver(*again, created(at=now))
        await table.reconciler.notice_doubts()
        assert await table.reconciler.answer_questions() == 0
        assert [one for one in table.fake.requests if one.path.endswith("/one")] == []
        table.clock.ahead = SETTLE
        assert await table.reconciler.answer_questions() == 1


async def test_a_sweep_settles_doubts_in_passing(database: str) -> None:
    (known,) = fold_bodies(LAST_SEAT).values()
    async with bench(database, [show(known)]) as table:
        await table.deliver(*LAST_SEAT)
        report = await table.reconcile()
        assert (report.observed, report.stale, report.doubts_open) == (1, 0, 0)
        assert (await table.reconcile()).observed == 0


async def test_a_series_is_asked_about_as_a_whole(database: str) -> None:
    """One webhook told of one occurrence; the others changed silently."""
    bodies = [created(f"uid{number}", starts=timedelta(days=7 * (number + 1)), **SERIES) for number in range(3)]
    gone = webhook("BOOKING_CANCELLED", {"uid": "uid0", **SERIES}, at=LONG_AGO + timedelta(days=1))
    truth = [shown(body, status="cancelled", recurringBookingUid="series") for body in bodies]
    async with bench(database, truth) as table:
        await table.deliver(*bodies, gone)
        await table.reconciler.notice_doubts()
        assert await table.reconciler.answer_questions() == 3
        await table.catch_up()
        rows = (await table.bookings()).values()
        assert [(row["booking_status"], row["doubts"]) for row in rows] == [("cancelled", [])] * 3


async def test_a_doubt_that_nobody_can_settle_stays_open_and_is_counted(database: str) -> None:
    async with bench(database) as table:
        await table.deliver(*LAST_SEAT)
        report = await table.reconcile()
        assert (report.doubts_open, report.extra) == (1, 1)
        assert await questions(table) == {"one": "unlisted"}


# What is read for it


async def test_the_doubted_are_found_by_their_index(connection: asyncpg.Connection) -> None:
    await connection.execute("SET enable_seqscan = off")
    plan = await connection.fetch(
        "EXPLAIN SELECT cal_com_event_id FROM projections.calendar_events WHERE ledger_id = 1 AND doubts <> '{}'"
    )
    assert "calendar_events_doubted" in repr(plan)
    assert booking_stream("a") == "booking-a"
