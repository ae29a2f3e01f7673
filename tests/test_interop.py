"""The `eventsourcing` library on our store: bookings as aggregates, applications of others beside them, one order.

The library's own suites (tests/test_interop_recorders.py) do not notice events that a follower loses: here they are
counted.
"""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.cipher import AESCipher
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    InterfaceError,
    JSONTranscoder,
    MapperDeserialisationError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
    UUIDAsHex,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import interop_events, interop_thread
from ledger.chain import verify_chain
from ledger.errors import BadSetting, ServerUnreachable
from ledger.folding import fold
from ledger.history import Histories, load_histories, read_event
from ledger.interop import LedgerFactory
from ledger.interop_events import BookingAggregate, LedgerEvent, MsgspecTranscoder
from ledger.interop_recorders import (
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerSnapshotRecorder,
    LedgerTrackingRecorder,
)
from ledger.interop_thread import LedgerThread, Work
from ledger.postgres import Connection, open_pool
from ledger.store import read_head, read_ledgers, read_stream
from ledger.vocabulary import LedgerId, StreamId
from projections.runner import Runner
from tests.builders import instant, meeting, minutes, people
from tests.interop_builders import Dog, add_ledger, ask, file_webhooks, run, stored, told

WRITERS = 16
PROCESSES = 4
EVENTS_IN_TOTAL = 5_000
EVENTS_A_SAVE_MAX = 4
PAGE_EVENTS = 50
ANSWER_SECONDS_MAX = 60.0
EXIT_SECONDS_MAX = 60
SAVES = 300
SAVES_BETWEEN_KILLS = 20

Answer = TypeVar("Answer")
Environment = Mapping[str, str]

KILL_OTHERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def env(database: str) -> Environment:
    return {"PERSISTENCE_MODULE": "ledger.interop", "DATABASE_URL": database, "IS_SNAPSHOTTING_ENABLED": "y"}


@pytest.fixture
def ledger(database: str) -> Iterator[LedgerThread]:
    thread = LedgerThread(database, ledger_name="main")
    yield thread
    thread.close()


@pytest.fixture
def recorder(ledger: LedgerThread) -> LedgerApplicationRecorder:
    return LedgerApplicationRecorder(ledger)


@pytest.fixture
def app(env: Environment) -> Iterator[Application[Any]]:
    with Application[Any](env=env) as opened:
        yield opened


def within_time(work: Callable[[], Answer]) -> Answer:
    """What `work` returns in a thread of its own; a failure where it hangs."""
    answer: Future[Answer] = Future()

    def do() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return answer.result(timeout=ANSWER_SECONDS_MAX)


def head_of(ledger: LedgerThread) -> int:
    return ledger.call(read_head).position


def booking(app: Application[Any], stream: str = "booking-uidA", *, version: int | None = None) -> BookingAggregate:
    found: BookingAggregate = app.repository.get(stream, version=version)
    return found


def dog_of(app: Application[Any], dog_id: UUID, *, version: int | None = None) -> Dog:
    found: Dog = app.repository.get(dog_id, version=version)
    return found


CREATED = told(
    "BOOKING_CREATED",
    {
        "title": "Full groom",
        "startTime": "2026-12-24T09:00:00Z",
        "endTime": "2026-12-24T10:00:00Z",
        "attendees": people("kim@example.com"),
    },
    at=minutes(0),
)
MOVED = told("BOOKING_LOCATION_UPDATED", {"location": "Back door"}, at=minutes(10))
CANCELLED = told("BOOKING_CANCELLED", {"cancellationReason": "The dog is ill"}, at=minutes(20))
MENTIONED = meeting("MEETING_ENDED", {"uid": "uidB", "fromReschedule": "uidA", "endTime": instant(minutes(40))})
REPLACED = told("BOOKING_RESCHEDULED", {"uid": "uidB", "rescheduleUid": "uidA", "rescheduleId": 1}, at=minutes(30))


# Bookings that webhooks wrote


def test_a_booking_is_read_as_of_every_version_of_its_stream(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, MOVED, CANCELLED)
    first, second, third = (booking(app, version=version) for version in (1, 2, 3))
    assert isinstance(first, BookingAggregate)
    assert (first.id, first.version, first.title, first.booking_status) == ("booking-uidA", 1, "Full groom", "accepted")
    assert list(first.attendees) == ["kim@example.com"]
    assert (first.location, second.location, second.version) == (None, "Back door", 2)
    assert (second.booking_status, third.booking_status) == ("accepted", "cancelled")
    assert third.booking.cancellation_reason == "The dog is ill"


