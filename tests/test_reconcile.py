"""Comparing what Cal.com's API shows with what is known: what counts as a difference, and the laws of folding it in."""

import copy
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.simulator.lifecycles import LIFECYCLES
from ledger.booking import Booking
from ledger.calcom.envelope import booking_stream, number_stream
from ledger.comparing import PERSONAL, SETTLE, VALUE_CHARACTERS_MAX, Difference, Verdict, compare, judge, read_seen
from ledger.facts import Created, Dated, Details, Paid, Person, Rejected, Requested, Superseded
from ledger.folding import fold
from ledger.vocabulary import StreamId
from tests.account import Shown, attendee, fold_pairs, listed, seen, show, tell
from tests.builders import NOON, dated, instant, minutes, people, webhook
from tests.test_booking_laws import EMAILS, UIDS, facts
from tests.test_hand_made_lifecycles import LIFECYCLES as HAND_MADE
from tests.test_samples_fold import play

UID = "uidAAA"
STREAM = booking_stream(UID)
ASKED_AT = minutes(600)
ADA, BOB = "ada@example.com", "bob@example.com"
WHOLE = Details(
    number=7,
    start=NOON,
    end=minutes(45),
    title="Bath",
    location="12 Example Street",
    host_email="host@example.com",
    attendees=(Person(email=ADA), Person(email=BOB)),
    metadata={"client": "c-1"},
)
CREATED = Created(details=WHOLE)


def booking(*told: Any) -> Booking:
    """Made by these facts, a minute apart."""
    return fold(STREAM, [dated(fact, at=minutes(number)) for number, fact in enumerate(told)])


def shown(**changes: Any) -> Shown:
    """What the API would show after CREATED."""
    return show(booking(CREATED), metadata={"client": "c-1"}) | changes


def told(one: Shown, known: Booking | None = None) -> list[tuple[str, str | None, str | None]]:
    differences = compare(seen(one), known or booking(CREATED))
    return [(one.field, one.ours, one.theirs) for one in differences]


def judged(one: Shown, known: Booking | None, *, asked_at: datetime = ASKED_AT, **options: Any) -> Verdict:
    return judge(seen(one), known, asked_at=asked_at, **options)


# What is a difference, and what is none


def test_a_booking_that_is_as_shown_differs_in_nothing() -> None:
    assert told(shown()) == []
    assert judged(shown(), booking(CREATED)).outcome == "equal"


def test_every_field_that_webhooks_can_miss_is_compared() -> None:
    changed = shown(
        status="cancelled",
        start=instant(minutes(60)),
        end=instant(minutes(90)),
        attendees=[attendee(ADA, absent=True)],
        absentHost=True,
        location="14 Willow Lane",
        hosts=[{"email": "deputy@example.com"}],
        rescheduledToUid="uidBBB",
        rescheduledFromUid="uidCCC",
        metadata={"client": "c-2"},
    )
    assert told(changed) == [
        ("status", "accepted", "rescheduled"),
        ("start", "2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z"),
        ("end", "2026-12-01T12:45:00Z", "2026-12-01T13:30:00Z"),
        ("attendees", f"{ADA}, {BOB}", ADA),
        ("absent", None, ADA),
        ("host", "host@example.com", "deputy@example.com"),
        ("host_absent", "no", "yes"),
        ("location", "12 Example Street", "14 Willow Lane"),
        ("rescheduled_from", None, "uidCCC"),
        ("rescheduled_to", None, "uidBBB"),
        ("metadata", "client=c-1", "client=c-2"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Bath between Ada and the host", "description": "Limps a little"},
        {"start": None, "end": None, "location": None, "hosts": [], "attendees": [], "metadata": None},
        {"start": "2026-12-01T13:00:00+01:00"},
        {"attendees": [attendee(BOB.upper()), attendee(ADA.capitalize())]},
        {"hosts": [{"email": "second@example.com"}, {"email": "Host@example.com"}]},
        {"hosts": [{"id": "unknown", "name": "unknown", "email": "unknown"}]},
        {"cancellationReason": "Please reschedule. Conflict", "rating": 5, "somethingNew": {"deep": [1]}},
    ],
    ids=("titles", "nothing said", "another offset", "capitals", "several hosts", "a host that is gone", "new fields"),
)
def test_what_the_api_does_not_say_or_says_in_other_words_is_no_difference(changes: Shown) -> None:
    assert told(shown(**changes)) == []


