"""Reconciliation over HTTP: asking for it, following it, and the report of what differed."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.fake_calcom import KEY as API_KEY
from tests.fake_calcom import FakeCalCom, fake_calcom
from tests.serving import Server, assert_is_problem, deliver_all, run, serving, speaking_to, until
from tests.test_sweeping import created, many, shown

RECONCILE = "/api/admin/reconcile"
DRIFT = "/api/admin/drift"


@pytest.fixture
def fake() -> Iterator[FakeCalCom]:
    with fake_calcom() as server:
        yield server


@pytest.fixture
def reconciling(durable_database: str, fake: FakeCalCom, tmp_path: Path) -> Iterator[Server]:
    """A server with a key to the made-up Cal.com, which has had its first sweeps."""
    with serving(durable_database, tmp_path, CAL_COM_API_KEY=API_KEY, CAL_COM_API_URL=fake.url) as server:
        yield server
    assert "Traceback" not in server.printed(), server.printed()


@pytest_asyncio.fixture
async def http(reconciling: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking_to(reconciling) as client:
        await until(lambda: has_done(client, "full"))
        yield client


async def has_done(client: httpx.AsyncClient, kind: str, cause: str = "schedule") -> bool:
    sweeps = (await client.get(RECONCILE)).json()["sweeps"]
    return any((one["kind"], one["cause"], one["state"]) == (kind, cause, "done") for one in sweeps)


@pytest.mark.system("1.7", "1.10")
async def test_a_wish_is_accepted_carried_out_and_reported(http: httpx.AsyncClient, fake: FakeCalCom) -> None:
    await deliver_all(http, created("one"), created("two"))
    fake.bookings.extend([shown(created("one"), status="cancelled"), shown(created("two"))])
    answer = await http.post(RECONCILE, json={"full": True})
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["kind"], asked["cause"], asked["state"]) == ("full", "request", "waiting")

    await until(lambda: has_done(http, "full", "request"))
    (done,) = [one for one in (await http.get(RECONCILE)).json()["sweeps"] if one["sweep_id"] == asked["sweep_id"]]
    assert {name: done[name] for name in ("seen", "missing", "stale", "observed", "total", "error")} == {
        "seen": 2, "missing": 0, "stale": 1, "observed": 1, "total": 2, "error": None,
    }  # fmt: skip

    (drift,) = (await http.get(DRIFT)).json()["drift"]
    assert (drift["booking"], drift["kind"], drift["field"]) == ("one", "stale", "status")
    assert (drift["ours"], drift["theirs"], drift["sweep_id"]) == ("accepted", "cancelled", asked["sweep_id"])
    assert drift["healed_at"] >= drift["found_at"] > drift["differed_since"]

    history = (await http.get("/api/bookings/one/history")).json()["history"]
    assert history[-1]["trigger"] == "calcom.observed"
    assert {"field": "booking_status", "before": "accepted", "after": "cancelled"} in history[-1]["changes"]


async def test_without_a_body_what_has_changed_is_read(http: httpx.AsyncClient) -> None:
    assert (await http.post(RECONCILE)).json()["kind"] == "incremental"


async def test_a_second_wish_is_the_first(http: httpx.AsyncClient, fake: FakeCalCom) -> None:
    fake.bookings.extend(many(3))
    told = [(await http.post(RECONCILE, json={"full": True})).json()["sweep_id"] for _ in range(2)]
    sweeps = {one["sweep_id"] for one in (await http.get(RECONCILE)).json()["sweeps"]}
    assert set(told) <= sweeps


@pytest.mark.parametrize("body", [b"nonsense", b'{"full":"yes"}', b'{"fully":true}', b"[]", b"\xff"])
async def test_a_wish_that_cannot_be_understood_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    assert_is_problem(await http.post(RECONCILE, content=body), 400)


async def test_a_ledger_that_is_not_there_is_not_reconciled(http: httpx.AsyncClient) -> None:
    assert_is_problem(await http.post(RECONCILE, params={"ledger": "other"}), 404)


def test_without_a_key_a_wish_says_what_is_missing(shared_server: Server) -> None:
    with httpx.Client(base_url=shared_server.url, headers={"authorization": f"Bearer {shared_server.key}"}) as client:
        detail = assert_is_problem(client.post(RECONCILE), 503)
    assert "CAL_COM_API_KEY" in detail


def test_reconciling_is_for_admins(shared_server: Server) -> None:
    created_key = run(
        "keys", "create", "--role", "operator", "--name", "till", "--json", DATABASE_URL=shared_server.dsn
    )
    assert created_key.returncode == 0, created_key.stderr
    key = json.loads(created_key.stdout)["key"]
    with httpx.Client(base_url=shared_server.url, headers={"authorization": f"Bearer {key}"}) as client:
        for answer in (client.post(RECONCILE), client.get(RECONCILE), client.get(DRIFT)):
            assert_is_problem(answer, 403)


async def test_the_report_is_paged_and_narrowed(http: httpx.AsyncClient, fake: FakeCalCom) -> None:
    await deliver_all(http, *[created(f"gone{number}") for number in range(3)], created("uid000"))
    fake.bookings.extend(many(4))
    fake.find("uid000")["status"] = "cancelled"
    await http.post(RECONCILE, json={"full": True})
    await until(lambda: has_done(http, "full", "request"))

    pages, cursor = [], None
    while True:
        page = (await http.get(DRIFT, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        pages.append(page["drift"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    rows = [row for page in pages for row in page]
    found = [datetime.fromisoformat(row["found_at"]) for row in rows]
    assert found == sorted(found, reverse=True)
    told = {(row["booking"], row["kind"], row["healed_at"] is None) for row in rows}
    assert told == {
        *[(f"uid00{number}", "missing", False) for number in (1, 2, 3)],
        *[(f"gone{number}", "extra", True) for number in range(3)],
        ("uid000", "stale", False),
    }
    assert len(rows) == len(told)

    async def listed(**narrowed: str) -> set[str]:
        return {row["booking"] for row in (await http.get(DRIFT, params=narrowed)).json()["drift"]}

    assert await listed(state="open") == {"gone0", "gone1", "gone2"}
    assert await listed(state="healed", kind="stale") == {"uid000"}
    assert await listed(kind="missing") == {"uid001", "uid002", "uid003"}
    assert await listed(booking="uid002") == {"uid002"}
    assert await listed(booking="nobody") == set()


@pytest.mark.parametrize("query", ["state=ajar", "kind=odd", "cursor=odd", "limit=0", "booking=%00"])
async def test_a_report_that_cannot_be_asked_for_is_refused(shared_server: Server, query: str) -> None:
    async with speaking_to(shared_server) as client:
        assert_is_problem(await client.get(f"{DRIFT}?{query}"), 400)


async def test_turns_and_alarms_are_shown(http: httpx.AsyncClient) -> None:
    told = (await http.get(RECONCILE)).json()
    assert {turn["job"] for turn in told["turns"]} >= {"full", "incremental"}
    assert told["alarms"] == []
