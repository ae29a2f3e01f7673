"""Which ledgers are there for a request: the one place where a name in a query becomes a ledger."""

from collections.abc import Mapping
from typing import Any

from litestar.connection import ASGIConnection

from api.auth import Caller
from api.composition import Running
from ledger.errors import NotFound
from ledger.store import Ledger
from ledger.vocabulary import MAIN_LEDGER_NAME

Asking = ASGIConnection[Any, Any, Any, Any]


def visible_ledgers(request: Asking) -> Mapping[str, Ledger]:
    """By name. Somebody who is bound to a ledger sees that one alone."""
    running: Running = request.app.state.running
    caller: Caller = request.auth
    return {
        name: ledger
        for name, ledger in running.ledgers.items()
        if caller.ledger_id is None or caller.ledger_id == ledger.ledger_id
    }


def visible_ledger(request: Asking, name: str | None) -> Ledger:
    """The ledger of `?ledger=`; without it `main`, or the one that the caller is bound to.

    Raises NotFound, for a ledger that is not there and for one that is not there for the caller in the same words.
    """
    visible = visible_ledgers(request)
    caller: Caller = request.auth
    is_bound = caller.ledger_id is not None
    wanted = name or (next(iter(visible), None) if is_bound else MAIN_LEDGER_NAME)
    ledger = visible.get(wanted) if wanted else None
    if ledger is None:
        raise NotFound(f"ledger {name or 'for this key'}")
    return ledger
