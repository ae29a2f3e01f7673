"""The Litestar application: routes, the guard in front of them, and what runs while it does."""

import contextlib
import logging
import sys
from collections.abc import AsyncIterator

import structlog
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from api.auth import require_key
from api.bookings import get_booking, get_booking_history, get_bookings
from api.composition import opened
from api.garbage import settle_garbage
from api.health import livez, readyz
from api.problems import answer_problem
from api.webhooks import receive_webhook
from ledger.settings import Secret, Settings

OTHER_ROUTES_BODY_BYTES_MAX = 1024 * 1024


def create_app(settings: Settings, dsn: str, *, internal_key: Secret, with_worker: bool) -> Litestar:
    """The application on a database that has been checked."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with opened(settings, dsn, with_worker=with_worker) as running:
            app.state.running = running
            settle_garbage()
            yield

    app = Litestar(
        route_handlers=[receive_webhook, livez, readyz, get_bookings, get_booking, get_booking_history],
        guards=[require_key],
        exception_handlers={Exception: answer_problem},
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="Booking Ledger",
            version="0.1.0",
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        request_max_body_size=OTHER_ROUTES_BODY_BYTES_MAX,
        logging_config=None,
    )
    app.state.internal_key = internal_key
    return app


def configure_logging(settings: Settings) -> None:
    """Events with keys, as lines for people or as JSON; never a body, a secret or an attendee."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    as_json = settings.log_format == "json"
    # Plain tracebacks: one that shows local variables would show bodies and secrets.
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # it prints tracebacks of what we retry and tell ourselves
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if as_json else [console]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
