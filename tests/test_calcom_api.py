"""The client of Cal.com's API, on a server as strict as Cal.com's: what it asks, how fast, and what wrong answers do.

Time is the test's own: nobody waits.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from ledger.calcom import transport
from ledger.calcom.answers import OtherVersion, read_allowances, read_error, read_page
from ledger.calcom.api import CalComApi, WebhookOwner
from ledger.calcom.filters import Filter
from ledger.calcom.observation import read_observation
from ledger.calcom.pacing import BLOCK_SECONDS, WINDOW_SECONDS, Allowance, Pacing
from ledger.calcom.paging import LIST_VERSIONS, ListVersion, Place
from ledger.calcom.payloads import Unreadable
from ledger.errors import BookingLedgerError, CalComKeyRefused, CalComRejected, CalComUnavailable, CalComUnreadable
from ledger.settings import Secret
from tests.builders import NOON, instant
from tests.fake_calcom import KEY, FakeCalCom, Fault, FaultKind, fake_calcom

PATIENT = httpx.Timeout(30)
HASTY = httpx.Timeout(0.2)
"""For a server that never answers."""


class Time:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def bookings(count: int) -> list[dict[str, Any]]:
    """Hourly meetings, each changed a minute after the one before."""
    return [
        {
            "id": 1000 + number,
            "uid": f"uid{number:05}",
            "title": f"Visit {number} 🐾",
            "status": ("accepted", "cancelled", "pending")[number % 3],
            "start": instant(NOON + timedelta(hours=number)),
            "end": instant(NOON + timedelta(hours=number, minutes=30)),
            "updatedAt": instant(NOON - timedelta(days=30) + timedelta(minutes=number)),
            "eventTypeId": 7,
            "attendees": [{"email": f"guest{number}@example.com", "name": "Guest", "absent": False}],
            "hosts": [],
        }
        for number in range(count)
    ]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def fake(time: Time) -> Iterator[FakeCalCom]:
    """With 300 bookings, at noon, and the test's clock for its rate limit."""
    with fake_calcom(bookings(300), clock=time.clock) as server:
        server.opened_at, server.now = NOON, lambda: NOON
        yield server


@contextlib.asynccontextmanager
async def asking(
    fake: FakeCalCom, time: Time, *, timeouts: httpx.Timeout = PATIENT, **options: Any
) -> AsyncIterator[CalComApi]:
    async with httpx.AsyncClient(timeout=timeouts, trust_env=False) as client:
        key = Secret(options.pop("key", KEY).encode())
        yield CalComApi(fake.url, key, client=client, clock=time.clock, sleep=time.sleep, jitter=lambda: 1.0, **options)


@pytest.fixture
async def api(fake: FakeCalCom, time: Time) -> AsyncIterator[CalComApi]:
    async with asking(fake, time) as opened:
        yield opened


async def uids(api: CalComApi, chosen: Filter | None = None, **options: Any) -> list[str]:
    """Of all pages in order, those seen twice as well."""
    return [booking.uid async for page in api.list_bookings(chosen, **options) for booking in page.bookings]


def uids_of(fake: FakeCalCom) -> set[str]:
    return {booking["uid"] for booking in fake.bookings}


# The rate limit


@pytest.mark.parametrize("version", LIST_VERSIONS)
async def test_ten_thousand_bookings_are_read_without_one_request_too_many(version: ListVersion, time: Time) -> None:
    with fake_calcom(bookings(10_000), clock=time.clock) as fake:
        async with asking(fake, time) as api:
            found = await uids(api, version=version, rows=40)
        assert set(found) == uids_of(fake)
        assert set(fake.statuses()) == {200}
        requests = len(fake.requests)
    assert requests > 240, "more than two minutes' worth"
    assert time.now <= requests / 120 * WINDOW_SECONDS, "and no slower than the limit asks for"


