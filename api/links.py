"""Deliveries that name no booking: which one they may mean, and a person's word for it."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth import OPERATOR
from api.composition import Running
from api.linking import LinkAnswer, link_delivery, unlink_delivery
from api.preconditions import IfMatch, expected_version
from api.tenancy import visible_ledger
from ledger.vocabulary import Position
from projections.suggestions import SuggestionPage, list_suggestions

SUGGESTIONS_DEFAULT = 50
SUGGESTIONS_MAX = 500
POSITION_MAX = 2**63 - 1

log = structlog.get_logger()

LedgerName = Annotated[str | None, QueryParameter(name="ledger", max_length=200)]


class LinkWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`event_id`: what the delivery was answered with, and what a suggestion calls it by."""

    event_id: UUID


@get("/api/admin/suggestions", opt=OPERATOR, summary="Deliveries that name no booking, and those that they may mean")
async def get_suggestions(
    *,
    request: Request[Any, Any, Any],
    state: State,
    before: Annotated[
        int | None, QueryParameter(ge=1, le=POSITION_MAX, description="`next_before` of the page before.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=SUGGESTIONS_MAX)] = SUGGESTIONS_DEFAULT,
    ledger: LedgerName = None,
) -> SuggestionPage:
    """By the attendee's e-mail, the latest delivery first, the likeliest booking first. None is linked by itself."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        return await list_suggestions(
            connection,
            visible_ledger(request, ledger),
            before=None if before is None else Position(before),
            suggestions_max=limit,
        )


@post(
    "/api/bookings/{uid:str}/link", status_code=200, opt=OPERATOR, summary="Say that a delivery is about this booking"
)
async def post_link(
    *,
    request: Request[Any, Any, Any],
    state: State,
    uid: FromPath[str],
    data: JSONBody[LinkWish],
    if_match: IfMatch = None,
    ledger: LedgerName = None,
) -> LinkAnswer:
    """About the very booking that is named. To say it again changes nothing and is answered with `duplicate`."""
    running: Running = state.running
    answer = await link_delivery(
        running.pool,
        running.appender,
        visible_ledger(request, ledger),
        name=uid,
        delivery_id=data.event_id,
        expected_version=expected_version(if_match),
    )
    _tell("delivery_linked", data, answer)
    return answer


@post(
    "/api/bookings/{uid:str}/unlink",
    status_code=200,
    opt=OPERATOR,
    summary="Take back that a delivery is about this booking",
)
async def post_unlink(
    *,
    request: Request[Any, Any, Any],
    state: State,
    uid: FromPath[str],
    data: JSONBody[LinkWish],
    if_match: IfMatch = None,
    ledger: LedgerName = None,
) -> LinkAnswer:
    """What it said of any booking counts no more; it may be linked again, to this one or another."""
    running: Running = state.running
    answer = await unlink_delivery(
        running.pool,
        running.appender,
        visible_ledger(request, ledger),
        name=uid,
        delivery_id=data.event_id,
        expected_version=expected_version(if_match),
    )
    _tell("delivery_unlinked", data, answer)
    return answer


def _tell(event: str, wish: LinkWish, answer: LinkAnswer) -> None:
    log.info(
        event,
        event_id=str(wish.event_id),
        booking=answer.booking,
        position=answer.position,
        duplicate=answer.duplicate,
    )
