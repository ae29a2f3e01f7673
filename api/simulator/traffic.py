"""A Cal.com account's deliveries around a day, as they arrive: mixed, repeated, late, signed.

Everything comes from the seed and from `now`: the same call gives the same bytes, on any machine.
"""

from datetime import UTC, datetime, timedelta
from hmac import digest
from itertools import accumulate
from random import Random

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from api.simulator.lifecycles import LIFECYCLES, Lifecycle, Sent, Slot, Studio
from api.simulator.noise import NOISE
from api.simulator.wire import milliseconds

DAYS_BEFORE = 10
DAYS_AHEAD = 14
TODAY_SHARE = 0.4
OFFICE_OPENS = timedelta(hours=8)
OFFICE_QUARTER_HOURS = 39
BOOKED_AHEAD_MIN = timedelta(hours=3)
BOOKED_AHEAD_SPREAD = timedelta(days=6)
BOOKED_BEFORE_NOW_MIN = timedelta(minutes=15)
AFTERMATH = timedelta(hours=4)
"""How long after its start a meeting's last body may come."""

LATE_PLACES_MAX = 40
REPEAT_PLACES_MAX = 3
RESTAMP_MILLISECONDS_MAX = 60
RESTAMPED_SHARE = 0.5

WEIGHTS = {
    "created_started_ended": 14,
    "rescheduled": 5,
    "created": 4,
    "created_and_cancelled": 4,
    "request_confirmed": 4,
    "paid": 3,
    "paid_before_created": 3,
    "request_confirmed_and_ended": 3,
    "attendee_no_show": 2,
    "seats_taken": 2,
}
"""How often a lifecycle is drawn; 1 for those not named."""

HELD = frozenset(
    {
        "ended_after_move",
        "request_confirmed_and_ended",
        "attendee_no_show",
        "no_show_unmarked",
        "guests_absent_from_call",
        "host_absent_from_call",
        "recorded",
    }
)
"""Lifecycles that only show what they are once their meeting is over."""

AHEAD = frozenset({"created", "request_pending", "payment_abandoned"})
"""Lifecycles that would look forgotten once their meeting is over."""


class SimulatedDelivery(Struct, frozen=True, kw_only=True):
    """One request to post: `body` byte for byte, with `headers` in lower case.

    `uid` is None and `trigger` may be empty for noise. `occurred_at` is what the body says, see `story.Sent`.
    """

    body: bytes
    headers: dict[str, str]
    trigger: str
    uid: str | None
    scenario: str
    occurred_at: datetime


class _Arrival(Struct, frozen=True, kw_only=True):
    place: float
    scenario: str
    sent: Sent


def simulate(
    *,
    seed: int,
    now: datetime,
    bookings: int,
    secret: bytes,
    duplicate_share: float = 0.1,
    late_share: float = 0.1,
    noise_share: float = 0.03,
) -> list[SimulatedDelivery]:
    """Deliveries about at least `bookings` uids (a few more, when the last lifecycle has several), as they arrive.

    Each lifecycle plays once before any plays twice. What would happen after `now` (aware) is not sent, so the latest
    lifecycles are cut short. Shares are of the deliveries, between 0 and 1.
    """
    rng = Random(seed)
    studio = Studio(rng)
    now = now.astimezone(UTC).replace(microsecond=0)
    told = _told_until(now, studio, bookings)
    told += _noise(now, studio, count=round(noise_share * len(told)))
    told.sort(key=lambda scenario_and_sent: scenario_and_sent[1].occurred_at)
    arrivals: list[_Arrival] = []
    for place, (scenario, sent) in enumerate(told):
        delay = rng.uniform(1, LATE_PLACES_MAX) if rng.random() < late_share else 0.0
        arrivals.append(_Arrival(place=place + delay, scenario=scenario, sent=sent))
        if rng.random() < duplicate_share:
            repeat_place = place + delay + rng.uniform(0, REPEAT_PLACES_MAX)
            arrivals.append(_Arrival(place=repeat_place, scenario=scenario, sent=_repeat(sent, rng, now=now)))
    arrivals.sort(key=lambda arrival: arrival.place)
    return [signed(arrival.sent, arrival.scenario, secret) for arrival in arrivals]


