"""The one settings struct, read from the environment: every name, its default, and the rule it must keep.

An empty value counts as absent. A secret may come from a file instead (`NAME_FILE`), and is never printed, not even
when it is refused. Every command imports this module, the quick ones too: nothing heavier than msgspec here.
"""

import base64
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from ledger.errors import BadSetting

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")
LOG_FORMATS: Final[tuple[LogFormat, ...]] = ("console", "json")
PORT_MAX: Final = 65535
DAYS_MAX: Final = 36_500
FIRST_PRINTABLE_BYTE: Final = 0x20
DELETE_BYTE: Final = 0x7F
SECRET_FILE_BYTES_MAX: Final = 65_536
SEALING_KEY_BYTES: Final = 32
LOOPBACK_NETWORK: Final = IPv4Network("127.0.0.0/8")
OUR_PREFIX: Final = "BOOKING_LEDGER_"

WEBHOOK_SECRET_NAMES: Final = (
    "CAL_COM_WEBHOOK_SECRET",
    "CAL_COM_WEBHOOK_SECRET_PROD",
    "CALCOM_WEBHOOK_SECRET",
    "CAL_WEBHOOK_SECRET",
)
SECRET_NAMES: Final = (
    "DATABASE_URL",
    "DATABASE_DIRECT_URL",
    *WEBHOOK_SECRET_NAMES,
    "CAL_COM_API_KEY",
    "INTERNAL_API_KEY",
    "CHECKPOINT_KEY",
    "SEALING_KEY",
    "KEYS_DATABASE_URL",
)
PLAIN_NAMES: Final = (
    "BOOKING_LEDGER_HOME",
    "HOST",
    "PORT",
    "PUBLIC_URL",
    "CAL_COM_API_URL",
    "STRICT_EVENTS",
    "CONFIRM_ON_ACCEPT",
    "CHECKPOINT_FOLDER",
    "CHECKPOINT_COMMAND",
    "ERASURES_FOLDER",
    "RETENTION_DAYS",
    "LOG_LEVEL",
    "LOG_FORMAT",
)
KNOWN_NAMES: Final = (*PLAIN_NAMES, *SECRET_NAMES, *(f"{name}_FILE" for name in SECRET_NAMES))

Option = TypeVar("Option", bound=str)


class Secret:
    """Bytes that print as `Secret(****)`; only `reveal` and `reveal_text` give them away."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def reveal_text(self) -> str:
        return self._value.decode()

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(****)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose. `None` means: not set."""

    database_url: Secret | None = None
    """None: the embedded PostgreSQL in `home`."""
    database_direct_url: Secret | None = None
    """Past the pooler, for LISTEN and locks. None: `database_url` is direct already."""
    home: Path | None = None
    """None: the platform's user data folder."""
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    """Without a slash at the end."""
    webhook_secrets: tuple[Secret, ...] = ()
    """All active, in the order given, each once."""
    cal_com_api_key: Secret | None = None
    cal_com_api_url: str = "https://api.cal.com/v2"
    """Without a slash at the end."""
    internal_api_key: Secret | None = None
    strict_events: bool = False
    confirm_on_accept: bool = False
    checkpoint_key: Secret | None = None
    """Signs checkpoints. None: none are made."""
    checkpoint_folder: Path | None = None
    """Where checkpoints go, a folder in it for each ledger; the last one there is what the next has to continue."""
    checkpoint_command: tuple[str, ...] = ()
    """A program and its arguments: takes each checkpoint on standard input."""
    sealing_keys: tuple[Secret, ...] = ()
    """Root keys of 32 bytes: the first wraps, all unwrap. Empty: one is made and kept in the database."""
    keys_database_url: Secret | None = None
    """None: keys of bodies live in the log's own database."""
    erasures_folder: Path | None = None
    """Where receipts of erasures go, on another volume than the database: read before a restored backup is served."""
    retention_days: int | None = None
    """Bookings that have been over for so many days are erased, with all who are in them. None: never."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"

    @property
    def is_loopback(self) -> bool:
        """Only programs on this machine can reach HOST: 127.0.0.0/8, ::1 or localhost."""
        if self.host.lower() == "localhost":
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return address == IPv6Address("::1") or address in LOOPBACK_NETWORK


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` describes; reads nothing else but the files that `NAME_FILE` names.

    Raises BadSetting for the first value that breaks its rule, and for a `BOOKING_LEDGER_*` name that is none of ours.
    """
    _refuse_unknown_names(environ)
    database_url = _database_url(environ, "DATABASE_URL")
    database_direct_url = _database_url(environ, "DATABASE_DIRECT_URL")
    if database_direct_url is not None and database_url is None:
        raise BadSetting("DATABASE_DIRECT_URL", "needs DATABASE_URL beside it; set both, or neither")
    default = Settings()
    return Settings(
        database_url=database_url,
        database_direct_url=database_direct_url,
        home=_folder(environ, "BOOKING_LEDGER_HOME"),
        host=_host(environ) or default.host,
        port=_port(environ) or default.port,
        public_url=_url(environ, "PUBLIC_URL"),
        webhook_secrets=_webhook_secrets(environ),
        cal_com_api_key=_secret(environ, "CAL_COM_API_KEY"),
        cal_com_api_url=_url(environ, "CAL_COM_API_URL") or default.cal_com_api_url,
        internal_api_key=_secret(environ, "INTERNAL_API_KEY"),
        strict_events=_flag(environ, "STRICT_EVENTS"),
        confirm_on_accept=_flag(environ, "CONFIRM_ON_ACCEPT"),
        checkpoint_key=_secret(environ, "CHECKPOINT_KEY"),
        checkpoint_folder=_folder(environ, "CHECKPOINT_FOLDER"),
        checkpoint_command=_command(environ, "CHECKPOINT_COMMAND"),
        sealing_keys=_sealing_keys(environ),
        keys_database_url=_keys_database_url(environ, database_url),
        erasures_folder=_folder(environ, "ERASURES_FOLDER"),
        retention_days=_days(environ, "RETENTION_DAYS"),
        log_level=_choice(environ, "LOG_LEVEL", LOG_LEVELS) or default.log_level,
        log_format=_choice(environ, "LOG_FORMAT", LOG_FORMATS) or default.log_format,
    )


