"""Lists of bookings, asked of the database directly: the statement and the rule in Python say the same on any page."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from api.simulator.traffic import simulate
from ledger.errors import BadParameter
from ledger.postgres import Connection, open_pool
from ledger.store import Ledger
from projections import lists
from projections.calendar_events import CalendarEvent
from projections.lists import Cursor, Filter, Listed, list_bookings, list_page
from projections.past_lists import list_page_as_of, matches
from projections.runner import Runner
from tests.builders import main_ledger, webhook
from tests.serving import file

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = 10_000
PAGES_MAX = 400
BODIES_AT_ONCE = 25

FILTERS: dict[str, Filter] = {
    "everything": Filter(),
    "scheduled": Filter(statuses=["scheduled"]),
    "not to come": Filter(statuses=["completed", "no_show", "cancelled"]),
    "no_show": Filter(statuses=["no_show"]),
    "moved away": Filter(statuses=["rescheduled"]),
    "text": Filter(text="a"),
    "text nobody has": Filter(text="zebra crossing"),
    "text in capitals": Filter(text="LATER"),
    "text like a pattern of LIKE": Filter(text="100 %"),
    "text like a pattern of LIKE that nobody has": Filter(text="l%r"),
    "text like a regular expression": Filter(text="(.*)"),
    "text like a regular expression that nobody has": Filter(text="l.*r"),
    "text like a path of JSON": Filter(text='a\\b "||'),
    "text with what no text in Postgres has": Filter(text="a\x00b"),
    "text of an attendee": Filter(text="ŹDŹBŁO"),
    "no text": Filter(text=""),
    "text and status": Filter(text="e", statuses=["scheduled", "confirmed"]),
    "from today": Filter(starts_from=NOW),
    "a stretch": Filter(starts_from=NOW - 2 * DAY, starts_before=NOW + DAY),
    "a stretch, completed": Filter(starts_from=NOW - 2 * DAY, starts_before=NOW + DAY, statuses=["completed"]),
    "metadata": Filter(metadata={"source": "website"}),
    "metadata nobody has": Filter(metadata={"source": "nowhere"}),
}


@pytest_asyncio.fixture
async def ledger(connection: asyncpg.Connection) -> Ledger:
    """Filled with a studio's weeks, and some bookings whose time nobody has told."""
    bodies = [one.body for one in simulate(seed=4, now=NOW, bookings=90, secret=b"s")]
    timeless = [webhook("BOOKING_CREATED", {"uid": f"timeless-{number}", "title": "Later"}) for number in range(5)]
    people = [{"email": "z@example.com", "name": 'Źdźbło a\\b "|| @'}]
    strange = webhook(
        "BOOKING_CREATED", {"uid": "strange", "title": 'Later: 100 % "(.*)" \\s a\x00b', "attendees": people}
    )
    numbered = [
        webhook("BOOKING_CREATED", {"bookingId": 4_711, "title": "Later", **named})
        for named in ({}, {"uid": "numbered"})
    ]
    told = [numbered[0], *bodies, *timeless, strange, numbered[1]]
    for begin in range(0, len(told), BODIES_AT_ONCE):
        await file(connection, *told[begin : begin + BODIES_AT_ONCE])
    return await main_ledger(connection)


@pytest_asyncio.fixture
async def current(
    connection: asyncpg.Connection,
    database: str,
    ledger: Ledger,  # noqa: ARG001  # it is filled first
) -> AsyncIterator[Connection]:
    """A connection on which every read model has everything."""
    async with await open_pool(database) as pool:
        await Runner(pool, database).catch_up()
        yield connection


def uids(bookings: Sequence[CalendarEvent]) -> list[str]:
    return [booking.cal_com_event_id for booking in bookings]


async def walked(connection: Connection, ledger: Ledger, narrowed: Filter, *, rows_max: int) -> list[Listed]:
    """All pages, to the last."""
    pages: list[Listed] = []
    after: Cursor | None = None
    while after is not None or not pages:
        pages.append(await list_page(connection, ledger, narrowed, after=after, rows_max=rows_max))
        assert len(pages[-1].bookings) <= rows_max
        assert len(pages) < PAGES_MAX
        after = pages[-1].following
    return pages


def with_names(everything: Sequence[CalendarEvent]) -> dict[str, Filter]:
    """Filters by what these bookings have: hosts, types, attendees and names of every kind."""
    moved = next(one for one in everything if one.rescheduled_from is not None)
    numbered = next(one for one in everything if one.booking_number is not None)
    peopled = next(one for one in everything if one.attendee_email is not None)
    return {
        "host": Filter(host=moved.host_email),
        "host, scheduled": Filter(host=moved.host_email, statuses=["scheduled"]),
        "event type": Filter(event_type=moved.event_type),
        "event type, cancelled": Filter(event_type=moved.event_type, statuses=["cancelled"]),
        "host of nobody": Filter(host="nobody@example.com", statuses=["scheduled"]),
        "attendee": Filter(attendee=peopled.attendee_email),
        "host and event type": Filter(host=moved.host_email, event_type=moved.event_type),
        "host and metadata": Filter(host=moved.host_email, metadata={"source": "website"}),
        "event type and metadata nobody has": Filter(event_type=moved.event_type, metadata={"source": "nowhere"}),
        "attendee, host and metadata": Filter(
            attendee=moved.attendee_email, host=moved.host_email, metadata={"source": "website"}
        ),
        "named by a uid of a chain": Filter(name=moved.cal_com_event_id),
        "named by the chain's first uid": Filter(name=moved.root_uid),
        "named by a number": Filter(name=str(numbered.booking_number)),
        "named by a number, but not so": Filter(name=f"0{numbered.booking_number}"),
        "named by a number too large": Filter(name=str(2**63)),
        "named by a calendar id": Filter(name=next(one.ical_uid for one in everything if one.ical_uid)),
        "named by a metadata value": Filter(name="website"),
        "named like a path of JSON": Filter(name='$.* ? (@ == "x") \\ "'),
    }


