"""Deliveries read again: what a decoder that has learnt something would change, and that change, a worker running."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from api.erasing import erasing
from ledger import history as history_module
from ledger.calcom.envelope import Envelope, open_envelope
from ledger.errors import RebuildUnderWay
from ledger.links import linked_events
from ledger.settings import Secret, Settings
from ledger.store import Ledger, append, read_ledgers, read_recorded
from ledger.vocabulary import Position, StreamId
from projections import replay as replay_module
from projections.parked import list_parked
from projections.rebuild import begin_rebuild
from projections.replay import Replayed, ReplayFilter, replay
from projections.runner import Runner
from tests.builders import minutes, people, webhook
from tests.rebuilding import assert_same, filled, read_models, tangled
from tests.serving import file, until_current

UNKNOWN = "BOOKING_SNOOZED"
QUIET = 60
"""Bookings that nobody speaks of while deliveries are read again."""


@pytest_asyncio.fixture
async def main(connection: asyncpg.Connection) -> Ledger:
    return (await read_ledgers(connection))["main"]


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched


def created(uid: str, **more: object) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": uid, "title": "Bath", "attendees": people(f"{uid}@example.com"), **more})


STORY = (
    created("a"),
    webhook("BOOKING_RESCHEDULED", {"uid": "b", "rescheduleUid": "a", "rescheduleId": 1}, at=minutes(1)),
    created("c"),
    webhook("BOOKING_CANCELLED", {"uid": "c", "cancellationReason": "ill"}, at=minutes(2)),
    created("d"),
)


# Decoders of before


def understood_as(patch: pytest.MonkeyPatch, changed: Callable[[Envelope], Envelope]) -> None:
    """Until the patch is undone bodies are understood as a decoder of before understood them."""
    patch.setattr(history_module, "open_envelope", lambda body: changed(open_envelope(body)))
    patch.setattr("ledger.filing.tell_beforehand", lambda *_arguments, **_named: None)


def without_cancellations(envelope: Envelope) -> Envelope:
    """It did not know this trigger."""
    if envelope.trigger != "BOOKING_CANCELLED":
        return envelope
    return msgspec.structs.replace(envelope, trigger=None, payload=None, error="Unknown trigger")


def taken_from_another(envelope: Envelope) -> Envelope:
    """It took a field for the uid of the booking that was replaced."""
    if envelope.uid != "d" or envelope.payload is None:
        return envelope
    payload = msgspec.structs.replace(envelope.payload, from_reschedule="nobody")
    return msgspec.structs.replace(envelope, payload=payload, previous_uid="nobody")


def raising(envelope: Envelope) -> Envelope:
    if envelope.uid == "c":
        raise ZeroDivisionError(envelope.uid)
    return envelope


async def again(
    pool: asyncpg.Pool, ledger: Ledger, narrowed: ReplayFilter | None = None, *, is_applied: bool, **more: int
) -> Replayed:
    return await replay(
        pool,
        ledger,
        narrowed or ReplayFilter(),
        is_applied=is_applied,
        confirm_on_accept=False,
        tell=lambda _done, _total: None,
        **more,
    )


def changes(told: Replayed) -> set[tuple[str, str, str]]:
    return {(row.read_model, row.key, row.change) for row in told.rows}


async def assert_settled(connection: asyncpg.Connection, pool: asyncpg.Pool, ledger: Ledger, dsn: str) -> None:
    """The live rows are those of a rebuild, and there is nothing left to do."""
    assert_same(await filled(connection, dsn), await read_models(connection))
    once_more = await again(pool, ledger, is_applied=True)
    assert (once_more.differing, once_more.unreadable, once_more.is_settled) == ({}, 0, True)


# What it would change, and that


async def test_where_nothing_was_learnt_nothing_differs(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    await file(
        connection, *STORY, *islice(tangled(Random(7)), 300), b"false", b'{"triggerEvent": "NEW", "payload": {}}'
    )
    await Runner(pool, database).catch_up()
    before = await read_models(connection)
    for is_applied in (False, True):
        told = await again(pool, main, is_applied=is_applied)
        assert told.deliveries == await connection.fetchval("SELECT count(*) FROM webhook_logs")
        assert (told.differing, told.rows, told.is_settled) == ({}, [], True)
        assert_same(before, await read_models(connection))


async def test_a_trigger_learnt_since_is_told_field_by_field_before_anything_is_written(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, patch: pytest.MonkeyPatch
) -> None:
    understood_as(patch, without_cancellations)
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    patch.undo()
    before = await read_models(connection)
    told = await again(pool, main, is_applied=False)
    assert told.differing == {"facts": 1, "webhook_logs": 1, "calendar_events": 1}
    assert not told.is_settled
    rows = {row.read_model: row for row in told.rows}
    fields = rows["calendar_events"].fields
    assert (rows["calendar_events"].key, rows["calendar_events"].change) == ("c", "different")
    assert (fields["status"].held, fields["status"].says) == ("scheduled", "cancelled")
    assert (fields["cancellation_reason"].held, fields["cancellation_reason"].says) == (None, "ill")
    assert rows["webhook_logs"].fields["status"].says == "success"
    assert_same(before, await read_models(connection))
    assert (await again(pool, main, is_applied=True)).differing == told.differing
    assert await connection.fetchval("SELECT status FROM calendar_events WHERE cal_com_event_id = 'c'") == "cancelled"
    assert await connection.fetchval("SELECT sum(cancelled) FROM booking_statistics") == 1
    await assert_settled(connection, pool, main, database)


async def test_a_booking_that_was_made_of_a_misunderstanding_is_gone(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, patch: pytest.MonkeyPatch
) -> None:
    understood_as(patch, taken_from_another)
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    assert await connection.fetchval("SELECT count(*) FROM calendar_events WHERE cal_com_event_id = 'nobody'") == 1
    patch.undo()
    told = await again(pool, main, is_applied=True)
    assert changes(told) == {("calendar_events", "nobody", "extra"), ("calendar_events", "d", "different")}
    await assert_settled(connection, pool, main, database)


async def test_what_was_parked_is_retried(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, patch: pytest.MonkeyPatch
) -> None:
    understood_as(patch, raising)
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    errors = ReplayFilter(status="error")
    still = await again(pool, main, errors, is_applied=True)
    assert (still.deliveries, still.parked, still.parked_left, still.unreadable) == (2, 10, 10, 2)
    assert still.failures[0].error == "ZeroDivisionError: c"
    assert not still.is_settled
    patch.undo()
    dry = await again(pool, main, errors, is_applied=False)
    assert (dry.parked, dry.parked_left, dry.is_settled) == (10, 10, False)
    done = await again(pool, main, errors, is_applied=True)
    assert (done.parked, done.parked_left, done.is_settled) == (10, 0, True)
    assert await list_parked(connection, main, None) == []
    await assert_settled(connection, pool, main, database)


async def test_a_delivery_that_a_person_linked_is_read_again_as_the_bookings(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, patch: pytest.MonkeyPatch
) -> None:
    await file(connection, *STORY, webhook("BOOKING_CANCELLED", {"cancellationReason": "ill"}, at=minutes(5)))
    id_ = await connection.fetchval("SELECT event_id FROM ledger.events WHERE stream_id LIKE 'unattributed-%'")
    delivery = await read_recorded(connection, main.ledger_id, id_)
    assert delivery is not None
    await append(connection, main.ledger_id, linked_events(main, delivery, StreamId("booking-d")))
    patch.setattr("ledger.links.open_envelope", lambda body: without_cancellations(open_envelope(body)))
    await Runner(pool, database).catch_up()
    patch.undo()
    told = await again(pool, main, ReplayFilter(event_ids=[id_]), is_applied=True)
    assert (told.deliveries, ("calendar_events", "d", "different") in changes(told)) == (1, True)
    await assert_settled(connection, pool, main, database)


async def test_a_worker_goes_on_meanwhile_and_each_event_is_applied_once(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    main: Ledger,
    patch: pytest.MonkeyPatch,
) -> None:
    """Webhooks keep arriving for the very bookings that are written anew."""
    bodies = tangled(Random(11))
    understood_as(patch, without_cancellations)
    quiet = [created(f"quiet-{number}") for number in range(QUIET)]
    quiet += [webhook("BOOKING_CANCELLED", {"uid": f"quiet-{number}"}, at=minutes(1)) for number in range(QUIET)]
    await file(connection, *quiet, *islice(bodies, 200))
    await Runner(pool, database).catch_up()
    patch.undo()
    patch.setattr(replay_module, "BATCH_DELIVERIES", 10)
    async with Runner(pool, database).running():
        replaying = asyncio.create_task(again(pool, main, is_applied=True))
        while not replaying.done():
            await file(connection, next(bodies))
        told = await replaying
        await until_current(connection)
    assert told.is_settled
    assert told.differing["calendar_events"] >= QUIET
    assert await connection.fetchval("SELECT count(*) FROM ledger.events WHERE source NOT IN ('webhook', 'link')") == 0
    await assert_settled(connection, pool, main, database)


async def test_no_rebuild_goes_on_meanwhile(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    await begin_rebuild(connection, "facts")
    assert (await again(pool, main, is_applied=False)).deliveries == len(STORY)
    with pytest.raises(RebuildUnderWay):
        await again(pool, main, is_applied=True)


# Which


@pytest.mark.parametrize(
    ("narrowed", "count"),
    [
        (ReplayFilter(), 7),
        (ReplayFilter(triggers=["BOOKING_CREATED"]), 3),
        (ReplayFilter(triggers=["BOOKING_CANCELLED", UNKNOWN]), 2),
        (ReplayFilter(booking="c"), 2),
        (ReplayFilter(booking="nobody"), 0),
        (ReplayFilter(status="success"), 6),
        (ReplayFilter(status="error"), 1),
        (ReplayFilter(is_unrecognised=True), 2),
        (ReplayFilter(is_unrecognised=True, status="success"), 1),
        (ReplayFilter(after=Position(2)), 5),
        (ReplayFilter(until=Position(2)), 2),
        (ReplayFilter(booking="207"), 0),
    ],
    ids=str,
)
async def test_deliveries_are_chosen(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    main: Ledger,
    *,
    narrowed: ReplayFilter,
    count: int,
) -> None:
    await file(connection, *STORY, b"false", webhook(UNKNOWN, {"uid": "c2"}))
    await Runner(pool, database).catch_up()
    assert (await again(pool, main, narrowed, is_applied=False)).deliveries == count


async def test_deliveries_are_chosen_by_when_they_were_recorded(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    await file(connection, *STORY[:2])
    moment = await connection.fetchval("SELECT max(recorded_at) + interval '1 microsecond' FROM ledger.events")
    await file(connection, *STORY[2:])
    await Runner(pool, database).catch_up()
    assert (await again(pool, main, ReplayFilter(recorded_before=moment), is_applied=False)).deliveries == 2
    assert (await again(pool, main, ReplayFilter(recorded_from=moment), is_applied=False)).deliveries == 3


async def test_work_with_an_end_goes_on_where_it_stopped(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(replay_module, "BATCH_DELIVERIES", 2)
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    looked_at, after = 0, Position(0)
    for _ in range(3):
        told = await again(pool, main, ReplayFilter(after=after), is_applied=True, deliveries_max=2)
        looked_at += told.deliveries
        if told.next_position is None:
            break
        after = Position(told.next_position - 1)
    assert looked_at == len(STORY)


async def test_what_the_read_models_have_not_come_to_is_left_to_the_worker(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger
) -> None:
    await file(connection, *STORY)
    assert (await again(pool, main, is_applied=True)).deliveries == 0
    await Runner(pool, database).catch_up()
    await assert_settled(connection, pool, main, database)


async def test_what_was_erased_stays_erased(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, main: Ledger, tmp_path: Path
) -> None:
    await file(connection, *STORY)
    await Runner(pool, database).catch_up()
    settings = Settings(database_url=Secret(database.encode()), home=tmp_path)
    async with erasing(settings, database) as work:
        await work.erase(main, ["c@example.com"])
    await Runner(pool, database).catch_up()
    for is_applied in (False, True):
        told = await again(pool, main, is_applied=is_applied)
        assert (told.differing, told.unreadable) == ({}, 0), told.rows
    assert "c@example.com" not in str(await read_models(connection))
    await assert_settled(connection, pool, main, database)
