"""Cal.com's own signatures, checked once more: that bodies in the log are those that were sent, byte for byte.

The chain shows that nothing was changed after it was appended. The signature shows that what was appended is Cal.com's,
to whoever knows the secret; without it not even the owner of the database can make one.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from ledger.calcom.signature import secret_id, sign
from ledger.filing import Receipt
from ledger.postgres import Connection
from ledger.store import Ledger, RecordedEvent, read_head, read_log
from ledger.vocabulary import Position

PAGE_EVENTS = 1_000

Outcome = Literal["right", "mismatched", "without_signature", "unknown_secret", "erased"]


class SignatureReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many webhook events there are of each kind.

    `without_signature`: from before signatures were kept. `unknown_secret`: signed under one that is not configured any
    more. Neither can be checked, so a number that grows without a cause is worth a look. `erased`: their keys were
    destroyed on purpose. A body that cannot be read although it should counts as mismatched.
    """

    right: int = 0
    mismatched: int = 0
    without_signature: int = 0
    unknown_secret: int = 0
    erased: int = 0
    first_mismatched_position: Position | None = None

    @property
    def ok(self) -> bool:
        return not self.mismatched


async def check_signatures(
    connection: Connection,
    ledger: Ledger,
    secrets: tuple[bytes, ...],
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SignatureReport:
    """Every webhook event up to the present head has been held against the signature that came with it."""
    by_id = {secret_id(secret): secret for secret in secrets}
    counts: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
    first_mismatched = None
    head = await read_head(connection, ledger.ledger_id)
    position = Position(0)
    while position < head.position:
        page = await read_log(connection, ledger.ledger_id, after=position, events_max=PAGE_EVENTS)
        for event in page:
            if event.source != "webhook" or event.position > head.position:
                continue
            outcome = _outcome(event, by_id)
            counts[outcome] += 1
            if outcome == "mismatched" and first_mismatched is None:
                first_mismatched = event.position
        if not page:
            break
        position = page[-1].position
        progress(min(position, head.position), head.position)
    return SignatureReport(**counts, first_mismatched_position=first_mismatched)


def _outcome(event: RecordedEvent, secrets: Mapping[str, bytes]) -> Outcome:
    if event.is_erased:
        return "erased"
    if event.fault is not None:
        return "mismatched"
    try:
        receipt = msgspec.json.decode(event.metadata, type=Receipt)
    except msgspec.MsgspecError:
        return "without_signature"
    if receipt.signature is None or receipt.secret_id is None:
        return "without_signature"
    if receipt.secret_id not in secrets:
        return "unknown_secret"
    expected = sign(event.body, secrets[receipt.secret_id])
    return "right" if hmac.compare_digest(bytes.fromhex(expected), receipt.signature) else "mismatched"
