"""Clients and pets over HTTP: who they are, how often they came, and every visit."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from api.auth import VIEWER
from api.composition import Running
from api.moments import read_moment
from api.parameters import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    From,
    Limit,
    Status,
    Text,
    To,
    bad_cursor,
    read_cursor,
    read_name,
    read_statuses,
    write_cursor,
)
from api.tenancy import visible_ledger
from projections.agenda import APPOINTMENTS, Visits, list_visits
from projections.calendar_events import CalendarEvent
from projections.clients import Client, ClientCursor, Order, find_client, list_clients
from projections.lists import Cursor


class ClientPage(msgspec.Struct, frozen=True, kw_only=True):
    """Clients in the order asked for; `next_cursor` is null on the last page."""

    clients: list[Client]
    next_cursor: str | None


class VisitPage(msgspec.Struct, frozen=True, kw_only=True):
    """Bookings, the latest start first, upcoming ones included; `next_cursor` is null on the last page.

    Neither cancelled nor rescheduled ones, unless other statuses were asked for.
    """

    visits: list[CalendarEvent]
    next_cursor: str | None


@get("/api/clients", opt=VIEWER, summary="Clients")
async def get_clients(
    *,
    request: Request[Any, Any, Any],
    state: State,
    order: Annotated[
        Order, QueryParameter(description="`last_visit`: the latest first, of those who have been here.")
    ] = "id",
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> ClientPage:
    """Those that bookings name, by id or by last visit."""
    running: Running = state.running
    after = read_cursor(cursor, ClientCursor)
    if after is not None and after.order != order:
        raise bad_cursor()
    log = visible_ledger(request, ledger)
    async with running.pool.acquire() as connection:
        listed = await list_clients(connection, log, order=order, after=after, rows_max=limit)
    return ClientPage(clients=listed.clients, next_cursor=write_cursor(listed.following))


@get("/api/clients/{client_id:str}", opt=VIEWER, summary="One client")
async def get_client(
    *, request: Request[Any, Any, Any], state: State, client_id: FromPath[str], ledger: Text = None
) -> Client:
    """First and last visit, the next appointment, and how many."""
    running: Running = state.running
    log, name = visible_ledger(request, ledger), read_name("the client", client_id)
    async with running.pool.acquire() as connection:
        return await find_client(connection, log, name)


@get("/api/clients/{client_id:str}/visits", opt=VIEWER, summary="A client's visits")
async def get_client_visits(
    *,
    request: Request[Any, Any, Any],
    state: State,
    client_id: FromPath[str],
    status: Status = None,
    starts_from: From = None,
    starts_before: To = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> VisitPage:
    """Past and upcoming."""
    visits = Visits(
        client=read_name("the client", client_id),
        statuses=read_statuses(status) or APPOINTMENTS,
        starts_from=read_moment("from", starts_from),
        starts_before=read_moment("to", starts_before),
    )
    return await _visit_page(request, state, visits, cursor=cursor, limit=limit, ledger=ledger)


@get("/api/pets/{pet_id:str}/visits", opt=VIEWER, summary="A pet's visits")
async def get_pet_visits(
    *,
    request: Request[Any, Any, Any],
    state: State,
    pet_id: FromPath[str],
    status: Status = None,
    starts_from: From = None,
    starts_before: To = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> VisitPage:
    """Past and upcoming."""
    visits = Visits(
        pet=read_name("the pet", pet_id),
        statuses=read_statuses(status) or APPOINTMENTS,
        starts_from=read_moment("from", starts_from),
        starts_before=read_moment("to", starts_before),
    )
    return await _visit_page(request, state, visits, cursor=cursor, limit=limit, ledger=ledger)


async def _visit_page(
    request: Request[Any, Any, Any], state: State, visits: Visits, *, cursor: str | None, limit: int, ledger: str | None
) -> VisitPage:
    running: Running = state.running
    log, after = visible_ledger(request, ledger), read_cursor(cursor, Cursor)
    async with running.pool.acquire() as connection:
        listed = await list_visits(connection, log, visits, after=after, rows_max=limit)
    return VisitPage(visits=listed.bookings, next_cursor=write_cursor(listed.following))


ROUTES = (get_clients, get_client, get_client_visits, get_pet_visits)
