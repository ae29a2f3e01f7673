"""Observations counted by size in plain numbers: cheap enough for the path of every webhook."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what should take milliseconds, and never more than a few seconds."""


class Tally:
    """`counts[n]` holds those above `bounds[n - 1]` and up to `bounds[n]`; the last one, those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, size: float) -> None:
        self.counts[bisect_left(self.bounds, size)] += 1
        self.total += size
