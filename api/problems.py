"""Errors as RFC 9457 problem documents: the one place where an error of ours gets an HTTP code."""

import http
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException

from api.hardening import NOT_KEPT
from ledger.errors import (
    AppenderFull,
    BadParameter,
    BodyTooLarge,
    BookingLedgerError,
    CalComUnavailable,
    EncodingUnsupported,
    ErasureUnderWay,
    EventUnsupported,
    NotFound,
    NotLinkable,
    OperatorError,
    RebuildUnderWay,
    SecretMissing,
    SignatureRefused,
    SpoolRefused,
    StoreUnavailable,
    TooManyTries,
    VersionConflict,
)
from ledger.postgres import is_database_away

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 5

STATUS_OF: dict[type[BookingLedgerError], int] = {
    SignatureRefused: 401,
    SecretMissing: 503,
    BodyTooLarge: 413,
    EncodingUnsupported: 415,
    TooManyTries: 429,
    EventUnsupported: 400,
    NotFound: 404,
    NotLinkable: 409,
    BadParameter: 400,
    VersionConflict: 409,
    RebuildUnderWay: 409,
    ErasureUnderWay: 409,
    AppenderFull: 503,
    CalComUnavailable: 503,
    StoreUnavailable: 503,
    SpoolRefused: 503,
    OperatorError: 503,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457: `type` is about:blank, so `title` is the status code's own phrase."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str

    def encoded(self) -> bytes:
        return msgspec.json.encode({"type": self.type, **msgspec.structs.asdict(self)})


def problem_of(error: Exception) -> Problem:
    """What the sender of a request may know of an error."""
    if isinstance(error, BookingLedgerError):
        status = next(code for kind, code in STATUS_OF.items() if isinstance(error, kind))
        return _problem(status, str(error))
    if isinstance(error, HTTPException):
        return _problem(error.status_code, str(error.detail))
    if is_database_away(error):
        return problem_of(StoreUnavailable(type(error).__name__))
    return _problem(500, "Something went wrong on our side; it has been logged.")


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    problem = problem_of(error)
    if problem.status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", path=request.scope["path"], exc_info=error)
    headers = {**NOT_KEPT, **retry_after(error, problem.status)}
    if isinstance(error, HTTPException):
        headers |= error.headers or {}
    if problem.status == http.HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(
        problem.encoded(),
        status_code=problem.status,
        media_type=MediaType.JSON,
        headers=headers | {"content-type": PROBLEM_JSON},
    )


def retry_after(error: Exception, status: int) -> dict[str, str]:
    """The header that says when to come again, where that helps."""
    if isinstance(error, TooManyTries):
        return {"retry-after": str(error.wait_seconds)}
    return {"retry-after": str(RETRY_AFTER_SECONDS)} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else {}


def _problem(status: int, detail: str) -> Problem:
    return Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail)
