"""Who may ask: every route needs the key, but for a short list that is written down here."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.serving import KEY, SECRET, WEBHOOK, Server, assert_is_problem, environment, serving, speaking_to

PUBLIC_PATHS = {
    "/livez",
    "/readyz",
    "/api/webhooks/cal-com",
    "/api/webhooks/calcom",
    "/api/admin/scheduling/cal-com/webhook",
    "/api/cal/handle-cal-event",
    "/dictionary",
    "/static/ledger.css",
}
"""The webhook addresses have a lock of their own: the signature; the dictionary tells of nobody's bookings."""

SIGN_IN = ("POST", "/api/session")

GUARDED_AT_LEAST = {
    ("GET", "/api/bookings"),
    ("GET", "/api/bookings/x"),
    ("GET", "/api/bookings/x/history"),
    ("GET", "/schema/openapi.json"),
}


LIST_ROUTES = """
import json
from api.app import create_app
from ledger.settings import Secret, Settings
app = create_app(Settings(), "postgresql:///nowhere", internal_key=Secret(b"key"), with_worker=False)
print(json.dumps([[sorted(getattr(route, "methods", ())), route.path] for route in app.routes]))
"""


def routes() -> set[tuple[str, str]]:
    """Method and path of everything that the router knows, with `x` for what a caller fills in."""
    listed = subprocess.run([sys.executable, "-c", LIST_ROUTES], env=environment({}), capture_output=True, check=True)
    found = set()
    for methods, path in msgspec.json.decode(listed.stdout, type=list[tuple[list[str], str]]):
        filled = re.sub(r"\{[^}]*\}", "x", path) or "/"
        found |= {(method, filled) for method in methods or ["GET", "POST"] if method != "OPTIONS"}
    return found


def is_public(method: str, path: str) -> bool:
    return (method, path) == SIGN_IN or path in PUBLIC_PATHS or path.removesuffix("/x") in PUBLIC_PATHS


async def test_every_route_but_the_public_ones_is_closed_without_the_key_and_open_with_it(
    shared_server: Server,
) -> None:
    known = routes()
    assert {path.removesuffix("/x") for method, path in known if is_public(method, path)} == {*PUBLIC_PATHS, SIGN_IN[1]}
    guarded = sorted(pair for pair in known if not is_public(*pair))
    assert set(guarded) >= GUARDED_AT_LEAST
    async with speaking_to(shared_server, key=None) as stranger, speaking_to(shared_server) as friend:
        for method, path in guarded:
            for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
                refused = await stranger.request(method, path, headers=header)
                assert_is_problem(refused, 401)
                assert refused.headers["www-authenticate"] == "Bearer"
            async with friend.stream(method, path) as opened:  # its body may have no end
                assert opened.status_code not in (401, 403, 500), path


def test_nothing_is_used_that_the_framework_is_about_to_drop() -> None:
    script = f"""
import litestar.handlers, litestar.openapi.plugins, warnings
warnings.simplefilter("error")
{LIST_ROUTES}
"""
    started = subprocess.run([sys.executable, "-c", script], env=environment({}), capture_output=True, check=False)
    assert started.returncode == 0, started.stderr.decode()


@pytest.mark.parametrize("path", sorted(PUBLIC_PATHS))
async def test_a_public_route_answers_a_stranger_and_tells_him_no_secret(shared_server: Server, path: str) -> None:
    async with speaking_to(shared_server, key=None) as http:
        answer = await http.get(path)
    assert answer.status_code == 200
    assert KEY not in answer.text
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY},{KEY}",
        f"Basic {KEY}",
        f"Token {KEY}",
        f"Bearer {SECRET}",
        "Bearer None",
        b"Bearer \xff\xfe",
        "Bearer " + "x" * 10_000,
    ],
)
async def test_what_only_looks_like_the_key_is_refused(shared_server: Server, header: str | bytes) -> None:
    value = header if isinstance(header, bytes) else header.encode()
    async with speaking_to(shared_server, key=None) as http:
        assert_is_problem(await http.get("/api/bookings", headers=[(b"authorization", value)]), 401)


async def test_the_key_counts_in_its_header_alone(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as http:
        for url in (f"/api/bookings?key={KEY}", f"/api/bookings?authorization=Bearer%20{KEY}"):
            assert_is_problem(await http.get(url), 401)
        assert_is_problem(await http.get("/api/bookings", headers={"cookie": f"authorization=Bearer {KEY}"}), 401)
        assert (await http.get("/api/bookings", headers={"Authorization": f"bearer  {KEY}"})).status_code == 200


async def test_a_question_about_methods_is_answered_without_touching_anything(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as http:
        answer = await http.options("/api/bookings")
    assert (answer.status_code, answer.content) in ((204, b""), (401, answer.content))


async def test_the_key_opens_no_deliveries_and_the_webhook_secret_no_queries(shared_server: Server) -> None:
    async with speaking_to(shared_server) as http:
        assert_is_problem(await http.post(WEBHOOK, content=b"{}"), 401)
    async with speaking_to(shared_server, key=SECRET) as http:
        assert_is_problem(await http.get("/api/bookings"), 401)


async def test_a_key_that_was_made_up_is_printed_once_and_opens(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, INTERNAL_API_KEY="") as server:
        printed = re.findall(r"key for this run +(\S+)", server.printed())
        assert len(printed) == 1
        assert len(printed[0]) >= 32
        async with speaking_to(server, key=printed[0]) as http:
            assert (await http.get("/api/bookings")).status_code == 200
        async with speaking_to(server, key=None) as http:
            assert_is_problem(await http.get("/api/bookings", headers={"authorization": "Bearer"}), 401)


async def test_a_key_from_outside_is_never_printed(shared_server: Server) -> None:
    async with httpx.AsyncClient(base_url=shared_server.url, trust_env=False) as http:
        assert (await http.get("/livez")).status_code == 200
    assert KEY not in shared_server.printed()
    assert SECRET not in shared_server.printed()


async def test_the_description_for_programs_is_valid_and_needs_the_key(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as stranger, speaking_to(shared_server) as http:
        assert_is_problem(await stranger.get("/schema/openapi.json"), 401)
        described = (await http.get("/schema/openapi.json")).json()
    assert described["openapi"].startswith("3.")
    assert {"/api/bookings", "/api/bookings/{uid}", "/api/bookings/{uid}/history"} <= set(described["paths"])
    named = {parameter["name"] for parameter in described["paths"]["/api/bookings"]["get"]["parameters"]}
    assert named >= {
        "status",
        "from",
        "to",
        "attendee",
        "host",
        "event_type",
        "client",
        "pet",
        "salon",
        "text",
        "cursor",
    }
