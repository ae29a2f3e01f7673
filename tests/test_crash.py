"""Hazards: a server killed at any moment, connections that die, a log that somebody with all rights has changed."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import cast

import asyncpg
import httpx
import msgspec
import pytest

from api import deliveries as deliveries_module
from api.deliveries import Delivery, DeliveryLog
from api.simulator.traffic import SimulatedDelivery, simulate
from ledger.calcom.envelope import open_envelope
from ledger.postgres import open_pool
from projections.runner import Runner
from tests.builders import MAIN, webhook, whole_log
from tests.serving import (
    KEY,
    SECRET,
    WEBHOOK,
    Server,
    connected,
    deliver_all,
    parked,
    run,
    speaking_to,
    start_server,
    until,
    until_current,
)

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
BOOKINGS = 380
DELIVERIES_MIN = 900
KILLS = 10
SENDERS = 8
CONNECTIONS_LOST = 100
STOPS = 40
SETTINGS = {"CAL_COM_WEBHOOK_SECRET": SECRET, "INTERNAL_API_KEY": KEY, "LOG_LEVEL": "warning"}


class Storm:
    """Senders who post everything, again and again until it is answered, and a server that keeps being killed."""

    def __init__(self, dsn: str, folder: Path, deliveries: Sequence[SimulatedDelivery]) -> None:
        self.answered: list[bytes] = []
        self.unanswered = 0
        self.kills = 0
        self.server = start_server(dsn, folder, port=None, settings=SETTINGS)
        self._folder = folder
        self._rng = Random(5)
        self._waiting = list(reversed(deliveries))
        self._is_up = asyncio.Event()
        self._is_up.set()
        self._one_more = asyncio.Event()

    async def rage(self) -> None:
        """Everything has been answered 200, and the server was killed `KILLS` times."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill())
            for _ in range(SENDERS):
                group.create_task(self._send())

    async def _send(self) -> None:
        async with speaking_to(self.server, key=None) as http:
            while self._waiting:
                delivery = self._waiting.pop()
                while not await self._is_answered(http, delivery):
                    self.unanswered += 1
                    await self._is_up.wait()
                self.answered.append(delivery.body)
                self._one_more.set()

    async def _is_answered(self, http: httpx.AsyncClient, delivery: SimulatedDelivery) -> bool:
        try:
            answer = await http.post(WEBHOOK, content=delivery.body, headers=delivery.headers)
        except httpx.TransportError:
            return False
        assert answer.status_code == 200, answer.text
        return True

    async def _kill(self) -> None:
        """Each time after some more answers, whatever else is under way just then."""
        share = len(self._waiting) // (KILLS + 1)
        for kill in range(1, KILLS + 1):
            wanted = kill * share - self._rng.randrange(share // 2)
            while len(self.answered) < wanted:
                self._one_more.clear()
                await self._one_more.wait()
            self._is_up.clear()
            self.server.kill()
            self.kills += 1
            self.server = start_server(self.server.dsn, self._folder, port=self.server.port, settings=SETTINGS)
            self._is_up.set()


async def test_a_server_killed_at_any_moment_loses_nothing_it_has_answered_and_counts_nothing_twice(
    durable_database: str, tmp_path: Path
) -> None:
    deliveries = simulate(seed=3, now=NOW, bookings=BOOKINGS, secret=SECRET.encode())
    assert len(deliveries) >= DELIVERIES_MIN
    storm = Storm(durable_database, tmp_path, deliveries)
    try:
        await storm.rage()
        assert (storm.kills, len(storm.answered)) == (KILLS, len(deliveries))
        assert storm.unanswered > 0, "some kills hit a delivery on its way"
        async with connected(durable_database) as connection:
            await assert_log_is_whole(connection, storm.answered)
            await until_current(connection)
            assert await parked(connection) == []
            await assert_read_models_match_those_of_a_calm_day(connection)
    finally:
        storm.server.stop()
    verified = run("verify", DATABASE_URL=durable_database)
    assert (verified.returncode, verified.stderr) == (0, verified.stderr), verified.stdout
    assert "holds" in verified.stdout


async def assert_log_is_whole(connection: asyncpg.Connection, answered: Sequence[bytes]) -> None:
    """Everything answered is there byte for byte, what carries its own time exactly once, no position is missing."""
    events = await whole_log(connection)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    assert await connection.fetchval("SELECT position FROM ledger.ledgers") == len(events)
    kept = Counter(event.body for event in events if event.source == "webhook")
    assert set(kept) == set(answered)
    timed = {body for body in kept if open_envelope(body).occurred_at is not None}
    assert {body: count for body, count in kept.items() if count > 1 and body in timed} == {}
    timeless = Counter(body for body in answered if body not in timed)
    assert {body for body, count in timeless.items() if kept[body] < count} == set()


async def assert_read_models_match_those_of_a_calm_day(connection: asyncpg.Connection) -> None:
    """What the killed runners left behind is what one runner makes of the same log in one go."""
    models = (
        "SELECT to_jsonb(t) - 'synced_at' AS row FROM calendar_events_1.calendar_events AS t ORDER BY cal_com_event_id",
        "SELECT to_jsonb(t) AS row FROM booking_attendees_1.booking_attendees AS t ORDER BY uid, email",
        "SELECT to_jsonb(t) AS row FROM webhook_logs_1.webhook_logs AS t ORDER BY position",
    )
    stormy = [await connection.fetch(model) for model in models]
    assert all(stormy)
    await connection.execute(
        """
        TRUNCATE
            calendar_events_1.calendar_events, calendar_events_1.booking_statistics,
            calendar_events_1.booking_statistics_by_month, calendar_events_1.booking_statistics_in_all,
            booking_attendees_1.booking_attendees, webhook_logs_1.webhook_logs, sync_lag_1.sync_lag;
        UPDATE projections.checkpoints SET position = 0;
        SELECT pg_notify('ledger_events', '1');
        """
    )
    await until_current(connection)
    assert [await connection.fetch(model) for model in models] == stormy


async def test_one_byte_changed_with_all_rights_is_found_and_its_place_is_named(server: Server) -> None:
    async with speaking_to(server) as http, connected(server.dsn) as owner:
        await deliver_all(http, *(webhook("BOOKING_CREATED", {"uid": f"booking-{n}"}) for n in range(40)))
        refused = await changed(owner, "UPDATE ledger.events SET state = state WHERE position = 17")
        assert "append-only" in refused
        whole = run("verify", "--json", DATABASE_URL=server.dsn)
        assert whole.returncode == 0
        assert msgspec.json.decode(whole.stdout) == {"ok": True, "events": 40, "head": 40, "first_bad_position": None}

        await owner.execute("ALTER TABLE ledger.events DISABLE TRIGGER events_append_only")
        flip = "UPDATE ledger.events SET state = set_byte(state, 30, get_byte(state, 30) # 1) WHERE position = 17"
        assert await changed(owner, flip) == "UPDATE 1"
        await owner.execute("ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only")

    broken = run("verify", "--json", DATABASE_URL=server.dsn)
    assert broken.returncode == 1
    told = msgspec.json.decode(broken.stdout)
    assert (told["ok"], told["first_bad_position"], told["head"]) == (False, 17, 40)
    in_words = run("verify", DATABASE_URL=server.dsn)
    assert (in_words.returncode, "position 17" in in_words.stdout) == (1, True)


async def changed(connection: asyncpg.Connection, statement: str) -> str:
    """What came of it: the command's tag, or the refusal."""
    try:
        return str(await connection.execute(statement))
    except asyncpg.PostgresError as error:
        return str(error)


# Refusals and repeats on their way to the table


class LosingPool:
    """A pool whose connections are lost, so many times, right after what was done on them has been committed."""

    def __init__(self, pool: asyncpg.Pool, *, losses: int) -> None:
        self._pool = pool
        self._losses = losses

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[object]:
        async with self._pool.acquire() as connection:
            yield connection
        if self._losses:
            self._losses -= 1
            raise ConnectionResetError


def refusal(reason: str) -> Delivery:
    return Delivery(ledger_id=MAIN, received_at=NOW, duration_ms=1.0, reason=reason)


async def reasons(connection: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await connection.fetch("SELECT reason FROM ledger.deliveries ORDER BY reason")]


async def test_a_refusal_whose_commit_was_not_answered_is_written_once_and_holds_up_no_other(
    connection: asyncpg.Connection, database: str
) -> None:
    async with await open_pool(database) as pool:
        deliveries = DeliveryLog(cast("asyncpg.Pool", LosingPool(pool, losses=1)))
        deliveries.note(refusal("a"))
        with pytest.raises(ConnectionResetError):
            await deliveries.flush()
        deliveries.note(refusal("b"))
        await deliveries.flush()
    assert await reasons(connection) == ["a", "b"]


async def test_refusals_are_still_written_after_connections_have_died_at_any_moment(
    connection: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries_module, "FLUSH_SECONDS", 0)
    async with await open_pool(database) as pool, DeliveryLog(pool).running() as deliveries:
        for number in range(CONNECTIONS_LOST):
            deliveries.note(refusal(f"{number:03}"))
            await connection.fetch(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """
            )

        async def is_all_written() -> bool:
            return len(await reasons(connection)) >= CONNECTIONS_LOST

        await until(is_all_written, seconds=10)
    assert await reasons(connection) == [f"{number:03}" for number in range(CONNECTIONS_LOST)]


# Stopping


async def test_a_runner_that_is_stopped_at_any_moment_leaves_no_connection_open(
    connection: asyncpg.Connection, database: str
) -> None:
    async with await open_pool(database) as pool:
        for queries in range(STOPS):
            async with Runner(pool, database).running():
                for _ in range(queries):
                    await connection.fetchval("SELECT true")

        async def is_alone() -> bool:
            count = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = $1",
                "client backend",
            )
            return bool(count == 1 + pool.get_size())

        await until(is_alone, seconds=5)
        assert pool.get_size() <= 10
    gc.collect()  # a connection that nobody has closed is told of now, and fails this test
