"""Where figures were made: without that they say little."""

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

SYNCS = 50
SYNCED_BYTES = 8_192


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`fdatasync_ms` is what making one page durable takes, the median of many: no commit takes less."""

    python: str
    system: str
    processor: str
    cores: int
    memory_gib: float | None
    fdatasync_ms: float


def this_machine() -> Machine:
    return Machine(
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        fdatasync_ms=_fdatasync_ms(),
    )


def machine_told(machine: Machine) -> str:
    memory = f", {machine.memory_gib:.0f} GiB" if machine.memory_gib else ""
    return (
        f"{machine.processor}, {machine.cores} cores{memory}, Python {machine.python}, "
        f"{machine.fdatasync_ms:.2f} ms for an fdatasync"
    )


def _processor() -> str:
    """The processor's own name where Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return None


def _fdatasync_ms() -> float:
    """Where temporary files lie, since that is where the throwaway servers keep their data."""
    sync = getattr(os, "fdatasync", os.fsync)
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), os.urandom(SYNCED_BYTES), 0)
            begun = time.perf_counter()
            sync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)
