"""A made-up town whose people book: each can be told apart in any text, in every way in which a body can name them.

town = build(people=120)
town.bodies       in order of sending
town.bookings     who is in each booking, by uid
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tests.builders import instant, meeting, webhook

HOST = {"email": "host@salon.example.org", "name": "Hosta Salonne", "timeZone": "Europe/Lisbon"}
KINDS = 10


class Citizen(msgspec.Struct, frozen=True):
    number: int

    @property
    def email(self) -> str:
        return f"citizen.{self.number}@town.example.net"

    @property
    def written(self) -> str:
        """The address as people type it."""
        return f"Citizen.{self.number}@Town.example.net"

    @property
    def name(self) -> str:
        return f"Vorname{self.number} Nachname{self.number}"

    @property
    def phone(self) -> str:
        return f"+49 30 77{self.number:06}"

    @property
    def notes(self) -> str:
        return f"allergic to soap number {self.number}, please"

    @property
    def canaries(self) -> tuple[bytes, ...]:
        """What must not be found of them, in lower case."""
        digits = "".join(character for character in self.phone if character.isdigit())
        texts = (self.email, self.email.replace("@", "\\u0040"), self.name.lower(), self.phone, digits, self.notes)
        return tuple(text.encode() for text in texts)


class Town(msgspec.Struct, frozen=True, kw_only=True):
    """`bookings`: who was ever in each, by uid."""

    citizens: Sequence[Citizen]
    bodies: Sequence[bytes]
    bookings: Mapping[str, frozenset[int]]

    def alone(self, erased: frozenset[int]) -> set[str]:
        """The bookings that were nobody else's."""
        return {uid for uid, people in self.bookings.items() if people <= erased}


def attendee(one: Citizen, **fields: Any) -> dict[str, Any]:
    return {
        "email": one.written,
        "name": one.name,
        "phoneNumber": one.phone,
        "timeZone": "Europe/Berlin",
        "language": {"locale": "de"},
        **fields,
    }


def payload(uid: str, *people: Citizen, start: datetime, **fields: Any) -> dict[str, Any]:
    """A booking by the first of them, with the others as guests."""
    booker = people[0]
    guests = [one.written for one in people[1:]]
    return {
        "uid": uid,
        "title": f"Bath between {HOST['name']} and {booker.name}",
        "type": "bath",
        "description": booker.notes,
        "additionalNotes": booker.notes,
        "startTime": instant(start),
        "endTime": instant(start + timedelta(minutes=30)),
        "organizer": HOST,
        "attendees": [attendee(one) for one in people],
        "responses": {
            "name": {"label": "your_name", "value": booker.name},
            "email": {"label": "email_address", "value": booker.written},
            "attendeePhoneNumber": {"label": "phone", "value": booker.phone},
            "notes": {"label": "additional_notes", "value": booker.notes},
            "guests": {"label": "additional_guests", "value": guests},
        },
        "location": "14 Willow Lane",
        "metadata": {"clientId": f"client-{uid}", "channel": "web"},
        "iCalUID": f"{uid}@Cal.com",
        "status": "ACCEPTED",
        **fields,
    }


class _Builder:
    def __init__(self, begun: datetime) -> None:
        self.begun = begun
        self.at = begun
        self.bodies: list[bytes] = []
        self.bookings: dict[str, set[int]] = {}

    def send(self, trigger: str, told: Mapping[str, Any], *people: Citizen) -> None:
        self.at += timedelta(seconds=1)
        self.bodies.append(webhook(trigger, told, at=self.at))
        if "uid" in told:
            self.bookings.setdefault(told["uid"], set()).update(one.number for one in people)

    def start(self, number: int) -> datetime:
        return self.begun + timedelta(days=30 + number % 60, hours=number % 8)


def build(people: int, *, begun: datetime) -> Town:
    """Each does one of ten things; some of them with the next one of the town, or the one before."""
    citizens = [Citizen(number) for number in range(1, people + 1)]
    builder = _Builder(begun)
    for at, one in enumerate(citizens):
        other = citizens[(at + 1) % people]
        _LIVES[one.number % KINDS](builder, one, other)
    return Town(
        citizens=citizens,
        bodies=builder.bodies,
        bookings={uid: frozenset(numbers) for uid, numbers in builder.bookings.items()},
    )


def _books(town: _Builder, one: Citizen, _other: Citizen) -> None:
    start = town.start(one.number)
    town.send("BOOKING_CREATED", payload(f"uid{one.number}a", one, start=start), one)
    town.send("BOOKING_PAID", {"uid": f"uid{one.number}a", "paymentId": one.number}, one)


def _moves(town: _Builder, one: Citizen, _other: Citizen) -> None:
    start = town.start(one.number)
    old, new = f"uid{one.number}a", f"uid{one.number}b"
    town.send("BOOKING_REQUESTED", payload(old, one, start=start), one)
    town.send("BOOKING_CREATED", payload(old, one, start=start), one)
    moved = payload(new, one, start=start + timedelta(days=1), rescheduleUid=old, rescheduledBy=one.written)
    town.send("BOOKING_RESCHEDULED", {**moved, "rescheduleId": one.number}, one)