@pytest.mark.parametrize("ours", ["ada+clx9k2q8w0000356jqk7@example.com", ADA])
def test_a_managed_users_address_is_the_same_with_its_suffix_and_without(ours: str) -> None:
    suffixed = attendee("ada+clx9k2q8w0000356jqk7@example.com", absent=True) | {"displayEmail": "Ada@example.com"}
    known = booking(Created(details=msgspec.structs.replace(WHOLE, attendees=(Person(email=ours),))))
    assert told(shown(attendees=[suffixed]), known) == [("absent", None, "ada+clx9k2q8w0000356jqk7@example.com")]


@pytest.mark.parametrize(
    ("ours", "url", "theirs", "differs"),
    [
        ("https://rooms.example.com/1", None, "integrations:daily", False),
        ("integrations:daily", None, "https://rooms.example.com/1", False),
        ("integrations:daily", "https://rooms.example.com/1", "https://rooms.example.com/1", False),
        ("integrations:daily", "https://rooms.example.com/1", f"https://video.example.com/video/{UID}", False),
        ("integrations:daily", "https://rooms.example.com/1", "https://meet.example.org/own-room", True),
        (None, "https://rooms.example.com/1", "integrations:zoom", False),
        ("integrations:daily", None, "integrations:zoom", True),
        ("https://rooms.example.com/1", None, "https://rooms.example.com/2", True),
        ("12 Example Street", None, "integrations:daily", True),
        ("12 Example Street", "https://rooms.example.com/1", "+15550001111", True),
    ],
)
def test_a_video_link_and_its_integration_are_one_place(
    ours: str | None, url: str | None, theirs: str, *, differs: bool
) -> None:
    known = booking(Created(details=msgspec.structs.replace(WHOLE, location=ours, meeting_url=url)))
    assert bool(told(shown(location=theirs), known)) is differs


def test_a_replaced_booking_that_the_api_only_calls_cancelled_is_no_difference() -> None:
    replaced = booking(CREATED, Superseded(by_uid="uidBBB", details=Details()))
    assert told(shown(status="cancelled"), replaced) == []
    assert told(shown(status="accepted"), replaced) == [("status", "rescheduled", "accepted")]
    assert told(shown(status="cancelled", rescheduledToUid="uidCCC"), replaced) == [
        ("rescheduled_to", "uidBBB", "uidCCC")
    ]


def test_a_booking_that_goes_on_has_not_been_replaced_by_the_one_to_which_a_seat_went() -> None:
    assert told(shown(status="accepted", rescheduledToUid="uidBBB")) == []


def test_a_booking_that_waits_for_a_host_is_pending() -> None:
    assert told(shown(status="awaiting_host")) == [("status", "accepted", "pending")]


@pytest.mark.parametrize(
    "broken",
    [
        {"status": "postponed"},
        {"status": None},
        {"uid": "id-7"},
        {"uid": "\x00"},
        {"uid": "x" * 201},
        {"attendees": "nobody"},
        {"absentHost": "maybe"},
    ],
)
def test_what_cannot_be_understood_is_not_guessed_at(broken: Shown) -> None:
    assert read_seen(listed(shown(**broken))) is None


def test_an_attendee_without_an_address_makes_nothing_unreadable() -> None:
    assert told(shown(attendees=[attendee(ADA), attendee(BOB), {"name": "By telephone", "email": None}])) == []


def test_values_are_short_and_can_be_stored() -> None:
    known = booking(Created(details=msgspec.structs.replace(WHOLE, location="\x00" * 1_000)))
    (difference,) = compare(seen(shown(location="14 Willow Lane " * 100)), known)
    assert difference.field in PERSONAL
    assert difference.ours is not None
    assert difference.theirs is not None
    assert len(difference.ours) == len(difference.theirs) == VALUE_CHARACTERS_MAX
    assert "\x00" not in difference.ours


def test_a_number_that_belongs_to_a_uid_joins_what_is_filed_under_it() -> None:
    namesake = fold(number_stream(7), [dated(CREATED)])
    known = judged(shown(), booking(CREATED), namesake=namesake)
    alone = judged(shown(), None, namesake=namesake)
    for verdict in (known, alone):
        assert verdict.outcome == "stale"
        assert verdict.differences == (Difference(field="uid", ours=None, theirs=UID),)


