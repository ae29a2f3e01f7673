"""The read models against the simplest model there is: all facts of the log, sorted by booking and folded, at once.

Whatever is delivered, in whatever order, whoever is restarted, paused, rebuilt or poisoned meanwhile.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from itertools import count
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api.simulator.lifecycles import LIFECYCLES
from api.simulator.studio import Slot, Studio
from api.simulator.traffic import json_bytes
from ledger import filing as filing_module
from ledger import history as history_module
from ledger.booking import Booking
from ledger.calcom.envelope import Envelope, booking_stream, number_stream, open_envelope
from ledger.calcom.meaning import Meaning, meaning_of
from ledger.facts import Dated
from ledger.folding import fold, link_chain
from ledger.history import read_event
from ledger.postgres import Connection, connect, open_pool
from ledger.store import Ledger, RecordedEvent, read_ledgers, read_log
from ledger.vocabulary import Position, StreamId
from projections import rebuild as rebuild_module
from projections.calendar_events import CalendarEvent, calendar_event
from projections.catalogue import BY_NAME, CATALOGUE
from projections.parked import retry_parked
from projections.projection import Page, Projection
from projections.rebuild import set_paused
from projections.runner import Runner
from tests.builders import NOON, minutes
from tests.rebuilding import (
    NAMES,
    PAGE_EVENTS,
    RANGE_EVENTS,
    add_ledgers,
    assert_same,
    but_for_when,
    file_in,
    fill_here,
    filled,
    of_ledger,
    read_models,
    rebuild,
    tangled,
)

EVENTS_MAX = 10_000
FIRST_BODIES = 6
BODIES_BETWEEN_MIN = 10
HELD_BACK_SHARE = 0.2
BY_NUMBER_SHARE = 0.25
REPEATABLE_EXAMPLES_MAX = 100

Answer = TypeVar("Answer")

names = st.sampled_from(NAMES)
seeds = st.integers(0, 2**32)
examples = count()


class Poison(ValueError):
    """What is poisoned fails with this."""


# The simplest model


def told_by_all(events: list[RecordedEvent]) -> dict[StreamId, Booking]:
    """Every booking that the log speaks of, from all of its facts; what is known by number is its uid's."""
    pairs = [pair for event in events for pair in read_event(event).facts]
    owners = {
        number_stream(dated.fact.details.number): stream_id
        for stream_id, dated in pairs
        if dated.fact.details.number is not None and not stream_id.startswith("booking-id-")
    }
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    for stream_id, dated in pairs:
        facts[owners.get(stream_id, stream_id)].append(dated)
    bookings = {stream_id: fold(stream_id, told) for stream_id, told in facts.items()}
    for booking in bookings.values():
        if booking.rescheduled_to is not None and booking.rescheduled_to.isdigit():
            owner = owners.get(number_stream(int(booking.rescheduled_to)))
            booking.rescheduled_to = bookings[owner].key if owner is not None else booking.rescheduled_to
    link_chain(bookings, booking_stream)
    return bookings


async def assert_as_folded(connection: Connection, ledger: Ledger) -> None:
    """Every read model of the ledger is what the whole log means."""
    events = await read_log(connection, ledger.ledger_id, after=Position(0), events_max=EVENTS_MAX)
    bookings = told_by_all(events)
    expected = {
        booking.key: calendar_event(booking, ledger.name, confirm_on_accept=False) for booking in bookings.values()
    }
    rows = await connection.fetch("SELECT * FROM projections.calendar_events WHERE ledger_id = $1", ledger.ledger_id)
    assert {row["cal_com_event_id"]: calendar_event_of(row) for row in rows} == expected
    people = await connection.fetch(
        "SELECT uid, email, removed, no_show FROM projections.booking_attendees WHERE ledger_id = $1", ledger.ledger_id
    )
    assert {tuple(row) for row in people} == {
        (booking.key, email, email not in booking.attendees, booking.absent.get(email, False))
        for booking in bookings.values()
        for email in (*booking.attendees, *booking.left)
    }
    delivered = [event.position for event in events if event.source == "webhook"]
    logged = await connection.fetch(
        "SELECT position FROM projections.webhook_logs WHERE ledger_id = $1 ORDER BY 1", ledger.ledger_id
    )
    assert [row["position"] for row in logged] == delivered
    counted = "SELECT coalesce(sum(deliveries), 0) FROM projections.sync_lag WHERE ledger_id = $1"
    assert await connection.fetchval(counted, ledger.ledger_id) == len(delivered)
    assert await statistics_of(connection, ledger, STATISTICS) == await statistics_of(connection, ledger, COUNTED)


def calendar_event_of(row: asyncpg.Record) -> CalendarEvent:
    values = {name: row[name] for name in CalendarEvent.__struct_fields__}
    parts = {name: json.loads(values[name]) for name in ("attendees", "metadata")}
    return CalendarEvent(**{**values, **parts, "id": values["id"], "doubts": list(values["doubts"])})


