"""What became of the deliveries to this process, counted in plain numbers; `api/exposition.py` shows them.

Every series is there from the start, at 0, and there will be no other: senders choose no label.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import product
from typing import Final, Literal

from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.tally import SECONDS, Tally
from ledger.vocabulary import LedgerId

UNRECOGNISED: Final = "unrecognised"
"""Any trigger that we do not know, and that of a delivery which nobody has read."""

Became = Literal["recorded", "duplicate", "spooled", "failed"]
VERIFIED: Final[tuple[Became, ...]] = ("recorded", "duplicate", "spooled", "failed")

ABANDONED: Final = "abandoned"
REFUSED_OTHERWISE: Final = "refused_otherwise"
REFUSED: Final[Mapping[str, str]] = {
    "missing": "refused_signature_missing",
    "repeated": "refused_signature_repeated",
    "malformed": "refused_signature_malformed",
    "no_secret_provided": "refused_no_secret_provided",
    "mismatch": "refused_signature_mismatch",
    "BodyTooLarge": "refused_body_too_large",
    "EncodingUnsupported": "refused_encoding_unsupported",
    "SecretMissing": "refused_secret_missing",
}
"""The result, by the reason that `webhook_logs` tells."""


class Meter:
    """`webhooks`: by trigger and result. `last_received`: of verified deliveries, by ledger."""

    def __init__(self) -> None:
        self.webhooks = dict.fromkeys(product(sorted(KNOWN_TRIGGERS), VERIFIED), 0) | dict.fromkeys(
            product([UNRECOGNISED], [*VERIFIED, *REFUSED.values(), REFUSED_OTHERWISE, ABANDONED]), 0
        )
        self.webhook_seconds = Tally(SECONDS)
        self.last_received: dict[LedgerId, datetime] = {}

    def count_verified(
        self, trigger: str | None, became: Became, *, ledger_id: LedgerId, received_at: datetime, seconds: float
    ) -> None:
        self.webhooks[trigger if trigger in KNOWN_TRIGGERS else UNRECOGNISED, became] += 1
        self.webhook_seconds.add(seconds)
        self.last_received[ledger_id] = received_at

    def count_refused(self, reason: str) -> None:
        self.webhooks[UNRECOGNISED, REFUSED.get(reason, REFUSED_OTHERWISE)] += 1

    def count_abandoned(self) -> None:
        """The sender hung up before the body was complete."""
        self.webhooks[UNRECOGNISED, ABANDONED] += 1
