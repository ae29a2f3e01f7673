"""Hazards: PostgreSQL is killed, stopped, hangs, or is not there yet, and Cal.com goes on delivering, each thing once.

The acceptance run, PostgreSQL stopped for a minute in the middle of 10,000 deliveries, takes two minutes:

    pytest -m soak -s tests/test_outage.py
"""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from tests.builders import minutes, webhook, whole_log
from tests.mortal_postgres import MortalPostgres, mortal_postgres
from tests.serving import (
    COMMAND,
    KEY,
    SECRET,
    START_SECONDS_MAX,
    WEBHOOK,
    Server,
    connected,
    deliver,
    environment,
    free_port,
    run,
    serving,
    signed,
    speaking_to,
    start_server,
    until,
    until_current,
)

DELIVERIES = 3_000
SENDERS = 16
TRIES_MAX = 50
TIMELESS_EVERY = 10
DRAIN_SECONDS_MAX = 10.0
P99_SECONDS_MAX = 0.5
"""What is wanted is 0.05; tests share their machine."""
SETTINGS = {"CAL_COM_WEBHOOK_SECRET": SECRET, "INTERNAL_API_KEY": KEY, "LOG_LEVEL": "warning"}
PADDING = "x" * 2_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[MortalPostgres]:
    with mortal_postgres() as one:
        yield one


@pytest_asyncio.fixture
async def postgres(cluster: MortalPostgres) -> MortalPostgres:
    await cluster.begin_anew()
    return cluster


