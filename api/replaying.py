"""Deliveries over HTTP: what became of each, and reading stored ones again as they are understood today."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, QueryParameter

from api.auth import ADMIN
from api.composition import Running
from api.moments import read_moment
from api.parameters import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    PositionWish,
    Text,
    read_cursor,
    read_name,
    write_cursor,
)
from api.tenancy import visible_ledger
from ledger.vocabulary import Position
from projections.deliveries import (
    Delivery,
    DeliveryFilter,
    DeliveryPlace,
    Outcome,
    list_deliveries,
    place_of,
)
from projections.replay import Replayed, ReplayFilter, replay

REPLAYED_AT_ONCE_MAX = 1_000
"""How many deliveries one request reads again; the next one goes on."""
TRIGGERS_MAX = 50
EVENT_IDS_MAX = 1_000

From = Annotated[str | None, QueryParameter(name="from", description="Received at or after, ISO 8601.")]
To = Annotated[str | None, QueryParameter(name="to", description="Received before, ISO 8601.")]
Trigger = Annotated[str, msgspec.Meta(max_length=200)]


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Errors first, the latest of each first; `next_cursor` is null on the last page."""

    deliveries: list[Delivery]
    next_cursor: str | None


class ReplayWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which recorded deliveries; what is left out narrows nothing. Without `apply` nothing is written.

    `from` and `to` are times of recording, ISO 8601, the second not included; positions both are.
    """

    trigger: Trigger | Annotated[list[Trigger], msgspec.Meta(min_length=1, max_length=TRIGGERS_MAX)] | None = None
    uid: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    status: Outcome | None = None
    unrecognised: bool = False
    event_ids: Annotated[list[UUID], msgspec.Meta(max_length=EVENT_IDS_MAX)] | None = None
    since: str | None = msgspec.field(name="from", default=None)
    until: str | None = msgspec.field(name="to", default=None)
    from_position: PositionWish = 1
    to_position: PositionWish | None = None
    apply: bool = False


@get("/api/admin/deliveries", opt=ADMIN, summary="Deliveries, those that went wrong first")
async def get_deliveries(
    *,
    request: Request[Any, Any, Any],
    state: State,
    status: Annotated[Outcome | None, QueryParameter()] = None,
    trigger: Annotated[Text, QueryParameter(description="One or several triggers, separated by commas.")] = None,
    uid: Text = None,
    unrecognised: Annotated[bool, QueryParameter()] = False,
    received_from: From = None,
    received_before: To = None,
    cursor: CursorText = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    ledger: Text = None,
) -> DeliveryPage:
    """As `webhook_logs` tells them, refusals and repeats too, without their bodies."""
    running: Running = state.running
    log = visible_ledger(request, ledger)
    triggers = read_name("trigger", trigger)
    narrowed = DeliveryFilter(
        triggers=triggers.split(",") if triggers else None,
        booking=read_name("uid", uid),
        status=status,
        is_unrecognised=unrecognised,
        received_from=read_moment("from", received_from),
        received_before=read_moment("to", received_before),
    )
    place = read_cursor(cursor, DeliveryPlace)
    async with running.pool.acquire() as connection:
        found = await list_deliveries(connection, log, narrowed, after=place, rows_max=limit + 1)
    following = place_of(found[limit - 1]) if len(found) > limit else None
    return DeliveryPage(deliveries=found[:limit], next_cursor=write_cursor(following))


@post(
    "/api/admin/deliveries/reprocess",
    opt=ADMIN,
    status_code=200,
    summary="Read stored deliveries again, as they are understood today",
)
async def post_reprocess(
    *, request: Request[Any, Any, Any], state: State, data: JSONBody[ReplayWish], ledger: Text = None
) -> Replayed:
    """What the read models would say of them, field by field; with `apply` they say it. Nothing is sent or appended.

    One request looks at so many deliveries and no more: where `next_position` is not null, ask again from there.
    """
    running: Running = state.running
    log = visible_ledger(request, ledger)
    triggers = [data.trigger] if isinstance(data.trigger, str) else data.trigger
    for trigger in triggers or ():
        read_name("trigger", trigger)
    narrowed = ReplayFilter(
        triggers=triggers,
        booking=read_name("uid", data.uid),
        status=data.status,
        is_unrecognised=data.unrecognised,
        event_ids=data.event_ids,
        recorded_from=read_moment("from", data.since),
        recorded_before=read_moment("to", data.until),
        after=Position(data.from_position - 1),
        until=None if data.to_position is None else Position(data.to_position),
    )
    return await replay(
        running.pool,
        log,
        narrowed,
        is_applied=data.apply,
        confirm_on_accept=running.settings.confirm_on_accept,
        tell=lambda _done, _of: None,
        deliveries_max=REPLAYED_AT_ONCE_MAX,
    )


ROUTES = (get_deliveries, post_reprocess)
