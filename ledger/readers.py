"""PostgreSQL roles for single readers, each of which sees every ledger or one: an analyst, a salon's own tool.

What such a role sees is PostgreSQL's own affair (migrations/0010_ledger_readers.sql): the views are the same for all.
"""

import re
from pathlib import Path
from typing import Final

import asyncpg

from ledger.database_roles import LOGIN_ROLES
from ledger.errors import BadParameter, OperatorError
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId

SQL = load_statements(Path(__file__).with_suffix(".sql"))

EVERY_LEDGER: Final = "booking_ledger_reader"
ONE_LEDGER: Final = "booking_ledger_bound_reader"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


async def make_reader(connection: Connection, role: str, ledger_id: LedgerId | None) -> None:
    """The role logs in and sees this ledger, or every one (None), through the public views, and nothing else of ours.

    The roles of `create_roles` are there, and `connection` may do what that wants. Raises BadParameter for a name that
    will not do, OperatorError for a role that can do more than a reader must.
    """
    if not _NAME.fullmatch(role) or role.startswith(("pg_", "booking_ledger")) or role in LOGIN_ROLES:
        raise BadParameter(
            "the reader's name",
            "must be up to 63 small letters, digits and underscores, a letter first, and be no name of our own roles",
        )
    try:
        async with connection.transaction():
            await _refuse_too_powerful(connection, role)
            await connection.execute(SQL["choose_reader"], role, EVERY_LEDGER if ledger_id is None else ONE_LEDGER)
            await connection.execute(SQL["make_reader"])
            if ledger_id is None:
                await connection.execute(SQL["unbind_reader"], role)
            else:
                await connection.execute(SQL["bind_reader"], role, ledger_id)
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(f"DATABASE_URL's role may not make readers ({error}).") from error


async def is_reader(connection: Connection, role: str) -> bool:
    """Whether this role was made here to read the views."""
    found: bool = await connection.fetchval(SQL["is_reader"], role)
    return found


async def _refuse_too_powerful(connection: Connection, role: str) -> None:
    if await connection.fetchval(SQL["read_reader_powers"], role):
        raise OperatorError(
            f"{role} existed before and can do more than a reader must: a power of its own, other roles' rights or "
            "things that it owns. Choose another name, or take those away."
        )