def test_the_last_version_is_what_the_facts_of_the_stream_fold_to(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, MOVED, CANCELLED)

    async def read(connection: Connection, ledger_id: LedgerId) -> Any:
        events = await read_stream(connection, ledger_id, StreamId("booking-uidA"))
        return fold(StreamId("booking-uidA"), tuple(dated for event in events for _, dated in read_event(event).facts))

    assert booking(app).booking == ledger.call(read)


def test_a_late_webhook_takes_its_place_among_those_before_it(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, CANCELLED, MOVED)
    late = booking(app, version=3)
    assert (late.booking_status, late.location, late.last_occurred_at) == ("cancelled", "Back door", minutes(20))


def test_a_booking_that_was_replaced_says_by_which(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, REPLACED)
    assert booking(app, version=1).booking_status == "accepted"
    replaced = booking(app, version=2)
    assert (replaced.booking_status, replaced.rescheduled_to) == ("rescheduled", "uidB")
    assert booking(app, "booking-uidB").rescheduled_from == "uidA"


@pytest.mark.parametrize("later", [REPLACED, MENTIONED, CANCELLED])
def test_its_own_stream_tells_of_a_booking_what_the_whole_chain_tells(
    ledger: LedgerThread, app: Application[Any], later: bytes
) -> None:
    file_webhooks(ledger, CREATED, later)

    async def read(connection: Connection, ledger_id: LedgerId) -> Histories:
        head = await read_head(connection, ledger_id)
        stream = StreamId("booking-uidA")
        return await load_histories(connection, ledger_id, [stream], up_to=head.position, look_up_numbers=no_numbers)

    whole = ledger.call(read).bookings[StreamId("booking-uidA")]
    own = booking(app)
    assert own.version == 2
    assert (own.booking_status, own.rescheduled_to, [*own.doubts]) == (
        whole.booking_status,
        whole.rescheduled_to,
        [*whole.doubts],
    )


async def no_numbers(_numbers: Sequence[int]) -> dict[int, StreamId]:
    return {}


def test_a_booking_known_by_its_number_alone_is_read_by_it(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, told("BOOKING_PAID", {"uid": None, "bookingId": 7}, at=minutes(0)))
    assert (booking(app, "booking-id-7").number, booking(app, "booking-id-7").paid) == (7, True)


@pytest.mark.parametrize("stream", ["booking-nobody", "unattributed-2026-12-01", str(uuid4())])
def test_a_stream_that_tells_of_no_booking_is_not_found(
    ledger: LedgerThread, app: Application[Any], stream: str
) -> None:
    file_webhooks(ledger, b"false", CREATED)
    with pytest.raises(AggregateNotFoundError):
        booking(app, stream)


def test_a_name_that_a_booking_does_not_have_is_refused(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED)
    with pytest.raises(AttributeError, match="fur_length"):
        _ = booking(app).fur_length


def test_no_application_writes_to_a_stream_of_webhooks(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED)
    [filed] = app.events.get("booking-uidA")
    for save in (
        lambda: app.recorder.insert_events(stored("booking-uidA", 2)),
        lambda: app.recorder.insert_events(stored("unattributed-2026-12-01", 1)),
        lambda: app.recorder.insert_events(stored("customer-1#0", 1)),
        lambda: app.recorder.insert_events(stored("customer-1", 1, topic="booking.superseded")),
        lambda: app.save(filed),
    ):
        with pytest.raises(ProgrammingError, match="own"):
            save()
    assert head_of(ledger) == 1


async def test_what_an_application_writes_changes_no_booking(database: str, env: Environment) -> None:
    ledger = LedgerThread(database, ledger_name="main")
    with Application[Any](env=env) as app:
        file_webhooks(ledger, CREATED)
        app.recorder.insert_events(
            [
                *stored("customer-1", 1, topic="booking.domain:Cancelled", state=CANCELLED),
                *stored(uuid4(), 0, state=REPLACED),
                *stored(uuid4(), 1, state=b"\xff\x00"),
            ]
        )
    ledger.close()
    async with await open_pool(database) as pool, pool.acquire() as connection:
        await Runner(pool, database).catch_up()
        rows = await connection.fetch("SELECT cal_com_event_id, status FROM calendar_events")
        assert [tuple(row) for row in rows] == [("uidA", "scheduled")]
        assert await connection.fetchval("SELECT count(*) FROM webhook_logs") == 1
        assert await connection.fetchval("SELECT sum(parked)::int FROM projection_status") == 0


