"""The library's stock Postgres recorder reads our log through the view `interop.stored_events`, and only reads it."""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import NotSupportedError, PersistenceError
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from ledger.interop_recorders import SQL, LedgerApplicationRecorder
from ledger.interop_thread import LedgerThread
from tests.builders import minutes
from tests.interop_builders import add_ledger, ask, file_webhooks, run, stored, told

EVENTS = 3_000
STREAM_EVENTS = 300

QUESTIONS: list[dict[str, Any]] = [
    {"start": None, "limit": 100},
    {"start": 2, "limit": 3},
    {"start": 2, "limit": 3, "inclusive_of_start": False},
    {"start": 1, "limit": 100, "stop": 5},
    {"start": 1, "limit": 100, "topics": ["calcom.booking_created", "shop:Opened"]},
]
BOUNDS: list[dict[str, Any]] = [
    {},
    {"gt": 1},
    {"lte": 1},
    {"desc": True, "limit": 2},
    {"gt": 3, "lte": 9, "desc": True},
]

CREATED = told("BOOKING_CREATED", {"title": "Full groom"}, at=minutes(0))
CANCELLED = told("BOOKING_CANCELLED", {}, at=minutes(20))


@pytest.fixture
def ledger(database: str) -> Iterator[LedgerThread]:
    thread = LedgerThread(database, ledger_name="main")
    yield thread
    thread.close()


@pytest.fixture
def recorder(ledger: LedgerThread) -> LedgerApplicationRecorder:
    return LedgerApplicationRecorder(ledger, has_text_ids=True)


def postgres_settings(dsn: str) -> dict[str, str]:
    """The DSN in the words of the library."""
    parts = urlsplit(dsn)
    options = parse_qs(parts.query)
    return {
        "POSTGRES_DBNAME": parts.path.removeprefix("/"),
        "POSTGRES_HOST": options["host"][0],
        "POSTGRES_PORT": options["port"][0],
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": "",
        "POSTGRES_SCHEMA": "interop",
        "ORIGINATOR_ID_TYPE": "text",
        "CREATE_TABLE": "no",
    }


@pytest.fixture
def stock(database: str) -> Iterator[PostgresApplicationRecorder]:
    """The recorder as the library has it, asking the view as if it were its table."""
    settings = postgres_settings(database)
    datastore = PostgresDatastore(
        dbname=settings["POSTGRES_DBNAME"],
        host=settings["POSTGRES_HOST"],
        port=settings["POSTGRES_PORT"],
        user=settings["POSTGRES_USER"],
        password="",
        schema=settings["POSTGRES_SCHEMA"],
        originator_id_type="text",
    )
    with datastore:
        yield PostgresApplicationRecorder(datastore, events_table_name="stored_events")


def test_the_stock_recorder_reads_what_ours_reads(
    recorder: LedgerApplicationRecorder, stock: PostgresApplicationRecorder
) -> None:
    assert (stock.max_notification_id(), stock.select_notifications(None, 10)) == (None, [])
    name = str(uuid4())
    recorder.insert_events(stored(name, 1, 2, topic="shop:Opened", state=os.urandom(3_000)))
    recorder.insert_events(stored("customer-1", *range(1, 30)))
    assert stock.max_notification_id() == recorder.max_notification_id() == 31
    for question in QUESTIONS:
        assert told_by(stock.select_notifications(**question)) == told_by(recorder.select_notifications(**question))
    for originator_id in (name, "customer-1", "nobody"):
        for bounds in BOUNDS:
            assert told_by(stock.select_events(originator_id, **bounds)) == told_by(
                recorder.select_events(originator_id, **bounds)
            )


def told_by(events: Any) -> list[tuple[object, ...]]:
    """What the library knows of stored events and of notifications, whichever class of ours they are."""
    return [(e.originator_id, e.originator_version, e.topic, e.state, getattr(e, "id", None)) for e in events]


def test_a_stock_application_follows_the_log_through_the_view(
    database: str, ledger: LedgerThread, recorder: LedgerApplicationRecorder
) -> None:
    file_webhooks(ledger, CREATED, CANCELLED)
    recorder.insert_events(stored(str(uuid4()), 1))
    topics = ["shop:Sold"]

    class Stored(Application[str]):
        """Its table's name is `stored_events`."""

    with Stored(env={"PERSISTENCE_MODULE": "eventsourcing.postgres", **postgres_settings(database)}) as app:
        found = app.notification_log.select(1, 10, topics=topics)
    assert [(item.id, item.topic) for item in found] == [(3, "shop:Sold")]


