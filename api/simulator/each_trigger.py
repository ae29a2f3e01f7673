"""One delivery of every trigger that we know, for whoever wants to see what a receiver makes of each."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from api.simulator.lifecycles import LIFECYCLES, Sent, Slot, Studio
from api.simulator.noise import NOISE
from api.simulator.rarities import RARITIES
from api.simulator.traffic import SimulatedDelivery, signed
from ledger.calcom.triggers import KNOWN_TRIGGERS

BOOKED_BEFORE = timedelta(days=8)
HELD_BEFORE = timedelta(days=4)


def one_of_each(*, seed: int, now: datetime, secret: bytes) -> dict[str, SimulatedDelivery]:
    """By trigger, in the order of their names; each about somebody else, and nothing of it after `now` (aware)."""
    studio = Studio(Random(seed))
    found: dict[str, SimulatedDelivery] = {}
    for scenario, sent in _made(studio, now):
        if sent.trigger in KNOWN_TRIGGERS and sent.occurred_at <= now:
            found.setdefault(sent.trigger, signed(sent, scenario, secret))
    return dict(sorted(found.items()))


def _made(studio: Studio, now: datetime) -> Iterator[tuple[str, Sent]]:
    """Bodies that name a booking come before those of the same trigger that do not."""
    for name, lifecycle in LIFECYCLES.items():
        slot = Slot(booked_at=now - BOOKED_BEFORE, starts_at=now - HELD_BEFORE)
        yield from ((name, sent) for sent in lifecycle(studio, slot).deliveries)
    for name, function in (*NOISE.items(), *RARITIES.items()):
        yield name, function(studio, now)
