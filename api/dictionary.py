"""The data dictionary over HTTP, for those who query the views."""

import msgspec
from litestar import get
from litestar.datastructures import State

from api.auth import VIEWER
from api.composition import Running
from projections.dictionary import View, read_dictionary


class Dictionary(msgspec.Struct, frozen=True, kw_only=True):
    views: list[View]


@get("/api/dictionary", opt=VIEWER, summary="Every view that SQL can query, and what its columns mean")
async def get_dictionary(state: State) -> Dictionary:
    running: Running = state.running
    async with running.pool.acquire() as connection:
        return Dictionary(views=await read_dictionary(connection))