async def test_the_same_key_in_another_programs_hands_slows_us_and_we_are_never_one_too_many(time: Time) -> None:
    with fake_calcom(bookings(3_000), clock=time.clock) as fake:
        fake.faults.extend([lambda: fake.spend(1)] * 1_000)
        async with asking(fake, time) as api:
            assert set(await uids(api, rows=20)) == uids_of(fake)
        assert set(fake.statuses()) == {200}


async def test_after_a_request_too_many_the_block_is_waited_for_and_then_it_goes_on(
    fake: FakeCalCom, api: CalComApi, time: Time
) -> None:
    fake.faults.extend([None, Fault(kind="too_many")])
    assert set(await uids(api, rows=100)) == uids_of(fake)
    assert fake.statuses()[:3] == [200, 429, 200]
    assert BLOCK_SECONDS <= time.now < 2 * BLOCK_SECONDS


async def test_a_block_that_outlasts_its_window_is_waited_for_to_its_end(
    fake: FakeCalCom, api: CalComApi, time: Time
) -> None:
    fake.spend(120)
    time.now = 50.0
    assert (await api.me()).id == 7
    assert fake.statuses() == [429, 200]
    assert time.now >= 50.0 + BLOCK_SECONDS


async def test_several_at_once_stay_within_the_limit_together(fake: FakeCalCom, api: CalComApi) -> None:
    answers = await asyncio.gather(*(api.get_booking(f"uid{number:05}") for number in range(290)))
    assert [len(found) for found in answers] == [1] * 290
    assert set(fake.statuses()) == {200}


def test_the_pace_counts_a_request_from_its_departure_until_a_window_after_its_answer() -> None:
    pacing = Pacing(requests_per_minute=2)
    for _ in range(2):
        assert pacing.delay_seconds(0) == 0
        pacing.departed()
    assert pacing.delay_seconds(500) > 0, "both are still under way, and Cal.com may count them at any moment"
    pacing.answered(500, {})
    assert pacing.delay_seconds(510) == pytest.approx(WINDOW_SECONDS - 10)
    assert pacing.delay_seconds(500 + WINDOW_SECONDS) == 0


def test_a_stricter_limit_in_the_headers_is_kept_and_a_reset_that_is_an_epoch_is_not_waited_for() -> None:
    pacing = Pacing(requests_per_minute=120)
    headers = {"X-RateLimit-Remaining-Short": "0", "x-ratelimit-reset-short": "7", "X-RateLimit-Limit-Short": "5"}
    assert read_allowances(headers.items()) == {"short": Allowance(remaining=0, reset_seconds=7)}
    pacing.departed()
    pacing.answered(100, read_allowances(headers.items()))
    assert pacing.delay_seconds(100) == 7
    pacing.departed()
    pacing.answered(200, {"short": Allowance(remaining=0, reset_seconds=1_797_000_000)})
    assert pacing.delay_seconds(200) == BLOCK_SECONDS
    assert read_allowances([("x-ratelimit-remaining-default", "many"), ("x-ratelimit-reset-default", "7")]) == {}


# Lists


@pytest.mark.parametrize("version", LIST_VERSIONS)
async def test_a_page_has_each_booking_byte_for_byte_with_its_uid_and_the_time_of_its_last_change(
    version: ListVersion, fake: FakeCalCom, api: CalComApi
) -> None:
    fake.bookings[1]["updatedAt"] = None
    pages = [page async for page in api.list_bookings(version=version, rows=100)]
    found = {booking.uid: booking for page in pages for booking in page.bookings}
    for booking in fake.bookings:
        listed = found[booking["uid"]]
        assert json.loads(bytes(listed.raw)).items() >= booking.items()
        assert "🐾".encode() in bytes(listed.raw)
        expected = booking["updatedAt"] and datetime.fromisoformat(booking["updatedAt"])
        assert listed.updated_at == expected
        stream, fact = read_observation(bytes(listed.raw))
        assert (stream, fact.details.title) == (f"booking-{listed.uid}", booking["title"])