@pytest_asyncio.fixture
async def http(postgres: MortalPostgres, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    with serving(postgres.dsn, tmp_path) as server:
        async with speaking_to(server) as client:
            yield client


def body(number: int) -> bytes:
    """A delivery like no other; every tenth without a time of its own, so that nothing but its identity tells it."""
    at = None if number % TIMELESS_EVERY == 0 else minutes(number)
    return webhook("BOOKING_CREATED", {"uid": f"booking{number}", "description": PADDING}, at=at)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One answered delivery; `tries` counts the requests that it took, times are of the monotonic clock."""

    number: int
    status: int
    tries: int
    begun: float
    seconds: float


class Senders:
    """They post everything, and again what was not answered; to whichever server is there."""

    def __init__(self, server: Server, *, restart: Callable[[], Server], count: int) -> None:
        self.server = server
        self.answered: list[Sent] = []
        self._restart = restart
        self._numbers = iter(range(count))
        self._is_up = asyncio.Event()
        self._is_up.set()
        self._up_since = 0.0
        self._one_more = asyncio.Event()

    async def send_all(self, *, a_second: float | None = None) -> None:
        """As fast as it goes, or at a steady pace: then an answer's time counts from when it was due to be sent.

        Where nobody was there to answer then, it counts from when it was sent.
        """
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send(begun, a_second))

    async def _send(self, begun: float, a_second: float | None) -> None:
        async with speaking_to(self.server, key=None) as http:
            for number in self._numbers:
                due = None if a_second is None else begun + number / a_second
                if due is not None:
                    await at(due)
                self.answered.append(await self._answer(http, number, due))
                self._one_more.set()

    async def _answer(self, http: httpx.AsyncClient, number: int, due: float | None) -> Sent:
        delivery = body(number)
        headers = signed(delivery)
        for tries in range(1, TRIES_MAX + 1):
            await self._is_up.wait()
            begun = due if due is not None and due >= self._up_since else time.monotonic()
            try:
                answer = await http.post(WEBHOOK, content=delivery, headers=headers)
            except httpx.TransportError:
                continue
            seconds = time.monotonic() - begun
            return Sent(number=number, status=answer.status_code, tries=tries, begun=begun, seconds=seconds)
        raise AssertionError(f"no answer within {TRIES_MAX} tries: {self.server.printed()}")

    async def until_answered(self, share: float, of: int) -> None:
        while len(self.answered) < share * of:
            self._one_more.clear()
            await self._one_more.wait()

    async def kill_server(self) -> None:
        """Another has taken its place; until then nobody is there to answer."""
        self._is_up.clear()
        self.server.kill()
        self.server = await asyncio.to_thread(self._restart)
        self._up_since = time.monotonic()
        self._is_up.set()


async def assert_all_is_kept_once(connection: asyncpg.Connection, answered: Sequence[Sent]) -> None:
    """Each delivery is in the log byte for byte, no position is missing.

    Once; but one without a time of its own, that was sent again unanswered, may be two deliveries to us.
    """
    events = await whole_log(connection)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    kept = Counter(event.body for event in events)
    assert set(kept) == {body(one.number) for one in answered}
    tries = {body(one.number): 1 if one.number % TIMELESS_EVERY else one.tries for one in answered}
    assert {state: count for state, count in kept.items() if count > tries[state]} == {}


def p99_ms(answered: Sequence[Sent]) -> float:
    return sorted(one.seconds for one in answered)[int(len(answered) * 0.99)] * 1_000


def while_away(answered: Sequence[Sent], away: Sequence[tuple[float, float]]) -> list[Sent]:
    """What was sent while PostgreSQL was away."""
    during = [one for one in answered if any(begun <= one.begun <= ended for begun, ended in away)]
    assert during
    return during


def told(answered: Sequence[Sent], away: Sequence[tuple[float, float]]) -> str:
    """In a line, how quick the answers were of what was sent while PostgreSQL was away."""
    during = while_away(answered, away)
    return (
        f"{len(during)} answered while PostgreSQL was away, p99 {p99_ms(during):.1f} ms, of all {p99_ms(answered):.1f}"
    )


def sent(number: int) -> Sent:
    """In one request, whenever."""
    return Sent(number=number, status=202, tries=1, begun=0, seconds=0)


async def until_drained(http: httpx.AsyncClient) -> None:
    async def is_drained() -> bool:
        return bool((await http.get("/readyz")).json()["checks"]["spool"] == "empty")

    await until(is_drained, seconds=DRAIN_SECONDS_MAX)


async def until_all_in(connection: asyncpg.Connection, count: int, *, seconds: float) -> float:
    """So many deliveries are in the log; how long that took from now on."""
    begun = time.monotonic()

    async def are_in() -> bool:
        return bool(await connection.fetchval("SELECT count(*) >= $1 FROM ledger.events", count))

    await until(are_in, seconds=seconds)
    return time.monotonic() - begun


async def test_nothing_is_refused_lost_or_doubled_while_postgres_and_the_server_die_under_full_load(
    postgres: MortalPostgres, tmp_path: Path
) -> None:
    port = free_port()

    def start() -> Server:
        return start_server(postgres.dsn, tmp_path, port=port, settings=SETTINGS)

    senders, away = Senders(start(), restart=start, count=DELIVERIES), []

    async def rage() -> None:
        await senders.until_answered(0.15, DELIVERIES)
        postgres.send(signal.SIGKILL)
        begun = time.monotonic()
        await senders.until_answered(0.3, DELIVERIES)
        await senders.kill_server()
        await senders.until_answered(0.45, DELIVERIES)
        await postgres.start()
        away.append((begun, time.monotonic()))
        await senders.until_answered(0.6, DELIVERIES)
        postgres.send(signal.SIGQUIT)
        begun = time.monotonic()
        await senders.until_answered(0.85, DELIVERIES)
        await postgres.start()
        away.append((begun, time.monotonic()))
        await senders.kill_server()  # with its drain under way

    try:
        await asyncio.gather(senders.send_all(), rage())
        assert Counter(one.status for one in senders.answered if one.status not in {200, 202}) == {}
        assert len(senders.answered) == DELIVERIES
        async with connected(postgres.dsn) as connection:
            await until_all_in(connection, DELIVERIES, seconds=DRAIN_SECONDS_MAX)
            await assert_all_is_kept_once(connection, senders.answered)
            await until_current(connection)
    finally:
        senders.server.stop()
    print(told(senders.answered, away))  # noqa: T201  # for whoever looks, with -s
    assert sum(one.status == 202 for one in senders.answered) > DELIVERIES / 4
    verified = run("verify", DATABASE_URL=postgres.dsn)
    assert (verified.returncode, verified.stderr) == (0, verified.stderr), verified.stdout


async def test_a_postgres_that_hangs_keeps_those_on_their_way_waiting_for_two_seconds_and_nobody_else(
    postgres: MortalPostgres, http: httpx.AsyncClient
) -> None:
    on_its_way, late = 2, range(3, 50)
    assert (await deliver(http, body(1))).status_code == 200
    async with connected(postgres.dsn) as connection, postgres.hanging(connection):
        begun = time.monotonic()
        first = await deliver(http, body(on_its_way))
        assert (first.status_code, first.json()) == (202, {"status": "spooled"})
        assert 1 < time.monotonic() - begun < 10
        begun = time.monotonic()
        answers = [await deliver(http, body(number)) for number in late]
        assert {answer.status_code for answer in answers} == {202}
        assert time.monotonic() - begun < 10
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    async with connected(postgres.dsn) as connection:
        numbers = (1, on_its_way, *late)
        await until_all_in(connection, len(numbers), seconds=2 * DRAIN_SECONDS_MAX)
        await until_drained(http)
        await assert_all_is_kept_once(connection, [sent(number) for number in numbers])


async def test_a_delivery_that_is_in_the_log_and_in_the_spool_counts_once(
    postgres: MortalPostgres, http: httpx.AsyncClient
) -> None:
    """It has no time of its own, so nothing but the identity that it got from us can tell."""
    async with connected(postgres.dsn) as slow:
        async with slow.transaction():
            await slow.fetch("SELECT position FROM ledger.ledgers FOR UPDATE")  # as an append does, for too long
            assert (await deliver(http, body(TIMELESS_EVERY))).status_code == 202
        await until_all_in(slow, 1, seconds=DRAIN_SECONDS_MAX)
        await until_drained(http)
        assert (await deliver(http, body(1))).status_code == 200
        await assert_all_is_kept_once(slow, [sent(TIMELESS_EVERY), sent(1)])


async def test_a_server_that_starts_while_its_postgres_is_away_takes_deliveries(
    postgres: MortalPostgres, tmp_path: Path
) -> None:
    with serving(postgres.dsn, tmp_path) as server:
        async with speaking_to(server) as http:
            assert (await deliver(http, body(1))).status_code == 200
    postgres.send(signal.SIGQUIT)
    with serving(postgres.dsn, tmp_path, port=server.port) as again:
        async with speaking_to(again) as http:
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            assert [(await deliver(http, body(number))).status_code for number in (2, 3)] == [202, 202]
            assert (await http.post(WEBHOOK, content=body(4))).status_code == 401
            assert (await deliver(http, body(4), path=f"{WEBHOOK}/nobody")).status_code == 401
            assert (await http.get("/api/bookings")).status_code == 503
        await postgres.start()
        async with speaking_to(again) as http, connected(postgres.dsn) as connection:
            await until(is_ready(http))
            await until_all_in(connection, 3, seconds=DRAIN_SECONDS_MAX)
            assert (await deliver(http, body(5))).json()["position"] == 4
            await until_current(connection)
        assert "PostgreSQL is away" in again.printed()
        assert "Traceback" not in again.printed()


def is_ready(http: httpx.AsyncClient) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        try:
            return bool((await http.get("/readyz")).json()["status"] == "ready")
        except httpx.TransportError:  # the server that stood by has ended, the other has not begun
            return False

    return ask


async def test_a_server_does_not_start_for_an_absent_postgres_that_it_never_served(
    postgres: MortalPostgres, tmp_path: Path
) -> None:
    with serving(postgres.dsn, tmp_path):
        pass
    postgres.send(signal.SIGQUIT)
    settings = {**SETTINGS, "PORT": str(free_port())}
    elsewhere = run("serve", **settings, DATABASE_URL=postgres.dsn, BOOKING_LEDGER_HOME=str(tmp_path / "elsewhere"))
    another = run("serve", **settings, DATABASE_URL=f"{postgres.dsn}&dbname=another", BOOKING_LEDGER_HOME=str(tmp_path))
    assert [(one.returncode, one.stdout) for one in (elsewhere, another)] == [(2, ""), (2, "")]
    assert "does not lead to a PostgreSQL" in elsewhere.stderr


async def test_two_servers_of_one_home_share_its_spool_and_nothing_is_kept_twice(
    postgres: MortalPostgres, tmp_path: Path
) -> None:
    with serving(postgres.dsn, tmp_path) as one, serving(postgres.dsn, tmp_path) as other:
        async with speaking_to(one) as first, speaking_to(other) as second:
            postgres.send(signal.SIGKILL)
            answers = await asyncio.gather(*(deliver((first, second)[n % 2], body(n)) for n in range(200)))
            assert {answer.status_code for answer in answers} == {202}
            one.kill()
            await postgres.start()
            async with connected(postgres.dsn) as connection:
                await until_all_in(connection, 200, seconds=DRAIN_SECONDS_MAX)
                await until_drained(second)
                await assert_all_is_kept_once(connection, [sent(number) for number in range(200)])


async def test_a_worker_drains_what_servers_that_are_gone_have_left(postgres: MortalPostgres, tmp_path: Path) -> None:
    """Two servers of one machine are killed while PostgreSQL is away; nobody but a worker comes back."""
    with serving(postgres.dsn, tmp_path) as one, serving(postgres.dsn, tmp_path) as other:
        async with speaking_to(one) as first, speaking_to(other) as second:
            postgres.send(signal.SIGQUIT)
            answers = await asyncio.gather(*(deliver((first, second)[n % 2], body(n)) for n in range(100)))
            assert {answer.status_code for answer in answers} == {202}
        one.kill()
        other.kill()
    await postgres.start()
    home = environment({**SETTINGS, "DATABASE_URL": postgres.dsn, "BOOKING_LEDGER_HOME": str(tmp_path)})
    worker = await asyncio.create_subprocess_exec(COMMAND, "worker", env=home, stdout=subprocess.DEVNULL)
    try:
        async with connected(postgres.dsn) as connection:
            await until_all_in(connection, 100, seconds=DRAIN_SECONDS_MAX + START_SECONDS_MAX)
            await assert_all_is_kept_once(connection, [sent(number) for number in range(100)])
            await until_current(connection)
    finally:
        worker.terminate()
    assert await worker.wait() == 0


async def test_a_doctor_tells_what_waits_in_the_spool(postgres: MortalPostgres, tmp_path: Path) -> None:
    def spool_check(dsn: str = postgres.dsn) -> dict[str, object]:
        examined = run(
            "doctor", "--json", **SETTINGS, DATABASE_URL=dsn, BOOKING_LEDGER_HOME=str(tmp_path), PORT=str(free_port())
        )
        checks: list[dict[str, object]] = msgspec.json.decode(examined.stdout)["checks"]
        return next(check for check in checks if check["name"] == "spool")

    assert (spool_check()["ok"], "serve will make it" in str(spool_check()["detail"])) == (True, True)
    with serving(postgres.dsn, tmp_path) as server:
        async with speaking_to(server) as http:
            assert "no delivery waits" in str(spool_check()["detail"])
            postgres.send(signal.SIGQUIT)
            assert {(await deliver(http, body(number))).status_code for number in range(7)} == {202}
        waiting = spool_check()
        assert (waiting["ok"], "7 deliveries wait" in str(waiting["detail"])) == (True, True)
        assert "GB free" in str(waiting["detail"])
        elsewhere = spool_check("postgresql://me@127.0.0.1:1/other")
        assert (elsewhere["ok"], "7 of them are of another database" in str(elsewhere["detail"])) == (False, True)


# By hand


@pytest.mark.soak
@pytest.mark.parametrize(("count", "away_seconds"), [(10_000, 60)])
@pytest.mark.parametrize("ending", [signal.SIGQUIT, signal.SIGKILL])
async def test_postgres_stopped_for_a_minute_in_the_middle_of_ten_thousand_deliveries(
    postgres: MortalPostgres, tmp_path: Path, count: int, away_seconds: int, ending: signal.Signals
) -> None:
    """At a steady pace, so that our answers are measured and not the sender's own queue. The server is killed twice."""
    port = free_port()

    def start() -> Server:
        return start_server(postgres.dsn, tmp_path, port=port, settings=SETTINGS)

    senders = Senders(start(), restart=start, count=count)
    try:
        sending = asyncio.create_task(senders.send_all(a_second=count / (away_seconds * 1.5)))
        begun = asyncio.get_running_loop().time()
        await at(begun + away_seconds * 0.25)
        postgres.send(ending)
        away_since = time.monotonic()
        for part in (0.6, 0.95):
            await at(begun + away_seconds * part)
            await senders.kill_server()
        await at(begun + away_seconds * 1.25)
        await postgres.start()
        back = time.monotonic()
        async with connected(postgres.dsn) as connection:
            spooled = sum(one.status == 202 for one in senders.answered)
            took = await until_all_in(connection, len(senders.answered), seconds=DRAIN_SECONDS_MAX)
            await sending
            await until_all_in(connection, count, seconds=DRAIN_SECONDS_MAX)
            assert Counter(one.status for one in senders.answered if one.status not in {200, 202}) == {}
            await assert_all_is_kept_once(connection, senders.answered)
    finally:
        senders.server.stop()
    away = [(away_since, back)]
    line = told(senders.answered, away)
    assert p99_ms(while_away(senders.answered, away)) / 1_000 < P99_SECONDS_MAX, line
    print(f"{line}; {spooled} spooled, drained {took:.1f} s after its return")  # noqa: T201  # what it is run for


async def at(moment: float) -> None:
    """It is that time by the loop's clock."""
    loop = asyncio.get_running_loop()
    come = asyncio.Event()
    loop.call_at(moment, come.set)
    await come.wait()
