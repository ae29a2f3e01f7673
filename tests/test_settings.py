"""Settings: what is read, what is refused, and that a refusal says what to do without saying a secret."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import BadSetting
from ledger.settings import (
    KNOWN_NAMES,
    PLAIN_NAMES,
    SECRET_FILE_BYTES_MAX,
    SECRET_NAMES,
    WEBHOOK_SECRET_NAMES,
    Secret,
    Settings,
    load_settings,
)

PASSWORD = "hunter2"
URL = f"postgresql://ledger:{PASSWORD}@db/ledger"


def refusal(**environ: str) -> str:
    with pytest.raises(BadSetting) as refused:
        load_settings(environ)
    return str(refused.value)


def test_without_an_environment_every_setting_has_its_default() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.cal_com_api_url) == ("127.0.0.1", 8000, "https://api.cal.com/v2")
    assert (settings.log_level, settings.log_format, settings.strict_events) == ("info", "console", False)
    assert settings.database_url is None
    assert settings.webhook_secrets == ()


def test_every_setting_is_read() -> None:
    settings = load_settings(
        {
            "DATABASE_URL": URL,
            "DATABASE_DIRECT_URL": "postgres://direct/ledger",
            "BOOKING_LEDGER_HOME": "/srv/ledger",
            "HOST": "0.0.0.0",
            "PORT": "80",
            "PUBLIC_URL": "https://salon.example/",
            "CAL_COM_WEBHOOK_SECRET": "first",
            "CAL_COM_API_KEY": "cal_live_1",
            "CAL_COM_API_URL": "http://localhost:3000/api/v2",
            "INTERNAL_API_KEY": "key",
            "STRICT_EVENTS": "Yes",
            "CONFIRM_ON_ACCEPT": "1",
            "CHECKPOINT_KEY": "PRIVATE+KEY+x",
            "CHECKPOINT_FOLDER": "/mnt/elsewhere",
            "CHECKPOINT_COMMAND": "mail -s 'a checkpoint' me@salon.example",
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "json",
            "PATH": "/bin",
        }
    )
    assert settings == Settings(
        database_url=Secret(URL.encode()),
        database_direct_url=Secret(b"postgres://direct/ledger"),
        home=Path("/srv/ledger"),
        host="0.0.0.0",
        port=80,
        public_url="https://salon.example",
        webhook_secrets=(Secret(b"first"),),
        cal_com_api_key=Secret(b"cal_live_1"),
        cal_com_api_url="http://localhost:3000/api/v2",
        internal_api_key=Secret(b"key"),
        strict_events=True,
        confirm_on_accept=True,
        checkpoint_key=Secret(b"PRIVATE+KEY+x"),
        checkpoint_folder=Path("/mnt/elsewhere"),
        checkpoint_command=("mail", "-s", "a checkpoint", "me@salon.example"),
        log_level="warning",
        log_format="json",
    )


def test_an_empty_value_counts_as_absent() -> None:
    assert load_settings(dict.fromkeys(KNOWN_NAMES, "")) == Settings()


def test_a_carriage_return_left_by_a_windows_env_file_does_not_matter_to_plain_values() -> None:
    assert load_settings({"PORT": "8001\r", "LOG_FORMAT": " json "}) == Settings(port=8001, log_format="json")


def test_webhook_secrets_of_all_names_are_merged_in_order_once_each() -> None:
    settings = load_settings(
        {
            "CAL_WEBHOOK_SECRET": "d",
            "CALCOM_WEBHOOK_SECRET": "c, a",
            "CAL_COM_WEBHOOK_SECRET_PROD": "b,,a,",
            "CAL_COM_WEBHOOK_SECRET": " a , b",
        }
    )
    assert [secret.reveal() for secret in settings.webhook_secrets] == [b"a", b"b", b"c", b"d"]


def test_a_secret_outside_ascii_keeps_its_bytes() -> None:
    (secret,) = load_settings({"CAL_COM_WEBHOOK_SECRET": "schlüssel"}).webhook_secrets
    assert secret.reveal() == "schlüssel".encode()
    assert secret.reveal_text() == "schlüssel"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"PORT": "abc"}, "PORT must be a whole number from 1 to 65535, not 'abc'."),
        ({"PORT": "0"}, "PORT must be a whole number from 1 to 65535, not '0'."),
        ({"PORT": "65536"}, "PORT must be a whole number from 1 to 65535, not '65536'."),
        ({"PORT": "8_0"}, "PORT must be a whole number from 1 to 65535, not '8_0'."),
        ({"PORT": "٨٠"}, "PORT must be a whole number from 1 to 65535, not '٨٠'."),
        ({"PORT": "-1"}, "PORT must be a whole number from 1 to 65535, not '-1'."),
        (
            {"STRICT_EVENTS": "maybe"},
            "STRICT_EVENTS must be true or false (1 or 0, yes or no), not 'maybe'.",
        ),
        (
            {"CONFIRM_ON_ACCEPT": "on"},
            "CONFIRM_ON_ACCEPT must be true or false (1 or 0, yes or no), not 'on'.",
        ),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be one of debug, info, warning, error, not 'loud'."),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT must be one of console, json, not 'xml'."),
        (
            {"HOST": "localhost:80"},
            "HOST must be an IP address or a host name, without scheme, brackets or port, not 'localhost:80'.",
        ),
        (
            {"PUBLIC_URL": "salon.example"},
            "PUBLIC_URL must be an http:// or https:// URL without query or fragment, not 'salon.example'.",
        ),
        (
            {"BOOKING_LEDGER_HOME": "~/ledger"},
            "BOOKING_LEDGER_HOME must be a folder written in full, without ~, not '~/ledger'.",
        ),
        (
            {"CHECKPOINT_FOLDER": "~/elsewhere"},
            "CHECKPOINT_FOLDER must be a folder written in full, without ~, not '~/elsewhere'.",
        ),
        (
            {"CHECKPOINT_COMMAND": "mail 'unfinished"},
            "CHECKPOINT_COMMAND has a quotation mark that is not closed (its value is not shown).",
        ),
        (
            {"DATABASE_DIRECT_URL": URL},
            "DATABASE_DIRECT_URL needs DATABASE_URL beside it; set both, or neither.",
        ),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence_that_says_what_to_do(environ: dict[str, str], sentence: str) -> None:
    assert refusal(**environ) == sentence


@pytest.mark.parametrize("host", ["http://a", "[::1]", "a b", "::1::2"])
def test_a_host_that_cannot_be_bound_is_refused(host: str) -> None:
    assert refusal(HOST=host).startswith("HOST must be")


@pytest.mark.parametrize("url", ["ftp://a", "https://", "https://a:b", "https://a/?q=1", "https://a/#b", "http://[a"])
def test_a_url_that_cannot_be_extended_by_a_path_is_refused(url: str) -> None:
    assert refusal(CAL_COM_API_URL=url).startswith("CAL_COM_API_URL must be an http")


def test_a_password_in_a_plain_url_is_refused_unseen() -> None:
    assert PASSWORD not in refusal(PUBLIC_URL=f"https://me:{PASSWORD}@salon.example")


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+asyncpg", "http", "POSTGRES"])
def test_a_database_url_of_another_kind_is_refused_unseen(scheme: str) -> None:
    sentence = refusal(DATABASE_URL=f"{scheme}://me:{PASSWORD}@db/ledger")
    assert sentence == "DATABASE_URL must begin with postgres:// or postgresql:// (its value is not shown)."


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("spoilt", ["{}\nsecond line", "{}\x00", "{}\udcff"])
def test_a_secret_that_is_not_one_line_of_text_is_refused_unseen(name: str, spoilt: str) -> None:
    sentence = refusal(**{name: spoilt.format(URL)})
    assert sentence.startswith(f"{name} must be ")
    assert PASSWORD not in sentence


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("BOOKING_LEDGER_HOEM", "BOOKING_LEDGER_HOME"),
        ("BOOKING_LEDGER_PORT", "PORT"),
        ("BOOKING_LEDGER_DATABASE_URL", "DATABASE_URL"),
        ("BOOKING_LEDGER_ZZZ", "BOOKING_LEDGER_HOME"),
        ("BOOKING_LEDGER_", "BOOKING_LEDGER_HOME"),
    ],
)
def test_an_unknown_name_of_ours_is_refused_with_the_nearest_known_one(misspelt: str, meant: str) -> None:
    sentence = refusal(**{misspelt: ""})
    assert sentence == f"{misspelt} is not a setting; unset it, or rename it if {meant} is meant."


def test_names_of_others_are_none_of_our_business() -> None:
    assert load_settings({"BOOKING": "x", "booking_ledger_home": "x", "PORTS": "x"}) == Settings()


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_a_secret_may_come_from_a_file_with_or_without_a_line_end(name: str, line_end: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    value = "ab" * 32 if name == "SEALING_KEY" else URL
    file.write_text(value + line_end, newline="")
    direct = {"DATABASE_URL": URL} if name == "DATABASE_DIRECT_URL" else {}
    assert load_settings({f"{name}_FILE": str(file), **direct}) == load_settings({name: value, **direct})


def test_only_one_line_end_of_a_secret_file_is_no_part_of_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" key \n")
    assert load_settings({"CAL_COM_API_KEY_FILE": str(file)}).cal_com_api_key == Secret(b" key ")
    file.write_text("key\n\n")
    assert "must be one line" in refusal(CAL_COM_API_KEY_FILE=str(file))


def test_a_webhook_secret_file_may_hold_several(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("a,b\n")
    settings = load_settings({"CAL_WEBHOOK_SECRET_FILE": str(file), "CAL_COM_WEBHOOK_SECRET": "b"})
    assert settings.webhook_secrets == (Secret(b"b"), Secret(b"a"))


def test_a_secret_given_twice_is_refused_unseen(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("other")
    sentence = refusal(CAL_COM_API_KEY=PASSWORD, CAL_COM_API_KEY_FILE=str(file))
    assert sentence == "CAL_COM_API_KEY and CAL_COM_API_KEY_FILE are both set; unset one of them."


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "which cannot be read (No such file or directory); name a readable file"),
        (b"", "which is empty; write the secret into it, or unset INTERNAL_API_KEY_FILE"),
        (b"\n", "which is empty; write the secret into it, or unset INTERNAL_API_KEY_FILE"),
        (b"x" * (SECRET_FILE_BYTES_MAX + 1), "which is larger than 65,536 bytes; name a file with the secret alone"),
    ],
    ids=["missing", "empty", "one line end", "too large"],
)
def test_a_secret_file_that_cannot_be_used_is_refused_by_its_path(
    content: bytes | None, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    assert refusal(INTERNAL_API_KEY_FILE=str(file)) == f"INTERNAL_API_KEY_FILE names {str(file)!r}, {complaint}."


def test_a_folder_is_no_secret_file(tmp_path: Path) -> None:
    assert "cannot be read (Is a directory)" in refusal(INTERNAL_API_KEY_FILE=str(tmp_path))


@pytest.mark.parametrize("pasted", [PASSWORD, f"{PASSWORD}\0"])
def test_a_secret_pasted_where_its_file_belongs_is_not_shown(pasted: str) -> None:
    assert PASSWORD not in refusal(INTERNAL_API_KEY_FILE=pasted)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "0:0:0:0:0:0:0:1", "localhost", "LocalHost"])
def test_a_loopback_host_is_known_as_one(host: str) -> None:
    assert load_settings({"HOST": host}).is_loopback


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "ledger.example", "127.1", "localhost.example"]
)
def test_a_host_that_others_can_reach_is_no_loopback(host: str) -> None:
    assert not load_settings({"HOST": host}).is_loopback


def test_a_secret_never_prints_and_never_encodes() -> None:
    settings = load_settings({"DATABASE_URL": URL, "CAL_COM_WEBHOOK_SECRET": PASSWORD, "INTERNAL_API_KEY": PASSWORD})
    secret = Secret(PASSWORD.encode())
    assert [repr(secret), str(secret), f"{secret}", f"{secret!r:>12}"] == ["Secret(****)"] * 4
    assert PASSWORD not in repr(settings)
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)


def test_secrets_are_equal_by_value_and_to_nothing_else() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert len({Secret(b"a"), Secret(b"a"), Secret(b"b")}) == 2
    assert Secret(b"a") != b"a"


@given(st.dictionaries(st.sampled_from(PLAIN_NAMES), st.text(max_size=12)), st.sampled_from(SECRET_NAMES), st.text())
def test_any_environment_gives_settings_or_one_refusal_and_tells_no_secret(
    plain: dict[str, str], secret_name: str, noise: str
) -> None:
    environ = plain | {secret_name: f"{PASSWORD}{noise}"}
    try:
        told = repr(load_settings(environ))
    except BadSetting as refused:
        told = str(refused)
        assert refused.name in KNOWN_NAMES  # noqa: PT017  # either outcome is right here
    assert PASSWORD not in told


def test_every_webhook_secret_name_has_a_file_variant() -> None:
    assert {f"{name}_FILE" for name in WEBHOOK_SECRET_NAMES} < set(KNOWN_NAMES)


def test_settings_do_not_load_what_quick_commands_must_not_wait_for() -> None:
    heavy = "{'asyncio', 'asyncpg', 'ssl', 'litestar', 'click', 'structlog', 'sqlite3'}"
    program = f"import sys, ledger.settings; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).parents[1]
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
