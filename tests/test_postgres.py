"""Ways into PostgreSQL: sessions as we want them, sentences that tell no password, servers that we do not trust."""

import asyncio
import socket

import asyncpg
import pytest

from ledger import postgres
from ledger.errors import OperatorError, ServerUnreachable, UnsafeServer
from ledger.postgres import borrowed, connect, open_pool, refuse_old_server, refuse_unsafe_server

PASSWORD = "hunter2"
PATIENCE_SECONDS = 30.0


async def limits(connection: postgres.Connection) -> dict[str, str]:
    names = ("application_name", "TimeZone", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}


async def test_a_session_has_our_name_utc_and_time_limits(empty_database: str) -> None:
    connection = await connect(empty_database)
    try:
        assert await limits(connection) == {
            "application_name": "booking-ledger",
            "TimeZone": "UTC",
            "statement_timeout": "30s",
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "30s",
        }
        assert await connection.fetchval("""SELECT '{"a": 1}'::jsonb""") == '{"a": 1}'
    finally:
        await connection.close()


async def test_limits_that_a_user_of_the_pool_changed_are_back_for_the_next(empty_database: str) -> None:
    async with await open_pool(empty_database, connections_max=1, statement_seconds_max=1.5) as pool:
        async with pool.acquire() as connection:
            await connection.execute("SET statement_timeout = 0")
        async with pool.acquire() as connection:
            assert (await limits(connection))["statement_timeout"] == "1500ms"


async def test_a_borrowed_connection_is_taken_back_without_a_question_and_the_next_user_starts_afresh(
    empty_database: str,
) -> None:
    asked: list[str] = []
    async with await open_pool(empty_database, connections_max=1, statement_seconds_max=1.5) as pool:
        async with borrowed(pool, seconds_max=PATIENCE_SECONDS) as connection:
            connection.add_query_logger(lambda told: asked.append(told.query))
            await connection.execute("SELECT 1")
        assert asked == ["SELECT 1"]
        async with pool.acquire() as connection:
            await connection.execute("SET statement_timeout = 0")
        async with borrowed(pool, seconds_max=PATIENCE_SECONDS) as connection:
            assert (await limits(connection))["statement_timeout"] == "1500ms"


async def test_behind_a_pooler_only_what_a_pooler_accepts_is_asked_for(empty_database: str) -> None:
    async with await open_pool(empty_database, behind_pooler=True) as pool, pool.acquire() as connection:
        found = await limits(connection)
        assert (found["TimeZone"], found["statement_timeout"], found["lock_timeout"]) == ("UTC", "0", "0")


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("postgres://me:hunter2@127.0.0.1:1/ledger", "connection refused"),
        ("postgres://me:hunter2@/ledger?host=/nowhere", "there is no socket at that path"),
        ("postgres://me:hunter2@nowhere.invalid/ledger", "the host name is unknown"),
        ("postgres://me:hunter2/x@127.0.0.1/ledger", "the URL cannot be understood"),
        ("postgres://me:hunter2#x@127.0.0.1/ledger", "the URL cannot be understood"),
        ("postgres://me:hunter2@127.0.0.1:hunter2/ledger", "the URL cannot be understood"),
        ("postgres://me:hunter2@[hunter2/ledger", "the URL cannot be understood"),
        ("postgres://me:hunter2@a,,b/ledger", "the URL cannot be understood"),
        ("mysql://me:hunter2@127.0.0.1/ledger", "the URL, or a file that it names, cannot be used"),
        ("postgres://me:hunter2@127.0.0.1/ledger?sslmode=hunter2", "the URL, or a file that it names, cannot be used"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused_with_its_cause_and_without_its_password(
    address: str, cause: str
) -> None:
    for opening in (connect(address), open_pool(address)):
        with pytest.raises(ServerUnreachable) as refusal:
            await opening
        assert f"({cause})" in str(refusal.value)
        assert PASSWORD not in str(refusal.value)
        assert refusal.value.__suppress_context__


async def test_a_server_that_refuses_us_says_why(empty_database: str) -> None:
    with pytest.raises(ServerUnreachable, match="the database does not exist"):
        await connect(empty_database.replace("/test_", "/no_test_"))
    with pytest.raises(ServerUnreachable, match="the user is unknown"):
        await connect(empty_database.replace("//booking_ledger@", "//nobody_known@"))


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "CONNECT_SECONDS_MAX", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ServerUnreachable, match="no answer within"),
    ):
        await connect(f"postgres://me:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/ledger")


async def test_something_that_is_no_postgres_is_refused() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnreachable, match="the connection was closed at once"):
            await connect(f"postgres://me:{PASSWORD}@127.0.0.1:{port}/ledger")


async def test_a_server_without_fsync_is_refused(connection: asyncpg.Connection) -> None:
    with pytest.raises(UnsafeServer, match="fsync = off"):
        await refuse_unsafe_server(connection)


@pytest.mark.parametrize(("value", "is_safe"), [("off", False), ("local", True), ("on", True), ("remote_apply", True)])
async def test_synchronous_commit_of_our_own_database_counts(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, value: str, *, is_safe: bool
) -> None:
    query = (
        "SELECT 'on' AS fsync, 'on' AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit"
    )
    monkeypatch.setattr(postgres, "SQL", {"read_durability": query})  # the tests' cluster runs without fsync
    connection = await connect(empty_database)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {value}")
        await connection.close()
        connection = await connect(empty_database)
        if is_safe:
            await refuse_unsafe_server(connection)
        else:
            with pytest.raises(UnsafeServer, match="synchronous_commit = off"):
                await refuse_unsafe_server(connection)
    finally:
        await connection.close()


async def test_an_old_server_is_refused(connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_old_server(connection)
    monkeypatch.setattr(postgres, "SERVER_MAJOR_MIN", 99)
    with pytest.raises(OperatorError, match=r"The server is PostgreSQL \d+; this program needs 99 or newer"):
        refuse_old_server(connection)
