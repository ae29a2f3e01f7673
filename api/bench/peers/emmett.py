"""emmett's event store for PostgreSQL, run by node in a process of its own (emmett.mjs)."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from api.bench.callers import P50, P99, WARM_SECONDS
from api.bench.rounds import Contender, Sample, Skipped

NAME = "emmett-postgresql appendToStream"
PACKAGE = "@event-driven-io/emmett-postgresql"
SCRIPT = Path(__file__).with_suffix(".mjs")
SECONDS_OVERHEAD_MAX = 60.0


class Order(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the script is told to do. `node_modules` is where the package is."""

    dsn: str
    node_modules: str
    callers: int
    warm_seconds: float = WARM_SECONDS
    seconds: float
    bodies: list[str]


class Done(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What it prints."""

    events_a_second: float
    p50_ms: float
    p99_ms: float


def contender(
    dsn: str, bodies: Sequence[bytes], node_modules: Path | None, *, callers: int, seconds: float
) -> Contender | Skipped:
    node = shutil.which("node")
    if node is None:
        return Skipped(name=NAME, why="needs node")
    if node_modules is None or not (node_modules / PACKAGE).is_dir():
        return Skipped(name=NAME, why=f"needs the npm package {PACKAGE}: install it, and name its --node-modules")
    order = Order(
        dsn=dsn,
        node_modules=str(node_modules.resolve()),
        callers=callers,
        seconds=seconds,
        bodies=[body.decode() for body in bodies],
    )
    return Contender(name=NAME, run=lambda: _append(node, order))


def _append(node: str, order: Order) -> Sample:
    ended = subprocess.run(
        [node, str(SCRIPT)],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        timeout=order.seconds + SECONDS_OVERHEAD_MAX,
        check=True,
    )
    done = msgspec.json.decode(ended.stdout, type=Done)
    return Sample(value=done.events_a_second, figures={P50: done.p50_ms, P99: done.p99_ms})
