"""Work in a process of its own, which ends with whoever ordered it, and may give way to all others."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

Ordered = TypeVar("Ordered", bound=msgspec.Struct)

NICENESS = 5
"""A third of what others get where all want more than there is: at 15 a busy machine would leave a twentieth, and range
and transaction would go on for as long. A niceness does not reach into the database: see projections/pace.py."""


async def start_aside(module: str, order: msgspec.Struct, *, share: Sequence[int] = ()) -> asyncio.subprocess.Process:
    """The module runs, and has the order as a line of JSON on its standard input, which stays open.

    The open files whose numbers are in `share` are open there, too.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, start_new_session=True, pass_fds=share
    )
    if process.stdin is not None:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
    return process


async def wait_aside(process: asyncio.subprocess.Process) -> int:
    """Its exit code. It is killed where the caller does not wait to the end."""
    try:
        return await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise


async def end_aside(process: asyncio.subprocess.Process, seconds_max: float) -> None:
    """Nobody wants it any more: it hears so by the end of its standard input, and is killed where that takes longer."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(seconds_max):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def give_way(pid: int) -> None:
    """The process leaves the processors to others that want them.

    Linux may share them out among sessions first, and then a niceness counts within its session alone: one that is the
    process's own is nice as a whole.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        if os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS), encoding="ascii")


def read_order(kind: type[Ordered]) -> Ordered:
    """What this process was started for."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)


async def while_wanted(work: Coroutine[Any, Any, None]) -> None:
    """The work is done; or given up, where whoever ordered it is gone, and standard input with them."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def give_up() -> None:
        loop.remove_reader(sys.stdin)
        task.cancel()

    loop.add_reader(sys.stdin, give_up)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
