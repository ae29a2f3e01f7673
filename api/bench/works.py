"""The works of `booking-ledger bench`, by name; each is loaded when it is wanted, since they need much."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from api.bench.plan import Bench
    from api.bench.rounds import Comparison


class Work(NamedTuple):
    """Where a work lives, what it measures, and what it needs besides this package."""

    place: str
    about: str

    def load(self) -> "Callable[[Bench], list[Comparison]]":
        module, _, name = self.place.partition(":")
        compare: Callable[[Bench], list[Comparison]] = getattr(importlib.import_module(module), name)
        return compare


WORKS: Mapping[str, Work] = MappingProxyType(
    {
        "folding": Work("api.bench.folding:compare_folding", "Histories to bookings, in memory. Needs no database."),
        "append": Work(
            "api.bench.appending:compare_appends",
            "Events made durable by 32 callers at once. message-db and emmett take part where node's packages are.",
        ),
        "webhook": Work(
            "api.bench.receiving:compare_receivers",
            "Deliveries over HTTP at 32 and 128 connections, beside servers that only verify, and tutorials.",
        ),
        "visible": Work("api.bench.seeing:compare_visibility", "From the answer to a row in calendar_events."),
        "projection": Work("api.bench.projecting:compare_projections", "Read models catching up with a log."),
        "rebuild": Work(
            "api.bench.rebuilding:compare_rebuilds", "A read model anew, from bodies and from facts; its memory."
        ),
        "queries": Work("api.bench.asking:compare_queries", "Each query among few bookings and among many."),
        "verify": Work("api.bench.proving:compare_proofs", "The whole chain recomputed."),
        "disk": Work("api.bench.storing:compare_rooms", "Bytes an event takes, indexes included."),
        "growth": Work("api.bench.growing:compare_growth", "Events made durable in logs of several lengths."),
        "start": Work("api.bench.starting:compare_starts", "Start to first answer, memory when idle, --help."),
    }
)
