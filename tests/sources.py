"""The project's files as the tests about them see them: parsed once, by path, with what is ignored left out."""

import ast
import contextlib
import fnmatch
import functools
import gc
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

ROOT = Path(__file__).parents[1]
FLOORS = ("ledger", "projections", "api")
"""From the lowest to the highest."""

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(msgspec.Struct, frozen=True):
    """A Python file; `path` is relative to the project."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def assert_held(rule: str, places: Iterable[str]) -> None:
    broken = sorted(places)
    assert not broken, "\n" + "\n".join(f"{place}  {rule}" for place in broken)


@functools.cache
def ignored() -> tuple[str, ...]:
    """The folders that git ignores, as patterns of their names."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return (".git", *(line.strip("/") for line in lines if line.endswith("/")))


def is_ignored(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in ignored())


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the project, tracked or not, outside of ignored folders."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_ignored(name)]
        found += [Path(folder, name) for name in names]
    return tuple(sorted(found))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def floor_of(path: str) -> str:
    return path.partition("/")[0]


@functools.cache
def sources() -> tuple[Source, ...]:
    paths = [path for path in files() if path.suffix == ".py" and floor_of(relative(path)) in {*FLOORS, "tests"}]
    texts = {relative(path): read_text(path) for path in paths}
    with uncollected():
        return tuple(Source(path, text, ast.parse(text, path)) for path, text in texts.items())


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """CPython 3.11 counts how deep it is in a tree, and counts wrong where a collection runs code meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def product() -> list[Source]:
    return [source for source in sources() if floor_of(source.path) in FLOORS]


def our_tests() -> list[Source]:
    return [source for source in sources() if floor_of(source.path) == "tests"]


def nodes(tree: ast.AST, kind: type[Node]) -> list[Node]:
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def functions(tree: ast.AST) -> list[Function]:
    return [*nodes(tree, ast.FunctionDef), *nodes(tree, ast.AsyncFunctionDef)]


def imports(source: Source) -> Iterator[tuple[ast.stmt, str, str]]:
    """Each import, wherever it stands: the statement, the module, and the name taken from it ("" for the module)."""
    for plain in nodes(source.tree, ast.Import):
        yield from ((plain, alias.name, "") for alias in plain.names)
    for statement in nodes(source.tree, ast.ImportFrom):
        yield from ((statement, statement.module or "", alias.name) for alias in statement.names)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def numbered(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.splitlines(), start=1)


def read_text(path: Path) -> str:
    """Empty for a file that has just gone, or a link that leads nowhere."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
