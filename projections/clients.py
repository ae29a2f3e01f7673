"""Clients: the figures of one, and pages of many in three orders."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from ledger.errors import NotFound
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import Ledger

SQL = load_statements(Path(__file__).with_suffix(".sql"))

Order = Literal["id", "last_visit"]
"""`last_visit`: the latest first, and only those who have been here. `name` reads everybody's bookings each time."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A client in the words of `public.clients`."""

    client_id: str
    ledger: str
    attendee_name: str | None
    attendee_email: str | None
    attendee_phone: str | None
    first_visit: datetime | None
    last_visit: datetime | None
    next_appointment: datetime | None
    bookings: int
    completed: int
    no_show: int
    cancelled: int
    rescheduled: int
    no_show_rate: float | None


class ClientCursor(msgspec.Struct, frozen=True, array_like=True):
    """A client's place in one order: by client id; by start and uid of the last visit."""

    order: Order
    key: str
    last_visit: datetime | None = None


class ClientsListed(msgspec.Struct, frozen=True, kw_only=True):
    """A page of clients. `following`: the place after which the next page begins; None: this is the last one."""

    clients: list[Client]
    following: ClientCursor | None


async def find_client(connection: Connection, ledger: Ledger, client_id: str) -> Client:
    """Raises NotFound for a client that no booking names."""
    found = await _read(connection, ledger, [client_id])
    if not found:
        raise NotFound(f"client {client_id}")
    return found[0]


async def list_clients(
    connection: Connection, ledger: Ledger, *, order: Order, after: ClientCursor | None, rows_max: int
) -> ClientsListed:
    """Clients in this order. `after` is a place in the same one."""
    places = await _find(connection, ledger, order, after, rows_max + 1)
    page = dict(places[:rows_max])
    clients = await _read(connection, ledger, list(page))
    more = len(places) > rows_max
    return ClientsListed(clients=clients, following=places[rows_max - 1][1] if more else None)


async def _find(
    connection: Connection, ledger: Ledger, order: Order, after: ClientCursor | None, rows_max: int
) -> list[tuple[str, ClientCursor]]:
    """The next clients' ids, with their places."""
    key = after.key if after else None
    if order == "id":
        rows = await connection.fetch(SQL["find_by_id"], ledger.ledger_id, key or "", rows_max)
        return [(row["client_id"], ClientCursor("id", row["client_id"])) for row in rows]
    last_visit = after.last_visit if after else None
    rows = await connection.fetch(SQL["find_by_last_visit"], ledger.ledger_id, last_visit, key, rows_max)
    return [
        (
            row["client_id"],
            ClientCursor("last_visit", row["cal_com_event_id"], last_visit=row["start_time"].astimezone(UTC)),
        )
        for row in rows
    ]


async def _read(connection: Connection, ledger: Ledger, client_ids: Sequence[str]) -> list[Client]:
    """The clients in the order given; one whose last booking has gone meanwhile is absent."""
    rows = await connection.fetch(SQL["read_clients"], ledger.ledger_id, client_ids)
    by_id = {row["client_id"]: Client(**dict(row)) for row in rows}
    return [by_id[client_id] for client_id in client_ids if client_id in by_id]
