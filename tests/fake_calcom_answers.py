"""What the fake Cal.com of tests/fake_calcom.py answers: its routes, what they refuse, the documents they give."""

import base64
import functools
import http
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

if TYPE_CHECKING:
    from tests.fake_calcom import FakeCalCom, Seen

SPEC_TRIGGERS = (
    "BOOKING_CREATED", "BOOKING_PAYMENT_INITIATED", "BOOKING_PAID", "BOOKING_RESCHEDULED", "BOOKING_REQUESTED",
    "BOOKING_CANCELLED", "BOOKING_REJECTED", "BOOKING_NO_SHOW_UPDATED", "FORM_SUBMITTED", "MEETING_ENDED",
    "MEETING_STARTED", "RECORDING_READY", "INSTANT_MEETING", "RECORDING_TRANSCRIPTION_GENERATED", "OOO_CREATED",
    "AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "AFTER_GUESTS_CAL_VIDEO_NO_SHOW", "FORM_SUBMITTED_NO_EVENT",
    "ROUTING_FORM_FALLBACK_HIT", "DELEGATION_CREDENTIAL_ERROR", "WRONG_ASSIGNMENT_REPORT",
)  # fmt: skip
"""The enum of the OpenAPI document of March 2026."""

HOSTED_TRIGGERS = (
    *SPEC_TRIGGERS, "BOOKING_LOCATION_UPDATED", "BOOKING_REASSIGNED", "INSTANT_MEETING_ACCEPTED",
    "CALENDAR_ENTRY_REJECTED", "DELEGATION_CREDENTIAL_SECRET_ROTATION_FAILED",
    "DELEGATION_CREDENTIAL_ROTATION_REQUIRED", "DELEGATION_CREDENTIAL_SECRET_ROTATED",
)  # fmt: skip

STATUSES = ("upcoming", "recurring", "past", "cancelled", "unconfirmed")
FILTERS = {
    *("status", "attendeeEmail", "attendeeName", "bookingUid", "eventTypeIds", "eventTypeId", "teamsIds", "teamId"),
    *("afterStart", "beforeEnd", "afterCreatedAt", "beforeCreatedAt", "afterUpdatedAt", "beforeUpdatedAt"),
    *("sortStart", "sortEnd", "sortCreated", "sortUpdatedAt"),
}
PAGING = {"2024-08-13": {"take", "skip"}, "2026-05-01": {"limit", "cursor"}}
SINGLE_VERSION = {"2024-08-13": "2024-08-13", "2026-05-01": "2026-02-25"}
DATES = {
    "afterStart": ("start", 1), "beforeEnd": ("end", -1), "afterCreatedAt": ("createdAt", 1),
    "beforeCreatedAt": ("createdAt", -1), "afterUpdatedAt": ("updatedAt", 1), "beforeUpdatedAt": ("updatedAt", -1),
}  # fmt: skip
SORTS = {"sortStart": "start", "sortEnd": "end", "sortCreated": "createdAt", "sortUpdatedAt": "updatedAt"}
ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?")

WEBHOOK_ROUTE = re.compile(
    r"/v2/(webhooks|event-types/\d+/webhooks|teams/\d+/event-types/\d+/webhooks|organizations/\d+/webhooks)(?:/(.+))?"
)
WEBHOOK_FIELDS = {
    "active": bool, "subscriberUrl": str, "triggers": list, "payloadTemplate": str, "secret": str, "version": str,
}  # fmt: skip
TIMED_FIELDS = {"time": int, "timeUnit": str}
OWNER_FIELDS = {"event-types": "eventTypeId", "organizations": "teamId"}
REQUIRED_FIELDS = ("active", "subscriberUrl", "triggers")
TIME_UNITS = ("DAY", "HOUR", "MINUTE")

LATEST = datetime.max.replace(tzinfo=UTC)

Json = dict[str, Any]


class Reply:
    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.body = status, body
        self.headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}


