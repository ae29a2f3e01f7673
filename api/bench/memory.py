"""How much memory a process and its children took at most, as Linux tells it; elsewhere nothing is told."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

LOOK_EVERY_SECONDS = 0.02
KIB_A_MIB = 1024


class Peaks:
    """In MiB, by process id. The kernel keeps the peak itself: only those that end between two looks are missed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, float] = {}
        self._done = threading.Event()

    @property
    def own_mib(self) -> float:
        return self._peaks.get(self._pid, 0.0)

    @property
    def children_mib(self) -> list[float]:
        return [peak for pid, peak in self._peaks.items() if pid != self._pid]

    @contextlib.contextmanager
    def watched(self) -> Iterator["Peaks"]:
        """Looked at again and again for as long as the block lasts."""
        watching = threading.Thread(target=self._watch)
        watching.start()
        try:
            yield self
        finally:
            self._done.set()
            watching.join()

    def _watch(self) -> None:
        while True:
            for pid in (self._pid, *children_of(self._pid)):
                peak = memory_mib(pid, "VmHWM")
                if peak is not None:
                    self._peaks[pid] = peak
            if self._done.wait(LOOK_EVERY_SECONDS):
                return


def memory_mib(pid: int, what: str) -> float | None:
    """`VmHWM` is the most that was ever resident, `VmRSS` what is now; None where neither is told."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / KIB_A_MIB
    return None


def children_of(pid: int) -> list[int]:
    """The processes that it started and that have not ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
