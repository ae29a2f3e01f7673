"""What the interop tests are made of: webhooks in the log, an aggregate and a read model as users write them."""

from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.tests.projection import EventCountersView

from ledger.filing import Receipt, file_delivery
from ledger.interop_recorders import LedgerTrackingRecorder, OriginatorId
from ledger.interop_thread import LedgerThread
from ledger.postgres import Connection
from ledger.store import append, read_ledgers
from ledger.vocabulary import LedgerId
from tests.builders import MAIN, NOON, webhook


class Dog(Aggregate):
    """An aggregate as the library's manual has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")
    def add_trick(self, trick: str) -> None:
        self.tricks.append(trick)


def stored(
    originator_id: OriginatorId, *versions: int, topic: str = "shop:Sold", state: bytes = b"{}"
) -> list[StoredEvent]:
    return [StoredEvent(originator_id, version, topic, state) for version in versions]


def file_webhooks(ledger: LedgerThread, *bodies: bytes, received_at: datetime = NOON) -> None:
    """The deliveries are in the log, with their links, in this order."""

    async def file(connection: Connection, _ledger_id: LedgerId) -> None:
        main = (await read_ledgers(connection))["main"]
        for body in bodies:
            filing = file_delivery(main, body, Receipt(received_at=received_at), fresh_id=uuid4())
            await append(connection, MAIN, filing.events)

    ledger.call(file)


def told(trigger: str, payload: Mapping[str, object], *, at: datetime) -> bytes:
    """A webhook about `uidA`, unless the payload names another."""
    return webhook(trigger, {"uid": "uidA", **payload}, at=at)


class CountersView(LedgerTrackingRecorder, EventCountersView):
    """A read model with a table of its own: it counts events of two kinds."""

    def get_created_event_counter(self) -> int:
        return self._count("created")

    def get_subsequent_event_counter(self) -> int:
        return self._count("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._increment("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._increment("subsequent", tracking)

    def _count(self, kind: str) -> int:
        async def select(connection: Connection, _ledger_id: LedgerId) -> int:
            return int(await connection.fetchval("SELECT total FROM public.counters WHERE kind = $1", kind))

        return self.ledger.call(select)

    def _increment(self, kind: str, tracking: Tracking) -> None:
        async def increment(connection: Connection, ledger_id: LedgerId) -> None:
            async with connection.transaction():
                await connection.execute("UPDATE public.counters SET total = total + 1 WHERE kind = $1", kind)
                await self.track(connection, ledger_id, tracking)

        self.ledger.call(increment, is_repeatable=False)


def create_counters(ledger: LedgerThread) -> None:
    run(
        ledger,
        """
        CREATE TABLE public.counters AS
        SELECT kind, 0 AS total FROM unnest(ARRAY['created', 'subsequent']) AS kinds (kind)
        """,
    )


def add_ledger(ledger: LedgerThread, *, ledger_id: int, name: str) -> None:
    run(
        ledger,
        """
        INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key)
        VALUES ($1, $2, sha256(convert_to('booking-ledger/' || $1::int, 'UTF8')), sha256('key'))
        """,
        ledger_id,
        name,
    )


def run(ledger: LedgerThread, statement: str, *values: object) -> None:
    async def execute(connection: Connection, _ledger_id: LedgerId) -> None:
        await connection.execute(statement, *values)

    ledger.call(execute)


def ask(ledger: LedgerThread, statement: str, *values: object) -> object:
    """The one value that the statement selects."""

    async def fetch(connection: Connection, _ledger_id: LedgerId) -> object:
        return await connection.fetchval(statement, *values)

    return ledger.call(fetch)
