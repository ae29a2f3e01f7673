"""The simulator's traffic is what Cal.com would have sent: shapes, signatures, times; and it is the same every time."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from api.simulator.lifecycles import LIFECYCLES, Lifecycle, Slot, Studio
from api.simulator.noise import NOISE
from api.simulator.traffic import LATE_PLACES_MAX, SimulatedDelivery, json_bytes, simulate

NOW = datetime(2026, 11, 20, 13, 20, tzinfo=UTC)
SECRET = b"sample-secret"
SLOT = Slot(booked_at=datetime(2026, 11, 12, 8, 15, 2, 311_000, tzinfo=UTC), starts_at=NOW.replace(hour=9, minute=0))
SEEDS = range(12)

SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")

DIRECT_TRIGGERS = {
    f"BOOKING_{what}" for what in ("REQUESTED", "RESCHEDULED", "PAYMENT_INITIATED", "LOCATION_UPDATED", "REASSIGNED")
}
SETTLED_TRIGGERS = {"BOOKING_REJECTED", "BOOKING_PAID"}


def play(name: str, *, seed: int = 1, slot: Slot = SLOT) -> Lifecycle:
    return LIFECYCLES[name](Studio(Random(seed)), slot)


def bodies(name: str, *, seed: int = 1) -> list[Any]:
    return [json.loads(json_bytes(sent)) for sent in play(name, seed=seed).deliveries]


def payloads(name: str, *, seed: int = 1) -> list[Any]:
    """What is in the envelopes; a flat body stands for itself."""
    return [body.get("payload", body) for body in bodies(name, seed=seed)]


def traffic(seed: int = 1, *, now: datetime = NOW, **shares: float) -> list[SimulatedDelivery]:
    return simulate(seed=seed, now=now, bookings=120, secret=SECRET, **shares)


def every_body() -> Iterator[Any]:
    """Of every lifecycle, at several seeds."""
    for name in LIFECYCLES:
        for seed in SEEDS:
            yield from bodies(name, seed=seed)


# The whole traffic


def test_the_same_seed_and_now_give_the_same_deliveries() -> None:
    assert traffic(7) == traffic(7)


def test_another_seed_gives_other_bodies() -> None:
    assert {delivery.body for delivery in traffic(7)}.isdisjoint(delivery.body for delivery in traffic(8))


def test_every_body_is_signed_under_the_secret() -> None:
    for delivery in traffic():
        expected = hmac.new(SECRET, delivery.body, hashlib.sha256).hexdigest()
        assert delivery.headers.keys() == {"content-type", "x-cal-signature-256", "x-cal-webhook-version"}
        assert delivery.headers["x-cal-signature-256"] == expected


def test_bodies_are_written_as_json_stringify_writes_them() -> None:
    for delivery in traffic():
        if delivery.scenario != "text_template":
            text = delivery.body.decode()
            assert text == json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("hour", [0, 6, 9, 13, 18, 23])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_todays_calendar_looks_filled_and_nothing_occurs_after_now(hour: int, seed: int) -> None:
    now = NOW.replace(hour=hour)
    starts: dict[str, str] = {}
    gone: set[str] = set()
    for delivery in sorted(traffic(seed, now=now), key=lambda delivery: delivery.occurred_at):
        assert delivery.occurred_at <= now
        if delivery.uid is None:
            continue
        body = json.loads(delivery.body)
        payload = body.get("payload", body)
        starts[delivery.uid] = payload.get("startTime", starts.get(delivery.uid))
        if "rescheduleId" in payload:
            gone.add(payload["rescheduleUid"])
        if delivery.trigger in {"BOOKING_CANCELLED", "BOOKING_REJECTED"}:
            gone.add(delivery.uid)
    today = {uid for uid, start in starts.items() if start.startswith(f"{now:%Y-%m-%d}")} - gone
    assert len(today) >= 15


def test_there_are_as_many_bookings_as_asked_for_or_a_few_more() -> None:
    uids = {delivery.uid for delivery in traffic()} - {None}
    assert 120 <= len(uids) <= 124


def test_a_hundred_bookings_show_every_lifecycle() -> None:
    assert len(LIFECYCLES) >= 24
    assert set(LIFECYCLES) <= {delivery.scenario for delivery in traffic()}


def test_without_late_ones_and_repeats_arrival_follows_occurrence() -> None:
    deliveries = traffic(late_share=0, duplicate_share=0)
    assert deliveries == sorted(deliveries, key=lambda delivery: delivery.occurred_at)


def test_late_ones_arrive_at_most_some_forty_places_behind() -> None:
    in_order = [delivery.body for delivery in traffic(late_share=0, duplicate_share=0, noise_share=0)]
    arrived = [delivery.body for delivery in traffic(late_share=0.3, duplicate_share=0, noise_share=0)]
    delays = [arrived.index(body) - in_order.index(body) for body in in_order]
    assert sorted(arrived) == sorted(in_order)
    assert 10 < max(delays) <= LATE_PLACES_MAX


def test_repeats_are_byte_equal_or_differ_only_in_their_stamp() -> None:
    once = {delivery.body for delivery in traffic(duplicate_share=0, late_share=0)}
    deliveries = traffic(duplicate_share=1, late_share=0)
    assert len(deliveries) == 2 * len(once)
    unstamped = {re.sub(rb'"createdAt":"[^"]*"', b"", body, count=1) for body in once}
    restamped = [delivery for delivery in deliveries if delivery.body not in once]
    assert 0.2 * len(once) < len(restamped) < 0.6 * len(once)
    assert {re.sub(rb'"createdAt":"[^"]*"', b"", delivery.body, count=1) for delivery in restamped} <= unstamped


def test_noise_is_about_no_booking_and_has_its_share() -> None:
    deliveries = traffic(noise_share=0.5, duplicate_share=0)
    noise = [delivery for delivery in deliveries if delivery.scenario in NOISE]
    assert {delivery.scenario for delivery in noise} == set(NOISE)
    assert {delivery.uid for delivery in noise} == {None}
    assert len(noise) == pytest.approx((len(deliveries) - len(noise)) / 2, abs=1)
    assert all(b'"uid"' not in delivery.body for delivery in noise)
    texts = [delivery for delivery in noise if not delivery.body.startswith(b"{")]
    assert {text.headers["content-type"] for text in texts} == {"application/x-www-form-urlencoded"}


def test_people_are_made_up_under_reserved_domains_and_numbers() -> None:
    text = b"\n".join(delivery.body for delivery in traffic()).decode()
    addresses = re.findall(r"[\w.+-]+@[\w.-]+", text)
    domains = {re.sub(r".*@", "", address).lower() for address in addresses}
    assert domains <= {"example.com", "example.org", "example.net", "studio.example.com", "cal.com"}
    assert all(number.startswith("+1555") for number in re.findall(r'"(\+\d{6,})"', text))
    assert any(address != address.lower() for address in addresses if "guest" in address.lower())


# Every lifecycle


@pytest.mark.parametrize("name", LIFECYCLES)
def test_a_lifecycle_is_the_same_for_the_same_random(name: str) -> None:
    assert play(name, seed=5) == play(name, seed=5)
    assert play(name, seed=5) != play(name, seed=6)


@pytest.mark.parametrize("name", LIFECYCLES)
@pytest.mark.parametrize("booked_before", [timedelta(hours=2), timedelta(hours=20), timedelta(days=8)])
def test_deliveries_are_in_true_order_with_no_two_at_once(name: str, booked_before: timedelta) -> None:
    slot = Slot(booked_at=SLOT.starts_at - booked_before, starts_at=SLOT.starts_at)
    for seed in SEEDS:
        times = [sent.occurred_at for sent in play(name, seed=seed, slot=slot).deliveries]
        assert times[0] == slot.booked_at
        assert times == sorted(set(times))


@pytest.mark.parametrize("name", LIFECYCLES)
def test_a_lifecycle_says_its_name_and_the_truth_about_every_uid_it_sends(name: str) -> None:
    lifecycle = play(name)
    assert lifecycle.scenario == name
    sent_about = {sent.uid for sent in lifecycle.deliveries}
    assert sent_about == {truth.uid for truth in lifecycle.truth}
    assert len(lifecycle.truth) == len(sent_about)
    assert all(re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{22}", truth.uid) for truth in lifecycle.truth)


@pytest.mark.parametrize("name", LIFECYCLES)
def test_the_two_status_words_of_a_truth_go_together(name: str) -> None:
    allowed = {
        "pending": {"scheduled"},
        "accepted": {"scheduled", "confirmed", "completed", "no_show"},
        "cancelled": {"cancelled"},
        "rejected": {"cancelled"},
        "rescheduled": {"rescheduled"},
    }
    for truth in play(name).truth:
        assert truth.status in allowed[truth.booking_status]
        assert (truth.rescheduled_to is not None) == (truth.status == "rescheduled")
        assert truth.no_show == (truth.status == "no_show")
        assert truth.attendees == {email.lower() for email in truth.attendees} != set()


@pytest.mark.parametrize("name", LIFECYCLES)
def test_what_is_said_about_a_body_is_what_the_body_says(name: str) -> None:
    for sent in play(name).deliveries:
        body = json.loads(json_bytes(sent))
        payload = body.get("payload", body)
        moment = {"MEETING_STARTED": "startTime", "MEETING_ENDED": "endTime"}.get(sent.trigger, "createdAt")
        assert MILLISECONDS.fullmatch(body[moment])
        assert body["triggerEvent"] == sent.trigger
        assert datetime.fromisoformat(body[moment]) == sent.occurred_at
        assert payload.get("uid", payload.get("bookingUid")) == sent.uid


# The shapes, by trigger (CALCOM.md 1.3 to 1.8)


def test_direct_bodies_write_times_without_milliseconds() -> None:
    for body in every_body():
        if body["triggerEvent"] in DIRECT_TRIGGERS:
            assert SECONDS.fullmatch(body["payload"]["startTime"])
            assert SECONDS.fullmatch(body["payload"]["endTime"])


def test_settled_bodies_write_milliseconds_and_short_labels() -> None:
    seen = set()
    for body in every_body():
        payload = body.get("payload", {})
        confirmed = body["triggerEvent"] == "BOOKING_CREATED" and MILLISECONDS.fullmatch(payload["startTime"])
        if confirmed or body["triggerEvent"] in SETTLED_TRIGGERS:
            seen.add(body["triggerEvent"])
            assert MILLISECONDS.fullmatch(payload["startTime"])
            assert payload["responses"]["name"].keys() == {"label", "value"}
            assert ("id" in payload["organizer"]) == (body["triggerEvent"] == "BOOKING_PAID")
            assert isinstance(payload["destinationCalendar"], list)
            assert "iCalUID" not in payload
    assert seen == {"BOOKING_CREATED", *SETTLED_TRIGGERS}


def test_cancelled_bodies_write_an_offset_and_know_no_metadata() -> None:
    cancelled = [body["payload"] for body in every_body() if body["triggerEvent"] == "BOOKING_CANCELLED"]
    assert cancelled
    for payload in cancelled:
        assert WITH_OFFSET.fullmatch(payload["startTime"])
        assert WITH_OFFSET.fullmatch(payload["endTime"])
        assert payload["status"] == "CANCELLED"
        assert "metadata" not in payload
        assert payload["requiresConfirmation"] is not False
        assert payload["price"] != 0


def test_snapshots_are_flat_and_of_three_kinds() -> None:
    ended = [body for body in every_body() if body["triggerEvent"] == "MEETING_ENDED"]
    narrow = [body for body in ended if "status" not in body]
    assert all("payload" not in body and {"id", "uid"} <= body.keys() for body in ended)
    assert narrow
    assert all(body.keys().isdisjoint({"createdAt", "title"}) for body in narrow)
    assert {"attendees" in body for body in ended if "status" in body} == {True, False}


def test_meetings_keep_the_bookings_creation_time_and_status() -> None:
    for seed in SEEDS:
        first, *meetings = bodies("created_started_ended", seed=seed)
        for meeting in meetings:
            assert (meeting["id"], meeting["uid"]) == (first["payload"]["bookingId"], first["payload"]["uid"])
            assert MILLISECONDS.fullmatch(meeting["startTime"])
            assert meeting["createdAt"] < first["createdAt"]
            assert meeting["status"] == "ACCEPTED"


def test_a_reschedule_names_the_old_uid_and_the_old_times() -> None:
    created, moved = payloads("rescheduled")
    assert moved["uid"] != created["uid"]
    assert (moved["rescheduleUid"], moved["rescheduleId"]) == (created["uid"], created["bookingId"])
    assert moved["rescheduleStartTime"] == created["startTime"] != moved["startTime"]
    assert (moved["iCalUID"], moved["iCalSequence"]) == (created["iCalUID"], created["iCalSequence"] + 1)


def test_a_reschedule_to_confirm_is_linked_by_its_request_only() -> None:
    _, _, request, confirmation = payloads("reschedule_confirmed")
    assert request["status"] == "PENDING"
    assert "rescheduleUid" in request
    assert request["uid"] == confirmation["uid"]
    assert "rescheduleUid" not in confirmation


def test_a_host_who_asks_for_another_time_cancels_first() -> None:
    _, cancelled, moved = payloads("reschedule_asked_for")
    assert cancelled["requestReschedule"] is True
    assert cancelled["cancellationReason"].startswith("Please reschedule. ")
    assert moved["rescheduleUid"] == cancelled["uid"]


def test_a_confirmation_loses_the_custom_metadata() -> None:
    pairs = [[body["payload"]["metadata"] for body in bodies("request_confirmed", seed=seed)] for seed in SEEDS]
    assert any(requested.keys() == {"barkbookClientId", "barkbookPetId", "source"} for requested, _ in pairs)
    assert all(confirmed.keys() == {"videoCallUrl"} for _, confirmed in pairs)


def test_a_payment_begun_claims_to_be_accepted() -> None:
    payload = payloads("payment_abandoned")[-1]
    assert payload["status"] == "ACCEPTED"
    assert isinstance(payload["paymentId"], int)
    assert play("payment_abandoned").truth[0].booking_status == "pending"


def test_created_and_paid_come_in_both_orders_and_paid_has_its_own_metadata() -> None:
    assert [sent.trigger for sent in play("paid").deliveries][1:] == ["BOOKING_CREATED", "BOOKING_PAID"]
    assert [sent.trigger for sent in play("paid_before_created").deliveries][1:] == ["BOOKING_PAID", "BOOKING_CREATED"]
    facts = {"identifier", "bookingId", "eventTypeId", "bookerEmail", "eventTitle", "externalId"}
    assert payloads("paid")[-1]["metadata"].keys() == facts


def test_a_request_after_a_payment_has_neither_status_nor_metadata() -> None:
    _, request, _, _ = payloads("paid_and_confirmed")
    assert request.keys().isdisjoint({"status", "metadata"})
    _, paid, request, _ = payloads("paid_while_pending")
    assert paid["status"] == "PENDING"
    assert request.keys().isdisjoint({"status", "metadata"})


def test_a_seat_given_back_shows_its_database_row_and_nobody_who_cancelled() -> None:
    payload = payloads("seat_given_back")[-1]
    (leaver,) = payload["attendees"]
    (truth,) = play("seat_given_back").truth
    assert {"id", "bookingId", "locale", "noShow"} <= leaver.keys()
    assert "cancelledBy" not in payload
    assert leaver["email"].lower() not in truth.attendees
    assert (truth.booking_status, len(truth.attendees) >= 2) == ("accepted", True)


def test_a_class_moved_by_its_host_names_itself_and_keeps_everybody() -> None:
    payload = payloads("class_moved")[-1]
    (truth,) = play("class_moved").truth
    assert payload["uid"] == payload["rescheduleUid"] == truth.uid
    assert "rescheduleId" not in payload
    assert len(payload["attendees"]) == 1 < len(truth.attendees)


def test_a_moved_seat_leaves_the_old_class_living() -> None:
    payload = payloads("seat_moved")[-1]
    old, new = play("seat_moved").truth
    assert (payload["rescheduleUid"], payload["uid"]) == (old.uid, new.uid)
    assert payload.keys().isdisjoint({"rescheduleId", "rescheduleStartTime"})
    assert old.rescheduled_to is None
    assert old.attendees.isdisjoint(new.attendees)


def test_a_no_show_names_the_booking_otherwise_and_can_be_taken_back() -> None:
    *_, marked, unmarked = payloads("no_show_unmarked")
    assert marked.keys() == {"message", "attendees", "bookingUid", "bookingId"}
    assert [marked["attendees"][0]["noShow"], unmarked["attendees"][0]["noShow"]] == [True, False]


def test_absence_from_a_call_names_the_missing_side() -> None:
    host = payloads("host_absent_from_call")[2]
    guests = payloads("guests_absent_from_call")[2]
    assert "hostEmail" in host
    assert "guests" not in host
    assert guests["guests"] == guests["attendees"]
    assert "uid" not in host | guests


def test_a_series_has_a_uid_for_each_week_and_no_common_id() -> None:
    series = payloads("recurring_series")
    assert len({payload["uid"] for payload in series}) == len(series) == series[0]["recurringEvent"]["count"]
    assert all("recurringEventId" not in payload for payload in series)


def test_a_new_host_is_the_organizer_of_a_reassigned_booking() -> None:
    payload = payloads("reassigned")[-1]
    assert payload["addedHostUserIds"] == [payload["organizer"]["id"]] != payload["removedHostUserIds"]


def test_a_meeting_may_end_under_a_uid_that_has_moved_on() -> None:
    ended = bodies("ended_after_move")[-1]
    old, _ = play("ended_after_move").truth
    assert (ended["uid"], old.status) == (old.uid, "rescheduled")


def test_only_the_newer_webhook_version_brings_calendar_files() -> None:
    seen = set()
    for seed in SEEDS:
        for sent in play("created", seed=seed).deliveries:
            payload = json.loads(json_bytes(sent))["payload"]
            has_files = {"attendeeIcsContent", "organizerIcsContent"} <= payload.keys()
            assert has_files == (sent.webhook_version == "2026-07-27")
            seen.add(has_files)
    assert seen == {True, False}


def test_bodies_with_a_whole_booking_have_a_realistic_size() -> None:
    sizes = [
        len(delivery.body)
        for delivery in simulate(seed=1, now=NOW, bookings=1000, secret=SECRET, noise_share=0)
        if delivery.trigger.startswith("BOOKING_") and delivery.trigger != "BOOKING_NO_SHOW_UPDATED"
    ]
    assert min(sizes) >= 1500
    assert max(sizes) <= 4000
    assert sum(sizes) / len(sizes) < 3000
