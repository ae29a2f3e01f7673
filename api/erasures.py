"""Forgetting a person over HTTP: asking what that would take out, doing it, and the receipts."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, QueryParameter

from api.auth import ADMIN
from api.composition import Running
from api.erasing import erasing, wanted_address
from api.parameters import Text
from api.tenancy import visible_ledger
from ledger.erasing import Extent
from ledger.erasures import ErasureTold, list_erasures

ERASURES_DEFAULT = 100
ERASURES_MAX = 1_000


class ErasureWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dry_run`: nothing is changed, and the answer says what would be."""

    email: Annotated[str, msgspec.Meta(min_length=3, max_length=320)]
    dry_run: bool = False


class ErasureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`extent` is the answer to a dry run, `erasure` the receipt of what was done."""

    dry_run: bool
    extent: Extent | None = None
    erasure: ErasureTold | None = None


class Erasures(msgspec.Struct, frozen=True, kw_only=True):
    """Receipts, the latest first. None of them says who it was."""

    erasures: list[ErasureTold]


@post("/api/admin/erasures", opt=ADMIN, status_code=200, summary="Forget a person")
async def post_erasure(
    *, request: Request[Any, Any, Any], state: State, data: JSONBody[ErasureWish], ledger: Text = None
) -> ErasureAnswer:
    """Everywhere the e-mail address is named: bookings of theirs alone go, of others' bookings the person goes.

    It is answered when that is done; a log of a million events takes minutes. Asked again it changes nothing. If the
    server ends before, the next start goes on with it.
    """
    running: Running = state.running
    log, email = visible_ledger(request, ledger), wanted_address(data.email)
    async with erasing(running.settings, running.dsn) as work:
        if data.dry_run:
            return ErasureAnswer(dry_run=True, extent=await work.measure(log, [email]))
        (told,) = await work.erase(log, [email])
        return ErasureAnswer(dry_run=False, erasure=told)


@get("/api/admin/erasures", opt=ADMIN, summary="Receipts of erasures")
async def get_erasures(
    *,
    request: Request[Any, Any, Any],
    state: State,
    limit: Annotated[int, QueryParameter(ge=1, le=ERASURES_MAX)] = ERASURES_DEFAULT,
    ledger: Text = None,
) -> Erasures:
    running: Running = state.running
    log = visible_ledger(request, ledger)
    async with running.pool.acquire() as connection:
        return Erasures(erasures=await list_erasures(connection, log, rows_max=limit))


ROUTES = (post_erasure, get_erasures)