class Refusal(Exception):
    """An error in the body that Cal.com's exception filter gives it; `details` beside what always stands there."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        self.status, self.code, self.message, self.details = status, code, message, details
        super().__init__(message)

    def reply(self, path: str) -> Reply:
        return Reply(self.status, error_body(path, self.code, self.message, status=self.status, **self.details))


def error_body(path: str, code: str, message: str, *, status: int = 500, **details: Any) -> bytes:
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "Error"
    told = {"message": message, "error": phrase, "statusCode": status, **details}
    error = {"code": code, "message": message, "details": told}
    return msgspec.json.encode(
        {"status": "error", "timestamp": milliseconds(datetime.now(UTC)), "path": path, "error": error}
    )


def invalid(name: str, rule: str, *, target: object = None, value: object = None) -> Refusal:
    """What its validation says of one property; in the details it repeats what was sent, as the real one does."""
    error = {"target": target, "value": value, "property": name, "children": [], "constraints": {"rule": rule}}
    return Refusal(400, "BadRequestException", f"{name} property is wrong,{rule}", errors=[error])


def milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


@functools.lru_cache(maxsize=100_000)
def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Routes


def answer(fake: "FakeCalCom", seen: "Seen") -> Reply:
    """Raises Refusal."""
    if seen.headers.get("authorization") != f"Bearer {fake.key}":
        raise Refusal(401, "UnauthorizedException", "ApiAuthStrategy - api key - Your api key is not valid")
    if seen.path == "/v2/me" and seen.method == "GET":
        return _success(
            {
                "id": 7, "username": "studio", "email": "studio@example.com", "name": "Studio", "avatarUrl": None,
                "bio": None, "timeFormat": 24, "defaultScheduleId": None, "weekStart": "Monday",
                "timeZone": "Europe/London", "organizationId": None,
            }
        )  # fmt: skip
    if seen.path == "/v2/bookings" and seen.method == "GET":
        return _list(fake, seen)
    if seen.path.startswith("/v2/bookings/") and seen.method == "GET":
        return _single(fake, seen, seen.path.removeprefix("/v2/bookings/"))
    match = WEBHOOK_ROUTE.fullmatch(seen.path)
    if match:
        return _webhooks(fake, seen, match[1], match[2])
    raise _unknown_route(seen)


def _unknown_route(seen: "Seen") -> Refusal:
    return Refusal(404, "NotFoundException", f"Cannot {seen.method} {seen.path}")


def _success(data: object, *, status: int = 200, **more: object) -> Reply:
    return Reply(status, msgspec.json.encode({"status": "success", "data": data, **more}))


def _in_unknown_version(fake: "FakeCalCom", seen: "Seen", data: object) -> Reply:
    if fake.unknown_version == "404":
        raise _unknown_route(seen)
    if fake.unknown_version == "400":
        raise Refusal(400, "BadRequestException", f"Invalid cal-api-version {seen.version}")
    return _success(data)


# Bookings


def _list(fake: "FakeCalCom", seen: "Seen") -> Reply:
    version = seen.version
    listed = fake.listed()
    if version not in fake.versions or version not in PAGING:
        first_version = [_of_first_version(served(fake, booking)) for booking in listed]
        return _in_unknown_version(
            fake, seen, {"bookings": first_version, "recurringInfo": [], "totalCount": len(listed), "nextCursor": None}
        )
    _check_query(seen.query, known=FILTERS | PAGING[version])
    statuses = [status for status in seen.query.get("status", "").split(",") if status]
    for status in statuses:
        if status not in STATUSES:
            raise invalid("status", f"Invalid status. Allowed are {', '.join(STATUSES)}.")
    choosing = seen.query.keys() - PAGING[version] - SORTS.keys()
    rows = [row for row in listed if _is_chosen(fake, row, seen.query, statuses)] if choosing else listed
    if version == "2026-05-01":
        if len(statuses) > 1:
            raise invalid("status", "only one status can be given")
        return _cursor_page(fake, rows, seen.query)
    return _offset_page(fake, _sorted(fake, rows, seen.query), seen.query)


def _offset_page(fake: "FakeCalCom", rows: list[Json], query: Mapping[str, str]) -> Reply:
    take = _number(query, "take", default=100, least=1, most=250)
    skip = _number(query, "skip", default=0, least=0)
    page = rows[skip : skip + take]
    total = len(rows)
    pagination = {
        "totalItems": total,
        "remainingItems": max(0, total - (skip + len(page))),
        "returnedItems": len(page),
        "itemsPerPage": take,
        "currentPage": skip // take + 1,
        "totalPages": -(-total // take),
        "hasNextPage": skip + take < total,
        "hasPreviousPage": skip > 0,
    }
    return _success([served(fake, row) for row in page], pagination=pagination)


def _cursor_page(fake: "FakeCalCom", rows: list[Json], query: Mapping[str, str]) -> Reply:
    limit = _number(query, "limit", default=50, least=1, most=100)
    rows = sorted(rows, key=itemgetter("uid"))
    if "cursor" in query:
        try:
            after = base64.urlsafe_b64decode(query["cursor"]).decode()
        except ValueError:
            raise invalid("cursor", "Invalid cursor") from None
        rows = [booking for booking in rows if booking["uid"] > after]
    page = rows[:limit]
    more = len(rows) > limit
    cursor = base64.urlsafe_b64encode(page[-1]["uid"].encode()).decode() if more else None
    return _success([served(fake, row) for row in page], pagination={"nextCursor": cursor, "hasMore": more})


def _single(fake: "FakeCalCom", seen: "Seen", uid: str) -> Reply:
    found = [served(fake, booking) for booking in fake.bookings if booking["uid"] == uid]
    series = [served(fake, booking) for booking in fake.bookings if booking.get("recurringBookingUid") == uid]
    if seen.version not in [SINGLE_VERSION[version] for version in fake.versions]:
        return _in_unknown_version(fake, seen, _of_first_version(found[0]) if found else None)
    if not found and not series:
        raise Refusal(404, "NotFoundException", f"Booking with uid={uid} was not found in the database")
    return _success(found[0] if found else series)


def served(fake: "FakeCalCom", booking: Json) -> Json:
    """The booking with all that a booking always has.

    Where it has no times of its own it was made a week before its start at the latest, and updated when the server was
    opened.
    """
    minutes = (instant(booking["end"]) - instant(booking["start"])) // timedelta(minutes=1)
    times = {name: field(fake, booking, name) for name in ("createdAt", "updatedAt")}
    return {"description": "", "duration": minutes, **times, "bookingFieldsResponses": {}, **booking}


def field(fake: "FakeCalCom", booking: Json, name: str) -> Any:
    if name not in booking and name == "createdAt":
        return milliseconds(min(instant(booking["start"]) - timedelta(days=7), fake.opened_at))
    return milliseconds(fake.opened_at) if name not in booking and name == "updatedAt" else booking[name]


def _of_first_version(booking: Json) -> Json:
    """The shape of 2024-04-15."""
    renamed = {"startTime": booking["start"], "endTime": booking["end"], "status": booking["status"].upper()}
    return {**{name: booking[name] for name in ("id", "uid", "title", "description", "attendees")}, **renamed}


def _is_chosen(fake: "FakeCalCom", booking: Json, query: Mapping[str, str], statuses: Sequence[str]) -> bool:
    if statuses and not any(_has_status(booking, status, fake.now()) for status in statuses):
        return False
    for name, (key, sign) in DATES.items():
        if name in query:
            value = field(fake, booking, key)
            if value is None or sign * (instant(value) - instant(query[name])).total_seconds() < 0:
                return False
    emails = [attendee.get("email") for attendee in booking["attendees"]]
    type_ids = [
        number for name in ("eventTypeIds", "eventTypeId") for number in query.get(name, "").split(",") if number
    ]
    return (
        ("bookingUid" not in query or booking["uid"] == query["bookingUid"])
        and ("attendeeEmail" not in query or query["attendeeEmail"] in emails)
        and (not type_ids or str(booking["eventTypeId"]) in type_ids)
    )


def _has_status(booking: Json, status: str, now: datetime) -> bool:
    """Cal.com's five parts of the list, which overlap (CALCOM.md section 5.2)."""
    gone = booking["status"] in ("cancelled", "rejected")
    ahead = instant(booking["end"]) >= now
    return {
        "cancelled": gone,
        "past": not ahead and not gone,
        "upcoming": ahead and not gone,
        "recurring": ahead and not gone and bool(booking.get("recurringBookingUid")),
        "unconfirmed": ahead and booking["status"] == "pending",
    }[status]


