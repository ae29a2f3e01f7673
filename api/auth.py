"""Who may ask: every route declares the role it needs, or that it is public; everybody else is refused.

A program says who it is with `Authorization: Bearer <key>`: INTERNAL_API_KEY, which is an admin's, or a key of
`booking-ledger keys create`. A person's browser says it with the cookie of a session (api/sessions.py), and then a
request that changes something must come from a page of ours.
"""

import hmac
import secrets
from datetime import UTC, datetime
from typing import Any, Final, get_args

import msgspec
import structlog
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from api.composition import Running
from api.sessions import cookie_name, find_session, refuse_other_sites
from ledger.errors import BadSetting
from ledger.settings import Secret, Settings
from ledger.vocabulary import LedgerId, Role

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may."""

PUBLIC: dict[str, Any] = {"public": True}
VIEWER: dict[str, Any] = {"role": "viewer"}
"""Reads."""
OPERATOR: dict[str, Any] = {"role": "operator"}
"""Replays, rebuilds, reconciles, links."""
ADMIN: dict[str, Any] = {"role": "admin"}
"""Everything."""
WHOLE: dict[str, Any] = {"whole": True}
"""Beside a role: about all ledgers at once, hence not for somebody who is bound to one of them."""

GENERATED_KEY_BYTES = 24

log = structlog.get_logger()

Connection = ASGIConnection[Any, Any, Any, Any]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `ledger_id`: the only ledger that is there for them; None: every one. `ends_at`: of a session."""

    name: str
    role: Role
    ledger_id: LedgerId | None = None
    ends_at: datetime | None = None

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


INTERNAL: Final = Caller(name="INTERNAL_API_KEY", role="admin")


def internal_key(settings: Settings) -> tuple[Secret, bool]:
    """The key in force, and whether it was made up just now (then somebody must print it, once).

    Raises BadSetting where none is set although other machines can reach us.
    """
    if settings.internal_api_key is not None:
        return settings.internal_api_key, False
    if not settings.is_loopback:
        raise BadSetting(
            "INTERNAL_API_KEY", f"must be set when HOST is {settings.host}, which other machines can reach"
        )
    return Secret(secrets.token_urlsafe(GENERATED_KEY_BYTES).encode()), True


async def require_role(connection: Connection, handler: BaseRouteHandler) -> None:
    """The guard of the whole application. Afterwards `request.auth` is the Caller; None on a public route.

    Not a plain function: Litestar would run that in a thread, which costs a webhook more than all the rest of ours.
    """
    if handler.opt.get("public"):
        connection.scope["auth"] = None
        return
    caller = await _identify(connection)
    needed: Role = handler.opt.get("role", "admin")  # OPTIONS, which Litestar answers, declares nothing
    if not caller.may(needed):
        log.info("access_denied", role=caller.role, needed=needed, path=connection.scope.get("path_template"))
        raise PermissionDeniedException(f"This needs the role {needed}.")
    if caller.ledger_id is not None and handler.opt.get("whole"):
        raise PermissionDeniedException("This is about every ledger, and you are bound to one.")
    connection.scope["auth"] = caller


async def _identify(connection: Connection) -> Caller:
    """Raises NotAuthorizedException for nobody, and for a key or a session that opens nothing."""
    running: Running = connection.app.state.running
    given = connection.headers.get("authorization")
    if given is not None:
        return await _by_key(connection, running, given)
    token = connection.cookies.get(cookie_name(running.settings, "session"))
    if token is None:
        raise NotAuthorizedException("This needs the header: Authorization: Bearer <key>.")
    async with running.pool.acquire() as database:
        session = await find_session(database, token)
    if session is None:
        raise NotAuthorizedException("The session is over; sign in again, or send Authorization: Bearer <key>.")
    refuse_other_sites(connection, running.settings)
    return Caller(name=session.name, role=session.role, ledger_id=session.ledger_id, ends_at=session.ends_at)


async def _by_key(connection: Connection, running: Running, given: str) -> Caller:
    internal: Secret = connection.app.state.internal_key
    scheme, _, key = given.partition(" ")
    key = key.strip()
    if scheme.lower() == "bearer" and hmac.compare_digest(key.encode(), internal.reveal()):
        return INTERNAL
    found = await running.keys.find(key) if scheme.lower() == "bearer" else None
    if found is None:
        raise NotAuthorizedException("The key is none of ours; send the header: Authorization: Bearer <key>.")
    running.usage.note_key(found.key_id, datetime.now(UTC))
    return Caller(name=found.name or found.key_id, role=found.role, ledger_id=found.ledger_id)
