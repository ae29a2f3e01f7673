"""Throwaway servers for benches: PostgreSQL as durable as a real one, and web servers in processes of their own."""

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from api.bench.peers.tables import create_peers
from ledger.embedded import embedded_postgres
from ledger.errors import OperatorError
from ledger.migrate import migrate
from ledger.postgres import connect
from ledger.settings import KNOWN_NAMES
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

SECRET = "bench-secret"  # noqa: S105  # of servers that live for seconds, on loopback
COMMAND = (sys.executable, "-c", "from api.cli.main import main; main()")
"""`booking-ledger`, whether or not it is on the PATH."""

READY_PATH = "/readyz"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
LOOK_AGAIN_SECONDS = 0.01
SETTLE_SECONDS_MAX = 300.0


class Databases(msgspec.Struct, frozen=True, kw_only=True):
    """Two on one server, by DSN: ours, migrated, and that of those we are measured against."""

    ours: str
    peers: str


class Web(msgspec.Struct, frozen=True, kw_only=True):
    """A web server that is ready."""

    port: int
    pid: int
    ready_seconds: float


@contextlib.contextmanager
def throwaway_postgres() -> Iterator[str]:
    """The DSN of a server with nothing in it, durable, gone with its data at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="booking-ledger-bench-") as home:
        Path(home).chmod(0o711)  # for root: the account that runs the server has to enter
        with embedded_postgres(Path(home), durable=True) as dsn:
            yield dsn


@contextlib.contextmanager
def throwaway_databases() -> Iterator[Databases]:
    """Both, empty, for as long as the block lasts."""
    with throwaway_postgres() as dsn:
        asyncio.run(_migrate(dsn))
        yield with_peers(dsn)


def with_peers(dsn: str) -> Databases:
    """The peers have a database, with their tables, on the same server."""
    return Databases(ours=dsn, peers=asyncio.run(create_peers(dsn)))


def settle(dsn: str) -> None:
    """What others wrote is on disk, and costs whoever comes next nothing."""
    asyncio.run(_settle(dsn))


@contextlib.contextmanager
def our_server(dsn: str, *options: str) -> Iterator[Web]:
    """`booking-ledger serve`, ready to receive, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="booking-ledger-bench-") as home:
        settings = {
            "DATABASE_URL": dsn,
            "BOOKING_LEDGER_HOME": home,
            "CAL_COM_WEBHOOK_SECRET": SECRET,
            "INTERNAL_API_KEY": "bench-key",
            "LOG_LEVEL": "warning",
        }
        with _web((*COMMAND, "serve", *options), settings, port_setting="PORT") as web:
            yield web


@contextlib.contextmanager
def peer_server(*command: str, dsn: str = "") -> Iterator[Web]:
    """A server of api/bench/peers, ready, for as long as the block lasts; `PEER_PORT` says where it is to listen."""
    with _web(command, {"PEER_DSN": dsn, "PEER_SECRET": SECRET}, port_setting="PEER_PORT") as web:
        yield web


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's, with these settings of ours and no others."""
    inherited = {name: value for name, value in os.environ.items() if name not in KNOWN_NAMES}
    return {**inherited, **settings}


@contextlib.contextmanager
def _web(command: Sequence[str], settings: Mapping[str, str], *, port_setting: str) -> Iterator[Web]:
    port = _free_port()
    with tempfile.TemporaryFile() as printed:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [word.replace("{port}", str(port)) for word in command],
            env=environment({**settings, port_setting: str(port)}),
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _is_ready(process, port):
                printed.seek(0)
                raise OperatorError(f"{' '.join(command)} did not start: {printed.read().decode(errors='replace')}")
            yield Web(port=port, pid=process.pid, ready_seconds=time.perf_counter() - begun)
        finally:
            _end(process)


def _is_ready(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS_MAX)) as one,
        ):
            one.request("GET", READY_PATH)
            if one.getresponse().status == http.HTTPStatus.OK:
                return True
        time.sleep(LOOK_AGAIN_SECONDS)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    """One that nobody had just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _migrate(dsn: str) -> None:
    connection = await connect(dsn)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _settle(dsn: str) -> None:
    connection = await connect(dsn, statement_seconds_max=SETTLE_SECONDS_MAX)
    try:
        await connection.execute(SQL["settle"])
    finally:
        await connection.close()