def _sorted(fake: "FakeCalCom", rows: list[Json], query: Mapping[str, str]) -> list[Json]:
    """By what is asked for, then by id; an `updatedAt` of null is the greatest, as Postgres has it."""
    rows = sorted(rows, key=itemgetter("id"))
    for name, key in SORTS.items():
        if name in query:
            if query[name] not in ("asc", "desc"):
                raise invalid(name, 'must be either "asc" or "desc".')

            def place(booking: Json, key: str = key) -> datetime:
                value = field(fake, booking, key)
                return instant(value) if value else LATEST

            rows.sort(key=place, reverse=query[name] == "desc")
    return rows


def _check_query(query: Mapping[str, str], *, known: set[str]) -> None:
    for name, value in query.items():
        if name not in known:
            raise invalid(name, f"property {name} should not exist")
        if name in DATES and not ISO_8601.fullmatch(value):
            raise invalid(name, f"{name} must be a valid ISO 8601 date string")


def _number(query: Mapping[str, str], name: str, *, default: int, least: int, most: int | None = None) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"-?\d+", text):
        raise invalid(name, f"{name} must be a number")
    if int(text) < least:
        raise invalid(name, f"{name} must not be less than {least}")
    if most is not None and int(text) > most:
        raise invalid(name, f"{name} must not be greater than {most}")
    return int(text)