@pytest.mark.parametrize("version", LIST_VERSIONS)
@pytest.mark.parametrize("statuses", [(), ("cancelled", "unconfirmed")])
async def test_a_walk_that_was_broken_off_at_any_page_is_taken_up_again_there(
    version: ListVersion, statuses: tuple[Any, ...], fake: FakeCalCom, api: CalComApi
) -> None:
    chosen = Filter(statuses=statuses)
    whole = [page async for page in api.list_bookings(chosen, version=version, rows=23)]
    every_uid = {booking.uid for page in whole for booking in page.bookings}
    assert len(whole) > 8
    assert whole[-1].next_place is None
    for number, page in enumerate(whole[:-1]):
        assert page.next_place == whole[number + 1].place
        kept = msgspec.json.decode(msgspec.json.encode(page.next_place), type=Place)
        seen = {booking.uid for earlier in whole[: number + 1] for booking in earlier.bookings}
        rest = await uids(api, chosen, rows=23, place=kept)
        assert seen | set(rest) == every_uid
        assert number < 2 or set(rest) < every_uid, "it does not begin from the top"
    assert set(fake.statuses()) == {200}


@pytest.mark.parametrize("version", LIST_VERSIONS)
async def test_several_parts_of_the_list_are_read_in_either_version(
    version: ListVersion, fake: FakeCalCom, api: CalComApi
) -> None:
    fake.now = lambda: NOON + timedelta(hours=150)
    found = set(await uids(api, Filter(statuses=("past", "cancelled")), version=version, rows=50))
    past = {b["uid"] for b in fake.bookings if b["status"] != "cancelled" and b["end"] < instant(fake.now())}
    cancelled = {b["uid"] for b in fake.bookings if b["status"] == "cancelled"}
    assert past
    assert found == past | cancelled
    assert set(fake.statuses()) == {200}


async def test_only_what_changed_since_then_is_listed_the_moment_itself_included(
    fake: FakeCalCom, api: CalComApi
) -> None:
    since, until = (datetime.fromisoformat(fake.bookings[number]["updatedAt"]) for number in (290, 295))
    found = await uids(api, Filter(after_updated_at=since, before_updated_at=until))
    assert sorted(found) == [f"uid{number:05}" for number in range(290, 296)]
    elsewhere = since.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert set(await uids(api, Filter(after_updated_at=elsewhere))) == {f"uid{n:05}" for n in range(290, 300)}
    chosen = Filter(
        event_type_ids=(7, 8),
        attendee_email="guest4@example.com",
        after_start=NOON,
        before_end=NOON + timedelta(days=9),
        after_created_at=NOON - timedelta(days=99),
        before_created_at=NOON,
        sort="sortStart",
        direction="desc",
    )
    for version in LIST_VERSIONS:
        assert await uids(api, chosen, version=version) == ["uid00004"]


@pytest.mark.parametrize("unknown_version", ["first_version", "404", "400"])
async def test_the_version_is_the_one_that_the_server_knows(unknown_version: Any, fake: FakeCalCom, time: Time) -> None:
    fake.unknown_version = unknown_version
    for known in LIST_VERSIONS:
        fake.versions = (known,)
        async with asking(fake, time) as api:
            for _ in range(2):
                assert set(await uids(api)) == uids_of(fake)
            [found] = await api.get_booking("uid00007")
            assert found.uid == "uid00007"
            fake.requests.clear()
            assert {page.place.version async for page in api.list_bookings()} == {known}
            assert {seen.version for seen in fake.requests} == {known}, "and it is not looked for again"
            other = next(version for version in LIST_VERSIONS if version != known)
            with pytest.raises((CalComRejected, CalComUnreadable)):
                await uids(api, version=other)
    fake.versions = ()
    async with asking(fake, time) as api:
        with pytest.raises((CalComRejected, CalComUnreadable)):
            await uids(api)
        with pytest.raises((CalComRejected, CalComUnreadable)):
            await api.get_booking("uid00007")


# Lists that change while they are read


