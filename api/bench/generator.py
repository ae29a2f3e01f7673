"""The process that puts load on a server over HTTP (api/bench/load.py), on connections that are kept alive.

Requests are made before the clock starts, and of an answer only the status and the length are read, so that it is the
server that is measured. What to do comes as JSON on standard input; a line goes out when it begins to count, and what
was seen as JSON: python -m api.bench.generator
"""

import asyncio
import gc
import itertools
import math
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator

import msgspec
import uvloop

from api.bench.load import BEGUN, END_OF_HEAD, LENGTH, Loaded, Order, request_of
from api.bench.rounds import percentile

TICK_SECONDS = 0.001
LOOK_EVERY_SECONDS = 0.05
ANSWERS_AWAITED_SECONDS = 10.0
REPEATED_REQUESTS = 1_000
REQUESTS_A_SECOND_MAX = 40_000
"""So many are made ready for each second of a closed loop; who uses them up is measured up to there."""


class _Connection(asyncio.Protocol):
    """One at a time: a request out, its answer in."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream, whatever the signature says
        self._load.is_free(self)

    def send(self, request: bytes, since: float) -> None:
        self._since = since
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(END_OF_HEAD)
        if end < 0 or len(received) < end + len(END_OF_HEAD) + _length(received[:end]):
            self._received = received
            return
        self._received = b""
        since, self._since = self._since, None
        self._load.is_answered(received[9:12], since)
        self._load.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._load.is_lost(self, was_waiting=self._since is not None)


class _Load:
    """The requests of one order, and what became of them."""

    def __init__(self, order: Order, requests: Iterator[bytes]) -> None:
        self._order = order
        self._requests = requests
        self._due: deque[float] = deque()
        self._free: deque[_Connection] = deque()
        self._statuses: Counter[bytes] = Counter()
        self._lost = 0
        self._under_way = 0
        self._taken = array("d")
        self._late = array("d")
        self._is_closed_loop = order.rate is None
        self._stops_at = self._counts_from = -math.inf  # nothing is sent before all are connected
        self._last_answer = 0.0
        self._is_over = False
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def run(self) -> Loaded:
        order = self._order
        for _ in range(order.connections):
            await self._connect()
        begun = time.perf_counter()
        self._counts_from = begun + order.warm_seconds
        self._stops_at = self._counts_from + order.seconds
        asyncio.get_running_loop().call_later(order.warm_seconds, _tell_begun)
        processor = time.process_time()
        await (self._answer_with_requests() if order.rate is None else self._send_at(order.rate, begun))
        share = (time.process_time() - processor) / (time.perf_counter() - begun)
        await self._await_answers()
        return self._told(share)

    def is_free(self, connection: _Connection) -> None:
        now = time.perf_counter()
        if self._is_closed_loop and now < self._stops_at:
            self._send(connection, now)
        elif self._due:
            self._send(connection, self._due.popleft())
        else:
            self._free.append(connection)

    def is_answered(self, status: bytes, since: float | None) -> None:
        now = time.perf_counter()
        self._under_way -= 1
        self._statuses[status] += 1
        if since is not None and self._counts_from <= since < self._stops_at:
            self._taken.append(now - since)
            self._last_answer = now

    def is_lost(self, connection: _Connection, *, was_waiting: bool) -> None:
        """The server closed it: another takes its place."""
        if was_waiting:
            self._under_way -= 1
            self._lost += 1
        elif connection in self._free:
            self._free.remove(connection)
        if not self._is_over:
            task = asyncio.create_task(self._connect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._order.port)

    def _send(self, connection: _Connection, since: float) -> None:
        request = next(self._requests, None)
        if request is None:
            self._stops_at = min(self._stops_at, time.perf_counter())
            self._free.append(connection)
            return
        self._under_way += 1
        connection.send(request, since)

    async def _answer_with_requests(self) -> None:
        """Answers keep it going: the connections are set off, and left alone until the time is up."""
        for _ in range(len(self._free)):
            self.is_free(self._free.popleft())
        # The time comes nearer where requests run out. An event for that would cost every answer.
        while (left := self._stops_at - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, LOOK_EVERY_SECONDS))

    async def _send_at(self, rate: float, begun: float) -> None:
        tick, due = 0, 0
        while (now := time.perf_counter()) < self._stops_at:
            for one in range(tick + 1, int((now - begun) / TICK_SECONDS) + 1):
                since = begun + one * TICK_SECONDS
                wanted = int(one * TICK_SECONDS * rate)
                for _ in range(wanted - due):
                    self._late.append(now - since)
                    if self._free:
                        self._send(self._free.popleft(), since)
                    else:
                        self._due.append(since)
                tick, due = one, wanted
            await asyncio.sleep(TICK_SECONDS)

    async def _await_answers(self) -> None:
        deadline = time.perf_counter() + ANSWERS_AWAITED_SECONDS
        while (self._under_way or self._due) and time.perf_counter() < deadline:  # noqa: ASYNC110  # as above
            await asyncio.sleep(TICK_SECONDS)
        self._is_over = True
        late = [*self._due, *[self._stops_at] * self._under_way]
        self._lost += len(late)
        # Those still waiting waited at least until now: they are not forgotten.
        self._taken.extend(deadline - since for since in late)

    def _told(self, share: float) -> Loaded:
        taken = sorted(one * 1000 for one in self._taken) or [0.0]
        seconds = max(self._last_answer, self._stops_at) - self._counts_from
        return Loaded(
            statuses={status.decode(): count for status, count in self._statuses.items()},
            lost=self._lost,
            rate=len(self._taken) / seconds if seconds > 0 else 0.0,
            p50_ms=percentile(taken, 0.5),
            p99_ms=percentile(taken, 0.99),
            late_ms=percentile(sorted(self._late), 0.5) * 1000 if self._late else 0.0,
            processor_share=share,
        )


def _tell_begun() -> None:
    sys.stdout.buffer.write(BEGUN)
    sys.stdout.buffer.flush()


def _length(head: bytes) -> int:
    """Of the body that follows."""
    at = head.lower().find(LENGTH)
    if at < 0:
        return 0
    end = head.find(b"\r", at)
    return int(head[at + len(LENGTH) : end if end >= 0 else None])


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    wanted = (order.warm_seconds + order.seconds) * (order.rate or REQUESTS_A_SECOND_MAX) + order.connections
    count = math.ceil(wanted) if order.distinct else min(math.ceil(wanted), REPEATED_REQUESTS)
    made = [request_of(order, serial) for serial in range(count)]
    requests = iter(made) if order.distinct else itertools.cycle(made)
    gc.freeze()
    gc.disable()
    loaded = uvloop.run(_Load(order, requests).run())
    sys.stdout.buffer.write(msgspec.json.encode(loaded))


if __name__ == "__main__":
    main()
