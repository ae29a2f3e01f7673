"""`booking-ledger serve`: the web server and the worker in one process."""

import asyncio
import socket
from typing import TYPE_CHECKING

import click

from api.cli.context import read_settings
from ledger.errors import AddressTaken, BadSetting
from ledger.settings import Secret, Settings

if TYPE_CHECKING:
    from litestar import Litestar

BACKLOG_CONNECTIONS = 2048
SHUTDOWN_SECONDS_MAX = 10


@click.command()
@click.option("--no-worker", is_flag=True, help="The web alone; read models are kept current by another process.")
def serve(*, no_worker: bool) -> None:
    """Receive webhooks, keep the read models current, answer queries.

    Without DATABASE_URL an embedded PostgreSQL is started, kept in BOOKING_LEDGER_HOME, and migrated. A server of
    your own is never migrated by itself: run `booking-ledger migrate` first.
    """
    from api.app import configure_logging, create_app
    from api.auth import internal_key
    from api.composition import check_database, database

    settings = read_settings()
    key, made_up = internal_key(settings)
    configure_logging(settings)
    with bound_socket(settings.host, settings.port) as listening, database(settings) as dsn:
        asyncio.run(check_database(settings, dsn))
        print_banner(settings, key if made_up else None)
        run_server(create_app(settings, dsn, internal_key=key, with_worker=not no_worker), listening)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is ours before anything slow begins. Raises AddressTaken, BadSetting."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise BadSetting("HOST", f"names no address of this machine: {host}") from None
    listening = socket.socket(family, kind)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(BACKLOG_CONNECTIONS)  # two programs may bind one address; only one may listen on it
    except OSError:
        listening.close()
        raise AddressTaken(host, port) from None
    return listening


def run_server(app: "Litestar", listening: socket.socket) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); requests under way are finished first."""
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        backlog=BACKLOG_CONNECTIONS,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    uvicorn.Server(config).run(sockets=[listening])


def print_banner(settings: Settings, made_up_key: Secret | None) -> None:
    """Where everything is, and what is still missing."""
    address = f"http://{settings.host}:{settings.port}"
    where = "DATABASE_URL" if settings.database_url else "embedded PostgreSQL"
    click.echo(f"Booking Ledger on {address}, database: {where}")
    click.echo(f"  Cal.com webhook URL   {settings.public_url or address}/api/webhooks/cal-com")
    click.echo(f"  bookings              {address}/api/bookings")
    if made_up_key is not None:
        click.echo(f"  key for this run      {made_up_key.reveal_text()}   (Authorization: Bearer …)")
    if not settings.webhook_secrets:
        click.echo("  No webhook secret: every delivery is answered 503. Set CAL_COM_WEBHOOK_SECRET and restart.")
