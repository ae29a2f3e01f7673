"""PostgreSQL roles with no more rights than each needs, so that the database itself holds what the log promises.

The application's role can append and cannot change, remove or renumber an event by any statement; analysts get a role
that reads the public views and nothing else. `ledger/database_roles.sql` says who may do what.
"""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from ledger.errors import BadParameter, OperatorError
from ledger.postgres import Connection
from ledger.sql import load_statements

SQL = load_statements(Path(__file__).with_suffix(".sql"))

LoginRole = Literal["migrator", "application", "projector", "reader", "auditor"]
LOGIN_ROLES: Final[tuple[LoginRole, ...]] = get_args(LoginRole)

PASSWORD_BYTES: Final = 24
PASSWORD_CHARACTERS_MIN: Final = 15
SCRAM_ITERATIONS: Final = 4096
SALT_BYTES: Final = 16


def role_name(role: str) -> str:
    """What PostgreSQL calls it; a single reader's role has its own name (ledger/readers.py)."""
    return f"booking_ledger_{role}" if role in LOGIN_ROLES else role


async def create_roles(connection: Connection) -> None:
    """The roles exist, everything of ours here belongs to the owner's, and each has its rights and no others.

    `connection` is a superuser's, or one that may make roles and owns what is ours. Raises OperatorError where it may
    not, or where a role of such a name has powers that make its rights meaningless; nothing has changed then.
    """
    try:
        async with connection.transaction():
            await connection.execute(SQL["create_roles"])
            await _refuse_too_powerful(connection)
            await _set_rights(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(
            f"DATABASE_URL's role may not do that ({error}); run this once as a superuser, or as one with CREATEROLE "
            "that owns the ledger's tables."
        ) from error


async def renew_rights(connection: Connection) -> bool:
    """What a migration made has its owner and its rights. False where there are no roles, or it is not ours to say.

    Raises OperatorError where this program knows of a role that is not there yet.
    """
    if not await connection.fetchval(SQL["may_renew"]):
        return False
    try:
        async with connection.transaction():
            await _set_rights(connection)
    except asyncpg.UndefinedObjectError as error:
        raise OperatorError(
            f"The schema is up to date, its rights are not ({error}); run: booking-ledger roles create"
        ) from error
    return True


async def set_password(connection: Connection, role: str, password: str) -> None:
    """The role logs in with this password and no other. The server never sees it, only what proves it.

    Raises BadParameter for one that is too short, or that PostgreSQL and its drivers might write in different bytes,
    OperatorError where the role is not there or `connection` may not change it.
    """
    if len(password) < PASSWORD_CHARACTERS_MIN or not password.isascii() or not password.isprintable():
        raise BadParameter("the password", f"must be {PASSWORD_CHARACTERS_MIN} or more printable ASCII characters")
    verifier = _scram_verifier(password, secrets.token_bytes(SALT_BYTES))
    try:
        async with connection.transaction():
            await connection.execute(SQL["choose_password"], role_name(role), verifier)
            await connection.execute(SQL["set_password"])
    except asyncpg.UndefinedObjectError:
        raise OperatorError(f"There is no role {role_name(role)}; run: booking-ledger roles create") from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(f"DATABASE_URL's role may not set passwords ({error}).") from error


async def read_own_rights(connection: Connection) -> tuple[str, bool]:
    """Which role this session is, and whether it has the rights of the log's owner."""
    (row,) = await connection.fetch(SQL["read_own_rights"])
    return row["role"], row["could_change"]


def new_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def role_url(dsn: str, role: str, password: str | None = None) -> str:
    """The same database, for this role; whoever `dsn` names, and their password, are not in it."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    user = quote(role_name(role)) + (f":{quote(password, safe='')}" if password else "")
    kept = "&".join(pair for pair in parts.query.split("&") if pair.partition("=")[0] not in ("user", "password"))
    return urlunsplit((parts.scheme, f"{user}@{host}", parts.path, kept, ""))


async def _set_rights(connection: Connection) -> None:
    await connection.execute(SQL["take_ownership"])
    await connection.execute(SQL["grant_rights"])


async def _refuse_too_powerful(connection: Connection) -> None:
    names = [row["rolname"] for row in await connection.fetch(SQL["read_too_powerful"])]
    if names:
        raise OperatorError(
            f"{', '.join(names)} existed before with powers that make its rights meaningless (SUPERUSER, BYPASSRLS, "
            "CREATEROLE, CREATEDB, REPLICATION, or a login for the owner); take them away, then run this again."
        )


def _scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password (RFC 5802, RFC 7677); of printable ASCII, which SASLprep leaves as it is."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"
