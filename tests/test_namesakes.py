"""Namesakes: a uid that reads like another booking's number. Both are shown, live and rebuilt, in any order."""

from collections.abc import Sequence
from itertools import permutations

import asyncpg
import pytest

from projections.runner import Runner
from tests.builders import minutes, people, webhook
from tests.rebuilding import PAGE_EVENTS, assert_same, but_for_when, filled, read_models
from tests.serving import file

PAGES = pytest.mark.parametrize("page_events", [1, 5_000])


def told(trigger: str, at: int, **payload: object) -> bytes:
    return webhook(trigger, payload, at=minutes(at))


UID_207 = told("BOOKING_CREATED", 0, uid="207", title="Named 207", attendees=people("a@example.com"))
NUMBER_207 = told(
    "BOOKING_CREATED", 1, uid="other", bookingId=207, title="Numbered 207", attendees=people("b@example.com")
)
BY_NUMBER = told("BOOKING_NO_SHOW_UPDATED", 2, bookingId=207, attendees=[{"email": "b@example.com", "noShow": True}])
UID_CANCELLED = told("BOOKING_CANCELLED", 3, uid="207")
MOVED_TO_207 = told("BOOKING_RESCHEDULED", 0, uid="207", rescheduleUid="before", rescheduleId=1, title="Named 207")
CREATED_BEFORE = told("BOOKING_CREATED", -1, uid="before", title="Named 207")


def in_place_of(body: bytes, number: int) -> bytes:
    """The same of bookings of their own."""
    return body.replace(b"207", b"207%d" % number).replace(b"other", b"other%d" % number)


def orders(*bodies: bytes) -> list[Sequence[bytes]]:
    return list(permutations(bodies))


SHOWN = """
SELECT c.cal_com_event_id, c.title, c.status, array_agg(a.email ORDER BY a.email) AS emails
FROM calendar_events AS c LEFT JOIN booking_attendees AS a ON a.uid = c.cal_com_event_id
GROUP BY 1, 2, 3 ORDER BY 1
"""


async def shown(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in await connection.fetch(SHOWN)]


async def settle(connection: asyncpg.Connection, pool: asyncpg.Pool, dsn: str, bodies: Sequence[bytes]) -> None:
    """One after another, each shown before the next comes; a rebuild has the same rows at each step."""
    for body in bodies:
        await file(connection, body)
        await Runner(pool, dsn).catch_up()
        assert_same(but_for_when(await filled(connection, dsn)), but_for_when(await read_models(connection)))


@PAGES
async def test_a_uid_and_a_number_that_read_alike_are_two_bookings_in_whatever_order_they_come(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    page_events: int,
) -> None:
    monkeypatch.setattr(PAGE_EVENTS, page_events)
    for number, order in enumerate(orders(UID_207, NUMBER_207, BY_NUMBER, UID_CANCELLED)):
        await file(connection, *(in_place_of(body, number) for body in order))
        await Runner(pool, database).catch_up()
    rows = await shown(connection)
    assert len(rows) == 48
    for key, title, status, emails in rows:
        if str(key).startswith("other"):
            assert (str(title)[:12], status, emails) == ("Numbered 207", "no_show", ["b@example.com"]), key
        else:
            assert (str(title)[:9], status, emails) == ("Named 207", "cancelled", ["a@example.com"]), key
    assert_same(await filled(connection, database), await read_models(connection))


@pytest.mark.parametrize("order", orders(UID_207, NUMBER_207, BY_NUMBER), ids=range(6))
async def test_a_rebuild_agrees_at_every_step(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, order: Sequence[bytes]
) -> None:
    await settle(connection, pool, database, order)
    assert [row[:3] for row in await shown(connection)] == [
        ("207", "Named 207", "scheduled"),
        ("other", "Numbered 207", "no_show"),
    ]


@pytest.mark.parametrize("order", orders(UID_207, BY_NUMBER), ids=["uid first", "number first"])
async def test_as_long_as_no_uid_is_known_for_the_number_the_booking_with_that_uid_is_shown(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, order: Sequence[bytes]
) -> None:
    await settle(connection, pool, database, order)
    assert await shown(connection) == [("207", "Named 207", "scheduled", ["a@example.com"])]


@pytest.mark.parametrize("order", orders(CREATED_BEFORE, MOVED_TO_207, NUMBER_207), ids=range(6))
async def test_a_successor_whose_uid_reads_like_a_number_keeps_its_name(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, order: Sequence[bytes]
) -> None:
    await settle(connection, pool, database, order)
    row = await connection.fetchrow(
        "SELECT status, rescheduled_to FROM calendar_events WHERE cal_com_event_id = 'before'"
    )
    assert row is not None
    assert tuple(row.values()) == ("rescheduled", "207")


@pytest.mark.parametrize(
    "order", orders(BY_NUMBER, told("BOOKING_CREATED", 0, uid="207", bookingId=207)), ids=["number first", "uid first"]
)
async def test_a_booking_whose_uid_is_its_own_number_is_one(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, order: Sequence[bytes]
) -> None:
    await settle(connection, pool, database, order)
    assert [row[:1] + row[2:3] for row in await shown(connection)] == [("207", "no_show")]
