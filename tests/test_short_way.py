"""The short way of a delivery, on the protocol itself, and that it ends where the ordinary way does."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import httpx
import msgspec
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from api.app import create_app
from api.declared import public_routes
from api.short_way import BODY_BYTES_MAX, Answer, DeliveryProtocol, Header, Later, ShortWay, Taken
from api.webhook_paths import WEBHOOK_PATHS
from api.webhooks import short_way
from ledger.settings import Secret, Settings
from tests.builders import webhook
from tests.serving import SIGNATURE, WEBHOOK, Server, exchange, signed, until

PATIENCE_SECONDS = 30.0


class Place:
    """A server of this very process: what came the short way, and how often the ordinary way was taken."""

    def __init__(self) -> None:
        self.port = 0
        self.state = ServerState()
        self.state.default_headers = [(b"x-fixed", b"yes")]
        self.taken: list[tuple[str, bytes]] = []
        self.scopes: list[Any] = []
        """Of what went the ordinary way."""
        self.missed = 0
        self.outcome: Callable[[], Taken] = lambda: Answer(body=b"short")

    def take(self, name: str, _headers: Iterable[Header], body: bytes) -> Taken:
        self.taken.append((name, body))
        return self.outcome()

    def miss(self) -> None:
        self.missed += 1

    @property
    def ordinary(self) -> int:
        return len(self.scopes)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"ordinary"})

    async def answers(self, sent: bytes, *, count: int = 1) -> list[tuple[bytes, bytes]]:
        """Head and body of so many answers to what is sent on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                writer.write(sent)
                return [await read_answer(reader) for _ in range(count)]
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None, head
    return head, await reader.readexactly(int(found[1]))


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Place]:
    place = Place()
    way = ShortWay(
        path=re.compile(rb"/hook(?:/([a-z]+))?"),
        take=place.take,
        fail=lambda error: Answer(status=500, body=type(error).__name__.encode()),
        miss=place.miss,
    )
    protocol = type("Small", (DeliveryProtocol,), {"short_way": way, "waiting": {}})
    config = Config(place.app, interface="asgi3", log_config=None, lifespan="off", ws="none")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=place.state, app_state={}), host="127.0.0.1", port=0
    )
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        server.close()

        async def are_gone() -> bool:
            await asyncio.sleep(0)
            return not place.state.connections

        await until(are_gone)
        await asyncio.gather(*place.state.tasks)


def post(
    path: str = "/hook", body: bytes = b"{}", *, head: str = "", length: bool = True, start: str = "POST {} HTTP/1.1"
) -> bytes:
    counted = f"content-length: {len(body)}\r\n" if length else ""
    return f"{start.format(path)}\r\nhost: x\r\n{head}{counted}\r\n".encode() + body


# Which way it goes


@pytest.mark.parametrize(("path", "name"), [("/hook", ""), ("/hook/branch", "branch")])
async def test_an_ordinary_delivery_goes_the_short_way(path: str, name: str) -> None:
    async with listening() as place:
        [(head, body)] = await place.answers(post(path))
        assert (place.taken, place.ordinary, body) == ([(name, b"{}")], 0, b"short")
        assert head.split(b"\r\n")[:-2] == [
            b"HTTP/1.1 200 OK",
            b"x-fixed: yes",
            b"content-type: application/json",
            b"content-length: 5",
            b"cache-control: no-store",
        ]
        assert place.state.total_requests == 1


OUT_OF_THE_ORDINARY = {
    "another path": post("/hooks"),
    "a path below": post("/hook/a/b"),
    "a slash at the end": post("/hook/"),
    "a name that no ledger has": post("/hook/A"),
    "a path in other words": post("/%68ook"),
    "a question": post("/hook?a=b"),
    "another method": post(start="PUT {} HTTP/1.1"),
    "a look": post(start="GET {} HTTP/1.1", body=b"", length=False),
    "chunks": post(body=b"2\r\n{}\r\n0\r\n\r\n", head="transfer-encoding: chunked\r\n", length=False),
    "no body at all": post(body=b"", length=False),
    "a compressed body": post(head="content-encoding: gzip\r\n"),
    "a body that is too long": post(body=b"x" * (BODY_BYTES_MAX + 1)),
}


