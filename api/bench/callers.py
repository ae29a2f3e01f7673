"""Callers that each ask again as soon as they are answered: how much is done a second, and how long an answer takes."""

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from api.bench.rounds import Sample, percentile

P50 = "p50 ms"
P99 = "p99 ms"
WARM_SECONDS = 0.2
"""Before anything counts: connections plan their statements, caches fill."""

Ask = Callable[[], Awaitable[object]]
AskAndWait = Callable[[], object]


async def ask_for(seconds: float, callers: Sequence[Ask]) -> Sample:
    """What the callers got done in so many seconds, all of them at once."""
    taken = array("d")
    begun = time.perf_counter() + WARM_SECONDS
    end = begun + seconds

    async def repeat(ask: Ask) -> None:
        asked = time.perf_counter()
        while asked < end:
            await ask()
            answered = time.perf_counter()
            if asked >= begun:
                taken.append(answered - asked)
            asked = answered

    await asyncio.gather(*map(repeat, callers))
    return sample_of(taken, time.perf_counter() - begun)


def ask_in_threads(seconds: float, callers: Sequence[AskAndWait]) -> Sample:
    """The same with a thread a caller. Raises what the first caller that failed raised."""
    begun = time.perf_counter() + WARM_SECONDS
    end = begun + seconds

    def repeat(ask: AskAndWait) -> "array[float]":
        taken = array("d")
        asked = time.perf_counter()
        while asked < end:
            ask()
            answered = time.perf_counter()
            if asked >= begun:
                taken.append(answered - asked)
            asked = answered
        return taken

    with ThreadPoolExecutor(len(callers)) as threads:
        told = list(threads.map(repeat, callers))
    return sample_of([one for taken in told for one in taken], time.perf_counter() - begun)


def sample_of(taken: Sequence[float], seconds: float) -> Sample:
    """`taken` are the seconds of each answer; without any there is nothing to tell but that."""
    if not taken:
        return Sample(value=0.0)
    milliseconds = sorted(one * 1000 for one in taken)
    return Sample(
        value=len(milliseconds) / seconds,
        figures={P50: percentile(milliseconds, 0.5), P99: percentile(milliseconds, 0.99)},
    )
