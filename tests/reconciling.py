"""A ledger in a real database beside a Cal.com that is made up: what reconciliation tests are played on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec

from ledger.calcom.api import CalComApi
from ledger.passes import Report, run_pass
from ledger.postgres import open_pool
from ledger.reconcile import Reconciler
from ledger.settings import Secret
from ledger.store import Ledger, RecordedEvent, read_ledgers, read_log
from ledger.sweeping import Cause, Sweep, SweepKind, ask_for_sweep
from ledger.vocabulary import Position
from projections import known_bookings
from projections.runner import Runner
from tests.account import Shown
from tests.fake_calcom import KEY, FakeCalCom, fake_calcom
from tests.serving import file

EVENTS_MAX = 100_000
HASTY = httpx.Timeout(0.3)
VISIBLE = ("booking_status", "start_time", "end_time", "host_email", "location", "rescheduled_to")
"""What both sides know of a booking, in the columns of `calendar_events`; beside it, who comes and who is absent."""


class Clock:
    """Now, and whatever was added to it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Pauses:
    """The seconds of the rate limit and of pauses, which pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Bench:
    """`clock` is what the reconciler goes by: as far ahead of the world's as a test moves it."""

    def __init__(
        self,
        dsn: str,
        pool: asyncpg.Pool,
        ledger: Ledger,
        *,
        fake: FakeCalCom,
        client: httpx.AsyncClient,
        pauses: Pauses,
    ) -> None:
        self.dsn = dsn
        self.pool = pool
        self.ledger = ledger
        self.fake = fake
        self.clock = Clock()
        self.waited: list[tuple[int, float]] = []
        self._client = client
        self._pauses = pauses
        self._runner = Runner(pool, dsn)
        self.reconciler = self.another()

    def another(self, **options: Any) -> Reconciler:
        """A reconciler of another process's."""
        api = CalComApi(
            self.fake.url,
            Secret(KEY.encode()),
            client=self._client,
            attempts_max=options.pop("attempts_max", 5),
            clock=self._pauses.clock,
            sleep=self._pauses.sleep,
        )
        return Reconciler(api, self.pool, self.dsn, self.ledger, known_bookings, now=self.clock, **options)

    async def deliver(self, *bodies: bytes) -> None:
        """The webhooks are in the log, and in the tables."""
        async with self.pool.acquire() as connection:
            await file(connection, *bodies)
        await self.catch_up()

    async def catch_up(self) -> None:
        await self._runner.catch_up()

    async def sweep(
        self, kind: SweepKind = "full", *, cause: Cause = "command", reconciler: Reconciler | None = None
    ) -> Sweep:
        """The sweep is done, and what came of it is in the tables."""
        sweep = await (reconciler or self.reconciler).drive(await self.begin(kind, cause=cause))
        await self.catch_up()
        return sweep

    async def begin(self, kind: SweepKind = "full", *, cause: Cause = "command") -> UUID:
        async with self.pool.acquire() as connection:
            return (await ask_for_sweep(connection, self.ledger, kind, cause=cause)).sweep_id

    async def reconcile(self, *, is_full: bool = True, reconciler: Reconciler | None = None) -> Report:
        """What `booking-ledger reconcile` does; nobody waits, the clock goes on instead."""

        async def wait(bookings: int, seconds: float) -> None:
            self.waited.append((bookings, seconds))
            self.clock.ahead += timedelta(seconds=seconds)

        report = await run_pass(
            reconciler or self.reconciler, is_full=is_full, draw=lambda _done, _total: None, wait=wait
        )
        await self.catch_up()
        return report

    async def observations(self) -> list[RecordedEvent]:
        async with self.pool.acquire() as connection:
            log = await read_log(connection, self.ledger.ledger_id, after=Position(0), events_max=EVENTS_MAX)
        return [event for event in log if event.source == "reconcile"]

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        async with self.pool.acquire() as connection:
            return [dict(row) for row in await connection.fetch(statement)]

    async def bookings(self) -> dict[str, dict[str, Any]]:
        """The rows of `calendar_events` by uid."""
        rows = await self.rows("SELECT * FROM projections.calendar_events")
        return {row["cal_com_event_id"]: row for row in rows}

    async def visible(self) -> dict[str, dict[str, Any]]:
        """What both sides can know of each booking."""
        return {
            uid: {name: row[name] for name in VISIBLE} | {"absent": absences(row)}
            for uid, row in (await self.bookings()).items()
        }

    async def assert_equal_to(self, shown: Iterable[Shown]) -> None:
        """Every booking that the API shows is in the tables as it shows it."""
        rows = await self.bookings()
        wrong = [one["uid"] for one in shown if one["uid"] not in rows or not is_as_shown(rows[one["uid"]], one)]
        assert wrong == []


def is_as_shown(row: Mapping[str, Any], one: Shown) -> bool:
    is_over = one["status"] in ("cancelled", "rejected")
    status = "rescheduled" if is_over and one["rescheduledToUid"] else one["status"]
    return bool(
        row["booking_status"] == status
        and row["start_time"] == datetime.fromisoformat(one["start"])
        and row["end_time"] == datetime.fromisoformat(one["end"])
        and absences(row) == {person["email"].lower(): person["absent"] for person in one["attendees"]}
    )


def absences(row: Mapping[str, Any]) -> dict[str, bool]:
    return {person["email"]: person["no_show"] for person in msgspec.json.decode(row["attendees"])}


@contextlib.asynccontextmanager
async def bench(
    dsn: str, shown: Iterable[Shown] = (), *, timeouts: httpx.Timeout | None = None
) -> AsyncIterator[Bench]:
    """An empty ledger, and a Cal.com that shows these bookings."""
    pauses = Pauses()
    pool = await open_pool(dsn, connections_max=6)
    async with pool, httpx.AsyncClient(timeout=timeouts or httpx.Timeout(30), trust_env=False) as client:
        async with pool.acquire() as connection:
            ledger = (await read_ledgers(connection))["main"]
        with fake_calcom(list(shown), clock=pauses.clock) as fake:
            yield Bench(dsn, pool, ledger, fake=fake, client=client, pauses=pauses)
