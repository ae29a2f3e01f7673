"""The Litestar application: routes, the guard in front of them, and what runs while it does."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig

from api import admin, clients, dashboard, erasures, reconciling, replaying
from api.auth import VIEWER, require_role
from api.bookings import get_booking, get_booking_history, get_bookings
from api.composition import opened
from api.declared import declared_routes
from api.describing import Description
from api.dictionary import get_dictionary
from api.exposition import Exposition
from api.garbage import settle_garbage
from api.hardening import NOT_KEPT
from api.health import livez, readyz
from api.links import get_suggestions, post_link, post_unlink
from api.metrics import get_metrics, get_sync_lag, get_webhook_measures
from api.pages.dictionary import get_dictionary_page, get_style
from api.problems import answer_problem
from api.sign_in import sign_in, sign_out, who
from api.webhooks import receive_webhook
from ledger.settings import Secret, Settings
from ledger.spooled import KnownLedger

OTHER_ROUTES_BODY_BYTES_MAX = 1024 * 1024


def create_app(
    settings: Settings, dsn: str, *, internal_key: Secret, with_worker: bool, known: Sequence[KnownLedger] = ()
) -> Litestar:
    """The application on a database that has been checked, or is away and has these `known` ledgers.

    Raises RouteUndeclared for a route that does not say who may ask.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with opened(settings, dsn, with_worker=with_worker, known=known) as running:
            app.state.running = running
            app.state.exposition = Exposition(running)
            settle_garbage()
            yield

    app = Litestar(
        route_handlers=[
            receive_webhook,
            livez,
            readyz,
            get_bookings,
            get_booking,
            get_booking_history,
            *dashboard.ROUTES,
            *clients.ROUTES,
            get_dictionary,
            get_dictionary_page,
            get_style,
            get_suggestions,
            post_link,
            post_unlink,
            get_metrics,
            get_sync_lag,
            get_webhook_measures,
            sign_in,
            sign_out,
            who,
            *admin.ROUTES,
            *reconciling.ROUTES,
            *erasures.ROUTES,
            *replaying.ROUTES,
        ],
        guards=[require_role],
        exception_handlers={Exception: answer_problem},
        response_headers=NOT_KEPT,
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="Booking Ledger",
            version="0.1.0",
            openapi_router=Router("/schema", route_handlers=[], opt=VIEWER, include_in_schema=False),
            render_plugins=[Description(path="/openapi.json")],
        ),
        request_max_body_size=OTHER_ROUTES_BODY_BYTES_MAX,
        logging_config=None,
    )
    declared_routes(app)
    app.state.internal_key = internal_key
    return app
