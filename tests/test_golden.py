"""Golden history: a body of every kind ever sent to us, and what it meant when it came. What it meant must not change.

A file of `tests/golden` is one small history. `given`, in Cal.com's own order of keys, is what reached us; `means` is
what lies in the log afterwards, the facts that each event states, and the bookings they make, keys sorted, without
what is null, false or empty. To write `means` anew, and then to look at every line of the difference:

    REFRESH_GOLDEN=1 pytest tests/test_golden.py
"""

import ast
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import unified_diff
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from ledger.calcom.envelope import open_envelope
from ledger.calcom.payloads import ABSENT
from ledger.calcom.triggers import KNOWN_TRIGGERS, TOPICS
from ledger.facts import AnyFact
from ledger.filing import Receipt, file_delivery
from ledger.history import load_histories, read_event
from ledger.kept_facts import DECODER_VERSION
from ledger.postgres import Connection
from ledger.store import Ledger, NewEvent, RecordedEvent, Source, append, read_head, read_log
from ledger.vocabulary import CalendarStatus, LedgerId, Position, StreamId
from projections.calendar_events import calendar_event
from tests.serving import connected
from tests.sources import Source as PythonFile
from tests.sources import nodes, product

FOLDER = Path(__file__).with_name("golden")
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
REFRESH = bool(os.environ.get("REFRESH_GOLDEN"))
DECODER = FOLDER / "decoder_version"
RAISE_THE_VERSION = "bodies mean something else now: raise DECODER_VERSION in ledger/kept_facts.py, then refresh"
LINE_CHARACTERS_MAX = 120
EVENTS_MAX = 100
KEY = sha256(b"golden").digest()
NOT_PUBLIC = {"marked"}
"""What the view `calendar_events` leaves out."""
VERSIONS = {"2021-10-20", "2026-07-27"}
TRIGGERS_OF_CAL_COM = 28


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What reached us: a delivery, or, where it has a topic, an event that lies in the log already."""

    body: msgspec.Raw = ABSENT
    text: str | None = None
    received_at: datetime | None = None
    version: str | None = None
    topic: str | None = None
    stream_id: StreamId | None = None
    event_id: UUID | None = None
    occurred_at: datetime | None = None
    source: Source = "webhook"

    @property
    def sent(self) -> bytes:
        """The bytes as Cal.com writes JSON: compact, raw UTF-8."""
        return (self.text or "").encode() if self.body == ABSENT else msgspec.json.format(self.body, indent=-1)


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    about: str
    given: list[Given]
    means: msgspec.Raw


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def golden(name: str) -> Golden:
    return msgspec.json.decode(path_of(name).read_bytes(), type=Golden)


def filed(ledger: Ledger, given: Given, *, fresh_id: UUID) -> Sequence[NewEvent]:
    """The events that it adds to the log."""
    if given.topic is None:
        assert given.received_at is not None
        receipt = Receipt(received_at=given.received_at, version=given.version)
        return file_delivery(ledger, given.sent, receipt, fresh_id=fresh_id).events
    assert given.stream_id is not None
    assert given.event_id is not None
    assert given.occurred_at is not None
    return [
        NewEvent(
            event_id=given.event_id,
            stream_id=given.stream_id,
            topic=given.topic,
            body=given.sent,
            occurred_at=given.occurred_at,
            source=given.source,
        )
    ]


async def new_ledger(connection: Connection) -> Ledger:
    """An empty log. Its key is always the same, so that the ids of events are."""
    ledger_id = await connection.fetchval(
        "INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key) "
        "SELECT n, 'golden-' || n, sha256(convert_to('booking-ledger/' || n, 'UTF8')), $1 "
        "FROM (SELECT max(ledger_id) + 1 AS n FROM ledger.ledgers) AS next RETURNING ledger_id",
        KEY,
    )
    return Ledger(ledger_id=LedgerId(ledger_id), name="main", event_id_key=KEY)


async def record(connection: Connection, given: Sequence[Given]) -> tuple[Ledger, list[RecordedEvent]]:
    """The log after all of it."""
    ledger = await new_ledger(connection)
    for number, one in enumerate(given, start=1):
        await append(connection, ledger.ledger_id, filed(ledger, one, fresh_id=UUID(int=number)))
    return ledger, await read_log(connection, ledger.ledger_id, after=Position(0), events_max=EVENTS_MAX)


async def no_hints(_numbers: Sequence[int]) -> dict[int, StreamId]:
    return {}


async def bookings_of(connection: Connection, ledger: Ledger, events: Sequence[RecordedEvent]) -> list[Any]:
    """What the log makes of every booking that it speaks of, by uid."""
    streams = {stream for event in events for stream, _ in read_event(event).facts}
    head = await read_head(connection, ledger.ledger_id)
    histories = await load_histories(
        connection, ledger.ledger_id, streams, up_to=head.position, look_up_numbers=no_hints
    )
    events_of = (
        calendar_event(booking, ledger.name, confirm_on_accept=False) for booking in histories.bookings.values()
    )
    told = [{key: part for key, part in plain(event).items() if key not in NOT_PUBLIC} for event in events_of]
    return sorted(told, key=lambda booking: str(booking["cal_com_event_id"]))


def told_by(event: RecordedEvent) -> Any:
    """How the event lies in the log, and the facts that it states. The body of a link is ours, hence shown."""
    envelope = open_envelope(event.body) if event.source == "webhook" else None
    shown = {
        "topic": event.topic,
        "stream_id": event.stream_id,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "trigger": envelope.trigger if envelope else None,
        "unreadable": envelope is not None and envelope.error is not None,
        "link": msgspec.json.decode(event.body) if event.source == "link" else None,
    }
    facts = [
        {"stream_id": stream, "at": dated.occurred_at, "rank": dated.rank, "fact": dated.fact}
        for stream, dated in read_event(event).facts
    ]
    return plain(shown) | {"facts": msgspec.to_builtins(facts)}


def plain(value: object) -> Any:
    """JSON values; of an object only what says something."""
    told = msgspec.to_builtins(value)
    if isinstance(told, dict):
        parts = {key: plain(part) for key, part in told.items()}
        return {key: part for key, part in parts.items() if not (part is None or part is False or part in ([], {}))}
    return [plain(part) for part in told] if isinstance(told, list) else told


def written(about: str, given: object, means: object) -> str:
    """The file's text: `given` in its own order and packed; `means` in alphabetical order, a line for each field."""
    parts = {
        "about": json.dumps(about, ensure_ascii=False),
        "given": laid_out(given, "  ", packed=True),
        "means": laid_out(json.loads(json.dumps(means, sort_keys=True)), "  ", packed=False),
    }
    inside = ",\n".join(f'  "{key}": {part}' for key, part in parts.items())
    return f"{{\n{inside}\n}}\n"


