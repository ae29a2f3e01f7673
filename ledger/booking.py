"""A booking, and the two words for how it stands: Cal.com's own and the calendar's."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import msgspec

from ledger.calcom.envelope import BOOKING_STREAM_PREFIX, NUMBER_STREAM_PREFIX
from ledger.facts import Dated, Details, Person
from ledger.vocabulary import BookingStatus, CalendarStatus, StreamId

Value = TypeVar("Value")

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})

UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)
"""Stands for the start of a meeting whose own body did not give it."""


class Told(Generic[Value]):
    """A field that bodies tell: its value is what the weightiest body says that says anything of it."""

    def __init__(self, name: str) -> None:
        self._read = attrgetter(name)

    def __get__(self, booking: "Booking", owner: type["Booking"]) -> Value | None:
        """None where no body says anything."""
        for details in booking.told:
            value: Value | None = self._read(details)
            if value is not None:
                return value
        return None


class Booking(msgspec.Struct, kw_only=True, gc=False):
    """One booking as its facts tell it. A value: only `fold` and `evolve` make new ones, nobody changes one.

    `told` is what bodies said of the booking itself, the weightiest first; the fields below it are read from there.
    `facts` are all of them, in the order in which they happened. `status` is Cal.com's word without regard to a newer
    uid; read `booking_status` and `calendar_status` instead. `named` are the attendees of the last body that named them
    all, `seated` those of a booking whose seats come and go, `gave_up` those who left one; read `attendees` and `left`
    instead, which are without the `unnamed`, who were erased and go by a pseudonym. `is_class`: its event type has
    seats. `marked`: somebody has ever been marked, absent or not; `host_absent` and `guests_absent` are what Cal Video
    saw, which marks nobody.
    `doubts` are what webhooks could not decide, each with the fact that raised it. `seat_from`: `rescheduled_from` is a
    slot from which one seat came, and which lives on; `seats_went_to`: the slots to which seats of this one went.
    `is_gone`: all its persons were erased, it is no booking any more. `started_for` and `ended_for` are the start for
    which the meeting was reported: they count while it is still that.
    """

    stream_id: StreamId
    told: tuple[Details, ...] = ()
    named: tuple[Person, ...] | None = None
    seated: dict[str, Person] = {}
    is_class: bool = False
    gave_up: Mapping[str, Person] = NOTHING
    unnamed: frozenset[str] = frozenset()
    absent: Mapping[str, bool] = NOTHING
    marked: bool = False
    host_marked: bool = False
    metadata: Mapping[str, str] = NOTHING
    doubts: Mapping[str, Dated | None] = NOTHING
    status: BookingStatus | None = None
    requested: bool = False
    payment_initiated: bool = False
    payment_number: int | None = None
    paid: bool = False
    explicitly_confirmed: bool = False
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    reschedule_requested: bool = False
    rejection_reason: str | None = None
    rescheduled_by: str | None = None
    rescheduled_from: str | None = None
    rescheduled_to: str | None = None
    seat_from: bool = False
    seats_went_to: tuple[str, ...] = ()
    root_uid: str | None = None
    started_for: datetime | None = None
    ended_for: datetime | None = None
    host_absent: bool = False
    guests_absent: bool = False
    made_at: datetime | None = None
    recording_url: str | None = None
    has_transcript: bool = False
    is_gone: bool = False
    facts: Sequence[Dated] = ()

    number = Told[int]("number")
    ical_uid = Told[str]("ical_uid")
    title = Told[str]("title")
    description = Told[str]("description")
    event_type = Told[str]("event_type")
    event_type_number = Told[int]("event_type_number")
    start = Told[datetime]("start")
    end = Told[datetime]("end")
    location = Told[str]("location")
    meeting_url = Told[str]("meeting_url")
    host_email = Told[str]("host_email")
    host_name = Told[str]("host_name")
    seats = Told[int]("seats")
    recurring = Told[bool]("recurring")

    @property
    def details(self) -> Details:
        """All that bodies told of the booking itself, in one piece: field by field what the descriptors above say."""
        weightiest = self.told[0] if self.told else Details()
        if len(self.told) <= 1:
            return weightiest
        merged = list(msgspec.structs.astuple(weightiest))
        unsaid = [place for place, said in enumerate(merged) if said is None]
        for details in self.told[1:]:
            spoken = msgspec.structs.astuple(details)
            for place in unsaid:
                if merged[place] is None:
                    merged[place] = spoken[place]
        return Details(*merged)

    @property
    def attendees(self) -> Mapping[str, Person]:
        """Those who come, by e-mail, in the order in which they were named."""
        come = self.seated if self.named is None else {person.email: person for person in self.named}
        return self._without_unnamed(come) if self.unnamed else come

    @property
    def left(self) -> Mapping[str, Person]:
        """Those who gave a seat up, by e-mail."""
        return self._without_unnamed(self.gave_up) if self.unnamed else self.gave_up

    def _without_unnamed(self, people: Mapping[str, Person]) -> Mapping[str, Person]:
        return {email: person for email, person in people.items() if email not in self.unnamed}

    @property
    def uid(self) -> str | None:
        """None while only the number is known."""
        if self.stream_id.startswith(NUMBER_STREAM_PREFIX):
            return None
        return self.stream_id.removeprefix(BOOKING_STREAM_PREFIX)

    @property
    def first_occurred_at(self) -> datetime | None:
        """Of a booking that Cal.com's API told of: when it was made, if no fact is older."""
        first = self.facts[0].occurred_at if self.facts else None
        return first if first is None or self.made_at is None else min(first, self.made_at)

    @property
    def last_occurred_at(self) -> datetime | None:
        return self.facts[-1].occurred_at if self.facts else None

    @property
    def last_position(self) -> int:
        """The position of the last event that said something of the booking."""
        return max((dated.position for dated in self.facts), default=0)

    @property
    def key(self) -> str:
        """The uid, or the number as text while no uid is known."""
        return self.uid or str(self.number)

    @property
    def booking_status(self) -> BookingStatus:
        """Cal.com's truth."""
        if self.rescheduled_to is not None:
            return "rescheduled"
        return self.status or "accepted"

    @property
    def no_show(self) -> bool:
        """Whether an attendee or the host is marked absent now; what Cal Video saw marks nobody."""
        return self.host_marked or any(self.absent.values())

    @property
    def started(self) -> bool:
        return self.started_for is not None and _counts_for(self.started_for, self.start)

    @property
    def ended(self) -> bool:
        return self.ended_for is not None and _counts_for(self.ended_for, self.start)

    def calendar_status(self, *, confirm_on_accept: bool = False) -> CalendarStatus:
        """The word of `calendar_events.status` (DESIGN.md section 3)."""
        match self.booking_status:
            case "rescheduled":
                return "rescheduled"
            case "cancelled" | "rejected":
                return "cancelled"
            case "pending":
                return "scheduled"
            case "accepted":
                return self._accepted_status(confirm_on_accept=confirm_on_accept)

    def _accepted_status(self, *, confirm_on_accept: bool) -> CalendarStatus:
        if self.no_show:
            return "no_show"
        if self.ended:
            return "completed"
        confirmed = self.requested or self.payment_initiated or self.paid or self.explicitly_confirmed
        return "confirmed" if confirmed or confirm_on_accept else "scheduled"


def _counts_for(reported: datetime, start: datetime | None) -> bool:
    """Whether a meeting reported for one start still speaks of the booking's present start."""
    return start is None or reported in (UNKNOWN_TIME, start)
