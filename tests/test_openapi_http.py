"""Every operation of the description asked what it says and what it does not, by Schemathesis, in each role.

Longer, and with requests that build on each other:

    pytest -m soak tests/test_openapi_http.py --schemathesis-seconds 480
"""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ledger.api_keys import create_key, new_key
from ledger.vocabulary import Role
from tests.builders import minutes, webhook
from tests.fake_calcom import fake_calcom
from tests.serving import Server, connected, deliver_all, serving, speaking_to, until_current

SHORT_SECONDS_MAX = 60
EXCLUDED_CHECKS = "positive_data_acceptance,allow_header_conformance"
"""What is not asked for: a cursor is good only as it was given, and `from` only before `to`, which no schema can say;
and Litestar answers OPTIONS for the handlers that it met before a path's last."""

CALLERS: tuple[Role | None, ...] = (None, "viewer", "operator", "admin")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(shared_database: str) -> dict[Role, str]:
    made = {}
    async with connected(shared_database) as connection:
        for role in CALLERS:
            if role is not None:
                made[role] = new_key()
                await create_key(connection, made[role], name=role, role=role, ledger_id=None, expires_at=None)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """With some bookings, and an account of Cal.com's behind it."""
    with (
        fake_calcom(bookings=[]) as calcom,
        serving(
            shared_database,
            tmp_path_factory.mktemp("server"),
            CAL_COM_API_KEY=calcom.key,
            CAL_COM_API_URL=calcom.url,
        ) as started,
    ):
        async with speaking_to(started) as http, connected(shared_database) as connection:
            made = [webhook("BOOKING_CREATED", {"uid": f"booking{number}"}, at=minutes(number)) for number in range(5)]
            await deliver_all(http, *made)
            await until_current(connection)
        yield started
        assert "Traceback" not in started.printed(), started.printed()


def assert_nothing_fails(server: Server, key: str | None, *options: str, seconds_max: int) -> None:
    told = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/schema/openapi.json" if key else str(server.log.with_suffix(".json")),
            *(("--url", server.url) if key is None else ("--header", f"Authorization: Bearer {key}")),
            *options,
            "--exclude-checks",
            EXCLUDED_CHECKS,
            "--no-color",
            "--no-shrink",
            "--warnings=off",
        ],
        cwd=server.log.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds_max,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-8_000:] + told.stderr[-2_000:]
    generated = re.search(r"(\d+) generated", told.stdout)
    assert generated, told.stdout
    assert int(generated[1]) > 500


async def described(server: Server) -> None:
    """For who may not read the description: a copy beside the log."""
    async with speaking_to(server) as http:
        server.log.with_suffix(".json").write_bytes((await http.get("/schema/openapi.json")).content)


@pytest.mark.parametrize("role", CALLERS)
async def test_no_operation_fails_whatever_it_is_asked(
    server: Server, keys: dict[Role, str], role: Role | None
) -> None:
    await described(server)
    key = None if role is None else keys[role]
    assert_nothing_fails(server, key, "--phases=coverage", "--generation-deterministic", seconds_max=SHORT_SECONDS_MAX)


@pytest.mark.soak
@pytest.mark.parametrize("role", CALLERS)
async def test_no_operation_fails_however_long_it_is_asked(
    server: Server, keys: dict[Role, str], role: Role | None, request: pytest.FixtureRequest
) -> None:
    await described(server)
    seconds: int = request.config.getoption("schemathesis_seconds")
    key = None if role is None else keys[role]
    assert_nothing_fails(
        server,
        key,
        "--phases=examples,coverage,fuzzing,stateful",
        "--continue-on-failure",
        "--generation-database=none",
        f"--max-time={seconds}",
        seconds_max=seconds * 3 + 60,
    )


async def test_the_description_says_who_may_ask_and_how_everything_refuses(shared_server: Server) -> None:
    async with speaking_to(shared_server) as http:
        operations = [
            (path, method, operation)
            for path, methods in (await http.get("/schema/openapi.json")).json()["paths"].items()
            for method, operation in methods.items()
        ]
    public = {(path, method) for path, method, operation in operations if operation["security"] == []}
    assert public == {("/livez", "get"), ("/readyz", "get"), ("/dictionary", "get"), ("/api/session", "post")}
    for path, method, operation in operations:
        refusals = {"400", "default"} | (set() if (path, method) in public else {"401", "403"})
        assert refusals <= operation["responses"].keys(), path
        for status in refusals:
            assert [*operation["responses"][status]["content"]] == ["application/problem+json"]


async def test_a_position_that_the_database_cannot_hold_is_refused(shared_server: Server) -> None:
    """Found by Schemathesis: both were answered 500."""
    async with speaking_to(shared_server) as http:
        for number in (2**63, 10**40, 0, -1):
            for deed in ("retry", "skip"):
                answer: httpx.Response = await http.post(
                    f"/api/admin/parked/facts/{deed}", json={"positions": [1, number]}
                )
                assert answer.status_code == 400, answer.text
