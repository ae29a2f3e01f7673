"""Which addresses a webhook at Cal.com may lead to, and which of them are ours. Pure: no name is looked up."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

import msgspec

from ledger.errors import UnsafeReceiver

PRODUCTION_DOMAIN = "cal.com"
"""Cal.com's own service; any other server is somebody's own."""

TUNNELS = (
    *("ngrok.io", "ngrok.app", "ngrok.dev", "ngrok-free.app", "ngrok-free.dev", "trycloudflare.com", "loca.lt"),
    *("localtunnel.me", "serveo.net", "serveousercontent.com", "lhr.life", "localhost.run", "pagekite.me", "zrok.io"),
    *("tunnelmole.net", "devtunnels.ms", "loclx.io", "pinggy.link", "pinggy.io", "bore.pub", "telebit.io", "smee.io"),
)
"""Addresses that change or end with a developer's day."""

PRIVATE_SUFFIXES = ("localhost", "local", "internal", "lan", "home", "corp", "test", "invalid", "localdomain", "arpa")
DEFAULT_PORTS = {"http": 80, "https": 443}

_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


class Ourselves(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a webhook ours: it leads to `url`, or to one of our `paths` on the host of `public_url`."""

    url: str | None
    public_url: str | None
    paths: tuple[str, ...]

    def own(self, subscriber_url: str) -> bool:
        if self.url is not None and same_address(subscriber_url, self.url):
            return True
        theirs, ours = _parts(subscriber_url), _parts(self.public_url or "")
        if theirs is None or ours is None or _host_and_port(theirs) != _host_and_port(ours):
            return False
        path = theirs.path.removeprefix(ours.path.rstrip("/"))
        return any(path.rstrip("/") == known or path.startswith(f"{known}/") for known in self.paths)


def same_address(one: str, other: str) -> bool:
    """Whether deliveries to both arrive at the same place: case of the host, default port, last slash aside."""
    parts, others = _parts(one), _parts(other)
    return one == other if parts is None or others is None else _normal(parts) == _normal(others)


def is_web_address(url: str) -> bool:
    """An http or https URL that can be sent to, without a user or password in it."""
    parts = _parts(url)
    if parts is None or parts.scheme not in DEFAULT_PORTS:
        return False
    return "@" not in parts.netloc and not any(character.isspace() for character in url)


def refuse_unsafe(url: str, *, api_url: str) -> None:
    """Raises UnsafeReceiver for what Cal.com could not reach, or would send readable to anybody on the way.

    Cal.com's own service can reach public addresses only. Somebody's own server may stand beside us, so there only
    plain http over a network is refused.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if is_production(api_url):
        if is_private(host):
            raise UnsafeReceiver(url, "cannot be reached from Cal.com's own service")
        if is_below(host, TUNNELS):
            raise UnsafeReceiver(url, "is a tunnel, which would take a production account's webhooks until it closes")
    if parts.scheme != "https" and not is_loopback(host):
        raise UnsafeReceiver(url, "is plain http, which everybody on the way can read")


def is_production(api_url: str) -> bool:
    return is_below((urlsplit(api_url).hostname or "").rstrip("."), (PRODUCTION_DOMAIN,))


def is_loopback(host: str) -> bool:
    """Only programs on this machine: 127.0.0.0/8, ::1, localhost."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_private(host: str) -> bool:
    """No address of the public internet, as far as can be told without looking it up."""
    address = _address(host)
    if address is not None:
        return not address.is_global or address.is_multicast
    last = host.rpartition(".")[2]
    # 127.1, 0x7f.1 and 2130706433 are addresses to some programs; a name without a dot is one of the own network.
    return "." not in host or bool(_NUMBER.fullmatch(last)) or is_below(host, PRIVATE_SUFFIXES)


def is_below(host: str, domains: Sequence[str]) -> bool:
    """The host is one of these domains, or in one."""
    return any(f".{host.lower()}".endswith(f".{domain}") for domain in domains)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _parts(url: str) -> SplitResult | None:
    """None: no URL with a host and a port that can be one. Whatever stands at Cal.com is compared with ours."""
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_whole else None


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    return (parts.hostname or "").rstrip("."), parts.port or DEFAULT_PORTS.get(parts.scheme)


def _normal(parts: SplitResult) -> tuple[str, str, int | None, str, str]:
    return parts.scheme, *_host_and_port(parts), parts.path.rstrip("/"), parts.query