STATISTICS = """
SELECT day, event_type, host_email, bookings, scheduled, confirmed, completed, no_show, cancelled, rescheduled,
    minutes_booked
FROM projections.booking_statistics WHERE ledger_id = $1 AND bookings > 0 ORDER BY 1, 2, 3
"""
COUNTED = """
SELECT
    (coalesce(start_time, created_at) AT TIME ZONE 'UTC')::date,
    left(coalesce(event_type, ''), 200),
    left(coalesce(host_email, ''), 200),
    count(*),
    count(*) FILTER (WHERE status = 'scheduled'),
    count(*) FILTER (WHERE status = 'confirmed'),
    count(*) FILTER (WHERE status = 'completed'),
    count(*) FILTER (WHERE status = 'no_show'),
    count(*) FILTER (WHERE status = 'cancelled'),
    count(*) FILTER (WHERE status = 'rescheduled'),
    coalesce(sum(duration_minutes) FILTER (WHERE status NOT IN ('cancelled', 'rescheduled')), 0)
FROM projections.calendar_events WHERE ledger_id = $1 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


async def statistics_of(connection: Connection, ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(query, ledger.ledger_id)]


# What happens to them


class ReadModels(RuleBasedStateMachine):
    """One database for all examples, a log of its own for each. `running` turns coroutines into answers."""

    running: asyncio.Runner
    dsn: str
    connection: asyncpg.Connection
    pool: asyncpg.Pool

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.name = f"example-{next(examples)}"
        self.delivered: list[bytes] = []
        self.held_back: list[bytes] = []
        self.poisoned: dict[str, set[UUID]] = defaultdict(set)
        self.unreadable: set[bytes] = set()
        self.filed = b""
        self.poison_next: set[str] = set()
        self.paused: set[str] = set()
        self.compared_at = 0
        self.is_exact = True
        """Whether it can be known when each row became visible."""
        self.stories: list[Iterator[bytes]] = []
        self.run(add_ledgers(self.connection, self.name))
        self.ledger = self.run(read_ledgers(self.connection))[self.name]
        self.patch.setattr(history_module, "open_envelope", self.open_envelope)
        self.patch.setattr(filing_module, "open_envelope", self.open_filed)
        self.patch.setattr(filing_module, "meaning_of", self.meaning_of_filed)
        self.patch.setattr(rebuild_module, "SHOWN_SECONDS_MAX", 0)
        fill_here(self.patch)
        self.runner = self.new_runner()

    @initialize(seed=seeds, chosen=st.lists(st.sampled_from(sorted(LIFECYCLES)), min_size=2, max_size=4))
    def begin(self, seed: int, chosen: list[str]) -> None:
        """Several lifecycles of one studio, and bodies such as no studio would bring forth."""
        rng = Random(seed)
        studio, slot = Studio(rng), Slot(booked_at=NOON, starts_at=minutes(3_000))
        played = [LIFECYCLES[name](studio, slot) for name in chosen]
        self.stories = [iter([json_bytes(sent) for sent in one.deliveries]) for one in played] + [tangled(rng)]
        self.deliver_next(seed, FIRST_BODIES)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.running.run(work)

    def new_runner(self) -> Runner:
        return Runner(self.pool, self.dsn, catalogue=[self.poisonable(one) for one in CATALOGUE])

    def poisonable(self, projection: Projection) -> Projection:
        async def apply(connection: Connection, page: Page) -> None:
            if any(event.event_id in self.poisoned[projection.name] for event in page.events):
                raise Poison(projection.name)
            await projection.apply(connection, page)

        return msgspec.structs.replace(projection, apply=apply)

    def open_envelope(self, body: bytes) -> Envelope:
        if body in self.unreadable:
            raise Poison
        return open_envelope(body)

    def open_filed(self, body: bytes) -> Envelope:
        self.filed = body
        return open_envelope(body)

    def meaning_of_filed(self, envelope: Envelope) -> Meaning:
        self.open_envelope(self.filed)
        return meaning_of(envelope)

    def deliver(self, *bodies: bytes) -> None:
        for body in bodies:
            if body not in self.delivered:
                for name in self.poison_next:
                    if name in NAMES:
                        self.poisoned[name].add(self.ledger.event_id("delivery", body))
                    else:
                        self.unreadable.add(body)
                self.poison_next = set()
        self.run(file_in(self.connection, self.name, *bodies))
        self.delivered += bodies

    # Rules

    @rule(seed=seeds, bodies=st.sampled_from([8, 4, 2, 1]))
    def deliver_next(self, seed: int, bodies: int) -> None:
        """The next bodies of the stories, some held back, some as senders tell them who know numbers alone."""
        rng = Random(seed)
        for _ in range(bodies):
            body = next(rng.choice(self.stories), None)
            if body is not None:
                body = without_uid(body) if rng.random() < BY_NUMBER_SHARE else body
                if rng.random() < HELD_BACK_SHARE:
                    self.held_back.append(body)
                else:
                    self.deliver(body)

    @precondition(lambda self: self.held_back)
    @rule(data=st.data())
    def deliver_late(self, data: st.DataObject) -> None:
        held = data.draw(st.permutations(self.held_back))
        self.held_back = []
        self.deliver(*held)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.sampled_from(self.delivered)))

    @rule(page=st.sampled_from([1, 2, 5, 2_000]))
    def catch_up(self, page: int) -> None:
        self.patch.setattr(PAGE_EVENTS, page)
        self.run(self.step_all())

    async def step_all(self) -> None:
        while await self.runner.step(self.ledger):
            pass

    @rule()
    def restart(self) -> None:
        self.runner = self.new_runner()

    @rule(name=names)
    def pause(self, name: str) -> None:
        self.run(set_paused(self.connection, name, paused=True))
        self.paused.add(name)

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.paused)))
        self.run(set_paused(self.connection, name, paused=False))
        self.paused.remove(name)

    @rule(name=names, events=st.sampled_from([1, 3, 4_000]))
    def rebuild(self, name: str, events: int) -> None:
        self.patch.setattr(RANGE_EVENTS, events)
        behind = "SELECT coalesce(max(lag_events), 0) FROM projection_status WHERE projection = 'calendar_events'"
        self.is_exact &= self.run(self.connection.fetchval(behind)) == 0
        self.run(rebuild(self.dsn, name))
        self.paused.discard(name)

    @rule(name=st.sampled_from([*NAMES, "reading"]))
    def poison(self, name: str) -> None:
        """The next body that is new makes a projection fail, or whatever reads it."""
        self.poison_next.add(name)
        self.is_exact = False

    @rule()
    def cure_and_retry(self) -> None:
        self.poisoned.clear()
        self.unreadable.clear()
        self.poison_next.clear()
        self.run(self.retry_all())

    async def retry_all(self) -> None:
        for projection in BY_NAME.values():
            retried = await retry_parked(self.pool, self.ledger, projection, None, confirm_on_accept=False)
            assert retried.failed == []

    @precondition(lambda self: len(self.delivered) - self.compared_at >= BODIES_BETWEEN_MIN)
    @rule()
    def compare(self) -> None:
        """Everything cured, resumed and current: the models are what the log means, and what a rebuild makes of it."""
        for name in sorted(self.paused):
            self.run(set_paused(self.connection, name, paused=False))
        self.paused.clear()
        self.cure_and_retry()
        self.run(self.step_all())
        self.run(self.compare_all())
        self.compared_at = len(self.delivered)

    async def compare_all(self) -> None:
        await assert_as_folded(self.connection, self.ledger)
        rebuilt = of_ledger(await filled(self.connection, self.dsn, only=self.name), self.ledger)
        live = of_ledger(await read_models(self.connection), self.ledger)
        if self.is_exact:
            assert_same(rebuilt, live)
        else:
            assert_same(but_for_when(rebuilt), but_for_when(live))

    @invariant()
    def no_checkpoint_is_ahead_of_the_log(self) -> None:
        ahead = "SELECT count(*) FROM projection_status WHERE position > head"
        assert self.run(self.connection.fetchval(ahead)) == 0

    def teardown(self) -> None:
        try:
            self.compare()
        finally:
            self.patch.undo()


def without_uid(body: bytes) -> bytes:
    """The same from a sender who knows the booking by its number; unchanged where there is none."""
    told = json.loads(body)
    payload = told.get("payload", told)
    if isinstance(payload, dict) and isinstance(payload.get("bookingId"), int) and "uid" in payload:
        del payload["uid"]
        return json.dumps(told).encode()
    return body


@pytest.mark.parametrize(("example_count", "step_count"), [(60, 30), pytest.param(1_000, 50, marks=pytest.mark.soak)])
def test_read_models_are_what_the_log_means_whatever_happens_to_them(
    database: str, example_count: int, step_count: int
) -> None:
    with asyncio.Runner() as running:
        connection, pool = running.run(connect(database)), running.run(open_pool(database))

        class OnDatabase(ReadModels):
            pass

        OnDatabase.running, OnDatabase.dsn, OnDatabase.connection, OnDatabase.pool = running, database, connection, pool
        try:
            run_state_machine_as_test(
                OnDatabase,
                settings=settings(
                    max_examples=example_count,
                    stateful_step_count=step_count,
                    deadline=None,
                    derandomize=example_count < REPEATABLE_EXAMPLES_MAX,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            assert running.run(connection.fetchval("SELECT count(*) FROM ledger.events")) > 0, "something happened"
        finally:
            running.run(pool.close())
            running.run(connection.close())
