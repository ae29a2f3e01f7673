"""A Cal.com server for tests, on a port of its own: API v2 as its OpenAPI document and CALCOM.md section 5 tell it.

    with fake_calcom(bookings=[…]) as fake:
        ask(fake.url, fake.key)

It is as strict as the real one: on keys, versions, parameters, dates, triggers, and on 120 requests a minute. What it
answers wrongly it answers on purpose: `fake.faults` holds one entry for each of the next requests, either None (answer
well), a Fault, or something to call before answering well (to move rows between two pages, say).

`bookings` are objects as the API has them, and may be changed at any time, also behind its back: what they lack of a
booking's obligatory fields is added in the answer. `change` and `add` also move `updatedAt`, and are seen by lists only
`list_lag_requests` requests later, as from a replica.
"""

import contextlib
import copy
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import msgspec

from tests.fake_calcom_answers import HOSTED_TRIGGERS, Refusal, Reply, answer, error_body, milliseconds

KEY = "cal_test_key"
WINDOW_SECONDS = 60.0
BLOCK_SECONDS = 60.0
SLOW_SECONDS_MAX = 30.0
HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"

FaultKind = Literal["too_many", "html", "error", "slow", "truncated", "cut_off", "reset", "lost", "shape", "redirect"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong answer. `lost` and `cut_off` do what was asked, and then do not say so, or only half of it.

    `truncated` is half a document in a whole answer, `shape` a document of another kind; `status` is for `html` (200
    possible) and `error`.
    """

    kind: FaultKind
    status: int = 502


class Seen(msgspec.Struct, kw_only=True):
    """A request as it came, and the status it was answered with: 0 where there was no answer."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def version(self) -> str | None:
        return self.headers.get("cal-api-version")


class FakeCalCom:
    """The server's state. Tests may read and change all of it; `clock` counts seconds, for the rate limit alone."""

    def __init__(self, bookings: Sequence[Mapping[str, Any]], *, clock: Callable[[], float]) -> None:
        self.bookings: list[dict[str, Any]] = [dict(booking) for booking in bookings]
        self.webhooks: list[dict[str, Any]] = []
        self.requests: list[Seen] = []
        self.faults: deque[Fault | Callable[[], object] | None] = deque()
        self.key = KEY
        self.url = ""
        self.requests_per_minute: int | None = 120
        self.versions: tuple[str, ...] = ("2024-08-13", "2026-05-01")
        self.unknown_version: Literal["first_version", "400", "404"] = "first_version"
        """What an unknown or missing `cal-api-version` leads to; public source: the shape of 2024-04-15, silently."""
        self.triggers: Sequence[str] = HOSTED_TRIGGERS
        self.hosted = True
        """Refuses webhook URLs that are not public https, and AFTER_* triggers without a time."""
        self.unknown_properties: Literal["refused", "dropped"] = "refused"
        self.trigger_refusals: Literal["values", "names", "terse"] = "values"
        """How it says that it does not know a trigger: by those it knows, by the unknown ones, or not at all."""
        self.list_lag_requests = 0
        self.opened_at = datetime.now(UTC)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        """What counts as past and upcoming."""
        self._clock = clock
        self._window_ends_at = 0.0
        self._hits = 0
        self._blocked_until = 0.0
        self._lists_answered = 0
        self._behind: dict[str, tuple[int, dict[str, Any] | None]] = {}
        self._lock = threading.RLock()
        self.closing = threading.Event()

    def change(self, uid: str, **fields: Any) -> None:
        """The booking has these fields, and was updated just now."""
        with self._lock:
            booking = self.find(uid)
            self._behind.setdefault(uid, (self._lists_answered + self.list_lag_requests, copy.deepcopy(booking)))
            booking.update({"updatedAt": milliseconds(self.now()), **fields})

    def add(self, booking: Mapping[str, Any]) -> None:
        """One booking more, made just now."""
        with self._lock:
            moment = milliseconds(self.now())
            self._behind[booking["uid"]] = (self._lists_answered + self.list_lag_requests, None)
            self.bookings.append({"createdAt": moment, "updatedAt": moment, **booking})

    def find(self, uid: str) -> dict[str, Any]:
        return next(booking for booking in self.bookings if booking["uid"] == uid)

    def listed(self) -> list[dict[str, Any]]:
        """The bookings as a list shows them: those changed a moment ago as they were before."""
        self._behind = {uid: old for uid, old in self._behind.items() if old[0] > self._lists_answered}
        self._lists_answered += 1
        if not self._behind:
            return self.bookings
        shown = ((self._behind.get(booking["uid"], (0, booking))[1]) for booking in self.bookings)
        return [booking for booking in shown if booking is not None]

    def spend(self, requests: int) -> None:
        """Another program uses the same key."""
        with self._lock:
            for _ in range(requests):
                self._count(one_too_many=False)

    def statuses(self) -> list[int]:
        """What the requests were answered with, in order."""
        return [seen.status for seen in self.requests]

    def reply(self, seen: Seen) -> tuple[Reply, Fault | None]:
        """The answer, and what is to be wrong with it."""
        with self._lock:
            self.requests.append(seen)
            fault = self.faults.popleft() if self.faults else None
            if fault is not None and not isinstance(fault, Fault):
                fault()
                fault = None
            blocked, limits = self._count(one_too_many=fault is not None and fault.kind == "too_many")
            if blocked:
                reply, fault = Refusal(429, "ThrottlerException", "Too Many Requests").reply(seen.path), None
            elif fault and fault.kind in ("html", "error", "shape", "redirect"):
                reply = _wrong(fault, seen.path)
            else:
                reply = self._answer(seen)
            reply.headers.update({**limits, "X-Request-Id": str(uuid4())})
            seen.status = 0 if fault and fault.kind in ("reset", "lost", "slow") else reply.status
            return reply, fault

    def _answer(self, seen: Seen) -> Reply:
        try:
            return answer(self, seen)
        except Refusal as refusal:
            return refusal.reply(seen.path)

    def _count(self, *, one_too_many: bool) -> tuple[bool, dict[str, str]]:
        """One request more in its window: whether it is refused, and the headers as Cal.com has them.

        The reset that they tell is the window's, also while the block lasts longer.
        """
        now, most = self._clock(), self.requests_per_minute
        if now >= self._blocked_until:
            if self._blocked_until or now >= self._window_ends_at:
                self._window_ends_at, self._hits, self._blocked_until = now + WINDOW_SECONDS, 0, 0.0
            self._hits += 1
            if one_too_many or (most is not None and self._hits > most):
                self._blocked_until = now + BLOCK_SECONDS
        blocked = now < self._blocked_until
        if most is None:
            return blocked, {}
        return blocked, {
            "X-RateLimit-Limit-Default": str(most),
            "X-RateLimit-Remaining-Default": "0" if blocked else str(most - self._hits),
            "X-RateLimit-Reset-Default": str(max(0, ceil(self._window_ends_at - now))),
        }


@contextlib.contextmanager
def fake_calcom(
    bookings: Sequence[Mapping[str, Any]] = (), *, clock: Callable[[], float] = time.monotonic
) -> Iterator[FakeCalCom]:
    """A server for as long as the block lasts."""
    fake = FakeCalCom(bookings, clock=clock)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="fake Cal.com")
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Keeps its connections, to end them all before it is gone."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        self._torn: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        if request in self._torn:
            self._torn.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def tear(self, connection: socket.socket) -> None:
        """The connection will end with a reset, without a goodbye."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._torn.add(connection)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is none of our business; anything else is a mistake in here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: FakeCalCom

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = Seen(
            method=self.command,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )
        try:
            reply, fault = self.fake.reply(seen)
        except Exception as error:  # told to the test as a status that nothing else has
            reply, fault = Reply(599, repr(error).encode()), None
            seen.status = 599
        self._send(reply, fault)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if kind == "slow":
            self.fake.closing.wait(SLOW_SECONDS_MAX)
        if kind in ("reset", "lost", "slow"):
            assert isinstance(self.server, _Server)
            self.server.tear(self.connection)
            self.close_connection = True
            return
        body = reply.body[: len(reply.body) // 2] if kind in ("truncated", "cut_off") else reply.body
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body if kind == "cut_off" else body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = kind == "cut_off"


def _wrong(fault: Fault, path: str) -> Reply:
    if fault.kind == "html":
        return Reply(fault.status, HTML, {"Content-Type": "text/html"})
    if fault.kind == "redirect":
        return Reply(307, b"", {"Location": "https://elsewhere.example.com/v2"})
    if fault.kind == "shape":
        return Reply(200, b'{"status":"success","data":{"what":"is this"},"pagination":7}')
    return Reply(fault.status, error_body(path, "InternalServerErrorException", "Internal server error"))
