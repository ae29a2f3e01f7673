"""The short way of a delivery: from the parsed request straight to what keeps it, and back in one write.

ASGI hands a request over in messages and takes the answer back in messages, to a task of its own, and a framework looks
at each of them. That costs more than to verify a delivery, to file it and to seal it. So the ordinary delivery, a POST
to one of our addresses with a body of a known and modest length, does not go there. Whatever is out of the ordinary
does: other methods, long bodies, chunks, compressed ones, senders who want to be asked before they go on. It meets the
same code, and gets the same answer (api/webhooks.py).
"""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, Final, TypeAlias, cast

import msgspec
import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

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
    """It goes on with `then` when `until` is done, well or not; `then` is handed it."""

    until: "asyncio.Future[Any]"
    then: Callable[["asyncio.Future[Any]"], "Taken"]


Taken: TypeAlias = Answer | Later | Coroutine[Any, Any, Answer]
"""The answer; or what has to come first; or, where it takes more than one wait, something for a task."""


class ShortWay(msgspec.Struct, frozen=True, kw_only=True):
    """Where it begins and where it leads.

    `path` matches what is asked for as it was sent; its group is the ledger's name. `take` gets that name, or nothing,
    the headers, their names in lower case, and the body. `fail` says what to answer to an error that nobody expected.
    `miss` is told of a delivery whose sender was gone before its body was complete.
    """

    path: re.Pattern[bytes]
    take: Callable[[str, Iterable[Header], bytes], Taken]
    fail: Callable[[Exception], Answer]
    miss: Callable[[], None]


class _Delivery(RequestResponseCycle):
    """A delivery on the short way, in the place of uvicorn's cycle: it has what is asked of the latest request.

    It knows no scope and no application, and nobody waits for its messages.
    """

    disconnected = False
    response_started = False
    response_complete = False
    more_body = True
    has_its_turn = False
    """No earlier request of this connection is to be answered before."""
    message_event = asyncio.Event()

    def __init__(
        self, way: ShortWay, path: bytes, ledger_name: str, headers: list[Header], *, keep_alive: bool
    ) -> None:
        self.way = way
        self.path = path
        self.ledger_name = ledger_name
        self.headers = headers
        self.keep_alive = keep_alive
        self.body_parts: list[bytes] = []


class DeliveryProtocol(BoundedProtocol):
    """One connection, on which deliveries go the short way.

    What the parser reads of a head is put by until it is whole. Then it is a delivery's, or uvicorn is told all of it.
    """

    short_way: ClassVar[ShortWay | None] = None
    """The same for all connections; without one there is only the ordinary way."""
    _fixed: ClassVar[tuple[Iterable[Header], bytes]] = ((), b"")
    """The headers that every answer has, and as they are written."""

    def on_message_begin(self) -> None:
        self.begin_head()
        self.url, self.headers = b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        delivery = self._ordinary_delivery()
        if delivery is None:
            self._tell_uvicorn()
            super().on_headers_complete()
            return
        self._stage = "body"
        before = cast("RequestResponseCycle | None", self.cycle)
        self.cycle = delivery
        if before is None or before.response_complete:
            delivery.has_its_turn = not self.transport.is_closing()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((delivery, self.app))

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, _Delivery):
            self.cycle.body_parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        delivery = self.cycle
        if not isinstance(delivery, _Delivery):
            super().on_message_complete()
            return
        self._stage = "whole"
        delivery.more_body = False
        if delivery.has_its_turn:
            self._set_out(delivery)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if isinstance(self.cycle, _Delivery) and self.cycle.more_body:
            self.cycle.way.miss()

    def _ordinary_delivery(self) -> _Delivery | None:
        """What has just begun, if it is one."""
        way = self.short_way
        if way is None or self.parser.get_method() != b"POST":
            return None
        match = way.path.fullmatch(self.url)
        if match is None:
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length")  # digits, once: the parser has seen to that
        if length is None or int(length) > BODY_BYTES_MAX or b"content-encoding" in headers or b"expect" in headers:
            return None
        keep_alive = self.parser.should_keep_alive() and (
            b"connection" not in headers or self.parser.get_http_version() != "1.0"
        )
        return _Delivery(way, self.url, (match[1] or b"").decode(), self.headers, keep_alive=keep_alive)

    def _tell_uvicorn(self) -> None:
        """It has heard what there is to hear before the end of a head."""
        url, headers = self.url, self.headers
        HttpToolsProtocol.on_message_begin(self)
        self.on_url(url)
        for name, value in headers:
            super().on_header(name, value)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Awaitable[None]]) -> None:
        """The request, whose turn it is and whose head is there, goes one way or the other."""
        if not isinstance(cycle, _Delivery):
            super()._start_asgi_task(cycle, app)
            return
        cycle.has_its_turn = True
        if not cycle.more_body:  # it was sent ahead: a thousand such are no thousand frames deep
            self.loop.call_soon(self._set_out, cycle)

    def _set_out(self, delivery: _Delivery) -> None:
        self._go_on(delivery, delivery.way.take, delivery.ledger_name, delivery.headers, b"".join(delivery.body_parts))

    def _go_on(self, delivery: _Delivery, step: Callable[..., Taken], *arguments: Any) -> None:  # noqa: ANN401  # `step`'s
        try:
            taken = step(*arguments)
        except Exception as error:  # whatever it is, the sender is answered
            log.exception("request_failed", path=delivery.path.decode())
            taken = delivery.way.fail(error)
        if isinstance(taken, Answer):
            if not self.flow.write_paused or delivery.disconnected:
                self._answer(delivery, taken)
                return
            taken = self._when_read(taken)
        if not isinstance(taken, Later):
            task = self.loop.create_task(taken)
            self.tasks.add(task)  # type: ignore[arg-type]  # uvicorn waits for them at its end, whatever they give
            task.add_done_callback(self.tasks.discard)
            taken = Later(until=task, then=asyncio.Task.result)
        taken.until.add_done_callback(functools.partial(self._go_on, delivery, taken.then))

    async def _when_read(self, answer: Answer) -> Answer:
        """The sender has read enough of our earlier answers to get another."""
        await self.flow.drain()
        return answer

    def _answer(self, delivery: _Delivery, answer: Answer) -> None:
        if delivery.disconnected:
            return
        delivery.response_started = delivery.response_complete = True
        self.transport.write(self._written(answer, keep_alive=delivery.keep_alive))
        if not delivery.keep_alive:
            self.transport.close()
        self.on_response_complete()

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