def laid_out(value: object, indent: str, *, packed: bool) -> str:
    """JSON for people: what fits into a line stays in it; where `packed`, neighbours share lines as words do."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) < LINE_CHARACTERS_MAX or not isinstance(value, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(value, list):
        parts = [laid_out(part, deeper, packed=packed) for part in value]
    else:
        parts = [f"{json.dumps(key)}: {laid_out(part, deeper, packed=packed)}" for key, part in value.items()]
    lines = [parts[0]]
    for part in parts[1:]:
        joined = f"{lines[-1]}, {part}"
        if packed and "\n" not in joined and len(deeper) + len(joined) < LINE_CHARACTERS_MAX:
            lines[-1] = joined
        else:
            lines.append(part)
    inside = f",\n{deeper}".join(lines)
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return f"{opening}\n{deeper}{inside}\n{indent}{closing}"


def difference(held: str, told: str) -> Iterator[str]:
    return unified_diff(held.splitlines(), told.splitlines(), "held", "told now", lineterm="")


@pytest.mark.parametrize("name", NAMES)
async def test_the_past_means_what_it_meant(shared_database: str, name: str) -> None:
    held = golden(name)
    async with connected(shared_database) as connection:
        ledger, events = await record(connection, held.given)
        bookings = await bookings_of(connection, ledger, events)
    text = path_of(name).read_text(encoding="utf-8")
    told = written(
        held.about, json.loads(text)["given"], {"events": [told_by(event) for event in events], "bookings": bookings}
    )
    if REFRESH:
        assert facts_in(told) == facts_in(text) or decoder_version_held() < DECODER_VERSION, RAISE_THE_VERSION
        path_of(name).write_text(told, encoding="utf-8")
    else:
        assert told == text, "\n".join([held.about, *difference(text, told)])


def facts_in(text: str) -> list[Any]:
    """What a file's events are said to mean; nothing in a file that was just begun."""
    return [event.get("facts") for event in json.loads(text).get("means", {}).get("events", [])]


