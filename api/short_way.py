"""The short way of a delivery: from the parsed request straight to what keeps it, and back in one write.

ASGI hands a request over in messages and takes the answer back in messages, to a task of its own, and a framework looks
at each of them. That costs more than to verify a delivery, to file it and to seal it. So the ordinary delivery, a POST
to one of our addresses with a body of a known and modest length, does not go there. Whatever is out of the ordinary
does: other methods, long bodies, chunks, compressed ones, senders who want to be asked before they go on. It meets the
same code, and gets the same answer (api/webhooks.py).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, Final, TypeAlias

import msgspec
import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.connections import BoundedProtocol
from api.hardening import NOT_KEPT

JSON: Final = b"application/json"
BODY_BYTES_MAX: Final = HIGH_WATER_LIMIT
"""What uvicorn takes in before it waits for somebody to ask for the body."""
_NOT_KEPT: Final = b"".join(f"{name}: {value}\r\n".encode() for name, value in NOT_KEPT.items())

Header = tuple[bytes, bytes]

log = structlog.get_logger()


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a delivery is answered. `headers` beside those of the content and those that every answer has."""

    status: int = 200
    body: bytes
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """It goes on with `then` when `until` is done, well or not."""

    until: "asyncio.Future[Any]"
    then: Callable[[], "Taken"]


Taken: TypeAlias = Answer | Later | Coroutine[Any, Any, Answer]
"""The answer; or what has to come first; or, where it takes more than one wait, something for a task."""


class ShortWay(msgspec.Struct, frozen=True, kw_only=True):
    """Where it begins and where it leads.

    `path` matches the raw path; its group is the ledger's name. `take` gets that name, or nothing, the headers, their
    names in lower case, and the body. `fail` says what to answer to an error that nobody expected.
    """

    path: re.Pattern[bytes]
    take: Callable[[str, Iterable[Header], bytes], Taken]
    fail: Callable[[Exception], Answer]


class DeliveryProtocol(BoundedProtocol):
    """One connection, on which deliveries go the short way."""

    short_way: ClassVar[ShortWay | None] = None
    """The same for all connections; without one there is only the ordinary way."""
    _fixed: ClassVar[tuple[Iterable[Header], bytes]] = ((), b"")
    """The headers that every answer has, and as they are written."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # they are uvicorn's
        super().__init__(*arguments, **named)
        self._held: tuple[RequestResponseCycle, ShortWay, str] | None = None
        """A delivery whose body is still coming in, and to which ledger."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Awaitable[None]]) -> None:
        """The request, whose turn it is and whose head is there, goes one way or the other."""
        way = self.short_way
        name = None if way is None else _ledger_name(cycle, way.path)
        if way is None or name is None:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._held = cycle, way, name
        else:
            self._set_out(cycle, way, name)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._held is not None:
            held, self._held = self._held, None
            self._set_out(*held)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._held is not None:  # the ordinary way is told that the sender is gone
            (cycle, *_), self._held = self._held, None
            super()._start_asgi_task(cycle, self.app)

    def _set_out(self, cycle: RequestResponseCycle, way: ShortWay, name: str) -> None:
        """It is the loop that begins, not the parser: a thousand requests sent ahead are no thousand frames deep."""
        self.loop.call_soon(self._go_on, cycle, way, lambda: way.take(name, cycle.scope["headers"], bytes(cycle.body)))

    def _go_on(self, cycle: RequestResponseCycle, way: ShortWay, step: Callable[[], Taken]) -> None:
        try:
            taken = step()
        except Exception as error:  # whatever it is, the sender is answered
            log.exception("request_failed", path=cycle.scope["path"])
            taken = way.fail(error)
        if isinstance(taken, Answer):
            if not self.flow.write_paused or cycle.disconnected:
                self._answer(cycle, taken)
                return
            taken = self._when_read(taken)
        if not isinstance(taken, Later):
            task = self.loop.create_task(taken)
            self.tasks.add(task)  # type: ignore[arg-type]  # uvicorn waits for them at its end, whatever they give
            task.add_done_callback(self.tasks.discard)
            taken = Later(until=task, then=task.result)
        then = taken.then
        taken.until.add_done_callback(lambda _: self._go_on(cycle, way, then))

    async def _when_read(self, answer: Answer) -> Answer:
        """The sender has read enough of our earlier answers to get another."""
        await self.flow.drain()
        return answer

    def _answer(self, cycle: RequestResponseCycle, answer: Answer) -> None:
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        self.transport.write(self._written(answer, keep_alive=cycle.keep_alive))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _written(self, answer: Answer, *, keep_alive: bool) -> bytes:
        headers, fixed = DeliveryProtocol._fixed
        if headers is not self.server_state.default_headers:  # another list each second, since the time is in it
            headers = self.server_state.default_headers
            fixed = b"".join(b"%b: %b\r\n" % header for header in headers)
            DeliveryProtocol._fixed = headers, fixed
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n%b" % (
            STATUS_LINE[answer.status],
            fixed,
            answer.content_type,
            len(answer.body),
            _NOT_KEPT,
            b"".join(b"%b: %b\r\n" % header for header in answer.headers) if answer.headers else b"",
            b"" if keep_alive else b"connection: close\r\n",
            answer.body,
        )


def _ledger_name(cycle: RequestResponseCycle, path: re.Pattern[bytes]) -> str | None:
    """The name of the ledger in the path of an ordinary delivery, empty where there is none; None: it is no such."""
    scope = cycle.scope
    if scope["method"] != "POST" or scope["query_string"] or cycle.waiting_for_100_continue:
        return None
    match = path.fullmatch(scope["raw_path"])
    if match is None:
        return None
    headers = dict(scope["headers"])
    length = headers.get(b"content-length")  # digits, once: the parser has seen to that
    if length is None or int(length) > BODY_BYTES_MAX or b"content-encoding" in headers:
        return None
    return (match[1] or b"").decode()
