"""Statements come out of a .sql file by name, and a file that could mislead us is refused."""

from pathlib import Path

import pytest

from ledger.sql import load_statements


def written(folder: Path, text: str) -> Path:
    path = folder / "store.sql"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_statement_is_found_under_its_name_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "-- Heads and events.\n\n"
        "-- name: read_head\n-- $1 ledger_id\nSELECT position\nFROM ledger.ledgers\nWHERE ledger_id = $1;\n\n"
        "-- name: lock_head\nSELECT 1 FOR UPDATE\n",
    )
    assert dict(load_statements(path)) == {
        "read_head": "SELECT position\nFROM ledger.ledgers\nWHERE ledger_id = $1",
        "lock_head": "SELECT 1 FOR UPDATE",
    }
    assert list(load_statements(path)) == ["read_head", "lock_head"]


def test_a_line_of_a_string_that_looks_like_a_comment_stays(tmp_path: Path) -> None:
    path = written(tmp_path, "-- name: read_text\nSELECT 'a\n-- not a comment\nb';\n-- the next one is about heads\n")
    assert load_statements(path)["read_text"] == "SELECT 'a\n-- not a comment\nb'"


def test_statements_cannot_be_changed_by_whoever_loaded_them(tmp_path: Path) -> None:
    statements = load_statements(written(tmp_path, "-- name: read_one\nSELECT 1;"))
    with pytest.raises(TypeError):
        statements["read_one"] = "SELECT 2"  # type: ignore[index]  # that it is refused is what we test


def test_a_windows_checkout_gives_the_same_statements(tmp_path: Path) -> None:
    path = tmp_path / "store.sql"
    path.write_bytes(b"-- name: read_one\r\nSELECT\r\n    1;\r\n")
    assert load_statements(path)["read_one"] == "SELECT\n    1"


@pytest.mark.parametrize(
    "text",
    [
        "-- name: read_one\nSELECT 1;\n-- name: read_one\nSELECT 2;",
        "-- name:\nSELECT 1;",
        "-- name: Read-One\nSELECT 1;",
        "-- name: read one\nSELECT 1;",
        "-- name: read_one\n-- name: read_two\nSELECT 2;",
        "-- name: read_one\n-- nothing but prose\n;",
        "SELECT 1;\n-- name: read_two\nSELECT 2;",
    ],
    ids=["used twice", "empty", "malformed", "two words", "no SQL before the next", "no SQL at all", "no name"],
)
def test_a_file_that_could_mislead_us_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"store\.sql"):
        load_statements(written(tmp_path, text))


def test_the_statements_of_the_ledger_load() -> None:
    folder = Path(__file__).parents[1] / "ledger"
    assert {path.stem for path in folder.glob("*.sql") if load_statements(path)} >= {"migrate", "postgres"}
