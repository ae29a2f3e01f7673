"""A made-up Cal.com account: what its own database holds about event types and bookings.

Payloads are cut from these rows (`payloads.py`), as Cal.com cuts its own. Everything drawn comes from the one
`random.Random` that the studio was opened with, so the same seed and the same calls give the same rows.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Literal
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from api.simulator.people import HOSTS, Attendee, Host, attendee

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
DOG_SHARE = 0.5
UID_CHARACTERS = 22
CAL_VIDEO = "integrations:daily"
CLIENTS = 12
CUSTOM_METADATA_SHARE = 0.35
GUEST_SHARE = 0.2
QUARTER_HOUR = timedelta(minutes=15)

NOTES = (
    "", "", "Please call on arrival", "Bringing two dogs 🐶🐶", "Bitte leise sein: er schläft noch.",
    "línea 1\nlínea 2\n\n- item", '<b>quotes</b> & "angles"', "初めてです。よろしくお願いします。", "tab\tseparated",
)  # fmt: skip
DOGS = ("Bello", "Pixel", "モモ", "Łatka", "Señor Woof", "O’Malley")
SOURCES = ("website", "phone", "barkbook-app")


class EventType(Struct, frozen=True, kw_only=True):
    """One bookable thing. `price` in minor units."""

    id: int
    slug: str
    title: str
    minutes: int
    price: int = 0
    requires_confirmation: bool = False
    seats: int | None = None
    location: str = CAL_VIDEO


EventKind = Literal["plain", "video", "opt_in", "paid", "paid_opt_in", "class"]

EVENT_TYPES: dict[EventKind, tuple[EventType, ...]] = {
    "plain": (
        EventType(id=37001, slug="full-grooming", title="Full Grooming", minutes=90, location="12 Example Street"),
        EventType(id=37002, slug="bath-and-brush", title="Bath & Brush", minutes=45, location="12 Example Street"),
        EventType(id=37003, slug="phone-advice", title="Phone advice", minutes=15, location="+15550001111"),
        EventType(id=37004, slug="intro-call", title="Intro Call", minutes=30),
    ),
    "video": (
        EventType(id=37004, slug="intro-call", title="Intro Call", minutes=30),
        EventType(id=37005, slug="behaviour-session", title="Behaviour session", minutes=60),
    ),
    "opt_in": (EventType(id=37006, slug="first-visit", title="First visit", minutes=60, requires_confirmation=True),),
    "paid": (EventType(id=37007, slug="consultation", title="Consultation", minutes=30, price=2500),),
    "paid_opt_in": (
        EventType(id=37008, slug="home-visit", title="Home visit", minutes=60, price=8900, requires_confirmation=True),
    ),
    "class": (EventType(id=37009, slug="puppy-class", title="Puppy class", minutes=60, seats=6),),
}


class Slot(Struct, frozen=True, kw_only=True):
    """When a lifecycle plays: its first delivery at `booked_at`, its meeting at `starts_at`, at least 2 h later.

    Both aware, UTC, and whole in milliseconds, because that is what Cal.com's times are.
    """

    booked_at: datetime
    starts_at: datetime

    @property
    def settled_by(self) -> datetime:
        """All changes before the meeting happen earlier than this."""
        return self.booked_at + (self.starts_at - self.booked_at) / 2


class Booking(Struct, frozen=True, kw_only=True):
    """One booking row, with what belongs to it."""

    uid: str
    booking_id: int
    request_id: str
    host: Host
    event_type: EventType
    attendees: tuple[Attendee, ...]
    starts_at: datetime
    created_at: datetime
    location: str
    notes: str
    dog: str | None
    metadata: dict[str, str]
    ical_uid: str
    ical_sequence: int = 0
    moved_from: str | None = None
    series_count: int | None = None
    payment_id: int | None = None

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + timedelta(minutes=self.event_type.minutes)

    @property
    def title(self) -> str:
        return f"{self.event_type.title} between {self.host.name} and {self.attendees[0].name}"

    @property
    def video_url(self) -> str | None:
        return f"https://rooms.example.com/{self.uid}" if self.location == CAL_VIDEO else None


class Studio:
    """The account. Ids count upwards from a drawn beginning, as a database's do."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._booking_ids = _ids(rng)
        self._attendee_ids = _ids(rng)
        self._payment_ids = _ids(rng)
        self._clients_and_pets = [(self.uuid(), self.uuid()) for _ in range(CLIENTS)]

    def uid(self) -> str:
        """A booking uid: 22 characters of base 58."""
        return "".join(self.rng.choices(BASE58, k=UID_CHARACTERS))

    def uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def somebody(self) -> Attendee:
        return attendee(self.rng, attendee_id=next(self._attendee_ids))

    def book(self, kind: EventKind, slot: Slot, *, starts_at: datetime | None = None) -> Booking:
        """A new row, made at `slot.booked_at`; a class has its first seat taken, others may bring a guest."""
        rng = self.rng
        event_type = rng.choice(EVENT_TYPES[kind])
        attendees = [self.somebody()]
        if event_type.seats is None and rng.random() < GUEST_SHARE:
            attendees.append(self.somebody())
        uid = self.uid()
        return Booking(
            uid=uid,
            booking_id=next(self._booking_ids),
            request_id=self.uuid(),
            host=self.some_host(),
            event_type=event_type,
            attendees=tuple(attendees),
            starts_at=starts_at or slot.starts_at,
            created_at=slot.booked_at - timedelta(milliseconds=rng.randint(200, 900)),
            location=event_type.location,
            notes=rng.choice(NOTES),
            dog=rng.choice(DOGS) if rng.random() < DOG_SHARE else None,
            metadata=self._custom_metadata(),
            ical_uid=f"{uid}@Cal.com",
            payment_id=next(self._payment_ids) if event_type.price else None,
        )

    def repeat(self, booking: Booking, *, starts_at: datetime, at: datetime) -> Booking:
        """The same meeting once more, a row of its own: the next of a series, or another slot of a class."""
        uid = self.uid()
        return replace(
            booking,
            uid=uid,
            booking_id=next(self._booking_ids),
            request_id=self.uuid(),
            attendees=tuple(replace(a, id=next(self._attendee_ids)) for a in booking.attendees),
            starts_at=starts_at,
            created_at=at - timedelta(milliseconds=self.rng.randint(200, 900)),
            ical_uid=f"{uid}@Cal.com",
        )

    def rebook(self, booking: Booking, *, starts_at: datetime, at: datetime) -> Booking:
        """The new row of a reschedule: it keeps the old iCalUID, with the next sequence number."""
        return replace(
            self.repeat(booking, starts_at=starts_at, at=at),
            ical_uid=booking.ical_uid,
            ical_sequence=booking.ical_sequence + 1,
            moved_from=booking.uid,
        )

    def another_time(self, slot: Slot) -> datetime:
        """A time for the same meeting on another day, after all changes are settled."""
        days = [days for days in (-2, -1, 1, 2, 3, 4) if slot.starts_at + timedelta(days=days) >= slot.settled_by]
        return slot.starts_at + timedelta(days=self.rng.choice(days)) + QUARTER_HOUR * self.rng.randint(0, 2)

    def some_host(self, *, other_than: Host | None = None) -> Host:
        return self.rng.choice([host for host in HOSTS if host != other_than])

    def _custom_metadata(self) -> dict[str, str]:
        if self.rng.random() >= CUSTOM_METADATA_SHARE:
            return {}
        client_id, pet_id = self.rng.choice(self._clients_and_pets)
        return {"barkbookClientId": client_id, "barkbookPetId": pet_id, "source": self.rng.choice(SOURCES)}


def _ids(rng: Random) -> Iterator[int]:
    return count(rng.randrange(1_000_000, 9_000_000))
