"""The names of what Cal.com reports (CALCOM.md section 1.1), and the names that others write for the same."""

BOOKING_TRIGGERS = frozenset(
    {
        "BOOKING_CREATED",
        "BOOKING_REQUESTED",
        "BOOKING_RESCHEDULED",
        "BOOKING_CANCELLED",
        "BOOKING_REJECTED",
        "BOOKING_PAYMENT_INITIATED",
        "BOOKING_PAID",
        "BOOKING_NO_SHOW_UPDATED",
        "BOOKING_LOCATION_UPDATED",
        "BOOKING_REASSIGNED",
        "MEETING_STARTED",
        "MEETING_ENDED",
        "RECORDING_READY",
        "RECORDING_TRANSCRIPTION_GENERATED",
        "AFTER_HOSTS_CAL_VIDEO_NO_SHOW",
        "AFTER_GUESTS_CAL_VIDEO_NO_SHOW",
        "BOOKING_CONFIRMED",  # system 001's dialect; Cal.com itself never sends it
    }
)
"""Triggers that say something of a booking."""

OTHER_TRIGGERS = frozenset(
    {
        "INSTANT_MEETING",
        "INSTANT_MEETING_ACCEPTED",
        "OOO_CREATED",
        "FORM_SUBMITTED",
        "FORM_SUBMITTED_NO_EVENT",
        "ROUTING_FORM_FALLBACK_HIT",
        "WRONG_ASSIGNMENT_REPORT",
        "CALENDAR_ENTRY_REJECTED",
        "DELEGATION_CREDENTIAL_ERROR",
        "DELEGATION_CREDENTIAL_SECRET_ROTATION_FAILED",
        "DELEGATION_CREDENTIAL_ROTATION_REQUIRED",
        "DELEGATION_CREDENTIAL_SECRET_ROTATED",
        "PING",
    }
)
"""Triggers that are kept and shown, and change no booking."""

KNOWN_TRIGGERS = BOOKING_TRIGGERS | OTHER_TRIGGERS

FLAT_TRIGGERS = frozenset({"MEETING_STARTED", "MEETING_ENDED"})
"""Sent without an envelope: their `createdAt` is the booking's, not the delivery's."""

UNRECOGNISED_TOPIC = "calcom.unrecognised"


def canonical_trigger(name: str) -> str:
    """`booking.created` and ` Booking_Created` are BOOKING_CREATED."""
    return name.strip().upper().replace(".", "_")


TOPICS = {trigger: f"calcom.{trigger.lower()}" for trigger in KNOWN_TRIGGERS}
"""Each trigger's topic in the log; one that we do not know is kept as unrecognised."""