# Snapshots


def test_a_booking_read_from_a_snapshot_is_the_same(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, MOVED, CANCELLED)
    read = [booking(app, version=version) for version in (1, 2, 3)]
    app.take_snapshot("booking-uidA", version=2)
    assert [booking(app, version=version) for version in (1, 2, 3)] == read
    assert app.snapshots is not None
    assert [taken.originator_version for taken in app.snapshots.get("booking-uidA")] == [2]
    assert app.snapshots.recorder.select_events("booking-uidA")[0].topic.startswith("booking.snapshot.")


def test_a_late_webhook_after_a_snapshot_still_takes_its_place(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED, CANCELLED)
    app.take_snapshot("booking-uidA")
    file_webhooks(ledger, MOVED)
    late = booking(app)
    assert (late.version, late.booking_status, late.location) == (3, "cancelled", "Back door")


def test_a_snapshot_is_no_event(ledger: LedgerThread, app: Application[Any]) -> None:
    file_webhooks(ledger, CREATED)
    app.take_snapshot("booking-uidA")
    dog = Dog("Fido")
    app.save(dog)
    app.take_snapshot(dog.id)
    assert dog_of(app, dog.id).name == "Fido"
    assert head_of(ledger) == app.recorder.max_notification_id() == 2
    assert ask(ledger, "SELECT array_agg(recorder) FROM interop.snapshots") == ["application_snapshots"] * 2


def test_a_snapshot_of_another_release_is_left_alone_and_makes_room(
    ledger: LedgerThread, app: Application[Any]
) -> None:
    file_webhooks(ledger, CREATED)
    app.take_snapshot("booking-uidA")
    run(ledger, "UPDATE interop.snapshots SET topic = 'booking.snapshot.0.0.1', state = 'unreadable'")
    assert booking(app).title == "Full groom"
    app.take_snapshot("booking-uidA")
    assert ask(ledger, "SELECT array_agg(topic) FROM interop.snapshots") == [interop_events.SNAPSHOT_TOPIC]
    with pytest.raises(IntegrityError):
        app.take_snapshot("booking-uidA")


def test_applications_keep_their_snapshots_apart(ledger: LedgerThread) -> None:
    ours, others = (LedgerSnapshotRecorder(ledger, recorder_name=name) for name in ("ours", "others"))
    ours.insert_events(stored("customer-1", 5, state=b"ours"))
    others.insert_events(stored("customer-1", 5, state=b"others"))
    assert [snapshot.state for snapshot in ours.select_events("customer-1")] == [b"ours"]


# Applications beside the webhooks


def test_an_application_of_the_library_lives_beside_the_webhooks(ledger: LedgerThread, app: Application[Any]) -> None:
    dog = Dog("Fido")
    dog.add_trick("roll over")
    app.save(dog)
    file_webhooks(ledger, CREATED)
    dog.add_trick("play dead")
    app.save(dog)
    assert dog_of(app, dog.id).tricks == ["roll over", "play dead"]
    assert dog_of(app, dog.id, version=2).tricks == ["roll over"]
    section = app.notification_log["1,10"]
    assert (section.id, section.next_id) == ("1,4", None)
    assert [(item.id, item.originator_id, item.originator_version) for item in section.items] == [
        (1, dog.id, 1),
        (2, dog.id, 2),
        (3, "booking-uidA", 1),
        (4, dog.id, 3),
    ]
    assert section.items[2].state == CREATED


def test_the_notification_log_reads_the_whole_log_in_sections(app: Application[Any]) -> None:
    app.recorder.insert_events(stored("customer-1", *range(1, 26)))
    section_id: str | None = "1,10"
    ids: list[int] = []
    while section_id is not None:
        section = app.notification_log[section_id]
        ids += [item.id for item in section.items]
        section_id = section.next_id
    assert ids == list(range(1, 26))


def test_a_follower_gets_webhooks_as_events_of_ours(ledger: LedgerThread, app: Application[Any]) -> None:
    app.save(Dog("Fido"))
    file_webhooks(ledger, CREATED, CANCELLED)
    [found] = app.notification_log.select(1, 10, topics=["calcom.booking_cancelled"])
    told_of = app.mapper.to_domain_event(found)
    assert isinstance(told_of, LedgerEvent)
    assert (told_of.originator_id, told_of.originator_version) == ("booking-uidA", 2)
    assert (told_of.timestamp, told_of.recorded.position, told_of.recorded.body) == (minutes(20), 3, CANCELLED)


