"""Ways into PostgreSQL: the pool, a single connection, and the two questions asked of a server before it is used.

Only composition roots open pools and connections; everything else takes a `Connection`.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from ledger.errors import OperatorError, ServerUnreachable, UnsafeServer
from ledger.keyring import Keyring
from ledger.sql import load_statements

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
"""What functions take: opened alone or acquired from the pool."""


class LedgerConnection(asyncpg.Connection):
    """One that carries the keys that bodies are sealed with and opened; those of a pool have one keyring together."""

    __slots__ = ("_is_as_it_was", "keyring")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # the driver's own affair
        super().__init__(*args, **kwargs)
        self.keyring = Keyring()
        self._is_as_it_was = False

    def leave_as_it_was(self) -> None:
        """Who has it now changes nothing of the session, so its pool need not ask the server to put things right."""
        self._is_as_it_was = True

    def get_reset_query(self) -> str:
        as_it_was, self._is_as_it_was = self._is_as_it_was, False
        return "" if as_it_was else super().get_reset_query()


APPLICATION_NAME: Final = "booking-ledger"
SERVER_MAJOR_MIN: Final = 15
CONNECT_SECONDS_MAX: Final = 5.0
CLOSE_SECONDS_MAX: Final = 5.0
STATEMENT_SECONDS_MAX: Final = 30.0
LOCK_WAIT_SECONDS_MAX: Final = 5.0
IDLE_IN_TRANSACTION_SECONDS_MAX: Final = 30.0
ANSWER_GRACE_SECONDS: Final = 5.0
"""How much longer than the server we wait for a statement's end: after that it is the network that is silent."""

SQL = load_statements(Path(__file__).with_suffix(".sql"))

# The first kind that fits, so the narrower ones first. The words are our own: a driver's or a server's message may
# quote a piece of a badly written URL, and that piece may be of the password.
CAUSES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (asyncpg.InvalidPasswordError, "the password is missing or wrong"),
    (asyncpg.InvalidAuthorizationSpecificationError, "the user is unknown, or pg_hba.conf does not let it in"),
    (asyncpg.InvalidCatalogNameError, "the database does not exist"),
    (asyncpg.TooManyConnectionsError, "too many connections"),
    (asyncpg.CannotConnectNowError, "the server is starting up or shutting down"),
    (asyncpg.ProtocolViolationError, "a connection pooler stands before it: set DATABASE_DIRECT_URL too"),
    (asyncpg.PostgresConnectionError, "the connection was closed at once"),
    (TimeoutError, f"no answer within {CONNECT_SECONDS_MAX:g} s"),
    (socket.gaierror, "the host name is unknown"),
    (ssl.SSLError, "the server's TLS certificate is not trusted for that host"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "the connection was closed at once"),
    (ConnectionError, "the server does not offer the TLS that is asked for"),
    (FileNotFoundError, "there is no socket at that path"),
    (PermissionError, "the socket may not be opened"),
    (OSError, "the host cannot be reached"),
    (asyncpg.InterfaceError, "the URL, or a file that it names, cannot be used"),
    (ValueError, "the URL cannot be understood"),
    (IndexError, "the URL cannot be understood"),
)

DATABASE_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
# What a statement can be refused for because of the values given to it; every other error is the server's own trouble.
VALUE_FAULTS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.CardinalityViolationError,
)

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
# Of those, what stays as it is until somebody changes a setting.
SET_UP_WRONGLY: Final = (asyncpg.ProtocolViolationError, asyncpg.InterfaceError, ssl.SSLError, PermissionError)

Opened = TypeVar("Opened")


async def open_pool(
    dsn: str,
    *,
    connections_min: int = 1,
    connections_max: int = 10,
    statement_seconds_max: float = STATEMENT_SECONDS_MAX,
    behind_pooler: bool = False,
    keyring: Keyring | None = None,
) -> asyncpg.Pool:
    """A pool with one connection made, hence proved, unless `connections_min` is 0; the caller closes it.

    `behind_pooler` is for a transaction pooler (PgBouncer) between us and the server. It refuses our time limits,
    forgets prepared statements, and takes a RESET of ours for a wish to lose UTC, so all three are left out.
    `statement_seconds_max` is more than 0. `keyring`: without one, bodies are opened and sealed by the root key in the
    database. Raises ServerUnreachable.
    """
    shared = keyring or Keyring()

    async def hand_over(connection: asyncpg.Connection) -> None:
        cast("LedgerConnection", connection).keyring = shared

    pool = asyncpg.create_pool(
        dsn,
        connection_class=LedgerConnection,
        init=hand_over,
        min_size=connections_min,
        max_size=connections_max,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=statement_seconds_max + ANSWER_GRACE_SECONDS,
        server_settings=_session_settings(statement_seconds_max, behind_pooler=behind_pooler),
        statement_cache_size=0 if behind_pooler else 100,
        reset=_reset_nothing if behind_pooler else None,
    )
    return await _reached(pool)


