"""Lifecycles of bookings that cost something. The order of CREATED and PAID changed in 2026 (CALCOM.md 3.2)."""

from api.simulator import payloads
from api.simulator.story import Lifecycle, Story, truth
from api.simulator.studio import Booking, EventKind, Slot, Studio


def paid(studio: Studio, slot: Slot) -> Lifecycle:
    story = Story("paid", studio, slot)
    booking = _payment_begun(story, studio, slot, kind="paid")
    story.tell(booking, payloads.confirmed(booking, story.later()))
    story.tell(booking, payloads.paid(booking, story.at_once()))
    return story.end(truth(booking, "accepted", "confirmed", paid=True))


def paid_before_created(studio: Studio, slot: Slot) -> Lifecycle:
    """The order of 2026."""
    story = Story("paid_before_created", studio, slot)
    booking = _payment_begun(story, studio, slot, kind="paid")
    story.tell(booking, payloads.paid(booking, story.later()))
    story.tell(booking, payloads.confirmed(booking, story.at_once()))
    return story.end(truth(booking, "accepted", "confirmed", paid=True))


def paid_and_confirmed(studio: Studio, slot: Slot) -> Lifecycle:
    """The payment makes it a request; PAID is told only with the host's confirmation."""
    story = Story("paid_and_confirmed", studio, slot)
    booking = _payment_begun(story, studio, slot, kind="paid_opt_in")
    story.tell(booking, payloads.requested_after_payment(booking, story.later()))
    story.tell(booking, payloads.confirmed(booking, story.later()))
    story.tell(booking, payloads.paid(booking, story.at_once()))
    return story.end(truth(booking, "accepted", "confirmed", paid=True))


def paid_while_pending(studio: Studio, slot: Slot) -> Lifecycle:
    """The order of 2026: PAID says PENDING, the request follows, the host confirms later."""
    story = Story("paid_while_pending", studio, slot)
    booking = _payment_begun(story, studio, slot, kind="paid_opt_in")
    story.tell(booking, payloads.paid(booking, story.later(), status="PENDING"))
    story.tell(booking, payloads.requested_after_payment(booking, story.at_once()))
    story.tell(booking, payloads.confirmed(booking, story.later()))
    return story.end(truth(booking, "accepted", "confirmed", paid=True))


def payment_abandoned(studio: Studio, slot: Slot) -> Lifecycle:
    """Never paid: it stays pending, whatever its one body says."""
    story = Story("payment_abandoned", studio, slot)
    booking = _payment_begun(story, studio, slot, kind="paid")
    return story.end(truth(booking, "pending", "scheduled"))


def _payment_begun(story: Story, studio: Studio, slot: Slot, *, kind: EventKind) -> Booking:
    booking = studio.book(kind, slot)
    story.tell(booking, payloads.payment_initiated(booking, story.at))
    return booking
