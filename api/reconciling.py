"""Reconciliation over HTTP: what differed from Cal.com, what is under way, and asking for it now."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from api.alarms import read_raised
from api.auth import ADMIN
from api.composition import Running
from api.parameters import PAGE_ROWS_DEFAULT, CursorText, Limit, Text, read_cursor, read_name, write_cursor
from api.tenancy import visible_ledger
from ledger.alarms import Alarm, spool_in_use
from ledger.drift import Drift, DriftFilter, DriftKind, DriftPlace, list_drift
from ledger.errors import BadParameter, BadSetting
from ledger.schedule import Turn, list_turns
from ledger.sweeping import Sweep, ask_for_sweep, kind_of_pass, list_sweeps
from ledger.vocabulary import MAIN_LEDGER_NAME

SWEEPS_SHOWN_MAX = 20

DriftState = Annotated[Literal["open", "healed"] | None, QueryParameter(name="state", description="Without it, both.")]

Kind = Annotated[DriftKind | None, QueryParameter(description="Missing here, different, or unknown to Cal.com.")]


class DriftPage(msgspec.Struct, frozen=True, kw_only=True):
    """What differed, the latest first; `next_cursor` is null on the last page."""

    drift: list[Drift]
    next_cursor: str | None


class Reconciling(msgspec.Struct, frozen=True, kw_only=True):
    """The latest sweeps, the last turn of each scheduled job, and what somebody should look at."""

    sweeps: list[Sweep]
    turns: list[Turn]
    alarms: list[Alarm]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`full`: every booking, and not only those that changed since the last time."""

    full: bool = False


@get("/api/admin/drift", opt=ADMIN, summary="What differed from Cal.com, field by field")
async def get_drift(
    *,
    request: Request[Any, Any, Any],
    state: State,
    drift_state: DriftState = None,
    kind: Kind = None,
    booking: Text = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> DriftPage:
    """`healed` ones were told to the log by the event that is named; `open` ones Cal.com does not know."""
    running: Running = state.running
    narrowed = DriftFilter(
        is_open=None if drift_state is None else drift_state == "open",
        kind=kind,
        booking=read_name("booking", booking),
    )
    log = visible_ledger(request, ledger)
    async with running.pool.acquire() as connection:
        found = await list_drift(connection, log, narrowed, after=read_cursor(cursor, DriftPlace), rows_max=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    place = last and DriftPlace(last.found_at, last.booking, last.field)
    return DriftPage(drift=found[:limit], next_cursor=write_cursor(place))


@get("/api/admin/reconcile", opt=ADMIN, summary="Reconciliation: how far, when next, what is wrong")
async def get_reconciling(request: Request[Any, Any, Any], state: State, ledger: Text = None) -> Reconciling:
    running: Running = state.running
    log = visible_ledger(request, ledger)
    async with running.pool.acquire() as connection:
        sweeps = await list_sweeps(connection, log, rows_max=SWEEPS_SHOWN_MAX)
        turns = await list_turns(connection, log)
        raised = await read_raised(connection, [log], now=datetime.now(UTC))
    alarms = [one.alarm for one in raised]
    spooled = await running.spool.state() if running.spool is not None else None
    waiting = spooled and spool_in_use(spooled.level, sum(spooled.waiting.values()))
    return Reconciling(sweeps=sweeps, turns=turns, alarms=[*alarms, waiting] if waiting else alarms)


@post("/api/admin/reconcile", opt=ADMIN, status_code=202, summary="Reconcile with Cal.com now")
async def post_reconcile(request: Request[Any, Any, Any], state: State, ledger: Text = None) -> Sweep:
    """The sweep that a worker takes up within a second or two, or the one under way. Follow it at GET.

    The body may be left out, or say `{"full": true}`: every booking, and not only those that changed.
    """
    running: Running = state.running
    log = visible_ledger(request, ledger)
    if running.settings.cal_com_api_key is None:
        raise BadSetting("CAL_COM_API_KEY", "must be set to an API key of the Cal.com account")
    if log.name != MAIN_LEDGER_NAME:
        raise BadParameter("ledger", f"is {MAIN_LEDGER_NAME}: CAL_COM_API_KEY is the key of its account")
    wish = _wish(await request.body())
    async with running.pool.acquire() as connection:
        kind = await kind_of_pass(connection, log, is_full=wish.full)
        return await ask_for_sweep(connection, log, kind, cause="request")


def _wish(body: bytes) -> Wish:
    try:
        return msgspec.json.decode(body, type=Wish) if body.strip() else Wish()
    except msgspec.DecodeError:
        raise BadParameter("the body", 'is {"full": true}, {"full": false} or nothing') from None


ROUTES = (get_drift, get_reconciling, post_reconcile)