def test_a_setting_says_which_ledgers_log_the_view_shows(
    ledger: LedgerThread, recorder: LedgerApplicationRecorder, stock: PostgresApplicationRecorder
) -> None:
    add_ledger(ledger, ledger_id=2, name="dogs")
    recorder.insert_events(stored("customer-1", 1))
    for name, expected in (("main", 1), ("dogs", None), ("nobody", None), ("", 1)):
        with stock.datastore.transaction() as cursor:
            cursor.execute("SELECT set_config('booking_ledger.ledger', %s, true)", (name,))
            assert cursor.execute("SELECT max(notification_id) FROM interop.stored_events").fetchone() == {
                "max": expected
            }


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO interop.stored_events VALUES ('customer-1', 2, 'shop:Sold', '', 2)",
        "UPDATE interop.stored_events SET topic = 'shop:Returned'",
        "DELETE FROM interop.stored_events",
    ],
)
def test_the_view_is_for_reading(ledger: LedgerThread, recorder: LedgerApplicationRecorder, statement: str) -> None:
    recorder.insert_events(stored("customer-1", 1))
    with pytest.raises(NotSupportedError, match="is for reading"):
        run(ledger, statement)
    assert told_by(recorder.select_events("customer-1")) == [("customer-1", 1, "shop:Sold", b"{}", None)]


def test_the_stock_recorder_cannot_save_through_the_view(
    recorder: LedgerApplicationRecorder, stock: PostgresApplicationRecorder
) -> None:
    with pytest.raises(PersistenceError):
        stock.insert_events(stored("customer-1", 1))
    assert recorder.max_notification_id() is None


def test_a_sealed_body_is_refused_and_not_given_as_it_lies(
    ledger: LedgerThread, recorder: LedgerApplicationRecorder, stock: PostgresApplicationRecorder
) -> None:
    recorder.insert_events(stored("customer-1", 1))
    file_webhooks(ledger, CREATED)
    assert [found.id for found in stock.select_notifications(None, 1)] == [1]
    with pytest.raises(PersistenceError, match="encoding 3, which SQL cannot read"):
        stock.select_notifications(None, 2)
    assert recorder.select_notifications(None, 2)[1].state == CREATED


# Plans


@pytest.fixture
def filled(ledger: LedgerThread, recorder: LedgerApplicationRecorder) -> LedgerThread:
    """A log of many short streams and a longer one, with statistics."""
    for _ in range(EVENTS // 500):
        recorder.insert_events([event for _ in range(500) for event in stored(str(uuid4()), 1)])
    recorder.insert_events(stored("customer-1", *range(1, STREAM_EVENTS + 1)))
    run(ledger, "ANALYZE ledger.events")
    return ledger


FOLLOWED = "SELECT * FROM interop.stored_events WHERE notification_id"
SOLD = "topic = ANY(ARRAY['shop:Sold'])"
READ = "SELECT * FROM interop.stored_events WHERE originator_id = 'customer-1'"


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (f"{FOLLOWED} > 100 ORDER BY notification_id LIMIT 10", "events_position_unique"),
        (
            f"{FOLLOWED} >= 9 AND notification_id <= 99 AND {SOLD} ORDER BY notification_id LIMIT 10",
            "events_position_unique",
        ),
        ("SELECT MAX(notification_id) FROM interop.stored_events", "events_position_unique"),
        (f"{READ} AND originator_version > 7 ORDER BY originator_version ASC", "events_pkey"),
        (f"{READ} ORDER BY originator_version DESC LIMIT 1", "events_pkey"),
    ],
)
def test_the_views_statements_use_the_logs_indexes(filled: LedgerThread, statement: str, index: str) -> None:
    nodes = [*walk(json.loads(str(ask(filled, f"EXPLAIN (FORMAT JSON) {statement}")))[0]["Plan"])]
    on_events = [node for node in nodes if node.get("Relation Name") == "events"]
    assert [node.get("Index Name") for node in on_events] == [index]
    assert "Sort" not in {node["Node Type"] for node in nodes}


def test_the_last_event_of_a_long_stream_is_read_alone(filled: LedgerThread) -> None:
    last = literal(SQL["read_originator_backwards"], 1, "customer-1", "customer-1#0", -1, 900, 1)
    nodes = [*walk(json.loads(str(ask(filled, f"EXPLAIN (ANALYZE, FORMAT JSON) {last}")))[0]["Plan"])]
    read = [node for node in nodes if node.get("Relation Name") == "events"]
    assert {node["Node Type"] for node in read} == {"Index Scan"}
    assert sum(node["Actual Rows"] for node in read) == 1


def literal(statement: str, *values: int | str) -> str:
    """The statement with its parameters filled in."""
    for number, value in enumerate(values, start=1):
        statement = statement.replace(f"${number}", f"'{value}'" if isinstance(value, str) else str(value))
    return statement


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from walk(below)
