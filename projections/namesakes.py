"""Namesakes: a uid may read like another booking's number. Rows go by one name, and then it is the uid's."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ledger.calcom.envelope import NUMBER_STREAM_PREFIX, booking_stream
from ledger.history import Histories
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger
from ledger.vocabulary import Position, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))


async def without_namesakes(
    connection: Connection, ledger: Ledger, histories: Histories, *, up_to: Position
) -> Histories:
    """The same without bookings and merged streams that go by a number which is the uid of another booking.

    What becomes known of the number's booking is shown once its uid is known.
    """
    taken = await taken_numbers(connection, ledger, (*histories.bookings, *histories.merged), up_to=up_to)
    if not taken:
        return histories
    return msgspec.structs.replace(
        histories,
        bookings={stream_id: one for stream_id, one in histories.bookings.items() if stream_id not in taken},
        merged={stream_id: uid for stream_id, uid in histories.merged.items() if stream_id not in taken},
    )


async def taken_numbers(
    connection: Connection, ledger: Ledger, stream_ids: Iterable[StreamId], *, up_to: Position
) -> set[StreamId]:
    """Those of these streams that go by a number which is the uid of another booking."""
    uid_streams = {
        booking_stream(stream_id.removeprefix(NUMBER_STREAM_PREFIX)): stream_id
        for stream_id in stream_ids
        if stream_id.startswith(NUMBER_STREAM_PREFIX)
    }
    if not uid_streams:
        return set()
    rows = await connection.fetch(SQL["find_begun"], ledger.ledger_id, list(uid_streams), up_to)
    return {uid_streams[row["stream_id"]] for row in rows}
