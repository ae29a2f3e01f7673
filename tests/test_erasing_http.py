"""Forgetting somebody as an operator does it: over HTTP and from the command line, with servers that go on running."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from ledger.erasures import begin
from ledger.redacting import person_tag
from tests.builders import main_ledger, webhook
from tests.serving import (
    Server,
    assert_is_problem,
    connected,
    deliver,
    deliver_all,
    run,
    serving,
    speaking_to,
    until_current,
)
from tests.test_erasing import dump
from tests.town import Citizen, build, everywhere, payload

BEGUN = datetime(2026, 10, 1, 8, 0, tzinfo=UTC)
ERASURES = "/api/admin/erasures"


async def test_somebody_is_forgotten_over_http_and_the_receipt_does_not_say_who(server: Server) -> None:
    town = build(20, begun=BEGUN)
    one = town.citizens[3]
    async with speaking_to(server) as http, connected(server.dsn) as connection:
        await deliver_all(http, *town.bodies)
        await until_current(connection)
        tried = (await http.post(ERASURES, json={"email": one.written, "dry_run": True})).json()
        assert tried["extent"]["shared_bookings"] == ["uid4a"]
        assert tried["erasure"] is None
        answer = await http.post(ERASURES, json={"email": one.written})
        assert answer.status_code == 200, answer.text
        erasure = answer.json()["erasure"]
        assert (erasure["state"], erasure["receipt"]["shared_bookings"]) == ("done", 1)
        assert (await http.get(ERASURES)).json()["erasures"] == [erasure]
        assert list(everywhere([one], await dump(connection))) == []
        told = [await http.get(path) for path in ("/api/bookings?limit=100", "/api/bookings/uid4a", ERASURES)]
        told.append(await http.get("/api/bookings/uid4a/history"))
        assert [each.status_code for each in told] == [200] * len(told)
        assert list(everywhere([one], b"".join(each.content for each in told))) == []
        repeated = await deliver(http, town.bodies[3])
        assert repeated.json()["duplicate"] is True
        again = [body for body in town.bodies if one.email.encode() in body.lower()]
        late = [body.replace(b"2026-10-01T08:", b"2026-10-01T09:") for body in again]
        await deliver_all(http, *late)
        await until_current(connection)
        assert list(everywhere([one], await dump(connection))) == []
    assert list(everywhere(town.citizens, server.log.read_bytes())) == []


@pytest.mark.parametrize("wish", [{}, {"email": "nobody"}, {"email": "a b@example.com"}, {"email": "a@b", "all": True}])
async def test_a_wish_that_names_nobody_is_refused(shared_server: Server, wish: dict[str, object]) -> None:
    async with speaking_to(shared_server) as http:
        assert_is_problem(await http.post(ERASURES, json=wish), 400)


async def test_the_command_asks_for_a_yes_and_says_what_it_did(durable_database: str, tmp_path: Path) -> None:
    ann, bob = Citizen(1), Citizen(2)
    where = {"DATABASE_URL": durable_database, "BOOKING_LEDGER_HOME": str(tmp_path)}
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server) as http, connected(durable_database) as connection:
            await deliver_all(
                http,
                webhook("BOOKING_CREATED", payload("a", ann, start=BEGUN), at=BEGUN),
                webhook("BOOKING_CREATED", payload("b", bob, ann, start=BEGUN), at=BEGUN),
                webhook("BOOKING_CREATED", payload("c", bob, start=BEGUN), at=BEGUN),
            )
            await until_current(connection)
            assert run("erase", **where).returncode == 2
            assert run("erase", "--email", ann.email, **where).returncode == 2
            tried = run("erase", "--email", ann.email, "--dry-run", **where)
            assert "Bookings that would be erased: 1 (a)" in tried.stdout, tried.stderr
            done = run("erase", "--emails-from", "-", "--yes", "--json", stdin=f"{ann.written}\n\n", **where)
            assert done.returncode == 0, done.stderr
            (erasure,) = msgspec.json.decode(done.stdout)["erasures"]
            assert erasure["receipt"] == {"bookings": 1, "shared_bookings": 1, "events": 2}
            assert list(everywhere([ann], await dump(connection))) == []
            assert (await http.get("/api/bookings/a")).status_code == 404
            left = (await http.get("/api/bookings/a/history")).json()["history"]
            assert [(entry["fact"], entry["changes"]) for entry in left] == [("Erased", [])]
            assert (await http.get("/api/bookings/b")).json()["booking"]["attendee_email"] == bob.email
        exported = run("events", "export", **where).stdout
        verified = run("verify", "--json", "--signatures", CAL_COM_WEBHOOK_SECRET=server.secret, **where)
        history = run("bookings", "history", "b", **where)
    assert msgspec.json.decode(verified.stdout)["ok"], verified.stdout
    lines = [msgspec.json.decode(line) for line in exported.splitlines()]
    assert [line.get("erased", False) for line in lines] == [True, True, False, False, False]
    told = f"{exported}{verified.stdout}{history.stdout}{done.stdout}{done.stderr}{server.printed()}"
    assert list(everywhere([ann], told.encode())) == []


async def test_a_server_that_starts_finishes_what_was_begun(durable_database: str, tmp_path: Path) -> None:
    ann = Citizen(1)
    async with connected(durable_database) as connection:
        with serving(durable_database, tmp_path) as server:
            async with speaking_to(server) as http:
                await deliver_all(http, webhook("BOOKING_CREATED", payload("a", ann, start=BEGUN), at=BEGUN))
            await until_current(connection)
        await begin_and_die(connection, ann)
        with serving(durable_database, tmp_path) as server:
            assert list(everywhere([ann], await dump(connection))) == []
            assert await connection.fetchval("SELECT state FROM ledger.erasures") == "done"


async def begin_and_die(connection: asyncpg.Connection, one: Citizen) -> None:
    """As a process that was killed right after the tombstone was there."""
    ledger = await main_ledger(connection)
    await begin(connection, ledger, {uuid4(): person_tag(ledger, one.email)}, cause="request", erased_at=None)
