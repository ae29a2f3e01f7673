"""Cal.com's signature stays with the event, and shows later what the chain cannot: that the body is Cal.com's own."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from ledger.calcom.signature import secret_id, sign, verify
from ledger.filing import Receipt, file_delivery
from ledger.signatures import SignatureReport, check_signatures
from ledger.store import append
from tests.builders import MAIN, NOON, main_ledger, minutes, new_event, webhook
from tests.serving import SECRET, SIGNATURE, WEBHOOK, Server, connected, run, speaking_to
from tests.tampering import rewrite

OLD, NEW = b"the old secret", b"the new secret"


async def deliver_signed(connection: asyncpg.Connection, body: bytes, secret: bytes) -> None:
    """As the webhook route does it."""
    ledger = await main_ledger(connection)
    receipt = Receipt(received_at=NOON, signature=bytes.fromhex(sign(body, secret)), secret_id=secret_id(secret))
    await append(connection, MAIN, file_delivery(ledger, body, receipt, fresh_id=uuid4()).events)


async def checked(connection: asyncpg.Connection, *secrets: bytes) -> SignatureReport:
    return await check_signatures(connection, await main_ledger(connection), secrets)


def created(uid: str) -> bytes:
    return webhook("BOOKING_CREATED", {"uid": uid, "title": "Bürste 🐶"})


# Kept


@pytest.mark.parametrize("written", ["{}", "sha256={}"])
@pytest.mark.parametrize("upper", [False, True])
def test_a_signature_is_kept_in_one_spelling(written: str, upper: bool) -> None:  # noqa: FBT001  # parametrized
    digits = sign(b"body", OLD)
    value = written.format(digits.upper() if upper else digits).encode()
    assert verify(b"body", [(b"host", b"x"), (b"x-cal-signature-256", value)], [OLD]).signature.hex() == digits


def test_a_secret_has_eight_digits_that_are_no_signature_of_its() -> None:
    assert len(secret_id(OLD)) == len(secret_id(b"")) == 8
    assert secret_id(OLD) == secret_id(bytes(OLD)) != secret_id(NEW)


def test_receipts_of_before_signatures_were_kept_can_still_be_read() -> None:
    receipt = msgspec.json.decode(b'{"at":"2026-12-01T12:00:00Z","secret":1}', type=Receipt)
    assert receipt == Receipt(received_at=NOON, secret=1)
    assert (receipt.signature, receipt.secret_id) == (None, None)
    assert b"mac" not in msgspec.json.encode(receipt)


async def test_the_server_keeps_the_signature_that_came(server: Server) -> None:
    bodies = [webhook("BOOKING_CREATED", {"uid": f"uid{n}"}, at=minutes(n)) for n in range(3)]
    async with speaking_to(server) as http:
        for body in bodies:
            signature = f"sha256={sign(body, SECRET.encode()).upper()}"
            answer: httpx.Response = await http.post(WEBHOOK, content=body, headers={SIGNATURE: signature})
            assert answer.status_code == 200, answer.text
    async with connected(server.dsn) as connection:
        rows = await connection.fetch("SELECT metadata FROM ledger.events ORDER BY position")
        receipts = [msgspec.json.decode(row["metadata"], type=Receipt) for row in rows]
        assert [receipt.signature.hex() for receipt in receipts if receipt.signature] == [
            sign(body, SECRET.encode()) for body in bodies
        ]
        assert {receipt.secret_id for receipt in receipts} == {secret_id(SECRET.encode())}
        assert await checked(connection, SECRET.encode()) == SignatureReport(right=3)


# Checked again


async def test_every_webhook_is_counted_once_and_nothing_else_is(connection: asyncpg.Connection) -> None:
    await deliver_signed(connection, created("a"), OLD)
    await deliver_signed(connection, created("b"), NEW)
    rescheduled = webhook("BOOKING_RESCHEDULED", {"uid": "c", "rescheduleUid": "a"}, at=NOON + timedelta(1))
    await deliver_signed(connection, rescheduled, NEW)
    await append(connection, MAIN, [new_event(), new_event(metadata="nothing that can be read")])
    assert await connection.fetchval("SELECT count(*) FROM ledger.events WHERE source = 'link'") == 1
    assert await checked(connection, NEW, OLD) == SignatureReport(right=3, without_signature=2)
    assert await checked(connection, NEW) == SignatureReport(right=2, without_signature=2, unknown_secret=1)
    assert await checked(connection) == SignatureReport(without_signature=2, unknown_secret=3)


async def test_pages_are_counted_through(connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.signatures.PAGE_EVENTS", 3)
    for number in range(8):
        await deliver_signed(connection, created(f"uid{number}"), OLD)
    assert await checked(connection, OLD) == SignatureReport(right=8)


@pytest.mark.parametrize(
    "change",
    [
        "state = state || ' '",
        "state = set_byte(state, 40, get_byte(state, 40) # 1)",
        "state = (SELECT e.state FROM ledger.events AS e WHERE e.position = 2)",
        "state = convert_to('{\"uid\":\"uid6\"}', 'UTF8'), encoding = 0",
        'metadata = replace(metadata, \'"mac":"\', \'"mac":"0000\')',
        "metadata = (SELECT e.metadata FROM ledger.events AS e WHERE e.position = 2)",
    ],
)
async def test_a_body_that_is_not_cal_coms_is_found_even_when_the_chain_was_made_anew(
    connection: asyncpg.Connection, change: str
) -> None:
    for number in range(1, 8):
        await deliver_signed(connection, created(f"uid{number}"), OLD)
    statement = "UPDATE ledger.events SET %s WHERE position = 5"
    await rewrite(connection, statement % change)
    found = await checked(connection, OLD)
    assert (found.right, found.mismatched, found.first_mismatched_position, found.ok) == (6, 1, 5, False)


async def test_signatures_are_checked_on_the_command_line_on_request(
    database: str, connection: asyncpg.Connection
) -> None:
    for number in range(1, 4):
        await deliver_signed(connection, created(f"uid{number}"), OLD)
    settings = {"DATABASE_URL": database, "CAL_COM_WEBHOOK_SECRET": f"{NEW.decode()},{OLD.decode()}"}
    plain = run("verify", "--signatures", **settings)
    assert (plain.returncode, plain.stdout.splitlines()[1:]) == (
        0,
        [
            (
                "Signatures: 3 right, 0 wrong, 0 not kept, 0 under a secret that is not configured, "
                "0 of bodies that were erased."
            )
        ],
    )
    assert "signatures" not in msgspec.json.decode(run("verify", "--json", **settings).stdout)
    await rewrite(connection, "UPDATE ledger.events SET state = 'x' WHERE position = 2")
    found = run("verify", "--signatures", "--json", **settings)
    document: dict[str, Any] = msgspec.json.decode(found.stdout)
    assert (found.returncode, document["ok"], document["first_bad_position"]) == (1, False, None)
    assert document["signatures"] == {
        "right": 2,
        "mismatched": 1,
        "without_signature": 0,
        "unknown_secret": 0,
        "erased": 0,
        "first_mismatched_position": 2,
    }
    assert "The first wrong one is at position 2." in run("verify", "--signatures", **settings).stdout
    assert run("verify", **settings).returncode == 0, "the chain alone does not show it"
