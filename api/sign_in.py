"""Signing in with name and password, signing out, and asking who one is."""

import time
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException
from litestar.params import JSONBody

from api.auth import PUBLIC, VIEWER, Caller
from api.composition import Running
from api.sessions import (
    cookie_name,
    end_session,
    make_cookie,
    open_session,
    refuse_other_sites,
    session_cookie,
)
from api.tenancy import visible_ledgers
from api.tries import new_mark
from ledger.errors import BadParameter
from ledger.passwords import PASSWORD_CHARACTERS_MAX, is_dated
from ledger.users import User, find_user, renew_hash, user_name
from ledger.vocabulary import Role

MARK_SECONDS: Final = 90 * 24 * 3600
MARK_CHARACTERS_MAX: Final = 200

Asking = Request[Any, Any, Any]
Word = Annotated[str, msgspec.Meta(max_length=PASSWORD_CHARACTERS_MAX)]

log = structlog.get_logger()


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Word
    password: Word


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may ask. `ledger` null: every one; `ends_at` null: as long as the key is good."""

    name: str
    role: Role
    ledger: str | None
    ends_at: datetime | None


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: Role


@post("/api/session", opt=PUBLIC, status_code=200, summary="Sign in")
async def sign_in(request: Asking, state: State, data: JSONBody[Credentials]) -> Response[SignedIn]:
    """The answer sets the session's cookie, which has a new token each time."""
    running: Running = state.running
    if request.headers.get("sec-fetch-site") or request.headers.get("origin"):
        refuse_other_sites(request, running.settings)
    user = await _recognised(running, request, data)
    async with running.pool.acquire() as connection:
        if old := request.cookies.get(cookie_name(running.settings, "session")):
            await end_session(connection, old)
        token = await open_session(connection, user.user_id)
    log.info("signed_in", user_id=str(user.user_id))
    mark = make_cookie(running.settings, "browser", new_mark(user), seconds=MARK_SECONDS)
    return Response(SignedIn(name=user.name, role=user.role), cookies=[session_cookie(running.settings, token), mark])


@get("/api/session", opt=VIEWER, summary="Who asks")
async def who(request: Asking) -> Who:
    """By key or by session."""
    caller: Caller = request.auth
    bound = next(iter(visible_ledgers(request)), None) if caller.ledger_id is not None else None
    return Who(name=caller.name, role=caller.role, ledger=bound, ends_at=caller.ends_at)


@delete("/api/session", opt=VIEWER, status_code=204, summary="Sign out")
async def sign_out(request: Asking, state: State) -> Response[None]:
    """The session has ended, here and everywhere."""
    running: Running = state.running
    if token := request.cookies.get(cookie_name(running.settings, "session")):
        async with running.pool.acquire() as connection:
            await end_session(connection, token)
    return Response(None, status_code=204, cookies=[session_cookie(running.settings, None)])


async def _recognised(running: Running, request: Asking, data: Credentials) -> User:
    """The user whose password this is. Raises TooManyTries, NotAuthorizedException."""
    try:
        name = user_name(data.name)
    except BadParameter:
        name = ""  # nobody is called so, and it takes as long as any other wrong name
    mark = request.cookies.get(cookie_name(running.settings, "browser"), "")[:MARK_CHARACTERS_MAX]
    async with running.pool.acquire() as connection:
        user = await find_user(connection, name)
    if not await running.tries.is_right(user, name, data.password, mark=mark, now=time.monotonic()) or user is None:
        log.info("sign_in_refused", user_id=str(user.user_id) if user else None)
        raise NotAuthorizedException("The name or the password is wrong.")
    if is_dated(user.password_hash):
        renewed = await running.tries.hashed(data.password)
        async with running.pool.acquire() as connection:
            await renew_hash(connection, user, renewed)
        user = msgspec.structs.replace(user, password_hash=renewed)
    return user
