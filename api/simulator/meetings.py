"""Lifecycles that reach their meeting: it starts and ends, somebody is absent, a recording is made."""

from api.simulator import payloads, snapshots
from api.simulator.snapshots import ABSENT_AFTER, CallTrigger
from api.simulator.story import Lifecycle, Story, truth
from api.simulator.studio import Booking, EventKind, Slot, Studio


def created_started_ended(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("created_started_ended", studio, slot)
    booking = _held(story, studio, slot, kind="plain")
    return story.end(truth(booking, "accepted", "completed"))


def request_confirmed_and_ended(studio: Studio, slot: Slot) -> Lifecycle:
    """Its snapshots were cut when the host confirmed: narrow ones."""
    story = Story("request_confirmed_and_ended", studio, slot)
    booking = studio.book("opt_in", slot)
    story.tell(booking, payloads.requested(booking, story.at))
    story.tell(booking, payloads.confirmed(booking, story.later()))
    story.start(booking, confirmed=True)
    story.finish(booking, confirmed=True)
    return story.end(truth(booking, "accepted", "completed"))


def attendee_no_show(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("attendee_no_show", studio, slot)
    booking = _held(story, studio, slot, kind="plain")
    absent = booking.attendees[:1]
    story.tell(booking, snapshots.no_show_updated(booking, story.after(booking), touched=absent, no_show=True))
    return story.end(truth(booking, "accepted", "no_show", no_show=True))


def no_show_unmarked(studio: Studio, slot: Slot) -> Lifecycle:
    """Marked by mistake: the mark is taken back, the meeting was held."""
    story = Story("no_show_unmarked", studio, slot)
    booking = _held(story, studio, slot, kind="plain")
    touched = booking.attendees[:1]
    story.tell(booking, snapshots.no_show_updated(booking, story.after(booking), touched=touched, no_show=True))
    story.tell(booking, snapshots.no_show_updated(booking, story.after(booking), touched=touched, no_show=False))
    return story.end(truth(booking, "accepted", "completed"))


def guests_absent_from_call(studio: Studio, slot: Slot) -> Lifecycle:
    return _absent_from_call("guests_absent_from_call", studio, slot, trigger="AFTER_GUESTS_CAL_VIDEO_NO_SHOW")


def host_absent_from_call(studio: Studio, slot: Slot) -> Lifecycle:
    return _absent_from_call("host_absent_from_call", studio, slot, trigger="AFTER_HOSTS_CAL_VIDEO_NO_SHOW")


def recorded(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("recorded", studio, slot)
    booking = _held(story, studio, slot, kind="video")
    story.tell(booking, snapshots.recording_ready(booking, story.after(booking)))
    story.tell(booking, snapshots.transcript_ready(booking, story.after(booking)))
    return story.end(truth(booking, "accepted", "completed"))


def _absent_from_call(scenario: str, studio: Studio, slot: Slot, *, trigger: CallTrigger) -> Lifecycle:
    """Cal Video finds a side missing. That is no mark: such a meeting counts as completed once it has ended."""
    story = Story(scenario, studio, slot)
    booking = studio.book("video", slot)
    story.tell(booking, payloads.created(booking, story.at))
    story.start(booking)
    found_at = booking.starts_at + ABSENT_AFTER
    story.tell(booking, snapshots.absent_from_call(trigger, booking, found_at), at=found_at)
    story.finish(booking)
    return story.end(truth(booking, "accepted", "completed"))


def _held(story: Story, studio: Studio, slot: Slot, *, kind: EventKind) -> Booking:
    booking = studio.book(kind, slot)
    story.tell(booking, payloads.created(booking, story.at))
    story.start(booking)
    story.finish(booking)
    return booking
