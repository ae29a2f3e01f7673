"""API keys: their form, what is kept of them, when they open and from when on they do not."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from api.key_ring import KEPT_SECONDS, KeyRing
from api.usage import Usage
from ledger.api_keys import (
    ALPHABET,
    SECRET_CHARACTERS,
    KeyId,
    create_key,
    digest_of,
    is_well_formed,
    list_keys,
    new_key,
    prefix_of,
    read_live_keys,
    revoke_key,
)
from ledger.errors import BadParameter, NotFound, OperatorError
from ledger.vocabulary import Role
from tests.serving import Server, assert_is_problem, connected, run, speaking_to, until

FORM = re.compile(r"cbl_[0-9A-Za-z]{8}_[0-9A-Za-z]{33}_[0-9A-Za-z]{6}")
REVOKED_SECONDS_MAX = 5.0


async def made(
    connection: asyncpg.Connection, *, name: str = "", role: Role = "viewer", expires_at: datetime | None = None
) -> str:
    """A key that is in the database."""
    key = new_key()
    await create_key(connection, key, name=name, role=role, ledger_id=None, expires_at=expires_at)
    return key


# Form


def test_a_key_has_its_form_and_no_two_are_alike() -> None:
    keys = {new_key() for _ in range(1_000)}
    assert len(keys) == 1_000
    assert all(FORM.fullmatch(key) and is_well_formed(key) for key in keys)
    assert len(ALPHABET) ** SECRET_CHARACTERS >= 2**192


KEY = new_key()


@given(place=st.integers(0, len(KEY) - 1), character=st.sampled_from(ALPHABET + "_"))
def test_a_key_with_one_character_mistyped_is_told_from_every_key(place: int, character: str) -> None:
    mistyped = KEY[:place] + character + KEY[place + 1 :]
    assert is_well_formed(mistyped) == (mistyped == KEY)


@given(place=st.integers(0, len(KEY) - 2))
def test_a_key_with_two_characters_exchanged_is_told_from_every_key(place: int) -> None:
    mistyped = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert is_well_formed(mistyped) == (mistyped == KEY)


@pytest.mark.parametrize(
    "text", ["", "_", "cbl", "cbl___", KEY + "x", KEY[1:], KEY[:-1], KEY.upper(), f" {KEY}", "cbl_ä", "x" * 10_000]
)
def test_what_is_no_key_is_told_from_every_key(text: str) -> None:
    assert not is_well_formed(text)


@given(st.text())
def test_any_text_is_a_key_or_none(text: str) -> None:
    assert not is_well_formed(text)


# What is kept


async def test_of_a_key_only_its_digest_is_in_the_database(connection: asyncpg.Connection) -> None:
    key = await made(connection, name="the till")
    tables = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND oid > 16384"
    )
    for table in tables:
        text = await connection.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table['name']} AS t")  # noqa: S608  # from the catalogue
        secret = key.split("_")[2]
        assert secret not in (text or ""), table["name"]
        assert secret.encode().hex() not in (text or ""), table["name"]
    assert await connection.fetchval("SELECT digest FROM access.api_keys") == digest_of(key)


async def test_a_key_opens_until_it_expires_or_is_revoked(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    for_ever, for_a_day = await made(connection), await made(connection, expires_at=now + timedelta(days=1))
    over, revoked = await made(connection, expires_at=now - timedelta(seconds=1)), await made(connection)
    await revoke_key(connection, prefix_of(revoked))
    live = await read_live_keys(connection)
    assert set(live) == {digest_of(for_ever), digest_of(for_a_day)}
    assert digest_of(over) not in live
    assert [one.state for one in await list_keys(connection)] == ["live", "live", "expired", "revoked"]


async def test_a_key_is_revoked_by_the_beginning_of_its_name_or_by_itself(connection: asyncpg.Connection) -> None:
    for part in (slice(0, 9), slice(4, 12), slice(0, None)):
        key = await made(connection)
        assert await revoke_key(connection, key[part]) == prefix_of(key)
    assert await read_live_keys(connection) == {}


async def test_revoking_again_keeps_the_first_time(connection: asyncpg.Connection) -> None:
    prefix = prefix_of(await made(connection))
    times = []
    for _ in range(2):
        await revoke_key(connection, prefix)
        times.append((await list_keys(connection))[0].revoked_at)
    assert times[0] == times[1] is not None


async def test_a_prefix_that_names_no_key_or_several_revokes_nothing(connection: asyncpg.Connection) -> None:
    one, other = "cbl_same0001_x_y", "cbl_same0002_x_y"
    for key in (one, other):
        await create_key(connection, key, name="", role="viewer", ledger_id=None, expires_at=None)
    for prefix in ("", "cbl_", "cbl_sam", "sam", "cbl_same"):
        with pytest.raises(BadParameter):
            await revoke_key(connection, prefix)
    for prefix in ("cbl_none", new_key(), "same0003"):
        with pytest.raises(NotFound) as told:
            await revoke_key(connection, prefix)
        assert len(str(told.value)) < 60, "no secret in it"
    assert len(await read_live_keys(connection)) == 2


async def test_there_is_an_end_to_the_number_of_live_keys(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.api_keys.LIVE_KEYS_MAX", 2)
    first, _ = await made(connection), await made(connection)
    with pytest.raises(OperatorError, match="revoke"):
        await made(connection)
    await revoke_key(connection, first)
    await made(connection)


# The ring


class Counting:
    """A pool that counts how often it is asked."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool, self.asked = pool, 0

    def acquire(self) -> Any:
        self.asked += 1
        return self.pool.acquire()


