"""Query parameters that several routes have: names, status words, and the cursor of a page."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, TypeVar, get_args

import msgspec
from litestar.params import QueryParameter

from ledger.calcom.payloads import in_utc
from ledger.errors import BadParameter
from ledger.vocabulary import CalendarStatus

PAGE_ROWS_DEFAULT = 50
PAGE_ROWS_MAX = 500
POSITION_MAX = 2**63 - 1
"""PostgreSQL's bigint."""

Text = Annotated[str | None, QueryParameter(max_length=200)]
Status = Annotated[str | None, QueryParameter(description="One or several of the status words, separated by commas.")]
From = Annotated[str | None, QueryParameter(name="from", description="Start at or after, ISO 8601.")]
To = Annotated[str | None, QueryParameter(name="to", description="Start before, ISO 8601.")]
CursorText = Annotated[str | None, QueryParameter(max_length=1000, description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_ROWS_MAX)]
PositionWish = Annotated[int, msgspec.Meta(ge=1, le=POSITION_MAX)]

Name = TypeVar("Name", bound=str | None)
Place = TypeVar("Place", bound=msgspec.Struct)


def read_name(parameter: str, text: Name) -> Name:
    """The text as it is. Raises BadParameter for one that Postgres cannot hold."""
    if text is not None and "\x00" in text:
        raise BadParameter(parameter, "holds a NUL character")
    return text


def read_email(parameter: str, text: str | None) -> str | None:
    """The address in lower case, as it is kept. Raises BadParameter."""
    return read_name(parameter, None if text is None else text.lower())


def read_statuses(text: str | None) -> list[str] | None:
    """The status words, each once. Raises BadParameter."""
    if text is None:
        return None
    given, known = text.split(","), get_args(CalendarStatus)
    if not set(given) <= set(known):
        raise BadParameter("status", f"is one or several of {', '.join(known)}")
    return list(dict.fromkeys(given))


def write_cursor(place: msgspec.Struct | None) -> str | None:
    return None if place is None else base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(text: str | None, kind: type[Place]) -> Place | None:
    """The place that `write_cursor` wrote. Raises BadParameter for anything else, or of another kind."""
    if text is None:
        return None
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except (binascii.Error, msgspec.DecodeError, ValueError, UnicodeError):
        raise bad_cursor() from None
    if not all(map(_is_storable, msgspec.structs.astuple(place))):
        raise bad_cursor()
    return place


def bad_cursor() -> BadParameter:
    return BadParameter("cursor", "is none of ours; take next_cursor of the page before as it is")


def _is_storable(value: object) -> bool:
    if isinstance(value, datetime):
        return value.tzinfo is not None and in_utc(value) is not None
    return not (isinstance(value, str) and "\x00" in value)