async def test_rows_that_move_between_two_pages_are_not_passed_over(fake: FakeCalCom, api: CalComApi) -> None:
    def move_many() -> None:
        for number in range(40):
            fake.change(f"uid{number:05}", title="moved to the end")

    fake.faults.extend([None, None, move_many])
    assert set(await uids(api, version="2024-08-13", rows=20)) == uids_of(fake)
    skips = [int(seen.query["skip"]) for seen in fake.requests]
    assert any(later < earlier for earlier, later in itertools.pairwise(skips)), "the walk stepped back"


async def test_a_row_that_slips_to_where_all_was_read_already_is_found_by_counting(
    fake: FakeCalCom, api: CalComApi
) -> None:
    late = dict(bookings(301)[-1])

    def add_at_the_top() -> None:
        fake.bookings.append(late | {"start": instant(NOON - timedelta(days=1))})

    fake.faults.extend([None, None, add_at_the_top])
    found = await uids(api, Filter(sort="sortStart"), version="2024-08-13", rows=50)
    assert set(found) == uids_of(fake)
    assert late["uid"] in found


async def test_a_change_that_a_replica_shows_late_is_seen_when_it_shows(fake: FakeCalCom, api: CalComApi) -> None:
    fake.list_lag_requests = 2
    fake.change("uid00005", title="changed")
    [booking] = await api.get_booking("uid00005")
    assert json.loads(bytes(booking.raw))["title"] == "changed"
    titles = []
    for _ in range(3):
        pages = [page async for page in api.list_bookings(Filter(booking_uid="uid00005"))]
        titles += [json.loads(bytes(booking.raw))["title"] for page in pages for booking in page.bookings]
    assert titles == ["Visit 5 🐾", "Visit 5 🐾", "changed"]


# Single bookings


async def test_one_booking_a_whole_series_or_none(fake: FakeCalCom, api: CalComApi) -> None:
    for number in (3, 4, 5):
        fake.bookings[number]["recurringBookingUid"] = "series"
    assert [booking.uid for booking in await api.get_booking("uid00003")] == ["uid00003"]
    assert [booking.uid for booking in await api.get_booking("series")] == ["uid00003", "uid00004", "uid00005"]
    for nobody in ("nobody", "a/b?c=d#e", "..", "../me", "%2e%2e", "ü 🐾"):
        assert await api.get_booking(nobody) == []
    asked = [seen.path for seen in fake.requests]
    assert all(path.startswith("/v2/bookings/") for path in asked), "a uid never leads elsewhere"


async def test_every_request_names_its_version_and_carries_the_key(fake: FakeCalCom, api: CalComApi) -> None:
    assert (await api.me()).username == "studio"
    await api.get_booking("uid00001")
    await uids(api)
    assert {seen.headers["authorization"] for seen in fake.requests} == {f"Bearer {KEY}"}
    assert {seen.version for seen in fake.requests} == {"2024-08-13"}
    assert set(fake.statuses()) == {200}


# Wrong answers

PASSING: list[Fault] = [
    Fault(kind="too_many"),
    Fault(kind="html", status=502),
    Fault(kind="html", status=200),
    Fault(kind="error", status=500),
    Fault(kind="error", status=503),
    Fault(kind="truncated"),
    Fault(kind="cut_off"),
    Fault(kind="reset"),
    Fault(kind="lost"),
    Fault(kind="shape"),
]


def fault_name(fault: Fault) -> str:
    return f"{fault.kind} {fault.status}"


@pytest.mark.parametrize("version", LIST_VERSIONS)
@pytest.mark.parametrize("fault", PASSING, ids=fault_name)
async def test_a_wrong_answer_that_passes_leaves_no_trace(
    fault: Fault, version: ListVersion, fake: FakeCalCom, api: CalComApi
) -> None:
    fake.faults.extend([None, fault, None, fault])
    pages = [page async for page in api.list_bookings(version=version, rows=90)]
    assert {booking.uid for page in pages for booking in page.bookings} == uids_of(fake)
    assert all(page.bookings for page in pages), "no page is applied in part"
    assert len(fake.requests) == len(pages) + 2