async def connect(
    dsn: str, *, statement_seconds_max: float = STATEMENT_SECONDS_MAX, keyring: Keyring | None = None
) -> LedgerConnection:
    """One connection past any pooler, for LISTEN, session locks and migrations; the caller closes it.

    `keyring`: as for a pool. Raises ServerUnreachable.
    """
    settings = _session_settings(statement_seconds_max, behind_pooler=False)
    connection = await _reached(
        asyncpg.connect(dsn, timeout=CONNECT_SECONDS_MAX, server_settings=settings, connection_class=LedgerConnection)
    )
    if keyring is not None:
        connection.keyring = keyring
    return connection


async def close_pool(pool: asyncpg.Pool) -> None:
    """The pool is closed, whether or not its server says goodbye."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await pool.close()


@contextlib.asynccontextmanager
async def borrowed(pool: asyncpg.Pool, *, seconds_max: float) -> AsyncIterator[Connection]:
    """A connection for the block, which leaves its session as it was. Raises TimeoutError when all takes longer.

    A connection that is silent then is dropped: to take it back the pool would wait for its server.
    """
    async with asyncio.timeout(seconds_max), pool.acquire() as connection:
        connection.leave_as_it_was()  # type: ignore[attr-defined]  # ours, of LedgerConnection
        try:
            yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise


def is_database_trouble(error: BaseException) -> bool:
    """Whether the database, or the way to it, was not well: the same may pass if it is tried again."""
    return isinstance(error, DATABASE_ERRORS) and not isinstance(error, VALUE_FAULTS)


def is_database_away(error: BaseException) -> bool:
    """Whether nothing can be asked of the database right now."""
    return isinstance(error, AWAY)


async def refuse_unsafe_server(connection: Connection) -> None:
    """Raises UnsafeServer unless a commit that was answered survives a crash of the server.

    `connection` is an ordinary one of ours, since what counts is what our own transactions get. Composition roots call
    this; tests, whose cluster runs without fsync, do not.
    """
    (row,) = await connection.fetch(SQL["read_durability"])
    for setting, value in row.items():
        if value == "off":
            raise UnsafeServer(setting)


def refuse_old_server(connection: Connection) -> None:
    """Raises OperatorError below PostgreSQL 15."""
    major = connection.get_server_version().major
    if major < SERVER_MAJOR_MIN:
        raise OperatorError(
            f"The server is PostgreSQL {major}; this program needs {SERVER_MAJOR_MIN} or newer: "
            "upgrade it, or let DATABASE_URL name another server."
        )


async def _reached(opening: Awaitable[Opened]) -> Opened:
    """What was opened. The driver's error is not chained: its message is not ours to show."""
    driver = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    try:
        return await opening
    except (*driver, OSError, ValueError, IndexError) as error:
        may_pass = isinstance(error, AWAY) and not isinstance(error, SET_UP_WRONGLY)
        raise ServerUnreachable(_cause(error), may_pass=may_pass) from None


def _cause(error: BaseException) -> str:
    for kind, cause in CAUSES:
        if isinstance(error, kind):
            return cause
    sqlstate = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}, SQLSTATE {sqlstate}" if sqlstate else type(error).__name__


async def _reset_nothing(_connection: asyncpg.Connection) -> None:
    """The driver has rolled back what was open; a session's state is the pooler's affair."""


def _session_settings(statement_seconds_max: float, *, behind_pooler: bool) -> dict[str, str]:
    settings = {"application_name": APPLICATION_NAME, "timezone": "UTC"}
    if not behind_pooler:
        settings |= {
            "statement_timeout": _milliseconds(statement_seconds_max),
            "lock_timeout": _milliseconds(LOCK_WAIT_SECONDS_MAX),
            "idle_in_transaction_session_timeout": _milliseconds(IDLE_IN_TRANSACTION_SECONDS_MAX),
        }
    return settings


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
