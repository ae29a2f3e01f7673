"""What a front desk looks at all day: today's appointments, a salon's, and the figures of longer stretches."""

from datetime import UTC, date, datetime, timedelta
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
    read_cursor,
    read_email,
    read_name,
    read_statuses,
    write_cursor,
)
from api.tenancy import visible_ledger
from ledger.errors import BadParameter
from projections.agenda import APPOINTMENTS, count_by_status
from projections.calendar_events import CalendarEvent
from projections.days import day_at, find_zone, stretch_of
from projections.lists import Cursor, Filter, list_page
from projections.reports import Figures, Group, Period, read_report

STATISTICS_DEFAULT = timedelta(days=30)
STATISTICS_DAYS_MAX = 3_660

Zone = Annotated[str, QueryParameter(max_length=100, description="The time zone whose day it is, an IANA name.")]
DayText = Annotated[str | None, QueryParameter(max_length=10, description="Another day than today: 2026-12-01.")]


class Appointments(msgspec.Struct, frozen=True, kw_only=True):
    """Bookings that are neither cancelled nor rescheduled, by start time, unless other statuses were asked for.

    `next_cursor` is null on the last page, and on that alone.
    """

    appointments: list[CalendarEvent]
    next_cursor: str | None


class Today(Appointments, frozen=True, kw_only=True):
    """`begins` to `ends`: the day in that time zone. `counts`: all of its bookings by status, on whatever page."""

    day: date
    time_zone: str
    begins: datetime
    ends: datetime
    counts: dict[str, int]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """`from` and `to`, which is the first day after it, are days in UTC, as are those of `figures`."""

    ledger: str
    first: date = msgspec.field(name="from")
    end: date = msgspec.field(name="to")
    group: Group
    figures: list[Figures]
    total: Figures


@get("/api/dashboard/today", opt=VIEWER, summary="A day's appointments")
async def get_today(
    *,
    request: Request[Any, Any, Any],
    state: State,
    tz: Zone = "UTC",
    day: DayText = None,
    status: Status = None,
    host: Text = None,
    salon: Text = None,
    client: Text = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> Today:
    """Today in any time zone, however many hours it has there."""
    running: Running = state.running
    log = visible_ledger(request, ledger)
    zone = find_zone(tz.replace(" ", "+"))
    stretch = stretch_of(_read_day(day) or day_at(datetime.now(UTC), zone), zone)
    narrowed = Filter(
        statuses=read_statuses(status) or APPOINTMENTS,
        starts_from=stretch.begins,
        starts_before=stretch.ends,
        host=read_email("host", host),
        salon=read_name("salon", salon),
        client=read_name("client", client),
    )
    after = read_cursor(cursor, Cursor)
    async with running.pool.acquire() as connection:
        counts = await count_by_status(connection, log, stretch, narrowed)
        listed = await list_page(connection, log, narrowed, after=after, rows_max=limit)
    return Today(
        day=stretch.day,
        time_zone=zone.key,
        begins=stretch.begins,
        ends=stretch.ends,
        counts=counts,
        appointments=listed.bookings,
        next_cursor=write_cursor(listed.following),
    )


@get("/api/salons/{salon_id:str}/appointments", opt=VIEWER, summary="A salon's appointments")
async def get_salon_appointments(
    *,
    request: Request[Any, Any, Any],
    state: State,
    salon_id: FromPath[str],
    starts_from: From = None,
    starts_before: To = None,
    status: Status = None,
    host: Text = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> Appointments:
    """In a stretch of time; all of them where none is given."""
    running: Running = state.running
    narrowed = Filter(
        statuses=read_statuses(status) or APPOINTMENTS,
        starts_from=read_moment("from", starts_from),
        starts_before=read_moment("to", starts_before),
        host=read_email("host", host),
        salon=read_name("salon", salon_id),
    )
    log, after = visible_ledger(request, ledger), read_cursor(cursor, Cursor)
    async with running.pool.acquire() as connection:
        listed = await list_page(connection, log, narrowed, after=after, rows_max=limit)
    return Appointments(appointments=listed.bookings, next_cursor=write_cursor(listed.following))


@get("/api/dashboard/statistics", opt=VIEWER, summary="Figures by day, week, month, event type or host")
async def get_statistics(
    *,
    request: Request[Any, Any, Any],
    state: State,
    first: Annotated[str | None, QueryParameter(name="from", description="From this day on, UTC.")] = None,
    end: Annotated[str | None, QueryParameter(name="to", description="Before this day, UTC.")] = None,
    group: Annotated[Group, QueryParameter(description="By what. Weeks begin on Monday.")] = "day",
    host: Text = None,
    event_type: Text = None,
    ledger: Text = None,
) -> Statistics:
    """Bookings by the day of their start, in UTC; the last thirty days unless told otherwise."""
    running: Running = state.running
    log = visible_ledger(request, ledger)
    period = _read_period(first, end, datetime.now(UTC), host=host, event_type=event_type)
    async with running.pool.acquire() as connection:
        report = await read_report(connection, log, period, group)
    return Statistics(
        ledger=log.name, first=period.first, end=period.end, group=group, figures=report.figures, total=report.total
    )


def _read_day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadParameter("day", "is a day, such as 2026-12-01") from None


def _read_period(
    first: str | None, end: str | None, now: datetime, *, host: str | None, event_type: str | None
) -> Period:
    """The days that `from` and `to` give; a `to` in the middle of a day has that day in it."""
    until = read_moment("to", end) or now
    last = (until - timedelta(microseconds=1)).date()
    since = read_moment("from", first)
    begins = since.date() if since else last + timedelta(days=1) - STATISTICS_DEFAULT
    if not timedelta(0) <= last - begins < timedelta(days=STATISTICS_DAYS_MAX):
        raise BadParameter("from", f"is before `to`, by {STATISTICS_DAYS_MAX:,} days at most")
    return Period(
        first=begins,
        end=last + timedelta(days=1),
        host=read_email("host", host),
        event_type=read_name("event_type", event_type),
    )


ROUTES = (get_today, get_statistics, get_salon_appointments)
