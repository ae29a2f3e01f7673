"""Figures over stretches of days: how many bookings of which status, how many minutes, by day, event type or host.

They are summed from the read model's days, and where it may be from its months, so that years cost little.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from projections.lists import fetch_planned

SQL = load_statements(Path(__file__).with_suffix(".sql"))

Group = Literal["day", "week", "month", "event_type", "host"]
RATE_DIGITS = 4
LONGEST_MONTH = timedelta(days=31)

COUNTED = (
    *("bookings", "scheduled", "confirmed", "completed", "no_show", "cancelled", "rescheduled"),
    *("minutes_booked", "lead_minutes", "led_bookings"),
)


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
    found = await fetch_planned(
        connection,
        SQL["sum_figures"],
        ledger.ledger_id,
        period.first,
        period.end,
        period.host,
        period.event_type,
        group,
        *_whole_months(period, group),
    )
    rows = [dict(row) for row in found]
    return Report(figures=[_figures(row["label"], row) for row in rows], total=_figures(None, _summed(rows)))


def _whole_months(period: Period, group: Group) -> tuple[date, date]:
    """The first month and the one after the last that lie whole within the period and may be counted as wholes."""
    first = period.first if period.first.day == 1 else _next_month(period.first)
    end = period.end.replace(day=1)
    return (first, end) if group in ("month", "event_type", "host") and first < end else (period.end, period.end)


def _next_month(day: date) -> date:
    """The first day of the month after; the last day that there is where there is none."""
    month = day.replace(day=1)
    return (month + LONGEST_MONTH).replace(day=1) if date.max - month >= LONGEST_MONTH else date.max


def _summed(rows: Sequence[Mapping[str, int]]) -> Mapping[str, int]:
    return {name: sum(row[name] for row in rows) for name in COUNTED}


def _figures(label: str | None, counted: Mapping[str, int]) -> Figures:
    lead_minutes = _share(counted["lead_minutes"], counted["led_bookings"], 0)
    return Figures(
        label=label,
        bookings=counted["bookings"],
        scheduled=counted["scheduled"],
        confirmed=counted["confirmed"],
        completed=counted["completed"],
        no_show=counted["no_show"],
        cancelled=counted["cancelled"],
        rescheduled=counted["rescheduled"],
        minutes_booked=counted["minutes_booked"],
        lead_minutes=None if lead_minutes is None else int(lead_minutes),
        cancellation_rate=_share(counted["cancelled"], counted["bookings"] - counted["rescheduled"], RATE_DIGITS),
        no_show_rate=_share(counted["no_show"], counted["completed"] + counted["no_show"], RATE_DIGITS),
    )


def _share(part: int, whole: int, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None