def decoder_version_held() -> int:
    """The version of the decoder that gave the files their facts."""
    return int(DECODER.read_text(encoding="utf-8"))


def test_a_change_of_what_bodies_mean_is_a_new_version_of_the_decoder() -> None:
    """Facts that are kept from an older decoder are not taken for those of a newer one."""
    if REFRESH:
        DECODER.write_text(f"{DECODER_VERSION}\n", encoding="utf-8")
    assert decoder_version_held() == DECODER_VERSION


@pytest.mark.parametrize("name", NAMES)
async def test_the_past_told_backwards_makes_the_same_bookings(shared_database: str, name: str) -> None:
    held = golden(name)
    async with connected(shared_database) as connection:
        forwards = await bookings_of(connection, *await record(connection, held.given))
        backwards = await bookings_of(connection, *await record(connection, held.given[::-1]))
    assert backwards == forwards


# Nothing is left out


def envelopes() -> Mapping[str, list[Any]]:
    """What each file's deliveries are read as."""
    return {name: [open_envelope(one.sent) for one in golden(name).given] for name in NAMES}


def all_told(kind: str) -> list[Any]:
    """Every event, or every booking, of every file."""
    return [told for name in NAMES for told in msgspec.json.decode(golden(name).means)[kind]]


def topics_named_in(source: PythonFile) -> Iterator[str]:
    """The texts given to names that end in `_TOPIC`."""
    for one in nodes(source.tree, ast.Assign):
        is_topic = any(isinstance(target, ast.Name) and target.id.endswith("_TOPIC") for target in one.targets)
        if is_topic and isinstance(one.value, ast.Constant):
            yield str(one.value.value)


def test_every_trigger_has_a_golden_history() -> None:
    seen = {envelope.trigger for told in envelopes().values() for envelope in told}
    assert KNOWN_TRIGGERS - seen == set()
    assert len(KNOWN_TRIGGERS - {"BOOKING_CONFIRMED", "PING"}) == TRIGGERS_OF_CAL_COM


def test_every_topic_that_we_write_has_a_golden_history() -> None:
    topics = {*TOPICS.values(), *(topic for source in product() for topic in topics_named_in(source))}
    assert {"calcom.observed", "calcom.unrecognised", "booking.superseded", "booking.seat_moved"} < topics
    assert topics - {event["topic"] for event in all_told("events")} == set()


def test_every_payload_version_has_a_golden_history() -> None:
    assert {one.version for name in NAMES for one in golden(name).given} == VERSIONS | {None}


def test_every_kind_of_fact_and_every_status_has_a_golden_history() -> None:
    facts = {told["fact"]["type"] for event in all_told("events") for told in event.get("facts", [])}
    assert facts == {kind.__name__ for kind in get_args(AnyFact)}
    assert {booking["status"] for booking in all_told("bookings")} == set(get_args(CalendarStatus))
