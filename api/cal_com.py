"""The way from here to Cal.com's API, put together: key, address and HTTP client from the settings."""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx

from ledger.calcom.addresses import is_loopback
from ledger.calcom.api import TIMEOUTS, CalComApi
from ledger.calcom.transport import ATTEMPTS_MAX
from ledger.errors import BadSetting
from ledger.settings import Settings


@contextlib.asynccontextmanager
async def cal_com_api(settings: Settings, *, attempts_max: int = ATTEMPTS_MAX) -> AsyncIterator[CalComApi]:
    """The API for as long as the block lasts; one for a process. Raises BadSetting where no key is set.

    Proxies and certificates are taken from the environment, as programs do, unless the API is on this machine.
    """
    if settings.cal_com_api_key is None:
        raise BadSetting("CAL_COM_API_KEY", "must be set to an API key of the Cal.com account")
    nearby = is_loopback(urlsplit(settings.cal_com_api_url).hostname or "")
    async with httpx.AsyncClient(timeout=TIMEOUTS, trust_env=not nearby) as client:
        yield CalComApi(settings.cal_com_api_url, settings.cal_com_api_key, client=client, attempts_max=attempts_max)
