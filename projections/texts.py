"""Text on its way into Postgres: the one place where what text columns cannot hold is replaced."""

REPLACEMENT = "\ufffd"


def storable(text: str | None) -> str | None:
    """NUL, which Postgres text cannot hold, becomes U+FFFD; everything else stays as it was sent."""
    return text.replace("\x00", REPLACEMENT) if text is not None and "\x00" in text else text


def storable_json(text: str) -> str:
    r"""JSON text without `\u0000`, which `jsonb` refuses, escaped backslashes left alone."""
    if "\\u0000" not in text:
        return text
    parts = text.split("\\\\")
    return "\\\\".join(part.replace("\\u0000", "\\ufffd") for part in parts)
