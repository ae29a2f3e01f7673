"""A person's word that a delivery is about a booking, or is not: read, decide, append. For route and command."""

from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from ledger.appender import Appender
from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.errors import NotFound, NotLinkable
from ledger.history import read_event
from ledger.linked import LINKS_MAX, read_links
from ledger.links import linked_events, unlinked_event
from ledger.store import Ledger, Placed, read_recorded
from ledger.vocabulary import Position, StreamId, StreamVersion
from projections.lookup import find_streams


class LinkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where `booking.linked`, or `booking.unlinked`, stands in the log; `duplicate`: it stood there before."""

    status: Literal["linked", "unlinked"] = "linked"
    booking: str
    event_id: UUID
    ledger: str
    position: Position
    stream_version: StreamVersion
    duplicate: bool


async def link_delivery(
    pool: asyncpg.Pool,
    appender: Appender,
    ledger: Ledger,
    *,
    name: str,
    delivery_id: UUID,
    expected_version: StreamVersion | None = None,
) -> LinkAnswer:
    """The delivery is about the very booking that is named, not about one that has taken its place since.

    Raises NotFound for a booking or a delivery that is not there, NotLinkable, and VersionConflict unless it was linked
    so before.
    """
    async with pool.acquire() as connection:
        own, *others = await find_streams(connection, ledger, name)
        delivery = await read_recorded(connection, ledger.ledger_id, delivery_id)
        if delivery is None:
            raise NotFound(f"delivery {delivery_id}")
        links = await read_links(connection, ledger, delivery_id)
        before = links[-1].linked if links and links[-1].unlinked is None else None
        if before is None and len(links) == LINKS_MAX:
            raise NotLinkable(delivery_id, f"{LINKS_MAX} links of it were taken back")
        taken_back = len(links) - (before is not None)
        events = linked_events(ledger, delivery, own, expected_version=expected_version, taken_back=taken_back)
    if before is not None and before.stream_id not in (own, *others):
        raise NotLinkable(delivery_id, f"it is linked to booking {_key(before.stream_id)} already")
    place = before or (await appender.append(ledger.ledger_id, events))[0]
    if isinstance(place, Placed) and place.duplicate:  # somebody was faster, perhaps with another booking: look again
        return await link_delivery(
            pool, appender, ledger, name=name, delivery_id=delivery_id, expected_version=expected_version
        )
    return LinkAnswer(
        booking=_key(own),
        event_id=events[0].event_id,
        ledger=ledger.name,
        position=place.position,
        stream_version=place.stream_version,
        duplicate=before is not None,
    )


async def unlink_delivery(
    pool: asyncpg.Pool,
    appender: Appender,
    ledger: Ledger,
    *,
    name: str,
    delivery_id: UUID,
    expected_version: StreamVersion | None = None,
) -> LinkAnswer:
    """What was linked to the very booking that is named is linked no more, and may be linked again.

    Raises NotFound for a booking that is not there, NotLinkable for a delivery that is not linked to it, and
    VersionConflict unless the link was taken back before.
    """
    async with pool.acquire() as connection:
        streams = await find_streams(connection, ledger, name)
        links = await read_links(connection, ledger, delivery_id)
    if not links or links[-1].linked.stream_id not in streams:
        raise NotLinkable(delivery_id, f"it is not linked to booking {_key(streams[0])}")
    linked, before = links[-1].linked, links[-1].unlinked
    reading = read_event(linked)
    about = [*reading.chain, *(stream_id for stream_id, _ in reading.facts)]
    event = unlinked_event(ledger, linked, about, expected_version=expected_version)
    place = before or (await appender.append(ledger.ledger_id, (event,)))[0]
    return LinkAnswer(
        status="unlinked",
        booking=_key(streams[0]),
        event_id=event.event_id,
        ledger=ledger.name,
        position=place.position,
        stream_version=place.stream_version,
        duplicate=not isinstance(place, Placed) or place.duplicate,
    )


def _key(stream_id: StreamId) -> str:
    """The uid, or the number as text: how people name the booking."""
    return stream_id.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX)
