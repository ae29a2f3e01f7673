"""A day in some time zone as the stretch of instants that it is: 23, 24 or 25 hours, or another number."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from ledger.errors import BadParameter

NO_PLACES = {"localtime", "Factory"}
"""What a machine's own files call its time zone, and one that says it has none."""


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """From `begins` to just before `ends`, both in UTC."""

    day: date
    begins: datetime
    ends: datetime


def find_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises BadParameter for any other word, a path or a file of the machine's included."""
    if name not in _names():
        raise BadParameter("tz", "is the name of a time zone, such as Europe/Warsaw")
    return ZoneInfo(name)


def day_at(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()


def stretch_of(day: date, zone: ZoneInfo) -> Day:
    """The instants at which a clock in the zone shows this day.

    Where the clock is put on at midnight, the day begins with the hour that is left. Raises BadParameter at the
    calendar's ends.
    """
    try:
        return Day(day=day, begins=_midnight(day, zone), ends=_midnight(day + timedelta(days=1), zone))
    except OverflowError:
        raise BadParameter("day", "lies beyond what a calendar can hold") from None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones() - NO_PLACES)
