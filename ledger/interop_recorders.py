"""The `eventsourcing` library's recorders on our store: what lies in the log, and what lies in tables beside it.

How originators and versions become streams and theirs is told in ledger/interop.py.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)

from ledger.errors import BodyUnreadable
from ledger.interop_events import (
    OUR_STREAMS,
    OUR_TOPICS,
    SNAPSHOT_TOPIC,
    SNAPSHOT_TOPICS,
    OurNotification,
    OurStoredEvent,
)
from ledger.interop_thread import LedgerThread, Track
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.store import NewEvent, RecordedEvent, open_events, read_head
from ledger.vocabulary import LedgerId, StreamId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

VERSION_MAX: Final = 2**63 - 1
POSITION_MAX: Final = 2**63 - 1
VERSION_ZERO: Final = "#0"
"""How the name of the stream ends that holds an originator's version 0."""

OriginatorId = UUID | str


class LedgerAggregateRecorder(AggregateRecorder):
    """Appends to the log and reads its streams."""

    def __init__(self, ledger: LedgerThread, *, has_text_ids: bool = False) -> None:
        self.ledger = ledger
        self.has_text_ids = has_text_ids

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:  # noqa: ANN401
        self._save(stored_events)
        return None

    def select_events(
        self,
        originator_id: OriginatorId,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        statement = SQL["read_originator_backwards"] if desc else SQL["read_originator"]
        stream_id = str(originator_id)
        after = -1 if gt is None else gt
        up_to = VERSION_MAX if lte is None else lte

        async def select(connection: Connection, ledger_id: LedgerId) -> list[StoredEvent]:
            zero = f"{stream_id}{VERSION_ZERO}"
            rows = await connection.fetch(statement, ledger_id, stream_id, zero, after, up_to, limit)
            events = await open_events(connection, ledger_id, [row[1:] for row in rows])
            return [
                _stored_event(originator_id, row["originator_version"], event)
                for row, event in zip(rows, events, strict=True)
            ]

        return self.ledger.call(select)

    def _save(self, stored_events: Sequence[StoredEvent], track: Track | None = None) -> list[int]:
        """The positions of the events, all of which went in together."""
        events = _new_events(stored_events)
        return [place.position for place in self.ledger.save(events, track)] if events or track else []


class LedgerApplicationRecorder(LedgerAggregateRecorder, ApplicationRecorder):
    """Follows the log as well: a notification's id is its event's position."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:  # noqa: ANN401
        return self._save(stored_events) or None

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        up_to = POSITION_MAX if stop is None else stop

        async def select(connection: Connection, ledger_id: LedgerId) -> list[Notification]:
            rows = await connection.fetch(
                SQL["read_notifications"], ledger_id, after, up_to, list(topics) or None, limit
            )
            events = await open_events(connection, ledger_id, rows)
            return [_notification(event, has_text_ids=self.has_text_ids) for event in events]

        return self.ledger.call(select)

    def max_notification_id(self) -> int | None:
        return self.ledger.call(read_head).position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> "LedgerSubscription":
        return LedgerSubscription(self, gt, topics)


class LedgerSubscription(ListenNotifySubscription[LedgerApplicationRecorder]):
    """Wakes at every append of any process; where a notification was lost, within `POLL_SECONDS_MAX`."""

    def __init__(self, recorder: LedgerApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        self._stop_listening: Callable[[], None] = lambda: None
        super().__init__(recorder, gt, topics)
        self._stop_listening = recorder.ledger.listen(self._has_been_notified.set)
        if self._has_been_stopped:
            self._stop_listening()

    def stop(self) -> None:
        super().stop()
        self._stop_listening()


class LedgerTrackingRecorder(TrackingRecorder):
    """Remembers how far others' notifications were processed; that only moves forward.

    A subclass with tables of its own calls `track` in the transaction of what it writes to them.
    """

    def __init__(self, ledger: LedgerThread, *, tracking_name: str = "notification_tracking") -> None:
        self.ledger = ledger
        self.tracking_name = tracking_name

    def insert_tracking(self, tracking: Tracking) -> None:
        async def insert(connection: Connection, ledger_id: LedgerId) -> None:
            await self.track(connection, ledger_id, tracking)

        self.ledger.call(insert, is_repeatable=False)

    async def track(self, connection: Connection, ledger_id: LedgerId, tracking: Tracking) -> None:
        """Raises IntegrityError where the notification, or a later one, was processed before."""
        place = (ledger_id, self.tracking_name, tracking.application_name)
        if await connection.fetchval(SQL["move_tracking"], *place, tracking.notification_id) is None:
            name = f"notification {tracking.notification_id} of {tracking.application_name}"
            raise IntegrityError(f"{self.tracking_name} has processed {name} before.")

    def max_tracking_id(self, application_name: str) -> int | None:
        async def select(connection: Connection, ledger_id: LedgerId) -> int | None:
            found = await connection.fetchval(SQL["read_tracking"], ledger_id, self.tracking_name, application_name)
            return cast("int | None", found)

        return self.ledger.call(select)


class LedgerProcessRecorder(LedgerTrackingRecorder, LedgerApplicationRecorder, ProcessRecorder):
    """Appends events and moves the tracking that led to them in one transaction."""

    def __init__(
        self, ledger: LedgerThread, *, has_text_ids: bool = False, tracking_name: str = "notification_tracking"
    ) -> None:
        LedgerApplicationRecorder.__init__(self, ledger, has_text_ids=has_text_ids)
        LedgerTrackingRecorder.__init__(self, ledger, tracking_name=tracking_name)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Sequence[int] | None:
        async def track(connection: Connection, ledger_id: LedgerId) -> None:
            if tracking is not None:
                await self.track(connection, ledger_id, tracking)

        return self._save(stored_events, track if tracking is not None else None) or None


class LedgerSnapshotRecorder(AggregateRecorder):
    """Keeps snapshots, in a table beside the log. `recorder_name` tells those of different applications apart."""

    def __init__(self, ledger: LedgerThread, *, recorder_name: str) -> None:
        self.ledger = ledger
        self.recorder_name = recorder_name

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:  # noqa: ANN401
        columns = (
            [str(event.originator_id) for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        )

        async def insert(connection: Connection, ledger_id: LedgerId) -> None:
            async with connection.transaction():
                kept = await connection.fetch(
                    SQL["insert_snapshots"], ledger_id, self.recorder_name, *columns, SNAPSHOT_TOPICS
                )
                if len(kept) < len(stored_events):
                    raise IntegrityError(f"{self.recorder_name} has a snapshot of the same version.")

        if stored_events:
            self.ledger.call(insert, is_repeatable=False)
        return None

    def select_events(
        self,
        originator_id: OriginatorId,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        statement = SQL["read_snapshots_backwards"] if desc else SQL["read_snapshots"]
        place = (self.recorder_name, str(originator_id))
        after = -1 if gt is None else gt
        up_to = VERSION_MAX if lte is None else lte

        async def select(connection: Connection, ledger_id: LedgerId) -> list[StoredEvent]:
            rows = await connection.fetch(
                statement, ledger_id, *place, after, up_to, limit, SNAPSHOT_TOPICS, SNAPSHOT_TOPIC
            )
            return [StoredEvent(originator_id, row["originator_version"], row["topic"], row["state"]) for row in rows]

        return self.ledger.call(select)


def _new_events(stored_events: Sequence[StoredEvent]) -> list[NewEvent]:
    """The events for the log, each expecting its version. Raises ProgrammingError for streams and topics of ours."""
    saved_at = datetime.now(UTC)
    events = []
    for stored in stored_events:
        stream_id, version = str(stored.originator_id), stored.originator_version
        if stream_id.startswith(OUR_STREAMS) or stream_id.endswith(VERSION_ZERO):
            raise ProgrammingError(f"An application cannot save to {stream_id}: such streams are not its own.")
        if stored.topic.startswith(OUR_TOPICS) and ":" not in stored.topic:
            raise ProgrammingError(f"An application cannot save {stored.topic}: such topics are not its own.")
        if version == 0:
            stream_id, version = f"{stream_id}{VERSION_ZERO}", 1
        events.append(
            NewEvent(
                event_id=uuid4(),
                stream_id=StreamId(stream_id),
                topic=stored.topic,
                body=stored.state,
                occurred_at=saved_at,
                source="command",
                expected_version=version - 1,
                seal="none",  # the application has a cipher of its own, and the view of migration 0003 reads these
            )
        )
    return events


def _stored_event(originator_id: OriginatorId, version: int, event: RecordedEvent) -> StoredEvent:
    """Raises BodyUnreadable."""
    _refuse_faulty(event)
    place = (originator_id, version)
    if event.stream_id.startswith(OUR_STREAMS):
        return OurStoredEvent(*place, event.topic, event.body, recorded=event)
    return StoredEvent(*place, event.topic, event.body)


def _notification(event: RecordedEvent, *, has_text_ids: bool) -> Notification:
    """Raises BodyUnreadable."""
    _refuse_faulty(event)
    if event.stream_id.startswith(OUR_STREAMS):
        place = (event.stream_id, event.stream_version)
        return OurNotification(*place, event.topic, event.body, id=event.position, recorded=event)
    is_zero = event.stream_id.endswith(VERSION_ZERO)
    name = event.stream_id.removesuffix(VERSION_ZERO)
    return Notification(
        originator_id=name if has_text_ids else _uuid_or_text(name),
        originator_version=0 if is_zero else event.stream_version,
        topic=event.topic,
        state=event.body,
        id=event.position,
    )


def _uuid_or_text(name: str) -> OriginatorId:
    """A UUID where the name is how one is written."""
    try:
        number = UUID(name)
    except ValueError:
        return name
    return number if str(number) == name else name


def _refuse_faulty(event: RecordedEvent) -> None:
    if event.fault is not None:
        raise BodyUnreadable(event.fault)
