"""Every lifecycle that the simulator knows, folded in every order: always the same bookings, and they are true.

The bodies go through the whole pure core: opened, understood, dated, put by stream, folded, linked.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random

import pytest

from api.simulator.lifecycles import LIFECYCLES, Lifecycle, Slot, Studio
from api.simulator.story import Sent
from api.simulator.traffic import RESTAMP_MILLISECONDS_MAX, json_bytes
from api.simulator.wire import milliseconds
from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream, open_envelope
from ledger.calcom.meaning import meaning_of
from ledger.facts import Dated
from ledger.folding import fold, link_chain
from ledger.vocabulary import StreamId
from tests.builders import answers

FOLDS_PER_LIFECYCLE = 6_500
FOLDS_IN_TOTAL_MIN = 200_000
PERMUTED_MAX = 6
ORDERS_SAMPLED = 720
REPEATED_VARIANTS = 3
SUBSCRIPTION_SEEDS = 12

Told = tuple[tuple[StreamId, Dated], ...]
"""What one body says: facts with their streams."""


def play(name: str, seed: int) -> Lifecycle:
    """The lifecycle at another hour for every seed; booked from two hours to nine days before it begins."""
    rng = Random(f"{name} {seed}")
    starts_at = datetime(2026, 11, 20, 8, tzinfo=UTC) + timedelta(minutes=15 * rng.randrange(2_000))
    booked_at = starts_at - timedelta(hours=2, milliseconds=rng.randrange(9 * 24 * 3_600_000))
    return LIFECYCLES[name](Studio(rng), Slot(booked_at=booked_at, starts_at=starts_at))


def tell(body: bytes) -> Told:
    """The facts of one body, as `ledger.history` reads them from the log."""
    envelope = open_envelope(body)
    assert envelope.occurred_at is not None
    assert envelope.trigger is not None
    return tuple(
        (
            stream_id,
            Dated(
                occurred_at=envelope.occurred_at,
                rank=fact.rank,
                digest=sha256(body).digest()[:16],
                position=1,
                recorded_at=envelope.occurred_at,
                trigger=envelope.trigger,
                fact=fact,
            ),
        )
        for stream_id, fact in meaning_of(envelope)
    )


def fold_all(arrived: Iterable[Told]) -> dict[StreamId, Booking]:
    """All bookings that the bodies tell of; what is known by number goes to the uid that turns out to have it."""
    pairs = [pair for told in arrived for pair in told]
    owners = {
        number_stream(dated.fact.details.number): stream_id
        for stream_id, dated in pairs
        if dated.fact.details.number is not None and not stream_id.startswith("booking-id-")
    }
    facts: dict[StreamId, list[Dated]] = defaultdict(list)
    for stream_id, dated in pairs:
        facts[owners.get(stream_id, stream_id)].append(dated)
    bookings = {stream_id: fold(stream_id, told) for stream_id, told in facts.items()}
    link_chain(bookings, booking_stream)
    return bookings


def orders(deliveries: Sequence[Told], rng: Random) -> Iterator[Sequence[Told]]:
    """Every order of arrival, or a sample where there are too many."""
    if len(deliveries) <= PERMUTED_MAX:
        yield from itertools.permutations(deliveries)
    else:
        yield from (rng.sample(deliveries, len(deliveries)) for _ in range(ORDERS_SAMPLED))


def with_repeats(order: Sequence[Told], rng: Random) -> list[Told]:
    """The same with some of the bodies delivered again, at once or later."""
    arrived = list(order)
    for again in rng.choices(order, k=rng.randint(1, len(order))):
        arrived.insert(rng.randint(arrived.index(again), len(arrived)), again)
    return arrived


def all_answers(bookings: Mapping[StreamId, Booking]) -> dict[StreamId, dict[str, object]]:
    return {stream_id: answers(booking) for stream_id, booking in bookings.items()}


def assert_true(lifecycle: Lifecycle, bookings: Mapping[StreamId, Booking]) -> None:
    """The bookings are those of the lifecycle's truth, and as it says."""
    assert set(bookings) == {booking_stream(truth.uid) for truth in lifecycle.truth}
    for truth in lifecycle.truth:
        booking = bookings[booking_stream(truth.uid)]
        assert booking.booking_status == truth.booking_status
        assert booking.calendar_status() == truth.status
        assert (booking.start, booking.end) == (truth.start, truth.end)
        assert set(booking.attendees) == truth.attendees
        assert booking.rescheduled_to == truth.rescheduled_to
        assert (booking.paid, booking.no_show) == (truth.paid, truth.no_show)


def test_together_the_lifecycles_are_folded_often_enough() -> None:
    assert FOLDS_PER_LIFECYCLE * len(LIFECYCLES) >= FOLDS_IN_TOTAL_MIN


@pytest.mark.parametrize("name", LIFECYCLES)
def test_every_order_and_every_repeat_of_a_lifecycle_gives_its_truth(name: str) -> None:
    folds = 0
    for seed in itertools.count():
        rng = Random(seed)
        lifecycle = play(name, seed)
        deliveries = [tell(json_bytes(sent)) for sent in lifecycle.deliveries]
        in_order = fold_all(deliveries)
        assert_true(lifecycle, in_order)
        expected = all_answers(in_order)
        for order in orders(deliveries, rng):
            for arrived in (order, *(with_repeats(order, rng) for _ in range(REPEATED_VARIANTS))):
                assert all_answers(fold_all(arrived)) == expected, f"seed {seed}"
                folds += len(expected)
        if folds >= FOLDS_PER_LIFECYCLE:
            return


def restamped(sent: Sent, rng: Random) -> bytes:
    """The same change as a second subscription sends it, some milliseconds later; a flat body is the same."""
    assert isinstance(sent.body, dict)
    if "payload" not in sent.body:
        return json_bytes(sent)
    later = sent.occurred_at + timedelta(milliseconds=rng.randint(1, RESTAMP_MILLISECONDS_MAX))
    return json.dumps({**sent.body, "createdAt": milliseconds(later)}).encode()


@pytest.mark.parametrize("name", LIFECYCLES)
def test_a_second_subscription_to_the_same_changes_alters_no_booking(name: str) -> None:
    for seed in range(SUBSCRIPTION_SEEDS):
        rng = Random(seed)
        lifecycle = play(name, seed)
        twice = [json_bytes(sent) for sent in lifecycle.deliveries]
        twice += [restamped(sent, rng) for sent in lifecycle.deliveries]
        deliveries = [tell(body) for body in twice]
        expected = all_answers(fold_all(deliveries))
        for _ in range(20):
            bookings = fold_all(rng.sample(deliveries, len(deliveries)))
            assert_true(lifecycle, bookings)
            assert all_answers(bookings) == expected, f"seed {seed}"


@pytest.mark.parametrize("name", LIFECYCLES)
def test_bodies_of_other_lifecycles_in_between_change_nothing(name: str) -> None:
    """Bookings are told apart by uid, whatever arrives between their bodies."""
    rng = Random(name)
    lifecycles = [play(name, 1), play("seat_moved", 2), play("rescheduled_twice", 3)]
    deliveries = [tell(json_bytes(sent)) for lifecycle in lifecycles for sent in lifecycle.deliveries]
    bookings = fold_all(rng.sample(deliveries, len(deliveries)))
    for lifecycle in lifecycles:
        assert_true(
            lifecycle, {booking_stream(truth.uid): bookings[booking_stream(truth.uid)] for truth in lifecycle.truth}
        )
