"""The limits of a connection, on the protocol itself: with limits of fractions of a second, and a tiny application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from api.connections import BoundedProtocol, room_for_connections
from tests.serving import until

PATIENCE_SECONDS = 30.0
WHOLE = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"

Message = dict[str, Any]


class Echo:
    """An application that reads the whole body and sends it back; it can be made to wait before it reads."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.asked = 0
        self.gone = 0

    async def __call__(
        self, _scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        self.asked += 1
        await self.may_read.wait()
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                self.gone += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})


class Place:
    """A server of this very process."""

    def __init__(self, port: int, state: ServerState, protocol: type[BoundedProtocol], app: Echo) -> None:
        self.port, self.state, self.protocol, self.app = port, state, protocol, app
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(sent)
        await writer.drain()
        return reader, writer

    async def until_connections(self, number: int) -> None:
        async def are_as_many() -> bool:
            await asyncio.sleep(0)
            return len(self.state.connections) == number

        await until(are_as_many)


@contextlib.asynccontextmanager
async def listening(**limits: float) -> AsyncIterator[Place]:
    app, state = Echo(), ServerState()
    state.default_headers = [(b"x-fixed", b"yes")]
    config = Config(app, log_config=None, lifespan="off", ws="none", timeout_keep_alive=int(PATIENCE_SECONDS))
    protocol = type("Small", (BoundedProtocol,), {**limits, "waiting": {}})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), host="127.0.0.1", port=0
    )
    place = Place(server.sockets[0].getsockname()[1], state, protocol, app)
    try:
        yield place
    finally:
        server.close()
        app.may_read.set()
        for writer in place.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await place.until_connections(0)
        await asyncio.gather(*state.tasks)


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes; nothing where it broke off."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def assert_refused(answer: bytes, status: int) -> None:
    """A whole problem document of that status, with the fixed headers, on a connection that is then closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ".encode()), answer
    headers = dict(line.split(b": ", 1) for line in lines[1:])
    assert headers[b"x-fixed"] == b"yes"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(body)
    assert msgspec.json.decode(body)["status"] == status


# Time


async def test_who_connects_and_says_nothing_is_left_without_a_word() -> None:
    async with listening(head_seconds_max=0.2) as place:
        reader, _writer = await place.connect()
        assert await answer_of(reader) == b""
        await place.until_connections(0)
        assert place.app.asked == 0


@pytest.mark.parametrize("begun", [b"P", b"POST / HTTP/1.1\r\nhost: x\r\n", b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: "])
async def test_a_head_that_does_not_end_is_answered_408(begun: bytes) -> None:
    async with listening(head_seconds_max=0.2) as place:
        reader, _writer = await place.connect(begun)
        assert_refused(await answer_of(reader), 408)
        assert place.app.asked == 0


@pytest.mark.parametrize(
    "begun",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ],
)
async def test_a_body_that_does_not_end_is_answered_408_and_the_application_told_that_the_sender_is_gone(
    begun: bytes,
) -> None:
    async with listening(body_seconds_max=0.2) as place:
        reader, _writer = await place.connect(begun)
        assert_refused(await answer_of(reader), 408)

        async def is_told() -> bool:
            await asyncio.sleep(0)
            return place.app.gone == 1

        await until(is_told)


@pytest.mark.parametrize("stage", ["head", "body"])
async def test_dripping_does_not_put_the_deadline_off(stage: str) -> None:
    start = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n" + (b"\r\n" if stage == "body" else b"x-slow: ")
    async with listening(head_seconds_max=0.3, body_seconds_max=0.3) as place:
        reader, writer = await place.connect(start)
        answer = asyncio.create_task(answer_of(reader))
        dripped = 0
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(b"x")
                await writer.drain()
                await asyncio.wait([answer], timeout=0.01)
                dripped += 1
        assert dripped > 3
        assert place.app.asked == (1 if stage == "body" else 0)
        if refused := await answer:  # a byte that came after the end resets the connection, and the answer with it
            assert_refused(refused, 408)


async def test_a_request_that_comes_in_one_piece_starts_no_timer_and_many_go_over_one_connection() -> None:
    async with listening() as place:
        reader, writer = await place.connect()
        for _ in range(50):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 ")
        (protocol,) = place.state.connections
        assert isinstance(protocol, BoundedProtocol)
        assert protocol._deadline is None  # noqa: SLF001  # what no answer shows
        assert list(place.protocol.waiting) == [protocol]
        writer.close()
        await place.until_connections(0)
        assert place.protocol.waiting == {}


async def test_many_requests_on_one_connection_share_a_timer_that_closes_it_when_it_is_idle() -> None:
    async with listening() as place:
        reader, writer = await place.connect(WHOLE)
        await reader.readuntil(b"hi")
        (protocol,) = place.state.connections
        assert isinstance(protocol, BoundedProtocol)
        timer = protocol.timeout_keep_alive_task
        assert timer is not None
        for _ in range(50):
            writer.write(WHOLE)
            await reader.readuntil(b"hi")
        assert protocol.timeout_keep_alive_task is timer
        protocol.timeout_keep_alive_handler()  # as if the time had come that was set after the first
        assert not protocol.transport.is_closing()
        protocol.timeout_keep_alive = 0  # seconds
        protocol.timeout_keep_alive_handler()
        assert await answer_of(reader) == b""


async def test_a_connection_that_waits_for_us_is_not_idle() -> None:
    async with listening() as place:
        reader, writer = await place.connect(WHOLE)
        await reader.readuntil(b"hi")
        (protocol,) = place.state.connections
        assert isinstance(protocol, BoundedProtocol)
        protocol.timeout_keep_alive = 0
        place.app.may_read.clear()
        writer.write(WHOLE)

        async def is_asked() -> bool:
            await asyncio.sleep(0)
            return place.app.asked > 1

        await until(is_asked)
        protocol.timeout_keep_alive_handler()
        assert not protocol.transport.is_closing()
        place.app.may_read.set()
        assert (await answer_of(reader)).endswith(b"hi")  # and then it is


async def test_a_sender_whom_we_keep_from_sending_is_not_blamed() -> None:
    size = 1_000_000
    async with listening() as place:
        place.app.may_read.clear()
        reader, writer = await place.connect()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        await until(lambda: _is_paused(place))
        (protocol,) = place.state.connections
        assert isinstance(protocol, BoundedProtocol)
        for _ in range(3):
            assert protocol._deadline is not None  # noqa: SLF001  # what no answer shows
            protocol._deadline.cancel()  # noqa: SLF001
            protocol._give_up()  # noqa: SLF001  # as if the deadline had come
        place.app.may_read.set()
        assert (await answer).startswith(b"HTTP/1.1 200 ")


async def _is_paused(place: Place) -> bool:
    await asyncio.sleep(0)
    return any(isinstance(one, BoundedProtocol) and one.flow.read_paused for one in place.state.connections)


# Size


async def test_a_head_without_end_is_answered_431() -> None:
    async with listening() as place:
        reader, writer = await place.connect(b"GET / HTTP/1.1\r\nhost: x\r\n")
        answer = asyncio.create_task(answer_of(reader))
        with contextlib.suppress(ConnectionError):
            for number in range(100_000):
                if answer.done():
                    break
                writer.write(b"x-%d: %s\r\n" % (number, b"y" * 1_000))
                await writer.drain()
                await asyncio.sleep(0)
        assert (await answer)[:13] in (b"HTTP/1.1 431 ", b"")
        assert place.app.asked == 0


async def test_a_head_of_ordinary_size_passes_in_however_many_pieces() -> None:
    async with listening() as place:
        reader, writer = await place.connect()
        for piece in (b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ", b"y" * 30_000, b"\r\nconnection: close\r\n\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_request_of_tiny_chunks_ends_at_the_limit_for_all_of_it() -> None:
    async with listening(request_bytes_max=100_000) as place:
        reader, writer = await place.connect(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(answer_of(reader))
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(b"1\r\nx\r\n" * 1_000)
                await writer.drain()
                await asyncio.sleep(0)
        assert (await answer)[:13] in (b"HTTP/1.1 413 ", b"")

        async def is_told() -> bool:
            await asyncio.sleep(0)
            return place.app.gone == 1

        await until(is_told)


async def test_what_is_no_http_is_answered_with_a_problem() -> None:
    async with listening() as place:
        reader, _writer = await place.connect(b"HELO example\r\n\r\n")
        assert_refused(await answer_of(reader), 400)


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    async with listening() as place:
        reader, _writer = await place.connect(WHOLE + WHOLE.replace(b"hi", b"ho") + WHOLE.replace(b"hi", b"hu"))
        for body in (b"hi", b"ho", b"hu"):
            assert (await reader.readuntil(body)).startswith(b"HTTP/1.1 200 ")


async def test_many_requests_sent_ahead_are_not_taken_for_one_that_is_too_large() -> None:
    async with listening(head_bytes_max=10_000, request_bytes_max=20_000) as place:
        reader, writer = await place.connect()
        writer.write(WHOLE * 3_000)
        for _ in range(3_000):
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 ")


# Number


async def test_when_there_are_too_many_the_one_that_keeps_us_waiting_longest_makes_room() -> None:
    async with listening(connections_max=3) as place:
        slow = []
        for number in range(3):
            slow.append(await place.connect(b"POST / HTTP/1.1\r\nx-slow: "))
            await place.until_connections(number + 1)
        for reader, _ in slow:
            newcomer, _ = await place.connect(WHOLE)
            assert (await newcomer.readuntil(b"hi")).startswith(b"HTTP/1.1 200 ")
            assert await answer_of(reader) == b""
            await place.until_connections(3)


async def test_who_is_being_answered_is_never_pushed_out() -> None:
    async with listening(connections_max=2) as place:
        place.app.may_read.clear()
        working = [await place.connect(WHOLE) for _ in range(2)]

        async def are_asked() -> bool:
            await asyncio.sleep(0)
            return place.app.asked == 2

        await until(are_asked)
        reader, _ = await place.connect(WHOLE)
        assert await answer_of(reader) == b""
        place.app.may_read.set()
        for reader, writer in working:
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 ")
            writer.close()


def test_there_is_room_for_connections_and_for_what_else_is_open() -> None:
    assert 1 <= room_for_connections() <= 10_000
