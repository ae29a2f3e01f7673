"""Projections over HTTP: how current they are, rebuilding them, and the events that they could not apply."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from api.auth import ADMIN, WHOLE
from api.composition import Running
from api.parameters import PositionWish, read_name
from api.tenancy import visible_ledger, visible_ledgers
from projections.measures import ProjectionStatus, read_status
from projections.parked import ParkedEvent, Retried, list_parked, retry_parked, skip_parked
from projections.progress import Progress, read_progress
from projections.rebuild import begin_rebuild, cancel_rebuild, find_projection, set_paused

PROGRESS_EVERY_SECONDS = 0.5
POSITIONS_MAX = 1_000

LedgerName = Annotated[str | None, QueryParameter(name="ledger", max_length=200)]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Every live read model of the ledgers that the caller may see, and the newest generation of each projection."""

    projections: list[ProjectionStatus]
    generations: list[Progress]


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    parked: list[ParkedEvent]


class Positions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which parked events; null: all that are not skipped."""

    positions: Annotated[list[PositionWish], msgspec.Meta(min_length=1, max_length=POSITIONS_MAX)] | None = None


class Skips(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    positions: Annotated[list[PositionWish], msgspec.Meta(min_length=1, max_length=POSITIONS_MAX)]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    skipped: list[int]


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """`applies_to`: `rebuild` where one is under way, else `live`."""

    projection: str
    paused: bool
    applies_to: str


@get("/api/admin/projections", opt=ADMIN, summary="Read models: how current, and how far a rebuild is")
async def get_projections(request: Request[Any, Any, Any], state: State) -> Overview:
    running: Running = state.running
    seen = visible_ledgers(request)
    async with running.pool.acquire() as connection:
        told = await read_status(connection)
        generations = await read_progress(connection)
    return Overview(projections=[one for one in told if one.ledger in seen], generations=generations)


@post(
    "/api/admin/projections/{name:str}/rebuild", opt={**ADMIN, **WHOLE}, status_code=202, summary="Rebuild a read model"
)
async def post_rebuild(state: State, name: FromPath[str]) -> Progress:
    """A worker builds it beside the live one and swaps it in; follow it at `…/progress`. 409 while one is under way."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        await begin_rebuild(connection, name)
        (progress,) = await read_progress(connection, name)
    return progress


@post("/api/admin/projections/{name:str}/cancel", opt={**ADMIN, **WHOLE}, status_code=200, summary="Cancel a rebuild")
async def post_cancel(state: State, name: FromPath[str]) -> Progress:
    """The live read model stays as it is."""
    running: Running = state.running
    async with running.pool.acquire() as connection:
        await cancel_rebuild(connection, name)
        (progress,) = await read_progress(connection, name)
    return progress


@post(
    "/api/admin/projections/{name:str}/pause",
    opt={**ADMIN, **WHOLE},
    status_code=200,
    summary="Pause a rebuild or a projection",
)
async def post_pause(state: State, name: FromPath[str]) -> Paused:
    """The rebuild where one is under way, else the projection itself, which then falls behind."""
    return await _set_paused(state.running, name, paused=True)


@post(
    "/api/admin/projections/{name:str}/resume",
    opt={**ADMIN, **WHOLE},
    status_code=200,
    summary="Go on with what was paused",
)
async def post_resume(state: State, name: FromPath[str]) -> Paused:
    return await _set_paused(state.running, name, paused=False)


async def _set_paused(running: Running, name: str, *, paused: bool) -> Paused:
    async with running.pool.acquire() as connection:
        which = await set_paused(connection, name, paused=paused)
    return Paused(projection=name, paused=paused, applies_to="rebuild" if which == "building" else "live")


@get(
    "/api/admin/projections/{name:str}/progress",
    opt={**ADMIN, **WHOLE},
    media_type="text/event-stream",
    summary="A rebuild's progress, as it goes on",
)
async def get_progress(state: State, name: FromPath[str]) -> ServerSentEvent:
    """Server-sent events `progress`, each a JSON object as POST …/rebuild answers; the last one when it has ended."""
    find_projection(name)
    return ServerSentEvent(_follow(state.running, name))


async def _follow(running: Running, name: str) -> AsyncIterator[ServerSentEventMessage]:
    told: Progress | None = None
    while True:
        async with running.pool.acquire() as connection:
            found = await read_progress(connection, name)
        progress = found[0] if found else None
        if progress is not None and progress != told:
            told = progress
            yield ServerSentEventMessage(event="progress", data=msgspec.json.encode(progress).decode())
        if progress is None or progress.state != "building":
            return
        await asyncio.sleep(PROGRESS_EVERY_SECONDS)


@get("/api/admin/parked", opt=ADMIN, summary="Events that a projection could not apply")
async def get_parked(
    request: Request[Any, Any, Any],
    state: State,
    projection: Annotated[str | None, QueryParameter(max_length=200)] = None,
    ledger: LedgerName = None,
) -> Parked:
    running: Running = state.running
    log = visible_ledger(request, ledger)
    async with running.pool.acquire() as connection:
        return Parked(parked=await list_parked(connection, log, read_name("projection", projection)))


@post("/api/admin/parked/{projection:str}/retry", opt=ADMIN, status_code=200, summary="Try parked events again")
async def post_retry(
    *,
    request: Request[Any, Any, Any],
    state: State,
    projection: FromPath[str],
    data: JSONBody[Positions],
    ledger: LedgerName = None,
) -> Retried:
    """Each is applied, or stays parked with its new error."""
    running: Running = state.running
    return await retry_parked(
        running.pool,
        visible_ledger(request, ledger),
        find_projection(projection),
        data.positions,
        confirm_on_accept=running.settings.confirm_on_accept,
    )


@post("/api/admin/parked/{projection:str}/skip", opt=ADMIN, status_code=200, summary="Do without parked events")
async def post_skip(
    *,
    request: Request[Any, Any, Any],
    state: State,
    projection: FromPath[str],
    data: JSONBody[Skips],
    ledger: LedgerName = None,
) -> Skipped:
    """They stay in the log and in the list, and count as parked no longer."""
    running: Running = state.running
    find_projection(projection)
    async with running.pool.acquire() as connection:
        skipped = await skip_parked(connection, visible_ledger(request, ledger), projection, data.positions)
    return Skipped(skipped=skipped)


ROUTES = (
    get_projections,
    post_rebuild,
    post_cancel,
    post_pause,
    post_resume,
    get_progress,
    get_parked,
    post_retry,
    post_skip,
)
