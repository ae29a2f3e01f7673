"""How long a server takes until it is ready, what it weighs when nothing happens, and how soon help comes."""

import subprocess
import sys
import time
from functools import partial

from api.bench.memory import children_of, memory_mib
from api.bench.plan import Bench
from api.bench.receiving import LITESTAR_TUTORIAL, Served
from api.bench.rounds import Comparison, Contender, Sample, in_figure
from api.bench.servers import COMMAND, environment, our_server, peer_server

OURS = "ours: booking-ledger serve"
HELP = "ours: booking-ledger --help"
PYTHON = "limit: python that does nothing"
IDLE = "idle MiB"
IDLE_SECONDS = 2.0
"""So long after its start it is weighed, with its worker: what they do once is done."""
HELPS = 5


def compare_starts(bench: Bench) -> list[Comparison]:
    """The database is there already, and migrated."""
    databases = bench.databases()
    tutorial = partial(peer_server, sys.executable, "-m", "api.bench.peers.litestar_tutorial", dsn=databases.peers)
    servers = [
        Contender(name=OURS, run=lambda: _start(partial(our_server, databases.ours))),
        Contender(name=LITESTAR_TUTORIAL, run=lambda: _start(tutorial)),
    ]
    helps = [
        Contender(name=HELP, run=lambda: _time(*COMMAND, "--help")),
        Contender(name=PYTHON, run=lambda: _time(sys.executable, "-c", "pass")),
    ]
    rounds = bench.plan.rounds
    started = bench.compare("start, to the first answer", "s", servers, rounds=rounds, better="less")
    return [
        started,
        in_figure(started, IDLE, title="memory when idle", unit="MiB"),
        bench.compare("help on the terminal", "ms", helps, rounds=rounds, better="less"),
    ]


def _start(served: Served) -> Sample:
    with served() as web:
        time.sleep(IDLE_SECONDS)
        idle = [memory_mib(pid, "VmRSS") for pid in (web.pid, *children_of(web.pid))]
        told = {} if None in idle else {IDLE: sum(filter(None, idle))}
        return Sample(value=web.ready_seconds, figures=told)


def _time(*command: str) -> Sample:
    """The fastest of a few: whatever else happens on the machine only adds to it."""
    taken = []
    for _ in range(HELPS):
        begun = time.perf_counter()
        subprocess.run(command, env=environment({}), stdout=subprocess.DEVNULL, check=True)
        taken.append((time.perf_counter() - begun) * 1000)
    return Sample(value=min(taken))
