"""From what Cal.com's API showed to what the log is told of it: only what differed, or settles a doubt.

A booking is compared as the log alone tells it, whatever the read models know by now. What is appended carries the
API's own bytes, and beside them, in the event's metadata, how it was found.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog

from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.calcom.observation import OBSERVED_TOPIC, observed_of
from ledger.calcom.paging import ListedBooking
from ledger.comparing import PERSONAL, SETTLE, Difference, Outcome, Seen, Verdict, judge, read_seen
from ledger.history import Histories, NumberLookup, load_histories
from ledger.postgres import Connection
from ledger.sealing import keyring_of
from ledger.store import Ledger, NewEvent, read_head
from ledger.tombstones import Tombstones, tombstones_now

log = structlog.get_logger()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How the API was asked: when, in which sweep, and how it is judged (see `ledger/comparing.py`)."""

    at: datetime
    sweep_id: UUID | None = None
    settle: timedelta = SETTLE
    is_patient: bool = False


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One booking that the API showed, and what follows; `event` where the log is to be told."""

    seen: Seen
    verdict: Verdict
    event: NewEvent | None = None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer of the API comes to, each booking once; `unreadable` are those that could not be understood.

    `erasures`: the ledger's count of them when it was looked who may be named.
    """

    findings: tuple[Finding, ...]
    unreadable: int = 0
    erasures: int = 0

    def count(self, outcome: Outcome) -> int:
        return sum(one.verdict.outcome == outcome for one in self.findings)

    @property
    def events(self) -> list[NewEvent]:
        return [one.event for one in self.findings if one.event is not None]

    @property
    def uids(self) -> list[str]:
        return [one.seen.uid for one in self.findings]


class Discovery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event's metadata. What may be of a person is named by its field alone: metadata outlive an erasure."""

    kind: Outcome
    asked_at: datetime
    sweep_id: UUID | None = None
    differed_since: datetime | None = None
    differed_seconds: float | None = None
    differences: tuple[Mapping[str, str | None], ...] = ()


async def observe(
    connection: Connection,
    ledger: Ledger,
    listed: Sequence[ListedBooking],
    asked: Asked,
    *,
    look_up_numbers: NumberLookup,
) -> Findings:
    """What follows from one answer of the API; nothing is written. Nobody who was erased is in it."""
    readable = {seen.uid: seen for one in listed if (seen := read_seen(one)) is not None}
    erased = await tombstones_now(connection, ledger.ledger_id)
    erasures = keyring_of(connection).of(ledger.ledger_id).erasures
    unreadable = {one.uid for one in listed} - readable.keys()
    if unreadable:
        log.warning("observations_unreadable", bookings=len(unreadable), first=min(unreadable))
    if erased is not None:
        admitted = {uid: _admitted(seen, erased) for uid, seen in readable.items()}
        readable = {uid: seen for uid, seen in admitted.items() if seen is not None}
    head = await read_head(connection, ledger.ledger_id)
    seeds = {seen.stream_id for seen in readable.values()}
    seeds |= {number_stream(number) for seen in readable.values() if (number := seen.fact.details.number) is not None}
    histories = await load_histories(
        connection, ledger.ledger_id, seeds, up_to=head.position, look_up_numbers=look_up_numbers
    )
    findings = tuple(_finding(ledger, seen, histories, asked) for seen in readable.values())
    return Findings(findings=findings, unreadable=len(unreadable), erasures=erasures)


def _admitted(seen: Seen, erased: Tombstones) -> Seen | None:
    """The booking without who was erased; None where it is nothing to be told of."""
    row = erased.admit_row(seen.row, seen.raw)
    if row is None:
        return None
    if row is seen.row:
        return seen
    return msgspec.structs.replace(seen, row=row, fact=observed_of(row)[1])


async def in_doubt(
    connection: Connection, ledger: Ledger, uids: Sequence[str], *, look_up_numbers: NumberLookup
) -> list[str]:
    """Those of these bookings that are in doubt, as the log tells them."""
    head = await read_head(connection, ledger.ledger_id)
    streams = {booking_stream(uid): uid for uid in uids}
    histories = await load_histories(
        connection, ledger.ledger_id, list(streams), up_to=head.position, look_up_numbers=look_up_numbers
    )
    told = {stream_id for stream_id, booking in histories.bookings.items() if booking.doubts}
    return [uid for stream_id, uid in streams.items() if stream_id in told]


def _finding(ledger: Ledger, seen: Seen, histories: Histories, asked: Asked) -> Finding:
    booking = histories.bookings.get(seen.stream_id)
    number = seen.fact.details.number
    namesake = None if number is None else histories.bookings.get(number_stream(number))
    verdict = judge(
        seen, booking, namesake=namesake, asked_at=asked.at, settle=asked.settle, is_patient=asked.is_patient
    )
    if verdict.outcome in ("equal", "young"):
        return Finding(seen=seen, verdict=verdict)
    return Finding(seen=seen, verdict=verdict, event=_event(ledger, seen, verdict, (booking, namesake), asked))


def _event(ledger: Ledger, seen: Seen, verdict: Verdict, known: tuple[Booking | None, ...], asked: Asked) -> NewEvent:
    """What to append. A second look at the same makes no second event; a booking that goes back to what it was does.

    For the event's id is made of what was seen and of how far we knew the booking.
    """
    end = max((booking.last_position for booking in known if booking is not None), default=0)
    since = verdict.differed_since
    discovery = Discovery(
        kind=verdict.outcome,
        asked_at=asked.at,
        sweep_id=asked.sweep_id,
        differed_since=since,
        differed_seconds=None if since is None else round(max((asked.at - since).total_seconds(), 0.0), 3),
        differences=tuple(map(_impersonal, verdict.differences)),
    )
    return NewEvent(
        event_id=ledger.event_id("observed", b"%d\x00%b" % (end, seen.raw)),
        stream_id=seen.stream_id,
        topic=OBSERVED_TOPIC,
        body=seen.raw,
        occurred_at=verdict.occurred_at,
        source="reconcile",
        metadata=msgspec.json.encode(discovery).decode(),
    )


def _impersonal(difference: Difference) -> Mapping[str, str | None]:
    if difference.field in PERSONAL:
        return {"field": difference.field}
    return {"field": difference.field, "ours": difference.ours, "theirs": difference.theirs}
