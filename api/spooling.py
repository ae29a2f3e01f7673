"""The spool of a running program, and what it knows of a database that is away when the program starts."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import structlog

from ledger.draining import Drain
from ledger.errors import SpoolUnusable
from ledger.settings import Settings
from ledger.spool import Spool
from ledger.spool_file import SpoolFile
from ledger.spool_folder import spool_folder
from ledger.spooled import KnownLedger, ledger_mark
from ledger.store import Ledger

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def spooling(
    settings: Settings, pool: asyncpg.Pool, *, ledgers: Mapping[str, Ledger], known: Sequence[KnownLedger]
) -> AsyncIterator[Spool | None]:
    """The spool for as long as the block lasts; None where it cannot be used.

    It is drained, unless the database is away and its ledgers are but `known`.
    """
    try:
        file = SpoolFile(spool_of(settings))
        if not known:
            file.remember(database_name(settings), [_known(ledger) for ledger in ledgers.values()])
    except (SpoolUnusable, sqlite3.Error) as error:
        log.error("spool_unusable", what=str(error))  # noqa: TRY400  # the sentence says it all
        yield None
        return
    async with Spool(file, known=known).running() as spool, contextlib.AsyncExitStack() as stack:
        if not known:
            await stack.enter_async_context(Drain(pool, spool).running())
        yield spool


def known_ledgers(settings: Settings) -> list[KnownLedger]:
    """The ledgers of the database, if it was served from this home before; else none."""
    folder = spool_of(settings)
    if not folder.is_dir():
        return []
    with contextlib.suppress(SpoolUnusable, sqlite3.Error), contextlib.closing(SpoolFile(folder)) as file:
        return file.recall(database_name(settings))
    return []


def keyless(known: Sequence[KnownLedger]) -> Mapping[str, Ledger]:
    """By name. Their key is not needed: the ids of their events are made when the spool is drained."""
    return {one.name: Ledger(ledger_id=one.ledger_id, name=one.name, event_id_key=b"") for one in known}


def spool_of(settings: Settings) -> Path:
    """The folder of the spool."""
    from ledger.embedded import default_home

    return spool_folder(settings.home or default_home())


def database_name(settings: Settings) -> str:
    """By which the database is known in this home; tells nothing of its password, and outlasts it."""
    if settings.database_url is None:
        return "embedded"
    parts = urlsplit(settings.database_url.reveal_text())
    user, _, hosts = parts.netloc.rpartition("@")
    options = sorted(pair for pair in parse_qsl(parts.query) if "pass" not in pair[0])
    return sha256(repr((user.partition(":")[0], hosts, parts.path, options)).encode()).hexdigest()


def _known(ledger: Ledger) -> KnownLedger:
    return KnownLedger(ledger_id=ledger.ledger_id, name=ledger.name, ledger_mark=ledger_mark(ledger))