def test_of_two_who_decided_on_one_version_one_is_refused(app: Application[Any]) -> None:
    dog = Dog("Fido")
    app.save(dog)
    mine, yours = dog_of(app, dog.id), dog_of(app, dog.id)
    mine.add_trick("roll over")
    yours.add_trick("play dead")
    app.save(mine)
    with pytest.raises(IntegrityError, match=f"{dog.id} is at version 2"):
        app.save(yours)
    assert app.recorder.max_notification_id() == 2


def test_of_many_at_once_who_decided_on_one_version_one_wins(recorder: LedgerApplicationRecorder) -> None:
    """And those who decided on something else all go in, though they share transactions with the losers."""

    def save(number: int) -> bool:
        recorder.insert_events(stored(f"other-{number}", 1))
        try:
            recorder.insert_events([*stored(f"mine-{number}", 1), *stored("customer-1", 1)])
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(max_workers=WRITERS) as executor:
        won = list(executor.map(save, range(10 * WRITERS)))
    assert sum(won) == 1
    winner = won.index(True)
    followed = recorder.select_notifications(1, 1_000)
    names = {str(found.originator_id) for found in followed}
    assert names == {*(f"other-{number}" for number in range(10 * WRITERS)), f"mine-{winner}", "customer-1"}
    assert [found.id for found in followed] == list(range(1, 10 * WRITERS + 3))


def test_versions_have_no_gaps(recorder: LedgerApplicationRecorder) -> None:
    for versions in ((2,), (1, 3), (1, 1), (2, 1), (-1,)):
        with pytest.raises(IntegrityError):
            recorder.insert_events(stored("customer-1", *versions))
    assert recorder.max_notification_id() is None


def test_a_save_of_several_originators_is_all_or_nothing(recorder: LedgerApplicationRecorder) -> None:
    recorder.insert_events(stored("customer-1", 1))
    with pytest.raises(IntegrityError, match="customer-1 is at version 1"):
        recorder.insert_events([*stored("customer-1", 1), *stored("customer-2", 1)])
    assert recorder.insert_events([*stored("customer-2", 1), *stored("customer-1", 2), *stored("customer-2", 2)]) == [
        2,
        3,
        4,
    ]
    assert [found.originator_version for found in recorder.select_events("customer-2")] == [1, 2]


def test_an_originator_that_begins_at_zero_keeps_its_numbers(recorder: LedgerApplicationRecorder) -> None:
    zero_based, one_based = uuid4(), uuid4()
    recorder.insert_events([*stored(zero_based, 0, 1, 2), *stored(one_based, 1)])
    recorder.insert_events(stored(zero_based, 3))
    found = recorder.select_events(zero_based)
    assert [one.originator_version for one in found] == [0, 1, 2, 3]
    assert [one.originator_version for one in recorder.select_events(zero_based, desc=True, limit=1)] == [3]
    assert [one.originator_version for one in recorder.select_events(zero_based, lte=1, desc=True)] == [1, 0]
    assert [one.originator_version for one in recorder.select_events(zero_based, gt=0, limit=2)] == [1, 2]
    followed = recorder.select_notifications(1, 10)
    assert [(one.originator_id, one.originator_version) for one in followed] == [
        *((zero_based, version) for version in range(3)),
        (one_based, 1),
        (zero_based, 3),
    ]
    with pytest.raises(IntegrityError):
        recorder.insert_events(stored(zero_based, 0))


def test_version_n_is_stream_version_n(ledger: LedgerThread, recorder: LedgerApplicationRecorder) -> None:
    originator_id = uuid4()
    recorder.insert_events(stored(originator_id, 0, 1, 2))
    rows = ask(
        ledger,
        "SELECT array_agg(stream_id || ' ' || stream_version || ' ' || source ORDER BY position) FROM ledger.events",
    )
    assert rows == [f"{originator_id}#0 1 command", f"{originator_id} 1 command", f"{originator_id} 2 command"]


