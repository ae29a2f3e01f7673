"""Text on its way into Postgres: the one place where what text columns cannot hold is replaced."""

REPLACEMENT = "\ufffd"

NAME_CHARACTERS_MAX = 200
"""What the longest name has that an index holds: at 4 bytes each, with the index's other columns, below 2,704 bytes."""


def storable(text: str | None) -> str | None:
    """NUL, which Postgres text cannot hold, becomes U+FFFD; everything else stays as it was sent."""
    return text.replace("\x00", REPLACEMENT) if text is not None and "\x00" in text else text


def storable_name(text: str | None) -> str | None:
    """The same for a name by which bookings are looked up; None for one longer than `NAME_CHARACTERS_MAX`."""
    return None if text is None or len(text) > NAME_CHARACTERS_MAX else storable(text)


def storable_json(text: str) -> str:
    r"""JSON text without `\u0000`, which `jsonb` refuses, escaped backslashes left alone."""
    if "\\u0000" not in text:
        return text
    parts = text.split("\\\\")
    return "\\\\".join(part.replace("\\u0000", "\\ufffd") for part in parts)
