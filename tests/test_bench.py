"""`booking-ledger bench`: every work runs, at a tiny size, and says what it is meant to say. No figure is judged."""

import asyncio
import contextlib
import functools
import math
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import asyncpg
import msgspec
import pytest

from api.bench import appending, asking, projecting, proving, rebuilding, receiving, seeing, starting, storing
from api.bench.bodies import patterns
from api.bench.load import Loaded, Order, next_run, put_load
from api.bench.machine import machine_told, this_machine
from api.bench.memory import Peaks, memory_mib
from api.bench.peers import appends, each_event, emmett, library_appends, message_db, tutorial
from api.bench.pictures import picture
from api.bench.plan import Bench, Plan, sizes_up_to
from api.bench.queries import Timed
from api.bench.rounds import Comparison, Contender, Sample, compare, in_figure, keeping, led_by, percentile, told_once
from api.bench.servers import SECRET, Databases, our_server, peer_server
from api.bench.works import WORKS
from ledger.calcom.envelope import open_envelope
from ledger.errors import OperatorError
from ledger.postgres import connect
from tests.serving import run

EVENTS = 300
BOOKINGS_ASKED = 1_000
STALL_SECONDS = 0.3
MIB = 1024 * 1024

PLAN = Plan(
    rounds=1,
    rounds_heavy=1,
    seconds=0.2,
    sizes=(EVENTS // 2, EVENTS),
    bookings=20,
    bookings_asked=(BOOKINGS_ASKED, 2 * BOOKINGS_ASKED),
    query_runs=2,
)

TAKING_PART: dict[str, set[str]] = {
    "folding": {
        "ours",
        "eventsourcing @event, JSON transcoder",
        "msgspec, parsed to plain JSON alone",
    },
    "append": {appending.OURS, library_appends.NAME, appends.UNORDERED, appends.LOCKED, appends.COPIED},
    "webhook": {
        receiving.OURS,
        receiving.OURS_WITH_WORKER,
        receiving.BARE,
        receiving.LITESTAR,
        receiving.LITESTAR_TUTORIAL,
        receiving.FLASK_TUTORIAL,
        receiving.UNREAD,
    },
    "visible": {seeing.OURS},
    "projection": {projecting.OURS_ALONE, projecting.OURS_ALL, projecting.LIBRARY, each_event.NAME},
    "rebuild": {
        rebuilding.FROM_BODIES,
        rebuilding.FROM_FACTS,
        rebuilding.READING,
        rebuilding.COPYING,
        projecting.LIBRARY,
    },
    "queries": {f"{BOOKINGS_ASKED:,} bookings", f"{2 * BOOKINGS_ASKED:,} bookings"},
    "verify": {proving.OURS, proving.HASHING, rebuilding.READING},
    "disk": {storing.OURS, storing.BODY, storing.AS_JSONB, storing.AS_BYTEA},
    "growth": {f"into a log of {events:,} events" for events in PLAN.sizes},
    "start": {starting.OURS, receiving.LITESTAR_TUTORIAL, starting.HELP, starting.PYTHON},
}


@contextlib.contextmanager
def untold(_what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda _done, _total: None


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(PLAN, untold) as running:
        yield running


@pytest.fixture(scope="module")
def databases(bench: Bench) -> Databases:
    return bench.databases()


@functools.cache
def measured(bench: Bench, name: str) -> list[Comparison]:
    """What a work told; it is done once."""
    return WORKS[name].load()(bench)


async def fetch(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await connect(dsn)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


# Works


def test_every_work_is_listed_with_what_it_compares() -> None:
    assert set(TAKING_PART) == set(WORKS)
    assert all(work.about.endswith(".") for work in WORKS.values())


@pytest.mark.parametrize("name", TAKING_PART)
def test_a_work_measures_everybody_who_is_to_take_part(name: str, bench: Bench) -> None:
    compared = measured(bench, name)
    assert {one.name for told in compared for one in told.measured} == TAKING_PART[name]
    for told in compared:
        assert told.title
        assert told.unit
        assert all(math.isfinite(one.median) and one.median > 0 for one in told.measured), told
        assert all(one.lowest <= one.median <= one.highest for one in told.measured), told
        assert told.measured[0].ratio == 1.0
        figures = [spread for one in told.measured for spread in one.figures.values()]
        assert all(math.isfinite(spread.median) and spread.median >= 0 for spread in figures), told
    assert len({told.title for told in compared}) == len(compared)


def test_a_rebuild_is_measured_at_every_size_and_tells_its_memory(bench: Bench) -> None:
    compared = measured(bench, "rebuild")
    curve = [told for told in compared if told.curve == "rebuild"]
    assert [told.size for told in curve] == [*PLAN.sizes]
    memory = [told for told in compared if told.unit == "MiB"]
    assert [one.name for told in memory for one in told.measured] == [rebuilding.FROM_BODIES, rebuilding.FROM_FACTS] * 2


def test_a_live_projection_is_held_against_the_others_by_one_read_model_as_they_have_one(bench: Bench) -> None:
    (told,) = measured(bench, "projection")
    ours = told.measured[0]
    assert (ours.name, ours.goal) == (projecting.OURS_ALONE, 40_000)
    assert {one.name: one.goal for one in told.measured[1:]} == {
        projecting.OURS_ALL: None,
        projecting.LIBRARY: 15,
        each_event.NAME: None,
    }
    assert all(one.ratio == pytest.approx(ours.median / one.median) for one in told.measured)


def test_queries_are_told_once_each_from_the_most_bookings_to_the_fewest() -> None:
    timed = [
        Timed(query="today", bookings=size, runs=1, p50_ms=milliseconds, p99_ms=9.0)
        for size, milliseconds in ((10_000, 2.0), (1_000_000, 3.0), (100_000, 2.5))
    ]
    told = asking.compared(timed)
    assert [one.name for one in told.measured] == ["1,000,000 bookings", "100,000 bookings", "10,000 bookings"]
    assert [one.goal for one in told.measured] == [asking.GOAL_MS, None, 1 / asking.GROWTH_MAX]
    assert told.measured[2].ratio == pytest.approx(2 / 3)


def test_those_whose_packages_are_not_here_are_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node_modules in (None, tmp_path):
        for peer in (message_db, emmett):
            skipped = peer.contender("", [], node_modules, callers=1, seconds=0.1)
            assert not isinstance(skipped, Contender)
            assert skipped.name == peer.NAME
            assert peer.PACKAGE in skipped.why or "node" in skipped.why
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert emmett.contender("", [], tmp_path, callers=1, seconds=0.1) == msgspec.structs.replace(
        emmett.contender("", [], None, callers=1, seconds=0.1), why="needs node"
    )


async def test_the_statements_of_those_we_are_measured_against_fit_their_tables(databases: Databases) -> None:
    refused = {}
    connection = await asyncpg.connect(databases.peers)
    try:
        for name, statement in (*appends.SQL.items(), *tutorial.SQL.items()):
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
    finally:
        await connection.close()
    assert (refused, bool(appends.SQL), bool(tutorial.SQL)) == ({}, True, True)


# Load


async def count_recorded(databases: Databases) -> int:
    rows = await fetch(databases.ours, "SELECT count(*) AS recorded FROM ledger.events WHERE source = 'webhook'")
    return int(rows[0]["recorded"])


@pytest.mark.parametrize("rate", [None, 200.0])
async def test_the_load_generator_counts_what_the_server_counted(databases: Databases, rate: float | None) -> None:
    before = await count_recorded(databases)
    with our_server(databases.ours, "--no-worker") as web:
        order = Order(port=web.port, secret=SECRET, run=next_run(), connections=8, seconds=0.4, rate=rate)
        loaded = await asyncio.to_thread(put_load, order)
    assert set(loaded.statuses) == {"200"}
    assert loaded.lost == 0
    assert loaded.statuses["200"] == await count_recorded(databases) - before
    assert 0 < loaded.p50_ms <= loaded.p99_ms
    assert loaded.processor_share > 0
    if rate is not None:
        sent = rate * (order.warm_seconds + order.seconds)
        assert sent - 2 <= loaded.statuses["200"] <= sent


async def test_a_tutorials_receiver_keeps_what_it_answers_for(databases: Databases) -> None:
    modules = {
        "Litestar": (sys.executable, "-m", "api.bench.peers.litestar_tutorial"),
        "Flask": receiving.gunicorn_command(),
    }
    for name, command in modules.items():
        [before] = await fetch(databases.peers, "SELECT count(*) AS logged FROM webhook_logs")
        with peer_server(*command, dsn=databases.peers) as web:
            order = Order(port=web.port, secret=SECRET, run=next_run(), connections=4, seconds=0.2)
            loaded = await asyncio.to_thread(put_load, order)
        [after] = await fetch(databases.peers, "SELECT count(*) AS logged FROM webhook_logs")
        assert loaded.statuses == {"200": after["logged"] - before["logged"]}, name
    [shown] = await fetch(databases.peers, "SELECT count(*) AS bookings FROM calendar_events WHERE title IS NOT NULL")
    assert shown["bookings"] > 0


@pytest.mark.parametrize("module", ["bare", "litestar_verifying", "litestar_tutorial"])
def test_who_is_measured_against_us_verifies(module: str, databases: Databases) -> None:
    with peer_server(sys.executable, "-m", f"api.bench.peers.{module}", dsn=databases.peers) as web:
        loaded = put_load(Order(port=web.port, secret="another", run=next_run(), connections=2, seconds=0.1))
    assert set(loaded.statuses) == {"401"}
    with pytest.raises(OperatorError, match="only 0 were answered 200"):
        receiving.checked(loaded)


class Stalling(asyncio.Protocol):
    """Answers nobody for a while from the first request on, then everybody at once."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    held: list[asyncio.BaseTransport] | None = None
    is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"}"):
            return
        if Stalling.is_over:
            self.transport.write(self.answer)  # type: ignore[attr-defined]  # of a stream
            return
        if Stalling.held is None:
            Stalling.held = []
            asyncio.get_running_loop().call_later(STALL_SECONDS, Stalling.release)
        Stalling.held.append(self.transport)

    @classmethod
    def release(cls) -> None:
        cls.is_over = True
        for transport in cls.held or ():
            transport.write(cls.answer)  # type: ignore[attr-defined]  # of a stream


async def test_an_open_loop_charges_a_stall_to_everybody_it_kept_waiting() -> None:
    server = await asyncio.get_running_loop().create_server(Stalling, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        order = Order(
            port=port, secret=SECRET, run=1, connections=2, seconds=1.25 * STALL_SECONDS, warm_seconds=0.0, rate=500.0
        )
        loaded = await asyncio.to_thread(put_load, order)
    assert loaded.p99_ms > STALL_SECONDS * 1000 / 2
    # Most were due during the stall, though no more than two could be sent: those alone would be a hundredth.
    assert loaded.p50_ms > STALL_SECONDS * 1000 / 20
    assert loaded.statuses["200"] > 500 * STALL_SECONDS


def test_every_booking_of_a_load_is_another_one() -> None:
    named = [pattern.named(serial) for pattern in patterns()[:3] for serial in (0, 1, 10**9)]
    envelopes = [open_envelope(body) for body, _ in named]
    assert [envelope.uid for envelope in envelopes] == [uid for _, uid in named]
    assert len({envelope.uid for envelope in envelopes[:3]}) == 3
    assert len({envelope.number for envelope in envelopes[:3]}) == 3


# Rounds


def counted(turns: list[str], name: str, value: float, **figures: float) -> Contender:
    def measure() -> Sample:
        turns.append(name)
        return Sample(value=value, figures=figures)

    return Contender(name=name, run=measure, prepare=lambda: turns.append(f"{name} prepares"))


def compared_with(**values: float) -> Comparison:
    return compare("work", "units/s", [counted([], name, value) for name, value in values.items()], rounds=1)


def test_everybody_has_a_turn_in_every_round_after_making_ready() -> None:
    turns: list[str] = []
    told = compare("work", "units/s", [counted(turns, "ours", 8.0), counted(turns, "peer", 2.0)], rounds=2)
    assert turns == ["ours prepares", "ours", "peer prepares", "peer"] * 2
    assert [(one.name, one.median, one.ratio) for one in told.measured] == [("ours", 8.0, 1.0), ("peer", 2.0, 4.0)]


def test_who_counts_units_is_timed() -> None:
    told = compare("work", "units/s", [Contender(name="ours", run=lambda: 1_000)], rounds=3)
    assert told.measured[0].lowest <= told.measured[0].median <= told.measured[0].highest
    assert told.measured[0].median > 1_000


def test_a_ratio_above_one_means_ours_is_better_whatever_is_measured() -> None:
    [_, slower] = compare("work", "ms", [counted([], "ours", 2.0), counted([], "peer", 8.0)], rounds=1).measured
    [_, worse] = compare(
        "work", "ms", [counted([], "ours", 2.0), counted([], "peer", 8.0)], rounds=1, better="less"
    ).measured
    assert (slower.ratio, worse.ratio) == (0.25, 4.0)


def test_a_figure_seen_beside_the_rate_makes_a_comparison_of_its_own() -> None:
    contenders = [counted([], "ours", 9.0, late=1.0), counted([], "peer", 1.0, late=3.0), counted([], "limit", 1.0)]
    told = compare("work", "units/s", contenders, rounds=1, goals={"peer": 2.0})
    late = in_figure(told, "late", title="late", unit="ms", goals={"ours": 5.0})
    assert (late.better, late.unit, late.curve) == ("less", "ms", "")
    assert [(one.name, one.median, one.ratio, one.goal) for one in late.measured] == [
        ("ours", 1.0, 1.0, 5.0),
        ("peer", 3.0, 3.0, None),
    ]
    assert [one.goal for one in told.measured] == [None, 2.0, None]
    assert [list(one.figures) for one in keeping(told).measured] == [[], [], []]


def test_another_of_ours_is_held_against_the_same_measurements() -> None:
    told = led_by(compared_with(ours=8.0, other=4.0, peer=2.0), "other", ["peer", "absent"], title="other")
    assert [(one.name, one.ratio) for one in told.measured] == [("other", 1.0), ("peer", 2.0)]


def test_a_percentile_is_a_value_that_was_seen() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert (percentile(hundred, 0.5), percentile(hundred, 0.99), percentile([7.0], 0.99)) == (51.0, 100.0, 7.0)


@pytest.mark.parametrize(
    ("events", "sizes"),
    [(500, (500,)), (10_000, (10_000,)), (100_000, (10_000, 100_000)), (250_000, (10_000, 100_000, 250_000))],
)
def test_a_curve_goes_up_in_powers_of_ten(events: int, sizes: tuple[int, ...]) -> None:
    assert sizes_up_to(events) == sizes


# Where and how


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cores > 0
    assert machine.fdatasync_ms > 0
    assert f"{machine.cores} cores" in machine_told(machine)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
def test_the_memory_of_a_process_and_of_its_children_is_told_apart() -> None:
    child = f"held = bytearray({64 * MIB}); print(len(held), flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with Peaks(process.pid).watched() as peaks:
        process.stdout.readline()
        seen = threading.Event()
        while not peaks.children_mib or max(peaks.children_mib) < 64:
            seen.wait(0.01)
        process.communicate(b"\n")
    assert [peak > 64 for peak in peaks.children_mib] == [True]
    assert 0 < peaks.own_mib < 64
    assert memory_mib(process.pid, "VmRSS") is None


def test_a_picture_leaves_to_the_table_what_ours_is_held_against_itself_in() -> None:
    told = [
        msgspec.structs.replace(compared_with(ours=1.0, fewer=2.0), title=name, work=name) for name in ("queries", "x")
    ]
    assert "x: " in (drawn := picture(told, "a machine"))
    assert "queries: " not in drawn


def test_a_picture_shows_every_ratio_and_every_curve_for_light_and_dark_pages() -> None:
    told = [
        msgspec.structs.replace(compared_with(**{"ours": 8.0, "a <peer> & others": 2.0}), title=f"{size}", size=size)
        for size in (10, 100)
    ]
    drawn = picture([*(msgspec.structs.replace(one, curve="rebuild") for one in told)], "a machine")
    document = ET.fromstring(drawn)  # noqa: S314  # our own
    texts = [element.text for element in document.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("a <peer> & others") == 3
    assert texts.count("4.00 ×") == 2
    assert len(document.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    assert "prefers-color-scheme: dark" in drawn
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", drawn) == []
    assert told_once("room", "bytes", {"ours": 1.0}).measured[0].name == "ours"


# The command


class Document(msgspec.Struct):
    """What `--json` prints."""

    machine: dict[str, object]
    comparisons: list[Comparison]


def test_the_command_measures_what_is_named_and_draws_it(tmp_path: Path) -> None:
    drawn = tmp_path / "bench.svg"
    ended = run(
        "bench", "disk", "folding", "--quick", "--events", "200", "--rounds", "1", "--json", "--svg", str(drawn)
    )
    assert ended.returncode == 0, ended.stderr
    document = msgspec.json.decode(ended.stdout, type=Document)
    assert [told.work for told in document.comparisons] == ["folding", "folding", "disk"]
    assert document.comparisons[2].size == 200
    assert document.machine["cores"]
    assert "ours: ledger.events" in ended.stdout
    assert drawn.read_text(encoding="utf-8").startswith("<svg")


def test_the_command_tells_people_the_ratio_and_what_was_left_out(tmp_path: Path) -> None:
    ended = run("bench", "append", "--quick", "--rounds", "1", "--node-modules", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "append, 32 callers (events/s)" in ended.stdout
    assert re.search(r"eventsourcing PostgresApplicationRecorder +[\d.]+ × +≥ 20 × (met|missed)", ended.stdout)
    assert f"left out: {message_db.NAME}: needs the npm package {message_db.PACKAGE}" in ended.stdout


def test_help_says_what_each_work_is() -> None:
    ended = run("bench", "--help")
    assert ended.returncode == 0
    assert all(re.search(rf"^  {name} ", ended.stdout, re.MULTILINE) for name in WORKS)
    assert run("bench", "nothing").returncode == 2


def test_answers_that_are_not_fine_are_not_measured() -> None:
    loaded = Loaded(statuses={"200": 985, "202": 15}, lost=0, rate=1, p50_ms=1, p99_ms=1, late_ms=0, processor_share=0)
    with pytest.raises(OperatorError, match="only 985 were answered 200"):
        receiving.checked(loaded)
    assert receiving.checked(msgspec.structs.replace(loaded, statuses={"200": 995, "202": 5})).rate == 1
