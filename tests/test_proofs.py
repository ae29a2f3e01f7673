"""Inclusion proofs: a booking's history for others to check, of which no bit can be changed."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from ledger.calcom.envelope import booking_stream
from ledger.errors import EvidenceRefused, LogContradicted
from ledger.notes import SigningKey, VerifierKey
from ledger.proofs import Proof, check_proof, opened_body, prove
from ledger.publishing import sign_log
from ledger.sealing import destroy_keys, read_key_ids
from ledger.store import append
from tests.builders import MAIN, NOON, add_ledger, deliver, main_ledger, minutes, new_event, webhook, whole_log
from tests.serving import run
from tests.tampering import rewrite, with_triggers_off

KEY = SigningKey("salon.example", b"\x05" * 32)
BYSTANDERS = 40
STREAMS = [booking_stream("old"), booking_stream("new")]


async def note_of(connection: asyncpg.Connection) -> bytes:
    written = await sign_log(connection, await main_ledger(connection), key=KEY, now=NOON)
    return written.note.encode()


async def bystanders(connection: asyncpg.Connection, count: int) -> None:
    await append(connection, MAIN, [new_event(f"booking-{uuid4().hex}") for _ in range(count)])


@pytest_asyncio.fixture
async def rescheduled(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A booking that was rescheduled and then cancelled, among many others."""
    await bystanders(connection, BYSTANDERS)
    await deliver(connection, webhook("BOOKING_CREATED", {"uid": "old", "title": "Bürste & Föhn 🐶"}))
    await bystanders(connection, BYSTANDERS)
    await deliver(
        connection,
        webhook("BOOKING_RESCHEDULED", {"uid": "new", "rescheduleUid": "old"}, at=minutes(1)),
        webhook("BOOKING_CANCELLED", {"uid": "new"}, at=minutes(2)),
    )
    await bystanders(connection, BYSTANDERS)
    return connection


async def proved(connection: asyncpg.Connection, note: bytes, *, key: VerifierKey = KEY.verifier) -> tuple[Proof, int]:
    return await prove(connection, await main_ledger(connection), STREAMS, note=note, key=key)


def refusal(proof: Proof | bytes, key: VerifierKey = KEY.verifier) -> str:
    with pytest.raises(EvidenceRefused) as refused:
        check_proof(proof.encoded() if isinstance(proof, Proof) else proof, key)
    return refused.value.reason


async def test_a_proof_holds_every_event_of_the_chain_as_it_lies_in_the_log(rescheduled: asyncpg.Connection) -> None:
    proof, late = await proved(rescheduled, await note_of(rescheduled))
    assert late == 0
    found, checkpoint = check_proof(proof.encoded(), KEY.verifier)
    assert (found, checkpoint.position) == (proof, 3 * BYSTANDERS + 4)
    rows = await rescheduled.fetch(
        "SELECT * FROM ledger.events WHERE stream_id = ANY($1::text[]) ORDER BY position", STREAMS
    )
    assert len(rows) == 4
    for event, row in zip(found.events, rows, strict=True):
        shown = {name: value for name, value in msgspec.structs.asdict(event).items() if name != "path"}
        assert shown == {name: row[name] for name in shown}


async def test_a_proof_opens_the_bodies_of_its_booking_and_no_others(rescheduled: asyncpg.Connection) -> None:
    note = await note_of(rescheduled)
    proof, _ = await proved(rescheduled, note)
    bodies = [opened_body(proof, event) for event in proof.events]
    assert bodies == [event.body for event in await whole_log(rescheduled) if event.stream_id in STREAMS]
    assert {one.key_id for one in proof.keys} == {event.state[:16] for event in proof.events}
    other = msgspec.structs.replace(proof.keys[0], key=bytes(32))
    swapped = msgspec.structs.replace(proof, keys=(other, *proof.keys[1:]))
    assert "does not open with the key shown" in refusal(swapped)
    more = msgspec.structs.replace(proof, keys=(*proof.keys, msgspec.structs.replace(other, key_id=bytes(16))))
    assert "none of its events was sealed under" in refusal(more)


async def test_a_proof_of_a_booking_that_was_erased_still_holds(rescheduled: asyncpg.Connection) -> None:
    note = await note_of(rescheduled)
    before, _ = await proved(rescheduled, note)
    await destroy_keys(rescheduled, MAIN, await read_key_ids(rescheduled, MAIN, STREAMS))
    after, _ = await proved(rescheduled, note)
    found, _ = check_proof(after.encoded(), KEY.verifier)
    assert (found.events, found.keys) == (before.events, ())
    assert [opened_body(found, event) for event in found.events] == [None] * 4


