"""Alive and ready, as load balancers and supervisors ask it, and how a server stops."""

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec

from api.alarms import read_raised
from ledger.alarms import MISMATCHES_MAX
from ledger.store import read_ledgers
from tests.builders import webhook, whole_log
from tests.serving import (
    KEY,
    SECRET,
    WEBHOOK,
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    free_port,
    postgres_away,
    run,
    serving,
    signed,
    speaking_to,
    until,
)

CONNECTIONS_LOST = 60


async def test_a_server_that_would_record_a_webhook_is_ready(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as http:
        alive, ready = await http.get("/livez"), await http.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "checks": {"database": True, "webhook_secret": True, "spool": "empty"},
    }


async def test_a_server_without_a_secret_is_alive_and_not_ready(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, CAL_COM_WEBHOOK_SECRET="") as server:
        async with speaking_to(server, key=None) as http:
            assert (await http.get("/livez")).status_code == 200
            ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "not ready",
            "checks": {"database": True, "webhook_secret": False, "spool": "empty"},
        }
        assert "Set CAL_COM_WEBHOOK_SECRET" in server.printed()


async def test_a_server_that_hangs_on_its_spool_alone_is_degraded_and_ready_again_after(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server, key=None) as http, connected(durable_cluster) as admin:
            async with postgres_away(admin, durable_database):
                for level in ("empty", "in use"):
                    away = await http.get("/readyz")
                    assert away.status_code == 200
                    assert away.json() == {
                        "status": "degraded",
                        "checks": {"database": False, "webhook_secret": True, "spool": level},
                        "reasons": ["database_away"],
                    }
                    assert (await deliver(http, webhook("PING", {}))).status_code == 202
                assert (await http.get("/livez")).status_code == 200

            async def is_ready() -> bool:
                return bool((await http.get("/readyz")).json()["status"] == "ready")

            await until(is_ready)


async def test_a_server_that_can_keep_nothing_is_not_ready(
    durable_cluster: str, durable_database: str, tmp_path: Path
) -> None:
    no_folder = tmp_path / "home"
    no_folder.write_text("a file stands there")
    with serving(durable_database, tmp_path, BOOKING_LEDGER_HOME=str(no_folder)) as server:
        assert "let BOOKING_LEDGER_HOME name a folder" in server.printed()
        async with speaking_to(server, key=None) as http, connected(durable_cluster) as admin:
            there = await http.get("/readyz")
            assert (there.status_code, there.json()["status"]) == (200, "degraded")
            assert there.json()["reasons"] == ["spool_unusable"]
            await deliver_all(http, webhook("PING", {}))
            async with postgres_away(admin, durable_database):
                away = await http.get("/readyz")
                assert away.status_code == 503
                assert away.json() == {
                    "status": "not ready",
                    "checks": {"database": False, "webhook_secret": True, "spool": "unusable"},
                }
                assert_is_problem(await deliver(http, webhook("PING", {})), 503)


async def test_alarms_are_named_where_readiness_and_numbers_are_asked_for(server: Server) -> None:
    """Ten deliveries under another secret; the webhooks still go in, so it is ready enough to be sent more."""
    alarm = 'booking_ledger_alarm{alarm="signatures_refused",ledger="1"} %s'
    async with speaking_to(server) as http:
        assert alarm % "0.0" in (await http.get("/metrics")).text
        body = webhook("BOOKING_CREATED", {"uid": "a"})
        for _ in range(MISMATCHES_MAX):
            assert (await http.post(WEBHOOK, content=body, headers=signed(body, "another"))).status_code == 401

        async def is_degraded() -> bool:
            return bool((await http.get("/readyz")).json()["status"] == "degraded")

        await until(is_degraded)
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (200, ["signatures_refused"])
        assert alarm % "1.0" in (await http.get("/metrics")).text
        assert (await deliver(http, body)).status_code == 200
    told = run("doctor", "--json", DATABASE_URL=server.dsn, CAL_COM_WEBHOOK_SECRET=SECRET, PORT=str(free_port()))
    (check,) = [one for one in msgspec.json.decode(told.stdout)["checks"] if one["name"] == "alarms"]
    assert not check["ok"]
    assert "add the new one to CAL_COM_WEBHOOK_SECRET" in check["detail"]


async def test_read_models_that_nobody_keeps_current_are_an_alarm(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, options=("--no-worker",)) as server:
        async with speaking_to(server, key=None) as http, connected(durable_database) as connection:
            await deliver_all(http, webhook("PING", {}))
            assert (await http.get("/readyz")).json()["status"] == "ready"
            ledger = (await read_ledgers(connection))["main"]
            assert await read_raised(connection, [ledger], now=datetime.now(UTC)) == []
            await connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER USER")
            await connection.execute("UPDATE ledger.events SET recorded_at = recorded_at - interval '2 minutes'")

            async def is_degraded() -> bool:
                return bool((await http.get("/readyz")).json().get("reasons") == ["read_models_behind"])

            await until(is_degraded)
            await connection.execute("UPDATE projections.generations SET paused = true")
            assert await read_raised(connection, [ledger], now=datetime.now(UTC)) == []


async def test_readiness_is_yes_or_no_however_connections_die(durable_database: str, tmp_path: Path) -> None:
    seen = set()
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server, key=None) as http, connected(server.dsn) as admin:
            for _ in range(CONNECTIONS_LOST):
                killing = admin.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                    """
                )
                answers = await asyncio.gather(http.get("/readyz"), killing, http.get("/readyz"))
                seen |= {(one.status_code, one.json()["status"]) for one in answers if isinstance(one, httpx.Response)}
    assert (200, "ready") in seen
    assert seen <= {(200, "ready"), (200, "degraded")}


async def test_health_tells_a_stranger_no_version_name_or_secret(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as http:
        for path in ("/livez", "/readyz", WEBHOOK):
            answer = await http.get(path)
            told = f"{answer.headers} {answer.text}"
            assert [word for word in (KEY, SECRET, "uvicorn", "litestar", "ostgre") if word in told.lower()] == []


# Stopping


async def test_a_server_told_to_stop_finishes_what_it_has_begun(server: Server) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "last"})
    headers = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    request = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request.encode() + body[:10])
        await writer.drain()
        async with speaking_to(server, key=None) as http:  # by then the server has begun with the other one
            assert (await http.get("/livez")).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        writer.write(body[10:])
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(20) in (0, -signal.SIGTERM)
    async with connected(server.dsn) as connection:
        assert [event.body for event in await whole_log(connection)] == [body]


async def test_what_was_refused_just_before_the_end_is_in_the_logs_too(server: Server) -> None:
    async with speaking_to(server, key=None) as http:
        await deliver_all(http, webhook("PING", {}))
        assert (await http.post(WEBHOOK, content=b"{}")).status_code == 401
    server.stop()
    async with connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT reason FROM ledger.deliveries") == "missing"
