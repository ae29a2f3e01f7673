"""Figures over stretches of days: how many bookings of which status, how many minutes, by day, event type or host.

They are summed from the read model's days, and where it may be from its months and from what is counted in all, so that
years cost little.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import asyncpg
import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections.lists import fetch_planned

SQL = load_statements(Path(__file__).with_suffix(".sql"))

Group = Literal["day", "week", "month", "event_type", "host"]
RATE_DIGITS = 4
LONGEST_MONTH = timedelta(days=31)

Row: TypeAlias = asyncpg.Record | tuple[Any, ...]
"""Of figures: the label, then what is counted, in the order of the statements' columns."""
COLUMNS = 11


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Whole days in UTC, from `first` to just before `end`; of one host or one event type where they are given."""

    first: date
    end: date
    host: str | None = None
    event_type: str | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """In the words of `booking_statistics`. `label`: the day, the first of the week or month, the event type, the host.

    `bookings` counts those that were rescheduled away too; `lead_minutes` is the average from the first news of a
    booking to its start. Null where there is nothing to divide by, or no name.
    """

    label: str | None
    bookings: int
    scheduled: int
    confirmed: int
    completed: int
    no_show: int
    cancelled: int
    rescheduled: int
    minutes_booked: int
    lead_minutes: int | None
    cancellation_rate: float | None
    no_show_rate: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    figures: list[Figures]
    total: Figures


async def read_report(connection: Connection, ledger: Ledger, period: Period, group: Group) -> Report:
    """The figures of every group that has a booking, in the order of their labels, and of all together."""
    values = (ledger.ledger_id, period.first, period.end, *_whole_months(period, group), group)
    if group in ("day", "week", "month") and period.host is None and period.event_type is None:
        rows = await fetch_planned(connection, SQL["sum_all"], *values)
    else:
        rows = await fetch_planned(connection, SQL["sum_figures"], *values, period.host, period.event_type)
    return Report(figures=list(map(_figures, rows)), total=_figures(_summed(rows)))


def _whole_months(period: Period, group: Group) -> tuple[date, date]:
    """The first month and the one after the last that lie whole within the period and may be counted as wholes."""
    first = period.first if period.first.day == 1 else _next_month(period.first)
    end = period.end.replace(day=1)
    return (first, end) if group in ("month", "event_type", "host") and first < end else (period.end, period.end)


def _next_month(day: date) -> date:
    """The first day of the month after; the last day that there is where there is none."""
    month = day.replace(day=1)
    return (month + LONGEST_MONTH).replace(day=1) if date.max - month >= LONGEST_MONTH else date.max


def _summed(rows: Sequence[Row]) -> Row:
    """A row of all, under no label."""
    _labels, *columns = zip(*rows, strict=True) if rows else ((),) * COLUMNS
    return (None, *map(sum, columns))


def _figures(row: Row) -> Figures:
    (
        label,
        bookings,
        scheduled,
        confirmed,
        completed,
        no_show,
        cancelled,
        rescheduled,
        minutes_booked,
        lead_minutes,
        led_bookings,
    ) = row
    return Figures(
        label=label,
        bookings=bookings,
        scheduled=scheduled,
        confirmed=confirmed,
        completed=completed,
        no_show=no_show,
        cancelled=cancelled,
        rescheduled=rescheduled,
        minutes_booked=minutes_booked,
        lead_minutes=round(lead_minutes / led_bookings) if led_bookings else None,
        cancellation_rate=_rate(cancelled, bookings - rescheduled),
        no_show_rate=_rate(no_show, completed + no_show),
    )


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, RATE_DIGITS) if whole else None
