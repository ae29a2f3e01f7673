"""`booking-ledger webhooks` on a fake Cal.com and a real receiver, and what `doctor` says of the API key."""

import copy
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from api.simulator.each_trigger import one_of_each
from ledger.calcom.addresses import Ourselves, is_private, refuse_unsafe
from ledger.calcom.subscriptions import SUBSCRIBABLE
from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.errors import UnsafeReceiver
from tests.builders import NOON
from tests.fake_calcom import KEY, FakeCalCom, Fault, fake_calcom
from tests.fake_calcom_answers import HOSTED_TRIGGERS, SPEC_TRIGGERS
from tests.serving import SECRET, Server, connected, free_port, run

PUBLIC_URL = "https://ledger.example.com"
OURS = f"{PUBLIC_URL}/api/webhooks/cal-com"
THEIRS = "https://elsewhere.example.com/api/webhooks/cal-com"
PATHS = ("/api/webhooks/cal-com", "/api/webhooks/calcom")
PRODUCTION = "https://api.cal.com/v2"


@pytest.fixture
def fake() -> Iterator[FakeCalCom]:
    with fake_calcom() as server:
        yield server


def asked(fake: FakeCalCom, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """`booking-ledger webhooks …` with that server's key and our settings."""
    ours = {"CAL_COM_API_URL": fake.url, "CAL_COM_API_KEY": KEY, "PUBLIC_URL": PUBLIC_URL}
    ended = run("webhooks", *words, **{**ours, "CAL_COM_WEBHOOK_SECRET": f"{SECRET},older", **settings})
    assert "Traceback" not in ended.stderr, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert KEY not in ended.stdout + ended.stderr
    return ended


def registered(fake: FakeCalCom, *words: str, **settings: str) -> Any:
    """What `register --json` tells."""
    ended = asked(fake, "register", "--json", *words, **settings)
    assert (ended.returncode, ended.stderr) == (0, "")
    return msgspec.json.decode(ended.stdout)


def assert_refused(ended: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """One sentence on standard error with these words, and exit code 2."""
    assert (ended.returncode, ended.stdout) == (2, "")
    assert [word for word in words if word not in ended.stderr] == []


def put(fake: FakeCalCom, url: str, *, owner: str = "webhooks", **fields: Any) -> dict[str, Any]:
    """A webhook that is there already, made by hand."""
    webhook = {
        "id": f"hook-{len(fake.webhooks)}",
        "owner": owner,
        "subscriberUrl": url,
        "active": True,
        "secret": SECRET,
        "payloadTemplate": None,
        "triggers": ["BOOKING_CREATED"],
        **fields,
    }
    fake.webhooks.append(webhook)
    return webhook


def writes(fake: FakeCalCom) -> list[int]:
    """What requests that change something were answered with."""
    return [seen.status for seen in fake.requests if seen.method != "GET"]


# register


@pytest.mark.system("2.5")
def test_registering_makes_a_webhook_for_every_trigger_with_our_secret_and_a_second_time_changes_nothing(
    fake: FakeCalCom,
) -> None:
    first = registered(fake)
    [webhook] = fake.webhooks
    assert (first["action"], first["id"], first["url"], first["left_out"]) == ("created", webhook["id"], OURS, [])
    assert set(webhook["triggers"]) == set(HOSTED_TRIGGERS) == SUBSCRIBABLE
    assert (webhook["subscriberUrl"], webhook["secret"], webhook["active"]) == (OURS, SECRET, True)
    assert (webhook["payloadTemplate"], webhook["time"], webhook["timeUnit"]) == (None, 5, "MINUTE")
    before = copy.deepcopy(fake.webhooks)
    fake.requests.clear()
    second = registered(fake)
    assert (second["action"], second["id"], second["changed"]) == ("unchanged", webhook["id"], [])
    assert (fake.webhooks, writes(fake)) == (before, [])
    told = asked(fake, "register")
    assert told.stdout == f"Nothing to change: webhook {webhook['id']} to {OURS}, 28 triggers.\n"


@pytest.mark.parametrize("refusals", ["values", "names", "terse"])
@pytest.mark.parametrize("unknown_properties", ["refused", "dropped"])
def test_triggers_that_the_account_does_not_accept_are_left_out_and_named(
    refusals: Any, unknown_properties: Any, fake: FakeCalCom
) -> None:
    fake.triggers, fake.hosted = SPEC_TRIGGERS, False
    fake.trigger_refusals, fake.unknown_properties = refusals, unknown_properties
    first = registered(fake, "--url", "http://127.0.0.1:8000/api/webhooks/cal-com")
    assert first["action"] == "created"
    [webhook] = fake.webhooks
    assert set(webhook["triggers"]) == set(first["triggers"]) == set(SPEC_TRIGGERS)
    assert set(first["left_out"]) == set(HOSTED_TRIGGERS) - set(SPEC_TRIGGERS)
    before = copy.deepcopy(fake.webhooks)
    again = registered(fake, "--url", "http://127.0.0.1:8000/api/webhooks/cal-com")
    assert (again["action"], fake.webhooks) == ("unchanged", before)
    assert set(again["left_out"]) == set(first["left_out"])
    assert len(writes(fake)) < 10


def test_a_release_with_few_triggers_gets_what_it_has(fake: FakeCalCom) -> None:
    fake.triggers = tuple(name for name in SPEC_TRIGGERS if name.startswith(("BOOKING_", "MEETING_")))
    for refusals in ("terse", "values"):
        fake.trigger_refusals = refusals
        fake.webhooks.clear()
        told = asked(fake, "register").stdout
        assert set(fake.webhooks[0]["triggers"]) == set(fake.triggers)
        assert "Left out, since this account does not accept them: AFTER_GUESTS_CAL_VIDEO_NO_SHOW, " in told


def test_our_webhook_is_brought_up_to_date_and_keeps_what_it_has_besides(fake: FakeCalCom) -> None:
    webhook = put(
        fake,
        OURS.replace("ledger.example", "LEDGER.example") + "/",
        active=False,
        secret="outdated",
        payloadTemplate='{"x":"{{title}}"}',
        triggers=["BOOKING_CREATED", "AFTER_HOSTS_CAL_VIDEO_NO_SHOW"],
        time=2,
        timeUnit="HOUR",
    )
    updated = registered(fake)
    assert updated["action"] == "updated"
    assert set(updated["changed"]) == {"active", "secret", "payloadTemplate", "triggers", "time", "timeUnit"}
    assert (webhook["active"], webhook["secret"], webhook["payloadTemplate"]) == (True, SECRET, None)
    assert (webhook["time"], webhook["timeUnit"]) == (2, "HOUR")
    assert len(fake.webhooks) == 1
    webhook["secret"] = "older"
    assert registered(fake)["changed"] == ["secret"], "the first secret signs; the others are for receiving"


def test_nobody_elses_webhook_is_touched(fake: FakeCalCom) -> None:
    others = [put(fake, THEIRS, secret="theirs"), put(fake, f"{PUBLIC_URL}/another/program")]
    ledger_of_ours = put(fake, f"{OURS}/second-ledger")
    before = copy.deepcopy([*others, ledger_of_ours])
    made = registered(fake)
    assert made["action"] == "created"
    assert made["also_ours"] == [ledger_of_ours["id"]]
    assert fake.webhooks[:3] == before
    for other in others:
        assert_refused(asked(fake, "delete", other["id"]), other["id"], other["subscriberUrl"], "--force")
    assert_refused(asked(fake, "delete", "nobody"), "There is no webhook nobody")
    assert len(fake.webhooks) == 4
    deleted = asked(fake, "delete", made["id"])
    assert (deleted.returncode, deleted.stdout) == (0, f"Deleted {made['id']}, which led to {OURS}.\n")
    assert asked(fake, "delete", others[0]["id"], "--force").returncode == 0
    assert fake.webhooks == before[1:]


OWNERS = {
    "--event-type 7": "event-types/7/webhooks",
    "--team-event-type 3/7": "teams/3/event-types/7/webhooks",
    "--organization 5": "organizations/5/webhooks",
}


@pytest.mark.parametrize("words", OWNERS)
def test_webhooks_of_an_event_type_a_team_or_an_organization_are_kept_apart(words: str, fake: FakeCalCom) -> None:
    owner = words.split()
    made = registered(fake, *owner)
    assert made["action"] == "created"
    assert registered(fake, *owner)["action"] == "unchanged"
    assert [webhook["owner"] for webhook in fake.webhooks] == [OWNERS[words]]
    assert asked(fake, "list").stdout == "No webhooks.\n"
    assert made["id"] in asked(fake, "list", *owner).stdout
    assert_refused(asked(fake, "delete", made["id"]), "There is no webhook")
    assert asked(fake, "delete", made["id"], *owner).returncode == 0
    assert fake.webhooks == []


def test_a_webhook_that_was_made_although_nobody_said_so_is_found_the_next_time(fake: FakeCalCom) -> None:
    fake.faults.extend([None, Fault(kind="lost")])
    assert_refused(asked(fake, "register"), "does not answer POST /webhooks for now", "try again later")
    assert len(fake.webhooks) == 1
    assert registered(fake)["action"] == "unchanged"


def test_a_refusal_that_is_not_about_triggers_is_told(fake: FakeCalCom) -> None:
    told = asked(fake, "register", "--url", "https://localhost/api/webhooks/cal-com")
    assert_refused(told, "rejects POST /webhooks (400, subscriberUrl property is wrong")
    assert writes(fake) == [400]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"CAL_COM_API_KEY": ""}, ["CAL_COM_API_KEY must be set"]),
        ({"CAL_COM_API_KEY": "cal_wrong"}, ["refuses CAL_COM_API_KEY (401", "make a key in Cal.com"]),
        ({"PUBLIC_URL": ""}, ["PUBLIC_URL must be set, or --url given"]),
        ({"CAL_COM_WEBHOOK_SECRET": ""}, ["CAL_COM_WEBHOOK_SECRET must be set"]),
    ],
    ids=str,
)
def test_what_is_missing_is_named(changed: dict[str, str], words: list[str], fake: FakeCalCom) -> None:
    assert_refused(asked(fake, "register", **changed), *words)
    assert fake.webhooks == []


