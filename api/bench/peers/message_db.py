"""message-db's own function for writing a message, from its npm package, asked by asyncpg.

A category is locked for each write; with many categories few wait for each other.
"""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop

from api.bench.callers import Ask, ask_for
from api.bench.rounds import Contender, Sample, Skipped
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

NAME = "message-db write_message, many categories"
PACKAGE = "@eventide/message-db"
CATEGORIES = 1_000

# In the order of its own scripts. The extension it also makes is left out: what it is for is in PostgreSQL by now.
FILES = (
    "roles/message-store.sql",
    "schema/message-store.sql",
    "tables/messages.sql",
    "types/message.sql",
    "functions/hash-64.sql",
    "functions/acquire-lock.sql",
    "functions/category.sql",
    "functions/is-category.sql",
    "functions/id.sql",
    "functions/cardinal-id.sql",
    "functions/stream-version.sql",
    "functions/write-message.sql",
    "indexes/messages-id.sql",
    "indexes/messages-stream.sql",
    "indexes/messages-category.sql",
)


def contender(
    dsn: str, bodies: Sequence[bytes], node_modules: Path | None, *, callers: int, seconds: float
) -> Contender | Skipped:
    package = node_modules and node_modules / PACKAGE / "database"
    if package is None or not package.is_dir():
        return Skipped(name=NAME, why=f"needs the npm package {PACKAGE}: install it, and name its --node-modules")
    asyncio.run(_install(dsn, [(package / name).read_text(encoding="utf-8") for name in FILES]))
    texts = [body.decode() for body in bodies]
    return Contender(name=NAME, run=lambda: uvloop.run(_write(dsn, texts, callers=callers, seconds=seconds)))


async def _install(dsn: str, scripts: Sequence[str]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval(SQL["find_message_store"]):
            return
        for script in scripts:
            await connection.execute(script)
            await connection.execute(SQL["use_message_store"])
    finally:
        await connection.close()


async def _write(dsn: str, texts: Sequence[str], *, callers: int, seconds: float) -> Sample:
    given = itertools.cycle(texts)
    numbers = itertools.count()

    def caller(connection: asyncpg.Connection) -> Ask:
        async def write() -> None:
            message_id = str(uuid4())
            stream = f"booking{next(numbers) % CATEGORIES}-{message_id}"
            await connection.fetchval(SQL["write_message"], message_id, stream, "Created", next(given))

        return write

    connections = [await asyncpg.connect(dsn) for _ in range(callers)]
    try:
        for connection in connections:
            await connection.execute(SQL["use_message_store"])
        return await ask_for(seconds, [caller(connection) for connection in connections])
    finally:
        for connection in connections:
            await connection.close()
