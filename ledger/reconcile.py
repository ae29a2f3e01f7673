"""Reconciliation: what Cal.com knows, the log knows, and can show where and why they differed.

A sweep reads Cal.com's list page by page. Each page is compared with what the log tells (`ledger/comparing.py`), and in
one transaction its differences are appended, reported as drift, and the sweep's place moved on (`ledger/sweeping.py`).
What we expected of the list and did not find is asked for by uid, so is every booking in doubt, and so is, a little
later, what was too young to be judged (`ledger/questions.py`). The first import is a full sweep on an empty log.

Nothing is ever patched: a read model learns of it as of any other event.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import asyncpg
import structlog

from ledger.calcom.api import CalComApi, Page
from ledger.calcom.paging import ListedBooking
from ledger.comparing import SETTLE
from ledger.drift import heal_shown, heal_unexpected, note_extra, note_healed, read_open_extras
from ledger.errors import CalComKeyRefused, CalComRejected, ErasureUnderWay
from ledger.history import NumberLookup
from ledger.observing import Asked, Findings, in_doubt, observe
from ledger.postgres import Connection, connect
from ledger.questions import (
    DAY,
    DELAYS,
    Doubted,
    asked_since,
    forget_answered,
    note_doubts,
    note_young,
    put_off,
    read_due,
)
from ledger.sealing import keyring_of, keyring_of_pool
from ledger.store import Ledger, append
from ledger.sweeping import Expected, Sweep, Wheel, filter_of, read_beginning
from ledger.tombstones import without_erased

UNLISTED_ASKED_MAX: Final = 500
"""How many bookings that the list did not show are asked for in one sweep; the others' turn comes in the next."""
QUESTIONS_ASKED_MAX: Final = 50
"""How many are asked one by one at a time: Cal.com answers 120 requests a minute."""
DOUBTS_READ_MAX: Final = 1_000
FORBIDDEN: Final = 403

log = structlog.get_logger()

Tell = Callable[[Sweep], Awaitable[None]]


class Known(Protocol):
    """What is asked of the read models: `projections/known_bookings.py`."""

    def look_up(self, connection: Connection, ledger: Ledger) -> NumberLookup: ...

    async def read_doubted(self, connection: Connection, ledger: Ledger, *, rows_max: int) -> list[Doubted]: ...

    async def read_unlisted(
        self,
        connection: Connection,
        ledger: Ledger,
        listed: Collection[str],
        *,
        ends_after: datetime | None,
        heard_before: datetime,
    ) -> list[Expected]: ...


