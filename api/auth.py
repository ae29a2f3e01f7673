"""Who may ask: every route needs the internal key unless it declares itself public (`opt={"public": True}`)."""

import hmac
import secrets
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from ledger.errors import BadSetting
from ledger.settings import Secret, Settings

PUBLIC: dict[str, Any] = {"public": True}
GENERATED_KEY_BYTES = 24


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


def require_key(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of the whole application: denied unless public or `Authorization: Bearer <key>`."""
    if handler.opt.get("public"):
        return
    key: Secret = connection.app.state.internal_key
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), key.reveal()):
        raise NotAuthorizedException("This needs the header: Authorization: Bearer <INTERNAL_API_KEY>.")
