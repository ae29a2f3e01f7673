"""All lifecycles by name. Each is a function of a studio and a slot, and deterministic for the studio's `Random`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from api.simulator import bookings, meetings, moves, payments, seats
from api.simulator.story import Lifecycle, Sent, Truth
from api.simulator.studio import Slot, Studio

__all__ = ["LIFECYCLES", "Lifecycle", "LifecycleFunction", "Sent", "Slot", "Studio", "Truth"]

LifecycleFunction = Callable[[Studio, Slot], Lifecycle]

_FUNCTIONS: tuple[LifecycleFunction, ...] = (
    bookings.created,
    bookings.created_and_cancelled,
    bookings.request_pending,
    bookings.request_confirmed,
    bookings.request_rejected,
    bookings.request_cancelled,
    bookings.location_updated,
    bookings.reassigned,
    bookings.recurring_series,
    moves.rescheduled,
    moves.rescheduled_twice,
    moves.rescheduled_and_cancelled,
    moves.reschedule_confirmed,
    moves.reschedule_asked_for,
    moves.ended_after_move,
    payments.paid,
    payments.paid_before_created,
    payments.paid_and_confirmed,
    payments.paid_while_pending,
    payments.payment_abandoned,
    meetings.created_started_ended,
    meetings.request_confirmed_and_ended,
    meetings.attendee_no_show,
    meetings.no_show_unmarked,
    meetings.guests_absent_from_call,
    meetings.host_absent_from_call,
    meetings.recorded,
    seats.seats_taken,
    seats.seat_given_back,
    seats.class_cancelled,
    seats.class_moved,
    seats.seat_moved,
)

LIFECYCLES: Mapping[str, LifecycleFunction] = MappingProxyType({function.__name__: function for function in _FUNCTIONS})
