"""The data dictionary: every view that people query, and every column of it, says what it means."""

import asyncpg

from tests.serving import Server, assert_is_problem, connected, speaking_to

VIEWS = {
    *("booking_attendees", "booking_statistics", "calendar_events", "clients", "meetings", "projection_status"),
    *("status_words", "sync_lag", "webhook_events", "webhook_logs"),
}


async def test_every_view_and_every_column_has_a_comment(connection: asyncpg.Connection) -> None:
    silent = await connection.fetch(
        """
        SELECT c.relname || coalesce('.' || a.attname, '')
        FROM pg_class AS c
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
          AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)
        ORDER BY 1
        """
    )
    assert [row[0] for row in silent] == []


async def test_the_dictionary_tells_what_the_database_tells(shared_server: Server) -> None:
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        told = (await http.get("/api/dictionary")).json()["views"]
        rows = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "ORDER BY table_name, ordinal_position"
        )
    assert {view["name"] for view in told} >= VIEWS
    assert [(view["name"], column["name"]) for view in told for column in view["columns"]] == [
        (row["table_name"], row["column_name"]) for row in rows
    ]
    assert all(view["comment"] and column["comment"] for view in told for column in view["columns"])
    events = next(view for view in told if view["name"] == "calendar_events")
    assert {column["name"]: column["type"] for column in events["columns"]}["start_time"] == "timestamp with time zone"


async def test_a_view_of_the_analysts_own_is_theirs_to_describe(shared_server: Server) -> None:
    """Other programs may live in the same database, and people may keep views of their own there."""
    async with speaking_to(shared_server) as http, connected(shared_server.dsn) as connection:
        await connection.execute("CREATE VIEW public.of_another_program AS SELECT 1 AS one")
        told = (await http.get("/api/dictionary")).json()["views"]
        await connection.execute("DROP VIEW public.of_another_program")
    assert "of_another_program" not in {view["name"] for view in told}


async def test_the_dictionary_is_for_those_who_may_read(shared_server: Server) -> None:
    async with speaking_to(shared_server, key=None) as http:
        assert_is_problem(await http.get("/api/dictionary"), 401)
