"""Figures over stretches of days: how many bookings of which status, how many minutes, by day, event type or host.

They are summed from the daily read model, so that a year costs no more than its days.
"""

from collections.abc import Mapping, Sequence
from datetime import date
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
    )
    rows = [dict(row) for row in found]
    return Report(figures=[_figures(row["label"], row) for row in rows], total=_figures(None, _summed(rows)))


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