@pytest.mark.parametrize("name", OUT_OF_THE_ORDINARY)
async def test_whatever_is_out_of_the_ordinary_goes_the_ordinary_way(name: str) -> None:
    async with listening() as place:
        [(_, body)] = await place.answers(OUT_OF_THE_ORDINARY[name])
        assert (place.taken, place.ordinary, body) == ([], 1, b"ordinary")


async def test_a_sender_who_wants_to_be_asked_is_asked() -> None:
    async with listening() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        head, end, body = post(head="expect: 100-continue\r\n").partition(b"\r\n\r\n")
        writer.write(head + end)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.readuntil(end) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await read_answer(reader))[1] == b"ordinary"
        writer.close()
        assert place.taken == []


@pytest.mark.parametrize("size", [0, 1, BODY_BYTES_MAX])
async def test_a_body_may_come_in_pieces(size: int) -> None:
    sent = post(body=b"x" * size)
    async with listening() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        for piece in (sent[:20], sent[20:60], sent[60:]):
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await read_answer(reader))[1] == b"short"
        writer.close()
        assert place.taken == [("", b"x" * size)]


@pytest.mark.parametrize("size", [0, 1, 300])
async def test_a_delivery_may_come_byte_by_byte(size: int) -> None:
    sent = post(body=b"x" * size) + post("/other")
    async with listening() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for at in range(len(sent)):
                writer.write(sent[at : at + 1])
                await asyncio.sleep(0)
            assert [(await read_answer(reader))[1] for _ in range(2)] == [b"short", b"ordinary"]
        writer.close()
        assert place.taken == [("", b"x" * size)]


async def test_on_the_ordinary_way_everything_is_told_as_it_was_sent() -> None:
    """It is told of a head only when that is whole; of trailers when they come."""
    head = "X-One: 1\r\nx-ONE: 2\r\nExpect: 100-Continue\r\ntransfer-encoding: chunked\r\n"
    async with listening() as place:
        sent = post("/%68ook?a=%62", b"1\r\nx\r\n0\r\nX-Last: 3\r\n\r\n", head=head, length=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for at in range(len(sent)):
                writer.write(sent[at : at + 1])
                await asyncio.sleep(0)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await read_answer(reader))[1] == b"ordinary"
        writer.close()
        [scope] = place.scopes
        assert (scope["method"], scope["http_version"], scope["path"]) == ("POST", "1.1", "/hook")
        assert (scope["raw_path"], scope["query_string"]) == (b"/%68ook", b"a=%62")
        assert scope["headers"] == [
            (b"host", b"x"),
            (b"x-one", b"1"),
            (b"x-one", b"2"),
            (b"expect", b"100-Continue"),
            (b"transfer-encoding", b"chunked"),
            (b"x-last", b"3"),
        ]


# What comes of it


async def test_many_sent_ahead_are_answered_in_their_order_and_on_either_way() -> None:
    sent = b"".join(post(body=b"%d" % number) + post("/other") for number in range(500))
    async with listening() as place:
        answers = await place.answers(sent, count=1_000)
        assert [body for _, body in answers] == [b"short", b"ordinary"] * 500
        assert place.taken == [("", b"%d" % number) for number in range(500)]


async def test_what_was_sent_ahead_waits_for_its_turn_however_it_comes() -> None:
    async with listening() as place:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcomes: list[Taken] = [Later(until=first, then=lambda _: Answer(body=b"first")), Answer(body=b"second")]
        place.outcome = lambda: outcomes.pop(0)
        second, other = post(body=b"2"), post("/other")
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        for piece in (post(body=b"1") + second[:30], second[30:-1], second[-1:] + other):
            writer.write(piece)
            await writer.drain()

        async def is_taken() -> bool:
            await asyncio.sleep(0)
            return bool(place.taken)

        await until(is_taken)
        assert (place.taken, place.ordinary) == ([("", b"1")], 0)
        first.set_result(None)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = [(await read_answer(reader))[1] for _ in range(3)]
        writer.close()
        assert answers == [b"first", b"second", b"ordinary"]
        assert place.taken == [("", b"1"), ("", b"2")]


