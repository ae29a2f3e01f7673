"""Who may do what: every route of the router asked by nobody, by each role, and by a key bound to another ledger."""

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler

from api.auth import ADMIN, OPERATOR, PUBLIC, ROLES, VIEWER, Caller, require_role
from api.declared import Declared, declared_routes
from ledger.api_keys import create_key, new_key
from ledger.errors import RouteUndeclared
from ledger.vocabulary import LedgerId, Role
from tests.builders import add_ledger, webhook
from tests.serving import (
    KEY,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    environment,
    serving,
    speaking_to,
    until_current,
)
from tests.sources import product

PUBLIC_ROUTES = {
    "ANY /api/webhooks/cal-com",
    "ANY /api/webhooks/calcom",
    "ANY /api/admin/scheduling/cal-com/webhook",
    "ANY /api/cal/handle-cal-event",
    "GET /livez",
    "GET /readyz",
    "POST /api/session",
    "GET /dictionary",
    "GET /static/ledger.css",
}
"""The webhook addresses have the signature, signing in has the password; the dictionary tells of the product alone."""

ROUTES_AT_LEAST = {
    ("GET", "/api/bookings"): "viewer",
    ("GET", "/api/bookings/{uid}"): "viewer",
    ("GET", "/api/bookings/{uid}/history"): "viewer",
    ("GET", "/api/session"): "viewer",
    ("GET", "/schema/openapi.json"): "viewer",
    ("POST", "/api/bookings/{uid}/link"): "operator",
    ("POST", "/api/bookings/{uid}/unlink"): "operator",
    ("GET", "/api/admin/deliveries"): "admin",
    ("POST", "/api/admin/deliveries/reprocess"): "admin",
    ("GET", "/api/admin/erasures"): "admin",
    ("POST", "/api/admin/erasures"): "admin",
    ("POST", "/api/admin/reconcile"): "admin",
    ("POST", "/api/admin/projections/{name}/rebuild"): "admin",
    ("POST", "/api/admin/parked/{projection}/skip"): "admin",
}

MAKE = """
import msgspec, sys
from api.app import create_app
from api.declared import declared_routes
from ledger.settings import Secret, Settings
app = create_app(Settings(), "postgresql:///nowhere", internal_key=Secret(b"key"), with_worker=False)
"""


def run_script(script: str) -> bytes:
    """What it printed, in a process of its own: making the application warns of things that are not ours."""
    return subprocess.run([sys.executable, "-c", script], env=environment({}), capture_output=True, check=True).stdout


LISTED = run_script(f"{MAKE}sys.stdout.buffer.write(msgspec.json.encode(declared_routes(app)))")
ROUTES = msgspec.json.decode(LISTED, type=list[Declared])
CLOSED = [route for route in ROUTES if route.role is not None]


