"""What `booking-ledger doctor` tells of one thing."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at; `detail` says what is so, or what is wrong and what to do."""

    name: str
    ok: bool
    detail: str
