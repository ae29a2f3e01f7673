"""Which booking a delivery belongs to by a person's word, as the log has it: links, and links taken back."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from ledger.links import linked_id, unlinked_id
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger, RecordedEvent, read_recorded

SQL = load_statements(Path(__file__).with_suffix(".sql"))

LINKS_MAX = 100
"""How often one delivery may be linked; who has taken back so many links is told that it cannot be linked."""


class LinkOfDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event that linked a delivery, and the one that took it back; None: it counts."""

    linked: RecordedEvent
    unlinked: RecordedEvent | None


async def read_links(connection: Connection, ledger: Ledger, delivery_id: UUID) -> list[LinkOfDelivery]:
    """Every link that the delivery has had, in order; all but the last were taken back."""
    links: list[LinkOfDelivery] = []
    while len(links) < LINKS_MAX:
        link_id = linked_id(ledger, delivery_id, taken_back=len(links))
        linked = await read_recorded(connection, ledger.ledger_id, link_id)
        if linked is None:
            break
        unlinked = await read_recorded(connection, ledger.ledger_id, unlinked_id(ledger, link_id))
        links.append(LinkOfDelivery(linked=linked, unlinked=unlinked))
        if unlinked is None:
            break
    return links


async def find_linked(connection: Connection, ledger: Ledger, delivery_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these deliveries that have a link which counts."""
    linked: set[UUID] = set()
    left = list(delivery_ids)
    for taken_back in range(LINKS_MAX):
        link_ids = {one: linked_id(ledger, one, taken_back=taken_back) for one in left}
        unlink_ids = {one: unlinked_id(ledger, link_id) for one, link_id in link_ids.items()}
        asked = [*link_ids.values(), *unlink_ids.values()]
        rows = await connection.fetch(SQL["find_recorded"], ledger.ledger_id, asked)
        recorded = {row["event_id"] for row in rows}
        linked |= {one for one in left if link_ids[one] in recorded and unlink_ids[one] not in recorded}
        left = [one for one in left if unlink_ids[one] in recorded]
        if not left:
            break
    return linked
