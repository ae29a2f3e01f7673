"""Erasing persons from everything that is kept here: the log, the read models, the spool; and the receipt for it."""

import contextlib
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import structlog

from ledger.calcom.envelope import booking_stream, number_stream
from ledger.draining import Drain
from ledger.erasing import Eraser, Extent
from ledger.erasure_receipts import ErasureReceipt, read_receipts, write_receipts
from ledger.erasures import (
    Cause,
    Erasure,
    ErasureTold,
    begin,
    erasing_alone,
    find_done,
    finish,
    is_erasing,
    list_erasures,
    read_gone,
    read_taken,
    read_unfinished,
)
from ledger.errors import BadParameter
from ledger.finding import Progress, Wanted, told_nobody
from ledger.persons import addresses_in, normal_address
from ledger.postgres import Connection, connect, open_pool
from ledger.redacting import person_tag
from ledger.sealing import opened_keyring, sealing_of
from ledger.settings import Settings
from ledger.spool import Spool
from ledger.spool_file import SpoolFile
from ledger.spooled import ledger_mark
from ledger.store import Ledger, read_ledgers
from ledger.vocabulary import Position, StreamId
from projections.calendar_events import number_lookup
from projections.forgetting import Forgetting
from projections.known_bookings import read_over
from projections.runner import Runner

STATEMENT_SECONDS_MAX: Final = 3_600.0
POOL_CONNECTIONS_MAX: Final = 3
ADDRESS_CHARACTERS_MAX: Final = 320
BOOKINGS_AT_ONCE: Final = 1_000

log = structlog.get_logger()


def wanted_address(text: str) -> str:
    """As addresses are compared. Raises BadParameter for what is none."""
    email = normal_address(text)
    local, _, domain = email.rpartition("@")
    if not local or not domain or len(email) > ADDRESS_CHARACTERS_MAX or any(one.isspace() for one in email):
        raise BadParameter("email", "is an e-mail address, such as ann@example.com")
    return email


