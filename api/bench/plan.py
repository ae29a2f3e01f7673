"""What one run of `booking-ledger bench` is to do, and what its works share: servers, logs, the telling of progress."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from api.bench.logs import database_with_log
from api.bench.rounds import Better, Comparison, Contender, Skipped, compare
from api.bench.servers import Databases, throwaway_databases, with_peers

SMALLEST_EVENTS = 10_000
EVENTS_DEFAULT = 100_000

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], None]]]
"""What is begun, by name; a function to call with (done, total)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done.

    `rounds_heavy` is for works that start servers, `seconds` how long one load lasts, `sizes` how long the logs are,
    `bookings` how many are folded, `bookings_asked` among how many queries look, and `query_runs` how often each is
    asked; `node_modules` is where packages of node's are.
    """

    rounds: int = 5
    rounds_heavy: int = 3
    seconds: float = 3.0
    sizes: tuple[int, ...] = (SMALLEST_EVENTS, EVENTS_DEFAULT)
    bookings: int = 20_000
    bookings_asked: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    query_runs: int = 200
    node_modules: Path | None = None


QUICK = Plan(
    rounds=2,
    rounds_heavy=1,
    seconds=0.5,
    sizes=(2_000, 10_000),
    bookings=2_000,
    bookings_asked=(2_000, 10_000),
    query_runs=50,
)


def sizes_up_to(events: int) -> tuple[int, ...]:
    """Decades from ten thousand, and the number itself."""
    sizes = []
    size = SMALLEST_EVENTS
    while size < events:
        sizes.append(size)
        size *= 10
    return (*sizes, events)


class Bench:
    """One run. What its works ask for is started once, and gone when the block ends."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self.progress = progress
        self._stack = contextlib.ExitStack()
        self._databases: Databases | None = None
        self._logs: dict[int, Databases] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def databases(self) -> Databases:
        """Empty ones at first; what works do in them stays until the end of the run."""
        if self._databases is None:
            self._databases = self._stack.enter_context(throwaway_databases())
        return self._databases

    def log(self, events: int) -> Databases:
        """On a server of their own: ours with a log of at least so many events, of which no read model knows yet."""
        if events not in self._logs:
            with self.progress(f"making a log of {events:,} events") as tell:
                dsn = self._stack.enter_context(database_with_log(events, tell=tell))
            self._logs[events] = with_peers(dsn)
        return self._logs[events]

    def compare(
        self,
        title: str,
        unit: str,
        contenders: Sequence[Contender],
        *,
        rounds: int,
        better: Better = "more",
        goals: Mapping[str, float] | None = None,
        skipped: Sequence[Skipped] = (),
        size: int | None = None,
        curve: str = "",
    ) -> Comparison:
        """As `rounds.compare`, with its progress told."""
        steps = rounds * len(contenders)
        done = iter(range(1, steps + 1))
        with self.progress(title) as tell:
            return compare(
                title,
                unit,
                contenders,
                rounds=rounds,
                progress=lambda: tell(next(done), steps),
                better=better,
                goals=goals,
                skipped=skipped,
                size=size,
                curve=curve,
            )


def available(wanted: Iterator[Contender | Skipped]) -> tuple[list[Contender], list[Skipped]]:
    """Who takes part, in order, and who does not."""
    told = list(wanted)
    return [one for one in told if isinstance(one, Contender)], [one for one in told if isinstance(one, Skipped)]