def _cancels(town: _Builder, one: Citizen, _other: Citizen) -> None:
    told = payload(f"uid{one.number}a", one, start=town.start(one.number))
    town.send("BOOKING_CREATED", told, one)
    reason = f"{one.name} is ill, call {one.phone}"
    town.send("BOOKING_CANCELLED", {**told, "cancellationReason": reason, "cancelledBy": one.written}, one)


def _brings_a_guest(town: _Builder, one: Citizen, other: Citizen) -> None:
    told = payload(f"uid{one.number}a", one, other, start=town.start(one.number))
    town.send("BOOKING_CREATED", told, one, other)


def _comes_to_a_class(town: _Builder, one: Citizen, other: Citizen) -> None:
    uid, start = f"class{one.number // 50}", town.start(one.number // 50)
    title = {"title": "Puppy class", "description": "Bring a towel", "seatsPerTimeSlot": 60, "type": "class"}
    for who in (one, other):
        seat = payload(uid, who, start=start, **title, metadata={"room": "3"})
        town.send("BOOKING_CREATED", {**seat, "additionalNotes": None, "responses": {}}, who)


def _leaves_a_class(town: _Builder, one: Citizen, other: Citizen) -> None:
    _comes_to_a_class(town, one, other)
    uid = f"class{one.number // 50}"
    leaver = {"uid": uid, "seatsPerTimeSlot": 60, "attendees": [attendee(one, bookingId=7, id=one.number)]}
    town.send("BOOKING_CANCELLED", leaver, one)


def _fills_in_a_form(town: _Builder, one: Citizen, _other: Citizen) -> None:
    form = {"formName": "Contact", "responses": {"email": {"value": one.written}, "name": {"value": one.name}}}
    town.send("FORM_SUBMITTED", {**form, "notes": one.notes, "phone": one.phone})


def _is_met(town: _Builder, one: Citizen, _other: Citizen) -> None:
    told = payload(f"uid{one.number}a", one, start=town.start(one.number))
    town.send("BOOKING_CREATED", told, one)
    flat = {**told, "user": HOST, "createdAt": instant(town.at), "bookingId": 100_000 + one.number}
    town.bodies.append(meeting("MEETING_ENDED", flat))


def _does_not_come(town: _Builder, one: Citizen, other: Citizen) -> None:
    told = payload(f"uid{one.number}a", other, one, start=town.start(one.number))
    town.send("BOOKING_CREATED", told, one, other)
    marks = [{"email": one.email, "noShow": True}, {"email": other.email, "noShow": False}]
    mark = {"bookingUid": f"uid{one.number}a", "attendees": marks, "message": "marked"}
    town.send("BOOKING_NO_SHOW_UPDATED", mark)


def _helps_another(town: _Builder, one: Citizen, other: Citizen) -> None:
    """Stands in old bodies of the other's bookings alone."""
    old, new, start = f"uid{one.number}a", f"uid{one.number}b", town.start(one.number)
    town.send("BOOKING_CREATED", payload(old, other, start=start), other)
    moved = payload(new, other, start=start + timedelta(days=1), rescheduleUid=old, rescheduledBy=one.written)
    moved |= {"rescheduleId": one.number, "customInputs": {"who": f"asked for by <{one.written}> ({one.name})"}}
    town.send("BOOKING_RESCHEDULED", moved, other)


_LIVES = (
    *(_helps_another, _books, _moves, _cancels, _brings_a_guest),
    *(_comes_to_a_class, _leaves_a_class, _fills_in_a_form, _is_met, _does_not_come),
)


def everywhere(citizens: Sequence[Citizen], text: bytes) -> Iterator[bytes]:
    """Where the text has canaries of these, as they stand or in hexadecimal digits, in capitals or not."""
    lowered = text.lower()
    for one in citizens:
        for canary in one.canaries:
            for written in (canary, canary.hex().encode()):
                at = lowered.find(written)
                if at >= 0:
                    yield lowered[max(at - 60, 0) : at + 60]


TRACES = re.compile(
    rb"citizen\.(\d+)(?:@|\\u0040|%40)|vorname(\d+) nachname|\+49 30 77(\d{6})|493077(\d{6})|soap number (\d+)"
)
HEXADECIMAL = re.compile(rb"\\x([0-9a-f]{16,})")


def numbers_in(text: bytes) -> set[int]:
    """Whose canaries the text has, in bytes written as hexadecimal digits too: for much text and many people."""
    lowered = text.lower()
    written = [bytes.fromhex(one.decode()[: len(one) // 2 * 2]) for one in HEXADECIMAL.findall(lowered)]
    pieces = [lowered, *(piece.lower() for piece in written)]
    return {int(number) for piece in pieces for found in TRACES.findall(piece) for number in found if number}
