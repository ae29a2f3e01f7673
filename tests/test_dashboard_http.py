"""Dashboards over HTTP: a day's appointments in any time zone, a salon's, and figures that count the bookings."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
import pytest_asyncio

from api.simulator.traffic import simulate
from projections.booking_statistics import STATUSES
from tests.builders import NOON, add_ledger, instant, meeting, minutes, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    serving,
    speaking_to,
    until_current,
)

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ENTIRE = {"from": "2020-01-01", "to": "2029-01-01"}
TOO_LONG = "x" * 201
TODAY = "/api/dashboard/today"


def booked(uid: str, start: datetime, trigger: str = "BOOKING_CREATED", **fields: object) -> bytes:
    times = {"startTime": instant(start), "endTime": instant(start + timedelta(minutes=30))}
    at = fields.pop("at", NOON)
    assert isinstance(at, datetime)
    return webhook(trigger, {"uid": uid, "title": uid, "type": "bath", **times, **fields}, at=at)


def hosted(email: str) -> dict[str, str]:
    return {"email": email}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def busy_server(shared_server: Server) -> Server:
    """With a few weeks of a studio's traffic."""
    bodies = [one.body for one in simulate(seed=9, now=NOW, bookings=150, secret=b"s")]
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        await deliver_all(http, *bodies)
        await until_current(connection)
    return shared_server