ENDINGS: dict[FaultKind, tuple[type[BookingLedgerError], str]] = {
    "too_many": (CalComUnavailable, "429"),
    "html": (CalComUnavailable, "502, an HTML page"),
    "error": (CalComUnavailable, "502, Internal server error"),
    "truncated": (CalComUnreadable, "no whole JSON document"),
    "cut_off": (CalComUnavailable, "RemoteProtocolError"),
    "reset": (CalComUnavailable, "Error"),
    "lost": (CalComUnavailable, "Error"),
    "shape": (CalComUnreadable, "another shape"),
}


@pytest.mark.parametrize("kind", ENDINGS)
async def test_a_wrong_answer_that_stays_ends_in_a_sentence_after_a_bounded_number_of_tries(
    kind: FaultKind, fake: FakeCalCom, api: CalComApi, time: Time
) -> None:
    fake.faults.extend([Fault(kind=kind)] * 50)
    expected, words = ENDINGS[kind]
    with pytest.raises(expected, match=words) as refused:
        await uids(api)
    assert str(refused.value).endswith(".")
    assert "GET /bookings" in str(refused.value)
    attempts_max = transport.UNREADABLE_ATTEMPTS_MAX if expected is CalComUnreadable else transport.ATTEMPTS_MAX
    assert len(fake.requests) == attempts_max
    assert time.now > 1, "with pauses between"


async def test_a_server_that_does_not_answer_is_given_up_in_time(fake: FakeCalCom, time: Time) -> None:
    fake.faults.extend([Fault(kind="slow")] * 4)
    async with asking(fake, time, timeouts=HASTY, attempts_max=2) as api:
        with pytest.raises(CalComUnavailable, match="ReadTimeout"):
            await api.me()
    async with asking(fake, time, answer_seconds_max=0.2, attempts_max=2) as api:
        with pytest.raises(CalComUnavailable, match="TimeoutError"):
            await api.me()
        assert (await api.me()).id == 7
    assert len(fake.requests) == 5


async def test_nobody_at_the_address_is_a_sentence_too(time: Time) -> None:
    with fake_calcom() as gone:
        pass
    async with asking(gone, time) as api:
        with pytest.raises(CalComUnavailable, match=r"GET /me .*ConnectError"):
            await api.me()


@pytest.mark.parametrize("status", [401, 403, 498])
async def test_a_refused_key_is_told_to_the_operator_at_once(status: int, fake: FakeCalCom, api: CalComApi) -> None:
    fake.faults.append(Fault(kind="error", status=status))
    with structlog.testing.capture_logs() as logs, pytest.raises(CalComKeyRefused, match=f"{status}") as refused:
        await uids(api)
    assert refused.value.status == status
    assert "CAL_COM_API_KEY" in str(refused.value)
    assert len(fake.requests) == 1
    assert KEY not in str(refused.value) + repr(api) + str(logs)


async def test_a_wrong_key_is_refused_by_the_server_itself(fake: FakeCalCom, time: Time) -> None:
    async with asking(fake, time, key="cal_wrong") as api:
        with pytest.raises(CalComKeyRefused, match="make a key in Cal"):
            await api.me()


async def test_a_redirect_is_not_followed_with_our_key(fake: FakeCalCom, api: CalComApi) -> None:
    fake.faults.append(Fault(kind="redirect"))
    with pytest.raises(CalComUnreadable, match="a redirect to another address"):
        await api.me()
    assert len(fake.requests) == 1


