"""When the next request to Cal.com's API may leave, so that Cal.com never has to say that it was one too many. Pure.

Cal.com allows a key 120 requests in 60 s, then answers nothing for 60 s (CALCOM.md section 5.6). Where its 60 s begin
is not known, nor when on the way it counted a request: somewhere between departure and answer. So a request takes its
place from the one until WINDOW_SECONDS after the other; whichever 60 s Cal.com looks at, no more than the limit were
counted in them. Others may use the same key, so what the answers' headers say counts as well, where it is stricter.
"""

from collections import deque
from collections.abc import Mapping

import msgspec

WINDOW_SECONDS = 61.0
"""Cal.com's 60 s and one more, for clocks that do not run alike."""

BLOCK_SECONDS = 60.0
"""How long Cal.com stays silent after a request too many."""

RESET_SECONDS_MAX = 600.0
"""A longer wait is no number of seconds (an epoch, say): BLOCK_SECONDS is taken instead."""

LOOK_AGAIN_SECONDS = 1.0
"""While every place is held by a request that has no answer yet."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers say of one limit: `remaining` requests in the next `reset_seconds`."""

    remaining: int
    reset_seconds: float


class Pacing:
    """The places of one key. Every `now` is seconds on one clock that does not go back."""

    def __init__(self, *, requests_per_minute: int) -> None:
        if requests_per_minute < 1:
            raise ValueError(f"requests_per_minute must be at least 1, not {requests_per_minute}")
        self._places = requests_per_minute
        self._under_way = 0
        self._answered: deque[float] = deque()
        self._told: dict[str, tuple[int, float]] = {}
        self._blocked_until: float | None = None

    def delay_seconds(self, now: float) -> float:
        """How long the next request has to wait; 0: it may leave now."""
        while self._answered and self._answered[0] + WINDOW_SECONDS <= now:
            self._answered.popleft()
        until = [now]
        if self._blocked_until is not None:
            until.append(self._blocked_until)
        until += [resets_at for remaining, resets_at in self._told.values() if remaining <= 0]
        if self._under_way + len(self._answered) >= self._places:
            until.append(self._answered[0] + WINDOW_SECONDS if self._answered else now + LOOK_AGAIN_SECONDS)
        return max(until) - now

    def departed(self) -> None:
        """A request has left."""
        self._under_way += 1
        self._told = {name: (remaining - 1, resets_at) for name, (remaining, resets_at) in self._told.items()}

    def answered(self, now: float, allowances: Mapping[str, Allowance]) -> None:
        """One request under way has come to its end, answered or not."""
        self._under_way -= 1
        self._answered.append(now)
        for name, told in allowances.items():
            # Requests under way may be counted in `remaining` already, or not yet: taken as not yet.
            self._told[name] = (told.remaining - self._under_way, now + seconds_to_wait(told.reset_seconds))

    def blocked(self, now: float, seconds: float) -> None:
        """Cal.com said that it was one too many: nothing leaves for so long."""
        self._blocked_until = now + seconds_to_wait(seconds)


def seconds_to_wait(told: float) -> float:
    """What Cal.com told, if it can be meant."""
    return told if 0 <= told <= RESET_SECONDS_MAX else BLOCK_SECONDS
