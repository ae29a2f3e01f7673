"""What Cal.com's API answers, read from its bytes: pages, bookings, webhooks, errors, limits. Pure.

An answer is read whole or not at all: whatever does not fit raises Unreadable. Of a booking only its name is read here
and all its bytes are kept, since the log keeps what Cal.com said, not what we understood of it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from ledger.calcom.pacing import Allowance
from ledger.calcom.paging import Answered, ListedBooking, ListVersion
from ledger.calcom.payloads import Unreadable, read_instant
from ledger.vocabulary import BookingUid

REASON_CHARACTERS_MAX = 300
SENTENCES_MAX = 50
DEPTH_MAX = 8

_LIMIT_HEADER = re.compile(r"x-ratelimit-(remaining|reset)(?:-(.+))?", re.IGNORECASE)

Told = TypeVar("Told")


class OtherVersion(Exception):
    """The server answered as another version of its API does: it does not know the one that was asked for."""


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """Why Cal.com says no: in short for people; `sentences` is all it says, without what we had sent."""

    reason: str
    sentences: tuple[str, ...] = ()


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is."""

    id: int
    username: str | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A webhook as Cal.com has it. `secret` stands in clear in the answer, and is not told by repr()."""

    id: str | int
    """A uuid, though Cal.com's own document says number (CALCOM.md section 5.5)."""
    subscriber_url: str
    active: bool = False
    triggers: tuple[str, ...] = ()
    secret: str | None = None
    payload_template: str | None = None
    time: int | None = None
    time_unit: str | None = None

    def __repr__(self) -> str:
        return f"Webhook(id={self.id!r}, subscriber_url={self.subscriber_url!r})"


class _Envelope(msgspec.Struct):
    """What every answer comes in."""

    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    pagination: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Pagination(msgspec.Struct, rename="camel"):
    """Both versions' fields: `totalItems` and `hasNextPage`, or `hasMore` and `nextCursor`."""

    total_items: int | None = None
    has_next_page: bool | None = None
    has_more: bool | None = None
    next_cursor: str | None = None


class _Head(msgspec.Struct, rename="camel"):
    """What is read of a booking. Before 2024-08-13 `start` was called `startTime`."""

    uid: str
    updated_at: str | None = None
    start: str | None = None
    start_time: str | None = None


def read_page(body: bytes, *, version: ListVersion) -> Answered:
    """A page of bookings. Raises Unreadable, OtherVersion."""
    envelope = _open(body)
    if _is_first_version(envelope.data):
        raise OtherVersion
    rows = _decode(bytes(envelope.data), list[msgspec.Raw])
    pagination = _decode(bytes(envelope.pagination), _Pagination)
    by_cursor = pagination.has_more is not None
    by_offset = pagination.has_next_page is not None
    if by_cursor == by_offset:
        raise Unreadable("no pagination that is known")
    if by_cursor != (version == "2026-05-01"):
        raise OtherVersion
    if pagination.has_more and not pagination.next_cursor:
        raise Unreadable("more pages, and no cursor that leads to them")
    return Answered(
        bookings=tuple(_booking(row) for row in rows),
        total=pagination.total_items,
        more=bool(pagination.has_more or pagination.has_next_page),
        cursor=pagination.next_cursor if pagination.has_more else None,
    )


def read_bookings(body: bytes) -> list[ListedBooking]:
    """One booking, or each of a series. Raises Unreadable, OtherVersion."""
    data = _open(body).data
    rows = _decode(bytes(data), list[msgspec.Raw]) if bytes(data).lstrip()[:1] == b"[" else [data]
    return [_booking(row) for row in rows]


def read_me(body: bytes) -> Me:
    return _decode(bytes(_open(body).data), Me)


def read_webhook(body: bytes) -> Webhook:
    return _decode(bytes(_open(body).data), Webhook)


def read_webhooks(body: bytes) -> list[Webhook]:
    return _decode(bytes(_open(body).data), list[Webhook])


def read_error(body: bytes) -> ApiError:
    """Total: an HTML page of somebody in between is an error too."""
    if body.lstrip()[:1] == b"<":
        return ApiError(reason="an HTML page, not an answer of the API")
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ApiError(reason="nothing that can be read" if body else "nothing")
    sentences = tuple(dict.fromkeys(_sentences(told)))[:SENTENCES_MAX]
    return ApiError(reason=_printable(": ".join(sentences[:2])) or "no reason given", sentences=sentences)


def read_allowances(headers: Iterable[tuple[str, str]]) -> dict[str, Allowance]:
    """What the headers say of each limit, by its name; the part of Cal.com's headers that tells it varies."""
    told: dict[str, dict[str, float]] = {}
    for name, value in headers:
        match = _LIMIT_HEADER.fullmatch(name)
        seconds_or_count = read_seconds(value)
        if match and seconds_or_count is not None:
            told.setdefault((match[2] or "").lower(), {})[match[1].lower()] = seconds_or_count
    return {
        name: Allowance(remaining=int(parts["remaining"]), reset_seconds=parts["reset"])
        for name, parts in told.items()
        if len(parts) == len(("remaining", "reset"))
    }


def read_seconds(value: str | None) -> float | None:
    """A count of seconds, or of anything; None: something else (Retry-After may be a date)."""
    value = (value or "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) <= len("1797000000000") else None


def _open(body: bytes) -> _Envelope:
    try:
        body.decode()  # parts are kept as they are, and what is kept must be text
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    if body.lstrip()[:1] == b"<":
        raise Unreadable("an HTML page")
    envelope = _decode(body, _Envelope)
    if envelope.status != "success":
        raise Unreadable(f"says {_printable(envelope.status)!r}: {read_error(bytes(envelope.error)).reason}")
    return envelope


def _decode(body: bytes, kind: type[Told]) -> Told:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise Unreadable("another shape than documented") from None
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable("no whole JSON document") from None


def _is_first_version(data: msgspec.Raw) -> bool:
    """2024-04-15, which Cal.com falls back to without a word, answers an object with the list in it."""
    return bytes(data).lstrip()[:1] == b"{" and "bookings" in _decode(bytes(data), dict[str, msgspec.Raw])


def _booking(raw: msgspec.Raw) -> ListedBooking:
    head = _decode(bytes(raw), _Head)
    if head.start is None and head.start_time is not None:
        raise OtherVersion
    if not head.uid:
        raise Unreadable("a booking without uid")
    return ListedBooking(uid=BookingUid(head.uid), updated_at=read_instant(head.updated_at), raw=raw)


def _sentences(told: Any, *, depth: int = DEPTH_MAX) -> Iterator[str]:  # noqa: ANN401  # whatever JSON Cal.com sends
    """What an error says, from the outside in; never `target` and `value`, which repeat what we sent."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, list) and depth:
        for part in told:
            yield from _sentences(part, depth=depth - 1)
    elif isinstance(told, dict) and depth:
        for key in ("error", "message", "details", "errors", "children"):
            yield from _sentences(told.get(key), depth=depth - 1)
        constraints = told.get("constraints")
        yield from _sentences(list(constraints.values()) if isinstance(constraints, dict) else None, depth=depth - 1)


def _printable(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= REASON_CHARACTERS_MAX else plain[: REASON_CHARACTERS_MAX - 1] + "…"
