"""How often something may be tried: so many at once, and so many a minute from then on (a token bucket).

Time comes in as seconds of a clock that never goes back. Bounded: a budget that is whole again is forgotten, and of
more than `names_max` names at once the later ones share one budget.
"""

from typing import Final

import msgspec

SECONDS_A_MINUTE: Final = 60.0


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """`at_once` tries in a row, then `a_minute`."""

    at_once: int
    a_minute: float

    @property
    def a_second(self) -> float:
        return self.a_minute / SECONDS_A_MINUTE


class Budget:
    """One allowance, and what is left of it."""

    def __init__(self, allowance: Allowance) -> None:
        self._at_once = allowance.at_once
        self._a_second = allowance.a_second
        self._left = float(allowance.at_once)
        self._at = 0.0

    def wait_seconds(self, now: float) -> float:
        """0 where one more may be tried; else the seconds until it may."""
        self._left = min(self._at_once, self._left + max(now - self._at, 0.0) * self._a_second)
        self._at = now
        return max(1 - self._left, 0.0) / self._a_second

    def take(self, now: float) -> bool:
        """Whether one more may be tried, which is then taken."""
        if self.wait_seconds(now) > 0:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """What was taken last was no try after all."""
        self._left += 1

    def is_whole(self, now: float) -> bool:
        self.wait_seconds(now)
        return self._left >= self._at_once


class Budgets:
    """One budget for each name, of the same allowance."""

    def __init__(self, allowance: Allowance, *, names_max: int) -> None:
        self._allowance = allowance
        self._names_max = names_max
        self._by_name: dict[str, Budget] = {}
        self._shared = Budget(allowance)

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, name: str, now: float) -> Budget:
        found = self._by_name.get(name)
        if found is not None:
            return found
        if len(self._by_name) >= self._names_max:
            self._by_name = {known: budget for known, budget in self._by_name.items() if not budget.is_whole(now)}
        if len(self._by_name) >= self._names_max:
            return self._shared
        made = self._by_name[name] = Budget(self._allowance)
        return made