def test_ids_are_texts_where_they_are_said_to_be(ledger: LedgerThread, recorder: LedgerApplicationRecorder) -> None:
    name = str(uuid4())
    recorder.insert_events([*stored(name, 1), *stored(name.upper(), 1)])
    [as_uuid, as_written] = recorder.select_notifications(1, 10)
    [as_text, _] = LedgerApplicationRecorder(ledger, has_text_ids=True).select_notifications(1, 10)
    assert (as_uuid.originator_id, as_written.originator_id, as_text.originator_id) == (UUID(name), name.upper(), name)
    assert recorder.select_events(name) == stored(name, 1)
    assert recorder.select_events(UUID(name)) == stored(UUID(name), 1)


def test_what_applications_write_is_part_of_the_chain(ledger: LedgerThread, app: Application[Any]) -> None:
    app.save(Dog("Fido"))
    file_webhooks(ledger, CREATED)
    app.recorder.insert_events(stored(uuid4(), 0, 1))

    async def verify(connection: Connection, _ledger_id: LedgerId) -> tuple[bool, int]:
        found = await verify_chain(connection, (await read_ledgers(connection))["main"])
        return found.ok, found.events

    assert ledger.call(verify) == (True, 4)


@pytest.mark.parametrize(("events", "body_bytes"), [(200, 2_700), (500, 3_000), (3_000, 3_000)])
def test_one_save_of_many_large_events_does_not_hang(
    database: str, recorder: LedgerApplicationRecorder, events: int, body_bytes: int
) -> None:
    """The library's own recorder hangs at the first size, over a Unix socket (BENCH.md, finding 4)."""
    assert "host=/" in database
    originator_id = uuid4()
    sold = stored(originator_id, *range(1, events + 1), state=os.urandom(body_bytes))
    positions = within_time(lambda: recorder.insert_events(sold))
    assert positions == list(range(1, events + 1))
    assert recorder.select_events(originator_id) == sold


def test_every_ledger_is_a_log_of_its_own(ledger: LedgerThread, env: Environment) -> None:
    add_ledger(ledger, ledger_id=2, name="dogs")
    with Application[Any](env={**env, "APPLICATION_LEDGER": "dogs"}) as dogs:
        fido = Dog("Fido")
        dogs.save(fido)
        dogs.take_snapshot(fido.id)
        file_webhooks(ledger, CREATED)
        assert [item.originator_id for item in dogs.notification_log["1,10"].items] == [fido.id]
        with pytest.raises(AggregateNotFoundError):
            booking(dogs)
    with Application[Any](env=env) as main:
        assert [item.originator_id for item in main.notification_log["1,10"].items] == ["booking-uidA"]
        assert main.snapshots is not None
        assert list(main.snapshots.get(fido.id)) == []


def test_events_and_their_tracking_go_in_together_or_not_at_all(ledger: LedgerThread) -> None:
    recorder = LedgerProcessRecorder(ledger)
    assert recorder.insert_events(stored("customer-1", 1), tracking=Tracking("upstream", 7)) == [1]
    with pytest.raises(IntegrityError, match="notification 7 of upstream"):
        recorder.insert_events(stored("customer-1", 2), tracking=Tracking("upstream", 7))
    with pytest.raises(IntegrityError, match="customer-1 is at version 1"):
        recorder.insert_events(stored("customer-1", 1), tracking=Tracking("upstream", 8))
    assert (recorder.max_tracking_id("upstream"), recorder.max_notification_id()) == (7, 1)
    other = LedgerTrackingRecorder(ledger, tracking_name="other_tracking")
    assert other.max_tracking_id("upstream") is None


# The order of commits


@pytest.fixture
def others(database: str) -> Iterator[list[LedgerApplicationRecorder]]:
    """Recorders that share nothing but the database, as those of several processes."""
    threads = [LedgerThread(database, ledger_name="main") for _ in range(PROCESSES)]
    yield [LedgerApplicationRecorder(thread) for thread in threads]
    for thread in threads:
        thread.close()


def save_until_all_are_saved(recorder: LedgerApplicationRecorder, numbers: Iterator[int], lock: threading.Lock) -> int:
    """Saves of one to four events each; returns how many."""
    saved = 0
    while True:
        with lock:
            taken = [number for _, number in zip(range(1 + saved % EVENTS_A_SAVE_MAX), numbers, strict=False)]
        if not taken:
            return saved
        events = [StoredEvent(uuid4(), 1, "shop:Sold", str(number).encode()) for number in taken]
        recorder.insert_events(events)
        saved += len(taken)


