"""A PostgreSQL of a test's own, to be killed, stopped and started again while servers use it."""

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

from ledger.embedded import embedded_postgres
from tests.serving import connected, run, until

ASK_WHETHER_IT_LIVES = 0


class MortalPostgres:
    """An embedded cluster as in production. `dsn` leads to a migrated database, however often the server died."""

    def __init__(self, home: Path, stack: contextlib.ExitStack) -> None:
        self._home = home
        self._stack = stack
        self._numbers = itertools.count(1)
        self._template = self.dsn = self._start()
        migrated = run("migrate", DATABASE_URL=self.dsn)
        assert migrated.returncode == 0, migrated.stderr

    async def begin_anew(self) -> None:
        """It lives, and `dsn` leads to a database that nobody has used."""
        if not self._lives():
            await self.start()
        name = f"anew_{next(self._numbers)}"
        async with connected(self._template.replace("/booking_ledger?", "/postgres?")) as admin:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE booking_ledger")
        self.dsn = self._template.replace("/booking_ledger?", f"/{name}?")

    async def start(self) -> None:
        """It lets people in, after whatever recovery it needs. One that is still on its way down is waited for."""

        async def is_gone() -> bool:
            return not self._lives()

        await until(is_gone)
        await asyncio.to_thread(self._start)

    def send(self, signal_number: signal.Signals) -> None:
        """SIGKILL: the postmaster dies, and its backends find out. SIGQUIT: it stops `immediate`, as after a crash."""
        os.kill(self._postmaster(), signal_number)

    @contextlib.asynccontextmanager
    async def hanging(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """Inside, it keeps its connections, accepts more and answers nobody, nor the one that it told its pids on."""
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity")
        processes = [self._postmaster(), *(row["pid"] for row in rows)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _start(self) -> str:
        return self._stack.enter_context(embedded_postgres(self._home))

    def _postmaster(self) -> int:
        return int((self._home / "postgres" / "postmaster.pid").read_text().split()[0])

    def _lives(self) -> bool:
        try:
            os.kill(self._postmaster(), ASK_WHETHER_IT_LIVES)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return True


@contextlib.contextmanager
def mortal_postgres() -> Iterator[MortalPostgres]:
    """One for the block; its data are deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="booking-ledger-tests-") as home, contextlib.ExitStack() as stack:
        Path(home).chmod(0o711)  # for root: the account that runs the server has to enter
        yield MortalPostgres(Path(home), stack)
