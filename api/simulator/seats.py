"""Lifecycles of a class: one booking, many attendees, and bodies that show only one of them (CALCOM.md 3.3)."""

from datetime import datetime

from msgspec.structs import replace

from api.simulator import payloads
from api.simulator.people import Attendee
from api.simulator.story import Lifecycle, Story, truth
from api.simulator.studio import Booking, Slot, Studio

SEATS_TAKEN = (3, 4, 5)


def seats_taken(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("seats_taken", studio, slot)
    booking = _filled_class(story, studio, slot)
    return story.end(truth(booking, "accepted", "scheduled"))


def seat_given_back(studio: Studio, slot: Slot) -> Lifecycle:
    """The body says CANCELLED; the class lives on without the leaver."""
    story = Story("seat_given_back", studio, slot)
    booking = _filled_class(story, studio, slot)
    leaver = studio.rng.choice(booking.attendees)
    story.tell(booking, payloads.seat_cancelled(booking, story.later(), seat=leaver, reason="Conflict"))
    return story.end(truth(_without(booking, leaver), "accepted", "scheduled"))


def class_cancelled(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("class_cancelled", studio, slot)
    booking = _filled_class(story, studio, slot)
    story.tell(booking, payloads.cancelled(booking, story.later(), by=booking.host.email, reason="Conflict"))
    return story.end(truth(booking, "cancelled", "cancelled"))


def class_moved(studio: Studio, slot: Slot) -> Lifecycle:
    """The host moves the class: same uid, everybody comes along."""
    story = Story("class_moved", studio, slot)
    old = _filled_class(story, studio, slot, starts_at=studio.another_time(slot))
    new = replace(old, starts_at=slot.starts_at)
    story.tell(new, payloads.class_moved(new, story.later(), old=old))
    return story.end(truth(new, "accepted", "scheduled"))


def seat_moved(studio: Studio, slot: Slot) -> Lifecycle:
    """One attendee goes to another slot; the old slot's class lives on with the others."""
    story = Story("seat_moved", studio, slot)
    old = _filled_class(story, studio, slot)
    mover = studio.rng.choice(old.attendees)
    alone = replace(old, attendees=(mover,))
    new = studio.repeat(alone, starts_at=studio.another_time(slot), at=story.later())
    story.tell(new, payloads.seat_moved(new, story.at, old=old, seat=new.attendees[0]))
    return story.end(truth(_without(old, mover), "accepted", "scheduled"), truth(new, "accepted", "scheduled"))


def _filled_class(story: Story, studio: Studio, slot: Slot, *, starts_at: datetime | None = None) -> Booking:
    """A class of three to five, who came one after the other."""
    booking = studio.book("class", slot, starts_at=starts_at)
    story.tell(booking, payloads.seat_taken(booking, story.at, seat=booking.attendees[0]))
    for _ in range(studio.rng.choice(SEATS_TAKEN) - 1):
        seat = studio.somebody()
        booking = replace(booking, attendees=(*booking.attendees, seat))
        story.tell(booking, payloads.seat_taken(booking, story.later(), seat=seat))
    return booking


def _without(booking: Booking, leaver: Attendee) -> Booking:
    return replace(booking, attendees=tuple(seat for seat in booking.attendees if seat != leaver))