def tail(recorder: LedgerApplicationRecorder, finished: threading.Event) -> list[Sequence[Notification]]:
    """The pages of a reader that remembers the last id it saw and asks for what comes after."""
    pages: list[Sequence[Notification]] = []
    while True:
        is_last = finished.is_set()
        after = pages[-1][-1].id if pages else None
        page = recorder.select_notifications(after, PAGE_EVENTS, inclusive_of_start=False)
        if page:
            pages.append(page)
        elif is_last:
            return pages


def test_a_tailing_reader_misses_no_event_of_many_writers(
    recorder: LedgerApplicationRecorder, others: list[LedgerApplicationRecorder]
) -> None:
    numbers, lock, finished = iter(range(EVENTS_IN_TOTAL)), threading.Lock(), threading.Event()
    with ThreadPoolExecutor(max_workers=WRITERS + 1) as executor:
        reading = executor.submit(tail, recorder, finished)
        writing = [
            executor.submit(save_until_all_are_saved, others[number % PROCESSES], numbers, lock)
            for number in range(WRITERS)
        ]
        try:
            assert sum(writer.result(timeout=ANSWER_SECONDS_MAX) for writer in writing) == EVENTS_IN_TOTAL
        finally:
            finished.set()
        pages = reading.result(timeout=ANSWER_SECONDS_MAX)
    seen = [notification for page in pages for notification in page]
    assert [notification.id for notification in seen] == list(range(1, EVENTS_IN_TOTAL + 1))
    assert {int(notification.state) for notification in seen} == set(range(EVENTS_IN_TOTAL))
    assert len(pages) > EVENTS_IN_TOTAL / PAGE_EVENTS, "it has to read at the head, while they write"


def test_a_subscription_misses_no_event_of_many_writers(
    recorder: LedgerApplicationRecorder, others: list[LedgerApplicationRecorder]
) -> None:
    numbers, lock = iter(range(EVENTS_IN_TOTAL)), threading.Lock()
    with ThreadPoolExecutor(max_workers=WRITERS + 1) as executor, recorder.subscribe() as subscription:
        reading = executor.submit(lambda: [next(subscription).id for _ in range(EVENTS_IN_TOTAL)])
        for number in range(WRITERS):
            executor.submit(save_until_all_are_saved, others[number % PROCESSES], numbers, lock)
        assert reading.result(timeout=ANSWER_SECONDS_MAX) == list(range(1, EVENTS_IN_TOTAL + 1))


