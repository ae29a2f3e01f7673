"""What we ask Cal.com's API v2: bookings, whose key it is, webhooks (CALCOM.md section 5).

Every answer is read whole or is an error (`ledger/calcom/transport.py`). The version of the API is always named:
without it Cal.com answers in a shape of 2024, and says nothing.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import structlog

from ledger.calcom.answers import (
    Me,
    OtherVersion,
    Webhook,
    read_bookings,
    read_me,
    read_page,
    read_webhook,
    read_webhooks,
)
from ledger.calcom.filters import Filter, parameters_of, rows_of
from ledger.calcom.pacing import Pacing
from ledger.calcom.paging import (
    LIST_VERSIONS,
    Answered,
    ListedBooking,
    ListStatus,
    ListUnsteady,
    ListVersion,
    OffsetWalk,
    Place,
)
from ledger.calcom.transport import ANSWER_SECONDS_MAX, ATTEMPTS_MAX, Request, Transport
from ledger.errors import CalComRejected, CalComUnavailable, CalComUnreadable
from ledger.settings import Secret

REQUESTS_PER_MINUTE: Final = 120
"""What Cal.com allows a key (CALCOM.md section 5.6)."""

TIMEOUTS: Final = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=10.0)

BOOKING_VERSIONS: Final[dict[ListVersion, str]] = {"2024-08-13": "2024-08-13", "2026-05-01": "2026-02-25"}
"""The version that answers one booking on a server that answers lists in the other."""

WEBHOOKS_VERSION: Final = "2024-08-13"
"""Any will do."""

WEBHOOKS_PAGE_MAX: Final = 250
WEBHOOK_PAGES_MAX: Final = 40
BOOKINGS_PATH: Final = "/bookings"

Read = TypeVar("Read")

log = structlog.get_logger()


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """`bookings` as Cal.com answered them at `place`; `next_place` is where to go on, None: this was the last.

    `total` counts the whole list, where the version says.
    """

    place: Place
    bookings: tuple[ListedBooking, ...]
    next_place: Place | None
    total: int | None = None


class WebhookOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose webhooks: the account's own unless an event type, a team's event type or an organization is named."""

    event_type: int | None = None
    team: int | None = None
    organization: int | None = None

    @property
    def path(self) -> str:
        if self.organization is not None:
            return f"/organizations/{self.organization}/webhooks"
        if self.event_type is None:
            return "/webhooks"
        team = "" if self.team is None else f"/teams/{self.team}"
        return f"{team}/event-types/{self.event_type}/webhooks"


