"""Moments and stretches of time, as a query gives them."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from ledger.calcom.payloads import read_instant
from ledger.errors import BadParameter

DAYS_MAX: Final = 7


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` to just before `until`."""

    since: datetime
    until: datetime


def read_moment(name: str, text: str | None) -> datetime | None:
    """The instant that a parameter gives, in UTC. Raises BadParameter."""
    if text is None:
        return None
    moment = read_instant(text.replace(" ", "+"))
    if moment is None:
        raise BadParameter(name, "is a date or time in ISO 8601, such as 2026-12-01T09:00:00Z")
    return moment


def read_period(starts: str | None, ends: str | None, *, now: datetime, default: timedelta) -> Period:
    """What `from` and `to` give; without them, the last time up to now. Raises BadParameter."""
    until = read_moment("to", ends) or now
    since = read_moment("from", starts) or until - default
    if not timedelta(0) < until - since <= timedelta(days=DAYS_MAX):
        raise BadParameter("from", f"is before `to`, by {DAYS_MAX} days at most")
    return Period(since=since, until=until)
