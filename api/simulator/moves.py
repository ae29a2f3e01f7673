"""Lifecycles in which a booking moves to another time, which at Cal.com means: to another uid."""

from api.simulator import payloads
from api.simulator.story import Lifecycle, Story, moved, truth
from api.simulator.studio import Booking, Slot, Studio


def rescheduled(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("rescheduled", studio, slot)
    old, new = _created_and_moved(story, studio, slot)
    return story.end(moved(old, to=new), truth(new, "accepted", "scheduled"))


def rescheduled_twice(studio: Studio, slot: Slot) -> Lifecycle:
    """A chain of three uids."""
    story = Story("rescheduled_twice", studio, slot)
    first = studio.book("plain", slot, starts_at=studio.another_time(slot))
    story.tell(first, payloads.created(first, story.at))
    second = studio.rebook(first, starts_at=studio.another_time(slot), at=story.later())
    story.tell(second, payloads.rescheduled(second, story.at, old=first, by=first.attendees[0].email))
    third = studio.rebook(second, starts_at=slot.starts_at, at=story.later())
    story.tell(third, payloads.rescheduled(third, story.at, old=second, by=third.host.email))
    return story.end(moved(first, to=second), moved(second, to=third), truth(third, "accepted", "scheduled"))


def rescheduled_and_cancelled(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("rescheduled_and_cancelled", studio, slot)
    old, new = _created_and_moved(story, studio, slot)
    story.tell(new, payloads.cancelled(new, story.later(), by=new.host.email, reason="Conflict"))
    return story.end(moved(old, to=new), truth(new, "cancelled", "cancelled"))


def reschedule_confirmed(studio: Studio, slot: Slot) -> Lifecycle:
    """A reschedule that the host has to confirm: the request names the old uid, the confirmation does not."""
    story = Story("reschedule_confirmed", studio, slot)
    old = studio.book("opt_in", slot, starts_at=studio.another_time(slot))
    story.tell(old, payloads.requested(old, story.at))
    story.tell(old, payloads.confirmed(old, story.later()))
    new = studio.rebook(old, starts_at=slot.starts_at, at=story.later())
    story.tell(new, payloads.requested(new, story.at, old=old))
    story.tell(new, payloads.confirmed(new, story.later()))
    return story.end(moved(old, to=new), truth(new, "accepted", "confirmed"))


def reschedule_asked_for(studio: Studio, slot: Slot) -> Lifecycle:
    """The host cancels and asks for another time; the attendee picks one, naming the cancelled uid."""
    story = Story("reschedule_asked_for", studio, slot)
    old = studio.book("plain", slot, starts_at=studio.another_time(slot))
    story.tell(old, payloads.created(old, story.at))
    reason = "Please reschedule. Need another day"
    body = payloads.cancelled(old, story.later(), by=old.host.email, reason=reason, asks_to_reschedule=True)
    story.tell(old, body)
    new = studio.rebook(old, starts_at=slot.starts_at, at=story.later())
    story.tell(new, payloads.rescheduled(new, story.at, old=old, by=new.attendees[0].email))
    return story.end(moved(old, to=new), truth(new, "accepted", "scheduled"))


def ended_after_move(studio: Studio, slot: Slot) -> Lifecycle:
    """MEETING_ENDED for the old uid at the old time, though the booking moved: an ACCEPTED snapshot, gone stale."""
    story = Story("ended_after_move", studio, slot)
    old = studio.book("plain", slot)
    story.tell(old, payloads.created(old, story.at))
    new = studio.rebook(old, starts_at=studio.another_time(slot), at=story.later())
    story.tell(new, payloads.rescheduled(new, story.at, old=old, by=old.attendees[0].email))
    story.finish(old)
    return story.end(moved(old, to=new), truth(new, "accepted", "scheduled"))


def _created_and_moved(story: Story, studio: Studio, slot: Slot) -> tuple[Booking, Booking]:
    """The old and the new booking; the new one is held at the slot's time."""
    old = studio.book("plain", slot, starts_at=studio.another_time(slot))
    story.tell(old, payloads.created(old, story.at))
    new = studio.rebook(old, starts_at=slot.starts_at, at=story.later())
    by = studio.rng.choice((old.host.email, old.attendees[0].email))
    story.tell(new, payloads.rescheduled(new, story.at, old=old, by=by))
    return old, new
