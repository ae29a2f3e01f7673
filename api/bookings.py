"""Bookings over HTTP: a list with filters, one booking, its history."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
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
    read_cursor,
    read_email,
    read_name,
    read_statuses,
    write_cursor,
)
from api.preconditions import version_tag
from api.tenancy import visible_ledger
from ledger.store import Ledger
from projections.calendar_events import CalendarEvent
from projections.lists import Cursor, Filter, Listed, list_page
from projections.lookup import FoundBooking, HistoryEntry, Moment, find_booking, read_history
from projections.past_lists import list_page_as_of

METADATA_PREFIX = "metadata."


class BookingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Bookings by start time; `next_cursor` is null on the last page.

    One page looks at so many bookings and no more, so it may be short, or empty, and still not be the last.
    """

    bookings: list[CalendarEvent]
    next_cursor: str | None


class BookingHistory(msgspec.Struct, frozen=True, kw_only=True):
    asked_for: str
    history: list[HistoryEntry]


@get("/api/bookings", opt=VIEWER, summary="Bookings by start time")
async def get_bookings(
    *,
    request: Request[Any, Any, Any],
    state: State,
    status: Status = None,
    starts_from: From = None,
    starts_before: To = None,
    attendee: Text = None,
    host: Text = None,
    event_type: Text = None,
    client: Text = None,
    pet: Text = None,
    salon: Text = None,
    text: Annotated[
        str | None, QueryParameter(max_length=200, description="In title, description or attendees.")
    ] = None,
    name: Annotated[
        str | None,
        QueryParameter(max_length=200, description="Any name: uid, number, calendar id, attendee, metadata value."),
    ] = None,
    as_of: Annotated[str | None, QueryParameter(description="As it was recorded at this moment, ISO 8601.")] = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> BookingPage:
    """Also `metadata.<key>=<value>`, any number of times."""
    running: Running = state.running
    narrowed = Filter(
        statuses=read_statuses(status),
        starts_from=read_moment("from", starts_from),
        starts_before=read_moment("to", starts_before),
        attendee=read_email("attendee", attendee),
        host=read_email("host", host),
        event_type=read_name("event_type", event_type),
        client=read_name("client", client),
        pet=read_name("pet", pet),
        salon=read_name("salon", salon),
        metadata=_metadata(request),
        text=text,
        name=read_name("name", name),
    )
    listed = await _list(
        running,
        visible_ledger(request, ledger),
        narrowed,
        read_moment("as_of", as_of),
        after=read_cursor(cursor, Cursor),
        rows_max=limit,
    )
    return BookingPage(bookings=listed.bookings, next_cursor=write_cursor(listed.following))


async def _list(
    running: Running, log: Ledger, narrowed: Filter, as_of: datetime | None, *, after: Cursor | None, rows_max: int
) -> Listed:
    async with running.pool.acquire() as connection:
        if as_of is None:
            return await list_page(connection, log, narrowed, after=after, rows_max=rows_max)
        return await list_page_as_of(
            connection,
            log,
            narrowed,
            as_of=as_of,
            after=after,
            rows_max=rows_max,
            confirm_on_accept=running.settings.confirm_on_accept,
        )


AsOf = Annotated[str | None, QueryParameter(description="What had been recorded by then, ISO 8601.")]
ValidAt = Annotated[str | None, QueryParameter(description="What had happened by then, ISO 8601.")]


@get("/api/bookings/{uid:str}", opt=VIEWER, summary="One booking")
async def get_booking(
    *,
    request: Request[Any, Any, Any],
    state: State,
    uid: FromPath[str],
    as_of: AsOf = None,
    valid_at: ValidAt = None,
    ledger: Text = None,
) -> Response[FoundBooking]:
    """By any uid of its chain, Cal.com's number or the calendar id: what stands now, straight from the log.

    The ETag is for commands on this booking; under the name of one that it has replaced there is none.
    """
    running: Running = state.running
    async with running.pool.acquire() as connection:
        found = await find_booking(
            connection,
            visible_ledger(request, ledger),
            uid,
            moment=Moment(as_of=read_moment("as_of", as_of), valid_at=read_moment("valid_at", valid_at)),
            confirm_on_accept=running.settings.confirm_on_accept,
        )
    return Response(found, headers={"etag": version_tag(found.stream_version)} if found.is_current else None)


@get("/api/bookings/{uid:str}/history", opt=VIEWER, summary="A booking's history")
async def get_booking_history(
    *,
    request: Request[Any, Any, Any],
    state: State,
    uid: FromPath[str],
    as_of: AsOf = None,
    valid_at: ValidAt = None,
    ledger: Text = None,
) -> BookingHistory:
    """Every fact, in the order in which things happened, with the fields it changed."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        history = await read_history(
            connection,
            visible_ledger(request, ledger),
            uid,
            moment=Moment(as_of=read_moment("as_of", as_of), valid_at=read_moment("valid_at", valid_at)),
            confirm_on_accept=running.settings.confirm_on_accept,
        )
    return BookingHistory(asked_for=uid, history=history)


def _metadata(request: Request[Any, Any, Any]) -> dict[str, str] | None:
    wanted = {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in request.query_params.items()
        if key.startswith(METADATA_PREFIX)
    }
    for key, value in wanted.items():
        read_name(METADATA_PREFIX + "*", key + value)
    return wanted or None
