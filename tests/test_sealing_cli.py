"""Root keys on the command line and at the start of a server: what is refused, told, and changed."""

import base64
from pathlib import Path

import asyncpg
import msgspec
import pyarrow.parquet
import pytest

from ledger.keyring import Keyring, RootKey
from ledger.postgres import connect
from ledger.sealing import destroy_keys, opened_keyring, read_key_ids, sealing_of
from ledger.settings import load_settings
from ledger.vocabulary import StreamId
from tests.builders import MAIN, webhook
from tests.serving import connected, deliver_all, file, free_port, run, serving, speaking_to

BODY = webhook("BOOKING_CREATED", {"uid": "a", "title": "Bath of the canary"})


def new_key() -> str:
    made = run("sealing", "new-key")
    assert (made.returncode, made.stderr) == (0, "")
    return made.stdout.strip()


def id_of(key: str) -> str:
    return RootKey(base64.b64decode(key)).id


def test_a_new_key_is_one_that_the_setting_takes() -> None:
    first, second = new_key(), new_key()
    assert first != second
    settings = load_settings({"SEALING_KEY": f"{first}, {second}"})
    assert [key.reveal() for key in settings.sealing_keys] == [base64.b64decode(first), base64.b64decode(second)]
    assert load_settings({"SEALING_KEY": "ab" * 32}).sealing_keys[0].reveal() == b"\xab" * 32


@pytest.mark.parametrize("value", ["qq", "ab" * 31, "ab" * 33, f"{'ab' * 32},", "ab" * 32 + ",hunter2", "=" * 44])
def test_what_is_no_key_is_refused_without_being_shown(value: str) -> None:
    refused = run("sealing", "status", SEALING_KEY=value)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "SEALING_KEY must be keys of 32 bytes as base64 or hexadecimal digits" in refused.stderr
    assert value not in refused.stderr


def test_keys_live_in_another_database_or_in_the_same_one_without_the_setting() -> None:
    url = "postgresql://me@db/ledger"
    refused = run("sealing", "status", DATABASE_URL=url, KEYS_DATABASE_URL=url)
    assert (refused.returncode, "must lead to another database" in refused.stderr) == (2, True)


async def test_from_the_databases_own_key_to_one_outside_and_to_the_next(
    connection: asyncpg.Connection, database: str
) -> None:
    await file(connection, BODY)
    first, second = new_key(), new_key()
    within = run("sealing", "status", DATABASE_URL=database)
    assert "A dump of the database alone opens every body: set SEALING_KEY" in within.stdout

    out = {"DATABASE_URL": database, "SEALING_KEY": first}
    done = run("sealing", "rewrap", "--json", **out)
    assert msgspec.json.decode(done.stdout)["rewrapped"] == 1
    status = msgspec.json.decode(run("sealing", "status", "--json", **out).stdout)
    assert [(one["root_key"], one["place"], one["body_keys"]) for one in status["root_keys"]] == [
        (id_of(first), "SEALING_KEY", 1)
    ]
    assert "dump" not in run("sealing", "status", **out).stdout

    changed = run("sealing", "rewrap", DATABASE_URL=database, SEALING_KEY=f"{second},{first}")
    assert changed.stdout == f"1 keys wrapped anew by {id_of(second)}; forgotten: {id_of(first)}.\n"
    exported = run("events", "export", DATABASE_URL=database, SEALING_KEY=second)
    assert msgspec.json.decode(exported.stdout)["body"] == BODY.decode()
    assert run("verify", DATABASE_URL=database).returncode == 0, "the chain needs no key"

    wrong = run("events", "export", **out)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"SEALING_KEY does not hold root key {id_of(second)}" in wrong.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_a_wrong_key_refuses_start_and_names_the_setting(durable_database: str, command: str) -> None:
    right = new_key()
    connection = await connect(durable_database, keyring=Keyring([RootKey(base64.b64decode(right))]))
    await file(connection, BODY)
    await connection.close()
    for given in ({"SEALING_KEY": new_key()}, {}):
        refused = run(command, DATABASE_URL=durable_database, PORT=str(free_port()), **given)
        assert refused.returncode == 2, refused.stderr
        assert f"SEALING_KEY does not hold root key {id_of(right)}" in refused.stderr
        assert right not in refused.stderr


