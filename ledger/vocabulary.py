"""The words of this ledger, one meaning each: every type, column, log key and test uses them so.

event           one immutable fact in the log, named by its topic; a webhook's event keeps the raw body
stream          all events of one booking; `stream_version` counts them from 1
position        an event's place in its ledger's log: 1, 2, 3 … without a gap, in commit order
delivery        one HTTP request of Cal.com's, raw
fact            what a body means for one booking (`ledger/facts.py`); derived on read, never stored as truth
command         a wish of our own users, decided with an expected version
projection      code that turns the log into tables; its tables are a read model
generation      one build of a read model; `checkpoint`: the position up to which it is complete
lag             how far a checkpoint is behind its head, `lag_events` and `lag_seconds`
parked event    an event that a projection could not apply; kept with its error, retried on request
doubt           what a body could not decide about a booking; settled by an observation
observation     what Cal.com's API showed of a booking, appended where it differed or settled a doubt
sweep           one reading of Cal.com's list of bookings, compared with the log
drift           what a sweep found to differ: missing here, stale here, or extra (unknown to Cal.com)
young           said of a booking that changed too short a time ago to be compared
erasure         a person, or what is old, taken out of everything; `erased`: whose key was destroyed for that
redaction       what stands for erased events from then on: others' part of them (`booking.redacted`)
tombstone       an erasure, as far as it keeps out who was erased; `receipt`: as far as it tells what was done
gone            said of a booking that was erased whole; `shared`: others are in it too
occurred_at     when it happened in the world;  received_at  when the delivery reached us
recorded_at     when the log had it;            synced_at    when the read model had it
"""

from typing import Literal, NewType

LedgerId = NewType("LedgerId", int)
Position = NewType("Position", int)
StreamId = NewType("StreamId", str)
StreamVersion = NewType("StreamVersion", int)
BookingUid = NewType("BookingUid", str)

MAIN_LEDGER_NAME = "main"

BookingStatus = Literal["pending", "accepted", "cancelled", "rejected", "rescheduled"]
"""Cal.com's truth about a booking."""

CalendarStatus = Literal["scheduled", "confirmed", "completed", "no_show", "cancelled", "rescheduled"]
"""What people read in `calendar_events.status`."""

Role = Literal["viewer", "operator", "admin"]
"""What a key or a user may do; each may do what those before it may."""