# Webhooks


def _webhooks(fake: "FakeCalCom", seen: "Seen", owner: str, webhook_id: str | None) -> Reply:
    mine = [webhook for webhook in fake.webhooks if webhook["owner"] == owner]
    if webhook_id is None:
        routes: dict[str, Callable[[], Reply]] = {
            "GET": lambda: _list_webhooks(fake, seen, mine),
            "POST": lambda: _create_webhook(fake, seen, owner, mine),
        }
        if owner != "webhooks":
            routes["DELETE"] = lambda: _delete_webhooks(fake, mine)
    else:
        found = next((webhook for webhook in mine if webhook["id"] == webhook_id), None)
        if found is None:
            raise Refusal(404, "NotFoundException", f"Webhook ({webhook_id}) not found")
        routes = {
            "GET": lambda: _success(_told(fake, found)),
            "PATCH": lambda: _update_webhook(fake, seen, found),
            "DELETE": lambda: _delete_webhooks(fake, [found]),
        }
    if seen.method not in routes:
        raise _unknown_route(seen)
    return routes[seen.method]()


def _list_webhooks(fake: "FakeCalCom", seen: "Seen", mine: list[Json]) -> Reply:
    _check_query(seen.query, known={"take", "skip"})
    take = _number(seen.query, "take", default=250, least=1, most=250)
    skip = _number(seen.query, "skip", default=0, least=0)
    return _success([_told(fake, webhook) for webhook in mine[skip : skip + take]])


