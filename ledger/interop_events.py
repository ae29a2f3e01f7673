"""The `eventsourcing` library's domain events on our log, its own applications' and ours.

A library application's event is stored as the library itself would: topic `module:Class`, state as JSON. Its transcoder
is kept to the letter, so that each reads what the other wrote, with msgspec doing the work; an event class that is a
`msgspec.Struct` is written and read by its annotations instead.

Our events (webhooks, links, observations) are `LedgerEvent`s. Their state is a raw body, and what they mean is derived
on every read, so they are read here and never written. Those of a booking's stream make a `BookingAggregate`.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar, Final, cast

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    Notification,
    ProgrammingError,
    StoredEvent,
    TranscodingNotRegisteredError,
)
from eventsourcing.utils import get_topic, resolve_topic

from ledger.booking import Booking
from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.calcom.triggers import FLAT_TRIGGERS
from ledger.facts import Dated, Details, Superseded
from ledger.folding import fold
from ledger.history import read_event
from ledger.links import SUPERSEDED_TOPIC, read_link
from ledger.store import RecordedEvent
from ledger.vocabulary import StreamId

OUR_STREAMS: Final = (BOOKING_STREAM_PREFIX, "unattributed-")
"""How the names of the streams begin that webhooks are filed under."""
OUR_TOPICS: Final = ("calcom.", "booking.")
"""How our topics begin. The library's begin with a module's name, and have a colon after it."""

SNAPSHOT_TOPICS: Final = "booking.snapshot."
SNAPSHOT_TOPIC: Final = f"{SNAPSHOT_TOPICS}{version('booking-ledger')}"
"""With the release in it: a snapshot holds what bodies meant to the release that took it, others do not read it."""


@dataclass(frozen=True)
class OurStoredEvent(StoredEvent):
    """An event of our own streams, with all that the log knows of it."""

    recorded: RecordedEvent


@dataclass(frozen=True)
class OurNotification(Notification):
    recorded: RecordedEvent


class BookingSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a booking up to a version: not the booking, since a late fact re-folds it."""

    TOPIC: ClassVar[str] = SNAPSHOT_TOPIC

    originator_id: str
    originator_version: int
    facts: tuple[Dated, ...]

    @classmethod
    def take(cls, aggregate: "BookingAggregate") -> "BookingSnapshot":
        return cls(originator_id=aggregate.id, originator_version=aggregate.version, facts=aggregate.facts)

    def mutate(self, _aggregate: None) -> "BookingAggregate":
        return BookingAggregate(id=self.originator_id, version=self.originator_version, facts=self.facts)


