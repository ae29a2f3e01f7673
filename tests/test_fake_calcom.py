"""The fake Cal.com is as strict as it says: what it lets pass, Cal.com would."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.fake_calcom import KEY, FakeCalCom, Fault, fake_calcom
from tests.fake_calcom_answers import HOSTED_TRIGGERS, SPEC_TRIGGERS

BOOKING = {
    "id": 1,
    "uid": "uidAAA",
    "title": "Visit",
    "status": "accepted",
    "start": "2026-12-01T09:00:00.000Z",
    "end": "2026-12-01T09:30:00.000Z",
    "eventTypeId": 7,
    "eventType": {"id": 7, "slug": "visit"},
    "location": "integrations:daily",
    "absentHost": False,
    "hosts": [{"email": "host@example.com"}],
    "attendees": [{"email": "a@example.com", "absent": False}],
    "rescheduledToUid": None,
    "metadata": {},
    "guests": [],
}
"""As in the samples: without `createdAt`, `updatedAt`, `duration`."""

NEW = "2024-08-13"
WEBHOOK: dict[str, Any] = {
    "active": True,
    "subscriberUrl": "https://ledger.example.com/api/webhooks/cal-com",
    "triggers": ["BOOKING_CREATED"],
    "secret": "hush",
}


@pytest.fixture
def fake() -> Iterator[FakeCalCom]:
    with fake_calcom([BOOKING | {"id": number, "uid": f"uid{number}"} for number in range(1, 31)]) as server:
        yield server


@pytest.fixture
def http(fake: FakeCalCom) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}", "cal-api-version": NEW}
    with httpx.Client(base_url=fake.url, headers=headers, trust_env=False) as client:
        yield client


def assert_refused(answer: httpx.Response, status: int, code: str) -> str:
    """In Cal.com's error body; returns its message."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"status", "timestamp", "path", "error"}
    assert (told["status"], told["error"]["code"]) == ("error", code)
    assert told["path"].startswith("/v2/")
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None
    assert answer.headers["x-request-id"]
    message: str = told["error"]["message"]
    return message


def test_a_booking_is_served_with_all_that_a_booking_always_has(http: httpx.Client) -> None:
    answer = http.get("/bookings", params={"take": 1, "skip": 29}).json()
    [booking] = answer["data"]
    assert booking.items() >= (BOOKING | {"id": 30, "uid": "uid30"}).items()
    assert booking["duration"] == 30
    assert datetime.fromisoformat(booking["createdAt"]) <= datetime.fromisoformat(booking["updatedAt"])
    assert answer["pagination"] == {
        "totalItems": 30,
        "remainingItems": 0,
        "returnedItems": 1,
        "itemsPerPage": 1,
        "currentPage": 30,
        "totalPages": 30,
        "hasNextPage": False,
        "hasPreviousPage": True,
    }
    assert http.get("/bookings/uid7").json()["data"]["uid"] == "uid7"
    assert_refused(http.get("/bookings/nobody"), 404, "NotFoundException")


WRONG_QUERIES = [
    {"take": "251"},
    {"take": "0"},
    {"take": "many"},
    {"skip": "-1"},
    {"limit": "50"},
    {"page": "2"},
    {"status": "accepted"},
    {"afterUpdatedAt": "yesterday"},
    {"afterUpdatedAt": "1764579600"},
    {"beforeEnd": "01/12/2026"},
    {"sortUpdatedAt": "up"},
]


@pytest.mark.parametrize("query", WRONG_QUERIES, ids=str)
def test_a_wrong_query_is_refused(query: dict[str, str], http: httpx.Client) -> None:
    message = assert_refused(http.get("/bookings", params=query), 400, "BadRequestException")
    assert message.startswith(f"{next(iter(query))} property is wrong,")


def test_the_cursor_version_takes_one_status_a_limit_of_100_and_its_own_cursors(http: httpx.Client) -> None:
    http.headers["cal-api-version"] = "2026-05-01"
    for query in ({"status": "past,upcoming"}, {"limit": "101"}, {"take": "1"}, {"cursor": "what?"}):
        assert_refused(http.get("/bookings", params=query), 400, "BadRequestException")
    first = http.get("/bookings", params={"limit": "20"}).json()
    assert first["pagination"]["hasMore"]
    rest = http.get("/bookings", params={"limit": "20", "cursor": first["pagination"]["nextCursor"]}).json()
    assert rest["pagination"] == {"nextCursor": None, "hasMore": False}
    assert len({booking["uid"] for booking in first["data"] + rest["data"]}) == 30


def test_without_a_version_it_answers_as_it_did_in_the_beginning_or_not_at_all(
    http: httpx.Client, fake: FakeCalCom
) -> None:
    for version in ("", "2024-08-14"):
        http.headers["cal-api-version"] = version
        fake.unknown_version = "first_version"
        data = http.get("/bookings").json()["data"]
        assert data["bookings"][0]["startTime"] == BOOKING["start"]
        fake.unknown_version = "404"
        assert assert_refused(http.get("/bookings"), 404, "NotFoundException") == "Cannot GET /v2/bookings"