WRONG_WORDS = [
    ["register", "--event-type", "7", "--organization", "5"],
    ["register", "--team-event-type", "7"],
    ["register", "--team-event-type", "a/b"],
    ["register", "--url", "ftp://ledger.example.com"],
    ["register", "--url", "https://me:hunter2@ledger.example.com"],
    ["delete"],
    ["send-test", "--trigger", "BOOKING_LOST"],
    ["send-test", "--url", "https://ledger.example.com/api/webhooks/cal-com"],
    ["send-test", "--url", "http://10.0.0.1/api/webhooks/cal-com"],
    ["simulate", "--url", "http://127.0.0.1.example.com/"],
    ["simulate", "--rate", "0"],
]


@pytest.mark.parametrize("words", WRONG_WORDS, ids=" ".join)
def test_wrong_use_ends_with_2_and_asks_nobody(words: list[str], fake: FakeCalCom) -> None:
    assert_refused(asked(fake, *words))
    assert writes(fake) == []


# Addresses

UNREACHABLE_FOR_CAL_COM = [
    *("https://localhost/x", "https://127.0.0.1/x", "https://[::1]/x", "https://10.1.2.3/x", "https://192.168.0.9/x"),
    *("https://172.16.0.1/x", "https://169.254.169.254/x", "https://100.64.0.1/x", "https://[fd00::1]/x"),
    *("https://[::ffff:10.0.0.1]/x", "https://0.0.0.0/x", "https://224.0.0.1/x", "https://127.1/x"),
    *("https://2130706433/x", "https://0x7f.1/x", "https://receiver/x", "https://receiver.local/x"),
    *("https://receiver.internal./x", "https://RECEIVER.LAN/x", "http://127.0.0.1:8000/x"),
]
TUNNELLED = [
    *("https://1a2b.ngrok.io/x", "https://1a2b.ngrok-free.app/x", "https://a-b-c.trycloudflare.com/x"),
    *("https://mine.loca.lt/x", "https://mine.localtunnel.me/x", "https://MINE.NGROK.APP./x"),
]
FINE = [OURS, "https://93.184.216.34/x", "https://[2606:4700::1]/x", "https://notngrok.io/x", "https://local.example/x"]


