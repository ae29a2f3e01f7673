"""Bookings over HTTP: a list with filters, one booking, its history."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from api.composition import Running
from ledger.calcom.payloads import in_utc, read_instant
from ledger.errors import BadParameter, NotFound
from ledger.store import Ledger
from ledger.vocabulary import MAIN_LEDGER_NAME, CalendarStatus
from projections.calendar_events import CalendarEvent
from projections.lists import Cursor, Filter, list_bookings, list_bookings_as_of
from projections.lookup import FoundBooking, HistoryEntry, Moment, find_booking, read_history

PAGE_ROWS_DEFAULT = 50
PAGE_ROWS_MAX = 500
METADATA_PREFIX = "metadata."

Text = Annotated[str | None, QueryParameter(max_length=200)]


class BookingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Bookings by start time; `next_cursor` is null on the last page."""

    bookings: list[CalendarEvent]
    next_cursor: str | None


class BookingHistory(msgspec.Struct, frozen=True, kw_only=True):
    asked_for: str
    history: list[HistoryEntry]


@get("/api/bookings", summary="Bookings by start time")
async def get_bookings(
    *,
    request: Request[Any, Any, Any],
    state: State,
    status: Annotated[
        str | None, QueryParameter(description="One or several of the status words, separated by commas.")
    ] = None,
    starts_from: Annotated[str | None, QueryParameter(name="from", description="Start at or after, ISO 8601.")] = None,
    starts_before: Annotated[str | None, QueryParameter(name="to", description="Start before, ISO 8601.")] = None,
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
    cursor: Annotated[
        str | None, QueryParameter(max_length=1000, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_ROWS_MAX)] = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> BookingPage:
    """Also `metadata.<key>=<value>`, any number of times."""
    running: Running = state.running
    narrowed = Filter(
        statuses=_statuses(status),
        starts_from=_moment("from", starts_from),
        starts_before=_moment("to", starts_before),
        attendee=_without_nul("attendee", attendee and attendee.lower()),
        host=_without_nul("host", host and host.lower()),
        event_type=_without_nul("event_type", event_type),
        client=_without_nul("client", client),
        pet=_without_nul("pet", pet),
        salon=_without_nul("salon", salon),
        metadata=_metadata(request),
        text=text,
        name=_without_nul("name", name),
    )
    rows = await _list(
        running,
        _ledger(running, ledger),
        narrowed,
        _moment("as_of", as_of),
        after=_read_cursor(cursor),
        rows_max=limit + 1,
    )
    page = rows[:limit]
    return BookingPage(bookings=page, next_cursor=_write_cursor(page[-1]) if len(rows) > limit else None)


async def _list(
    running: Running, log: Ledger, narrowed: Filter, as_of: datetime | None, *, after: Cursor | None, rows_max: int
) -> list[CalendarEvent]:
    async with running.pool.acquire() as connection:
        if as_of is None:
            return await list_bookings(connection, log, narrowed, after=after, rows_max=rows_max)
        return await list_bookings_as_of(
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


@get("/api/bookings/{uid:str}", summary="One booking")
async def get_booking(
    state: State, uid: FromPath[str], as_of: AsOf = None, valid_at: ValidAt = None, ledger: Text = None
) -> FoundBooking:
    """By any uid of its chain, Cal.com's number or the calendar id: what stands now, straight from the log."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        return await find_booking(
            connection,
            _ledger(running, ledger),
            uid,
            moment=Moment(as_of=_moment("as_of", as_of), valid_at=_moment("valid_at", valid_at)),
            confirm_on_accept=running.settings.confirm_on_accept,
        )


@get("/api/bookings/{uid:str}/history", summary="A booking's history")
async def get_booking_history(
    state: State, uid: FromPath[str], as_of: AsOf = None, valid_at: ValidAt = None, ledger: Text = None
) -> BookingHistory:
    """Every fact, in the order in which things happened, with the fields it changed."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        history = await read_history(
            connection,
            _ledger(running, ledger),
            uid,
            moment=Moment(as_of=_moment("as_of", as_of), valid_at=_moment("valid_at", valid_at)),
            confirm_on_accept=running.settings.confirm_on_accept,
        )
    return BookingHistory(asked_for=uid, history=history)


def _ledger(running: Running, name: str | None) -> Ledger:
    ledger = running.ledgers.get(name or MAIN_LEDGER_NAME)
    if ledger is None:
        raise NotFound(f"ledger {name}")
    return ledger


def _statuses(text: str | None) -> list[str] | None:
    if text is None:
        return None
    given, known = text.split(","), get_args(CalendarStatus)
    if not set(given) <= set(known):
        raise BadParameter("status", f"is one or several of {', '.join(known)}")
    return given


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = read_instant(text.replace(" ", "+"))
    if moment is None:
        raise BadParameter(name, "is a date or time in ISO 8601, such as 2026-12-01T09:00:00Z")
    return moment


def _without_nul(name: str, text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise BadParameter(name, "holds a NUL character")
    return text


def _metadata(request: Request[Any, Any, Any]) -> dict[str, str] | None:
    wanted = {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in request.query_params.items()
        if key.startswith(METADATA_PREFIX)
    }
    for key, value in wanted.items():
        _without_nul(METADATA_PREFIX + "*", key + value)
    return wanted or None


def _write_cursor(last: CalendarEvent) -> str:
    cursor = Cursor(last.start_time and last.start_time.astimezone(UTC), last.cal_com_event_id)
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _read_cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (binascii.Error, msgspec.DecodeError, ValueError, UnicodeError):
        raise BadParameter("cursor", "is none of ours; take next_cursor of the page before as it is") from None
    if "\x00" in cursor.uid or (
        cursor.start_time is not None and (cursor.start_time.tzinfo is None or in_utc(cursor.start_time) is None)
    ):
        raise BadParameter("cursor", "is none of ours; take next_cursor of the page before as it is")
    return cursor