# When an observation holds


def test_a_missing_booking_differed_since_it_was_made_or_changed() -> None:
    verdict = judged(shown(createdAt=instant(minutes(10)), updatedAt=instant(minutes(20))), None)
    assert (verdict.outcome, verdict.differences, verdict.differed_since) == ("missing", (), minutes(20))


def test_a_stale_booking_differed_since_our_last_fact_of_it() -> None:
    verdict = judged(shown(status="cancelled"), booking(CREATED, CREATED))
    assert (verdict.outcome, verdict.differed_since) == ("stale", minutes(1))


@pytest.mark.parametrize(
    ("updated_at", "occurred_at"),
    [
        (None, ASKED_AT - SETTLE),
        (minutes(20), ASKED_AT - SETTLE),
        (ASKED_AT - timedelta(seconds=20), ASKED_AT - timedelta(seconds=20)),
        (ASKED_AT + timedelta(days=400), ASKED_AT),
    ],
    ids=("null", "long ago", "a moment ago", "by a wrong clock"),
)
def test_an_observation_holds_from_a_settled_moment_on(updated_at: datetime | None, occurred_at: datetime) -> None:
    one = shown(status="cancelled", updatedAt=updated_at and instant(updated_at))
    assert judged(one, booking(CREATED)).occurred_at == occurred_at


def test_a_booking_of_which_we_heard_a_moment_ago_is_asked_about_again() -> None:
    just_now = ASKED_AT - SETTLE + timedelta(seconds=1)
    known = fold(STREAM, [dated(CREATED, at=just_now)])
    assert judged(shown(), known).outcome == "equal"
    verdict = judged(shown(status="cancelled"), known)
    assert (verdict.outcome, verdict.ask_at) == ("young", just_now + SETTLE)
    assert judged(shown(status="cancelled"), known, asked_at=just_now + SETTLE).outcome == "stale"


def test_a_fact_from_a_wrong_clock_keeps_nobody_waiting_and_is_overruled() -> None:
    next_year = ASKED_AT + timedelta(days=400)
    known = fold(STREAM, [dated(CREATED, at=next_year)])
    verdict = judged(shown(status="cancelled"), known)
    assert (verdict.outcome, verdict.occurred_at) == ("stale", next_year)


def test_who_is_patient_leaves_alone_what_changed_a_moment_ago() -> None:
    just_now = instant(ASKED_AT - timedelta(seconds=1))
    for known in (None, booking(CREATED)):
        one = shown(status="cancelled", updatedAt=just_now)
        assert judged(one, known, is_patient=True).outcome == "young"
        assert judged(one, known).outcome in ("missing", "stale")
    assert judged(shown(updatedAt=just_now), booking(CREATED), is_patient=True).outcome == "equal"


# Laws


def observed(one: Shown, verdict: Verdict) -> Dated:
    fact = dated(seen(one).fact, at=verdict.occurred_at, position=99)
    return msgspec.structs.replace(fact, trigger="calcom.observed")


moments = st.sampled_from([minutes(minute) for minute in range(4)])
histories = st.lists(st.builds(lambda fact, at: dated(fact, at=at), facts, moments), max_size=6)
addresses = st.sampled_from(EMAILS)
shown_people = st.builds(attendee, addresses, absent=st.booleans())
places = st.sampled_from(["12 Example Street", "integrations:daily", "https://rooms.example.com/1"])
answers_of_the_api = st.fixed_dictionaries(
    {"uid": st.just(UID), "status": st.sampled_from(("accepted", "pending", "cancelled", "rejected", "awaiting_host"))},
    optional={
        "id": st.just(7),
        "start": st.none() | moments.map(instant),
        "end": st.none() | moments.map(instant),
        "location": st.none() | places,
        "hosts": st.lists(st.fixed_dictionaries({"email": addresses}), max_size=2),
        "attendees": st.lists(shown_people, max_size=3, unique_by=lambda one: one["email"]),
        "absentHost": st.booleans(),
        "rescheduledToUid": st.none() | st.sampled_from(UIDS),
        "rescheduledFromUid": st.none() | st.sampled_from(UIDS),
        "metadata": st.dictionaries(st.sampled_from("xy"), st.sampled_from("xy"), max_size=2),
        "updatedAt": st.none() | moments.map(instant),
    },
)


