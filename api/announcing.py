"""A line in the log for each recorded delivery, as long as they are few enough for somebody to read."""

from typing import Final

import structlog

from api.budget import Allowance, Budget

LINES: Final = Allowance(at_once=200, a_minute=600)
"""A burst of bookings has all its lines. More than that is a flood, and a line costs as much as half a delivery."""

log = structlog.get_logger()


class Announcements:
    """Tells which deliveries get a line; how many went without one is told as soon as there is room again."""

    def __init__(self) -> None:
        self._budget = Budget(LINES)
        self._untold = 0
        self._again_at = float("-inf")
        """Until then it is a flood, in which the budget is not asked for each delivery."""

    def may_tell(self, now: float) -> bool:
        """Whether this delivery gets a line; `now` in seconds of a clock that never goes back."""
        if now < self._again_at:
            self._untold += 1
            return False
        if not self._budget.take(now):
            self._again_at = now + self._budget.wait_seconds(now)
            self._untold += 1
            return False
        if self._untold:
            log.info("webhooks_recorded_without_a_line", deliveries=self._untold)
            self._untold = 0
        return True
