"""Chains of many reschedules: one appointment, told whole or told alike where it is cut."""

import asyncpg
import pytest

from ledger import history
from projections.runner import Runner
from tests.builders import minutes, webhook
from tests.rebuilding import PAGE_EVENTS, assert_same, filled, read_models
from tests.serving import file

MANY = 150


def name(number: int) -> str:
    return f"u{number:04}"


def chain(count: int) -> list[bytes]:
    """An appointment that was rescheduled again and again."""
    first = webhook("BOOKING_CREATED", {"uid": name(0), "metadata": {"petId": "rex"}})
    moves = [
        webhook(
            "BOOKING_RESCHEDULED",
            {"uid": name(number), "rescheduleUid": name(number - 1), "rescheduleId": 1},
            at=minutes(number),
        )
        for number in range(1, count)
    ]
    return [first, *moves]


@pytest.mark.parametrize("page_events", [40, 5_000])
async def test_an_appointment_rescheduled_many_times_is_one_from_its_first_booking_to_its_last(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    page_events: int,
) -> None:
    monkeypatch.setattr(PAGE_EVENTS, page_events)
    await file(connection, *chain(MANY))
    await Runner(pool, database).catch_up()
    rows = await connection.fetch(
        "SELECT status, pet_id, root_uid, count(*) AS bookings FROM calendar_events GROUP BY 1, 2, 3 ORDER BY 4"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("scheduled", "rex", name(0), 1),
        ("rescheduled", "rex", name(0), MANY - 1),
    ]
    assert_same(await filled(connection, database), await read_models(connection))


async def test_where_a_chain_is_cut_no_booking_is_told_by_half(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The booking next to the cut is known by name alone: it is left out, and not shown without its own webhook."""
    monkeypatch.setattr(history, "CHAIN_LENGTH_MAX", 4)
    monkeypatch.setattr(PAGE_EVENTS, 1)
    await file(connection, *chain(20))
    await Runner(pool, database).catch_up()
    rows = await connection.fetch("SELECT cal_com_event_id, status, rescheduled_from FROM calendar_events ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        *((name(number), "rescheduled", name(number - 1) if number else None) for number in range(19)),
        (name(19), "scheduled", name(18)),
    ]