class ErasingWork:
    """What an erasure needs for as long as it lasts: `connection` leads past any pooler."""

    def __init__(self, settings: Settings, connection: Connection, pool: asyncpg.Pool, direct: str) -> None:
        self.connection = connection
        self._settings = settings
        self._pool = pool
        self._direct = direct

    async def measure(self, ledger: Ledger, emails: Collection[str], *, progress: Progress = told_nobody) -> Extent:
        """What erasing these would take out. Nothing is changed."""
        return await self._eraser(ledger).measure({person_tag(ledger, one) for one in emails}, progress=progress)

    async def erase(
        self, ledger: Ledger, emails: Collection[str], *, progress: Progress = told_nobody
    ) -> list[ErasureTold]:
        """They are forgotten, and who else was begun to be. Raises ErasureUnderWay, NotErasable, ReceiptsUnusable."""
        async with erasing_alone(self.connection, ledger):
            begun = {one.person_tag for one in (await read_unfinished(self.connection, ledger))["request"]}
            tags = {person_tag(ledger, email) for email in emails}
            new: dict[UUID, bytes | None] = {uuid4(): tag for tag in sorted(tags - begun)}
            if new:
                await begin(self.connection, ledger, new, cause="request", erased_at=None)
            done = await self._carry_out(ledger, progress)
            told = await list_erasures(self.connection, ledger, erasure_ids=done, rows_max=len(done))
        wanted = {tag.hex() for tag in tags}
        return [one for one in told if one.person_tag in wanted]

    async def go_on(self, ledger: Ledger) -> None:
        """What was begun is finished, and what the receipts tell of and the database does not know is done again.

        A restored backup has whom it had; so nobody may be served before. What another process is at just now is its
        affair, unless the receipts tell of more.
        """
        lost = await self._unknown(ledger)
        unfinished = await read_unfinished(self.connection, ledger)
        if not lost and (not any(unfinished.values()) or await is_erasing(self.connection, ledger)):
            return
        async with erasing_alone(self.connection, ledger):
            lost = await self._unknown(ledger)
            for one in lost:
                tag = None if one.person_tag is None else bytes.fromhex(one.person_tag)
                await begin(self.connection, ledger, {one.erasure_id: tag}, cause=one.cause, erased_at=one.erased_at)
                if one.streams:
                    erasure = Erasure(erasure_id=one.erasure_id, person_tag=None, erased_at=one.erased_at)
                    await self._eraser(ledger).erase_bookings(erasure, one.streams, older_than=None)
            if lost:
                log.warning("erasures_repeated", ledger=ledger.name, erasures=len(lost))
            await self._carry_out(ledger, told_nobody)

    async def erase_old(self, ledger: Ledger, *, days: int, now: datetime) -> int:
        """Bookings that are over, and of which nothing was told, for so many days are gone with all who are in them."""
        moment = now - timedelta(days=days)
        async with erasing_alone(self.connection, ledger):
            streams, deliveries = await self._old(ledger, moment)
            if not streams and not deliveries:
                return 0
            erasure = Erasure(erasure_id=uuid4(), person_tag=None, erased_at=now)
            await begin(self.connection, ledger, {erasure.erasure_id: None}, cause="retention", erased_at=now)
            eraser = self._eraser(ledger)
            await eraser.erase_bookings(erasure, streams, older_than=moment)
            await eraser.erase_deliveries(erasure, deliveries)
            await self._carry_out(ledger, told_nobody)
            (told,) = await list_erasures(self.connection, ledger, erasure_ids=[erasure.erasure_id], rows_max=1)
        return told.receipt.bookings if told.receipt is not None else 0

    async def _old(self, ledger: Ledger, moment: datetime) -> tuple[list[StreamId], list[Position]]:
        streams: list[StreamId] = []
        after = ""
        while over := await read_over(self.connection, ledger, before=moment, after=after, rows_max=BOOKINGS_AT_ONCE):
            streams += [number_stream(int(one.uid)) if one.is_number else booking_stream(one.uid) for one in over]
            after = over[-1].uid
        return streams, await self._eraser(ledger).read_old_deliveries(moment)

    def _eraser(self, ledger: Ledger) -> Eraser:
        return Eraser(self.connection, ledger, number_lookup(self.connection, ledger))

    async def _unknown(self, ledger: Ledger) -> list[ErasureReceipt]:
        """Erasures that were done once and are not done in this database."""
        folder = self._settings.erasures_folder
        receipts = read_receipts(folder, ledger.name) if folder is not None else []
        ids = [one.erasure_id for one in receipts]
        known = await find_done(self.connection, ledger, ids)
        return [one for one in receipts if one.erasure_id not in known]

    async def _carry_out(self, ledger: Ledger, progress: Progress) -> list[UUID]:
        """Everything that was begun in this ledger is finished; which erasures that were."""
        unfinished = await read_unfinished(self.connection, ledger)
        persons = unfinished["request"]
        if persons:
            await self._eraser(ledger).erase_persons(persons, progress=progress)
        everything = [*persons, *unfinished["retention"]]
        ids = [one.erasure_id for one in everything]
        tags = {one.person_tag for one in persons if one.person_tag is not None}
        if not ids:
            return []
        await self._empty_spool(ledger, tags)
        taken = await read_taken(self.connection, ledger, ids)
        runner = Runner(self._pool, self._direct, confirm_on_accept=self._settings.confirm_on_accept)
        await Forgetting(self.connection, ledger, runner).forget(taken, tags)
        await self._write_receipts(ledger, unfinished)
        await finish(self.connection, ledger, ids, at=datetime.now(UTC))
        log.info("erasures_done", ledger=ledger.name, erasures=len(ids), bookings=len(taken.gone))
        return ids

    async def _empty_spool(self, ledger: Ledger, tags: Collection[bytes]) -> None:
        """What waits on this machine's disk is in the log, without them; what cannot go there and names them, gone."""
        from api.spooling import spool_of

        folder = spool_of(self._settings)
        if not folder.is_dir() or not tags:
            return
        wanted = Wanted(ledger, tags)
        async with Spool(SpoolFile(folder)).running() as spool:
            await Drain(self._pool, spool).drain()
            await spool.forget(ledger_mark(ledger), lambda body: bool(wanted.among(addresses_in(body))))

    async def _write_receipts(self, ledger: Ledger, erasures: dict[Cause, list[Erasure]]) -> None:
        folder: Path | None = self._settings.erasures_folder
        if folder is None:
            return
        receipts = []
        for cause, some in erasures.items():
            for one in some:
                is_for_age = one.person_tag is None
                streams = await read_gone(self.connection, ledger, one.erasure_id) if is_for_age else []
                receipts.append(
                    ErasureReceipt(
                        erasure_id=one.erasure_id,
                        ledger=ledger.name,
                        cause=cause,
                        erased_at=one.erased_at,
                        person_tag=None if one.person_tag is None else one.person_tag.hex(),
                        streams=tuple(streams),
                    )
                )
        write_receipts(folder, ledger.name, receipts)


@contextlib.asynccontextmanager
async def erasing(settings: Settings, dsn: str) -> AsyncIterator[ErasingWork]:
    """For as long as the block lasts; `dsn` may lead through a pooler."""
    direct = settings.database_direct_url.reveal_text() if settings.database_direct_url else dsn
    async with opened_keyring(sealing_of(settings)) as keyring, contextlib.AsyncExitStack() as stack:
        connection = await connect(direct, statement_seconds_max=STATEMENT_SECONDS_MAX, keyring=keyring)
        stack.callback(connection.terminate)
        pool = await open_pool(direct, connections_min=0, connections_max=POOL_CONNECTIONS_MAX, keyring=keyring)
        stack.push_async_callback(pool.close)
        yield ErasingWork(settings, connection, pool, direct)


async def finish_erasures(settings: Settings, dsn: str) -> None:
    """Nobody is in this database who was erased, from this one or, as the receipts tell, from a later one."""
    async with erasing(settings, dsn) as work:
        for ledger in (await read_ledgers(work.connection)).values():
            await work.go_on(ledger)
