"""A made-up Cal.com account: what it sends, and what its API shows of the same bookings.

What the API shows is made of what a perfect receiver knows after every delivery, and then of what happened silently.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from api.simulator.traffic import simulate
from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream, open_envelope
from ledger.calcom.meaning import meaning_of
from ledger.calcom.paging import ListedBooking
from ledger.calcom.payloads import read_instant
from ledger.comparing import Seen, read_seen
from ledger.facts import Dated
from ledger.folding import fold, link_chain
from ledger.vocabulary import BookingUid, StreamId
from tests.builders import instant

SECRET = "sample-secret"
SHOWN_STATUS = {"pending": "pending", "accepted": "accepted", "cancelled": "cancelled", "rejected": "rejected"}

Shown = dict[str, Any]
"""A booking as the API shows it."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`sent` in order of arrival, with its repeats and its noise; `shown` by uid."""

    sent: Sequence[bytes]
    shown: Mapping[str, Shown]


def play(seed: int, *, bookings: int, now: datetime | None = None, silent_share: float = 0.0) -> Account:
    """A day's traffic, ended an hour ago unless told otherwise; some bookings then change without a word."""
    moment = now or datetime.now(UTC) - timedelta(hours=1)
    traffic = simulate(seed=seed, now=moment, bookings=bookings, secret=SECRET.encode())
    sent = [one.body for one in traffic]
    shown = {booking.uid: show(booking) for booking in fold_bodies(sent).values() if booking.uid}
    rng = Random(seed)
    for one in shown.values():
        if rng.random() < silent_share:
            change_silently(one, rng)
    return Account(sent=sent, shown=shown)


def lose(sent: Sequence[bytes], share: float, rng: Random) -> tuple[list[bytes], list[bytes]]:
    """What arrives, and what does not: no delivery of the latter arrives in any of its repeats."""
    lost = [body for body in dict.fromkeys(sent) if rng.random() < share]
    gone = set(lost)
    return [body for body in sent if body not in gone], lost


def change_silently(one: Shown, rng: Random) -> None:
    """What Cal.com sends no webhook about, and what does not move `updatedAt` (PAYLOADS.md section 4)."""
    kind = rng.choice(("host_absent", "guest", "accepted", "cancelled", "location", "host"))
    match kind:
        case "host_absent":
            one["absentHost"] = True
        case "guest":
            one["attendees"].append(attendee("late.guest@example.com"))
        case "accepted" if one["status"] == "pending":
            one["status"] = "accepted"
        case "cancelled" if one["status"] == "accepted":
            one |= {"status": "cancelled", "cancellationReason": "The whole series"}
        case "location":
            one["location"] = one["meetingUrl"] = "14 Willow Lane"
        case _:
            one["hosts"] = [{"id": 9, "name": "Deputy", "email": "deputy@example.com"}]


def fold_bodies(bodies: Iterable[bytes], *, received_at: datetime | None = None) -> dict[StreamId, Booking]:
    """The bookings that these bodies make; those known by number under their uid, where one says it."""
    pairs = [pair for body in bodies for pair in tell(body, received_at=received_at)]
    return fold_pairs(pairs)


def fold_pairs(pairs: Sequence[tuple[StreamId, Dated]]) -> dict[StreamId, Booking]:
    owners = {
        number_stream(dated.fact.details.number): stream_id
        for stream_id, dated in pairs
        if dated.fact.details.number is not None and not stream_id.startswith("booking-id-")
    }
    facts: dict[StreamId, list[Dated]] = {}
    for stream_id, dated in pairs:
        facts.setdefault(owners.get(stream_id, stream_id), []).append(dated)
    bookings = {stream_id: fold(stream_id, told) for stream_id, told in facts.items()}
    link_chain(bookings, booking_stream)
    return bookings


def tell(body: bytes, *, received_at: datetime | None = None) -> list[tuple[StreamId, Dated]]:
    """The facts of one body, as `ledger/history.py` reads them from the log."""
    envelope = open_envelope(body)
    occurred_at = envelope.occurred_at or received_at
    if occurred_at is None:
        return []
    return [
        (
            stream_id,
            Dated(
                occurred_at=occurred_at,
                rank=fact.rank,
                digest=sha256(body).digest()[:16],
                position=1,
                recorded_at=occurred_at,
                trigger=envelope.trigger or "",
                fact=fact,
            ),
        )
        for stream_id, fact in meaning_of(envelope)
    ]


def show(booking: Booking, **changes: Any) -> Shown:
    """The booking as the API would show it, were what we know the truth.

    A row is updated a moment before its webhook leaves; attendees' marks and seats do not move `updatedAt`.
    """
    made_at, own = booking.facts[0].occurred_at, [fact for fact in booking.facts if fact.rank not in (60, 70, 80, 85)]
    updated_at = max((one.occurred_at for one in own), default=made_at) - timedelta(milliseconds=300)
    is_moved = booking.rescheduled_to is not None
    start, end = booking.start or made_at, booking.end or made_at
    return {
        "id": booking.number or int.from_bytes(sha256(booking.key.encode()).digest()[:4]),
        "uid": booking.uid,
        "title": booking.title or "",
        "description": booking.description,
        "status": "cancelled" if is_moved else SHOWN_STATUS[booking.status or "accepted"],
        "start": instant(start),
        "end": instant(end),
        "eventTypeId": booking.event_type_number,
        "eventType": {"id": booking.event_type_number, "slug": booking.event_type},
        "location": booking.location,
        "meetingUrl": booking.location,
        "hosts": [{"id": 7, "name": booking.host_name, "email": booking.host_email}] if booking.host_email else [],
        "attendees": [
            attendee(person.email, name=person.name, absent=booking.absent.get(person.email, False))
            for person in booking.attendees.values()
        ],
        "guests": [],
        "absentHost": booking.host_marked,
        "rescheduledToUid": booking.rescheduled_to,
        "rescheduledFromUid": None if booking.seat_from else booking.rescheduled_from,
        "cancellationReason": booking.cancellation_reason,
        "metadata": {},
        "icsUid": booking.ical_uid,
        "createdAt": instant(made_at),
        "updatedAt": instant(updated_at),
    } | changes


def attendee(email: str, *, name: str | None = None, absent: bool = False) -> dict[str, Any]:
    return {
        "name": name or "Guest",
        "email": email,
        "displayEmail": email,
        "timeZone": "Europe/London",
        "language": "en",
        "absent": absent,
    }


def listed(one: Shown) -> ListedBooking:
    """As a page of the API has it."""
    raw = msgspec.Raw(msgspec.json.encode(one))
    return ListedBooking(uid=BookingUid(one["uid"]), updated_at=read_instant(one.get("updatedAt")), raw=raw)


def seen(one: Shown) -> Seen:
    found = read_seen(listed(one))
    assert found is not None
    return found
