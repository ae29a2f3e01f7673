"""What every answer tells a browser, and what no answer tells anybody.

The fixed headers are the server's own (`run_server` hands them to uvicorn, which writes them before an answer's other
headers), so they stand on webhooks' answers, on errors and on requests that never reached the application, and cost
no layer around it. OWASP ASVS 5.0, chapters V3.4 and V14.3.
"""

import resource
from typing import Final

from ledger.settings import Settings

NOT_KEPT: Final = {"cache-control": "no-store"}
"""On everything but files that are the same for everybody, which say so themselves."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; object-src 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
PERMISSIONS_POLICY: Final = ", ".join(
    f"{feature}=()" for feature in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
)
STRICT_TRANSPORT_SECURITY: Final = "max-age=31536000; includeSubDomains"

FIXED_HEADERS: Final = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", PERMISSIONS_POLICY),
)


def fixed_headers(settings: Settings) -> list[tuple[str, str]]:
    """What the server writes on every answer; where the outside sees https, that it never becomes http again."""
    if is_https(settings):
        return [*FIXED_HEADERS, ("strict-transport-security", STRICT_TRANSPORT_SECURITY)]
    return [*FIXED_HEADERS]


def forbid_core_dumps() -> None:
    """A crash of this process, or of one that it starts, writes none of its memory to a disk: it holds secrets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def is_https(settings: Settings) -> bool:
    """Whether people's browsers come by https, as PUBLIC_URL says."""
    return (settings.public_url or "").startswith("https://")