def test_a_wrong_key_and_an_unknown_route_are_refused(http: httpx.Client) -> None:
    assert_refused(http.get("/nothing"), 404, "NotFoundException")
    assert_refused(http.get("/me", headers={"authorization": "Bearer cal_other"}), 401, "UnauthorizedException")
    del http.headers["authorization"]
    assert_refused(http.get("/bookings"), 401, "UnauthorizedException")


def test_the_121st_request_in_a_minute_is_refused_and_so_are_all_for_a_minute_more() -> None:
    now = 0.0
    with (
        fake_calcom([BOOKING], clock=lambda: now) as fake,
        httpx.Client(base_url=fake.url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False) as http,
    ):
        answers = [http.get("/me") for _ in range(120)]
        assert [answer.headers["x-ratelimit-remaining-default"] for answer in answers[:2]] == ["119", "118"]
        now = 50.0
        assert_refused(http.get("/me"), 429, "ThrottlerException")
        now = 109.0
        assert http.get("/me").status_code == 429
        now = 110.0
        answer = http.get("/me")
        assert (answer.status_code, answer.headers["x-ratelimit-remaining-default"]) == (200, "119")


def test_faults_come_in_the_order_given_and_then_it_answers_well(http: httpx.Client, fake: FakeCalCom) -> None:
    fake.faults.extend([Fault(kind="html"), None, Fault(kind="reset"), fake.bookings.clear])
    assert http.get("/me").headers["content-type"] == "text/html"
    assert http.get("/bookings/uid7").status_code == 200
    with pytest.raises(httpx.TransportError):
        http.get("/me")
    assert http.get("/bookings/uid7").status_code == 404
    assert fake.statuses() == [502, 200, 0, 404]


# Webhooks


def test_webhooks_are_made_read_changed_and_deleted_under_a_textual_id(http: httpx.Client) -> None:
    made = http.post("/webhooks", json=WEBHOOK)
    assert made.status_code == 201
    webhook = made.json()["data"]
    assert isinstance(webhook["id"], str)
    assert webhook.items() >= {**WEBHOOK, "payloadTemplate": None, "userId": 7}.items()
    assert http.get("/webhooks").json()["data"] == [webhook]
    assert http.get("/event-types/7/webhooks").json()["data"] == []
    path = f"/webhooks/{webhook['id']}"
    assert http.patch(path, json={"active": False}).json()["data"] == webhook | {"active": False}
    assert http.delete(path).status_code == 200
    assert_refused(http.get(path), 404, "NotFoundException")


WRONG_WEBHOOKS: list[dict[str, Any]] = [
    {"triggers": ["BOOKING_CREATED", "BOOKING_CONFIRMED"]},
    {"triggers": "BOOKING_CREATED"},
    {"active": "yes"},
    {"subscriberUrl": "http://ledger.example.com/"},
    {"subscriberUrl": "https://127.0.0.1/"},
    {"subscriberUrl": "https://localhost/"},
    {"events": []},
    {"triggers": ["AFTER_HOSTS_CAL_VIDEO_NO_SHOW"]},
    {"triggers": ["AFTER_HOSTS_CAL_VIDEO_NO_SHOW"], "time": 5, "timeUnit": "FORTNIGHT"},
]


@pytest.mark.parametrize("fields", WRONG_WEBHOOKS, ids=str)
def test_a_wrong_webhook_is_refused(fields: dict[str, Any], http: httpx.Client) -> None:
    assert_refused(http.post("/webhooks", json=WEBHOOK | fields), 400, "BadRequestException")
    assert http.get("/webhooks").json()["data"] == []


def test_the_same_address_twice_for_a_user_is_a_conflict_and_for_an_event_type_it_is_none(http: httpx.Client) -> None:
    statuses = [http.post(path, json=WEBHOOK).status_code for path in ("/webhooks", "/event-types/7/webhooks") * 2]
    assert statuses == [201, 201, 409, 201]


def test_it_knows_the_triggers_of_the_release_that_it_plays(http: httpx.Client, fake: FakeCalCom) -> None:
    timed = {"time": 5, "timeUnit": "MINUTE"}
    assert (len(HOSTED_TRIGGERS), len(SPEC_TRIGGERS)) == (28, 21)
    assert http.post("/webhooks", json=WEBHOOK | timed | {"triggers": HOSTED_TRIGGERS}).status_code == 201
    fake.triggers, fake.hosted = SPEC_TRIGGERS, False
    for wrong in ({"triggers": HOSTED_TRIGGERS}, timed):
        assert_refused(http.post("/event-types/7/webhooks", json=WEBHOOK | wrong), 400, "BadRequestException")
    nearby = {"triggers": SPEC_TRIGGERS, "subscriberUrl": "http://127.0.0.1:8000/"}
    assert http.post("/event-types/7/webhooks", json=WEBHOOK | nearby).status_code == 201
