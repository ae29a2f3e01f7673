"""What a lifecycle is, and the means to write one down: its deliveries in true order, and what is true afterwards."""

from datetime import datetime, timedelta

from msgspec import Struct

from api.simulator.payloads import with_calendar_files
from api.simulator.snapshots import (
    MeetingTrigger,
    meeting_of_confirmed_booking,
    meeting_of_new_booking,
    meeting_of_old_booking,
)
from api.simulator.studio import Booking, Slot, Studio
from api.simulator.wire import Json
from ledger.vocabulary import BookingStatus, CalendarStatus

FIRST_WEBHOOK_VERSION = "2021-10-20"
CALENDAR_FILES_WEBHOOK_VERSION = "2026-07-27"
CALENDAR_FILES_SHARE = 0.3
BARE_SNAPSHOT_SHARE = 0.15


class Sent(Struct, frozen=True, kw_only=True):
    """One body that Cal.com sends. `body` is bytes only where no JSON object is meant.

    `occurred_at` is what the body itself says: the envelope's `createdAt`, or the start or end of a flat meeting.
    """

    body: Json | bytes
    trigger: str
    uid: str | None
    occurred_at: datetime
    webhook_version: str = FIRST_WEBHOOK_VERSION
    content_type: str = "application/json"


class Truth(Struct, frozen=True, kw_only=True):
    """One booking after all deliveries of its lifecycle, as a perfect receiver of nothing but webhooks knows it.

    `status` is `calendar_events.status` without CONFIRM_ON_ACCEPT; `attendees` are e-mails in lower case, without
    those who gave their seat back; `no_show` says that somebody is marked absent now.
    """

    uid: str
    booking_status: BookingStatus
    status: CalendarStatus
    start: datetime
    end: datetime
    attendees: frozenset[str]
    rescheduled_to: str | None = None
    paid: bool = False
    no_show: bool = False


class Lifecycle(Struct, frozen=True, kw_only=True):
    """`deliveries` in true order, no two at the same instant; `truth` has every uid once, oldest first."""

    scenario: str
    deliveries: tuple[Sent, ...]
    truth: tuple[Truth, ...]


class Story:
    """One lifecycle while it is written. `at` is the time of what happened last."""

    def __init__(self, scenario: str, studio: Studio, slot: Slot) -> None:
        self.at = slot.booked_at
        self._scenario = scenario
        self._rng = studio.rng
        self._settled_by = slot.settled_by
        self._with_calendar_files = studio.rng.random() < CALENDAR_FILES_SHARE
        self._sent: list[Sent] = []

    def later(self) -> datetime:
        """Minutes or hours on, and still before everything has to be settled."""
        left = self._settled_by - self.at
        self.at = _whole(self.at + min(timedelta(minutes=self._rng.randint(3, 360)), left * 0.4))
        return self.at

    def at_once(self) -> datetime:
        """Some milliseconds on, for what one action sends together."""
        self.at += timedelta(milliseconds=self._rng.randint(5, 90))
        return self.at

    def after(self, booking: Booking) -> datetime:
        """Within the hour after the meeting."""
        self.at = max(self.at, booking.ends_at) + timedelta(seconds=self._rng.randint(60, 3000))
        return self.at

    def tell(self, booking: Booking, body: Json, *, at: datetime | None = None) -> None:
        """The body is sent; it happened just now (`self.at`) unless `at` says otherwise."""
        self.at = at or self.at
        self._sent.append(
            Sent(
                body=with_calendar_files(body, booking) if self._with_calendar_files else body,
                trigger=str(body["triggerEvent"]),
                uid=booking.uid,
                occurred_at=self.at,
                webhook_version=CALENDAR_FILES_WEBHOOK_VERSION if self._with_calendar_files else FIRST_WEBHOOK_VERSION,
            )
        )

    def start(self, booking: Booking, *, confirmed: bool = False) -> None:
        self.tell(booking, self._snapshot("MEETING_STARTED", booking, confirmed=confirmed), at=booking.starts_at)

    def finish(self, booking: Booking, *, confirmed: bool = False) -> None:
        self.tell(booking, self._snapshot("MEETING_ENDED", booking, confirmed=confirmed), at=booking.ends_at)

    def end(self, *truth: Truth) -> Lifecycle:
        return Lifecycle(scenario=self._scenario, deliveries=tuple(self._sent), truth=truth)

    def _snapshot(self, trigger: MeetingTrigger, booking: Booking, *, confirmed: bool) -> Json:
        if confirmed:
            return meeting_of_confirmed_booking(trigger, booking)
        if self._rng.random() < BARE_SNAPSHOT_SHARE:
            return meeting_of_old_booking(trigger, booking)
        return meeting_of_new_booking(trigger, booking)


def truth(
    booking: Booking,
    booking_status: BookingStatus,
    status: CalendarStatus,
    *,
    rescheduled_to: Booking | None = None,
    paid: bool = False,
    no_show: bool = False,
) -> Truth:
    """Who and when from the row as it is at last; the statuses as each lifecycle states them."""
    return Truth(
        uid=booking.uid,
        booking_status=booking_status,
        status=status,
        start=booking.starts_at,
        end=booking.ends_at,
        attendees=frozenset(attendee.email.lower() for attendee in booking.attendees),
        rescheduled_to=rescheduled_to.uid if rescheduled_to else None,
        paid=paid,
        no_show=no_show,
    )


def moved(booking: Booking, *, to: Booking) -> Truth:
    """A booking that a newer uid has taken the place of."""
    return truth(booking, "rescheduled", "rescheduled", rescheduled_to=to)


def _whole(time: datetime) -> datetime:
    """Cut to milliseconds, as Cal.com's clock has them."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