def test_a_subscription_hears_of_an_append_without_looking(
    recorder: LedgerApplicationRecorder, others: list[LedgerApplicationRecorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interop_thread, "POLL_SECONDS_MAX", 10 * ANSWER_SECONDS_MAX)
    with recorder.subscribe(topics=["shop:Sold"]) as subscription:
        for version in (1, 2, 3):
            others[0].insert_events([*stored(uuid4(), 1, topic="shop:Opened"), *stored("customer-1", version)])
            assert within_time(lambda: next(subscription)).originator_version == version


def test_a_subscription_whose_listening_was_cut_off_goes_on(
    recorder: LedgerApplicationRecorder, others: list[LedgerApplicationRecorder]
) -> None:
    with recorder.subscribe() as subscription:
        for version in (1, 2, 3):
            ask(others[0].ledger, KILL_OTHERS)
            others[0].insert_events(stored("customer-1", version))
            assert within_time(lambda: next(subscription)).originator_version == version


# Connections that come and go


def test_saves_whose_connections_die_go_in_once_each(
    recorder: LedgerApplicationRecorder, others: list[LedgerApplicationRecorder]
) -> None:
    saves = iter(range(SAVES))
    positions: list[int] = []

    def save() -> None:
        for number in saves:
            positions.extend(recorder.insert_events(stored(f"customer-{number}", 1, 2)) or ())
            if number % SAVES_BETWEEN_KILLS == 0:
                ask(others[0].ledger, KILL_OTHERS)

    with ThreadPoolExecutor(max_workers=8) as executor:
        for saving in [executor.submit(save) for _ in range(8)]:
            saving.result(timeout=ANSWER_SECONDS_MAX)
    assert sorted(positions) == list(range(1, 2 * SAVES + 1))
    assert recorder.max_notification_id() == 2 * SAVES


class LosingThread(LedgerThread):
    """Whatever is asked is done, and then the connection is lost before the answer; the next attempt goes well."""

    async def _answer(self, work: Work[Answer], *, is_repeatable: bool) -> Answer:
        attempts = itertools.count()

        async def lose_the_first_answer(connection: Connection, ledger_id: LedgerId) -> Answer:
            answer = await work(connection, ledger_id)
            if next(attempts) == 0:
                raise asyncpg.ConnectionDoesNotExistError("the answer was lost")
            return answer

        return await super()._answer(lose_the_first_answer, is_repeatable=is_repeatable)


@pytest.fixture
def losing_ledger(database: str) -> Iterator[LedgerThread]:
    thread = LosingThread(database, ledger_name="main")
    yield thread
    thread.close()


def test_a_save_whose_answer_was_lost_is_answered_and_kept_once(losing_ledger: LedgerThread) -> None:
    recorder = LedgerProcessRecorder(losing_ledger)
    assert recorder.insert_events(stored("customer-1", 0, 1)) == [1, 2]
    assert recorder.insert_events(stored("customer-1", 2), tracking=Tracking("upstream", 7)) == [3]
    assert (recorder.max_notification_id(), recorder.max_tracking_id("upstream")) == (3, 7)


def test_what_cannot_be_told_from_anothers_is_not_tried_again(losing_ledger: LedgerThread) -> None:
    tracking, process = LedgerTrackingRecorder(losing_ledger), LedgerProcessRecorder(losing_ledger)
    snapshots = LedgerSnapshotRecorder(losing_ledger, recorder_name="snapshots")
    with pytest.raises(OperationalError, match="the answer was lost"):
        tracking.insert_tracking(Tracking("upstream", 7))
    with pytest.raises(OperationalError, match="the answer was lost"):
        process.insert_events([], tracking=Tracking("upstream", 8))
    with pytest.raises(OperationalError, match="the answer was lost"):
        snapshots.insert_events(stored("customer-1", 5))
    assert tracking.max_tracking_id("upstream") == 8
    assert len(snapshots.select_events("customer-1")) == 1


def test_a_closed_thread_takes_no_calls_and_wakes_who_listens(recorder: LedgerApplicationRecorder) -> None:
    recorder.insert_events(stored("customer-1", 1))
    with ThreadPoolExecutor(max_workers=1) as executor, recorder.subscribe(gt=1) as subscription:
        waiting = executor.submit(next, subscription)
        recorder.ledger.close()
        recorder.ledger.close()
        with pytest.raises(InterfaceError, match="closed"):
            waiting.result(timeout=ANSWER_SECONDS_MAX)
    for call in (recorder.max_notification_id, recorder.subscribe, lambda: recorder.insert_events(stored("a", 1))):
        with pytest.raises(InterfaceError, match="closed"):
            call()


def test_calls_under_way_are_answered_before_the_thread_ends(recorder: LedgerApplicationRecorder) -> None:
    begun = threading.Event()

    async def work(connection: Connection, _ledger_id: LedgerId) -> int:
        begun.set()
        return int(await connection.fetchval("SELECT 7 FROM pg_sleep(0.2)"))

    with ThreadPoolExecutor(max_workers=1) as executor:
        answer = executor.submit(recorder.ledger.call, work)
        assert begun.wait(ANSWER_SECONDS_MAX)
        recorder.ledger.close()
        assert answer.result(timeout=ANSWER_SECONDS_MAX) == 7


def test_a_thread_may_be_closed_by_itself(recorder: LedgerApplicationRecorder) -> None:
    """As when the garbage collection that ends a forgotten application happens to run there."""

    async def close(_connection: Connection, _ledger_id: LedgerId) -> str:
        recorder.ledger.close()
        return "closed"

    assert within_time(lambda: recorder.ledger.call(close)) == "closed"
    with pytest.raises(InterfaceError):
        recorder.max_notification_id()


def test_a_thread_may_be_closed_while_it_starts(
    recorder: LedgerApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_pool_and_close(dsn: str, **how: Any) -> asyncpg.Pool:
        recorder.ledger.close()
        return await open_pool(dsn, **how)

    monkeypatch.setattr(interop_thread, "open_pool", open_pool_and_close)
    with pytest.raises(InterfaceError, match="closed"):
        within_time(recorder.max_notification_id)


def test_a_program_that_forgets_to_close_its_application_ends(env: Environment) -> None:
    script = """
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
app = Application()
app.save(Aggregate())
subscribed = app.recorder.ledger.listen(lambda: None)
print(app.recorder.max_notification_id())
"""
    program = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS_MAX,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "1\n", "")


def test_a_server_that_is_away_is_asked_again_by_the_next_call(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LedgerThread(database.replace("/test_", "/no_test_"), ledger_name="main")
    recorder = LedgerApplicationRecorder(thread)
    for _ in range(2):
        with pytest.raises(ServerUnreachable, match="the database does not exist"):
            recorder.max_notification_id()
    monkeypatch.setattr(thread, "_dsn", database)
    assert recorder.max_notification_id() is None
    thread.close()


def test_behind_a_pooler_the_direct_way_is_for_listening(database: str) -> None:
    with LedgerFactory({"DATABASE_URL": database, "DATABASE_DIRECT_URL": database}) as factory:
        recorder = factory.application_recorder()
        with recorder.subscribe() as subscription:
            recorder.insert_events(stored("customer-1", 1))
            assert within_time(lambda: next(subscription)).id == 1
    with pytest.raises(InterfaceError, match="closed"):
        recorder.max_notification_id()


# Settings and errors


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL must be set"),
        ({"DATABASE_URL": "mysql://me:hunter2@nowhere/"}, "DATABASE_URL must begin with postgres://"),
        ({"ORIGINATOR_ID_TYPE": "number"}, "ORIGINATOR_ID_TYPE must be uuid or text, not 'number'"),
        ({"APPLICATION_RECORDER_TOPIC": "builtins:dict"}, "APPLICATION_RECORDER_TOPIC must name a subclass of Ledger"),
    ],
)
def test_a_bad_setting_is_refused_by_name(env: Environment, changed: Environment, sentence: str) -> None:
    with pytest.raises(BadSetting, match=sentence):
        Application[Any](env={**env, **changed})