async def test_an_old_proof_stays_right_while_the_log_grows(rescheduled: asyncpg.Connection) -> None:
    note = await note_of(rescheduled)
    before, _ = await proved(rescheduled, note)
    await deliver(rescheduled, webhook("BOOKING_CREATED", {"uid": "new"}, at=minutes(3)))
    after, late = await proved(rescheduled, note)
    assert (after, late) == (before, 1)
    newer, late = await proved(rescheduled, await note_of(rescheduled))
    assert (len(newer.events), late) == (5, 0)
    check_proof(newer.encoded(), KEY.verifier)


async def test_no_bit_of_a_proof_can_be_changed(rescheduled: asyncpg.Connection) -> None:
    proof, _ = await proved(rescheduled, await note_of(rescheduled))
    data = proof.encoded()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            assert refusal(bytes(changed))


async def test_a_proof_says_what_was_done_to_it(rescheduled: asyncpg.Connection) -> None:
    proof, _ = await proved(rescheduled, await note_of(rescheduled))
    replace, events = msgspec.structs.replace, proof.events
    last = events[-1]

    def with_last(**fields: object) -> Proof:
        return replace(proof, events=(*events[:-1], replace(last, **fields)))

    not_signed = f"the event shown at position {last.position} is not the one that was signed"
    for fields in (
        {"state": last.state + b" "},
        {"topic": "calcom.booking_created"},
        {"metadata": "{}"},
        {"occurred_at": NOON},
        {"recorded_at": NOON},
        {"event_id": events[0].event_id},
        {"stream_version": last.stream_version + 1},
        {"encoding": 1},
        {"path": last.path[:-1]},
        {"path": events[0].path},
    ):
        assert refusal(with_last(**fields)) == not_signed
    assert "is not the one that was signed" in refusal(with_last(position=last.position + 1))
    assert "is beyond the checkpoint's 124 events" in refusal(with_last(position=125))
    assert "no log can hold" in refusal(with_last(stream_version=2**31))
    assert "no log can hold" in refusal(with_last(position=2**63))
    assert refusal(replace(proof, ledger_id=2)) == "the event shown at position 41 is not the one that was signed"
    assert "left out" in refusal(replace(proof, events=(events[0], events[2], events[3])))
    assert "out of order" in refusal(replace(proof, events=(*events, events[0])))
    assert "no events" in refusal(replace(proof, events=()))
    assert "does not fit" in refusal(replace(proof, checkpoint=proof.checkpoint.replace("\n124\n", "\n125\n")))


