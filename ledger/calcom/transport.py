"""One request to Cal.com's API: paced, bounded in time and size, tried again where that can help, refused in our words.

Who must act is told by the error: the caller may try again later (CalComUnavailable), the operator has to change
something (CalComKeyRefused, CalComRejected, CalComUnreadable).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Literal, TypeVar

import httpx
import msgspec
import structlog

from ledger.calcom.answers import read_allowances, read_error, read_seconds
from ledger.calcom.pacing import BLOCK_SECONDS, Allowance, Pacing
from ledger.calcom.payloads import Unreadable
from ledger.errors import (
    BookingLedgerError,
    CalComKeyRefused,
    CalComRejected,
    CalComUnavailable,
    CalComUnreadable,
)
from ledger.settings import Secret

ANSWER_SECONDS_MAX: Final = 60.0
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
ATTEMPTS_MAX: Final = 5
UNREADABLE_ATTEMPTS_MAX: Final = 3
BACKOFF_SECONDS: Final = 1.0
BACKOFF_SECONDS_MAX: Final = 30.0
TOLD_WAIT_SECONDS: Final = 1.0
"""A pause for the rate limit that is longer than this is logged."""

TOKEN_EXPIRED: Final = 498
KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, TOKEN_EXPIRED})
PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
FIRST_SERVER_ERROR: Final = 500
FIRST_REFUSAL: Final = 400
FIRST_REDIRECT: Final = 300

Read = TypeVar("Read")

log = structlog.get_logger()


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask. `path` goes behind the base URL; its parts are quoted already."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    version: str
    parameters: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None

    @property
    def words(self) -> str:
        """As errors and logs name it: no parameter, since those may hold an e-mail."""
        return f"{self.method} {self.path}"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Passing(Exception):
    """It may be better the next time; if not, `error` is what it comes to. `cause` is for the log, in our words.

    `reached`: Cal.com may have acted on it. `attempts_max`: where fewer attempts than usual are worth it.
    """

    def __init__(
        self, cause: str, error: BookingLedgerError, *, reached: bool = True, attempts_max: int | None = None
    ) -> None:
        self.cause = cause
        self.error = error
        self.reached = reached
        self.attempts_max = attempts_max
        super().__init__(str(error))


class Transport:
    """One key's way to one server."""

    def __init__(
        self,
        base_url: str,
        key: Secret,
        *,
        client: httpx.AsyncClient,
        pacing: Pacing,
        attempts_max: int,
        answer_seconds_max: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._authorization = b"Bearer " + key.reveal().strip()
        self._client = client
        self._attempts_max = attempts_max
        self._answer_seconds_max = answer_seconds_max
        self._pacing = pacing
        self._gate = asyncio.Lock()
        self._clock, self._sleep, self._jitter = clock, sleep, jitter

    async def ask(self, request: Request, read: Callable[[bytes], Read]) -> Read:
        """What `read` makes of the answer's body.

        A POST is not sent twice once Cal.com may have it: what would come of it is not known. Raises CalComUnavailable,
        CalComKeyRefused, CalComRejected, CalComUnreadable, and whatever `read` raises besides Unreadable.
        """
        attempt = 1
        while True:
            try:
                return self._understand(request, await self._exchange(request), read)
            except _Passing as trouble:
                attempts_max = min(trouble.attempts_max or self._attempts_max, self._attempts_max)
                if attempt >= attempts_max or (request.method == "POST" and trouble.reached):
                    raise trouble.error from trouble.__cause__
                pause_seconds = self._jitter() * min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS * 2 ** (attempt - 1))
                log.info(
                    "cal_com_retry",
                    request=request.words,
                    attempt=attempt,
                    cause=trouble.cause,
                    pause_seconds=round(pause_seconds, 2),
                )
            await self._sleep(pause_seconds)
            attempt += 1

    async def _exchange(self, request: Request) -> Answer:
        """The answer, whatever its status. Raises _Passing where there is none, CalComUnreadable if it is too long."""
        await self._wait_for_a_place(request)
        allowances: dict[str, Allowance] = {}
        try:
            async with (
                asyncio.timeout(self._answer_seconds_max),
                self._client.stream(
                    request.method,
                    self._base_url + request.path,
                    params=request.parameters,
                    content=request.content,
                    headers=self._headers(request),
                    follow_redirects=False,
                ) as response,
            ):
                allowances = read_allowances(response.headers.items())
                body = await _read_body(request, response)
                return Answer(status=response.status_code, headers=response.headers, body=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _without_answer(request, error, reached=False) from error
        except (httpx.RequestError, TimeoutError) as error:
            raise _without_answer(request, error, reached=True) from error
        finally:
            self._pacing.answered(self._clock(), allowances)

    async def _wait_for_a_place(self, request: Request) -> None:
        """Until Cal.com's limit allows one more; first come, first served."""
        async with self._gate:
            while (delay_seconds := self._pacing.delay_seconds(self._clock())) > 0:
                if delay_seconds > TOLD_WAIT_SECONDS:
                    log.info("cal_com_limit_wait", request=request.words, seconds=round(delay_seconds, 1))
                await self._sleep(delay_seconds)
            self._pacing.departed()

    def _headers(self, request: Request) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"authorization", self._authorization),
            (b"cal-api-version", request.version.encode()),
            (b"accept", b"application/json"),
            (b"user-agent", b"booking-ledger"),
        ]
        return headers if request.content is None else [*headers, (b"content-type", b"application/json")]

    def _understand(self, request: Request, answer: Answer, read: Callable[[bytes], Read]) -> Read:
        if answer.status >= FIRST_REDIRECT:
            raise self._refusal(request, answer)
        try:
            return read(answer.body)
        except Unreadable as error:
            unreadable = CalComUnreadable(request.words, str(error))
            raise _Passing("unreadable", unreadable, attempts_max=UNREADABLE_ATTEMPTS_MAX) from error

    def _refusal(self, request: Request, answer: Answer) -> Exception:
        """What an answer other than a success comes to."""
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pacing.blocked(self._clock(), _block_seconds(answer))
            return _Passing("429", CalComUnavailable(request.words, "429, too many requests"), reached=False)
        error = read_error(answer.body)
        if answer.status >= FIRST_SERVER_ERROR or answer.status in PASSING:
            return _Passing(f"{answer.status}", CalComUnavailable(request.words, f"{answer.status}, {error.reason}"))
        if answer.status in KEY_REFUSED:
            return CalComKeyRefused(answer.status, error.reason)
        if answer.status < FIRST_REFUSAL:
            return CalComUnreadable(request.words, f"{answer.status}, a redirect to another address")
        return CalComRejected(request.words, answer.status, error.reason, sentences=error.sentences)


async def _read_body(request: Request, response: httpx.Response) -> bytes:
    """The whole body, unpacked. Raises CalComUnreadable once it is too large."""
    parts, size_bytes = [], 0
    async for part in response.aiter_bytes():
        size_bytes += len(part)
        if size_bytes > ANSWER_BYTES_MAX:
            raise CalComUnreadable(request.words, f"larger than {ANSWER_BYTES_MAX:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _without_answer(request: Request, error: Exception, *, reached: bool) -> _Passing:
    cause = type(error).__name__
    return _Passing(cause, CalComUnavailable(request.words, cause), reached=reached)


def _block_seconds(answer: Answer) -> float:
    """How long Cal.com stays silent now. Its reset may be that of the window, which ends before the block does."""
    retry_after = read_seconds(answer.headers.get("retry-after"))
    if retry_after is not None:
        return retry_after
    resets = (allowance.reset_seconds for allowance in read_allowances(answer.headers.items()).values())
    return max((BLOCK_SECONDS, *resets))
