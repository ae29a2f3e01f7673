"""The statements of one `.sql` file, by name: SQL stays in SQL files, beside the module that runs it.

A file is prose in `--` comments, then blocks, each opened by a line `-- name: verb_noun`:

    -- name: read_head
    -- $1 ledger_id
    SELECT position FROM ledger.ledgers WHERE ledger_id = $1;

The module says `SQL = load_statements(Path(__file__).with_suffix(".sql"))`, then `SQL["read_head"]`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

_NAME_LINE = re.compile(r"--\s*name:(.*)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def load_statements(path: Path) -> Mapping[str, str]:
    """Each block's statement, in the file's order, without the comments around it and the semicolon at its end.

    Comments between the lines of a statement stay, since a line of a string may look like one. Raises ValueError,
    naming the place, for a name that is empty, malformed or used twice, and for SQL under no name or none under one.
    """
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name_line = _NAME_LINE.fullmatch(line.strip())
        if name_line:
            name = name_line.group(1).strip()
            if not _NAME.fullmatch(name) or name in blocks:
                raise ValueError(f"{path}:{number}: the name {name!r} is empty, malformed or used twice")
            lines = blocks[name] = []
        elif blocks:
            lines.append(line)
        elif not _is_prose(line):
            raise ValueError(f"{path}:{number}: SQL before the first name")
    statements = {name: _statement(block) for name, block in blocks.items()}
    for name, statement in statements.items():
        if not statement:
            raise ValueError(f"{path}: {name} has no statement")
    return MappingProxyType(statements)


def _statement(lines: Iterable[str]) -> str:
    kept = list(lines)
    while kept and _is_prose(kept[0]):
        kept.pop(0)
    while kept and _is_prose(kept[-1]):
        kept.pop()
    return "\n".join(kept).strip().removesuffix(";")


def _is_prose(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("--")