@pytest.mark.parametrize("url", [*UNREACHABLE_FOR_CAL_COM, *TUNNELLED, "http://ledger.example.com/x"])
def test_an_address_that_is_nothing_for_a_production_account_is_refused(url: str) -> None:
    with pytest.raises(UnsafeReceiver, match="--force"):
        refuse_unsafe(url, api_url=PRODUCTION)


@pytest.mark.parametrize("url", FINE)
def test_a_public_address_is_fine_for_any_account(url: str) -> None:
    for api_url in (PRODUCTION, "http://127.0.0.1:5555/v2"):
        refuse_unsafe(url, api_url=api_url)
    assert not is_private("ledger.example.com")


def test_beside_a_server_of_ones_own_only_plain_http_over_a_network_is_refused() -> None:
    for url in (*TUNNELLED, *(url for url in UNREACHABLE_FOR_CAL_COM if url.startswith("https"))):
        refuse_unsafe(url, api_url="https://cal.studio.example/v2")
    refuse_unsafe("http://127.0.0.1:8000/x", api_url="http://localhost:5555/v2")
    with pytest.raises(UnsafeReceiver, match="plain http"):
        refuse_unsafe("http://receiver:8000/x", api_url="http://calcom:5555/v2")


@pytest.mark.system("2.5")
def test_an_unsafe_address_is_refused_before_anybody_is_asked_and_force_asks_all_the_same(fake: FakeCalCom) -> None:
    unsafe = ("register", "--url", "https://1a2b.ngrok-free.app/api/webhooks/cal-com")
    assert_refused(asked(fake, *unsafe, CAL_COM_API_URL=PRODUCTION), "is a tunnel", "--force")
    assert_refused(asked(fake, "register", "--url", "http://ledger.example.com/"), "plain http", "--force")
    assert fake.requests == []
    forced = asked(fake, "register", "--url", "http://ledger.example.com/", "--force")
    assert_refused(forced, "subscriberUrl property is wrong")
    assert writes(fake) == [400]


