"""What every route of an application declares: who may ask it. The list of the public ones is for people to check."""

from collections.abc import Iterator
from typing import Final

import msgspec
from litestar import Litestar
from litestar.handlers import BaseRouteHandler
from litestar.routes import ASGIRoute, HTTPRoute

from api.auth import ROLES
from ledger.errors import RouteUndeclared
from ledger.vocabulary import Role

ANY_METHOD: Final = "ANY"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path; `role` None: public. `whole`: not for those who are bound to one ledger."""

    method: str
    path: str
    role: Role | None
    whole: bool


def declared_routes(app: Litestar) -> list[Declared]:
    """Every route, sorted by path. Raises RouteUndeclared for the first that says neither its role nor PUBLIC."""
    declared = [
        Declared(
            method=method,
            path=path,
            role=_role(handler, f"{method} {path}"),
            whole=bool(handler.opt.get("whole")),
        )
        for method, path, handler in _handlers(app)
    ]
    return sorted(declared, key=lambda one: (one.path, one.method))


def public_routes(app: Litestar) -> list[str]:
    return [f"{one.method} {one.path}" for one in declared_routes(app) if one.role is None]


def _handlers(app: Litestar) -> Iterator[tuple[str, str, BaseRouteHandler]]:
    """All but OPTIONS, to which Litestar adds answers by itself; the guard keeps those for admins."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS":
                    yield method, route.path_format, handler
        else:
            kind = ANY_METHOD if isinstance(route, ASGIRoute) else "WEBSOCKET"
            yield kind, route.path_format, route.route_handler


def _role(handler: BaseRouteHandler, place: str) -> Role | None:
    if handler.opt.get("public") is True and "role" not in handler.opt:
        return None
    role: Role | None = handler.opt.get("role")
    if role not in ROLES or "public" in handler.opt:
        raise RouteUndeclared(place)
    return role
