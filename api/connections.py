"""Slow senders and too many of them, kept within bounds where the bytes come in.

uvicorn knows no limit for how long a request's head or its body may take, how large either may get, nor how many
connections there may be without turning away whoever comes next. This protocol does. A sender who exceeds one gets a
problem document (400, 408, 413 or 431), and the connection is closed.

When there are as many connections as there may be, room is made by closing the one whose sender has kept us waiting
longest, between two requests or in the middle of one. A genuine delivery takes milliseconds to send, so whoever fills
the place with slow connections pushes out their own. Only where every connection waits for us is the newcomer turned
away.

It costs a request that comes in one piece a few comparisons; a timer is started only for one that does not.
"""

import asyncio
import functools
import http
import resource
from typing import Any, ClassVar, Final, Literal, cast

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.hardening import NOT_KEPT
from api.problems import PROBLEM_JSON, Problem

FILES_WANTED: Final = 65_536
FILES_FOR_OTHERS: Final = 200
"""What this process opens besides senders' connections: to Postgres, the spool, its logs."""
CONNECTIONS_MAX: Final = 10_000

Stage = Literal["head", "body", "whole"]

log = structlog.get_logger()


class BoundedProtocol(HttpToolsProtocol):
    """One connection; what is the same for all of them stands in the class.

    Its own attributes have slots: with uvicorn's they would be more than CPython keeps without a hash table for each
    connection, which made all of them slower to reach.
    """

    __slots__ = ("_chunk_bytes", "_deadline", "_idle_since", "_pending_bytes", "_stage", "_timed_stage")

    head_seconds_max: ClassVar[float] = 10.0
    body_seconds_max: ClassVar[float] = 10.0
    head_bytes_max: ClassVar[int] = 64 * 1024
    request_bytes_max: ClassVar[int] = 8 * 1024 * 1024
    """On the wire, chunks and all; what is in it has limits of its own, far below."""
    connections_max: ClassVar[int] = CONNECTIONS_MAX
    waiting: ClassVar[dict["BoundedProtocol", None]] = {}
    """Those whose sender is to send something, the longest waiting first."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # they are uvicorn's
        super().__init__(*arguments, **named)
        self._stage: Stage = "head"
        self._timed_stage: Stage | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._pending_bytes = 0
        self._chunk_bytes = 0
        self._idle_since: float | None = None
        """When the last answer went out, by the loop's clock; None: more has come in since."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            longest = next(iter(self.waiting), self)
            self.waiting.pop(longest, None)
            longest.transport.abort()
        if not transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._stage == "whole":
            self._stop_waiting()
            if self.cycle.response_complete:  # we answered before the end, and now wait for what comes next
                self.waiting[self] = None
            return
        self._pending_bytes += self._chunk_bytes
        if self._stage == "head" and self._pending_bytes > self.head_bytes_max:
            self._refuse(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._pending_bytes > self.request_bytes_max:
            self._refuse(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif self._stage != self._timed_stage:
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begin_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._stage = "body"

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stage = "whole"

    def begin_head(self) -> None:
        self._stage, self._timed_stage = "head", None
        self._pending_bytes = -self._chunk_bytes  # how much of this chunk belongs to requests before, nobody knows

    def on_response_complete(self) -> None:
        """As in uvicorn, but a timer that runs is left alone, since to stop and start one costs each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._look_again_in(self.timeout_keep_alive)
        if self._stage == "whole" and not self.transport.is_closing():
            self.waiting[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """A connection that has been idle for long enough is closed; a busy one begins anew when it is idle."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        seconds_left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if seconds_left > 0:
            self._look_again_in(seconds_left)
        else:
            self.transport.close()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """What uvicorn does with whatever comes in."""
        self._idle_since = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's words
        self._refuse(http.HTTPStatus.BAD_REQUEST)

    def _wait(self) -> None:
        """The sender is to go on; the place in the queue and the deadline are those of the new stage."""
        self._stop_waiting()
        self.waiting[self] = None
        self._timed_stage = self._stage
        seconds = self.head_seconds_max if self._stage == "head" else self.body_seconds_max
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        self.waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # it is we who do not read on
            self._wait()
        elif cast("object | None", self.headers) is None:  # not a word so far
            self.transport.close()
        else:
            self._refuse(http.HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: http.HTTPStatus) -> None:
        """The connection is closed, with an answer where it is this request's turn and none has begun."""
        if self.transport.is_closing():
            return
        log.info("request_refused", status=int(status), stage=self._stage)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_unanswered = self._stage == "body" and not self.pipeline and not self.cycle.response_started
        if cycle is None or cycle.response_complete or is_unanswered:
            fixed = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
            self.transport.write(b"".join([STATUS_LINE[status], *fixed, _refusal(status)]))
        self.transport.close()


@functools.cache
def _refusal(status: http.HTTPStatus) -> bytes:
    """The end of a head, and the body."""
    body = Problem(title=status.phrase, status=status, detail=DETAILS[status]).encoded()
    headers = {**NOT_KEPT, "content-type": PROBLEM_JSON, "content-length": str(len(body)), "connection": "close"}
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body


DETAILS: Final = {
    http.HTTPStatus.BAD_REQUEST: "This is no HTTP request.",
    http.HTTPStatus.REQUEST_TIMEOUT: "The request did not come in time.",
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request is too large.",
    http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too large.",
}


def room_for_connections() -> int:
    """How many connections there may be: as many as the operating system allows once asked for more, within our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    return max(1, min(CONNECTIONS_MAX, files - FILES_FOR_OTHERS))