@settings(max_examples=1_000, deadline=None)
@given(histories, answers_of_the_api)
def test_what_was_folded_in_differs_in_nothing_any_more(history: list[Dated], one: Shown) -> None:
    known = fold(STREAM, history) if history else None
    verdict = judged(one, known)
    if verdict.outcome != "equal":
        healed = fold(STREAM, [*history, observed(one, verdict)])
        assert judged(one, healed).outcome == "equal"
        assert healed.doubts == {}


@settings(max_examples=1_000, deadline=None)
@given(histories, histories, answers_of_the_api)
def test_no_webhook_of_before_makes_a_difference_when_it_arrives_late(
    arrived: list[Dated], late: list[Dated], one: Shown
) -> None:
    verdict = judged(one, fold(STREAM, arrived) if arrived else None)
    if verdict.outcome != "equal":
        healed = fold(STREAM, [*arrived, observed(one, verdict), *late])
        assert judged(one, healed).outcome == "equal"


@settings(max_examples=500, deadline=None)
@given(histories, answers_of_the_api, facts)
def test_what_happened_after_it_counts(history: list[Dated], one: Shown, later: Any) -> None:
    verdict = judged(one, fold(STREAM, history) if history else None)
    seen_then = [*history, observed(one, verdict)]
    happened = dated(later, at=ASKED_AT)
    assert fold(STREAM, [happened, *seen_then]).facts[-1] == happened


@settings(max_examples=500, deadline=None)
@given(histories, answers_of_the_api)
def test_what_the_api_cannot_know_stays(history: list[Dated], one: Shown) -> None:
    before = fold(STREAM, history)
    after = fold(STREAM, [*history, observed(one, judged(one, before))])
    for field in (
        "paid",
        "payment_number",
        "payment_initiated",
        "requested",
        "explicitly_confirmed",
        "rejection_reason",
    ):
        assert getattr(after, field) == getattr(before, field)
    for field in ("started_for", "ended_for", "recording_url", "has_transcript", "rescheduled_by", "left"):
        assert getattr(after, field) == getattr(before, field)
    assert before.metadata.keys() <= after.metadata.keys()


def test_payments_and_reasons_outlive_an_observation() -> None:
    known = booking(
        Requested(details=WHOLE), Paid(details=WHOLE, payment_number=5), Rejected(details=WHOLE, reason="Fully booked")
    )
    one = shown(status="accepted")
    healed = fold(STREAM, [*known.facts, observed(one, judged(one, known))])
    assert (healed.booking_status, healed.paid, healed.payment_number) == ("accepted", True, 5)
    assert (healed.rejection_reason, healed.calendar_status()) == ("Fully booked", "confirmed")


# Doubts


def seat(trigger: str, minute: float, *emails: str, row: bool = False, **further: object) -> bytes:
    attendees = [{**person, "bookingId": 7, "id": 1} if row else person for person in people(*emails)]
    fields = {
        "uid": UID,
        "bookingId": 7,
        "seatsPerTimeSlot": 6,
        "startTime": instant(NOON),
        "endTime": instant(minutes(60)),
    }
    return webhook(trigger, {**fields, "attendees": attendees, **further}, at=minutes(minute))


def plain(trigger: str, minute: float, **further: object) -> bytes:
    fields = {"uid": UID, "bookingId": 7, "startTime": instant(NOON), "endTime": instant(minutes(60))}
    return webhook(trigger, {**fields, "attendees": people(ADA), **further}, at=minutes(minute))


