"""`booking-ledger demo`: the whole thing, at work, on made-up traffic."""

import asyncio
import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.context import checked_connection, progress_bar, read_settings
from ledger.errors import OperatorError

if TYPE_CHECKING:
    from api.simulator.traffic import SimulatedDelivery
    from ledger.postgres import Connection

BOOKINGS_DEFAULT = 120
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
CATCH_UP_SECONDS_MAX = 30.0
LOOK_AGAIN_SECONDS = 0.05
PORTS_MAX = 5
SERVE = "from api.cli.main import main; main()"
WEBHOOK_PATH = "/api/webhooks/cal-com"
OUR_SETTINGS = ("DATABASE_URL", "DATABASE_DIRECT_URL", "CAL_COM_WEBHOOK_SECRET", "INTERNAL_API_KEY")


@click.command()
@click.option("--exit", "ends", is_flag=True, help="End when everything has been shown, instead of serving on.")
@click.option("--bookings", default=BOOKINGS_DEFAULT, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--seed", default=1, show_default=True, help="Another seed, other people and other trouble.")
def demo(*, ends: bool, bookings: int, seed: int) -> None:
    """See it work: made-up Cal.com traffic into a throwaway database.

    Starts an embedded PostgreSQL and a server in a temporary folder, posts signed webhooks to it over HTTP
    (reschedules, cancellations, seats, no-shows, repeats, late arrivals), and shows what came of them. Needs no
    network and leaves nothing behind.
    """
    from api.simulator.traffic import simulate
    from ledger.embedded import embedded_postgres

    secret, key = secrets.token_hex(16), secrets.token_urlsafe(16)
    wanted_port = read_settings().port
    with (
        tempfile.TemporaryDirectory(prefix="booking-ledger-demo-", ignore_cleanup_errors=True) as folder,
        contextlib.ExitStack() as stack,
    ):
        Path(folder).chmod(0o711)  # for root: the account that runs PostgreSQL has to enter
        home = Path(folder, "home")
        stack.callback(_remove_cluster, home)
        click.echo("Starting PostgreSQL and the server in a temporary folder …")
        with (
            embedded_postgres(home) as dsn,
            _server(home, wanted_port=wanted_port, secret=secret, key=key) as port,
        ):
            deliveries = simulate(seed=seed, now=_now(), bookings=bookings, secret=secret.encode())
            answers = _post(deliveries, port)
            click.echo(
                f"{len(deliveries):,} signed webhooks posted to http://127.0.0.1:{port}{WEBHOOK_PATH}: {answers}"
            )
            asyncio.run(_show(dsn))
            if ends:
                click.echo(f"\nThe server ran on http://127.0.0.1:{port}; without --exit it stays up to be asked.")
            else:
                click.echo(f"\nThe server runs on http://127.0.0.1:{port}, the key of this run is {key}. Try:")
                click.echo(f"  curl -H 'Authorization: Bearer {key}' 'http://127.0.0.1:{port}/api/bookings?limit=3'")
                with contextlib.suppress(KeyboardInterrupt):
                    click.echo("Ctrl-C ends the demo and removes everything.")
                    signal.pause()


def _remove_cluster(home: Path) -> None:
    """The data are gone even where they had to be put outside the temporary folder (embedded.py: for root)."""
    data = home / "postgres"
    if data.is_symlink():
        shutil.rmtree(data.resolve().parent, ignore_errors=True)


def _now() -> datetime:
    """Whole milliseconds, as Cal.com writes them."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _ports(wanted: int) -> Iterator[int]:
    """The port of the settings, then free ones as the system gives them."""
    yield wanted
    for _ in range(PORTS_MAX):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free: int = probe.getsockname()[1]
        yield free


@contextlib.contextmanager
def _server(home: Path, *, wanted_port: int, secret: str, key: str) -> Iterator[int]:
    """The port of a server process of our own, ready, for as long as the block lasts."""
    for port in _ports(wanted_port):
        with _process(home, port=port, secret=secret, key=key) as process:
            if _is_ours(process, home, port, key):
                yield port
                return
    raise OperatorError("The demo's server found no free port on 127.0.0.1.")


@contextlib.contextmanager
def _process(home: Path, *, port: int, secret: str, key: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A server process for as long as the block lasts."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OUR_SETTINGS)}
    ours = {
        "BOOKING_LEDGER_HOME": str(home),
        "CAL_COM_WEBHOOK_SECRET": secret,
        "INTERNAL_API_KEY": key,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "warning",
    }
    with (
        _log_of(home).open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve"],
            env=inherited | ours,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us to hear first
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_ours(process: "subprocess.Popen[bytes]", home: Path, port: int, key: str) -> bool:
    """True once our server answers on the port; False where another program has it."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            told = _log_of(home).read_text(errors="replace")
            if "is taken by another program" in told:
                return False
            raise OperatorError(f"The demo's server ended with {process.returncode}: {told.strip()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/api/bookings?limit=1", headers={"Authorization": f"Bearer {key}"})
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        time.sleep(LOOK_AGAIN_SECONDS)
    raise OperatorError(f"The demo's server was not ready within {START_SECONDS_MAX:g} s.")


def _log_of(home: Path) -> Path:
    return home.parent / "server.log"


def _post(deliveries: "Sequence[SimulatedDelivery]", port: int) -> str:
    """Everything posted, one after the other as Cal.com does; the answers counted, as a sentence part."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    counts: dict[int, int] = {}
    with progress_bar("posting webhooks") as progress:
        for number, delivery in enumerate(deliveries, start=1):
            connection.request("POST", WEBHOOK_PATH, body=delivery.body, headers=delivery.headers)
            response = connection.getresponse()
            response.read()
            counts[response.status] = counts.get(response.status, 0) + 1
            progress(number, len(deliveries))
    return ", ".join(f"{count:,} answered {status}" for status, count in sorted(counts.items()))


async def _show(dsn: str) -> None:
    from api.cli.tables import console, print_bookings, print_history
    from ledger.chain import verify_chain
    from ledger.store import read_ledgers
    from projections.lists import Filter, list_bookings
    from projections.lookup import read_history
    from projections.visibility import pick_story, read_visibility

    async with checked_connection(dsn) as connection:
        ledger = (await read_ledgers(connection))["main"]
        await _until_current(connection)
        today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
        narrowed = Filter(starts_from=today, starts_before=today + timedelta(days=1))
        rows = await list_bookings(connection, ledger, narrowed, after=None, rows_max=1_000)
        console.print()
        print_bookings(rows, title=f"Today, {today:%A %d %B %Y} (UTC)")
        story = await pick_story(connection, ledger)
        if story is not None:
            console.print()
            print_history(story, await read_history(connection, ledger, story, confirm_on_accept=False))
        visibility = await read_visibility(connection, ledger)
        found = await verify_chain(connection, ledger)
        console.print(
            f"\n{visibility.events:,} events make {visibility.bookings:,} bookings; the read models are "
            f"{visibility.lag_events} events behind. From recorded to visible: median {visibility.median_ms:.0f} ms, "
            f"95 % within {visibility.p95_ms:.0f} ms.",
            soft_wrap=True,
        )
        console.print(
            f"The hash chain holds over {found.events:,} events."
            if found.ok
            else f"[red]The hash chain is broken at position {found.first_bad_position}.[/red]"
        )


async def _until_current(connection: "Connection") -> None:
    """Return once every read model has what the log has."""
    from projections.visibility import read_lag_events

    async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
        while await read_lag_events(connection):  # noqa: ASYNC110  # another process catches up: nothing to wait on
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