async def test_the_server_says_who_can_read_a_dump_and_doctor_says_it_too(
    durable_database: str, tmp_path: Path
) -> None:
    key = new_key()
    with serving(durable_database, tmp_path, SEALING_KEY=key) as server:
        assert "bodies are sealed under SEALING_KEY" in server.printed()
        async with speaking_to(server) as http:
            await deliver_all(http, BODY)
        async with connected(durable_database) as connection:
            assert await connection.fetchval("SELECT root_key FROM ledger.body_keys") == id_of(key)
            assert await connection.fetchval("SELECT encoding FROM ledger.events") == 3
    told = msgspec.json.decode(run("doctor", "--json", DATABASE_URL=durable_database, SEALING_KEY=key).stdout)
    [sealing] = [check for check in told["checks"] if check["name"] == "sealing"]
    assert (sealing["ok"], sealing["detail"]) == (
        True,
        "1 keys, 0 destroyed; a dump of the log alone opens no body",
    )
    told = msgspec.json.decode(run("doctor", "--json", DATABASE_URL=durable_database).stdout)
    [sealing] = [check for check in told["checks"] if check["name"] == "sealing"]
    assert (sealing["ok"], id_of(key) in sealing["detail"]) == (False, True)


async def test_migrate_brings_the_database_of_keys_up_too(database: str, empty_database: str) -> None:
    settings = {"DATABASE_URL": database, "KEYS_DATABASE_URL": empty_database}
    behind = run("sealing", "status", **settings)
    assert behind.returncode != 0
    migrated = run("migrate", "--json", **settings)
    assert msgspec.json.decode(migrated.stdout)["applied"] == ["keys/0001_body_keys"]
    assert run("sealing", "status", **settings).returncode == 0
    assert run("migrate", "--json", **settings).stdout == '{\n  "applied": []\n}\n'


async def test_what_was_erased_is_exported_as_such(
    connection: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    await file(connection, BODY)
    await destroy_keys(connection, MAIN, await read_key_ids(connection, MAIN, [StreamId("booking-a")]))
    line = msgspec.json.decode(run("events", "export", DATABASE_URL=database).stdout)
    assert (line["body"], line["erased"]) == (None, True)
    path = tmp_path / "log.parquet"
    run("events", "export", "--format", "parquet", "--output", str(path), DATABASE_URL=database)
    [row] = pyarrow.parquet.read_table(path).to_pylist()
    assert (row["body"], row["erased"]) == (None, True)
    verified = run("verify", "--signatures", "--json", DATABASE_URL=database)
    assert msgspec.json.decode(verified.stdout)["signatures"]["erased"] == 1


@pytest.mark.parametrize("place", ["SEALING_KEY", "KEYS_DATABASE_URL"])
async def test_a_rebuild_by_processes_of_its_own_opens_the_bodies(
    database: str, empty_database: str, place: str
) -> None:
    settings = {"DATABASE_URL": database, place: new_key() if place == "SEALING_KEY" else empty_database}
    assert run("migrate", **settings).returncode == 0
    async with opened_keyring(sealing_of(load_settings(settings))) as keyring:
        connection = await connect(database, keyring=keyring)
        await file(connection, BODY)
        await connection.close()
    rebuilt = run("projections", "rebuild", "webhook_logs", "--json", **settings)
    assert rebuilt.returncode == 0, rebuilt.stderr
    async with connected(database) as reader:
        title = await reader.fetchval("SELECT payload->'payload'->>'title' FROM webhook_logs")
        assert title == "Bath of the canary"
