"""`booking-ledger serve`: the web server, and its worker in a process of its own."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import click

from api.cli.context import read_settings
from api.cli.doctor_sealing import sealing_line
from ledger.errors import AddressTaken, BadSetting, ServerUnreachable
from ledger.settings import Secret, Settings

if TYPE_CHECKING:
    import uvicorn
    from litestar import Litestar

BACKLOG_CONNECTIONS = 2048
SHUTDOWN_SECONDS_MAX = 10
LOOK_AGAIN_SECONDS = 0.5


@click.command()
@click.option("--no-worker", is_flag=True, help="The web alone; read models are kept current by another process.")
def serve(*, no_worker: bool) -> None:
    """Receive webhooks, keep the read models current, answer queries.

    Without DATABASE_URL an embedded PostgreSQL is started, kept in BOOKING_LEDGER_HOME, and migrated. A server of
    your own is never migrated by itself: run `booking-ledger migrate` first. While it is away deliveries are kept in
    BOOKING_LEDGER_HOME; so they are from the start where it has been served from there before.
    """
    from api.app import create_app
    from api.auth import internal_key
    from api.composition import check_database, database
    from api.hardening import fixed_headers, forbid_core_dumps
    from api.log_output import configure_logging

    forbid_core_dumps()
    settings = read_settings()
    key, made_up = internal_key(settings)
    configure_logging(settings)
    with bound_socket(settings.host, settings.port) as listening, database(settings) as dsn:
        try:
            asyncio.run(check_database(settings, dsn))
        except ServerUnreachable as error:
            stand_by(settings, dsn, error, key, listening)
        print_banner(settings, key if made_up else None)
        app = create_app(settings, dsn, internal_key=key, with_worker=not no_worker)
        run_server(app, listening, headers=fixed_headers(settings))


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


def stand_by(settings: Settings, dsn: str, error: ServerUnreachable, key: Secret, listening: socket.socket) -> None:
    """Deliveries went into the spool until the database came back; it has been checked.

    Raises what the check raises; `error` where this is no outage, or the database was never served from this home.
    """
    from api.app import create_app
    from api.hardening import fixed_headers
    from api.spooling import known_ledgers

    known = known_ledgers(settings) if error.may_pass and settings.database_url else []
    if not known:
        raise error
    click.echo(f"PostgreSQL is away ({error.cause}): deliveries are kept on disk until it is back.")
    app = create_app(settings, dsn, internal_key=key, with_worker=False, known=known)
    with listening.dup() as ours:  # the server closes the one it gets; whoever connects meanwhile waits in its queue
        run_server(app, ours, headers=fixed_headers(settings), until=lambda: _until_checked(settings, dsn))


async def _until_checked(settings: Settings, dsn: str) -> None:
    from api.composition import check_database

    while True:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        try:
            await check_database(settings, dsn)
        except ServerUnreachable as error:
            if not error.may_pass:
                raise
        else:
            return


def run_server(
    app: "Litestar",
    listening: socket.socket,
    *,
    headers: list[tuple[str, str]],
    until: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Serve until told to stop (SIGINT, SIGTERM), or `until` has ended; requests under way are finished first.

    `headers` stand on every answer. Raises what `until` raises.
    """
    import uvicorn

    from api.connections import room_for_connections
    from api.short_way import DeliveryProtocol
    from api.webhooks import short_way

    DeliveryProtocol.connections_max = room_for_connections()
    DeliveryProtocol.short_way = short_way(app)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what senders do wrong is told by us, and not at length
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=DeliveryProtocol,
        ws="none",
        lifespan="on",
        backlog=BACKLOG_CONNECTIONS,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # who stands before us is nobody's word but PUBLIC_URL's
        headers=headers,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    server = uvicorn.Server(config)
    if until is None:
        server.run(sockets=[listening])
        return
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve_until(server, listening, until))


async def _serve_until(
    server: "uvicorn.Server", listening: socket.socket, until: Callable[[], Coroutine[None, None, None]]
) -> None:
    ending = asyncio.create_task(until())
    ending.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await server.serve(sockets=[listening])
    ending.cancel()
    await asyncio.wait([ending])
    if not ending.cancelled():
        ending.result()


def print_banner(settings: Settings, made_up_key: Secret | None) -> None:
    """Where everything is, and what is still missing."""
    address = f"http://{settings.host}:{settings.port}"
    where = "DATABASE_URL" if settings.database_url else "embedded PostgreSQL"
    click.echo(f"Booking Ledger on {address}, database: {where}")
    click.echo(f"  Cal.com webhook URL   {settings.public_url or address}/api/webhooks/cal-com")
    click.echo(f"  bookings              {address}/api/bookings")
    click.echo(sealing_line(settings))
    if made_up_key is not None:
        click.echo(f"  key for this run      {made_up_key.reveal_text()}   (Authorization: Bearer …)")
    if not settings.webhook_secrets:
        click.echo("  No webhook secret: every delivery is answered 503. Set CAL_COM_WEBHOOK_SECRET and restart.")
