"""What Cal.com's API says of a booking beside what we know of it: which fields differ, and what follows. Pure.

Compared is what the API shows and webhooks can miss. What it does not show (payments, why somebody rejected), does not
say (a field that is null), or says in words that vary (titles) is no difference: appending an observation would not
change it, and it would be found again for ever. So much is a law: once an observation has been folded in, the same
answer of the API differs in nothing (tests/test_reconcile.py).

**When an observation holds.** Cal.com posts a webhook before it writes its own row, and its lists read a replica. So an
answer is taken to be complete up to `settle` before it was asked for, and that moment is the observation's
`occurred_at`: every webhook sent before it is overruled, also one that arrives later; every one sent after it counts.
`updatedAt` alone would not do: it may be null, it is older than the dispatch of the very change that moved it, and it
does not move for attendees, so that a no-show mark arriving late would overrule what was seen afterwards. It counts
where it is later. A booking of which we know a fact younger than that moment is left to be asked about again.
"""

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from ledger.booking import Booking
from ledger.calcom.envelope import UID_CHARACTERS_MAX
from ledger.calcom.observation import STATUS_WORDS, ObservedBooking, observed_of, read_row
from ledger.calcom.paging import ListedBooking
from ledger.calcom.payloads import is_link, read_instant
from ledger.facts import Observed
from ledger.vocabulary import BookingStatus, BookingUid, StreamId

SETTLE: Final = timedelta(seconds=60)
"""How long Cal.com may take to write and to show what it has sent a webhook about."""

CLOCKS_APART: Final = timedelta(minutes=10)
"""A fact further ahead than this is no young one: its sender's clock is wrong, and waiting would not help."""

VALUE_CHARACTERS_MAX: Final = 200

GONE: Final[frozenset[BookingStatus]] = frozenset({"cancelled", "rejected", "rescheduled"})

Field = Literal[
    "status",
    "start",
    "end",
    "attendees",
    "absent",
    "host",
    "host_absent",
    "location",
    "rescheduled_from",
    "rescheduled_to",
    "metadata",
    "uid",
]
PERSONAL: Final[frozenset[Field]] = frozenset({"attendees", "absent", "host", "location", "metadata"})
"""Fields whose values may be of a person: they go neither into logs nor into what can never be erased."""

Outcome = Literal["equal", "missing", "stale", "settled", "young"]
"""`settled`: nothing differs, and a doubt of ours is answered by that. `young`: to be asked about again."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field, as people read it; None: nothing is known, or shown."""

    field: Field
    ours: str | None
    theirs: str | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as the API has just shown it: its bytes, what was read of them, the fact that they state."""

    uid: BookingUid
    raw: bytes
    row: ObservedBooking
    stream_id: StreamId
    fact: Observed

    @property
    def updated_at(self) -> datetime | None:
        return read_instant(self.row.updated_at)

    @property
    def touched_at(self) -> datetime | None:
        """When its row was made, or changed since."""
        return max((at for at in (self.updated_at, self.fact.made_at) if at is not None), default=None)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows. `differed_since`: our last fact of it; of a missing booking, when it was made or changed.

    `ask_at`: of a young one, from when on it can be judged.
    """

    outcome: Outcome
    occurred_at: datetime
    differences: tuple[Difference, ...] = ()
    differed_since: datetime | None = None
    ask_at: datetime | None = None


def read_seen(listed: ListedBooking) -> Seen | None:
    """None for what cannot be read, or states a status that we do not know, or has a name that no stream can have."""
    raw = bytes(listed.raw)
    try:
        row = read_row(raw)
    except msgspec.DecodeError:
        return None
    is_name = row.uid.isprintable() and 0 < len(row.uid) <= UID_CHARACTERS_MAX and not row.uid.startswith("id-")
    if not is_name or row.status not in STATUS_WORDS:
        return None
    stream_id, fact = observed_of(row)
    return Seen(uid=BookingUid(row.uid), raw=raw, row=row, stream_id=stream_id, fact=fact)


def judge(
    seen: Seen,
    booking: Booking | None,
    *,
    namesake: Booking | None = None,
    asked_at: datetime,
    settle: timedelta = SETTLE,
    is_patient: bool = False,
) -> Verdict:
    """What follows from what the API showed when it was asked at `asked_at`.

    `namesake`: what is filed under the booking's number and not known to be its own. `is_patient`: a row that Cal.com
    has changed a moment ago is young as well, since its webhook may be on its way.
    """
    known = booking or namesake
    latest = max((one.last_occurred_at for one in (booking, namesake) if one and one.last_occurred_at), default=None)
    settled_at = asked_at - settle
    verdict = Verdict(
        outcome="equal",
        occurred_at=max(at for at in (settled_at, _until(seen.updated_at, asked_at), latest) if at is not None),
    )
    differences = compare(seen, booking or namesake, namesake=namesake)
    if known is not None and not differences and not known.doubts:
        return verdict
    youngest = _youngest(latest, seen.touched_at if is_patient else None, asked_at)
    if youngest is not None and youngest > settled_at:
        return msgspec.structs.replace(verdict, outcome="young", ask_at=youngest + settle)
    if known is None:
        return msgspec.structs.replace(verdict, outcome="missing", differed_since=seen.touched_at)
    if not differences:
        return msgspec.structs.replace(verdict, outcome="settled")
    return msgspec.structs.replace(verdict, outcome="stale", differences=differences, differed_since=latest)