def signed(sent: Sent, scenario: str, secret: bytes) -> SimulatedDelivery:
    """The request that Cal.com makes of it."""
    body = json_bytes(sent)
    headers = {
        "content-type": sent.content_type,
        "x-cal-signature-256": signature(body, secret),
        "x-cal-webhook-version": sent.webhook_version,
    }
    return SimulatedDelivery(
        body=body,
        headers=headers,
        trigger=sent.trigger,
        uid=sent.uid,
        scenario=scenario,
        occurred_at=sent.occurred_at,
    )


def json_bytes(sent: Sent) -> bytes:
    """The body as JSON.stringify writes it: compact, raw UTF-8, keys in the order they were put in."""
    return sent.body if isinstance(sent.body, bytes) else msgspec.json.encode(sent.body)


def signature(body: bytes, secret: bytes) -> str:
    """The value of X-Cal-Signature-256 (CALCOM.md 2)."""
    return digest(secret, body, "sha256").hex()


def _told_until(now: datetime, studio: Studio, bookings: int) -> list[tuple[str, Sent]]:
    """Scenario and body of everything that has happened by `now`, one lifecycle after the other."""
    rng = studio.rng
    names = list(LIFECYCLES)
    cumulated_weights = list(accumulate(WEIGHTS.get(name, 1) for name in names))
    once_each = rng.sample(names, len(names))
    told: list[tuple[str, Sent]] = []
    uids: set[str | None] = set()
    while len(uids) < bookings:
        name = once_each.pop() if once_each else rng.choices(names, cum_weights=cumulated_weights)[0]
        lifecycle = LIFECYCLES[name](studio, _slot(rng, now, name))
        happened = _until(now, lifecycle)
        told += ((name, sent) for sent in happened)
        uids.update(sent.uid for sent in happened)
    return told


def _until(now: datetime, lifecycle: Lifecycle) -> list[Sent]:
    return [sent for sent in lifecycle.deliveries if sent.occurred_at <= now]


def _slot(rng: Random, now: datetime, name: str) -> Slot:
    """When the lifecycle plays: booked before `now`, so that at least its first delivery is sent."""
    starts_at = _meeting_time(rng, now, name)
    booked_by = min(starts_at - BOOKED_AHEAD_MIN, now - BOOKED_BEFORE_NOW_MIN)
    booked_before = timedelta(milliseconds=rng.randrange(BOOKED_AHEAD_SPREAD // timedelta(milliseconds=1)))
    return Slot(booked_at=booked_by - booked_before, starts_at=starts_at)


def _meeting_time(rng: Random, now: datetime, name: str) -> datetime:
    """In office hours (UTC), today more often than on any other day."""
    days = 0 if rng.random() < TODAY_SHARE else rng.randint(-DAYS_BEFORE, DAYS_AHEAD)
    if name in HELD:
        days = -(abs(days) % (DAYS_BEFORE + 1))
    elif name in AHEAD:
        days = abs(days)
    midnight = now.replace(hour=0, minute=0, second=0)
    quarter_hours = rng.randrange(OFFICE_QUARTER_HOURS)
    starts_at = midnight + timedelta(days=days) + OFFICE_OPENS + timedelta(minutes=15) * quarter_hours
    if name in HELD and starts_at > now - AFTERMATH:
        return starts_at - timedelta(days=1)
    if name in AHEAD and starts_at < now:
        return starts_at + timedelta(days=1)
    return starts_at


def _noise(now: datetime, studio: Studio, *, count: int) -> list[tuple[str, Sent]]:
    rng = studio.rng
    noise: list[tuple[str, Sent]] = []
    for _ in range(count):
        name = rng.choice(list(NOISE))
        before = timedelta(milliseconds=rng.randrange(timedelta(days=DAYS_BEFORE) // timedelta(milliseconds=1)))
        noise.append((name, NOISE[name](studio, now - before)))
    return noise


def _repeat(sent: Sent, rng: Random, *, now: datetime) -> Sent:
    """The same again: byte for byte, or as a second subscription sends it, stamped some milliseconds later."""
    if not isinstance(sent.body, dict) or "payload" not in sent.body or rng.random() >= RESTAMPED_SHARE:
        return sent
    later = sent.occurred_at + timedelta(milliseconds=rng.randint(1, RESTAMP_MILLISECONDS_MAX))
    if later > now:
        return sent
    return replace(sent, body={**sent.body, "createdAt": milliseconds(later)}, occurred_at=later)
