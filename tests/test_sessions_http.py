"""People who sign in: cookies, ends of sessions, tries, other sites, and the users behind them."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from api.budget import Allowance, Budget, Budgets
from api.tries import NAMES_MAX, OF_A_KNOWN_BROWSER, OF_ALL_ACCOUNTS, OF_ONE_ACCOUNT, Tries, new_mark
from ledger.errors import BadParameter, TooManyTries
from ledger.passwords import WORST, hash_password, is_dated, is_right, refuse_password
from ledger.users import User, create_user, set_password, user_name
from ledger.vocabulary import Role
from tests.builders import minutes, webhook
from tests.serving import (
    KEY,
    Server,
    assert_is_problem,
    connected,
    deliver,
    exchange,
    run,
    serving,
    speaking_to,
)

PASSWORD = "correct horse battery staple"
SAME_SITE = {"sec-fetch-site": "same-origin"}
SESSION = "/api/session"

_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def browser(shared_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps cookies, has no key."""
    async with speaking_to(shared_server, key=None) as client:
        yield client


@pytest_asyncio.fixture
async def database_of(shared_server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with connected(shared_server.dsn) as connection:
        yield connection


async def made(connection: asyncpg.Connection, *, role: Role = "viewer", password: str = PASSWORD) -> str:
    """The name of a user whom nobody else uses."""
    name = f"user{next(_numbers)}"
    hashed = await asyncio.to_thread(hash_password, password)
    await create_user(connection, uuid4(), name=name, role=role, ledger_id=None, password_hash=hashed)
    return name


async def sign_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
    return await client.post(SESSION, json={"name": name, "password": password}, headers=headers)


def cookies_of(answer: httpx.Response) -> dict[str, Morsel[str]]:
    cookies: SimpleCookie = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        cookies.load(header)
    return dict(cookies)


# Signing in and out


async def test_who_signs_in_may_ask_with_the_cookie_alone(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of, role="operator")
    assert_is_problem(await browser.get("/api/bookings"), 401)
    answer = await sign_in(browser, name.upper())
    assert (answer.status_code, answer.json()) == (200, {"name": name, "role": "operator"})
    assert (await browser.get("/api/bookings")).status_code == 200
    who = (await browser.get(SESSION)).json()
    assert who | {"ends_at": None} == {"name": name, "role": "operator", "ledger": None, "ends_at": None}
    assert who["ends_at"] is not None


async def test_on_loopback_the_cookie_is_plain_and_hidden_from_scripts(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    cookies = cookies_of(await sign_in(browser, await made(database_of)))
    assert cookies.keys() == {"session", "browser"}
    for cookie in cookies.values():
        assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/")
        assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert cookies["session"]["max-age"] == cookies["session"]["expires"] == ""
    assert len(cookies["session"].value) >= 22, "128 bits in base 64"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_with_https_the_cookie_is_for_this_host_and_https_alone(
    durable_database: str, tmp_path: Path, host: str
) -> None:
    with serving(durable_database, tmp_path, PUBLIC_URL="https://ledger.example", HOST=host) as server:
        async with speaking_to(server, key=None) as client, connected(durable_database) as connection:
            cookies = cookies_of(await sign_in(client, await made(connection)))
            assert cookies.keys() == {"__Host-session", "__Host-browser"}
            for cookie in cookies.values():
                assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"]) == (True, True, "/", "")
            token = cookies["__Host-session"].value
            for name, status in (("__Host-session", 200), ("session", 401)):
                answer = await client.get(SESSION, headers={"cookie": f"{name}={token}"})
                assert answer.status_code == status


async def test_each_sign_in_has_a_new_token_and_ends_the_session_it_came_with(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    tokens = [cookies_of(await sign_in(browser, name))["session"].value for _ in range(2)]
    assert tokens[0] != tokens[1]
    answers = [await browser.get(SESSION, headers={"cookie": f"session={token}"}) for token in tokens]
    assert [answer.status_code for answer in answers] == [401, 200]


async def test_a_token_that_the_browser_brought_along_is_never_taken_over(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    brought = "chosen-by-somebody-else"
    await sign_in(browser, await made(database_of), cookie=f"session={brought}")
    assert_is_problem(await browser.get(SESSION, headers={"cookie": f"session={brought}"}), 401)


async def test_who_signs_out_is_out_everywhere(browser: httpx.AsyncClient, database_of: asyncpg.Connection) -> None:
    token = cookies_of(await sign_in(browser, await made(database_of)))["session"].value
    left = await browser.delete(SESSION, headers=SAME_SITE)
    assert (left.status_code, left.content) == (204, b"")
    assert cookies_of(left)["session"]["max-age"] == "0"
    assert "session" not in browser.cookies
    assert_is_problem(await browser.get(SESSION, headers={"cookie": f"session={token}"}), 401)


async def test_of_a_session_only_its_digest_is_in_the_database(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    token = cookies_of(await sign_in(browser, await made(database_of)))["session"].value
    rows = await database_of.fetch("SELECT s::text AS text FROM access.sessions AS s")
    assert [row for row in rows if token in row["text"] or token.encode().hex() in row["text"]] == []


@pytest.mark.parametrize("token", ["", "x", "x" * 101, "x" * 5_000, '"', "%00", "a;b"])
async def test_a_cookie_that_is_no_token_opens_nothing(browser: httpx.AsyncClient, token: str) -> None:
    assert_is_problem(await browser.get("/api/bookings", headers={"cookie": f"session={token}"}), 401)


async def test_a_wrong_key_is_not_made_good_by_a_right_cookie(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    await sign_in(browser, await made(database_of))
    assert_is_problem(await browser.get("/api/bookings", headers={"authorization": "Bearer wrong"}), 401)
    assert (await browser.get("/api/bookings", headers={"authorization": f"Bearer {KEY}"})).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"name=ada&password=x",
        b'{"name":"ada"}',
        b'{"name":"ada","password":5}',
        b'{"name":"ada","password":"x","role":"admin"}',
        b'{"name":"ada","password":"' + b"x" * 257 + b'"}',
        b'{"name":"a\\u0000da","password":"x"}',
        b'{"name":"\\ud800","password":"x"}',
    ],
)
async def test_what_is_no_name_and_password_is_refused(browser: httpx.AsyncClient, body: bytes) -> None:
    answer = await browser.post(SESSION, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 401)
    assert_is_problem(answer, answer.status_code)
    assert cookies_of(answer) == {}


# The end of a session


@pytest.mark.parametrize(
    ("moved", "status"),
    [
        ("seen_at = now() - interval '29 minutes'", 200),
        ("seen_at = now() - interval '31 minutes'", 401),
        ("opened_at = now() - interval '11 hours 59 minutes'", 200),
        ("opened_at = now() - interval '12 hours 1 minute'", 401),
    ],
)
async def test_a_session_ends_after_half_an_hour_unused_and_after_twelve_hours_in_any_case(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection, moved: str, status: int
) -> None:
    name = await made(database_of)
    await sign_in(browser, name)
    await database_of.execute(
        f"UPDATE access.sessions SET {moved} WHERE user_id = (SELECT user_id FROM access.users WHERE name = $1)",  # noqa: S608  # those above
        name,
    )
    assert (await browser.get(SESSION)).status_code == status


async def test_a_session_in_use_goes_on_and_is_noted_once_a_minute(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    await sign_in(browser, name)
    mine = "user_id = (SELECT user_id FROM access.users WHERE name = $1)"
    ages = []
    for age in ("30 seconds", "2 minutes"):
        await database_of.execute(
            f"UPDATE access.sessions SET seen_at = now() - interval '{age}' WHERE {mine}",  # noqa: S608  # those above
            name,
        )
        assert (await browser.get(SESSION)).status_code == 200
        ages.append(
            await database_of.fetchval(
                f"SELECT extract(epoch FROM now() - seen_at) FROM access.sessions WHERE {mine}",  # noqa: S608  # the same
                name,
            )
        )
    assert ages[0] > 29
    assert ages[1] < 29


async def test_sessions_that_are_over_are_gone_from_the_database_at_the_next_sign_in(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    await sign_in(browser, await made(database_of))
    await database_of.execute("UPDATE access.sessions SET seen_at = now() - interval '1 hour'")
    await sign_in(browser, await made(database_of))
    assert await database_of.fetchval("SELECT count(*) FROM access.sessions") == 1


async def test_a_disabled_user_is_out_at_once_and_may_come_back_when_enabled(
    shared_server: Server, browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    await sign_in(browser, name)
    assert run("users", "disable", name, DATABASE_URL=shared_server.dsn).returncode == 0
    assert_is_problem(await browser.get(SESSION), 401)
    assert_is_problem(await sign_in(browser, name), 401)
    assert run("users", "enable", name, DATABASE_URL=shared_server.dsn).returncode == 0
    assert_is_problem(await browser.get(SESSION), 401)
    assert (await sign_in(browser, name)).status_code == 200


async def test_a_new_password_ends_every_session_and_the_old_one_opens_no_more(
    shared_server: Server, browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    await sign_in(browser, name)
    changed = run(
        "users", "password", name, "--password-stdin", stdin="another one, quite long\n", DATABASE_URL=shared_server.dsn
    )
    assert changed.returncode == 0, changed.stderr
    assert_is_problem(await browser.get(SESSION), 401)
    assert_is_problem(await sign_in(browser, name), 401)
    assert (await sign_in(browser, name, "another one, quite long")).status_code == 200


# Other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "{own}"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "{own}.evil.example"}, 403),
        ({"origin": "https{own_rest}"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "{own}"}, 204),
        ({"sec-fetch-site": "same-origin"}, 204),
        ({"sec-fetch-site": "same-origin", "origin": "{own}"}, 204),
    ],
)
async def test_with_a_session_only_our_own_pages_may_change_anything(
    shared_server: Server,
    browser: httpx.AsyncClient,
    database_of: asyncpg.Connection,
    headers: dict[str, str],
    status: int,
) -> None:
    await sign_in(browser, await made(database_of))
    own = {"own": shared_server.url, "own_rest": shared_server.url.removeprefix("http")}
    sent = {name: value.format(**own) for name, value in headers.items()}
    answer = await browser.delete(SESSION, headers=sent)
    assert answer.status_code == status
    assert (await browser.get(SESSION, headers={"sec-fetch-site": "cross-site"})).status_code == (
        200 if status == 403 else 401
    )


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}])
async def test_another_site_cannot_sign_anybody_in(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection, headers: dict[str, str]
) -> None:
    assert_is_problem(await sign_in(browser, await made(database_of), **headers), 403)


async def test_a_key_needs_no_page_of_ours(shared_server: Server) -> None:
    async with speaking_to(shared_server) as program:
        answer = await program.delete(SESSION, headers={"origin": "https://evil.example"})
        assert answer.status_code == 204


async def test_behind_a_proxy_the_address_that_people_see_is_our_own(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, PUBLIC_URL="https://ledger.example") as server:
        async with speaking_to(server, key=None) as client, connected(durable_database) as connection:
            for origin, status in (("https://ledger.example", 204), ("https://other.example", 403)):
                token = cookies_of(await sign_in(client, await made(connection)))["__Host-session"].value
                sent = {"cookie": f"__Host-session={token}", "origin": origin}
                assert (await client.delete(SESSION, headers=sent)).status_code == status


# Guessing


async def test_a_wrong_password_and_a_wrong_name_are_answered_alike(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name, disabled = await made(database_of), await made(database_of)
    await database_of.execute("UPDATE access.users SET disabled_at = now() WHERE name = $1", disabled)
    answers = [
        await sign_in(browser, name, "wrong"),
        await sign_in(browser, disabled),
        *[await sign_in(browser, unknown) for unknown in ("nobody", "Not A Name!", "", "a" * 200)],
    ]
    assert_is_problem(answers[0], 401)
    told = [
        (answer.status_code, answer.content, [pair for pair in answer.headers.multi_items() if pair[0] != "date"])
        for answer in answers
    ]
    assert [one for one in told if one != told[0]] == []


async def test_after_ten_wrong_tries_an_account_waits_but_not_in_a_browser_it_was_used_in(
    shared_server: Server, browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    await sign_in(browser, name)
    async with speaking_to(shared_server, key=None) as attacker, speaking_to(shared_server, key=None) as elsewhere:
        statuses = [(await sign_in(attacker, name, f"guess{number}")).status_code for number in range(15)]
        assert statuses == [401] * OF_ONE_ACCOUNT.at_once + [429] * 5
        refused = await sign_in(elsewhere, name)
        assert_is_problem(refused, 429)
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert (await sign_in(browser, name)).status_code == 200
        guessed = {"cookie": f"browser={'0' * 32}.{'0' * 64}"}
        assert_is_problem(await sign_in(attacker, name, "guess", **guessed), 429)


async def test_a_thousand_tries_are_bounded_and_harm_no_delivery(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path) as server:
        async with speaking_to(server, key=None) as client:
            begun_at = time.monotonic()
            guessing = asyncio.create_task(exchange(server, guesses(1_000)))
            delivered = 0
            while not guessing.done():
                body = webhook(
                    "BOOKING_CREATED", {"uid": f"booking{delivered}", "title": "Bath"}, at=minutes(delivered)
                )
                assert (await deliver(client, body)).status_code == 200
                delivered += 1
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", await guessing)]
            looked_at = OF_ALL_ACCOUNTS.at_once + (time.monotonic() - begun_at) * OF_ALL_ACCOUNTS.a_second + 1
    assert len(statuses) == 1_000
    assert set(statuses) == {401, 429}
    assert OF_ALL_ACCOUNTS.at_once <= statuses.count(401) <= looked_at
    assert delivered > 0


def guesses(number: int) -> bytes:
    """Tries of as many names, sent ahead over one connection."""
    sent = []
    for at in range(number):
        body = msgspec.json.encode({"name": f"user{at}", "password": "guess"})
        last = "connection: close\r\n" if at == number - 1 else ""
        sent.append(f"POST {SESSION} HTTP/1.1\r\nhost: x\r\n{last}content-length: {len(body)}\r\n\r\n".encode() + body)
    return b"".join(sent)


def user(*, password_hash: str, disabled: bool = False) -> User:
    return User(
        user_id=UUID(int=1), name="ada", role="viewer", ledger_id=None, password_hash=password_hash, disabled=disabled
    )


HASHED = hash_password(PASSWORD)


async def test_right_passwords_cost_nothing_however_many() -> None:
    tries, ada = Tries(), user(password_hash=HASHED)
    for _ in range(OF_ONE_ACCOUNT.at_once * 3):
        assert await tries.is_right(ada, "ada", PASSWORD, mark=None, now=0.0)


async def test_a_disabled_user_is_not_right_and_pays_for_it() -> None:
    tries, ada = Tries(), user(password_hash=HASHED, disabled=True)
    for _ in range(OF_ONE_ACCOUNT.at_once):
        assert not await tries.is_right(ada, "ada", PASSWORD, mark=None, now=0.0)
    with pytest.raises(TooManyTries):
        await tries.is_right(ada, "ada", PASSWORD, mark=None, now=0.0)


async def test_a_known_browser_has_tries_of_its_own_until_the_password_changes() -> None:
    tries, ada = Tries(), user(password_hash=HASHED)
    mark = new_mark(ada)
    for _ in range(OF_ONE_ACCOUNT.at_once):
        await tries.is_right(ada, "ada", "wrong", mark=None, now=0.0)
    for _ in range(OF_A_KNOWN_BROWSER.at_once):
        await tries.is_right(ada, "ada", "wrong", mark=mark, now=0.0)
    with pytest.raises(TooManyTries):
        await tries.is_right(ada, "ada", PASSWORD, mark=mark, now=0.0)
    with pytest.raises(TooManyTries):
        await tries.is_right(user(password_hash=hash_password("new one")), "ada", PASSWORD, mark=new_mark(ada), now=0.0)
    with pytest.raises(TooManyTries):
        await tries.is_right(None, "ada", PASSWORD, mark=mark, now=0.0)
    assert await tries.is_right(ada, "ada", PASSWORD, mark=mark, now=10.0)


async def test_an_unknown_name_is_as_much_work_as_a_known_one() -> None:
    tries, seconds = Tries(), []
    await tries.is_right(None, "nobody", "wrong", mark=None, now=0.0)  # makes what it compares with
    for known in (user(password_hash=HASHED), None):
        begun_at = time.perf_counter()
        for _ in range(4):
            assert not await tries.is_right(known, "ada", "wrong", mark=None, now=0.0)
        seconds.append(time.perf_counter() - begun_at)
    assert max(seconds) < 10 * min(seconds)


def test_a_budget_is_so_many_at_once_and_then_so_many_a_minute() -> None:
    budget = Budget(Allowance(at_once=3, a_minute=2))
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert budget.wait_seconds(0.0) == 30
    assert [budget.take(29.0), budget.take(30.0), budget.take(31.0)] == [False, True, False]
    assert [budget.take(10_000.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.take(9_000.0), "a clock that goes back gives nothing"


def test_names_that_nobody_guesses_any_more_are_forgotten_and_too_many_share_one_budget() -> None:
    budgets = Budgets(Allowance(at_once=1, a_minute=1), names_max=3)
    for name in "abc":
        assert budgets.of(name, 0.0).take(0.0)
    assert budgets.of("d", 1.0).take(1.0)
    assert not budgets.of("e", 1.0).take(1.0), "d and e share one"
    assert not budgets.of("a", 1.0).take(1.0), "a has its own"
    assert len(budgets) == 3
    assert budgets.of("f", 61.0).take(61.0)
    assert len(budgets) == 1
    assert NAMES_MAX <= 100_000


# Passwords


@pytest.mark.parametrize(
    "password",
    [
        *("", "seven77", "password", "PASSWORD", "Password1!", "passw0rd2024", "12345678", "1234567890123456"),
        *("aaaaaaaaaaaa", "qwertyuiop", "letmein123", "ada.lovelace", "Ada.Lovelace1", "x" * 257, "!!!!!!!!"),
        "\N{FULLWIDTH LATIN SMALL LETTER P}assword",
    ],
)
def test_a_password_that_is_tried_first_is_refused(password: str) -> None:
    with pytest.raises(BadParameter):
        refuse_password(password, user_name="ada.lovelace")


@pytest.mark.parametrize("password", [PASSWORD, "tr0ub4dor&3", "пароль-пароль", "x y z w v u", "a" * 8 + "b" * 248])
def test_other_passwords_are_taken(password: str) -> None:
    refuse_password(password, user_name="ada.lovelace")
    assert is_right(hash_password(password), password)


def test_the_list_of_the_worst_is_in_small_letters() -> None:
    assert [word for word in WORST if word != word.casefold()] == []


def test_a_password_is_kept_as_argon2id_with_parameters_no_weaker_than_owasp_asks() -> None:
    kept = hash_password(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept != hash_password(PASSWORD)
    assert is_right(kept, PASSWORD)
    assert not is_right(kept, PASSWORD + " ")
    assert not is_dated(kept)


def test_accents_may_be_composed_by_one_keyboard_and_not_by_another() -> None:
    assert is_right(hash_password("caf\u00e9 au lait, please"), "cafe\u0301 au lait, please")


async def test_a_hash_of_older_days_is_renewed_at_the_next_sign_in(
    browser: httpx.AsyncClient, database_of: asyncpg.Connection
) -> None:
    name = await made(database_of)
    await set_password(database_of, name, PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD))
    assert (await sign_in(browser, name)).status_code == 200
    kept = await database_of.fetchval("SELECT password_hash FROM access.users WHERE name = $1", name)
    assert not is_dated(kept)
    assert (await sign_in(browser, name)).status_code == 200


async def test_no_password_token_or_name_is_in_the_logs(durable_database: str, tmp_path: Path) -> None:
    with serving(durable_database, tmp_path, LOG_LEVEL="debug") as server:
        async with speaking_to(server, key=None) as client, connected(durable_database) as connection:
            name = await made(connection)
            token = cookies_of(await sign_in(client, name))["session"].value
            await sign_in(client, name, "a wrong password")
            await client.get("/api/bookings", headers={"cookie": f"session={token}x"})
            await client.delete(SESSION)
        printed = server.printed()
    assert "signed_in" in printed
    assert "sign_in_refused" in printed
    assert [word for word in (PASSWORD, "a wrong password", token, name, "argon2") if word in printed] == []


# Users on the command line


def command(dsn: str, *arguments: str, stdin: str | None = None) -> Any:
    done = run("users", *arguments, "--json", stdin=stdin, DATABASE_URL=dsn)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout)


def test_users_are_created_listed_disabled_and_enabled(shared_database: str) -> None:
    created = ("create", "Grace@Example.com", "--role", "admin", "--ledger", "main", "--password-stdin")
    assert command(shared_database, *created, stdin=f"{PASSWORD}\r\n") == {
        "user": "grace@example.com",
        "role": "admin",
        "ledger": "main",
    }
    command(shared_database, "disable", "grace@example.com")
    (found,) = [one for one in command(shared_database, "list") if one["name"] == "grace@example.com"]
    assert (found["role"], found["ledger"], found["state"], found["sessions"]) == ("admin", "main", "disabled", 0)
    assert not found.keys() & {"password", "password_hash", "user_id"}
    command(shared_database, "enable", "grace@example.com")
    assert "active" in run("users", "list", DATABASE_URL=shared_database).stdout


BAD_COMMANDS = [
    (("create", "ada"), PASSWORD),
    (("create", "ada", "--role", "viewer"), "short"),
    (("create", "ada", "--role", "viewer"), "password123"),
    (("create", "ada", "--role", "viewer"), ""),
    (("create", "a da", "--role", "viewer"), PASSWORD),
    (("create", "-ada", "--role", "viewer"), PASSWORD),
    (("create", "ada", "--role", "viewer", "--ledger", "nobody"), PASSWORD),
    (("password", "nobody"), PASSWORD),
]


@pytest.mark.parametrize(("arguments", "password"), BAD_COMMANDS)
def test_a_user_who_cannot_be_meant_is_refused_in_a_sentence(
    shared_database: str, arguments: tuple[str, ...], password: str
) -> None:
    refused = run("users", *arguments, "--password-stdin", stdin=f"{password}\n", DATABASE_URL=shared_database)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert password == "" or password not in refused.stderr + refused.stdout


def test_a_name_is_taken_once_whatever_its_letters(shared_database: str) -> None:
    again = ("create", "Twice", "--role", "viewer", "--password-stdin")
    assert run("users", *again, stdin=f"{PASSWORD}\n", DATABASE_URL=shared_database).returncode == 0
    refused = run("users", "create", "twice", *again[2:], stdin=f"{PASSWORD}\n", DATABASE_URL=shared_database)
    assert refused.returncode == 2
    assert "taken" in refused.stderr
    assert user_name(" Twice ") == "twice"