class Reconciler:
    """One ledger against one Cal.com account. `dsn` leads past any pooler; `now` is compared with Cal.com's own times.

    `is_patient`: what Cal.com changed a moment ago is left alone, since its webhook may be on its way.
    """

    def __init__(
        self,
        api: CalComApi,
        pool: asyncpg.Pool,
        dsn: str,
        ledger: Ledger,
        known: Known,
        *,
        settle: timedelta = SETTLE,
        is_patient: bool = False,
        rows: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.api = api
        self.pool = pool
        self.ledger = ledger
        self.known = known
        self.settle = settle
        self.rows = rows
        self.now = now
        self._dsn = dsn
        self._is_patient = is_patient

    async def drive(self, sweep_id: UUID, *, tell: Tell | None = None) -> Sweep:
        """The sweep is done. Raises SweepLost, and what Cal.com's API raises; then it goes on from the page reached."""
        connection = await connect(self._dsn, keyring=await keyring_of_pool(self.pool))
        try:
            async with Wheel(connection, self.ledger, sweep_id).held(self.pool) as wheel:
                sweep = await self._begin(wheel)
                while not sweep.is_listed:
                    sweep = await self._list(wheel, sweep, tell)
                await self._finish(wheel, sweep)
                return await wheel.read()
        finally:
            connection.terminate()

    async def _begin(self, wheel: Wheel) -> Sweep:
        kind = (await wheel.read()).kind
        after = await read_beginning(wheel.connection, self.ledger, kind)
        await wheel.start(now=self.now(), after_updated_at=after)
        return await wheel.read()

    async def _list(self, wheel: Wheel, sweep: Sweep, tell: Tell | None) -> Sweep:
        """Page after page from where the sweep stands."""
        chosen = filter_of(sweep.kind, sweep.after_updated_at)
        pages = self.api.list_bookings(chosen, place=sweep.place, rows=self.rows)
        asked = self.asked_now(sweep)
        try:
            async for page in pages:
                await self._keep_page(wheel, sweep, page, asked)
                sweep = await wheel.read()
                if tell is not None:
                    await tell(sweep)
                asked = self.asked_now(sweep)
        except CalComRejected:
            if sweep.place is None:
                raise
            log.info("sweep_begins_again", sweep=str(sweep.sweep_id), pages=sweep.pages)
            await wheel.begin_again()
            return await wheel.read()
        return sweep

    def asked_now(self, sweep: Sweep | None = None) -> Asked:
        """Asked now. Where somebody waits for the outcome there is no patience."""
        return Asked(
            at=self.now(),
            sweep_id=None if sweep is None else sweep.sweep_id,
            settle=self.settle,
            is_patient=self._is_patient and (sweep is None or sweep.cause == "schedule"),
        )

    async def _keep_page(self, wheel: Wheel, sweep: Sweep, page: Page, asked: Asked) -> None:
        found = await self.compare(wheel.connection, page.bookings, asked)
        async with wheel.connection.transaction():
            await wheel.turn_page(sweep, page, found)
            observed = await self._keep(wheel.connection, found, asked, is_import=sweep.is_import)
            if observed:
                await wheel.add_figures(None, observed=observed)

    async def compare(self, connection: Connection, listed: Sequence[ListedBooking], asked: Asked) -> Findings:
        """What follows from an answer; nothing is written."""
        look_up = self.known.look_up(connection, self.ledger)
        return await observe(connection, self.ledger, listed, asked, look_up_numbers=look_up)

    async def _keep(self, connection: Connection, found: Findings, asked: Asked, *, is_import: bool = False) -> int:
        """Everything that follows is written, in the transaction that is open; how many events were new."""
        at = max(self.now(), asked.at)
        await note_healed(connection, self.ledger, found, sweep_id=asked.sweep_id, is_import=is_import, at=at)
        await heal_shown(connection, self.ledger, found.uids, at=at)
        await forget_answered(connection, self.ledger, found)
        await note_young(connection, self.ledger, found, at=at)
        placed = (
            await append(connection, self.ledger.ledger_id, found.events, admit=without_erased) if found.events else []
        )
        if placed and keyring_of(connection).of(self.ledger.ledger_id).erasures != found.erasures:
            raise ErasureUnderWay(self.ledger.name)  # what is noted beside the events may name somebody erased
        return sum(not one.duplicate for one in placed)

    async def _finish(self, wheel: Wheel, sweep: Sweep) -> None:
        """What the list should have shown has been asked for, and the sweep is done."""
        expected = await self._read_expected(wheel, sweep)
        for one in await self._to_ask(wheel.connection, sweep, expected):
            await self._ask_unlisted(wheel, sweep, one)
        extras = await read_open_extras(wheel.connection, self.ledger, [one.uid for one in expected])
        now = self.now()
        async with wheel.connection.transaction():
            await wheel.finish(sweep.kind, extra=len(extras), now=now)
            if sweep.kind == "full" and sweep.started_at is not None:
                uids = [one.uid for one in expected]
                await heal_unexpected(
                    wheel.connection, self.ledger, uids, found_before=sweep.started_at, at=max(now, sweep.started_at)
                )

    async def _read_expected(self, wheel: Wheel, sweep: Sweep) -> list[Expected]:
        """What we know to go on and Cal.com did not show, though it was asked for all of it, or all that is to come."""
        if sweep.kind == "incremental" or sweep.started_at is None:
            return []
        return await self.known.read_unlisted(
            wheel.connection,
            self.ledger,
            await wheel.read_shown(),
            ends_after=sweep.started_at if sweep.kind == "upcoming" else None,
            heard_before=sweep.started_at - self.settle,
        )

    async def _to_ask(self, connection: Connection, sweep: Sweep, expected: Sequence[Expected]) -> list[Expected]:
        """Those that were not asked about yet; what the schedule once asked about is a question with its own times."""
        began = sweep.started_at or self.now()
        since = began - len(DELAYS) * DAY if sweep.cause == "schedule" else began
        asked = await asked_since(connection, self.ledger, [one.uid for one in expected], since)
        waiting = [one for one in expected if one.uid not in asked]
        if len(waiting) > UNLISTED_ASKED_MAX:
            log.warning("unlisted_bookings_many", bookings=len(waiting), asked=UNLISTED_ASKED_MAX)
        return waiting[:UNLISTED_ASKED_MAX]

    async def _ask_unlisted(self, wheel: Wheel, sweep: Sweep, expected: Expected) -> None:
        asked = self.asked_now(sweep)
        listed = await self.fetch(expected.uid)
        found = await self.compare(wheel.connection, listed, asked) if listed else None
        async with wheel.connection.transaction():
            if found is not None:
                observed = await self._keep(wheel.connection, found, asked)
                await wheel.add_figures(found, observed=observed)
                return
            await wheel.add_figures(None)
            await put_off(wheel.connection, self.ledger, expected.uid, at=asked.at)
            if listed is not None:
                await note_extra(
                    wheel.connection,
                    self.ledger,
                    expected.uid,
                    expected.status,
                    since=expected.heard_at,
                    sweep_id=sweep.sweep_id,
                    at=asked.at,
                )

    async def fetch(self, uid: str) -> list[ListedBooking] | None:
        """What Cal.com shows of the booking; nothing where it knows none, None where it is not ours to see."""
        try:
            return await self.api.get_booking(uid)
        except CalComKeyRefused as error:
            if error.status != FORBIDDEN:
                raise
            return None

    async def notice_doubts(self) -> int:
        """Every booking in doubt has a time at which it is asked about; how many there are."""
        async with self.pool.acquire() as connection:
            doubted = await self.known.read_doubted(connection, self.ledger, rows_max=DOUBTS_READ_MAX)
            if doubted:
                await note_doubts(connection, self.ledger, doubted, settle=self.settle, now=self.now())
        return len(doubted)

    async def answer_questions(self) -> int:
        """What was due was asked; how many events came of it. Raises what Cal.com's API raises."""
        async with self.pool.acquire() as connection:
            due = await read_due(connection, self.ledger, now=self.now(), rows_max=QUESTIONS_ASKED_MAX)
        observed = await self.ask_doubted([question.uid for question in due if question.reason == "doubt"])
        for question in due:
            if question.reason != "doubt":
                observed += (await self.ask(question.uid))[1]
        return observed

    async def ask_doubted(self, uids: Sequence[str]) -> int:
        """These were asked about, and the series that they belong to; how many events came of it."""
        observed, series = 0, set[str]()
        for uid in uids:
            found, events = await self.ask(uid)
            observed += events
            for one in (_series(found) if found is not None else set[str]()) - series:
                series.add(one)
                observed += (await self.ask(one, is_series=True))[1]
        return observed

    async def ask(self, uid: str, *, is_series: bool = False) -> tuple[Findings | None, int]:
        """What Cal.com shows of one booking, or of all of a series, is kept: what was found, and how many events.

        None: it shows nothing, and is asked again later.
        """
        asked = self.asked_now()
        listed = await self.fetch(uid)
        async with self.pool.acquire() as connection:
            found = await self.compare(connection, listed, asked) if listed else None
            async with connection.transaction():
                if found is not None:
                    return found, await self._keep(connection, found, asked)
                if not is_series:
                    await put_off(connection, self.ledger, uid, at=asked.at)
        return None, 0

    async def read_in_doubt(self) -> list[str]:
        """The bookings in doubt, as the log tells them by now."""
        async with self.pool.acquire() as connection:
            doubted = await self.known.read_doubted(connection, self.ledger, rows_max=DOUBTS_READ_MAX)
            look_up = self.known.look_up(connection, self.ledger)
            return await in_doubt(connection, self.ledger, [one.uid for one in doubted], look_up_numbers=look_up)


def _series(found: Findings) -> set[str]:
    """What one webhook said of one of a series may have happened to all of it."""
    rows = (finding.seen.row for finding in found.findings)
    return {row.recurring_booking_uid for row in rows if row.recurring_booking_uid}