@pytest.mark.parametrize("looked_at_max", [1, 4, 5_000])
async def test_pages_however_short_are_together_what_the_rule_says(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, looked_at_max: int
) -> None:
    everything = await list_bookings(current, ledger, Filter(), after=None, rows_max=ALL)
    assert len(everything) > 90
    monkeypatch.setattr(lists, "LOOKED_AT_MAX", looked_at_max)
    for name, narrowed in (FILTERS | with_names(everything)).items():
        chain = {one.root_uid for one in everything if narrowed.name == one.cal_com_event_id}
        expected = [
            one.cal_com_event_id
            for one in everything
            if matches(one, narrowed) or (one.root_uid in chain and narrowed.name is not None)
        ]
        if narrowed.text is not None:
            assert bool(expected) is not name.endswith("nobody has"), name
        for rows_max in (1, 7, ALL):
            pages = await walked(current, ledger, narrowed, rows_max=rows_max)
            assert [uid for page in pages for uid in uids(page.bookings)] == expected, (name, rows_max)
        assert uids(await list_bookings(current, ledger, narrowed, after=None, rows_max=5)) == expected[:5], name


async def test_a_page_looks_at_so_many_bookings_and_then_says_how_far_it_came(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOKED_AT_MAX", 10)
    everything = await list_bookings(current, ledger, Filter(), after=None, rows_max=ALL)
    page = await list_page(current, ledger, Filter(text="zebra crossing"), after=None, rows_max=3)
    assert (page.bookings, page.following) == ([], lists.cursor_of(everything[9]))
    host = next(one.host_email for one in everything if one.host_email is not None)
    theirs = [one for one in everything if one.host_email == host]
    page = await list_page(current, ledger, Filter(host=host, event_type="of nobody"), after=None, rows_max=3)
    assert (page.bookings, page.following) == ([], lists.cursor_of(theirs[9]))


async def test_a_list_of_a_status_begins_on_the_first_day_that_has_it(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many came before: else a list of what is scheduled would be as slow as the past is long."""
    monkeypatch.setattr(lists, "LOOKED_AT_MAX", 60)
    everything = await list_bookings(current, ledger, Filter(), after=None, rows_max=ALL)
    ahead = [one for one in everything if one.status == "scheduled" and one.start_time is not None]
    assert everything.index(ahead[0]) > 0
    page = await list_page(current, ledger, Filter(statuses=["scheduled"]), after=None, rows_max=1)
    assert uids(page.bookings) == [ahead[0].cal_com_event_id]
    nowhere = await list_page(current, ledger, Filter(statuses=["scheduled"], host="x"), after=None, rows_max=1)
    assert (nowhere.bookings, nowhere.following) == ([], None)


async def test_a_name_that_very_many_have_is_refused(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "NAMED_MAX", 3)
    with pytest.raises(BadParameter, match="more than 3 bookings"):
        await list_page(current, ledger, Filter(name="website"), after=None, rows_max=10)


async def test_pages_of_the_past_however_short_are_together_the_same(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = await current.fetch("SELECT DISTINCT recorded_at FROM ledger.events ORDER BY recorded_at")
    moments = [row["recorded_at"] for row in rows]
    assert len(moments) > 5
    for as_of in moments[::2]:
        for narrowed in (Filter(), Filter(statuses=["scheduled", "confirmed"]), Filter(text="a")):
            whole = await past(current, ledger, narrowed, as_of, rows_max=ALL)
            with monkeypatch.context() as patched:
                patched.setattr(lists, "LOOKED_AT_MAX", 4)
                patched.setattr("projections.past_lists.NUMBER_STREAMS_MAX", 0)
                assert await past(current, ledger, narrowed, as_of, rows_max=3) == whole


async def past(
    connection: Connection, ledger: Ledger, narrowed: Filter, as_of: datetime, *, rows_max: int
) -> list[CalendarEvent]:
    """The whole list of then, page by page."""
    found: list[CalendarEvent] = []
    after: Cursor | None = None
    while True:
        page = await list_page_as_of(
            connection, ledger, narrowed, as_of=as_of, after=after, rows_max=rows_max, confirm_on_accept=False
        )
        found += page.bookings
        after = page.following
        if after is None:
            return found


async def test_a_past_that_lies_too_many_events_back_is_refused(
    current: Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.past_lists.EVENTS_SINCE_MAX", 20)
    head = await current.fetchval("SELECT position FROM ledger.ledgers")
    moments = "SELECT recorded_at FROM ledger.events WHERE position = $1"
    assert await past(current, ledger, Filter(), await current.fetchval(moments, head), rows_max=ALL)
    with pytest.raises(BadParameter, match="more than 20 events"):
        await past(current, ledger, Filter(), NOW - 999 * DAY, rows_max=1)


async def test_behind_a_transaction_pooler_lists_are_the_same(
    current: Connection, database: str, ledger: Ledger
) -> None:
    """There the driver keeps no statement prepared."""
    narrowed = Filter(statuses=["completed"], text="a")
    expected = await list_bookings(current, ledger, narrowed, after=None, rows_max=ALL)
    async with await open_pool(database, behind_pooler=True) as pool, pool.acquire() as pooled:
        for _ in range(3):
            assert await list_bookings(pooled, ledger, narrowed, after=None, rows_max=ALL) == expected
    assert expected