def _refuse_unknown_names(environ: Mapping[str, str]) -> None:
    """A misspelt name of ours would be ignored in silence otherwise; others' names are none of our business."""
    for name in sorted(environ):
        if name.startswith(OUR_PREFIX) and name not in KNOWN_NAMES:
            raise BadSetting(name, f"is not a setting; unset it, or rename it if {_nearest_name(name)} is meant")


def _nearest_name(name: str) -> str:
    """Compared without the prefix, so that BOOKING_LEDGER_PORT leads to PORT; nothing close: our one prefixed name."""
    by_rest = {known.removeprefix(OUR_PREFIX): known for known in KNOWN_NAMES}
    close = get_close_matches(name.removeprefix(OUR_PREFIX), by_rest, n=1)
    return by_rest[close[0]] if close else "BOOKING_LEDGER_HOME"


def _plain(environ: Mapping[str, str], name: str) -> str | None:
    """Without the spaces around it: an .env file with CRLF line ends leaves a carriage return behind each value."""
    return environ.get(name, "").strip() or None


def _folder(environ: Mapping[str, str], name: str) -> Path | None:
    value = _plain(environ, name)
    if value is None:
        return None
    if value.startswith("~"):
        raise BadSetting(name, f"must be a folder written in full, without ~, not {value!r}")
    return Path(value)


