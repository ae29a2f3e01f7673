"""People who sign in with a name and a password, and what they may do."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ledger.errors import BadParameter, NotFound
from ledger.postgres import Connection
from ledger.sql import load_statements
from ledger.vocabulary import LedgerId, Role

SQL = load_statements(Path(__file__).with_suffix(".sql"))

USER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may sign in unless disabled; `ledger_id` None: for every ledger."""

    user_id: UUID
    name: str
    role: Role
    ledger_id: LedgerId | None
    password_hash: str
    disabled: bool


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a user, without the password. `ledger` None: every one."""

    name: str
    role: Role
    ledger: str | None
    state: str
    sessions: int
    created_at: datetime
    password_changed_at: datetime
    last_signed_in_at: datetime | None
    disabled_at: datetime | None


def user_name(text: str) -> str:
    """The name as it is kept: in lower case. Raises BadParameter."""
    name = text.strip().lower()
    if not USER_NAME.fullmatch(name):
        raise BadParameter("the name", "must be up to 100 letters, digits and . _ @ + -, a letter or digit first")
    return name


async def create_user(
    connection: Connection, user_id: UUID, *, name: str, role: Role, ledger_id: LedgerId | None, password_hash: str
) -> None:
    """The user may sign in. Raises BadParameter where the name is taken."""
    if not await connection.fetch(SQL["insert_user"], user_id, name, role, ledger_id, password_hash):
        raise BadParameter("the name", "is taken by another user")


async def list_users(connection: Connection) -> Sequence[UserRecord]:
    """Every user by name, the disabled ones too."""
    return [
        UserRecord(state="disabled" if row["disabled_at"] else "active", **dict(row))
        for row in await connection.fetch(SQL["read_users"])
    ]


async def find_user(connection: Connection, name: str) -> User | None:
    row = await connection.fetchrow(SQL["find_user"], name)
    return None if row is None else User(**dict(row))


async def set_disabled(connection: Connection, name: str, *, disabled: bool) -> None:
    """The user may sign in no more, or again; open sessions have ended. Raises NotFound."""
    async with connection.transaction():
        user_id = await connection.fetchval(SQL["set_disabled"], name, disabled)
        await _end_sessions(connection, user_id, name)


async def set_password(connection: Connection, name: str, password_hash: str) -> None:
    """The new password opens, the old one does not, and open sessions have ended. Raises NotFound."""
    async with connection.transaction():
        user_id = await connection.fetchval(SQL["set_password"], name, password_hash)
        await _end_sessions(connection, user_id, name)


async def renew_hash(connection: Connection, user: User, password_hash: str) -> None:
    await connection.execute(SQL["renew_hash"], user.user_id, user.password_hash, password_hash)


async def _end_sessions(connection: Connection, user_id: UUID | None, name: str) -> None:
    if user_id is None:
        raise NotFound(f"user {name}")
    await connection.execute(SQL["end_sessions"], user_id)
