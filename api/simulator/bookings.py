"""Lifecycles of one booking without a meeting: made, agreed to, changed in place, called off."""

from datetime import timedelta

from msgspec.structs import replace

from api.simulator import payloads
from api.simulator.story import Lifecycle, Story, truth
from api.simulator.studio import Slot, Studio

SERIES_LENGTHS = (3, 4)
CANCELLATION_REASONS = ("", "Wrong time zone", "I am no longer able to attend", "Überschneidung", "犬が病気です")


def created(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("created", studio, slot)
    booking = studio.book("plain", slot)
    story.tell(booking, payloads.created(booking, story.at))
    return story.end(truth(booking, "accepted", "scheduled"))


def created_and_cancelled(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("created_and_cancelled", studio, slot)
    booking = studio.book("plain", slot)
    story.tell(booking, payloads.created(booking, story.at))
    by = studio.rng.choice((booking.host.email, booking.attendees[0].email))
    reason = studio.rng.choice(CANCELLATION_REASONS)
    story.tell(booking, payloads.cancelled(booking, story.later(), by=by, reason=reason))
    return story.end(truth(booking, "cancelled", "cancelled"))


def request_pending(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("request_pending", studio, slot)
    booking = studio.book("opt_in", slot)
    story.tell(booking, payloads.requested(booking, story.at))
    return story.end(truth(booking, "pending", "scheduled"))


def request_confirmed(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("request_confirmed", studio, slot)
    booking = studio.book("opt_in", slot)
    story.tell(booking, payloads.requested(booking, story.at))
    story.tell(booking, payloads.confirmed(booking, story.later()))
    return story.end(truth(booking, "accepted", "confirmed"))


def request_rejected(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("request_rejected", studio, slot)
    booking = studio.book("opt_in", slot)
    story.tell(booking, payloads.requested(booking, story.at))
    story.tell(booking, payloads.rejected(booking, story.later(), reason="Not available"))
    return story.end(truth(booking, "rejected", "cancelled"))


def request_cancelled(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("request_cancelled", studio, slot)
    booking = studio.book("opt_in", slot)
    story.tell(booking, payloads.requested(booking, story.at))
    story.tell(booking, payloads.cancelled(booking, story.later(), by=booking.attendees[0].email))
    return story.end(truth(booking, "cancelled", "cancelled"))


def location_updated(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("location_updated", studio, slot)
    booking = studio.book("plain", slot)
    story.tell(booking, payloads.created(booking, story.at))
    elsewhere = replace(booking, location=f"https://meet.example.org/{booking.uid[:8]}", ical_sequence=1)
    body = payloads.location_updated(elsewhere, story.later(), previous_location=booking.location)
    story.tell(elsewhere, body)
    return story.end(truth(elsewhere, "accepted", "scheduled"))


def reassigned(studio: Studio, slot: Slot) -> Lifecycle:
    """Another host of the round robin takes over."""
    story = Story("reassigned", studio, slot)
    booking = studio.book("plain", slot)
    story.tell(booking, payloads.created(booking, story.at))
    taken_over = replace(booking, host=studio.some_host(other_than=booking.host), ical_sequence=1)
    story.tell(taken_over, payloads.reassigned(taken_over, story.later(), previous_host=booking.host))
    return story.end(truth(taken_over, "accepted", "scheduled"))


def recurring_series(studio: Studio, slot: Slot) -> Lifecycle:
    """A uid for each week, created one after the other; nothing in them says that they belong together."""
    story = Story("recurring_series", studio, slot)
    first = replace(studio.book("plain", slot), series_count=studio.rng.choice(SERIES_LENGTHS))
    series = [first]
    series += [
        studio.repeat(first, starts_at=slot.starts_at + timedelta(weeks=week), at=slot.booked_at)
        for week in range(1, first.series_count or 1)
    ]
    for booking in series:
        story.tell(booking, payloads.created(booking, story.at))
        story.at_once()
    return story.end(*(truth(booking, "accepted", "scheduled") for booking in series))