SERIES = {"recurringEvent": {"freq": 2, "count": 4, "interval": 1}}
DOUBTFUL: dict[str, tuple[Sequence[bytes], str]] = {
    "the last seat is given back, or the class is over": (
        (seat("BOOKING_CREATED", 0, ADA), seat("BOOKING_CANCELLED", 1, ADA, row=True)),
        "seat_or_whole",
    ),
    "somebody left whom Cal.com no longer found": (
        (seat("BOOKING_CREATED", 0, ADA, BOB), seat("BOOKING_CANCELLED", 1, row=True)),
        "seat_or_whole",
    ),
    "one of a series is confirmed": (
        (plain("BOOKING_REQUESTED", 0, **SERIES), plain("BOOKING_CREATED", 1, **SERIES)),
        "series_changed",
    ),
    "one of a series is rejected": (
        (plain("BOOKING_REQUESTED", 0, **SERIES), plain("BOOKING_REJECTED", 1, **SERIES)),
        "series_changed",
    ),
    "the rest of a series is cancelled": (
        (plain("BOOKING_CREATED", 0, **SERIES), plain("BOOKING_CANCELLED", 1, **SERIES)),
        "series_changed",
    ),
    "a cancelled booking comes back": (
        (plain("BOOKING_CREATED", 0), plain("BOOKING_CANCELLED", 1), plain("BOOKING_CREATED", 2)),
        "created_after_end",
    ),
    "a request whose calendar id is another's": (
        (plain("BOOKING_REQUESTED", 0, iCalUID="uidOLD@Cal.com"),),
        "link_unknown",
    ),
}
TRUTHS: dict[str, Shown] = {
    "as we think": {},
    "over": {"status": "cancelled"},
    "going on": {"status": "accepted"},
    "rejected": {"status": "rejected"},
    "somebody left": {"attendees": [attendee(BOB)]},
    "replaced": {"status": "cancelled", "rescheduledToUid": "uidNEW"},
    "following": {"rescheduledFromUid": "uidOLD"},
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("case", DOUBTFUL)
def test_every_doubt_is_settled_to_what_the_api_shows(case: str, truth: str) -> None:
    bodies, doubt = DOUBTFUL[case]
    pairs = [pair for body in bodies for pair in tell(body)]
    known = fold_pairs(pairs)[STREAM]
    assert doubt in known.doubts
    one = show(known) | TRUTHS[truth]
    verdict = judged(one, known)
    assert verdict.outcome == ("settled" if truth == "as we think" else verdict.outcome)
    assert verdict.outcome in ("settled", "stale")
    healed = fold_pairs([*pairs, (STREAM, observed(one, verdict))])[STREAM]
    assert healed.doubts == {}
    assert compare(seen(one), healed) == ()


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_lifecycles_end_without_doubts_once_the_api_was_asked(case: str) -> None:
    pairs = [pair for body in HAND_MADE[case][0] for pair in tell(body, received_at=NOON)]
    assert_settled(pairs, ASKED_AT + timedelta(days=30))


@pytest.mark.parametrize("name", LIFECYCLES)
def test_whatever_single_delivery_is_lost_the_api_heals_it_without_a_doubt(name: str) -> None:
    """And what is lost comes in at last, and changes nothing."""
    for number in range(3):
        sent = [tell_sent(one) for one in play(name, number).deliveries]
        whole = fold_pairs([pair for told_by_one in sent for pair in told_by_one])
        truth = {stream_id: show(one) for stream_id, one in whole.items()}
        asked_at = max(pair[1].occurred_at for told_by_one in sent for pair in told_by_one) + timedelta(hours=1)
        for lost in range(len(sent)):
            arrived = [pair for at, told_by_one in enumerate(sent) if at != lost for pair in told_by_one]
            healed = heal(arrived, truth, asked_at)
            assert unequal(healed, truth, asked_at) == []
            assert unequal([*healed, *sent[lost]], truth, asked_at) == []


def tell_sent(sent: Any) -> list[tuple[StreamId, Dated]]:
    return tell(msgspec.json.encode(sent.body))


def assert_settled(pairs: list[tuple[StreamId, Dated]], asked_at: datetime) -> None:
    truth = {stream_id: show(one) for stream_id, one in fold_pairs(pairs).items() if one.uid}
    assert unequal(heal(pairs, truth, asked_at), truth, asked_at) == []


def heal(
    pairs: list[tuple[StreamId, Dated]], truth: dict[StreamId, Shown], asked_at: datetime
) -> list[tuple[StreamId, Dated]]:
    """What is known once every booking was asked about."""
    known = fold_pairs(pairs)
    healed = copy.copy(pairs)
    for stream_id, one in truth.items():
        verdict = judge(
            seen(one), known.get(stream_id), namesake=known.get(number_stream(one["id"])), asked_at=asked_at
        )
        if verdict.outcome != "equal":
            healed.append((stream_id, observed(one, verdict)))
    return healed


def unequal(pairs: list[tuple[StreamId, Dated]], truth: dict[StreamId, Shown], asked_at: datetime) -> list[StreamId]:
    known = fold_pairs(pairs)
    return [
        stream_id
        for stream_id, one in truth.items()
        if judge(seen(one), known.get(stream_id), asked_at=asked_at).outcome != "equal"
    ]
