"""A process that erases, killed at its first statement to the database, then at its second, and so on to the end.

    python -m tests.dying_eraser DSN HOME EMAIL…

Each time it goes on from where it was killed before. Prints at how many it had ended.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from api.erasing import erasing
from ledger.settings import Secret, Settings
from tests.builders import main_ledger

KILLS_MAX = 2_000
SPOKEN = ("fetch", "fetchval", "fetchrow", "execute")


def die_at(statement: int) -> None:
    """This process ends by kill -9 right before this statement, counted from one, or right after it."""
    spoken = 0

    def dying(whole: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def speak(self: asyncpg.Connection, *values: Any, **how: Any) -> Any:
            nonlocal spoken
            spoken += 1
            if spoken * 2 == statement:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await whole(self, *values, **how)
            if spoken * 2 + 1 == statement:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return speak

    for name in SPOKEN:
        setattr(asyncpg.Connection, name, dying(getattr(asyncpg.Connection, name)))


async def erase(dsn: str, home: str, *emails: str) -> None:
    async with erasing(Settings(database_url=Secret(dsn.encode()), home=Path(home)), dsn) as work:
        await work.erase(await main_ledger(work.connection), emails)


def main(dsn: str, home: str, *emails: str) -> None:
    for statement in range(2, KILLS_MAX):
        child = os.fork()
        if child == 0:
            die_at(statement)
            asyncio.run(erase(dsn, home, *emails))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            sys.stdout.write(f"{statement}\n")
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError("it never ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
