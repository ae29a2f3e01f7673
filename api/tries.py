"""How often a password may be tried.

The rule holds for one process and is forgotten with it:

* an account takes 10 wrong tries in a row, then one a minute, from wherever they come and whether or not it exists;
* all accounts together take 30 wrong tries in a row, then one a second;
* a browser in which somebody has signed in before has tries of its own instead, 10 in a row and then six a minute,
  until their password changes. So whoever uses up the tries of an account keeps nobody out of it who comes back in
  the same browser; in another one they wait until that ends;
* a right one costs nothing.

Two passwords are checked at a time, in threads, so that nobody else waits for them.
"""

import asyncio
import hashlib
import hmac
import secrets
from typing import Final

from api.budget import Allowance, Budget, Budgets
from ledger.errors import TooManyTries
from ledger.passwords import hash_password, is_right, nobodys_hash
from ledger.users import User

OF_ONE_ACCOUNT: Final = Allowance(at_once=10, a_minute=1)
OF_ALL_ACCOUNTS: Final = Allowance(at_once=30, a_minute=60)
OF_A_KNOWN_BROWSER: Final = Allowance(at_once=10, a_minute=6)
NAMES_MAX: Final = 10_000
CHECKS_AT_ONCE: Final = 2
NONCE_BYTES: Final = 16


class Tries:
    """What is left of each budget, and the two places where passwords are checked."""

    def __init__(self) -> None:
        self._accounts = Budgets(OF_ONE_ACCOUNT, names_max=NAMES_MAX)
        self._all = Budget(OF_ALL_ACCOUNTS)
        self._browsers = Budgets(OF_A_KNOWN_BROWSER, names_max=NAMES_MAX)
        self._places = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def is_right(self, user: User | None, name: str, password: str, *, mark: str | None, now: float) -> bool:
        """Whether this is the user's password; takes as long where there is no such user, or a disabled one.

        `mark` is the browser's, if it has one. Raises TooManyTries, without having looked at the password.
        """
        taken = self._take(name, browser=_browser(user, mark), now=now)
        is_known = user is not None and not user.disabled
        async with self._places:
            kept = user.password_hash if user is not None else await asyncio.to_thread(nobodys_hash)
            right = await asyncio.to_thread(is_right, kept, password)
        if right and is_known:
            for budget in taken:
                budget.give_back()
        return right and is_known

    async def hashed(self, password: str) -> str:
        async with self._places:
            return await asyncio.to_thread(hash_password, password)

    def _take(self, name: str, *, browser: str | None, now: float) -> list[Budget]:
        """The budgets that this try was taken from."""
        wanted = self._budgets(name, browser, now)
        wait_seconds = max(budget.wait_seconds(now) for budget in wanted)
        if wait_seconds > 0:
            raise TooManyTries("tries to sign in", wait_seconds=wait_seconds)
        for budget in wanted:
            budget.take(now)
        return wanted

    def _budgets(self, name: str, browser: str | None, now: float) -> list[Budget]:
        if browser is not None:
            return [self._browsers.of(browser, now)]
        return [self._accounts.of(name, now), self._all]


def new_mark(user: User) -> str:
    """What a browser keeps to be known again for this user: worth nothing but a budget of its own."""
    nonce = secrets.token_hex(NONCE_BYTES)
    return f"{nonce}.{_vouched(user, nonce)}"


def _browser(user: User | None, mark: str | None) -> str | None:
    """The name of a browser that this user has signed in with since the last change of password; else None."""
    nonce, _, vouched = (mark or "").partition(".")
    if user is None or not hmac.compare_digest(_vouched(user, nonce).encode(), vouched.encode()):
        return None
    return nonce


def _vouched(user: User, nonce: str) -> str:
    """Nobody can make this who does not know how the password is kept, and then it does not help them any more."""
    key = hashlib.sha256(b"known browser\x00" + user.password_hash.encode()).digest()
    return hmac.new(key, f"{user.user_id} {nonce}".encode(), hashlib.sha256).hexdigest()
