"""Real processes for tests: a server on a port of its own, the command line, and what senders and readers do with them.

Nothing here sleeps: whoever waits asks again and again, each time awaiting the answer, until a deadline.
"""

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs
from uuid import uuid4

import asyncpg
import httpx
import msgspec

from ledger.calcom.signature import sign
from ledger.filing import Receipt, file_delivery
from ledger.postgres import Connection, connect
from ledger.settings import KNOWN_NAMES
from ledger.store import append, read_ledgers

COMMAND = Path(sysconfig.get_path("scripts"), "booking-ledger")
SECRET = "sample-secret"
KEY = "sample-key"
WEBHOOK = "/api/webhooks/cal-com"
SIGNATURE = "x-cal-signature-256"

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
COMMAND_SECONDS_MAX = 120.0
PATIENCE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.02
STARTS_MAX = 5


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server process that is ready. `log` is what it printed, both streams."""

    url: str
    port: int
    key: str
    secret: str
    dsn: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """The process is gone, without having been asked."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """The process has ended as a supervisor ends it."""
        self.process.terminate()
        self.process.wait(STOP_SECONDS_MAX)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these settings of ours and no others."""
    inherited = {name: value for name, value in os.environ.items() if name not in KNOWN_NAMES}
    return {**inherited, "NO_COLOR": "1", **settings}


def run(*arguments: str | bytes, stdin: str | None = None, **settings: str) -> "subprocess.CompletedProcess[str]":
    """`booking-ledger …` has ended; its streams are read as UTF-8."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def free_port() -> int:
    """A port that nobody had just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    dsn: str, folder: Path, *, port: int | None = None, options: tuple[str, ...] = (), **settings: str
) -> Iterator[Server]:
    """A server for as long as the block lasts, ready when it begins. An empty setting counts as absent."""
    ours = {"CAL_COM_WEBHOOK_SECRET": SECRET, "INTERNAL_API_KEY": KEY, "LOG_LEVEL": "warning", **settings}
    server = start_server(dsn, folder, port=port, options=options, settings=ours)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                server.kill()
                raise


def start_server(
    dsn: str, folder: Path, *, port: int | None, options: tuple[str, ...] = (), settings: Mapping[str, str]
) -> Server:
    """A server that is ready; the caller ends it. Without `port` any free one."""
    printed_last = ""
    for _ in range(STARTS_MAX):
        chosen = port or free_port()
        log = folder / f"server-{chosen}.log"
        with log.open("ab") as printed:
            process = subprocess.Popen(
                [COMMAND, "serve", *options],
                env=environment(
                    {"BOOKING_LEDGER_HOME": str(folder), **settings, "DATABASE_URL": dsn, "PORT": str(chosen)}
                ),
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        secret, _, _ = settings.get("CAL_COM_WEBHOOK_SECRET", "").partition(",")
        key = settings.get("INTERNAL_API_KEY", "")
        url = f"http://127.0.0.1:{chosen}"
        server = Server(url=url, port=chosen, key=key, secret=secret, dsn=dsn, process=process, log=log)
        if _is_up(server, expected=200 if secret else 503):
            return server
        printed_last = server.printed()
    raise AssertionError(f"no server within {STARTS_MAX} starts: {printed_last}")


def _is_up(server: Server, *, expected: int) -> bool:
    """Whether it became ready; False where another program has taken its port meanwhile."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as one,
        ):
            one.request("GET", "/readyz")
            if one.getresponse().status == expected:
                return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(LOOK_AGAIN_SECONDS)
            assert "is taken by another program" in server.printed(), server.printed()
            return False
    server.kill()
    raise AssertionError(f"not ready within {START_SECONDS_MAX:g} s: {server.printed()}")


def speaking_to(server: Server, *, key: str | None = KEY) -> httpx.AsyncClient:
    """A client of the API, with the key unless told otherwise."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"content-type": "application/json", SIGNATURE: sign(body, secret.encode())}


async def deliver(client: httpx.AsyncClient, body: bytes, *, path: str = WEBHOOK) -> httpx.Response:
    """The answer to a delivery as Cal.com would send it."""
    return await client.post(path, content=body, headers=signed(body))


def assert_is_problem(answer: httpx.Response, status: int) -> str:
    """The answer is a problem document (RFC 9457) of this status, and nothing but; returns its `detail`."""
    assert answer.status_code == status, answer.text
    assert answer.headers.get_list("content-type") == ["application/problem+json"]
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert (problem["status"], problem["title"]) == (status, http.HTTPStatus(status).phrase)
    detail: str = problem["detail"]
    assert detail
    return detail


async def deliver_all(client: httpx.AsyncClient, *bodies: bytes) -> None:
    """Every body is in the log, in this order."""
    for body in bodies:
        answer = await deliver(client, body)
        assert answer.status_code == 200, answer.text


async def file(connection: Connection, *bodies: bytes) -> None:
    """The deliveries are in the log without any server, in this order, each with its links."""
    ledger = (await read_ledgers(connection))["main"]
    receipt = Receipt(received_at=datetime.now(UTC))
    filings = [file_delivery(ledger, body, receipt, fresh_id=uuid4()) for body in bodies]
    await append(connection, ledger.ledger_id, [event for filing in filings for event in filing.events])


async def exchange(server: Server, request: bytes) -> bytes:
    """What comes back for these bytes until the server closes; the request itself must ask for that."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS) -> None:
    """The condition holds; it is asked again as soon as it has answered."""
    async with asyncio.timeout(seconds):
        while not await condition():
            pass


async def until_current(connection: Connection, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Every read model has what the log had when this was called."""

    async def is_current() -> bool:
        return not await connection.fetchval("SELECT max(lag_events) > 0 FROM projection_status")

    await until(is_current, seconds=seconds)


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def parked(connection: Connection) -> list[str]:
    """What was set aside, each as `projection position error`."""
    rows = await connection.fetch(
        "SELECT projection, position, error FROM projections.parked_events ORDER BY position, projection"
    )
    return [f"{row['projection']} {row['position']} {row['error']}" for row in rows]


@contextlib.asynccontextmanager
async def postgres_away(admin: Connection, dsn: str) -> AsyncIterator[None]:
    """Inside, the database's server has closed every connection and cannot be found; `admin`, open before, still can.

    The whole cluster is out of reach meanwhile, for new connections.
    """
    address, _, options = dsn.partition("?")
    [folder] = parse_qs(options)["host"]
    socket_file, elsewhere = Path(folder, ".s.PGSQL.5432"), Path(folder, "away")
    move(socket_file, elsewhere)
    try:
        name = address.rpartition("/")[2]
        await admin.fetch("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        move(elsewhere, socket_file)


def move(old: Path, new: Path) -> None:
    old.rename(new)
