"""Sessions of people: a random token in a cookie, and its SHA-256 in the database, so ending one ends it everywhere.

A session is over after 30 minutes without a request, and after 12 hours in any case. The cookie is `__Host-session`,
which a browser takes and gives over https for this very host alone; on a loopback address without https, `session`.
"""

import hashlib
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.exceptions import PermissionDeniedException

from api.hardening import is_https
from ledger.postgres import Connection
from ledger.settings import Settings
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, Role

SQL = load_statements(Path(__file__).with_suffix(".sql"))

IDLE_SECONDS_MAX: Final = 30 * 60.0
SESSION_SECONDS_MAX: Final = 12 * 3600.0
NOTE_SEEN_SECONDS: Final = 60.0
TOKEN_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 100
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who signed in, as they are now. `ends_at`: in any case."""

    name: str
    role: Role
    ledger_id: LedgerId | None
    ends_at: datetime


async def open_session(connection: Connection, user_id: UUID) -> str:
    """The token of a new session: the only time that it is known here."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await connection.execute(SQL["open_session"], _digest(token), user_id, IDLE_SECONDS_MAX, SESSION_SECONDS_MAX)
    return token


async def find_session(connection: Connection, token: str) -> Session | None:
    """The session of this token, unless it is over or its user has been disabled."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        return None
    limits = (IDLE_SECONDS_MAX, SESSION_SECONDS_MAX, NOTE_SEEN_SECONDS)
    row = await connection.fetchrow(SQL["find_session"], _digest(token), *limits)
    return None if row is None else Session(**dict(row))


async def end_session(connection: Connection, token: str) -> None:
    await connection.execute(SQL["end_session"], _digest(token))


def session_cookie(settings: Settings, token: str | None) -> Cookie:
    """What the browser is to keep until it is closed; without a token, what it is to forget."""
    return make_cookie(settings, "session", token or "", seconds=None if token else 0)


def make_cookie(settings: Settings, name: str, value: str, *, seconds: int | None) -> Cookie:
    """A cookie that no script sees and no other site can make a browser send with a POST."""
    return Cookie(
        key=cookie_name(settings, name),
        value=value,
        path="/",
        httponly=True,
        samesite="lax",
        secure=_is_secure(settings),
        max_age=seconds,
    )


def cookie_name(settings: Settings, name: str) -> str:
    return f"__Host-{name}" if _is_secure(settings) else name


def refuse_other_sites(request: ASGIConnection[Any, Any, Any, Any], settings: Settings) -> None:
    """Raises PermissionDeniedException for an unsafe request that does not come from one of our own pages.

    Sec-Fetch-Site decides where there is one: no page can forge it. An older browser's Origin must be ours. A request
    with neither comes from no browser, and then it has no business with a browser's cookie.
    """
    if request.scope.get("method") in SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is not None:
        site = "same-origin" if _origin(origin) in _own_origins(request, settings) else "cross-site"
    if site != "same-origin":
        raise PermissionDeniedException("With a session this must come from a page of ours (Sec-Fetch-Site, Origin).")


def _own_origins(request: ASGIConnection[Any, Any, Any, Any], settings: Settings) -> set[tuple[str, str]]:
    host = request.headers.get("host", "")
    own = {_origin(f"{'https' if is_https(settings) else 'http'}://{host}")}
    return own | {_origin(settings.public_url)} if settings.public_url else own


def _origin(url: str) -> tuple[str, str]:
    """Scheme, host and port; nobody's origin for what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.lower()


def _is_secure(settings: Settings) -> bool:
    return is_https(settings) or not settings.is_loopback


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
