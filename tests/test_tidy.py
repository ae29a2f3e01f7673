"""The house rules that a machine can hold. Each test names every place that breaks its rule: `file:line  rule`."""

import ast
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from api.problems import STATUS_OF
from ledger import errors
from tests.sources import (
    FLOORS,
    ROOT,
    Function,
    Source,
    assert_held,
    called,
    files,
    floor_of,
    functions,
    imports,
    is_ignored,
    nodes,
    numbered,
    our_tests,
    product,
    read_text,
    relative,
    sources,
)

TOP_LEVEL = {*FLOORS, "pyproject.toml", "README.md", "migrations", "tests", "docker-compose.yml"}
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

PURE = (
    "ledger/booking.py",
    "ledger/chains.py",
    "ledger/comparing.py",
    "ledger/facts.py",
    "ledger/filing.py",
    "ledger/folding.py",
    "ledger/kept_facts.py",
    "ledger/links.py",
    "ledger/merkle.py",
    "ledger/notes.py",
    "ledger/persons.py",
    "ledger/readings.py",
    "ledger/redacting.py",
    "ledger/redaction.py",
    "ledger/rules.py",
    "ledger/calcom/*.py",
    "api/simulator/*.py",
)
NOT_PURE = {"ledger/calcom/api.py", "ledger/calcom/subscriptions.py", "ledger/calcom/transport.py"}
"""Cal.com's API is asked over the network."""
IMPURE_MODULES = {
    *("asyncio", "asyncpg", "glob", "io", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3"),
    *("structlog", "subprocess", "tempfile", "threading", "time"),
}
IMPURE_NAMES = {"uuid.uuid1", "uuid.uuid4", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
LEAVES = {"ledger.errors", "ledger.vocabulary"}
STRUCTS_OF_THE_LOG = {"Ledger", "NewEvent", "RecordedEvent"}
"""What the pure core may take from ledger.store: plain values."""

DDL = re.compile(
    r"\b(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+|UNIQUE\s+|MATERIALIZED\s+|UNLOGGED\s+)*"
    r"(?:TABLE|INDEX|VIEW|SCHEMA|FUNCTION|AGGREGATE|TRIGGER|TYPE|DOMAIN|SEQUENCE|EXTENSION|ROLE|DATABASE|POLICY)\b"
)
DDL_PLACES = {
    "ledger/migrate.sql": "the table that remembers the migrations cannot be made by one",
    "ledger/embedded.py": "a database comes before its migrations",
    "ledger/spool_file.sql": "a SQLite file of its own, made where it is opened",
    "ledger/database_roles.sql": "roles belong to the whole server, and who may make them may not migrate",
    "ledger/readers.sql": "as above",
    "api/bench/peers/tables.sql": "others' tables, in a throwaway database of their own",
    "api/bench/rebuilding.sql": "a copy of a table in a throwaway database, to measure copying",
}
RUNS_SQL = {
    *("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "cursor", "prepare"),
    *("copy_from_query", "copy_from_table", "copy_to_table", "copy_records_to_table"),
}

WORKER_LOOPS = {
    "api/deliveries.py _flush_or_log",
    "api/scheduler.py _run",
    "api/scheduler.py _stay",
    "api/scheduler.py _turn",
    "api/short_way.py _go_on",
    "api/usage.py _flush_or_log",
    "ledger/appender.py _write",
    "ledger/appender.py _append",
    "ledger/appender.py _await_postgres",
    "ledger/draining.py _move",
    "ledger/draining.py _move_alone",
    "ledger/draining.py _run",
    "ledger/filing.py _told",
    "ledger/spool.py _write",
    "projections/applying.py _isolate",
    "projections/applying.py _try_again",
    "projections/applying.py apply",
    "projections/filling.py _fold_each",
    "projections/filling.py _gathered",
    "projections/filling.py _understood",
    "projections/filling.py fill",
    "projections/pages.py prepare",
    "projections/pages.py read_stretch",
    "projections/parked.py retry_parked",
    "projections/upkeep.py _run",
    "projections/replay.py _settle_or_halve",
    "projections/runner.py _run",
    "projections/runner.py _listen",
    "projections/runner.py _release",
}
"""Where any error at all is caught: it is logged, and the loop goes on."""

SHUNNED_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "service", "misc"}
LOCK_FILES = {"uv.lock", "pylock.toml", "poetry.lock", "package-lock.json"}
# In parts, so that this file does not break the rule that it holds.
REGISTRIES = tuple(
    ".".join(labels)
    for labels in (("pypi", "org"), ("files", "pythonhosted"), ("registry", "npmjs"), ("deb", "debian"))
)
UNFINISHED = re.compile("|".join(rf"\b{first}{rest}\b" for first, rest in (("TO", "DO"), ("FIX", "ME"), ("XX", "X"))))
HEAVY_MODULES = ("litestar", "uvicorn", "asyncpg", "rich")


# Floors


def test_imports_go_down_only() -> None:
    def is_upward(source: Source, module: str) -> bool:
        own, other = floor_of(source.path), module.partition(".")[0]
        return other == "tests" or (other in FLOORS and FLOORS.index(other) > FLOORS.index(own))

    assert_held(
        "imports go down only: api, projections, ledger",
        (f"{s.at(node)} {module}" for s in product() for node, module, _ in imports(s) if is_upward(s, module)),
    )


def test_packages_import_nothing() -> None:
    packages = [source for source in sources() if source.path.endswith("/__init__.py")]
    assert {f"{floor}/__init__.py" for floor in FLOORS} <= {source.path for source in packages}
    assert_held("an __init__.py imports nothing", (s.at(node) for s in packages for node, _, _ in imports(s)))


def test_the_pure_core_knows_no_clock_no_id_generator_and_no_input_or_output() -> None:
    named = [source for source in product() if any(fnmatch.fnmatch(source.path, pattern) for pattern in PURE)]
    pure = [source for source in named if source.path not in NOT_PURE]
    missing = [pattern for pattern in PURE if not any(fnmatch.fnmatch(source.path, pattern) for source in pure)]
    assert missing == [], "PURE names files that are gone"
    allowed = LEAVES | {source.module for source in pure}
    assert_held("the core is pure: time, identity and data come in as arguments", impurities(pure, allowed))


def impurities(pure: list[Source], allowed: set[str]) -> Iterator[str]:
    for source in pure:
        for node, module, name in imports(source):
            is_seeded = (module, name) == ("random", "Random")
            is_struct = module == "ledger.store" and name in STRUCTS_OF_THE_LOG
            is_foreign = module.startswith(FLOORS) and module not in allowed and not is_struct
            is_impure = module.partition(".")[0] in IMPURE_MODULES and not is_seeded
            if is_foreign or is_impure or f"{module}.{name}" in IMPURE_NAMES:
                yield f"{source.at(node)} {module} {name}"
        for call in nodes(source.tree, ast.Call):
            name = ast.unparse(call.func)
            if name in IMPURE_NAMES or name in {"open", "print", "input"} or (name == "Random" and not call.args):
                yield f"{source.at(call)} {name}()"


def test_the_command_line_starts_without_its_heavy_modules() -> None:
    script = f"import sys, api.cli.main; print(*[name for name in {HEAVY_MODULES} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [], "api/cli/main.py:1  a command loads what is heavy when it runs, not before"


# Size and names


def test_no_module_is_too_long() -> None:
    counts = {source.path: len(source.text.splitlines()) for source in product()}
    assert_held(
        f"more than {MODULE_LINES_MAX} lines: a second subject wants a second room",
        (f"{path}:{count}" for path, count in counts.items() if count > MODULE_LINES_MAX),
    )


def test_no_function_is_too_long() -> None:
    def lines(function: Function) -> int:
        return (function.end_lineno or 0) - function.lineno + 1

    found = [(source, function) for source in product() for function in functions(source.tree)]
    assert_held(
        f"more than {FUNCTION_LINES_MAX} lines",
        (f"{s.at(one)} {one.name} ({lines(one)})" for s, one in found if lines(one) > FUNCTION_LINES_MAX),
    )


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {source.path: {*PurePosixPath(source.path).with_suffix("").parts} for source in sources()}
    assert_held("a name says what is in it", (f"{path}:1" for path, parts in names.items() if parts & SHUNNED_NAMES))


def test_nothing_is_left_unfinished() -> None:
    lines = ((source.path, number, line) for source in sources() for number, line in numbered(source.text))
    assert_held("finish it or drop it", (f"{path}:{number}" for path, number, line in lines if UNFINISHED.search(line)))


# SQL


def test_the_schema_changes_in_migrations_only() -> None:
    texts: dict[str, list[tuple[int, str]]] = {source.path: list(strings(source.tree)) for source in product()}
    texts |= {
        relative(path): [pair for pair in numbered(read_text(path)) if not pair[1].startswith("--")]
        for path in files()
        if path.suffix == ".sql" and floor_of(relative(path)) in FLOORS
    }
    found = {path: [line for line, text in pairs if DDL.search(text)] for path, pairs in texts.items()}
    assert [path for path in DDL_PLACES if not found.get(path)] == [], "DDL_PLACES names files without any"
    assert_held(
        "the schema changes in migrations/ only",
        (f"{path}:{line}" for path, lines in found.items() if path not in DDL_PLACES for line in lines),
    )


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string but docstrings, with its line."""
    prose = {id(node.value) for node in nodes(tree, ast.Expr)}
    for node in nodes(tree, ast.Constant):
        if isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def test_statements_are_never_put_together_from_pieces() -> None:
    assert_held(
        "SQL is static: values go in as $1, names stand in the .sql file",
        (
            f"{source.at(call)} {called(call)}()"
            for source in product()
            for call in nodes(source.tree, ast.Call)
            if called(call) in RUNS_SQL and call.args and is_made_up(call.args[0], assembled(source.tree))
        ),
    )


def is_made_up(expression: ast.expr, made_up_names: set[str]) -> bool:
    """An f-string, a sum, a `%`, a `.format()`, or a name that stands for one."""
    return any(
        isinstance(node, ast.JoinedStr | ast.BinOp)
        or (isinstance(node, ast.Call) and called(node) in {"format", "join", "replace"})
        or (isinstance(node, ast.Name) and node.id in made_up_names)
        for node in ast.walk(expression)
    )


def assembled(tree: ast.Module) -> set[str]:
    """Names that are somewhere given a text made of pieces."""
    given = [(target, one.value) for one in nodes(tree, ast.Assign) for target in one.targets]
    given += [(one.target, one.value) for one in nodes(tree, ast.AnnAssign) if one.value]
    given += [(one.target, one.value) for one in nodes(tree, ast.NamedExpr)]
    extended = [one.target for one in nodes(tree, ast.AugAssign)]
    made_up = [target for target, value in given if is_made_up(value, set())]
    return {target.id for target in (*made_up, *extended) if isinstance(target, ast.Name)}


# Errors


def test_only_worker_loops_catch_everything() -> None:
    caught = [
        (f"{source.path} {owner_of(node, source)}", source.at(node))
        for source in product()
        for node in ast.walk(source.tree)
        if catches_everything(node)
    ]
    gone = WORKER_LOOPS - {owner for owner, _ in caught}
    assert gone == set(), "WORKER_LOOPS names functions that are gone or catch less"
    assert_held(
        "only the worker loops catch everything", (place for owner, place in caught if owner not in WORKER_LOOPS)
    )


def owner_of(node: ast.AST, source: Source) -> str:
    """The innermost function around the node."""
    around = [function for function in functions(source.tree) if any(inner is node for inner in ast.walk(function))]
    return max(around, key=lambda function: function.lineno).name if around else "(module)"


def catches_everything(node: ast.AST) -> bool:
    """`except Exception`, alone or among others, `except:`, or `suppress(Exception)`."""
    everything = {"Exception", "BaseException"}
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or any(name.id in everything for name in nodes(node.type, ast.Name))
    if isinstance(node, ast.Call) and called(node) == "suppress":
        return any(isinstance(kind, ast.Name) and kind.id in everything for kind in node.args)
    return False


def error_classes() -> list[type[errors.BookingLedgerError]]:
    root = errors.BookingLedgerError
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, root)]


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"([│├└─ ]*)(\w+)(?:  .*)?", line)
        if found:
            depth = len(found[1]) // len("├── ")
            ancestors[depth:] = [found[2]]
            drawn[found[2]] = ancestors[depth - 1] if depth else ""
    defined = {kind.__name__: kind.__base__.__name__ if kind.__base__ else "" for kind in error_classes()}
    assert drawn == defined | {"BookingLedgerError": ""}, "ledger/errors.py:1  the docstring draws every error"


def test_every_error_has_its_http_status_and_none_hides_behind_its_parent() -> None:
    def status_kind(kind: type[errors.BookingLedgerError]) -> type | None:
        return next((known for known in STATUS_OF if issubclass(kind, known)), None)

    leaves = [kind for kind in error_classes() if not kind.__subclasses__()]
    assert_held(
        "api/problems.py STATUS_OF gives every error a status",
        (f"ledger/errors.py {kind.__name__}" for kind in leaves if status_kind(kind) is None),
    )
    assert_held(
        "stands after its parent, whose status it gets",
        (f"api/problems.py {kind.__name__}" for kind in STATUS_OF if status_kind(kind) is not kind),
    )


# Tests


def test_every_test_asserts_something() -> None:
    bodies: dict[str, list[Function]] = {}
    for source in our_tests():
        for function in functions(source.tree):
            bodies.setdefault(function.name, []).append(function)
    asserting = asserting_names(bodies)
    assert_held(
        "a test asserts something",
        (
            f"{source.at(function)} {function.name}"
            for source in our_tests()
            for function in functions(source.tree)
            if function.name.startswith("test_") and not asserts(function, asserting)
        ),
    )


def asserting_names(bodies: Mapping[str, Iterable[Function]]) -> set[str]:
    """What fails when something is wrong: pytest's own, and those of our functions that lead to an assertion."""
    asserting = {"raises", "fail", "warns"}
    while more := {name for name, found in bodies.items() if any(asserts(one, asserting) for one in found)} - asserting:
        asserting |= more
    return asserting


def asserts(function: Function, asserting: set[str]) -> bool:
    return bool(nodes(function, ast.Assert)) or any(called(call) in asserting for call in nodes(function, ast.Call))


def test_no_test_sleeps() -> None:
    def is_a_turn(call: ast.Call) -> bool:
        """`asyncio.sleep(0)` lets others run; it does not wait."""
        return ast.unparse(call) == "asyncio.sleep(0)"

    assert_held(
        "a test waits for a signal or steps the worker",
        (
            source.at(call)
            for source in our_tests()
            for call in nodes(source.tree, ast.Call)
            if called(call) == "sleep" and not is_a_turn(call)
        ),
    )


# The folder


def test_nothing_more_stands_at_the_top_than_agreed() -> None:
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and not is_ignored(path.name)}
    assert_held("nothing more stands at the top", (f"{name}:1" for name in visible - TOP_LEVEL))
    assert_held("is missing", (f"{name}:1" for name in TOP_LEVEL - visible))


def test_no_file_leads_to_a_package_registry() -> None:
    assert_held("a lock file names download addresses", (f"{relative(p)}:1" for p in files() if p.name in LOCK_FILES))
    texts = ((path, number, line) for path in files() for number, line in numbered(read_text(path)))
    assert_held(
        "names a package registry: where packages come from is the machine's affair",
        (f"{relative(path)}:{number}" for path, number, line in texts if any(host in line for host in REGISTRIES)),
    )
