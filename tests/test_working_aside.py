"""A server's worker is a process of its own, which ends with the server, and is replaced where it ends before."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from projections.aside import end_aside, start_aside
from projections.pulse import PULSE_BYTES, Pulse
from tests.builders import webhook
from tests.serving import (
    Server,
    connected,
    deliver_all,
    file,
    postgres_away,
    serving,
    speaking_to,
    until,
    until_current,
)
from tests.test_metrics_http import scrape, value
from tests.waiting_aside import Order

TAKEN_OVER_SECONDS_MAX = 3.0
"""Less than a lease."""


async def test_one_that_is_killed_is_told_of_and_replaced(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(server.dsn) as connection:
            killed = await worker_of(server)
            os.kill(killed, signal.SIGKILL)

            async def is_told() -> bool:
                return value(await scrape(http), "runner_failing") == 1

            await until(is_told)
            await deliver_all(http, booked("meanwhile"))
            await until_current(connection)
            assert await uids(connection) == ["meanwhile"]
            assert await worker_of(server) != killed
            assert value(await scrape(http), "runner_failing") == 0
        assert "worker_ended" in server.printed()


@pytest.mark.parametrize("ends", [Server.stop, Server.kill])
async def test_it_ends_with_its_server_and_another_takes_over_at_once(
    durable_database: str, tmp_path: Path, ends: Callable[[Server], None]
) -> None:
    with serving(durable_database, tmp_path) as server:
        async with connected(server.dsn) as connection:
            worker = await worker_of(server)
            await file(connection, booked("before"))
            await until_current(connection)
            ends(server)
            await until(lambda: has_ended(worker))
            assert "Traceback" not in server.printed()
            await file(connection, booked("between"))
            with serving(durable_database, tmp_path):
                await until_current(connection, seconds=TAKEN_OVER_SECONDS_MAX)
            assert await uids(connection) == ["before", "between"]


async def test_one_that_starts_while_postgres_is_away_waits_until_it_is_back(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(durable_cluster) as admin:
            async with postgres_away(admin, durable_database):
                os.kill(await worker_of(server), signal.SIGKILL)
                await until(lambda: is_printed(server, "worker_cannot_start"))
                assert value(await scrape(http), "runner_failing") == 1
            async with connected(server.dsn) as connection:
                await file(connection, booked("after"))
                await until_current(connection)
                assert await uids(connection) == ["after"]


async def test_one_that_does_not_hear_that_nobody_wants_it_is_killed() -> None:
    process = await start_aside("tests.waiting_aside", Order(word="waiting"))
    process.send_signal(signal.SIGSTOP)
    await end_aside(process, seconds_max=0.1)
    assert process.returncode == -signal.SIGKILL


def test_signs_of_life_are_the_same_wherever_the_file_is_open(tmp_path: Path) -> None:
    with (tmp_path / "pulse").open("w+b") as file:
        file.truncate(PULSE_BYTES)
        here, there = Pulse(file.fileno()), Pulse(file.fileno())
        there.failed()
        age = here.seconds_since_poll
        assert (here.is_failing, Pulse().is_failing) == (True, False)
        there.looked()
        assert here.seconds_since_poll < age
        assert (here.is_failing, Pulse().is_failing) == (False, False)


def booked(uid: str) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": uid})


async def uids(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT cal_com_event_id FROM calendar_events ORDER BY 1")
    return [row["cal_com_event_id"] for row in rows]


async def worker_of(server: Server) -> int:
    """Its process, once there is one."""

    async def is_there() -> bool:
        return bool(children(server.process.pid))

    await until(is_there)
    return children(server.process.pid)[0]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def has_ended(pid: int) -> bool:
    return state_of(pid) in {None, "Z"}


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


async def is_printed(server: Server, words: str) -> bool:
    return words in server.printed()