def asked(route: Declared) -> str:
    """The path with something in every place."""
    return re.sub(r"\{[^}]*\}", "x", route.path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(shared_database: str) -> dict[str, str]:
    """A key of each role for every ledger, `<role> of other` bound to the other one, `<role> of main` to this one."""
    async with connected(shared_database) as connection:
        bounds: dict[str, LedgerId | None] = {
            "": None,
            " of main": LedgerId(1),
            " of other": await add_ledger(connection),
        }
        made = {}
        for role in ROLES:
            for words, ledger_id in bounds.items():
                made[role + words] = await _made(connection, role, ledger_id)
        return made


async def _made(connection: asyncpg.Connection, role: Role, ledger_id: LedgerId | None) -> str:
    key = new_key()
    await create_key(connection, key, name=role, role=role, ledger_id=ledger_id, expires_at=None)
    return key


@pytest_asyncio.fixture
async def http(keys: dict[str, str], shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    assert keys
    async with speaking_to(shared_server, key=None) as client:
        yield client


async def status_of(http: httpx.AsyncClient, route: Declared, key: str | None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with http.stream(route.method, asked(route), headers=headers) as answer:  # its body may have no end
        return answer.status_code


# Declarations


def test_the_public_routes_are_these_and_no_others() -> None:
    assert {f"{route.method} {route.path}" for route in ROUTES if route.role is None} == PUBLIC_ROUTES


def test_the_routes_that_we_know_of_have_the_roles_that_were_agreed() -> None:
    roles = {(route.method, route.path): route.role for route in CLOSED}
    assert roles | ROUTES_AT_LEAST == roles
    admin = {path: role for (_, path), role in roles.items() if path.startswith("/api/admin")}
    assert [path for path, role in admin.items() if role == "viewer"] == []


@get("/undeclared")
async def undeclared() -> None: ...


@get("/unknown", opt={"role": "owner"})
async def unknown_role() -> None: ...


@get("/both", opt={**PUBLIC, **VIEWER})
async def public_and_not() -> None: ...


@get("/nearly", opt={"public": "yes"})
async def nearly_public() -> None: ...


@pytest.mark.parametrize("handler", [undeclared, unknown_role, public_and_not, nearly_public])
def test_a_route_that_does_not_say_who_may_ask_is_refused_before_anything_is_served(handler: HTTPRouteHandler) -> None:
    with pytest.raises(RouteUndeclared, match=handler.fn.__name__.partition("_")[0].replace("public", "both")):
        declared_routes(Litestar([handler], openapi_config=None))


@get("/p", opt=PUBLIC)
async def public() -> None: ...


@get("/v", opt=VIEWER)
async def viewer() -> None: ...


@get("/o", opt=OPERATOR)
async def operator() -> None: ...


@get("/a", opt=ADMIN)
async def admin() -> None: ...


def test_a_route_that_says_it_is_listed_with_its_role() -> None:
    listed = declared_routes(Litestar([public, viewer, operator, admin], openapi_config=None))
    assert [(route.path, route.role) for route in listed] == [
        ("/a", "admin"),
        ("/o", "operator"),
        ("/p", None),
        ("/v", "viewer"),
    ]


@pytest.mark.parametrize("opt", ["{}", "{'role': 'owner'}", "{'public': 1}"])
def test_the_application_is_not_made_with_a_route_that_declares_nothing(opt: str) -> None:
    script = f"""
import api.app
from litestar import get
@get("/forgotten", opt={opt})
async def livez() -> None: ...
api.app.livez = livez
{MAKE}
"""
    refused = subprocess.run([sys.executable, "-c", script], env=environment({}), capture_output=True, check=False)
    assert refused.returncode != 0
    assert b"RouteUndeclared: GET /forgotten" in refused.stderr


# The matrix


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_opens_to_its_role_and_those_above_and_to_nobody_else(
    http: httpx.AsyncClient, keys: dict[str, str], route: Declared
) -> None:
    assert route.role is not None
    assert await status_of(http, route, None) == 401
    assert await status_of(http, route, new_key()) == 401
    for role in ROLES:
        status = await status_of(http, route, keys[role])
        if ROLES.index(role) < ROLES.index(route.role):
            assert status == 403, role
        else:
            assert status not in (401, 403), role
            assert status < 500 or status == 503, role


async def test_the_key_from_outside_is_an_admins(http: httpx.AsyncClient) -> None:
    who = (await http.get("/api/session", headers={"authorization": f"Bearer {KEY}"})).json()
    assert (who["role"], who["ledger"]) == ("admin", None)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "HEAD"])
async def test_a_method_that_a_route_does_not_name_opens_nothing(http: httpx.AsyncClient, method: str) -> None:
    answer = await http.request(method, "/api/bookings")
    assert answer.status_code in (401, 405)


def test_roles_contain_each_other() -> None:
    may = {role: [needed for needed in ROLES if Caller(name="x", role=role).may(needed)] for role in ROLES}
    assert may == {
        "viewer": ["viewer"],
        "operator": ["viewer", "operator"],
        "admin": ["viewer", "operator", "admin"],
    }


# Ledgers


def ledger_routes() -> list[Declared]:
    """Those that take `?ledger=`, as the description for programs says."""
    described = json.loads(
        run_script(f"{MAKE}sys.stdout.buffer.write(msgspec.json.encode(app.openapi_schema.to_schema()))")
    )
    return [
        route
        for route in CLOSED
        if any(
            parameter["name"] == "ledger"
            for parameter in described["paths"].get(route.path, {}).get(route.method.lower(), {}).get("parameters", [])
        )
    ]


LEDGER_ROUTES = ledger_routes()


def test_routes_take_a_ledger() -> None:
    assert {(route.method, route.path) for route in LEDGER_ROUTES} >= {
        ("GET", "/api/bookings"),
        ("GET", "/api/bookings/{uid}"),
        ("GET", "/api/bookings/{uid}/history"),
    }


@pytest.mark.parametrize("route", LEDGER_ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_another_ledger_is_not_there_for_a_key_that_is_bound_to_one(
    http: httpx.AsyncClient, keys: dict[str, str], route: Declared
) -> None:
    async def told(key: str, ledger: str) -> tuple[int, str]:
        answer = await http.request(
            route.method,
            asked(route),
            params={"ledger": ledger},
            headers={"authorization": f"Bearer {keys[key]}"},
            json=None if route.method == "GET" else {"event_id": "00000000-0000-0000-0000-000000000001"},
        )
        return answer.status_code, answer.text.replace(ledger, "…")

    nobodys = await told("admin", "nobody")
    assert nobodys[0] == 404 or (nobodys[0] == 400 and route.method != "GET"), "400: a body of its own is wanted first"
    assert await told("admin of other", "main") == nobodys
    assert await told("admin of main", "other") == nobodys
    assert await told("admin of other", "nobody") == nobodys


LEDGER_AWARE = {
    ("GET", "/api/session"),
    ("DELETE", "/api/session"),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/schema/{path}"),
    ("GET", "/api/admin/projections"),
    ("GET", "/api/dictionary"),
}
"""What tells nothing of any ledger, or only of those that the caller may see."""


def test_every_route_takes_a_ledger_or_says_that_it_is_about_all_of_them() -> None:
    aware = LEDGER_AWARE | {(route.method, route.path) for route in LEDGER_ROUTES}
    loose = [f"{one.method} {one.path}" for one in CLOSED if not one.whole and (one.method, one.path) not in aware]
    assert loose == [], "take `ledger`, or declare WHOLE (api/auth.py)"


@pytest.mark.parametrize(
    "route", [one for one in CLOSED if one.whole], ids=lambda route: f"{route.method} {route.path}"
)
async def test_what_is_about_every_ledger_is_not_for_a_key_that_is_bound_to_one(
    http: httpx.AsyncClient, keys: dict[str, str], route: Declared
) -> None:
    assert await status_of(http, route, keys["admin of main"]) == 403
    assert await status_of(http, route, keys["admin of other"]) == 403


async def test_a_bound_key_sees_its_own_ledger_without_naming_it(
    http: httpx.AsyncClient, keys: dict[str, str], shared_server: Server
) -> None:
    here, there = (webhook("BOOKING_CREATED", {"uid": "same", "title": title}) for title in ("Main", "Other"))
    assert (await deliver(http, here)).status_code == 200
    assert (await deliver(http, there, path=f"{WEBHOOK}/other")).status_code == 200
    async with connected(shared_server.dsn) as connection:
        await until_current(connection)
    for key, params, title in (
        ("viewer of main", {}, "Main"),
        ("viewer of other", {}, "Other"),
        ("viewer of other", {"ledger": ""}, "Other"),
        ("viewer of other", {"ledger": "other"}, "Other"),
        ("viewer", {}, "Main"),
        ("viewer", {"ledger": "other"}, "Other"),
    ):
        headers = {"authorization": f"Bearer {keys[key]}"}
        listed = await http.get("/api/bookings", params=params, headers=headers)
        assert [booking["title"] for booking in listed.json()["bookings"]] == [title], (key, params)
        one = await http.get("/api/bookings/same", params=params, headers=headers)
        assert one.json()["booking"]["title"] == title
        history = await http.get("/api/bookings/same/history", params=params, headers=headers)
        assert len(history.json()["history"]) == 1
    who = await http.get("/api/session", headers={"authorization": f"Bearer {keys['viewer of other']}"})
    assert who.json()["ledger"] == "other"


async def test_a_key_of_a_ledger_that_this_server_has_not_heard_of_sees_none(
    durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server, key=None) as http, connected(durable_database) as connection:
            key = await _made(connection, "admin", await add_ledger(connection))
            for params in ({}, {"ledger": "main"}, {"ledger": "other"}):
                answer = await http.get("/api/bookings", params=params, headers={"authorization": f"Bearer {key}"})
                assert_is_problem(answer, 404)


def test_which_ledgers_there_are_for_a_request_is_asked_in_one_place() -> None:
    """Handlers take a ledger from api/tenancy.py, which knows who asks; the others have nobody who asks."""
    allowed = {"api/tenancy.py", "api/recording.py", "api/composition.py"}
    found = {
        source.path
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr == "ledgers" and ast.unparse(node.value).endswith("running")
    }
    handlers = {path for path in found if not path.startswith("api/cli/")}
    assert handlers <= allowed, "take the ledger of a request from api/tenancy.py"


def test_the_guard_is_no_plain_function() -> None:
    """Litestar runs a plain one in a thread: measured, that made a delivery cost two and a half times as much."""
    assert inspect.iscoroutinefunction(require_role)


def test_the_matrix_has_something_to_ask() -> None:
    assert {route.role for route in ROUTES} >= {None, "viewer", "operator"}
