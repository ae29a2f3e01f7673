"""Deliveries that never arrive: after one pass everything is as Cal.com has it, and what comes late changes nothing."""

from random import Random

import pytest
from structlog.testing import capture_logs

from tests.account import lose, play
from tests.reconciling import bench

LOSS = 0.15
BOOKINGS = 250
ALL_BOOKINGS = 10_000


@pytest.mark.parametrize("version", ["2024-08-13", "2026-05-01"])
async def test_one_pass_heals_what_was_lost_and_a_second_finds_nothing(database: str, version: str) -> None:
    account, rng = play(7, bookings=BOOKINGS, silent_share=0.1), Random(7)
    arrived, lost = lose(account.sent, LOSS, rng)
    shown = account.shown.values()
    async with bench(database, shown) as table:
        table.fake.versions = (version,)
        await table.deliver(*arrived)
        healed = await table.reconcile()
        await table.assert_equal_to(shown)
        assert (healed.seen, healed.extra, healed.doubts_open) == (len(shown), 0, 0)
        assert healed.missing > 0 < healed.stale
        assert healed.observed == healed.missing + healed.stale == len(await table.observations())

        again = await table.reconcile()
        assert (again.seen, again.missing, again.stale, again.observed) == (len(shown), 0, 0, 0)

        before = await table.visible()
        observed = {event.stream_id.removeprefix("booking-") for event in await table.observations()}
        for body in rng.sample(lost, len(lost)):
            await table.deliver(body)
            now = await table.visible()
            assert {uid: now[uid] for uid in observed if now[uid] != before[uid]} == {}
        # A booking that was equal needed no observation: of two changes that were lost and undo each other, the first
        # alone may show until the second is in.
        await table.assert_equal_to(shown)
        assert (await table.reconcile()).observed == 0


async def test_a_receiver_that_missed_everything_imports_everything(database: str) -> None:
    account = play(8, bookings=60)
    shown = account.shown.values()
    async with bench(database, shown) as table:
        with capture_logs() as logs:
            report = await table.reconcile(is_full=False)
        assert (report.seen, report.missing, report.observed) == (len(shown), len(shown), len(shown))
        await table.assert_equal_to(shown)
        (sweep,) = await table.rows("SELECT kind, is_import, seen, total FROM ledger.sweeps")
        assert sweep == {"kind": "full", "is_import": True, "seen": len(shown), "total": len(shown)}
        assert {row["is_import"] for row in await table.rows("SELECT is_import FROM ledger.drift")} == {True}
        before = await table.visible()
        for body in account.sent:
            await table.deliver(body)
        assert {uid: seen for uid, seen in (await table.visible()).items() if uid in before} == before
        assert (await table.reconcile()).observed == 0
    assert "@" not in repr(logs)


async def test_an_import_keeps_the_time_at_which_each_booking_was_made(database: str) -> None:
    account = play(9, bookings=20)
    async with bench(database, account.shown.values()) as table:
        await table.reconcile()
        rows = await table.bookings()
    assert {uid: row["created_at"].isoformat(timespec="milliseconds") for uid, row in rows.items()} == {
        uid: one["createdAt"].replace("Z", "+00:00") for uid, one in account.shown.items()
    }


@pytest.mark.soak
async def test_ten_thousand_bookings_are_healed_in_one_pass(database: str) -> None:
    account = play(11, bookings=ALL_BOOKINGS, silent_share=0.05)
    arrived, _ = lose(account.sent, 0.2, Random(11))
    async with bench(database, account.shown.values()) as table:
        await table.deliver(*arrived)
        report = await table.reconcile()
        await table.assert_equal_to(account.shown.values())
        assert report.missing > 0 < report.stale
        assert (await table.reconcile()).observed == 0
