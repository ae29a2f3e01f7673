"""The data dictionary as a page: every view that SQL can query, and what its columns mean.

It tells of the product, not of anybody's bookings, and is the same for everybody until the next migration: public, and
asked of the database once.
"""

from html import escape
from pathlib import Path

from litestar import MediaType, Response, get
from litestar.datastructures import State

from api.auth import PUBLIC
from api.composition import Running
from projections.dictionary import Column, View, read_dictionary

STYLE = (Path(__file__).parent / "static" / "ledger.css").read_text(encoding="utf-8")
KEPT = {"cache-control": "public, max-age=3600"}


@get("/dictionary", opt=PUBLIC, media_type=MediaType.HTML, summary="The data dictionary, as a page")
async def get_dictionary_page(state: State) -> Response[str]:
    """What `GET /api/dictionary` tells, for people."""
    page: str | None = state.get("dictionary_page")
    if page is None:
        running: Running = state.running
        async with running.pool.acquire() as connection:
            page = dictionary_page(await read_dictionary(connection))
        state.dictionary_page = page
    return Response(page, media_type=MediaType.HTML, headers=KEPT)


@get("/static/ledger.css", opt=PUBLIC, media_type=MediaType.CSS, include_in_schema=False)
async def get_style() -> Response[str]:
    return Response(STYLE, media_type=MediaType.CSS, headers=KEPT)


def dictionary_page(views: list[View]) -> str:
    """The whole page. Names and comments are ours, and escaped all the same."""
    links = "".join(f'<li><a href="#{escape(view.name)}">{escape(view.name)}</a></li>' for view in views)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Data dictionary – Booking Ledger</title><link rel="stylesheet" href="/static/ledger.css"></head>'
        "<body><header><h1>Data dictionary</h1><p>The views of schema <code>public</code>. They may be queried, joined "
        "and built upon; rebuilding a read model does not disturb them. <code>booking-ledger roles url reader</code> "
        "prints an address for a reader that can change nothing.</p>"
        f"<nav><ul>{links}</ul></nav></header><main>{''.join(map(_view, views))}</main></body></html>"
    )


def _view(view: View) -> str:
    rows = "".join(map(_column, view.columns))
    return (
        f'<section id="{escape(view.name)}"><h2>{escape(view.name)}</h2><p>{escape(view.comment or "")}</p>'
        f'<table><thead><tr><th scope="col">column</th><th scope="col">type</th><th scope="col">what it says</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _column(column: Column) -> str:
    return (
        f'<tr><th scope="row"><code>{escape(column.name)}</code></th><td>{escape(column.type)}</td>'
        f"<td>{escape(column.comment or '')}</td></tr>"
    )