async def test_a_mistyped_key_is_told_without_asking_the_database(pool: asyncpg.Pool) -> None:
    counting = Counting(pool)
    ring = KeyRing(cast("asyncpg.Pool", counting))
    for text in (KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), "", "Bearer", KEY.lower()):
        assert await ring.find(text) is None
    assert counting.asked == 0


async def test_asking_for_the_same_key_again_and_again_asks_the_database_once(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    key, counting = await made(connection), Counting(pool)
    ring = KeyRing(cast("asyncpg.Pool", counting))
    for _ in range(100):
        found = await ring.find(key)
        assert found is not None
        assert found.key_id == key.split("_")[1]
    assert counting.asked <= 2  # two, where the machine was so slow that it was time to look again


async def test_guessing_asks_the_database_a_few_times_a_second_at_most(pool: asyncpg.Pool) -> None:
    counting, begun_at = Counting(pool), time.monotonic()
    ring = KeyRing(cast("asyncpg.Pool", counting))
    for _ in range(3):
        assert set(await asyncio.gather(*(ring.find(new_key()) for _ in range(300)))) == {None}
    assert counting.asked <= 1 + (time.monotonic() - begun_at) / 0.2 + 1
    assert counting.asked < 100


async def test_a_key_made_a_moment_ago_opens_at_once_even_while_others_guess(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    ring = KeyRing(pool)
    for _ in range(3):
        assert await ring.find(new_key()) is None
        assert await ring.find(await made(connection)) is not None


async def test_a_key_that_expires_while_it_is_in_memory_opens_no_more(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    ring = KeyRing(pool)
    key = await made(connection, expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    await ring.find(key)

    async def is_over() -> bool:
        return await ring.find(key) is None

    await until(is_over)
    assert (await list_keys(connection))[0].state == "expired"


# Last use


async def test_uses_are_written_together_and_never_go_back(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    ids = [KeyId(prefix_of(await made(connection)).removeprefix("cbl_")) for _ in range(3)]
    usage = Usage(pool, [b"one", b"two"])
    usage.note_key(ids[0], now - timedelta(hours=1))
    usage.note_key(ids[0], now)
    usage.note_key(ids[1], now)
    usage.note_secret(1, now)
    await usage.flush()
    usage.note_key(ids[1], now - timedelta(days=1))  # of a server that writes late
    usage.note_secret(1, now - timedelta(days=1))
    await usage.flush()
    assert [one.last_used_at for one in await list_keys(connection)] == [now, now, None]
    kept = await connection.fetch("SELECT fingerprint, last_used_at FROM access.webhook_secrets")
    assert [(row["fingerprint"], row["last_used_at"]) for row in kept] == [("3fc4", now)]


async def test_uses_that_cannot_be_written_now_are_written_later(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    usage = Usage(pool, [])
    usage.note_key(KeyId(prefix_of(await made(connection)).removeprefix("cbl_")), now)
    await connection.execute("ALTER TABLE access.api_keys RENAME TO elsewhere")
    with pytest.raises(asyncpg.UndefinedTableError):
        await usage.flush()
    await connection.execute("ALTER TABLE access.elsewhere RENAME TO api_keys")
    await usage.flush()
    assert (await list_keys(connection))[0].last_used_at == now


# On the command line and over HTTP


@pytest_asyncio.fixture
async def http(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(shared_server, key=None) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_printed_once_and_then_known_by_its_prefix(shared_database: str) -> None:
    created = run("keys", "create", "--role", "operator", "--name", "the till", DATABASE_URL=shared_database)
    assert created.returncode == 0, created.stderr
    key = created.stdout.strip()
    assert FORM.fullmatch(key)
    assert key not in created.stderr
    listed = run("keys", "list", DATABASE_URL=shared_database).stdout
    assert key.split("_")[2] not in listed
    (line,) = [line for line in listed.splitlines() if prefix_of(key) in line]
    assert [word for word in ("the till", "operator", "every", "live") if word not in line] == []


def test_as_json_everything_is_named(shared_database: str) -> None:
    arguments = ("keys", "create", "--role", "viewer", "--expires", "30", "--ledger", "main", "--json")
    made_key = msgspec.json.decode(run(*arguments, DATABASE_URL=shared_database).stdout)
    assert made_key.keys() == {"key", "prefix", "role", "ledger", "name", "expires_at"}
    assert (made_key["role"], made_key["ledger"]) == ("viewer", "main")
    expires_at = datetime.fromisoformat(made_key["expires_at"])
    assert timedelta(days=29) < expires_at - datetime.now(UTC) < timedelta(days=31)
    listed = msgspec.json.decode(run("keys", "list", "--json", DATABASE_URL=shared_database).stdout)
    (found,) = [one for one in listed if one["prefix"] == made_key["prefix"]]
    assert (found["state"], found["ledger"], found["last_used_at"]) == ("live", "main", None)
    revoked = run("keys", "revoke", made_key["prefix"], "--json", DATABASE_URL=shared_database).stdout
    assert msgspec.json.decode(revoked) == {"revoked": made_key["prefix"]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "--role", "owner"),
        ("create", "--role", "viewer", "--ledger", "nobody"),
        ("create", "--role", "viewer", "--expires", "0"),
        ("create", "--role", "viewer", "--name", "x" * 101),
        ("create", "--role", "viewer", "--name", "a\x1b[2J"),
        ("revoke", "cbl_nothere1"),
        ("revoke", "cbl_"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(shared_database: str, arguments: tuple[str, ...]) -> None:
    refused = run("keys", *arguments, DATABASE_URL=shared_database)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


async def test_two_keys_are_live_at_once_and_a_revoked_one_is_dead_within_five_seconds(
    shared_server: Server, http: httpx.AsyncClient
) -> None:
    old, new = (run("keys", "create", "--role", "viewer", DATABASE_URL=shared_server.dsn).stdout.strip() for _ in "ab")
    for key in (old, new):
        assert (await http.get("/api/bookings", headers=bearer(key))).status_code == 200
    assert run("keys", "revoke", prefix_of(old), DATABASE_URL=shared_server.dsn).returncode == 0
    revoked_at = time.monotonic()

    async def is_dead() -> bool:
        answer = await http.get("/api/bookings", headers=bearer(old))
        assert answer.status_code in (200, 401)
        return answer.status_code == 401

    await until(is_dead)
    assert time.monotonic() - revoked_at < REVOKED_SECONDS_MAX
    assert KEPT_SECONDS < REVOKED_SECONDS_MAX
    assert (await http.get("/api/bookings", headers=bearer(new))).status_code == 200


async def test_a_key_counts_in_its_header_alone(shared_server: Server, http: httpx.AsyncClient) -> None:
    async with connected(shared_server.dsn) as connection:
        key = await made(connection)
    assert_is_problem(await http.get("/api/bookings", params={"key": key}), 401)
    assert_is_problem(await http.get("/api/bookings", headers={"cookie": f"session={key}"}), 401)
    assert_is_problem(await http.get("/api/bookings", headers={"authorization": key}), 401)
    assert_is_problem(await http.get("/api/bookings", headers={"authorization": f"Basic {key}"}), 401)
    assert (await http.get("/api/bookings", headers=bearer(key))).status_code == 200
