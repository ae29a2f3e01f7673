"""What a body can mean for one booking: a closed union of facts, each about exactly one booking.

A fact says nothing about when: `Dated` puts it in its place. `None` in `Details` means "this body does not say".
"""

from datetime import datetime
from typing import ClassVar

import msgspec

from ledger.vocabulary import BookingStatus, StreamId


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    """The root of the union. `rank` decides between facts of the same instant, lower first."""

    rank: ClassVar[int]


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An attendee as a body names them; `email` is lower-cased, it is how attendees are told apart."""

    email: str
    name: str | None = None
    phone: str | None = None
    time_zone: str | None = None


class Details(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a body says of the booking itself. Times are aware instants; `attendees` keeps the body's order."""

    number: int | None = None
    ical_uid: str | None = None
    title: str | None = None
    description: str | None = None
    event_type: str | None = None
    event_type_number: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    location: str | None = None
    meeting_url: str | None = None
    host_email: str | None = None
    host_name: str | None = None
    attendees: tuple[Person, ...] | None = None
    metadata: dict[str, str] | None = None
    seats: int | None = None
    recurring: bool | None = None
    previous_uid: str | None = None


NO_NEWS = Details()


class Requested(Fact, frozen=True, kw_only=True):
    """Somebody asked for a time; the host has to confirm."""

    rank = 10
    details: Details


class PaymentInitiated(Fact, frozen=True, kw_only=True):
    """A payment was asked for. Cal.com's body says ACCEPTED; its own row is still pending."""

    rank = 20
    details: Details
    payment_number: int | None = None


class Created(Fact, frozen=True, kw_only=True):
    """Booked, or a request confirmed, or a payment completed, or (on a seated booking) a seat taken."""

    rank = 30
    details: Details


class Confirmed(Fact, frozen=True, kw_only=True):
    """An explicit confirmation: system 001's main event."""

    rank = 35
    details: Details


class Paid(Fact, frozen=True, kw_only=True):
    """The payment went through; `accepted` is false where the host still has to confirm."""

    rank = 40
    details: Details
    payment_number: int | None = None
    accepted: bool = True


class Rescheduled(Fact, frozen=True, kw_only=True):
    """This booking takes the place of `details.previous_uid`, another uid."""

    rank = 45
    details: Details
    rescheduled_by: str | None = None


class Moved(Fact, frozen=True, kw_only=True):
    """The same booking, the same uid, at another time."""

    rank = 46
    details: Details


class SeatTaken(Fact, frozen=True, kw_only=True):
    """One attendee came over from another slot of the class."""

    rank = 47
    details: Details


class LocationUpdated(Fact, frozen=True, kw_only=True):
    rank = 50
    details: Details


class Reassigned(Fact, frozen=True, kw_only=True):
    rank = 51
    details: Details


class MeetingStarted(Fact, frozen=True, kw_only=True):
    """The scheduled start came. `details` is a snapshot taken at booking time: it fills gaps, no more."""

    rank = 60
    details: Details


class MeetingEnded(Fact, frozen=True, kw_only=True):
    """The scheduled end came, whether or not anybody did. `details` as for `MeetingStarted`."""

    rank = 70
    details: Details


class AttendeesMarked(Fact, frozen=True, kw_only=True):
    """Attendees marked absent (true) or no longer absent (false), by e-mail."""

    rank = 80
    absent: dict[str, bool]
    details: Details


class HostAbsent(Fact, frozen=True, kw_only=True):
    rank = 81
    details: Details


class GuestsAbsent(Fact, frozen=True, kw_only=True):
    """Cal Video saw no guest in time; `emails` names those it listed."""

    rank = 82
    emails: tuple[str, ...]
    details: Details


class SeatLeft(Fact, frozen=True, kw_only=True):
    """One attendee left a seated booking, which lives on while anybody is left.

    `emails` is empty where Cal.com no longer found who it was.
    """

    rank = 85
    emails: tuple[str, ...]
    moved_to_uid: str | None = None
    details: Details
    reason: str | None = None


class Cancelled(Fact, frozen=True, kw_only=True):
    rank = 90
    details: Details
    reason: str | None = None
    cancelled_by: str | None = None
    reschedule_requested: bool = False


class Rejected(Fact, frozen=True, kw_only=True):
    rank = 91
    details: Details
    reason: str | None = None


class Superseded(Fact, frozen=True, kw_only=True):
    """Another uid has taken this booking's place. `start` and `end` are what the new body says the old times were.

    `by_snapshot`: only a flat MEETING_* says so; a snapshot fills gaps and overrules nothing.
    """

    rank = 95
    by_uid: str
    details: Details
    by_snapshot: bool = False


class RecordingReady(Fact, frozen=True, kw_only=True):
    rank = 96
    details: Details
    recording_url: str | None = None
    has_transcript: bool = False


class Observed(Fact, frozen=True, kw_only=True):
    """What Cal.com's API said of the booking: it settles doubts and overrules earlier webhooks, except on payments.

    `rescheduled_to` is Cal.com's own forward link. `absent` names every attendee, by e-mail; empty where none is shown.
    `made_at` is when the booking was made.
    """

    rank = 100
    status: BookingStatus
    details: Details
    absent: dict[str, bool]
    host_absent: bool = False
    rescheduled_to: str | None = None
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    made_at: datetime | None = None


PlainFact = (
    Requested
    | PaymentInitiated
    | Created
    | Confirmed
    | Paid
    | Rescheduled
    | Moved
    | SeatTaken
    | LocationUpdated
    | Reassigned
    | MeetingStarted
    | MeetingEnded
    | AttendeesMarked
    | HostAbsent
    | GuestsAbsent
    | SeatLeft
    | Cancelled
    | Rejected
    | Superseded
    | RecordingReady
    | Observed
)


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A fact that outlives the body which told it, without the persons erased; in the place where it always was.

    `position` and `recorded_at` are those of the event that told it first; None: of the event that holds this.
    """

    stream_id: StreamId
    occurred_at: datetime
    digest: bytes
    trigger: str
    fact: PlainFact
    position: int | None = None
    recorded_at: datetime | None = None


class Redacted(Fact, frozen=True, kw_only=True):
    """Persons were erased. In what was kept each goes by a pseudonym, and by none in the booking itself.

    `covers`: the events of the stream up to this position count no more, `kept` stands for them. `gone`: it was the
    booking of those persons alone, and is none any more, whatever may still be told of it. The rank is the highest: as
    the last fact of what was kept it lets those go by pseudonym.
    """

    rank = 1_000
    pseudonyms: tuple[str, ...] = ()
    gone: bool = False
    covers: int = 0
    kept: tuple[Kept, ...] = ()
    details: Details = NO_NEWS


AnyFact = PlainFact | Redacted


class Dated(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A fact in its place: by which event of the log we know, and when it happened.

    Facts are folded by (occurred_at, rank, digest): `digest` breaks the last ties and depends on the body alone, so any
    order of arrival sorts the same way. The order of the fields is that of what is kept (`ledger/kept_facts.py`).
    """

    position: int
    recorded_at: datetime
    occurred_at: datetime
    rank: int
    digest: bytes
    trigger: str
    fact: AnyFact