def test_a_ledger_that_is_not_there_is_refused_by_name(env: Environment) -> None:
    sentence = r"LEDGER must name a ledger \(main\), not 'cats'"
    with Application[Any](env={**env, "LEDGER": "cats"}) as app, pytest.raises(BadSetting, match=sentence):
        app.recorder.max_notification_id()


def test_the_drivers_errors_are_told_in_the_librarys_words(recorder: LedgerApplicationRecorder) -> None:
    with pytest.raises(DataError):
        recorder.insert_events(stored("customer-1", 1, topic="\x00"))
    with pytest.raises(DataError):
        recorder.select_notifications(2**70, 1)
    with pytest.raises(DataError):
        recorder.select_notifications(1, -1)
    with pytest.raises(ProgrammingError):
        ask(recorder.ledger, "SELECT 1 FROM nowhere")
    with pytest.raises(OperationalError):
        run(recorder.ledger, "SELECT pg_cancel_backend(pg_backend_pid())")


# Events as JSON


class Sold(msgspec.Struct, frozen=True, kw_only=True):
    """An event class of a user who prefers structs."""

    originator_id: UUID
    originator_version: int
    price: float
    buyers: tuple[str, ...] = ()


def json_like() -> st.SearchStrategy[object]:
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    scalars = st.none() | st.booleans() | numbers | st.text(max_size=10) | st.uuids()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )


@settings(max_examples=300, deadline=None)
@given(json_like())
def test_the_librarys_transcoder_and_ours_read_each_other(value: object) -> None:
    theirs, ours = JSONTranscoder(), MsgspecTranscoder()
    for transcoder in (theirs, ours):
        transcoder.register(UUIDAsHex())
    assert ours.decode(theirs.encode(value)) == theirs.decode(ours.encode(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        MsgspecTranscoder().encode(value)


def test_structs_are_events_too_sealed_like_the_others(env: Environment, ledger: LedgerThread) -> None:
    settings = {"CIPHER_KEY": AESCipher.create_key(16), "COMPRESSOR_TOPIC": "eventsourcing.compressor:ZlibCompressor"}
    sold = Sold(originator_id=uuid4(), originator_version=1, price=12.5, buyers=("kim@example.com",))
    file_webhooks(ledger, CREATED)
    with Application[Any](env={**env, **settings}) as app:
        app.events.put([sold])
        assert list(app.events.get(sold.originator_id)) == [sold]
        app.take_snapshot("booking-uidA")
        assert booking(app).title == "Full groom"
        assert app.snapshots is not None
        [kept] = [*app.recorder.select_events(sold.originator_id)]
        assert b"kim" not in kept.state
        assert b"kim" not in app.snapshots.recorder.select_events("booking-uidA")[0].state
    with Application[Any](env=env) as without_key, pytest.raises(MapperDeserialisationError, match="Sold"):
        list(without_key.events.get(sold.originator_id))