KEPT_ALIVE: dict[str, tuple[bytes, bool]] = {
    "as a rule": (post(), True),
    "when it is asked for": (post(head="connection: Keep-Alive\r\n"), True),
    "not when it is not wanted": (post(head="connection: close\r\n"), False),
    "not in HTTP/1.0": (post(start="POST {} HTTP/1.0"), False),
    "not in HTTP/1.0 even when it is asked for": (
        post(start="POST {} HTTP/1.0", head="connection: keep-alive\r\n"),
        False,
    ),
}


@pytest.mark.parametrize("case", KEPT_ALIVE)
async def test_a_connection_is_kept_alive(case: str) -> None:
    """What follows on a connection that is closed is nobody's, whenever the answer is there."""
    sent, is_kept = KEPT_ALIVE[case]
    async with listening() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(sent + post(body=b"next", head="connection: close\r\n"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await reader.read()
        writer.close()
        assert answers.count(b"HTTP/1.1 200 OK") == len(place.taken) == (2 if is_kept else 1)
        assert answers.count(b"connection: close\r\n") == 1


async def test_a_server_that_ends_answers_what_is_under_way_and_closes() -> None:
    async with listening() as place:
        waited_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place.outcome = lambda: Later(until=waited_for, then=lambda _: Answer(body=b"the last"))
        asking = asyncio.create_task(place.answers(post()))

        async def is_taken() -> bool:
            await asyncio.sleep(0)
            return bool(place.taken)

        await until(is_taken)
        [protocol] = place.state.connections
        protocol.shutdown()
        waited_for.set_result(None)
        [(head, body)] = await asking
        assert b"\r\nconnection: close\r\n" in head
        assert body == b"the last"


async def test_an_answer_may_take_a_while_and_a_task() -> None:
    async with listening() as place:
        waited_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def in_a_task() -> Answer:
            await asyncio.sleep(0)
            return Answer(status=202, body=b"late", headers=((b"retry-after", b"5"),))

        def then(done: asyncio.Future[None]) -> Coroutine[Any, Any, Answer]:
            assert done is waited_for
            assert done.exception() is not None
            return in_a_task()

        place.outcome = lambda: Later(until=waited_for, then=then)
        asking = asyncio.create_task(place.answers(post(head="connection: close\r\n")))

        async def is_taken() -> bool:
            await asyncio.sleep(0)
            return bool(place.taken)

        await until(is_taken)
        waited_for.set_exception(RuntimeError("of the kind that is dealt with"))
        [(head, body)] = await asking
        assert head.startswith(b"HTTP/1.1 202 ")
        assert b"\r\nretry-after: 5\r\n" in head
        assert b"\r\nconnection: close\r\n" in head
        assert body == b"late"


@pytest.mark.parametrize("where", ["at once", "later", "in a task"])
async def test_an_error_that_nobody_expected_is_answered(where: str) -> None:
    def fail(*_: object) -> Taken:
        raise LookupError

    async def fail_in_a_task() -> Answer:
        raise LookupError

    async with listening() as place:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        outcomes: dict[str, Callable[[], Taken]] = {
            "at once": fail,
            "later": lambda: Later(until=done, then=fail),
            "in a task": fail_in_a_task,
        }
        place.outcome = outcomes[where]
        [(head, body)] = await place.answers(post())
        assert (head[:12], body) == (b"HTTP/1.1 500", b"LookupError")
        place.outcome = lambda: Answer(body=b"well again")
        assert (await place.answers(post()))[0][1] == b"well again"


@pytest.mark.parametrize("before", [b"", post(body=b"whole")])
async def test_a_sender_who_hangs_up_in_the_middle_of_a_delivery_is_missed(before: bytes) -> None:
    async with listening() as place:
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(before + post(body=b"only half")[:-4])
        await writer.drain()
        writer.close()

        async def is_missed() -> bool:
            await asyncio.sleep(0)
            return place.missed == 1

        await until(is_missed)
        assert [body for _, body in place.taken] == ([b"whole"] if before else [])
        assert place.ordinary == 0


async def test_a_sender_who_hangs_up_before_the_answer_harms_nobody() -> None:
    async with listening() as place:
        waited_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        concluded: list[bool] = []

        def then(_: asyncio.Future[None]) -> Answer:
            concluded.append(True)
            return Answer(body=b"to nobody")

        place.outcome = lambda: Later(until=waited_for, then=then)
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(post())
        await writer.drain()

        async def is_taken() -> bool:
            await asyncio.sleep(0)
            return bool(place.taken)

        await until(is_taken)
        writer.close()

        async def is_gone() -> bool:
            await asyncio.sleep(0)
            return not place.state.connections

        await until(is_gone)
        waited_for.set_result(None)

        async def is_concluded() -> bool:
            await asyncio.sleep(0)
            return bool(concluded)

        await until(is_concluded)
        assert (await place.answers(post("/other")))[0][1] == b"ordinary"


# Both ways lead to the same


def test_the_short_way_begins_at_the_addresses_of_the_public_route_alone() -> None:
    app = create_app(Settings(), "postgresql:///nowhere", internal_key=Secret(b"key"), with_worker=False)
    public = {route.removeprefix("ANY ") for route in public_routes(app) if route.startswith("ANY ")}
    assert public >= set(WEBHOOK_PATHS)
    path = short_way(app).path
    for address in WEBHOOK_PATHS:
        assert path.fullmatch(address.encode())
        assert path.fullmatch(f"{address}/main".encode())
        assert not path.fullmatch(f"{address}s".encode())
        assert not path.fullmatch(f"{address}/main/x".encode())
    assert not path.fullmatch(b"/api/bookings")


KINDS: dict[str, Callable[[bytes], dict[str, str]]] = {
    "recorded": signed,
    "a wrong signature": lambda body: signed(body, "another secret"),
    "no signature": lambda _: {},
    "a malformed signature": lambda _: {SIGNATURE: "abc"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ledger", ["", "/main", "/nowhere"])
async def test_either_way_has_the_same_answer(shared_server: Server, kind: str, ledger: str) -> None:
    """The query makes the second one go the ordinary way."""
    answers = []
    body = webhook("BOOKING_CREATED", {"uid": f"uid-{kind.replace(' ', '-')}{ledger.replace('/', '-')}"})
    headers = KINDS[kind](body)
    async with httpx.AsyncClient(base_url=shared_server.url, trust_env=False) as http:
        await http.post(WEBHOOK, content=body, headers=signed(body))  # from here on it is a repeat, on either way
        for query in ("", "?ordinary"):
            answer = await http.post(f"{WEBHOOK}{ledger}{query}", content=body, headers=headers)
            told = {name: value for name, value in answer.headers.items() if name != "date"}
            answers.append((answer.status_code, answer.json(), told))
    assert answers[0] == answers[1]


async def test_a_recorded_delivery_is_answered_in_json(shared_server: Server) -> None:
    body = webhook("BOOKING_CREATED", {"uid": "uidSHORT", "title": "only once"})
    answer = await exchange(
        shared_server,
        post(WEBHOOK, body, head=f"connection: close\r\n{SIGNATURE}: {signed(body)[SIGNATURE]}\r\n"),
    )
    head, _, told = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    found = msgspec.json.decode(told)
    assert found.pop("position") > 0
    assert len(found.pop("event_id")) == 36
    assert found == {"status": "recorded", "ledger": "main", "duplicate": False}