def test_ours_is_our_address_and_our_paths_on_our_host() -> None:
    ours = Ourselves(url=f"{PUBLIC_URL}/behind/a/proxy", public_url=f"{PUBLIC_URL}/cal", paths=PATHS)
    for url in (
        f"{PUBLIC_URL}/behind/a/proxy",
        "HTTPS://LEDGER.example.com:443/behind/a/proxy/",
        f"{PUBLIC_URL}/cal/api/webhooks/calcom",
        f"{PUBLIC_URL}/api/webhooks/cal-com/main",
    ):
        assert ours.own(url), url
    for url in (
        THEIRS,
        PUBLIC_URL,
        f"{PUBLIC_URL}:8443/api/webhooks/cal-com",
        f"{PUBLIC_URL}/api/webhooks/cal-com-2",
        f"{PUBLIC_URL}.evil.example/api/webhooks/cal-com",
        "https://ledger.example.com@evil.example/api/webhooks/cal-com",
        "not a url",
        "https://[broken/api/webhooks/cal-com",
        "https://ledger.example.com:port/api/webhooks/cal-com",
    ):
        assert not ours.own(url), url


# list


def test_webhooks_are_listed_with_whose_they_are_and_without_their_secrets(fake: FakeCalCom) -> None:
    put(fake, OURS)
    put(fake, f"{PUBLIC_URL}/api/cal/handle-cal-event", secret="unknown-one", active=False, payloadTemplate="{}")
    put(fake, "https://elsewhere.example.com/\x1b[31m", secret=None)
    put(fake, THEIRS, secret="older")
    found = msgspec.json.decode(asked(fake, "list", "--json").stdout)
    told = [(one["ours"], one["signed_with"], one["active"], one["has_template"]) for one in found]
    assert told == [
        (True, "our secret", True, False),
        (True, "another secret", False, True),
        (False, "no secret", True, False),
        (False, "our secret", True, False),
    ]
    plain = asked(fake, "list").stdout
    assert plain.count("\n") == 4
    assert "unknown-one" not in plain + str(found)
    assert "\x1b" not in plain
    assert f"inactive, 1 triggers, another secret, with a template  {PUBLIC_URL}/api/cal" in plain


def test_more_webhooks_than_a_page_holds_are_all_listed(fake: FakeCalCom) -> None:
    for number in range(510):
        put(fake, f"https://elsewhere.example.com/{number}")
    put(fake, OURS)
    assert len(msgspec.json.decode(asked(fake, "list", "--json").stdout)) == 511
    assert registered(fake)["action"] == "updated"


# send-test, simulate


def test_there_is_a_delivery_for_every_trigger_and_a_seed_makes_the_same() -> None:
    made = one_of_each(seed=5, now=NOON, secret=b"hush")
    assert set(made) == KNOWN_TRIGGERS
    assert made == one_of_each(seed=5, now=NOON, secret=b"hush")
    for trigger, delivery in made.items():
        body = msgspec.json.decode(delivery.body)
        assert body.get("triggerEvent", body.get("trigger")) == trigger
        assert delivery.occurred_at <= NOON