class CalComApi:
    """The API at `base_url` for one key. One object for one process, since it keeps to the rate limit.

    The httpx client is the caller's, with `TIMEOUTS`; so are the `clock` in seconds, `sleep`, and `jitter`, 0 to 1.
    """

    def __init__(
        self,
        base_url: str,
        key: Secret,
        *,
        client: httpx.AsyncClient,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        attempts_max: int = ATTEMPTS_MAX,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transport = Transport(
            base_url,
            key,
            client=client,
            pacing=Pacing(requests_per_minute=requests_per_minute),
            attempts_max=attempts_max,
            answer_seconds_max=answer_seconds_max,
            clock=clock,
            sleep=sleep,
            jitter=jitter,
        )
        self._version: ListVersion | None = None
        """The first that this server knew, once it was looked for."""

    async def me(self) -> Me:
        """Whose key it is: the cheapest way to learn whether it works."""
        return await self._transport.ask(Request(method="GET", path="/me", version=WEBHOOKS_VERSION), read_me)

    async def get_booking(self, uid: str) -> list[ListedBooking]:
        """The booking; each of its series, for a series' uid; nothing where there is none."""
        path = f"{BOOKINGS_PATH}/{quote(uid, safe='').replace('.', '%2E')}"
        for version in self._versions():
            try:
                request = Request(method="GET", path=path, version=BOOKING_VERSIONS[version])
                return await self._transport.ask(request, read_bookings)
            except OtherVersion:
                continue
            except CalComRejected as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                if not _is_unknown_route(error):
                    return []
        raise CalComUnreadable(f"GET {path}", "in no version of the API that we know")

    async def list_bookings(
        self,
        chosen: Filter | None = None,
        *,
        version: ListVersion | Literal["auto"] = "auto",
        rows: int | None = None,
        place: Place | None = None,
    ) -> AsyncIterator[Page]:
        """Every booking that is chosen, page by page; some more than once (`ledger/calcom/paging.py`).

        `auto` takes the version that the server knows. `rows` a page: at most 250, or 100 for 2026-05-01. With the
        `place` of an earlier page, of the same choice, the list is read on from there.
        """
        chosen = chosen or Filter()
        if place is None:
            place, first = await self._begin(chosen, version, rows)
        else:
            first = None
        pages = self._by_offset if place.version == "2024-08-13" else self._by_cursor
        async for page in pages(chosen, place, first, rows=rows_of(place.version, rows)):
            yield page

    async def _begin(
        self, chosen: Filter, version: ListVersion | Literal["auto"], rows: int | None
    ) -> tuple[Place, Answered]:
        """The first page, in the version asked for or the first that the server knows.

        A version that it does not know it refuses (400, 404) or passes over, answering in another shape.
        """
        refusal: CalComRejected | None = None
        for candidate in self._versions() if version == "auto" else (version,):
            status = chosen.statuses[0] if chosen.statuses and candidate == "2026-05-01" else None
            place = Place(version=candidate, status=status)
            try:
                answered = await self._ask_page(chosen, place, rows=rows_of(candidate, rows))
            except OtherVersion:
                continue
            except CalComRejected as error:
                if error.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                    raise
                refusal = refusal or error
            else:
                if version == "auto":
                    self._version = candidate
                return place, answered
        raise refusal or CalComUnreadable(f"GET {BOOKINGS_PATH}", "in no version of the API that we know")

    def _versions(self) -> tuple[ListVersion, ...]:
        return LIST_VERSIONS if self._version is None else (self._version,)

    async def _by_offset(
        self, chosen: Filter, place: Place, first: Answered | None, *, rows: int
    ) -> AsyncIterator[Page]:
        walk = OffsetWalk(rows=rows, skip=place.skip)
        skip: int | None = walk.skip
        while skip is not None:
            here = msgspec.structs.replace(place, skip=skip)
            answered, first = first or await self._ask_page(chosen, here, rows=rows), None
            try:
                skip = walk.next_skip(answered)
            except ListUnsteady:
                raise CalComUnavailable(f"GET {BOOKINGS_PATH}", "the list changes faster than it can be read") from None
            following = None if skip is None else msgspec.structs.replace(place, skip=skip)
            yield Page(place=here, bookings=answered.bookings, next_place=following, total=answered.total)
        if walk.unseen:
            log.warning("cal_com_list_short", unseen=walk.unseen)

    async def _by_cursor(
        self, chosen: Filter, place: Place, first: Answered | None, *, rows: int
    ) -> AsyncIterator[Page]:
        """One part of the list after the other, since this version takes one status at a time."""
        parts: tuple[ListStatus | None, ...] = chosen.statuses or (None,)
        here: Place | None = place
        while here is not None:
            answered, first = first or await self._ask_page(chosen, here, rows=rows), None
            if answered.cursor is not None and answered.cursor == here.cursor:
                raise CalComUnreadable(f"GET {BOOKINGS_PATH}", "a cursor that leads back to its own page")
            following: Place | None
            if answered.cursor is not None:
                following = msgspec.structs.replace(here, cursor=answered.cursor)
            else:
                rest = parts[parts.index(here.status) + 1 :]
                following = Place(version=here.version, status=rest[0]) if rest else None
            yield Page(place=here, bookings=answered.bookings, next_place=following)
            here = following

    async def _ask_page(self, chosen: Filter, place: Place, *, rows: int) -> Answered:
        request = Request(
            method="GET",
            path=BOOKINGS_PATH,
            version=place.version,
            parameters=parameters_of(chosen, place, rows=rows),
        )
        return await self._transport.ask(request, lambda body: read_page(body, version=place.version))

    async def list_webhooks(self, owner: WebhookOwner) -> list[Webhook]:
        found: list[Webhook] = []
        for number in range(WEBHOOK_PAGES_MAX):
            asked = (("take", str(WEBHOOKS_PAGE_MAX)), ("skip", str(number * WEBHOOKS_PAGE_MAX)))
            page = await self._webhooks("GET", owner.path, read_webhooks, parameters=asked)
            found += page
            if len(page) < WEBHOOKS_PAGE_MAX:
                break
        return found

    async def create_webhook(self, owner: WebhookOwner, fields: Mapping[str, object]) -> Webhook:
        """`fields` in Cal.com's names. Raises CalComRejected (400: not like this; 409: the URL has one already)."""
        return await self._webhooks("POST", owner.path, read_webhook, fields=fields)

    async def update_webhook(self, owner: WebhookOwner, webhook_id: str, fields: Mapping[str, object]) -> Webhook:
        """What is not among `fields` stays as it is. Raises CalComRejected."""
        return await self._webhooks("PATCH", _webhook_path(owner, webhook_id), read_webhook, fields=fields)

    async def delete_webhook(self, owner: WebhookOwner, webhook_id: str) -> None:
        """The webhook is gone. Raises CalComRejected (404: there was none)."""
        await self._webhooks("DELETE", _webhook_path(owner, webhook_id), lambda _: None)

    async def _webhooks(
        self,
        method: Literal["GET", "POST", "PATCH", "DELETE"],
        path: str,
        read: Callable[[bytes], Read],
        *,
        parameters: tuple[tuple[str, str], ...] = (),
        fields: Mapping[str, object] | None = None,
    ) -> Read:
        content = None if fields is None else msgspec.json.encode(fields)
        request = Request(method=method, path=path, version=WEBHOOKS_VERSION, parameters=parameters, content=content)
        return await self._transport.ask(request, read)


def _webhook_path(owner: WebhookOwner, webhook_id: str) -> str:
    return f"{owner.path}/{quote(webhook_id, safe='')}"


def _is_unknown_route(error: CalComRejected) -> bool:
    """Whether the server knows no such route in this version; else it knows no such booking."""
    return any(sentence.startswith("Cannot GET ") for sentence in error.sentences)