async def test_an_answer_without_end_is_not_swallowed(
    fake: FakeCalCom, api: CalComApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES_MAX", 20_000)
    with pytest.raises(CalComUnreadable, match=r"larger than 20,000 bytes"):
        await uids(api, rows=250)
    assert len(await uids(api, rows=20)) >= 300
    assert len(fake.requests) > 2


async def test_what_cal_com_says_no_to_is_not_asked_again(fake: FakeCalCom, api: CalComApi) -> None:
    with pytest.raises(CalComRejected, match=r"400, status property is wrong") as refused:
        await uids(api, Filter(statuses=("lost",)), version="2024-08-13")  # type: ignore[arg-type]  # as it is meant
    assert refused.value.status == 400
    assert fake.statuses() == [400]


async def test_a_post_whose_fate_is_unknown_is_not_sent_twice(fake: FakeCalCom, api: CalComApi) -> None:
    fields = {"active": True, "subscriberUrl": "https://ledger.example.com/hook", "triggers": ["BOOKING_CREATED"]}
    fake.faults.append(Fault(kind="lost"))
    with pytest.raises(CalComUnavailable):
        await api.create_webhook(WebhookOwner(event_type=7), fields)
    assert len(fake.webhooks) == len(fake.requests) == 1
    fake.faults.append(Fault(kind="too_many"))
    await api.create_webhook(WebhookOwner(event_type=7), fields)
    assert fake.statuses()[1:] == [429, 201], "after a refusal it may be"


def test_what_we_sent_is_never_told_back_by_an_error() -> None:
    error = {
        "code": "BadRequestException",
        "message": "Bad Request Exception",
        "details": {
            "errors": [
                {
                    "target": {"secret": "hunter2"},
                    "value": "hunter2",
                    "property": "secret",
                    "children": [],
                    "constraints": {"isString": "secret must be a string"},
                }
            ]
        },
    }
    told = read_error(msgspec.json.encode({"status": "error", "error": error}))
    assert told.reason == "Bad Request Exception: secret must be a string"
    assert "hunter2" not in repr(told)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"no"', b"<html>", b"\xff", b"{" * 5_000, b"[" * 100_000, b'{"error":{"message":7}}']
)
def test_any_bytes_at_all_are_an_error_with_a_reason(body: bytes) -> None:
    assert read_error(body).reason
    with pytest.raises(Unreadable):
        read_page(body, version="2024-08-13")


PAGE = b'{"status":"success","data":[%s],"pagination":{"totalItems":1,"hasNextPage":false}}'
BROKEN_ROWS: Sequence[bytes] = (
    b'{"uid":"a"},{}',
    b'{"uid":7}',
    b'{"uid":""}',
    b'"a"',
    b"null",
    b'{"uid":"a","title":"\xff"}',
    b'{"uid":"a","updatedAt":5}',
)


@pytest.mark.parametrize("rows", BROKEN_ROWS)
def test_a_page_with_one_row_that_is_no_booking_is_no_page(rows: bytes) -> None:
    assert len(read_page(PAGE % b'{"uid":"a"}', version="2024-08-13").bookings) == 1
    with pytest.raises(Unreadable):
        read_page(PAGE % rows, version="2024-08-13")


CURSOR_LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "more without a cursor": lambda pagination: pagination.update(hasMore=True, nextCursor=None),
    "neither kind": lambda pagination: pagination.clear(),
    "both kinds": lambda pagination: pagination.update(hasNextPage=True),
}


def test_a_page_in_the_other_versions_shape_is_no_page_of_this_one() -> None:
    by_offset = PAGE % b""
    by_cursor = b'{"status":"success","data":[],"pagination":{"nextCursor":null,"hasMore":false}}'
    offsets, cursors = LIST_VERSIONS
    for body, right, wrong in ((by_offset, offsets, cursors), (by_cursor, cursors, offsets)):
        assert read_page(body, version=right).bookings == ()
        with pytest.raises(OtherVersion):
            read_page(body, version=wrong)


@pytest.mark.parametrize("lie", CURSOR_LIES)
def test_a_pagination_that_contradicts_itself_is_no_page(lie: str) -> None:
    pagination: dict[str, Any] = {"hasMore": False, "nextCursor": None}
    document = {"status": "success", "data": [], "pagination": pagination}
    assert not read_page(msgspec.json.encode(document), version="2026-05-01").more
    CURSOR_LIES[lie](pagination)
    with pytest.raises(Unreadable):
        read_page(msgspec.json.encode(document), version="2026-05-01")