def compare(seen: Seen, booking: Booking | None, *, namesake: Booking | None = None) -> tuple[Difference, ...]:
    """What differs, field by field; everything and hence nothing where we know no such booking."""
    if booking is None:
        return ()
    fact, details = seen.fact, seen.fact.details
    found = [
        _other("status", booking.booking_status, _status(seen, booking)),
        _other("start", booking.start, details.start),
        _other("end", booking.end, details.end),
        _attendees(seen, booking),
        _absent(seen, booking),
        _host(seen, booking),
        _other("host_absent", booking.host_marked, fact.host_absent),
        _location(seen, booking),
        _other("rescheduled_from", booking.rescheduled_from, details.previous_uid),
        _other("rescheduled_to", booking.rescheduled_to, fact.rescheduled_to),
        _metadata(seen, booking),
        _other("uid", None, seen.uid) if namesake is not None else None,
    ]
    return tuple(difference for difference in found if difference is not None)


def _until(moment: datetime | None, end: datetime) -> datetime | None:
    """What Cal.com's clock says may be ahead of ours, or nonsense."""
    return None if moment is None else min(moment, end)


def _youngest(latest: datetime | None, touched_at: datetime | None, asked_at: datetime) -> datetime | None:
    near = [at for at in (latest, touched_at) if at is not None and at <= asked_at + CLOCKS_APART]
    return max(near, default=None)


def _status(seen: Seen, booking: Booking) -> BookingStatus:
    """Their word; ours where both say that it is over and they do not show by what it was replaced."""
    if booking.booking_status == "rescheduled" and seen.fact.status in GONE and seen.fact.rescheduled_to is None:
        return "rescheduled"
    return seen.fact.status


def _attendees(seen: Seen, booking: Booking) -> Difference | None:
    """Nobody shown says nothing: seats are hidden from some keys, and the rows of a class that ended are deleted."""
    forms = _forms(seen)
    if not forms:
        return None
    ours = set(booking.attendees)
    if all(ours & each for each in forms.values()) and ours <= set().union(*forms.values()):
        return None
    return _told("attendees", ", ".join(sorted(ours)), ", ".join(sorted(forms)))


def _absent(seen: Seen, booking: Booking) -> Difference | None:
    forms = _forms(seen)
    ours = {email for email, each in forms.items() if any(booking.absent.get(form, False) for form in each)}
    theirs = {email for email, is_absent in seen.fact.absent.items() if is_absent}
    return None if ours == theirs else _told("absent", ", ".join(sorted(ours)), ", ".join(sorted(theirs)))


def _forms(seen: Seen) -> dict[str, set[str]]:
    """The addresses under which a webhook may name each attendee: a managed user's has a suffix, or not."""
    return {
        attendee.email.lower(): {form.lower() for form in (attendee.email, attendee.display_email) if form}
        for attendee in seen.row.attendees
        if attendee.email
    }


def _host(seen: Seen, booking: Booking) -> Difference | None:
    """Webhooks name one of several hosts, the API may begin with another."""
    theirs = seen.fact.details.host_email
    forms = {form.lower() for host in seen.row.hosts for form in (host.email, host.display_email) if form}
    if theirs is None or (booking.host_email is not None and booking.host_email in forms):
        return None
    return _told("host", booking.host_email, theirs)


def _location(seen: Seen, booking: Booking) -> Difference | None:
    """A link and the integration that made it are the same place: Cal.com names now one of them, now the other."""
    ours, theirs = booking.location or booking.meeting_url, seen.fact.details.location
    if theirs is None or theirs in (ours, booking.meeting_url):
        return None
    is_same_call = (
        is_link(ours) if _is_integration(theirs) else _is_integration(ours) and _may_be_its_link(seen, booking)
    )
    return None if is_same_call else _told("location", ours, theirs)


def _may_be_its_link(seen: Seen, booking: Booking) -> bool:
    """Whether the link shown may be our integration's: we know none, or it leads to Cal.com's own page for the call."""
    theirs = seen.fact.details.location
    return is_link(theirs) and (booking.meeting_url is None or seen.uid in theirs)


def _is_integration(location: str | None) -> bool:
    return location is not None and location.startswith("integrations:")


def _metadata(seen: Seen, booking: Booking) -> Difference | None:
    """What we know besides stays: it is carried along a chain of bookings, which the API does not do."""
    other = {
        key: value for key, value in (seen.fact.details.metadata or {}).items() if booking.metadata.get(key) != value
    }
    if not other:
        return None
    ours = {key: booking.metadata[key] for key in other if key in booking.metadata}
    return _told("metadata", _pairs(ours), _pairs(other))


def _pairs(metadata: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(metadata.items()))


def _other(field: Field, ours: object, theirs: object) -> Difference | None:
    """None where both say the same, or they say nothing."""
    return None if theirs is None or ours == theirs else _told(field, _text(ours), _text(theirs))


def _told(field: Field, ours: str | None, theirs: str | None) -> Difference:
    return Difference(field=field, ours=_short(ours), theirs=_short(theirs))


def _text(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return str(value)


def _short(text: str | None) -> str | None:
    """What a column can hold, cut where it is long; nothing is None."""
    if not text:
        return None
    plain = "".join(character if character.isprintable() else "�" for character in text)
    return plain if len(plain) <= VALUE_CHARACTERS_MAX else plain[: VALUE_CHARACTERS_MAX - 1] + "…"