async def test_a_test_of_every_trigger_is_taken_by_our_own_receiver(shared_server: Server) -> None:
    settings = {"CAL_COM_WEBHOOK_SECRET": SECRET, "PORT": str(shared_server.port)}
    sent = run("webhooks", "send-test", "--json", **settings)
    assert (sent.returncode, sent.stderr) == (0, "")
    answers = msgspec.json.decode(sent.stdout)
    assert {answer["trigger"] for answer in answers} == KNOWN_TRIGGERS
    assert {answer["status"] for answer in answers} == {200}
    one = run("webhooks", "send-test", "--trigger", "booking.created", **settings)
    assert one.returncode == 0
    [line] = one.stdout.splitlines()
    assert line.startswith("200 ")
    assert '"status":"recorded"' in line
    async with connected(shared_server.dsn) as log:
        topics = {row["topic"] for row in await log.fetch("SELECT DISTINCT topic FROM ledger.events")}
    assert len(topics & {f"calcom.{trigger.lower()}" for trigger in KNOWN_TRIGGERS}) == len(KNOWN_TRIGGERS)


def test_a_receiver_that_refuses_or_is_not_there_is_told_of(shared_server: Server) -> None:
    settings = {"CAL_COM_WEBHOOK_SECRET": "another", "PORT": str(shared_server.port)}
    refused = run("webhooks", "send-test", "--trigger", "PING", **settings)
    assert (refused.returncode, refused.stdout[:4]) == (1, "401 ")
    nobody = run("webhooks", "send-test", **{**settings, "PORT": str(free_port())})
    assert_refused(nobody, "Nothing takes deliveries at http://127.0.0.1:", "start the receiver")
    assert_refused(run("webhooks", "simulate", "--bookings", "3"), "CAL_COM_WEBHOOK_SECRET must be set")


def test_whole_lifecycles_are_simulated_at_a_rate(shared_server: Server) -> None:
    url = f"{shared_server.url}/api/webhooks/calcom"
    words = ("webhooks", "simulate", "--url", url, "--bookings", "12", "--seed", "3", "--rate", "100")
    simulated = run(*words, "--json", CAL_COM_WEBHOOK_SECRET=SECRET)
    assert simulated.returncode == 0, simulated.stderr
    told = msgspec.json.decode(simulated.stdout)
    assert told["answers"] == {"200": told["sent"]}
    assert told["seed"] == 3
    assert told["seconds"] >= (told["sent"] - 1) / 100
    assert f"posting webhooks: {told['sent']:,} of {told['sent']:,}" in simulated.stderr
    plain = run("webhooks", "simulate", "--url", url, "--bookings", "2", CAL_COM_WEBHOOK_SECRET=SECRET)
    assert "answered 200. Again the same: --seed " in plain.stdout


# doctor


def of_the_api(**settings: str) -> dict[str, Any]:
    """What `doctor` says of Cal.com's API; the rest of the check is not looked at."""
    away = {"DATABASE_URL": "postgresql://me@127.0.0.1:1/ledger", "PORT": str(free_port())}
    examined = run("doctor", "--json", **away, **settings)
    assert KEY not in examined.stdout + examined.stderr
    checks = msgspec.json.decode(examined.stdout)["checks"]
    found: dict[str, Any] = next(check for check in checks if check["name"] == "cal.com")
    return found


def test_a_doctor_says_whether_the_api_key_works(fake: FakeCalCom) -> None:
    address = {"CAL_COM_API_URL": fake.url}
    works = of_the_api(**address, CAL_COM_API_KEY=KEY)
    assert (works["ok"], works["detail"]) == (True, "the API key works (account studio)")
    wrong = of_the_api(**address, CAL_COM_API_KEY="cal_wrong")
    assert (wrong["ok"], "make a key in Cal.com" in wrong["detail"]) == (False, True)
    fake.faults.append(Fault(kind="error", status=503))
    down = of_the_api(**address, CAL_COM_API_KEY=KEY)
    assert (down["ok"], "try again later" in down["detail"]) == (False, True)
    asked_so_far = len(fake.requests)
    missing = of_the_api(**address)
    assert (missing["ok"], missing["detail"][:27]) == (True, "CAL_COM_API_KEY is not set:")
    assert len(fake.requests) == asked_so_far == 3, "without a key nobody is asked, and with one once"
