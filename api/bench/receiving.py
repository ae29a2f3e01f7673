"""Webhooks over HTTP, from the socket to the answer, beside servers that only verify, and tutorials' receivers.

Each takes its turn with a server process of its own, and a load generator in another (api/bench/load.py). Half of the
rate that a closed loop of 128 connections reached is then sent as an open one. What only verifies keeps nothing: it is
the ceiling, not a peer. What answers unread shows how much the generator could send.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from importlib.util import find_spec

from api.bench.callers import P50, P99
from api.bench.load import Loaded, Order, next_run, put_load
from api.bench.plan import Bench, available
from api.bench.projecting import catch_up
from api.bench.rounds import Comparison, Contender, Sample, Skipped, in_figure, keeping, led_by
from api.bench.servers import SECRET, Databases, Web, our_server, peer_server, settle
from ledger.errors import OperatorError

CONNECTIONS = 128
CONNECTIONS_FEW = 32
FLASK_PROCESSES = 2
FLASK_THREADS = 16
OTHER_ANSWERS_SHARE_MAX = 0.01

OURS = "ours, web alone"
OURS_WITH_WORKER = "ours, read models kept current by its worker"
BARE = "ceiling: bare ASGI on uvicorn, verifies only"
LITESTAR = "ceiling: Litestar handler on uvicorn, verifies only"
LITESTAR_TUTORIAL = "tutorial: Litestar, asyncpg"
FLASK_TUTORIAL = "tutorial: Flask, psycopg, gunicorn"
UNREAD = "generator's limit: a socket that answers unread"

FEW_RATE = f"{CONNECTIONS_FEW} connections requests/s"
HALF_P50 = "half rate p50 ms"
HALF_P99 = "half rate p99 ms"
GENERATOR = "generator share"
GENERATOR_LATE = "generator late ms"

GOALS = {BARE: 0.6, LITESTAR: 1.2, LITESTAR_TUTORIAL: 5.0, FLASK_TUTORIAL: 8.0}
GOALS_WITH_WORKER = {BARE: 0.45}
GOALS_P99 = {BARE: 0.4}
GOALS_HALF_P99 = {OURS: 5.0}

Served = Callable[[], AbstractContextManager[Web]]


def compare_receivers(bench: Bench) -> list[Comparison]:
    """Requests a second, and how long answers take, in a closed loop and an open one."""
    databases = bench.databases()
    contenders, skipped = available(_contenders(databases, bench.plan.seconds))
    told = bench.compare(
        f"webhook, {CONNECTIONS} connections",
        "requests/s",
        contenders,
        rounds=bench.plan.rounds_heavy,
        goals=GOALS,
        skipped=skipped,
    )
    return [
        keeping(told, P50, GENERATOR, GENERATOR_LATE),
        led_by(
            told,
            OURS_WITH_WORKER,
            (BARE, LITESTAR_TUTORIAL, FLASK_TUTORIAL),
            title=f"webhook with read models kept current, {CONNECTIONS} connections",
            goals=GOALS_WITH_WORKER,
        ),
        in_figure(told, FEW_RATE, better="more", title=f"webhook, {CONNECTIONS_FEW} connections", unit="requests/s"),
        in_figure(told, P99, title=f"webhook p99, {CONNECTIONS} connections", unit="ms", goals=GOALS_P99),
        in_figure(told, HALF_P50, title="webhook p50, open loop at half its own rate", unit="ms"),
        in_figure(told, HALF_P99, title="webhook p99, open loop at half its own rate", unit="ms", goals=GOALS_HALF_P99),
    ]


def _contenders(databases: Databases, seconds: float) -> Iterator[Contender | Skipped]:
    def keeping_all(name: str, served: Served, prepare: Callable[[], None]) -> Contender:
        return Contender(name=name, run=lambda: _measure(served, seconds, distinct=True), prepare=prepare)

    def keeping_nothing(name: str, module: str) -> Contender:
        return Contender(name=name, run=lambda: _measure(_python(module), seconds, distinct=False))

    ours, peers = databases.ours, databases.peers
    yield keeping_all(OURS, partial(our_server, ours, "--no-worker"), lambda: settle(ours))
    yield keeping_all(OURS_WITH_WORKER, partial(our_server, ours), lambda: catch_up(ours))
    yield keeping_nothing(BARE, "bare")
    yield keeping_nothing(LITESTAR, "litestar_verifying")
    yield keeping_all(LITESTAR_TUTORIAL, _python("litestar_tutorial", dsn=peers), lambda: settle(peers))
    if find_spec("flask") and find_spec("gunicorn") and find_spec("psycopg_pool"):
        flask = partial(peer_server, *gunicorn_command(), dsn=peers)
        yield keeping_all(FLASK_TUTORIAL, flask, lambda: settle(peers))
    else:
        yield Skipped(name=FLASK_TUTORIAL, why="needs the extra booking-ledger[bench]")
    yield Contender(name=UNREAD, run=lambda: _measure_generator(seconds))


def _python(module: str, *, dsn: str = "") -> Served:
    return partial(peer_server, sys.executable, "-m", f"api.bench.peers.{module}", dsn=dsn)


def gunicorn_command() -> tuple[str, ...]:
    options = ("--worker-class=gthread", f"--workers={FLASK_PROCESSES}", f"--threads={FLASK_THREADS}")
    return (
        *(sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:{port}", "--log-level=error", *options),
        "api.bench.peers.flask_tutorial:app",
    )


def _measure(served: Served, seconds: float, *, distinct: bool) -> Sample:
    """What a server did with few connections, with many, and at half the rate that it reached with many."""
    with served() as web:
        few = put_checked_load(web, CONNECTIONS_FEW, seconds, distinct=distinct)
        many = put_checked_load(web, CONNECTIONS, seconds, distinct=distinct)
        half = put_checked_load(web, CONNECTIONS, seconds, rate=many.rate / 2, distinct=distinct)
    return Sample(
        value=many.rate,
        figures={
            P50: many.p50_ms,
            P99: many.p99_ms,
            FEW_RATE: few.rate,
            HALF_P50: half.p50_ms,
            HALF_P99: half.p99_ms,
            GENERATOR: many.processor_share,
            GENERATOR_LATE: half.late_ms,
        },
    )


def _measure_generator(seconds: float) -> Sample:
    """How much it sends to a server that takes no time, and what that costs it."""
    with _python("unread")() as web:
        few = put_checked_load(web, CONNECTIONS_FEW, seconds, distinct=False)
        many = put_checked_load(web, CONNECTIONS, seconds, distinct=False)
    return Sample(value=many.rate, figures={P50: many.p50_ms, FEW_RATE: few.rate, GENERATOR: many.processor_share})


def put_checked_load(
    web: Web, connections: int, seconds: float, *, rate: float | None = None, distinct: bool = True
) -> Loaded:
    order = Order(
        port=web.port,
        secret=SECRET,
        run=next_run(),
        connections=connections,
        seconds=seconds,
        rate=rate,
        distinct=distinct,
    )
    return checked(put_load(order))


def checked(loaded: Loaded) -> Loaded:
    """As given. Raises OperatorError where deliveries were refused or lost: then it was not the work that was timed."""
    answers = sum(loaded.statuses.values()) + loaded.lost
    fine = loaded.statuses.get(str(HTTPStatus.OK.value), 0)
    if fine < answers * (1 - OTHER_ANSWERS_SHARE_MAX):
        raise OperatorError(f"Of {answers:,} deliveries only {fine:,} were answered 200: {loaded.statuses}.")
    return loaded
