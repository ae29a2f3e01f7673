"""`ETag` and `If-Match`: whoever decides on what he has read says so, and hears when it has changed since.

The tag of a booking is its stream's version: `"7"`. Strong, so it is compared as it stands (RFC 9110, section 8.8.3).
"""

import re
from typing import Annotated

from litestar.params import HeaderParameter

from ledger.errors import BadParameter
from ledger.vocabulary import StreamVersion

VERSION_MAX = 2**31 - 1
_TAG = re.compile(r'"(0|[1-9][0-9]{0,9})"')

IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", description="The booking's ETag: refused if it has changed since.")
]


def version_tag(version: StreamVersion) -> str:
    return f'"{version}"'


def expected_version(if_match: str | None) -> StreamVersion | None:
    """The version that the header expects; None for any, which `*` says as well. Raises BadParameter."""
    if if_match is None or if_match.strip() == "*":
        return None
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None or int(tag[1]) > VERSION_MAX:
        raise BadParameter("If-Match", 'is the one ETag of the booking as it was read, such as "7"')
    return StreamVersion(int(tag[1]))