@pytest_asyncio.fixture
async def http(busy_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(busy_server) as client:
        yield client


@pytest_asyncio.fixture
async def models(busy_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(busy_server.dsn) as connection:
        yield connection


async def asked(http: httpx.AsyncClient, path: str, **parameters: str | int) -> dict[str, Any]:
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def appointments(http: httpx.AsyncClient, path: str = TODAY, /, **parameters: str | int) -> list[str]:
    """The uids of one page, in its order."""
    told = await asked(http, path, **parameters)
    return [booking["cal_com_event_id"] for booking in told["appointments"]]


# Today


@pytest.mark.system("3.2", "3.10", "3.16")
@pytest.mark.parametrize(
    ("zone", "day", "midnights"),
    [
        ("UTC", "2026-05-04", "2026-05-04T00:00:00Z 2026-05-05T00:00:00Z"),
        ("Europe/Warsaw", "2026-03-29", "2026-03-28T23:00:00Z 2026-03-29T22:00:00Z"),
        ("Europe/Warsaw", "2026-10-25", "2026-10-24T22:00:00Z 2026-10-25T23:00:00Z"),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00:00Z 2026-03-09T04:00:00Z"),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00:00Z 2026-11-02T05:00:00Z"),
        ("Asia/Kolkata", "2026-06-15", "2026-06-14T18:30:00Z 2026-06-15T18:30:00Z"),
        ("Asia/Kathmandu", "2026-06-15", "2026-06-14T18:15:00Z 2026-06-15T18:15:00Z"),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z 2026-04-05T13:30:00Z"),
        ("Etc/GMT+12", "2026-06-15", "2026-06-15T12:00:00Z 2026-06-16T12:00:00Z"),
    ],
)
async def test_a_day_has_what_starts_between_its_midnights_and_nothing_else(
    http: httpx.AsyncClient, models: asyncpg.Connection, zone: str, day: str, midnights: str
) -> None:
    own = f"{zone}-{day}@example.com".lower()
    begins, ends = midnights.split()
    first, end = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    starts = {"before": first - MINUTE, "first": first, "last": end - MINUTE, "after": end}
    await deliver_all(http, *(booked(f"{own}-{name}", start, organizer=hosted(own)) for name, start in starts.items()))
    await until_current(models)
    told = await asked(http, TODAY, tz=zone, day=day, host=own)
    assert [one["cal_com_event_id"] for one in told["appointments"]] == [f"{own}-first", f"{own}-last"]
    assert (told["day"], told["time_zone"], told["begins"], told["ends"]) == (day, zone, begins, ends)
    assert told["counts"] == dict.fromkeys(STATUSES, 0) | {"scheduled": 2}


async def test_without_a_day_it_is_today_there(http: httpx.AsyncClient, models: asyncpg.Connection) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Warsaw"):
        own = f"{zone}@example.com".lower()
        earliest = datetime.now(ZoneInfo(zone)).date()
        await deliver_all(http, booked(f"now-{zone}", datetime.now(UTC), organizer=hosted(own)))
        await until_current(models)
        told = await asked(http, TODAY, tz=zone, host=own)
        latest = datetime.now(ZoneInfo(zone)).date()
        assert earliest.isoformat() <= told["day"] <= latest.isoformat()
        if earliest == latest:
            assert [one["cal_com_event_id"] for one in told["appointments"]] == [f"now-{zone}"]
    assert (await asked(http, TODAY))["time_zone"] == "UTC"


@pytest_asyncio.fixture
async def mixed(http: httpx.AsyncClient, models: asyncpg.Connection) -> dict[str, str]:
    """A day with a booking of every status; the parameters that ask for it."""
    own, day = "mixed@example.com", datetime(2026, 7, 7, 9, tzinfo=UTC)

    def mixed(uid: str, trigger: str = "BOOKING_CREATED", *, hour: int, **fields: object) -> bytes:
        return booked(uid, day + timedelta(hours=hour), trigger, organizer=hosted(own), **fields)

    await deliver_all(
        http,
        mixed("m-scheduled", hour=0, metadata={"salonId": "m-salon", "clientId": "m-client"}),
        mixed("m-confirmed", "BOOKING_REQUESTED", hour=1),
        mixed("m-confirmed", hour=1, at=minutes(1)),
        mixed("m-completed", hour=2, metadata={"salonId": "m-salon"}),
        meeting("MEETING_ENDED", {"uid": "m-completed", "startTime": instant(day + timedelta(hours=2))}),
        mixed("m-absent", hour=3, attendees=[{"email": "eve@example.com"}]),
        webhook(
            "BOOKING_NO_SHOW_UPDATED",
            {"bookingUid": "m-absent", "attendees": [{"email": "eve@example.com", "noShow": True}]},
            at=minutes(60),
        ),
        mixed("m-cancelled", hour=4),
        mixed("m-cancelled", "BOOKING_CANCELLED", hour=4, at=minutes(2)),
        mixed("m-moved", hour=5),
        mixed("m-new", "BOOKING_RESCHEDULED", hour=6, rescheduleUid="m-moved", at=minutes(3)),
    )
    await until_current(models)
    return {"day": "2026-07-07", "host": own}


async def test_what_is_cancelled_or_was_moved_is_counted_and_shown_only_when_asked_for(
    http: httpx.AsyncClient, mixed: dict[str, str]
) -> None:
    coming = ["m-scheduled", "m-confirmed", "m-completed", "m-absent", "m-new"]
    told = await asked(http, TODAY, **mixed)
    assert [one["cal_com_event_id"] for one in told["appointments"]] == coming
    assert told["counts"] == dict.fromkeys(STATUSES, 1) | {"scheduled": 2}
    assert await appointments(http, **mixed, status="cancelled,rescheduled") == ["m-cancelled", "m-moved"]
    assert await appointments(http, **mixed, status="no_show") == ["m-absent"]


async def test_a_day_is_narrowed_by_salon_and_client_and_its_counts_with_it(
    http: httpx.AsyncClient, mixed: dict[str, str]
) -> None:
    assert await appointments(http, **mixed, salon="m-salon") == ["m-scheduled", "m-completed"]
    assert await appointments(http, **mixed, salon="m-salon", client="m-client") == ["m-scheduled"]
    told = await asked(http, TODAY, **mixed, salon="m-salon")
    assert {word: count for word, count in told["counts"].items() if count} == {"scheduled": 1, "completed": 1}
    assert await appointments(http, **{**mixed, "host": "nobody@example.com"}) == []


async def test_a_day_is_read_page_by_page(http: httpx.AsyncClient, mixed: dict[str, str]) -> None:
    seen: list[str] = []
    parameters: dict[str, str | int] = {**mixed, "limit": 2}
    while True:
        told = await asked(http, TODAY, **parameters)
        assert sum(told["counts"].values()) == 7, "of the whole day, on every page"
        seen += [one["cal_com_event_id"] for one in told["appointments"]]
        if told["next_cursor"] is None:
            break
        parameters["cursor"] = told["next_cursor"]
    assert seen == ["m-scheduled", "m-confirmed", "m-completed", "m-absent", "m-new"]


async def test_an_appointment_has_the_words_of_a_booking(http: httpx.AsyncClient, mixed: dict[str, str]) -> None:
    [listed] = (await asked(http, "/api/bookings", client="m-client"))["bookings"]
    assert (await asked(http, TODAY, **mixed))["appointments"][0] == listed


@pytest.mark.parametrize(
    "parameters",
    [
        *({"tz": name} for name in ("", "Mars/Olympus", "../../etc/passwd", "localtime", "europe/warsaw", "\0")),
        {"tz": "x" * 101},
        *({"day": text} for text in ("", "today", "2026-02-30", "2026-11-20T00:00", "0001-01-01T", "10000-01-01")),
        {"day": "0001-01-01", "tz": "Asia/Tokyo"},
        {"day": "9999-12-31"},
        *({name: text} for name in ("host", "salon", "client") for text in ("a\0b", TOO_LONG)),
        *({"status": text} for text in ("", "lost")),
        *({"limit": text} for text in ("0", "501", "many")),
        *({"cursor": text} for text in ("", "x", "W10")),
    ],
    ids=repr,
)
async def test_a_day_that_cannot_be_understood_is_the_callers_problem(
    http: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get(TODAY, params=parameters), 400)


# A salon


@pytest.mark.system("3.10")
async def test_a_salons_appointments_in_a_range_are_those_that_start_in_it(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    monday = datetime(2026, 8, 3, tzinfo=UTC)
    ours, theirs = {"salonId": "north wing & śpa"}, {"salonId": "south"}
    await deliver_all(
        http,
        booked("s-sunday", monday - MINUTE, metadata=ours),
        booked("s-monday", monday, metadata=ours),
        booked("s-elsewhere", monday, metadata=theirs),
        booked("s-gone", monday, metadata=ours),
        booked("s-gone", monday, "BOOKING_CANCELLED", metadata=ours, at=minutes(1)),
        booked("s-friday", monday + timedelta(days=4), metadata=ours, organizer=hosted("s@example.com")),
        booked("s-next", monday + timedelta(days=7), metadata=ours),
        webhook("BOOKING_CREATED", {"uid": "s-timeless", "metadata": ours}),
    )
    await until_current(models)
    path = "/api/salons/north%20wing%20&%20%C5%9Bpa/appointments"
    week: dict[str, str | int] = {"from": "2026-08-03", "to": "2026-08-10T00:00:00Z"}
    assert await appointments(http, path, **week) == ["s-monday", "s-friday"]
    assert await appointments(http, path, **week, status="cancelled") == ["s-gone"]
    assert await appointments(http, path, **week, host="S@Example.com") == ["s-friday"]
    assert await appointments(http, path) == ["s-sunday", "s-monday", "s-friday", "s-next", "s-timeless"]
    assert await appointments(http, path, limit=1) == ["s-sunday"]
    assert await appointments(http, "/api/salons/nowhere/appointments") == []
    assert_is_problem(await http.get(path, params={"from": "soon"}), 400)
    assert_is_problem(await http.get("/api/salons/a%00b/appointments"), 400)


# Statistics


LABELS: Mapping[str, Callable[[asyncpg.Record], str | None]] = {
    "day": lambda row: day_of(row).isoformat(),
    "week": lambda row: (day_of(row) - timedelta(days=day_of(row).weekday())).isoformat(),
    "month": lambda row: day_of(row).replace(day=1).isoformat(),
    "event_type": lambda row: row["event_type"],
    "host": lambda row: row["host_email"],
}


def day_of(row: asyncpg.Record) -> Any:
    return (row["start_time"] or row["created_at"]).astimezone(UTC).date()


async def bookings(models: asyncpg.Connection) -> list[asyncpg.Record]:
    return await models.fetch(
        "SELECT start_time, created_at, status, event_type, host_email, duration_minutes FROM calendar_events"
    )


def counted(rows: list[asyncpg.Record]) -> dict[str, int]:
    """What statistics say of these bookings, counted one by one."""
    held = [row for row in rows if row["status"] not in ("cancelled", "rescheduled")]
    return {
        "bookings": len(rows),
        **{status: sum(row["status"] == status for row in rows) for status in STATUSES},
        "minutes_booked": sum(row["duration_minutes"] or 0 for row in held),
    }


@pytest.mark.system("3.2", "3.16")
@pytest.mark.parametrize("group", LABELS)
async def test_statistics_are_a_count_of_the_bookings(
    http: httpx.AsyncClient, models: asyncpg.Connection, group: str
) -> None:
    rows = await bookings(models)
    told = await asked(http, "/api/dashboard/statistics", group=group, **ENTIRE)
    expected: dict[str | None, list[asyncpg.Record]] = {}
    for row in rows:
        expected.setdefault(LABELS[group](row), []).append(row)
    figures = {one["label"]: one for one in told["figures"]}
    assert list(figures) == sorted(expected, key=lambda label: (label is None, label))
    for label, own in expected.items():
        assert {name: figures[label][name] for name in counted(own)} == counted(own), label
    assert {name: told["total"][name] for name in counted(rows)} == counted(rows)
    assert len(rows) > 100


@pytest.mark.parametrize("group", ["month", "event_type", "host"])
async def test_statistics_are_the_same_whether_a_month_is_cut_or_whole(
    http: httpx.AsyncClient, models: asyncpg.Connection, group: str
) -> None:
    rows = await bookings(models)
    days = sorted({day_of(row) for row in rows})
    months = {day.replace(day=1) for day in days}
    bounds = sorted({*months, *(month - timedelta(days=1) for month in months), *days[:: len(days) // 4 + 1]})
    for first, end in itertools.combinations(bounds, 2):
        told = await asked(
            http, "/api/dashboard/statistics", group=group, **{"from": first.isoformat(), "to": end.isoformat()}
        )
        within = [row for row in rows if first <= day_of(row) < end]
        assert {name: told["total"][name] for name in counted(within)} == counted(within), (first, end)
    assert len(months) > 1


@pytest.mark.parametrize("group", LABELS)
async def test_statistics_of_one_host_and_event_type_are_a_count_of_theirs(
    http: httpx.AsyncClient, models: asyncpg.Connection, group: str
) -> None:
    rows = await bookings(models)
    name, narrowed = "host", {row["host_email"] for row in rows if row["host_email"]}
    if group == "host":
        name, narrowed = "event_type", {row["event_type"] for row in rows if row["event_type"]}
    assert len(narrowed) > 1
    for value in narrowed:
        told = await asked(http, "/api/dashboard/statistics", group=group, **{name: value}, **ENTIRE)
        own = [row for row in rows if row[{"host": "host_email"}.get(name, name)] == value]
        assert {one["label"]: one["bookings"] for one in told["figures"]} == Counter(map(LABELS[group], own)), value
        assert {name: told["total"][name] for name in counted(own)} == counted(own)


async def test_statistics_have_rates_and_the_average_lead_as_the_view_has_them(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    told = await asked(http, "/api/dashboard/statistics", group="host", **ENTIRE)
    for one in [*told["figures"], told["total"]]:
        whole, ended = one["bookings"] - one["rescheduled"], one["completed"] + one["no_show"]
        assert one["cancellation_rate"] == (round(one["cancelled"] / whole, 4) if whole else None)
        assert one["no_show_rate"] == (round(one["no_show"] / ended, 4) if ended else None)
    lead = await models.fetchval(
        "SELECT avg(floor(extract(epoch FROM start_time - created_at) / 60)) FROM calendar_events "
        "WHERE start_time >= created_at"
    )
    assert told["total"]["lead_minutes"] == pytest.approx(float(lead), abs=1)


async def test_statistics_take_whole_days_from_the_first_to_before_the_last(
    http: httpx.AsyncClient, models: asyncpg.Connection
) -> None:
    own: dict[str, str | int] = {"host": "days@example.com"}
    first = datetime(2026, 2, 10, tzinfo=UTC)
    for number, start in enumerate((first - MINUTE, first, first + timedelta(days=1, hours=23, minutes=59))):
        await deliver_all(http, booked(f"days-{number}", start, organizer=hosted("days@example.com")))
    await until_current(models)

    async def days(begins: str, ends: str) -> dict[str, int]:
        told = await asked(http, "/api/dashboard/statistics", **own, **{"from": begins, "to": ends})
        return {one["label"]: one["bookings"] for one in told["figures"]}

    assert await days("2026-02-10", "2026-02-12") == {"2026-02-10": 1, "2026-02-11": 1}
    assert await days("2026-02-09", "2026-02-10") == {"2026-02-09": 1}
    assert await days("2026-02-09", "2026-02-11T00:00:01Z") == {"2026-02-09": 1, "2026-02-10": 1, "2026-02-11": 1}
    assert await days("2026-02-12", "2026-02-13") == {}
    told = await asked(http, "/api/dashboard/statistics", **own, **ENTIRE, event_type="cut")
    assert (told["figures"], told["total"]["bookings"], told["total"]["no_show_rate"]) == ([], 0, None)


async def test_statistics_are_of_the_last_thirty_days_unless_told_otherwise(http: httpx.AsyncClient) -> None:
    earliest = datetime.now(UTC).date()
    told = await asked(http, "/api/dashboard/statistics")
    latest = datetime.now(UTC).date()
    end = datetime.fromisoformat(told["to"]).date()
    assert earliest < end <= latest + timedelta(days=1)
    assert datetime.fromisoformat(told["from"]).date() == end - timedelta(days=30)
    assert (told["group"], told["ledger"]) == ("day", "main")


@pytest.mark.parametrize(
    "parameters",
    [
        {"group": "year"},
        {"group": ""},
        {"from": "soon"},
        {"to": "2026-13-01"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-01-01"},
        {"from": "2000-01-01", "to": "2026-01-01"},
        {"from": "0001-01-01", "to": "0001-01-01T00:00:00Z"},
        {"host": "a\0b"},
        {"event_type": TOO_LONG},
    ],
    ids=repr,
)
async def test_statistics_that_cannot_be_understood_are_the_callers_problem(
    http: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert_is_problem(await http.get("/api/dashboard/statistics", params=parameters), 400)


# Ledgers


async def test_every_ledger_has_its_own_dashboard(durable_database: str, tmp_path: Path) -> None:
    async with connected(durable_database) as connection:
        await add_ledger(connection)
    links = {"clientId": "c", "petId": "p", "salonId": "s"}
    start = datetime(2026, 6, 1, 9, tzinfo=UTC)
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(server.dsn) as connection:
            await deliver_all(http, booked("mine", start, metadata=links))
            answer = await deliver(http, booked("theirs", start, metadata=links), path="/api/webhooks/cal-com/other")
            assert answer.status_code == 200, answer.text
            await until_current(connection)
            for ledger, uid in (("main", "mine"), ("other", "theirs")):
                assert await appointments(http, ledger=ledger, day="2026-06-01") == [uid]
                assert await appointments(http, "/api/salons/s/appointments", ledger=ledger) == [uid]
                for path in ("/api/clients/c/visits", "/api/pets/p/visits"):
                    visits = (await asked(http, path, ledger=ledger))["visits"]
                    assert [one["cal_com_event_id"] for one in visits] == [uid]
                assert (await asked(http, "/api/clients/c", ledger=ledger))["bookings"] == 1
                told = await asked(http, "/api/dashboard/statistics", ledger=ledger, **ENTIRE)
                assert told["total"]["bookings"] == 1
            for path in (
                *("/api/dashboard/today", "/api/dashboard/statistics", "/api/salons/s/appointments"),
                *("/api/clients", "/api/clients/c", "/api/clients/c/visits", "/api/pets/p/visits"),
            ):
                assert_is_problem(await http.get(path, params={"ledger": "nobody"}), 404)