def _command(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The words of a command line as a shell would part them; no shell will ever see them."""
    try:
        return tuple(shlex.split(environ.get(name, "")))
    except ValueError:
        raise BadSetting(name, "has a quotation mark that is not closed (its value is not shown)") from None


def _host(environ: Mapping[str, str]) -> str | None:
    value = _plain(environ, "HOST")
    if value is None:
        return None
    rule = f"must be an IP address or a host name, without scheme, brackets or port, not {value!r}"
    if "/" in value or any(character.isspace() for character in value):
        raise BadSetting("HOST", rule)
    if ":" in value:
        try:
            IPv6Address(value)
        except ValueError:
            raise BadSetting("HOST", rule) from None
    return value


def _port(environ: Mapping[str, str]) -> int | None:
    value = _plain(environ, "PORT")
    if value is None:
        return None
    is_number = value.isascii() and value.isdigit() and len(value) <= len(str(PORT_MAX))
    if not is_number or not 1 <= int(value) <= PORT_MAX:
        raise BadSetting("PORT", f"must be a whole number from 1 to {PORT_MAX}, not {value!r}")
    return int(value)


def _days(environ: Mapping[str, str], name: str) -> int | None:
    value = _plain(environ, name)
    if value is None:
        return None
    is_number = value.isascii() and value.isdigit() and len(value) <= len(str(DAYS_MAX))
    if not is_number or not 1 <= int(value) <= DAYS_MAX:
        raise BadSetting(name, f"must be a whole number of days from 1 to {DAYS_MAX:,}, not {value!r}")
    return int(value)


def _url(environ: Mapping[str, str], name: str) -> str | None:
    """The URL without a slash at its end. One that carries a user or password is refused without being shown."""
    value = _plain(environ, name)
    if value is None:
        return None
    if "@" in value:
        raise BadSetting(name, "must not contain a user, a password or any other @ (its value is not shown)")
    try:
        parts = urlsplit(value)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or any(character.isspace() or character in "?#" for character in value):
        raise BadSetting(name, f"must be an http:// or https:// URL without query or fragment, not {value!r}")
    return value.rstrip("/")


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = _plain(environ, name)
    if value is None:
        return False
    if value.lower() in ("true", "1", "yes"):
        return True
    if value.lower() in ("false", "0", "no"):
        return False
    raise BadSetting(name, f"must be true or false (1 or 0, yes or no), not {value!r}")


def _choice(environ: Mapping[str, str], name: str, options: tuple[Option, ...]) -> Option | None:
    value = _plain(environ, name)
    if value is None:
        return None
    for option in options:
        if option == value.lower():
            return option
    raise BadSetting(name, f"must be one of {', '.join(options)}, not {value!r}")


def _database_url(environ: Mapping[str, str], name: str) -> Secret | None:
    url = _secret(environ, name)
    if url is not None and not url.reveal().startswith((b"postgres://", b"postgresql://")):
        raise BadSetting(name, "must begin with postgres:// or postgresql:// (its value is not shown)")
    return url


def _webhook_secrets(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Every secret under every name, split at commas; a secret that itself contains a comma cannot be given."""
    given = [secret.reveal() for name in WEBHOOK_SECRET_NAMES if (secret := _secret(environ, name)) is not None]
    parts = [part.strip() for value in given for part in value.split(b",")]
    return tuple(Secret(part) for part in dict.fromkeys(parts) if part)


def _sealing_keys(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    given = _secret(environ, "SEALING_KEY")
    if given is None:
        return ()
    keys = [_sealing_key(word.strip()) for word in given.reveal_text().split(",")]
    if None in keys:
        raise BadSetting(
            "SEALING_KEY",
            f"must be keys of {SEALING_KEY_BYTES} bytes as base64 or hexadecimal digits, with commas between them (its "
            "value is not shown; booking-ledger sealing new-key prints a key)",
        )
    return tuple(Secret(key) for key in dict.fromkeys(keys) if key is not None)


def _sealing_key(word: str) -> bytes | None:
    try:
        key = bytes.fromhex(word) if len(word) == 2 * SEALING_KEY_BYTES else base64.b64decode(word, validate=True)
    except ValueError:
        return None
    return key if len(key) == SEALING_KEY_BYTES else None


def _keys_database_url(environ: Mapping[str, str], database_url: Secret | None) -> Secret | None:
    url = _database_url(environ, "KEYS_DATABASE_URL")
    if url is not None and url == database_url:
        raise BadSetting("KEYS_DATABASE_URL", "must lead to another database than DATABASE_URL, or be left out")
    return url


def _secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """The value of `name`, or the content of the file that `name`_FILE names."""
    value = environ.get(name, "").encode("utf-8", "surrogatepass")
    path = environ.get(f"{name}_FILE", "")
    if path and value:
        raise BadSetting(name, f"and {name}_FILE are both set; unset one of them")
    if path:
        return Secret(_one_line(f"{name}_FILE", _file_content(f"{name}_FILE", path)))
    return Secret(_one_line(name, value)) if value else None


def _one_line(name: str, value: bytes) -> bytes:
    if any(byte < FIRST_PRINTABLE_BYTE or byte == DELETE_BYTE for byte in value):
        raise BadSetting(name, "must be one line without control characters (its value is not shown)")
    try:
        value.decode()
    except UnicodeDecodeError:
        raise BadSetting(name, "must be UTF-8 text (its value is not shown)") from None
    return value


def _file_content(name: str, path: str) -> bytes:
    """All but one line end. An empty file is refused: a mount that failed must not look like a setting left out."""
    shown = repr(path) if Path(path).is_absolute() else "a file (not shown: it may be the secret itself)"
    try:
        with Path(path).open("rb") as file:
            content = file.read(SECRET_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise BadSetting(name, f"names {shown}, which cannot be read ({reason}); name a readable file") from None
    if len(content) > SECRET_FILE_BYTES_MAX:
        rule = f"names {shown}, which is larger than {SECRET_FILE_BYTES_MAX:,} bytes; name a file with the secret alone"
        raise BadSetting(name, rule)
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content:
        raise BadSetting(name, f"names {shown}, which is empty; write the secret into it, or unset {name}")
    return content