async def test_a_proof_written_otherwise_is_refused_although_it_means_the_same(rescheduled: asyncpg.Connection) -> None:
    proof, _ = await proved(rescheduled, await note_of(rescheduled))
    data = proof.encoded()
    for other in (
        data + b"\n",
        data.strip(),
        b" " + data,
        msgspec.json.encode(proof),
        data.replace(b':00Z"', b':00+00:00"'),
        data.replace(b'"source": "webhook"', b'"source": "webhook", "source": "webhook"'),
    ):
        assert "not written as we write it" in refusal(other)
    assert "no proof that we wrote" in refusal(data.replace(b'"source"', b'"more": 1, "source"', 1))
    assert "no proof that we wrote" in refusal(data.replace(b"proof/1", b"proof/2"))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[" * 100_000, b"\xff", b'{"format":'])
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    assert "no proof that we wrote" in refusal(data)


async def test_another_key_proves_nothing(rescheduled: asyncpg.Connection) -> None:
    proof, _ = await proved(rescheduled, await note_of(rescheduled))
    for name in (KEY.verifier.name, "another.example"):
        assert "is not signed by" in refusal(proof, SigningKey(name, b"\x07" * 32).verifier)


async def test_a_checkpoint_that_does_not_fit_proves_nothing(rescheduled: asyncpg.Connection) -> None:
    note = await note_of(rescheduled)
    await add_ledger(rescheduled)
    with pytest.raises(EvidenceRefused, match="not signed by"):
        await proved(rescheduled, note, key=SigningKey(KEY.verifier.name, b"\x07" * 32).verifier)
    other = msgspec.structs.replace(await main_ledger(rescheduled), name="other")
    with pytest.raises(EvidenceRefused, match="and this log is"):
        await prove(rescheduled, other, STREAMS, note=note, key=KEY.verifier)
    with pytest.raises(EvidenceRefused, match="none of this booking"):
        await prove(rescheduled, await main_ledger(rescheduled), [booking_stream("x")], note=note, key=KEY.verifier)


async def test_a_log_that_is_not_what_was_signed_proves_nothing(rescheduled: asyncpg.Connection) -> None:
    note = await note_of(rescheduled)
    await rewrite(rescheduled, "UPDATE ledger.events SET state = 'x' WHERE position = 3")
    with pytest.raises(LogContradicted, match="not those that were signed"):
        await proved(rescheduled, note)
    await with_triggers_off(rescheduled, "UPDATE ledger.events SET state = 'y' WHERE position = 3")
    with pytest.raises(LogContradicted, match="broken at position 3"):
        await proved(rescheduled, note)
    await rewrite(rescheduled, "DELETE FROM ledger.events WHERE position > 100")
    with pytest.raises(LogContradicted, match="broken at position 101"):
        await proved(rescheduled, note)


# The commands


async def test_a_proof_is_made_with_the_database_and_checked_without(
    database: str, rescheduled: asyncpg.Connection, tmp_path: Path
) -> None:
    file, note = tmp_path / "proof.json", tmp_path / "124.checkpoint"
    note.write_bytes(await note_of(rescheduled))
    public = ["--public-key", str(KEY.verifier)]
    for name in ("old", "new"):
        words = ["proof", name, "--checkpoint", str(note), "--output", str(file), *public]
        made = run(*words, DATABASE_URL=database)
        assert made.returncode == 0, made.stderr
    checked = run("verify-proof", str(file), *public, DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/ledger")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith("Proved: these 4 events were among the first 124 of booking-ledger/main/")
    assert "booking-old 2" in checked.stdout
    document: dict[str, Any] = msgspec.json.decode(run("verify-proof", "--json", str(file), *public).stdout)
    assert (document["ok"], document["checkpoint"]["position"]) == (True, 124)
    assert [event["position"] for event in document["events"]] == [41, 82, 83, 84]
    assert "state" not in document["events"][0]
    assert "Bürste" in document["events"][0]["body"]
    file.write_bytes(file.read_bytes().replace(b'"position": 41', b'"position": 42'))
    refused = run("verify-proof", str(file), *public)
    assert (refused.returncode, refused.stderr) == (1, "")
    assert refused.stdout == "Refused: the event shown at position 42 is not the one that was signed.\n"
    document = msgspec.json.decode(run("verify-proof", "--json", str(file), *public).stdout)
    assert (document["ok"], "not the one" in document["reason"]) == (False, True)


async def test_the_last_checkpoint_of_the_folder_is_taken_and_later_events_are_told(
    database: str, rescheduled: asyncpg.Connection, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": database, "CHECKPOINT_KEY": KEY.secret_text(), "CHECKPOINT_FOLDER": str(tmp_path)}
    without = run("proof", "old", **settings)
    assert (without.returncode, without.stdout) == (2, "")
    assert "CHECKPOINT_FOLDER holds none" in without.stderr
    assert run("checkpoints", "create", **settings).returncode == 0
    await deliver(rescheduled, webhook("BOOKING_CREATED", {"uid": "new"}, at=minutes(3)))
    made = run("proof", "old", **settings)
    assert made.returncode == 0, made.stderr
    assert "1 later events are not covered" in made.stderr
    assert len(check_proof(made.stdout.encode(), KEY.verifier)[0].events) == 4
    assert run("proof", "nobody", **settings).returncode == 2
    await rewrite(rescheduled, "UPDATE ledger.events SET state = 'x' WHERE position = 3")
    refused = run("proof", "old", **settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "not those that were signed" in refused.stderr


async def test_names_that_senders_chose_do_not_reach_the_terminal_raw(
    database: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    hostile = "\x1b]0;pwned\x07\x9b31m"
    await deliver(connection, webhook("BOOKING_CREATED", {"uid": f"u{hostile}"}))
    ledger, note = await main_ledger(connection), await note_of(connection)
    stream = await connection.fetchval("SELECT stream_id FROM ledger.events")
    proof, _ = await prove(connection, ledger, [stream], note=note, key=KEY.verifier)
    file = tmp_path / "proof.json"
    file.write_bytes(proof.encoded())
    checked = run("verify-proof", str(file), "--public-key", str(KEY.verifier), DATABASE_URL=database)
    assert checked.returncode == 0
    assert not set(hostile) & set(checked.stdout) - set("]0;pwned31m")
