"""Days in time zones: which instants they are, where clocks are put on or back."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import BadParameter
from projections.days import NO_PLACES, day_at, find_zone, stretch_of

UNKNOWN = [
    *("", " ", "Mars/Olympus", "Europe", "europe/warsaw", "Europe/Warsaw ", "UTC+1", "+01:00", "CEST"),
    *(
        "/etc/localtime",
        "../../etc/passwd",
        "localtime",
        "Factory",
        "posixrules",
        "posix/Europe/Warsaw",
        "right/Europe/Warsaw",
    ),
    *("Europe/Warsaw\0", "\0", "Europe/Warsaw\n", "🐾", "x" * 10_000),
]


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", "2026-11-20", "2026-11-20T00:00Z", 24),
        ("Europe/Warsaw", "2026-03-28", "2026-03-27T23:00Z", 24),
        ("Europe/Warsaw", "2026-03-29", "2026-03-28T23:00Z", 23),
        ("Europe/Warsaw", "2026-10-25", "2026-10-24T22:00Z", 25),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00Z", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00Z", 25),
        ("Asia/Kolkata", "2026-06-15", "2026-06-14T18:30Z", 24),
        ("Asia/Kathmandu", "2026-06-15", "2026-06-14T18:15Z", 24),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00Z", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30Z", 23.5),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00Z", 23),
        ("Africa/Cairo", "2026-10-29", "2026-10-28T21:00Z", 25),
        ("Africa/Cairo", "2026-10-30", "2026-10-29T22:00Z", 24),
        ("Pacific/Kiritimati", "2026-01-01", "2025-12-31T10:00Z", 24),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00Z", 0),
    ],
)
def test_a_day_is_as_long_as_clocks_there_make_it(zone: str, day: str, begins: str, hours: float) -> None:
    stretch = stretch_of(date.fromisoformat(day), find_zone(zone))
    assert stretch.begins == datetime.fromisoformat(begins)
    assert stretch.begins.tzinfo is UTC
    assert stretch.ends - stretch.begins == timedelta(hours=hours)


@given(
    zone=st.sampled_from(sorted(available_timezones() - NO_PLACES)),
    moment=st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_any_instant_lies_in_the_day_that_a_clock_there_shows(zone: str, moment: datetime) -> None:
    clock = moment.astimezone(ZoneInfo(zone))
    assert day_at(moment, find_zone(zone)) == clock.date()
    stretch = stretch_of(clock.date(), find_zone(zone))
    assert stretch.begins <= moment < stretch.ends
    assert stretch_of(clock.date() + timedelta(days=1), find_zone(zone)).begins == stretch.ends


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_iana_name_is_refused(name: str) -> None:
    with pytest.raises(BadParameter):
        find_zone(name)


@pytest.mark.parametrize(("day", "zone"), [("0001-01-01", "Asia/Tokyo"), ("9999-12-31", "America/New_York")])
def test_a_day_at_the_end_of_the_calendar_is_refused(day: str, zone: str) -> None:
    with pytest.raises(BadParameter):
        stretch_of(date.fromisoformat(day), find_zone(zone))