class BookingAggregate(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A booking as its own stream told of it up to `version`. The fields of `booking`, its state, can be read here too.

    What lies in other streams is not in it: the chain's `root_uid` and inherited metadata, seats that moved away. Whole
    bookings are read by `ledger/history.py`.
    """

    Snapshot: ClassVar[type[BookingSnapshot]] = BookingSnapshot

    id: str
    version: int
    facts: tuple[Dated, ...]

    @cached_property
    def booking(self) -> Booking:
        return fold(StreamId(self.id), self.facts)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "booking" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.booking, name)


class LedgerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of ours as the library hands it round."""

    originator_id: str
    originator_version: int
    recorded: RecordedEvent

    @property
    def timestamp(self) -> datetime:
        return self.recorded.occurred_at

    def mutate(self, aggregate: BookingAggregate | None) -> BookingAggregate | None:
        """The booking with this event's facts added; None as long as no event stated one."""
        known = () if aggregate is None else aggregate.facts
        facts = (*known, *_facts_about_itself(self.recorded))
        if not facts:
            return None
        return BookingAggregate(id=self.originator_id, version=self.originator_version, facts=facts)


def _facts_about_itself(event: RecordedEvent) -> tuple[Dated, ...]:
    """What the event says of the booking under whose stream it is filed."""
    if not event.stream_id.startswith(BOOKING_STREAM_PREFIX):
        return ()
    if event.topic == SUPERSEDED_TOPIC:
        return _superseded(event)
    return tuple(dated for stream_id, dated in read_event(event).facts if stream_id == event.stream_id)


def _superseded(event: RecordedEvent) -> tuple[Dated, ...]:
    """What the link alone tells of the webhook it points to, in that webhook's place among the facts."""
    link = read_link(event.body)
    if not link.by_stream.startswith(BOOKING_STREAM_PREFIX):
        return ()
    by_uid = link.by_stream.removeprefix(NUMBER_STREAM_PREFIX).removeprefix(BOOKING_STREAM_PREFIX)
    fact = Superseded(by_uid=by_uid, details=Details(), by_snapshot=link.trigger in FLAT_TRIGGERS)
    return (
        Dated(
            occurred_at=event.occurred_at,
            rank=fact.rank,
            digest=link.by_event.bytes,
            position=event.position,
            recorded_at=event.recorded_at,
            trigger=link.trigger,
            fact=fact,
        ),
    )


get_topic(BookingSnapshot)  # so that the library finds the class by the topic


class LedgerMapper(Mapper[Any]):
    """The library's mapper, for `msgspec.Struct`s and our own events too."""

    def to_stored_event(self, domain_event: DomainEventProtocol[Any]) -> StoredEvent:
        if isinstance(domain_event, LedgerEvent):
            raise ProgrammingError(
                f"{domain_event.originator_id} is for reading: such streams are not an application's own."
            )
        if not isinstance(domain_event, msgspec.Struct):
            return super().to_stored_event(domain_event)
        state = msgspec.json.encode(domain_event)
        if self.compressor:
            state = self.compressor.compress(state)
        if self.cipher:
            state = self.cipher.encrypt(state)
        event = cast("DomainEventProtocol[Any]", domain_event)
        return StoredEvent(event.originator_id, event.originator_version, get_topic(type(domain_event)), state)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[Any]:
        if isinstance(stored_event, OurStoredEvent | OurNotification):
            event = LedgerEvent(
                originator_id=str(stored_event.originator_id),
                originator_version=stored_event.originator_version,
                recorded=stored_event.recorded,
            )
            return cast("DomainEventProtocol[Any]", event)
        kind = resolve_topic(stored_event.topic)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return super().to_domain_event(stored_event)
        state = stored_event.state
        try:
            if self.cipher:
                state = self.cipher.decrypt(state)
            if self.compressor:
                state = self.compressor.decompress(state)
            return cast("DomainEventProtocol[Any]", msgspec.json.decode(state, type=kind))
        except (ValueError, msgspec.MsgspecError) as error:
            place = f"{stored_event.originator_id} version {stored_event.originator_version}"
            raise MapperDeserialisationError(f"{place} is no {stored_event.topic}: {error}") from error


class MsgspecTranscoder(JSONTranscoder):
    """The library's JSON, written and read by msgspec; types register their transcodings as for JSONTranscoder.

    Three differences: a registered subclass of str, int, list … or tuple comes back as itself, NaN and infinities are
    refused (they are no JSON), and lone surrogates are refused on reading as well.
    """

    def encode(self, obj: object) -> bytes:
        return msgspec.json.encode(self._tagged(obj))

    def decode(self, data: bytes) -> Any:  # noqa: ANN401
        return self._untagged(msgspec.json.decode(data))

    def _tagged(self, value: object) -> object:
        """What JSON can say, with every registered type as `{"_type_": …, "_data_": …}`."""
        transcoding = self.types.get(type(value))
        if transcoding is not None:
            return {"_type_": transcoding.name, "_data_": self._tagged(transcoding.encode(value))}
        if isinstance(value, dict):
            return {key: self._tagged(element) for key, element in value.items()}
        if isinstance(value, list | tuple):
            return [self._tagged(element) for element in value]
        return _scalar(value)

    def _untagged(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [self._untagged(element) for element in value]
        if not isinstance(value, dict):
            return value
        plain = {key: self._untagged(element) for key, element in value.items()}
        if plain.keys() != _TAG:
            return plain
        transcoding = self.names.get(plain["_type_"])
        if transcoding is None:
            raise TranscodingNotRegisteredError(
                f"Data serialized with name '{plain['_type_']}' is not deserializable. "
                "Please register a custom transcoding for this type."
            )
        return transcoding.decode(plain["_data_"])


_TAG = {"_type_", "_data_"}


def _scalar(value: object) -> object:
    """The value itself, of a subclass what it holds: an enumeration's `str()` may be something else."""
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float() if math.isfinite(value):
            return float.__float__(value)
        case float():
            raise ValueError(f"{value} cannot be written as JSON.")
        case _:
            raise TranscodingNotRegisteredError(
                f"Object of type {type(value)} is not serializable. "
                "Please define and register a custom transcoding for this type."
            )