def _create_webhook(fake: "FakeCalCom", seen: "Seen", owner: str, mine: list[Json]) -> Reply:
    given = _webhook_fields(fake, seen)
    for name in REQUIRED_FIELDS:
        if name not in given:
            raise invalid(name, f"{name} should not be empty", target=given)
    if owner == "webhooks" and any(webhook["subscriberUrl"] == given["subscriberUrl"] for webhook in mine):
        raise Refusal(409, "ConflictException", "Webhook with this subscriber url already exists for this user")
    webhook = {"payloadTemplate": None, "secret": None, **given, "id": str(uuid4()), "owner": owner}
    _check_times(fake, webhook)
    fake.webhooks.append(webhook)
    return _success(_told(fake, webhook), status=201)


def _update_webhook(fake: "FakeCalCom", seen: "Seen", webhook: Json) -> Reply:
    changed = webhook | _webhook_fields(fake, seen)
    _check_times(fake, changed)
    webhook.update(changed)
    return _success(_told(fake, webhook))


def _delete_webhooks(fake: "FakeCalCom", gone: list[Json]) -> Reply:
    fake.webhooks = [webhook for webhook in fake.webhooks if webhook not in gone]
    return _success(_told(fake, gone[0]) if len(gone) == 1 else f"{len(gone)} webhooks were deleted")


def _told(fake: "FakeCalCom", webhook: Json) -> Json:
    """As an answer has it: the owner by the name of its kind."""
    match = re.search(r"(event-types|organizations)/(\d+)", webhook["owner"])
    owner = {OWNER_FIELDS[match[1]]: int(match[2])} if match else {"userId": 7}
    hidden = {"owner", *(() if fake.hosted else TIMED_FIELDS)}
    return {**{name: value for name, value in webhook.items() if name not in hidden}, **owner}


def _webhook_fields(fake: "FakeCalCom", seen: "Seen") -> Json:
    """What is sent, checked field by field."""
    try:
        given = msgspec.json.decode(seen.body, type=Json)
    except msgspec.DecodeError:
        raise Refusal(400, "BadRequestException", "Unexpected token in JSON") from None
    fields = {**WEBHOOK_FIELDS, **(TIMED_FIELDS if fake.hosted else {})}
    for name in [name for name in given if name not in fields]:
        if fake.unknown_properties == "refused":
            raise invalid(name, f"property {name} should not exist", target=given, value=given[name])
        del given[name]
    for name, value in given.items():
        is_absent = value is None and name not in REQUIRED_FIELDS
        if not isinstance(value, fields[name]) and not is_absent:
            raise invalid(name, f"{name} must be a {fields[name].__name__}", target=given, value=value)
    _check_triggers(fake, given)
    if fake.hosted and "subscriberUrl" in given and not _is_public(given["subscriberUrl"]):
        raise invalid("subscriberUrl", "the webhook URL must be https, on a public host", target=given)
    return given


def _check_triggers(fake: "FakeCalCom", given: Json) -> None:
    unknown = [trigger for trigger in given.get("triggers", ()) if trigger not in fake.triggers]
    if not unknown:
        return
    if fake.trigger_refusals == "terse":
        raise Refusal(400, "BadRequestException", "Bad Request Exception")
    if fake.trigger_refusals == "names":
        raise Refusal(400, "BadRequestException", f"Not available on this plan: {', '.join(unknown)}")
    rule = f"each value in triggers must be one of the following values: {', '.join(fake.triggers)}"
    raise invalid("triggers", rule, target=given, value=given["triggers"])


def _check_times(fake: "FakeCalCom", webhook: Json) -> None:
    if fake.hosted and any(trigger.startswith("AFTER_") for trigger in webhook["triggers"]):
        if not isinstance(webhook.get("time"), int):
            raise invalid("time", "time is required for AFTER_ triggers", target=webhook)
        if webhook.get("timeUnit") not in TIME_UNITS:
            raise invalid("timeUnit", f"timeUnit must be one of the following values: {', '.join(TIME_UNITS)}")


def _is_public(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" and ip_address(host).is_global
    except ValueError:
        return parts.scheme == "https" and "." in host and not host.endswith((".local", ".internal"))
